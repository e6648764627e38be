package swtpm

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// stream reads one connection: it gathers what comes in pieces, holds
// deadlines, and keeps the descriptors that came along (SCM_RIGHTS).
type stream struct {
	conn net.Conn
	size int    // of base
	buf  []byte // read and not yet taken; no longer than twice what was needed
	base []byte // where buf starts again when it is empty
	fds  []int  // received and not yet taken

	readBy  time.Time // the read deadline in force
	wroteAt time.Time // when the write deadline was last put off
}

// fill reads once, straight behind what is there; the deadline is for this and
// following reads (zero: none).
func (s *stream) fill(deadline time.Time) error {
	// A deadline costs as much as a small command: it is set only when it changes.
	if !deadline.Equal(s.readBy) {
		if err := s.conn.SetReadDeadline(deadline); err != nil {
			return err
		}
		s.readBy = deadline
	}
	if len(s.buf) == 0 {
		if s.base == nil {
			s.base = make([]byte, s.size)
		}
		s.buf = s.base[:0]
	}
	if len(s.buf) == cap(s.buf) {
		s.reserve(2*len(s.buf) + s.size)
	}
	n, err := s.read(s.buf[len(s.buf):cap(s.buf)])
	s.buf = s.buf[:len(s.buf)+n]
	if err == nil && n == 0 {
		err = io.EOF
	}
	return err
}

func (s *stream) read(p []byte) (int, error) {
	u, ok := s.conn.(*net.UnixConn)
	if !ok {
		return s.conn.Read(p)
	}
	var oob [128]byte // room for more descriptors than anybody may send; the kernel closes what does not fit
	n, oobn, _, _, err := u.ReadMsgUnix(p, oob[:])
	if oobn > 0 {
		s.keep(oob[:oobn])
	}
	return max(n, 0), err // it is -1 beside an error
}

func (s *stream) keep(oob []byte) {
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for i := range msgs {
		if fds, err := syscall.ParseUnixRights(&msgs[i]); err == nil {
			for _, fd := range fds {
				if len(s.fds) < maxFDs {
					s.fds = append(s.fds, fd)
				} else {
					syscall.Close(fd)
				}
			}
		}
	}
}

// reserve makes room for n bytes. What is larger than base is given up again
// when it has been taken: a thousand TPMs that wait must not each keep the room
// for the longest command.
func (s *stream) reserve(n int) {
	if cap(s.buf) < n {
		s.buf = append(make([]byte, 0, n), s.buf...)
	}
}

// limit says when the rest of a request must be there. It begins to run when
// something is missing: most requests come whole, and the clock costs something.
type limit struct {
	within time.Duration
	at     time.Time
}

func (l *limit) deadline() time.Time {
	if l.at.IsZero() {
		l.at = time.Now().Add(l.within)
	}
	return l.at
}

// need gathers until n bytes are there.
func (s *stream) need(n int, l *limit) error {
	s.reserve(min(n, len(s.buf)+maxCommand)) // what is only announced takes no room yet
	for len(s.buf) < n {
		s.quickAck()
		if err := s.fill(l.deadline()); err != nil {
			return err
		}
	}
	return nil
}

// quickAck acknowledges a piece of a request at once: a client that writes one
// request in several pieces (tpm2-tss' mssim TCTI) is held back by Nagle's
// algorithm for the 40 ms of a delayed acknowledgement otherwise.
func (s *stream) quickAck() {
	switch t := s.conn.(type) {
	case *direct:
		t.quickAck()
	case *net.TCPConn:
		if raw, err := t.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1) })
		}
	}
}

// take removes n bytes that are there. They stay valid until the next read.
func (s *stream) take(n int) []byte {
	b := s.buf[:n:n]
	s.buf = s.buf[n:]
	return b
}

// drop forgets what was read and closes the descriptors that came along.
func (s *stream) drop() {
	s.buf = nil
	for _, fd := range s.fds {
		syscall.Close(fd)
	}
	s.fds = nil
}

func (s *stream) write(p []byte) error {
	if d, ok := s.conn.(*direct); ok {
		if p = p[d.send(p):]; len(p) == 0 {
			return nil
		}
	}
	// Put off every quarter of the limit, so that a write has three quarters at least.
	if now := time.Now(); now.Sub(s.wroteAt) > writeTimeout/4 {
		if err := s.conn.SetWriteDeadline(now.Add(writeTimeout)); err != nil {
			return err
		}
		s.wroteAt = now
	}
	_, err := s.conn.Write(p)
	return err
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// peerOf asks the kernel who is at the other end.
func peerOf(c net.Conn) Peer {
	p := Peer{Addr: c.RemoteAddr()}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return p
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return p
	}
	raw.Control(func(fd uintptr) {
		cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		if err == nil {
			p.PID, p.UID, p.GID, p.Known = cred.Pid, cred.Uid, cred.Gid, true
		}
	})
	return p
}
