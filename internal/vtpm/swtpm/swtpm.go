// Package swtpm speaks the protocols by which QEMU, libvirt and tpm2-tss reach
// a software TPM: swtpm's data channel (TPM commands) and control channel
// (power, locality, state blobs), and the older mssim framing, which is
// recognised on the same ports.
//
// It is for anything that has a TPM as a value and wants unchanged QEMU to use
// it: the package drives a [Device] and knows no engine, no files and no log.
// It is not a command line and keeps no state on disk; internal/vtpm does that.
//
// The control channel was published with swtpm (man page swtpm_ioctls(3),
// header tpm_ioctl.h); the other framing with TCG's simulator (TpmTcpProtocol.h).
//
// Begin with [Server]; control.go has one function per control command, data.go
// and mssim.go the framings. [Client] is the other end of the control channel.
package swtpm

import (
	"fmt"
	"net"
)

// Device is the TPM that a [Server] drives. All methods are called from
// several goroutines; the device does its own locking.
type Device interface {
	// PowerOn is CMD_INIT: _TPM_Init, and a power cycle when the TPM is on.
	// Volatile state that was stored or set is resumed; deleteVolatile says
	// that the stored copy must not be used a second time.
	PowerOn(by Peer, deleteVolatile bool) error
	// PowerOff is CMD_STOP.
	PowerOff() error
	Running() bool

	// Execute appends the response to cmd to dst. It is called only with a
	// locality of 0 to 4, also when the TPM is off.
	Execute(locality uint8, cmd, dst []byte) []byte
	// Cancel asks the running command, if any, to stop.
	Cancel()
	// Established is the TPM_ESTABLISHMENT flag of the interface.
	Established() bool
	ResetEstablished(locality uint8) bool
	// The H-CRTM event sequence at locality 4.
	HashStart()
	HashData([]byte)
	HashEnd()

	// StoreVolatile keeps the volatile state so that the next PowerOn resumes it.
	StoreVolatile() error
	// Blob returns a state blob. plain asks for one that is not sealed, which the
	// device need not grant; sealed says what became of it.
	Blob(kind BlobKind, plain bool) (data []byte, sealed bool, err error)
	// SetBlob takes a state blob; it counts from the next PowerOn on.
	SetBlob(kind BlobKind, data []byte, sealed bool) error
	// SetBufferSize is CMD_SET_BUFFERSIZE: the largest command and response from
	// the next PowerOn on. It is called only while the TPM is off.
	SetBufferSize(octets uint32)
	// LockStorage takes the lock on the state again, after a migration that
	// did not happen. It tries retries times more, every 10 ms.
	LockStorage(retries uint32) error
	// Keys says which keys protect the state at rest and on the move.
	Keys() (state, migration bool)
	// Identity is what GET_INFO tells.
	Identity() Identity
}

// BlobKind names a state blob (PTM_BLOB_TYPE_*).
type BlobKind uint32

const (
	Permanent BlobKind = 1
	Volatile  BlobKind = 2
	// SaveState is TPM 1.2's; a TPM 2.0 keeps that part in Permanent.
	SaveState BlobKind = 3
)

func (k BlobKind) String() string {
	switch k {
	case Permanent:
		return "permanent"
	case Volatile:
		return "volatile"
	case SaveState:
		return "savestate"
	}
	return fmt.Sprintf("blob %d", uint32(k))
}

// Identity is the TPM as its EK certificate names it.
type Identity struct {
	Manufacturer string // "id:" and eight hexadecimal digits
	Model        string
	Version      string // "id:" and eight hexadecimal digits
	Family       string // of the specification: "2.0"
	Level        int
	Revision     int
}

// Peer is who asks on a control channel.
type Peer struct {
	PID      int32
	UID, GID uint32
	Known    bool     // the kernel vouches for PID, UID and GID (SO_PEERCRED)
	Addr     net.Addr // where it came from, for TCP
}

// Result is a result code of the control channel. These are TPM 1.2's codes,
// not TPM 2.0's. A [Device] may return one as an error; any other error
// becomes [Fail].
type Result uint32

const (
	Success      Result = 0
	BadParameter Result = 0x03
	Fail         Result = 0x09
	BadOrdinal   Result = 0x0A // no such command, or not in this power state
	KeyNotFound  Result = 0x0D // the state is encrypted, and no key was given
	Size         Result = 0x11
	Resource     Result = 0x15
	IOError      Result = 0x1F
	DecryptError Result = 0x21 // … and the key is another one
	BadLocality  Result = 0x3D
	NonFatal     Result = 0x800 // there is no such blob
)

func (r Result) Error() string {
	for _, known := range []struct {
		r    Result
		text string
	}{
		{Success, "done"},
		{BadParameter, "bad parameter"},
		{Fail, "the TPM refused or failed"},
		{BadOrdinal, "no such command, or not while the TPM is in this power state"},
		{KeyNotFound, "the state is encrypted, and no key was given"},
		{DecryptError, "the state is encrypted with another key"},
		{Size, "wrong size"},
		{Resource, "out of a resource"},
		{IOError, "input/output error, or a data channel is already in use"},
		{BadLocality, "no such locality"},
		{NonFatal, "there is no such state"},
	} {
		if r == known.r {
			return fmt.Sprintf("control channel result 0x%x: %s", uint32(r), known.text)
		}
	}
	return fmt.Sprintf("control channel result 0x%x", uint32(r))
}
