package libtpms

import (
	"encoding/binary"
	"fmt"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// ReadObject reads the inside of an object's saved context (ContextCommands.c).
func ReadObject(b []byte) (*Object, error) {
	r := &reader{buf: b}
	o := anyObject(r, "a saved object")
	r.end()
	if r.err != nil {
		return nil, r.err
	}
	if o == nil {
		return nil, fmt.Errorf("the context of an object is empty")
	}
	return o, nil
}

// SessionContextSize is sizeof(SESSION) on 64-bit machines.
const SessionContextSize = 312

// ReadSession reads the inside of a session's saved context. libtpms saves the
// structure as it is in memory: this is how a little-endian 64-bit machine lays
// it out, the same from libtpms 0.7 to 0.10.
func ReadSession(b []byte) (*Session, error) {
	if len(b) != SessionContextSize {
		return nil, fmt.Errorf("the context of a session has %d octets, not %d", len(b), SessionContextSize)
	}
	le := binary.LittleEndian
	var err error
	sized := func(at, max int) []byte {
		n := int(le.Uint16(b[at:]))
		if n > max {
			err = fmt.Errorf("a buffer in the context of a session has %d octets", n)
			return nil
		}
		return b[at+2 : at+2+n : at+2+n]
	}
	s := &Session{
		Attributes: SessionAttributes(le.Uint32(b)), PCRCounter: le.Uint32(b[4:]), Start: le.Uint64(b[8:]), Timeout: le.Uint64(b[16:]),
		Command: tpm2.CC(le.Uint32(b[28:])), Hash: tpm2.AlgID(le.Uint16(b[32:])), Locality: b[34],
		Key: sized(42, maxDigest), Nonce: sized(108, maxDigest), Bound: sized(174, 68), Digest: sized(244, maxDigest),
	}
	if err != nil {
		return nil, err
	}
	if s.Attributes&^sessionKnown != 0 {
		return nil, fmt.Errorf("a session has attributes 0x%x", uint32(s.Attributes))
	}
	// TPMT_SYM_DEF is three numbers, of which not every algorithm uses all.
	wire := binary.BigEndian.AppendUint16(nil, le.Uint16(b[36:]))
	switch tpm2.AlgID(le.Uint16(b[36:])) {
	case tpm2.AlgNull:
	case tpm2.AlgXOR:
		wire = binary.BigEndian.AppendUint16(wire, le.Uint16(b[38:]))
	default:
		wire = binary.BigEndian.AppendUint16(wire, le.Uint16(b[38:]))
		wire = binary.BigEndian.AppendUint16(wire, le.Uint16(b[40:]))
	}
	r := &reader{buf: wire}
	r.structure(&s.Symmetric, "a session")
	return s, r.err
}
