package engine

import (
	"encoding/binary"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/libtpms"
)

// Contexts that a guest saved under libtpms, and loads after the TPM was taken
// over while it ran: a resource manager does that all the time. They hold until
// the next TPM Reset, and so does the seed of the NULL hierarchy that tells
// where the TPM was reset last.

func (t *TPM) ranUnderLibtpms() bool {
	d := t.ram.reset.nullSeed.derivation
	return d == derivationLibtpms0 || d == derivationLibtpms1
}

// openLibtpmsContext verifies and decrypts such a context (Context_spt.c,
// ComputeContextProtectionKey and ComputeContextIntegrity; ContextCommands.c).
func (t *TPM) openLibtpmsContext(x *tpm2.TPMSContext) ([]byte, bool) {
	d := tpm2.NewDecoder(x.ContextBlob)
	sum := d.Buf(maxDigest)
	body := append([]byte(nil), d.Rest()...)
	if d.RC() != tpm2.RCSuccess {
		return nil, false
	}
	var e tpm2.Encoder
	e.U64(t.n().totalResetCount)
	if x.SavedHandle == tpm2.SavedTransientClear {
		e.U32(t.ram.reset.clearCount)
	}
	e.U64(x.Sequence)
	e.U32(uint32(x.SavedHandle))
	proof := t.proof(x.Hierarchy)
	if !bytesEqual(sum, crypt.HMAC(ticketHash, proof, e.Out(), body)) {
		return nil, false
	}
	// The numbers are as a little-endian machine has them.
	sequence := binary.LittleEndian.AppendUint64(nil, x.Sequence)
	handle := binary.LittleEndian.AppendUint32(nil, uint32(x.SavedHandle))
	key := crypt.KDFa(ticketHash, proof, "CONTEXT", sequence, handle, (32+16)*8)
	crypt.CFBDecrypt(key[:32], key[32:], body)
	if len(body) < len(sequence) || !bytesEqual(body[:len(sequence)], sequence) {
		return nil, false
	}
	return body[len(sequence):], true
}

// loadLibtpmsObject loads an object or sequence from such a context.
func (t *TPM) loadLibtpmsObject(x *tpm2.TPMSContext) (*object, bool) {
	plain, ok := t.openLibtpmsContext(x)
	if !ok {
		return nil, false
	}
	f, err := libtpms.ReadObject(plain)
	if err != nil {
		return nil, false
	}
	o, err := takeObject(f)
	return o, err == nil && (o.seq != nil || o.hierarchy == x.Hierarchy)
}

// loadLibtpmsSession loads a session from such a context.
func (t *TPM) loadLibtpmsSession(x *tpm2.TPMSContext) (*session, bool) {
	plain, ok := t.openLibtpmsContext(x)
	if !ok {
		return nil, false
	}
	f, err := libtpms.ReadSession(plain)
	if err != nil {
		return nil, false
	}
	s, err := t.takeSession(f, int(x.SavedHandle&0xffffff))
	return s, err == nil
}
