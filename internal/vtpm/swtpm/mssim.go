package swtpm

import (
	"encoding/binary"
	"time"
)

// Words of TCG's simulator protocol (TpmTcpProtocol.h), which tpm2-tss calls
// mssim. The command port is recognised on the data channel, the platform port
// on a TCP control channel.
const (
	mssimPowerOn         = 1
	mssimPowerOff        = 2
	mssimPhysPresOn      = 3
	mssimPhysPresOff     = 4
	mssimHashStart       = 5
	mssimHashData        = 6
	mssimHashEnd         = 7
	mssimSendCommand     = 8
	mssimCancelOn        = 9
	mssimCancelOff       = 10
	mssimNVOn            = 11
	mssimNVOff           = 12
	mssimRemoteHandshake = 15
	mssimReset           = 17
	mssimRestart         = 18
	mssimSessionEnd      = 20
	mssimStop            = 21

	// mssimWords is above every word of the protocol and below every TPM tag.
	mssimWords = 64
	// mssimVersion is the only version there has been.
	mssimVersion = 1
	// The endpoint understands platform signals, and is no TBS or raw device.
	mssimEndpointFlags = 1
)

var zero = []byte{0, 0, 0, 0}

// mssimSignal answers a word of the command port other than SEND_COMMAND.
func (s *Server) mssimSignal(in *stream, l *limit, dst []byte) (response []byte, more bool) {
	running := s.Device.Running()
	switch binary.BigEndian.Uint32(in.take(4)) {
	case mssimHashStart:
		if running {
			s.Device.HashStart()
		}
		return append(dst, zero...), true
	case mssimHashEnd:
		if running {
			s.Device.HashEnd()
		}
		return append(dst, zero...), true
	case mssimHashData:
		if in.need(4, l) != nil {
			return dst, false
		}
		n := binary.BigEndian.Uint32(in.take(4))
		if n > maxHashData || in.need(int(n), l) != nil {
			return dst, false
		}
		if data := in.take(int(n)); running {
			s.Device.HashData(data)
		}
		return append(dst, zero...), true
	case mssimRemoteHandshake:
		if in.need(4, l) != nil {
			return dst, false
		}
		in.take(4) // the client's version; there has been only one
		dst = binary.BigEndian.AppendUint32(dst, mssimVersion)
		dst = binary.BigEndian.AppendUint32(dst, mssimEndpointFlags)
		return append(dst, zero...), true
	case mssimSessionEnd:
		return dst, false
	case mssimStop:
		s.stop()
		return dst, false
	}
	return append(dst, 0, 0, 0, 1), false
}

// servePlatform answers mssim's platform port to the end.
func (s *Server) servePlatform(in *stream, by Peer) {
	for {
		if len(in.buf) == 0 && in.fill(time.Time{}) != nil {
			return
		}
		if in.need(4, &limit{within: requestTimeout}) != nil {
			return
		}
		answer := uint32(0)
		switch binary.BigEndian.Uint32(in.take(4)) {
		case mssimPowerOn:
			answer = s.platformPowerOn(by)
		case mssimPowerOff:
			if s.Device.PowerOff() != nil {
				answer = 1
			}
		case mssimReset, mssimRestart:
			if s.Device.PowerOn(by, false) != nil {
				answer = 1
			}
		case mssimCancelOn:
			s.Device.Cancel()
		case mssimPhysPresOn, mssimPhysPresOff, mssimCancelOff, mssimNVOn, mssimNVOff:
			// Physical presence is not asserted by wire, and NV is always there.
		case mssimSessionEnd:
			return
		case mssimStop:
			s.stop()
			return
		default:
			answer = 1
		}
		if in.write(binary.BigEndian.AppendUint32(nil, answer)) != nil {
			return
		}
	}
}

// platformPowerOn switches on what is off; a second POWER_ON changes nothing.
func (s *Server) platformPowerOn(by Peer) uint32 {
	if s.Device.Running() {
		return 0
	}
	if s.Device.PowerOn(by, false) != nil {
		return 1
	}
	return 0
}

// meansPowerOn settles what 00 00 00 01 on a TCP control channel is: mssim's
// POWER_ON, answered with four bytes, or GET_CAPABILITY, answered with eight
// (and swtpm_ioctl reads eight at once). An mssim client connects to the command
// port first and says nothing there until the platform port has answered; a
// client of swtpm's protocol connects there to send a command at once.
func (s *Server) meansPowerOn() bool {
	if s.silent.Load() == 0 {
		time.Sleep(mssimPause) // both connections may just have come, in this order
	}
	return s.silent.Load() > 0
}
