package swtpm

import (
	"encoding/binary"
	"net"
	"time"
)

// Response codes that this package answers itself, TPM 2.0 Part 2, 6.6.
const (
	rcFailure     = 0x101
	rcCommandSize = 0x142
	rcLocality    = 0x907
)

const (
	tagNoSessions = 0x8001
	tagSessions   = 0x8002
	// ccSetLocality is swtpm's own TPM2_CC_SET_LOCALITY: header and one byte,
	// taken only where --locality allow-set-locality says so.
	ccSetLocality = 0x20001000
)

// refusal is a response that carries only a code.
func refusal(rc uint32) []byte {
	b := make([]byte, 0, tpmHeader)
	b = binary.BigEndian.AppendUint16(b, tagNoSessions)
	b = binary.BigEndian.AppendUint32(b, tpmHeader)
	return binary.BigEndian.AppendUint32(b, rc)
}

// framing is how one request on the data channel was wrapped.
type framing int

const (
	raw    framing = iota // the command as it is
	framed                // TCG's prefix, the same as mssim's SEND_COMMAND
	signal                // an mssim word other than SEND_COMMAND
)

// frame looks at the first four bytes of a request. A TPM command starts with
// its tag, so no framing word can be mistaken for one: those are below 32.
func frame(head []byte) framing {
	word := binary.BigEndian.Uint32(head)
	switch {
	case word == mssimSendCommand:
		return framed
	case word < mssimWords:
		return signal
	}
	return raw
}

// handed is a data channel that came with SET_DATAFD. What it carries are the
// guest's own bytes (QEMU passes on what is in the CRB or TIS buffer), so they
// are TPM commands and nothing else: a frame would let the guest choose its
// locality, begin a dynamic launch, or stop the server.
type handed struct{ net.Conn }

// serveData answers one data channel until the peer goes away or loses the
// thread: after a size that cannot be true nothing that follows can be trusted.
// It calls spoke when the first byte is there.
func (s *Server) serveData(conn net.Conn, spoke func()) {
	h, guest := conn.(handed)
	if guest {
		conn = h.Conn // newDirect wants the socket itself
	}
	in := &stream{conn: conn, size: dataBuffer}
	defer in.drop()
	if s.Dedicated {
		if d, ok := newDirect(conn); ok {
			defer d.release()
			in.conn = d
		}
	}
	var response []byte
	heard := false
	for {
		if len(in.buf) == 0 {
			if in.fill(time.Time{}) != nil {
				return
			}
			if !heard {
				heard = true
				spoke()
			}
		}
		l := &limit{within: commandTimeout}
		if in.need(4, l) != nil {
			return
		}
		response = response[:0]
		var more bool
		kind := frame(in.buf)
		if guest {
			kind = raw
		}
		switch kind {
		case raw:
			response, more = s.rawCommand(in, l, response)
		case framed:
			response, more = s.framedCommand(in, l, response)
		case signal:
			response, more = s.mssimSignal(in, l, response)
		}
		if len(response) > 0 && in.write(response) != nil {
			return
		}
		if guest && !more && len(response) > 0 {
			in.drop() // one request is on its way at a time: the next one begins afresh
			more = true
		}
		if !more || s.OneCommand {
			return
		}
	}
}

// rawCommand reads one TPM command by its size field and executes it.
func (s *Server) rawCommand(in *stream, l *limit, dst []byte) (response []byte, more bool) {
	if in.need(tpmHeader, l) != nil {
		return dst, false
	}
	size := binary.BigEndian.Uint32(in.buf[2:])
	if size < tpmHeader || size > maxCommand {
		return append(dst, refusal(rcCommandSize)...), false
	}
	if in.need(int(size), l) != nil {
		return dst, false
	}
	return s.execute(uint8(s.locality.Load()), in.take(int(size)), dst), true
}

// framedCommand reads u32 8, u8 locality, u32 size and the command; the answer
// is u32 size, the response, u32 0.
func (s *Server) framedCommand(in *stream, l *limit, dst []byte) (response []byte, more bool) {
	const prefix = 9
	if in.need(prefix, l) != nil {
		return dst, false
	}
	head := in.take(prefix)
	locality, size := head[4], binary.BigEndian.Uint32(head[5:])
	more = size <= maxCommand
	dst = append(dst, 0, 0, 0, 0)
	switch {
	case !more:
		dst = append(dst, refusal(rcCommandSize)...)
	case in.need(int(size), l) != nil:
		return dst[:0], false
	default:
		cmd := in.take(int(size))
		if locality > maxLocality {
			dst = append(dst, refusal(rcLocality)...)
		} else {
			dst = s.execute(locality, cmd, dst)
		}
	}
	binary.BigEndian.PutUint32(dst, uint32(len(dst)-4))
	return append(dst, 0, 0, 0, 0), more
}

// execute gives one whole command to the device, unless it is the server's own.
func (s *Server) execute(locality uint8, cmd, dst []byte) []byte {
	switch {
	case !s.Device.Running():
		return append(dst, refusal(rcFailure)...)
	case uint32(len(cmd)) > s.bufferSize.Load():
		return append(dst, refusal(rcCommandSize)...)
	case s.AllowSetLocality && len(cmd) == tpmHeader+1 && binary.BigEndian.Uint32(cmd[6:]) == ccSetLocality:
		if s.setLocality(cmd[tpmHeader]) != Success {
			return append(dst, refusal(rcLocality)...)
		}
		return append(dst, refusal(0)...)
	}
	return s.Device.Execute(locality, cmd, dst)
}

// setLocality is for SET_LOCALITY of both channels.
func (s *Server) setLocality(l uint8) Result {
	if l > maxLocality || l == maxLocality && s.RejectLocality4 {
		return BadLocality
	}
	s.locality.Store(uint32(l))
	return Success
}
