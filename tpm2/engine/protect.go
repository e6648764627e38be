package engine

import (
	"bytes"
	"crypto/subtle"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// What leaves the TPM encrypted: private areas under their parent, duplicates,
// credentials (Part 1, 19.5, 20.3 and 21). All have one outer wrap: encrypted
// with a key from a seed and a Name, then an HMAC over ciphertext and Name.

func bytesEqual(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// equalPadded compares two big-endian numbers.
func equalPadded(a, b []byte) bool {
	n := max(len(a), len(b))
	return bytesEqual(leftPad(a, n), leftPad(b, n))
}

// symmetricUnique is the unique field of a symmetric object: H(seedValue || key) (Part 1, 24.6.2).
func symmetricUnique(alg tpm2.AlgID, s *tpm2.TPMTSensitive) []byte {
	return crypt.Digest(alg, s.SeedValue, symmetricSecret(s))
}

// parentUnique is the unique field of a symmetric parent as libtpms makes it,
// which follows an earlier Part 1 than 1.85: HMAC(seedValue, key)
// (CryptUtil.c, CryptComputeSymmetricUnique). Both bind the two areas together.
func parentUnique(alg tpm2.AlgID, s *tpm2.TPMTSensitive) []byte {
	return crypt.HMAC(alg, s.SeedValue, symmetricSecret(s))
}

func symmetricSecret(s *tpm2.TPMTSensitive) []byte {
	if s.SensitiveType == tpm2.AlgSymCipher {
		return s.Sensitive.Sym
	}
	return s.Sensitive.Bits
}

func uniqueOf(p *tpm2.TPMTPublic) []byte {
	if p.Type == tpm2.AlgSymCipher {
		return p.Unique.Sym
	}
	return p.Unique.KeyedHash
}

// outer is the outer wrap's parameters.
type outer struct {
	alg  tpm2.AlgID // nameAlg of the parent
	seed []byte
	bits int    // of the parent's AES
	name []byte // of what is wrapped
	iv   bool   // with a random IV in front (children), or zeros (everything under a fresh seed)
}

func parentWrap(parent *object, name []byte) outer {
	return outer{parent.pub.NameAlg, parent.sens.SeedValue, int(parent.symmetric().KeyBits.AES), name, true}
}

func (w outer) keys() (enc, mac []byte) {
	return crypt.KDFa(w.alg, w.seed, "STORAGE", w.name, nil, w.bits),
		crypt.KDFa(w.alg, w.seed, "INTEGRITY", nil, nil, 8*w.alg.DigestSize())
}

// wrap encrypts plain, which is erased, and puts the integrity value in front.
func (w outer) wrap(rng *rng, plain []byte) []byte {
	enc, mac := w.keys()
	var e, body tpm2.Encoder
	var iv []byte
	if w.iv {
		iv = rng.bytes(16)
		body.Buf(iv)
	}
	crypt.CFBEncrypt(enc, iv, plain)
	body.Bytes(plain)
	e.Buf(crypt.HMAC(w.alg, mac, body.Out(), w.name))
	e.Bytes(body.Out())
	return e.Out()
}

// unwrap verifies and decrypts; TPM_RC_INTEGRITY when it was not wrapped so.
func (w outer) unwrap(blob []byte) ([]byte, tpm2.RC) {
	enc, mac := w.keys()
	d := tpm2.NewDecoder(blob)
	integrity := d.Buf(maxDigest)
	if rc := d.RC(); rc != tpm2.RCSuccess {
		return nil, rc
	}
	body := d.Rest()
	if !bytesEqual(integrity, crypt.HMAC(w.alg, mac, body, w.name)) {
		return nil, tpm2.RCIntegrity
	}
	var iv []byte
	if w.iv {
		iv = d.Buf(16)
	}
	plain := bytes.Clone(d.Rest())
	if d.RC() != tpm2.RCSuccess || w.iv && len(iv) != 16 {
		return nil, tpm2.RCSize
	}
	crypt.CFBDecrypt(enc, iv, plain)
	return plain, tpm2.RCSuccess
}

// sensitiveBytes is a TPM2B_SENSITIVE.
func sensitiveBytes(s *tpm2.TPMTSensitive) []byte {
	var e tpm2.Encoder
	e.Buf(tpm2.Marshal(s))
	return e.Out()
}

// parseSensitive is the reverse, exact to the octet.
func parseSensitive(b []byte) (*tpm2.TPMTSensitive, tpm2.RC) {
	d := tpm2.NewDecoder(b)
	d.Implements(implementsAlg, implementsCurve)
	inner := d.Buf(0xffff)
	if d.Done(); d.RC() != tpm2.RCSuccess {
		return nil, tpm2.RCSensitive
	}
	s := new(tpm2.TPMTSensitive)
	if tpm2.Unmarshal(inner, s) != nil {
		return nil, tpm2.RCSensitive
	}
	s.AuthValue = crypt.Trim(s.AuthValue) // other TPMs fill it up with zeros (Part 1, 24.7.3)
	return s, tpm2.RCSuccess
}

// private makes the TPM2B_PRIVATE of an object under its parent.
func (t *TPM) private(parent, o *object) []byte {
	return parentWrap(parent, o.name).wrap(&t.rng, sensitiveBytes(o.sens))
}

// unprotect opens a TPM2B_PRIVATE.
func unprotect(parent *object, name, blob []byte) (*tpm2.TPMTSensitive, tpm2.RC) {
	plain, rc := parentWrap(parent, name).unwrap(blob)
	if rc != tpm2.RCSuccess {
		return nil, rc
	}
	return parseSensitive(plain)
}

// innerWrap encrypts a sensitive area for duplication, with its digest in front (Part 1, 20.3.2).
func innerWrap(o *object, key []byte) []byte {
	plain := sensitiveBytes(o.sens)
	var e tpm2.Encoder
	e.Buf(crypt.Digest(o.pub.NameAlg, plain, o.name))
	e.Bytes(plain)
	out := e.Out()
	crypt.CFBEncrypt(key, nil, out)
	return out
}

// innerUnwrap is the reverse, for an object of this name and nameAlg.
func innerUnwrap(alg tpm2.AlgID, name, key, blob []byte) ([]byte, tpm2.RC) {
	plain := bytes.Clone(blob)
	crypt.CFBDecrypt(key, nil, plain)
	d := tpm2.NewDecoder(plain)
	digest := d.Buf(maxDigest)
	if d.RC() != tpm2.RCSuccess || !bytesEqual(digest, crypt.Digest(alg, d.Rest(), name)) {
		return nil, tpm2.RCIntegrity
	}
	return d.Rest(), tpm2.RCSuccess
}
