package engine

import (
	"bytes"
	"encoding/binary"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// Sequences that end in a signature, and signatures over digests (Part 3, 17.5,
// 17.6, 20.3, 20.4, 20.6 and 20.7). The key's own scheme is used, always.

// ownScheme is the scheme of a key that signs by itself. For ECDAA the context is
// the counter of the promise to keep (Part 2, 11.3.8).
func ownScheme(o *object, context []byte) (tpm2.TPMTSigScheme, tpm2.RC) {
	if o.seq != nil || o.pub.Type == tpm2.AlgSymCipher || !o.pub.ObjectAttributes.Has(tpm2.SignEncrypt) {
		return tpm2.TPMTSigScheme{}, tpm2.RCKey
	}
	in := tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull}
	if s := &o.pub.Parameters.ECCDetail.Scheme; o.pub.Type == tpm2.AlgECC && s.Scheme == tpm2.AlgECDAA {
		in.Scheme, in.Details.ECDAA.HashAlg = s.Scheme, s.Details.ECDAA.HashAlg
		if len(context) == 2 {
			in.Details.ECDAA.Count = binary.BigEndian.Uint16(context)
		}
	}
	return signScheme(o, &in)
}

// contextFits verifies the length of a context: a counter for ECDAA, up to 255
// octets for ML-DSA, and otherwise there is none (Part 2, 11.3.8).
func contextFits(scheme tpm2.AlgID, context []byte) bool {
	switch scheme {
	case tpm2.AlgMLDSA:
		return true
	case tpm2.AlgECDAA:
		return len(context) == 2
	}
	return len(context) == 0
}

// startSigning makes the sequence for a key; at is the number of the context parameter.
func (t *TPM) startSigning(kind seqKind, o *object, auth, context []byte, at int) (tpm2.Handle, tpm2.RC) {
	scheme, rc := ownScheme(o, context)
	switch {
	case rc != tpm2.RCSuccess:
		return 0, rc.Handle(1)
	case kind == seqVerify && scheme.Scheme == tpm2.AlgECDAA: // no TPM verifies it (Part 1, 44.3.3.1)
		return 0, tpm2.RCScheme.Handle(1)
	case !contextFits(scheme.Scheme, context):
		return 0, tpm2.RCSize.Param(at)
	case !t.slotFree():
		return 0, tpm2.RCObjectMemory
	}
	alg := scheme.Details.Any.HashAlg
	if scheme.Scheme == tpm2.AlgMLDSA {
		alg = tpm2.AlgMLDSA
	}
	// To verify there is a second digest, for the ticket: a ticket is this TPM's
	// own, so that it may stand for the message by its digest.
	algs := []tpm2.AlgID{alg, ticketHash}
	if kind == seqSign {
		algs = algs[:1]
	}
	s := newSequence(kind, crypt.Trim(auth), algs...)
	s.alg, s.keyName, s.context = alg, o.name, bytes.Clone(context)
	switch scheme.Scheme {
	case tpm2.AlgMLDSA:
		s.sums[0] = startMu(o.pub.Unique.MLDSA, context)
	case tpm2.AlgHMAC:
		switch {
		case o.sens == nil:
			return 0, tpm2.RCHandle.Handle(1)
		case kind == seqSign && o.pub.ObjectAttributes.Has(tpm2.Restricted): // it signs digests with tickets only
			return 0, tpm2.RCAttributes.Handle(1)
		}
		s.sums[0].Write(hmacPad(alg, o.sens.Sensitive.Bits, 0x36))
		s.key = hmacPad(alg, o.sens.Sensitive.Bits, 0x5c)
	}
	return t.addSequence(s)
}

// signSequenceStart is TPM2_SignSequenceStart (Part 3, 17.5).
func (t *TPM) signSequenceStart(_ *call, in *tpm2.SignSequenceStart, out *tpm2.SignSequenceStartResponse) (rc tpm2.RC) {
	out.SequenceHandle, rc = t.startSigning(seqSign, t.object(in.KeyHandle), in.Auth, in.Context, 2)
	return rc
}

// verifySequenceStart is TPM2_VerifySequenceStart (Part 3, 17.6).
func (t *TPM) verifySequenceStart(_ *call, in *tpm2.VerifySequenceStart, out *tpm2.VerifySequenceStartResponse) (rc tpm2.RC) {
	out.SequenceHandle, rc = t.startSigning(seqVerify, t.object(in.KeyHandle), in.Auth, in.Context, 3)
	return rc
}

// signSequenceComplete is TPM2_SignSequenceComplete (Part 3, 20.6).
func (t *TPM) signSequenceComplete(c *call, in *tpm2.SignSequenceComplete, out *tpm2.SignSequenceCompleteResponse) (rc tpm2.RC) {
	o, key := t.object(in.SequenceHandle), t.object(in.KeyHandle)
	switch {
	case o.seq == nil || o.seq.kind != seqSign:
		return tpm2.RCMode.Handle(1)
	case !bytes.Equal(key.name, o.seq.keyName):
		return tpm2.RCSignContextKey.Handle(2)
	case key.pub.ObjectAttributes.Has(tpm2.X509Sign):
		return tpm2.RCAttributes.Handle(2)
	}
	scheme, rc := ownScheme(key, o.seq.context)
	if rc != tpm2.RCSuccess {
		return rc.Handle(2)
	}
	if scheme.Scheme == tpm2.AlgMLDSA && t.tooLarge(mldsaParams(key.pub.Parameters.MLDSADetail.ParameterSet).SignatureSize()) {
		return tpm2.RCSize
	}
	s := o.seq
	back, err := s.mark()
	if err != nil {
		return tpm2.RCFailure
	}
	defer func() {
		if rc != tpm2.RCSuccess && back() != nil { // a command that fails leaves the sequence as it was
			rc = tpm2.RCFailure
		}
	}()
	s.feed(in.Buffer)
	if key.pub.ObjectAttributes.Has(tpm2.Restricted) && s.unsafe { // (Part 1, 24.5.5)
		return tpm2.RCValue
	}
	d := s.sum()
	switch scheme.Scheme {
	case tpm2.AlgMLDSA:
		out.Signature, rc = key.signMu(d)
	case tpm2.AlgHMAC:
		out.Signature.SigAlg, out.Signature.Signature.HMAC = tpm2.AlgHMAC, tpm2.TPMTHA{HashAlg: s.alg, Digest: d}
	default:
		out.Signature, rc = t.signDigest(key, &scheme, d)
	}
	c.flush = in.SequenceHandle
	return rc.Handle(2)
}

// matches reports whether a signature says it is of this scheme.
func matches(scheme *tpm2.TPMTSigScheme, sig *tpm2.TPMTSignature) bool {
	alg, ok := signatureHash(sig)
	return sig.SigAlg == scheme.Scheme && (scheme.Scheme == tpm2.AlgMLDSA || ok && alg == scheme.Details.Any.HashAlg)
}

// verified makes the ticket for a signature that was good (Part 2, 10.6.5).
func (t *TPM) verified(tag tpm2.ST, key *object, digest []byte, alg tpm2.AlgID) tpm2.TPMTTkVerified {
	out := tpm2.TPMTTkVerified{Tag: tag, Hierarchy: key.hierarchy}
	out.Metadata.DigestVerified = alg
	if key.pub.NameAlg == tpm2.AlgNull { // without a Name there is nothing to vouch for
		out.Hierarchy = tpm2.RHNull
	}
	if out.Hierarchy != tpm2.RHNull {
		out.Digest = t.ticket(tag, out.Hierarchy, digest, key.name, metadata(&out))
	}
	return out
}

// metadata is the part of a ticket that depends on its tag.
func metadata(v *tpm2.TPMTTkVerified) []byte {
	if v.Tag != tpm2.STDigestVerified {
		return nil
	}
	return []byte{byte(v.Metadata.DigestVerified >> 8), byte(v.Metadata.DigestVerified)}
}

// verifySequenceComplete is TPM2_VerifySequenceComplete (Part 3, 20.3).
func (t *TPM) verifySequenceComplete(c *call, in *tpm2.VerifySequenceComplete, out *tpm2.VerifySequenceCompleteResponse) tpm2.RC {
	o, key := t.object(in.SequenceHandle), t.object(in.KeyHandle)
	switch {
	case o.seq == nil || o.seq.kind != seqVerify:
		return tpm2.RCMode.Handle(1)
	case !bytes.Equal(key.name, o.seq.keyName):
		return tpm2.RCSignContextKey.Handle(2)
	}
	scheme, rc := ownScheme(key, o.seq.context)
	if rc != tpm2.RCSuccess {
		return rc.Handle(2)
	}
	if !matches(&scheme, &in.Signature) {
		return tpm2.RCScheme.Param(1)
	}
	s := o.seq
	switch scheme.Scheme {
	case tpm2.AlgMLDSA:
		rc = key.verifyMessage(&in.Signature, s.message, s.context)
	case tpm2.AlgHMAC:
		if !bytesEqual(s.sum(), in.Signature.Signature.HMAC.Digest) {
			rc = tpm2.RCSignature
		}
	default:
		rc = key.verify(&in.Signature, s.sum())
	}
	if rc != tpm2.RCSuccess {
		return rc.Param(1)
	}
	out.Validation = t.verified(tpm2.STMessageVerified, key, s.sums[1].Sum(nil), 0)
	c.flush = in.SequenceHandle
	return tpm2.RCSuccess
}

// digestScheme is ownScheme for a scheme that signs digests.
func digestScheme(o *object, context []byte) (tpm2.TPMTSigScheme, tpm2.RC) {
	scheme, rc := ownScheme(o, context)
	switch {
	case rc != tpm2.RCSuccess:
		return scheme, rc.Handle(1)
	case scheme.Scheme == tpm2.AlgHMAC:
		return scheme, tpm2.RCScheme.Handle(1)
	case scheme.Scheme == tpm2.AlgMLDSA: // there is no allowExternalMu here
		return scheme, tpm2.RCExtMu.Handle(1)
	case !contextFits(scheme.Scheme, context):
		return scheme, tpm2.RCSize.Param(1)
	}
	return scheme, tpm2.RCSuccess
}

// verifyDigestSignature is TPM2_VerifyDigestSignature (Part 3, 20.4).
func (t *TPM) verifyDigestSignature(_ *call, in *tpm2.VerifyDigestSignature, out *tpm2.VerifyDigestSignatureResponse) tpm2.RC {
	key := t.object(in.KeyHandle)
	scheme, rc := digestScheme(key, in.Context)
	alg := scheme.Details.Any.HashAlg
	switch {
	case rc != tpm2.RCSuccess:
		return rc
	case !matches(&scheme, &in.Signature):
		return tpm2.RCScheme.Param(3)
	case len(in.Digest) != alg.DigestSize():
		return tpm2.RCSize.Param(2)
	}
	if rc := key.verify(&in.Signature, in.Digest); rc != tpm2.RCSuccess {
		return rc.Param(3)
	}
	out.Validation = t.verified(tpm2.STDigestVerified, key, in.Digest, alg)
	return tpm2.RCSuccess
}

// signDigestCommand is TPM2_SignDigest (Part 3, 20.7).
func (t *TPM) signDigestCommand(_ *call, in *tpm2.SignDigest, out *tpm2.SignDigestResponse) tpm2.RC {
	key := t.object(in.KeyHandle)
	scheme, rc := digestScheme(key, in.Context)
	alg := scheme.Details.Any.HashAlg
	switch {
	case rc != tpm2.RCSuccess:
		return rc
	case key.pub.ObjectAttributes.Has(tpm2.X509Sign):
		return tpm2.RCAttributes.Handle(1)
	case len(in.Digest) != alg.DigestSize():
		return tpm2.RCSize.Param(2)
	}
	if key.pub.ObjectAttributes.Has(tpm2.Restricted) || len(in.Validation.Digest) != 0 {
		want := t.hashCheck(in.Validation.Hierarchy, alg, in.Digest, true)
		if in.Validation.Hierarchy == tpm2.RHNull || !bytesEqual(want.Digest, in.Validation.Digest) {
			return tpm2.RCTicket.Param(3)
		}
	}
	out.Signature, rc = t.signDigest(key, &scheme, in.Digest)
	return rc.Handle(1)
}
