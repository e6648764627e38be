package engine

import (
	"encoding/binary"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// signScheme settles the scheme of a signature: the key's own, or the caller's
// where the key leaves it open (Part 1, 24.5.4; Part 3, 18.1). o is nil for TPM_RH_NULL.
func signScheme(o *object, in *tpm2.TPMTSigScheme) (tpm2.TPMTSigScheme, tpm2.RC) {
	if o == nil {
		return tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull}, tpm2.RCSuccess
	}
	own := tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull}
	switch o.pub.Type {
	case tpm2.AlgRSA:
		s := o.pub.Parameters.RSADetail.Scheme
		own.Scheme, own.Details.Any = s.Scheme, s.Details.Any
	case tpm2.AlgECC:
		s := o.pub.Parameters.ECCDetail.Scheme
		own.Scheme, own.Details.Any, own.Details.ECDAA.HashAlg = s.Scheme, s.Details.Any, s.Details.ECDAA.HashAlg
	case tpm2.AlgKeyedHash:
		s := o.pub.Parameters.KeyedHashDetail.Scheme
		own.Scheme, own.Details.Any = s.Scheme, s.Details.HMAC
	case tpm2.AlgMLDSA: // the key is the scheme
		own.Scheme = tpm2.AlgMLDSA
	default:
		return own, tpm2.RCScheme
	}
	// A key that also decrypts has no scheme of its own to go by.
	switch {
	case own.Scheme == tpm2.AlgNull && in.Scheme == tpm2.AlgNull:
		return own, tpm2.RCScheme
	case own.Scheme == tpm2.AlgNull:
		if !fits(in.Scheme, o.pub.Type) {
			return own, tpm2.RCScheme
		}
		return settled(*in), tpm2.RCSuccess
	case own.Scheme == tpm2.AlgECDAA: // which promise the signature keeps is said with it, always (Part 3, 20.5.1)
		if in.Scheme != own.Scheme || in.Details.ECDAA.HashAlg != own.Details.ECDAA.HashAlg {
			return own, tpm2.RCScheme
		}
		return settled(*in), tpm2.RCSuccess
	case in.Scheme != tpm2.AlgNull && *in != own:
		return own, tpm2.RCScheme
	}
	return own, tpm2.RCSuccess
}

// settled puts the hash of a scheme where that of every other one is.
func settled(s tpm2.TPMTSigScheme) tpm2.TPMTSigScheme {
	if s.Scheme == tpm2.AlgECDAA {
		s.Details.Any.HashAlg = s.Details.ECDAA.HashAlg
	}
	return s
}

// fits reports whether a signing scheme is one for this type of key.
func fits(scheme, typ tpm2.AlgID) bool {
	switch typ {
	case tpm2.AlgRSA:
		return scheme == tpm2.AlgRSASSA || scheme == tpm2.AlgRSAPSS
	case tpm2.AlgECC:
		return scheme == tpm2.AlgECDSA || scheme == tpm2.AlgECDAA
	case tpm2.AlgKeyedHash:
		return scheme == tpm2.AlgHMAC
	}
	return false
}

// verifySignature is TPM2_VerifySignature (Part 3, 20.1).
func (t *TPM) verifySignature(_ *call, in *tpm2.VerifySignature, out *tpm2.VerifySignatureResponse) tpm2.RC {
	o := t.object(in.KeyHandle)
	switch {
	case o.seq != nil || !o.pub.ObjectAttributes.Has(tpm2.SignEncrypt):
		return tpm2.RCAttributes.Handle(1)
	case in.Signature.SigAlg == tpm2.AlgNull:
		return tpm2.RCScheme.Param(2)
	}
	switch rc := o.verify(&in.Signature, in.Digest); rc {
	case tpm2.RCSuccess:
	case tpm2.RCHandle:
		return rc.Handle(1)
	default:
		return rc.Param(2)
	}
	out.Validation = t.verified(tpm2.STVerified, o, in.Digest, 0)
	return tpm2.RCSuccess
}

// sign is TPM2_Sign (Part 3, 20.2).
func (t *TPM) sign(_ *call, in *tpm2.Sign, out *tpm2.SignResponse) tpm2.RC {
	o := t.object(in.KeyHandle)
	switch {
	case o.seq != nil || o.pub.Type == tpm2.AlgSymCipher:
		return tpm2.RCKey.Handle(1)
	case !o.pub.ObjectAttributes.Has(tpm2.SignEncrypt):
		return tpm2.RCKey.Handle(1)
	case o.pub.ObjectAttributes.Has(tpm2.X509Sign):
		return tpm2.RCAttributes.Handle(1)
	}
	scheme, rc := signScheme(o, &in.InScheme)
	if rc != tpm2.RCSuccess {
		return rc.Param(2)
	}
	if scheme.Scheme == tpm2.AlgMLDSA { // it signs messages: a sequence does that (Part 3, 20.1)
		return tpm2.RCScheme.Param(2)
	}
	alg := scheme.Details.Any.HashAlg
	// A restricted key signs only what this TPM has hashed and found not to look
	// like its own statements (Part 1, 24.5.5).
	if o.pub.ObjectAttributes.Has(tpm2.Restricted) || len(in.Validation.Digest) != 0 {
		want := t.hashCheck(in.Validation.Hierarchy, alg, in.Digest, true)
		if in.Validation.Hierarchy == tpm2.RHNull || !bytesEqual(want.Digest, in.Validation.Digest) {
			return tpm2.RCTicket.Param(3)
		}
	}
	if len(in.Digest) != alg.DigestSize() {
		return tpm2.RCSize.Param(1)
	}
	if out.Signature, rc = t.signDigest(o, &scheme, in.Digest); scheme.Scheme == tpm2.AlgECDAA {
		return rc // it is the counter that is wrong, if anything
	}
	return rc.Handle(1)
}

// checkAttestKey finds the key that signs an attestation; nil for TPM_RH_NULL (Part 3, 18.1).
func (t *TPM) checkAttestKey(h tpm2.Handle, n int) (*object, tpm2.RC) {
	if h == tpm2.RHNull {
		return nil, tpm2.RCSuccess
	}
	o := t.object(h)
	if o.seq != nil || o.pub.Type == tpm2.AlgSymCipher || !o.pub.ObjectAttributes.Has(tpm2.SignEncrypt) {
		return nil, tpm2.RCKey.Handle(n)
	}
	return o, tpm2.RCSuccess
}

// attest completes and signs an attestation structure (Part 3, 18.1; Part 2,
// 10.12.12). Without a key there is no signature. For a key outside the
// endorsement and platform hierarchies, counters and firmware version are
// obfuscated, so that they do not tie its signatures to the TPM (Part 1, 33.7).
func (t *TPM) attest(o *object, scheme *tpm2.TPMTSigScheme, a *tpm2.TPMSAttest, extra []byte) (blob []byte, sig tpm2.TPMTSignature, rc tpm2.RC) {
	a.Magic = tpm2.GeneratedValue
	a.ExtraData = extra
	a.ClockInfo = t.clockInfo()
	a.FirmwareVersion = FirmwareVersion
	sig.SigAlg = tpm2.AlgNull
	a.QualifiedSigner = crypt.HandleName(tpm2.RHNull)
	if o != nil {
		a.QualifiedSigner = o.qn
	}
	anonymous := scheme.Scheme == tpm2.AlgECDAA
	if anonymous { // nothing that says whose key it is; what the caller adds is signed beside it (Part 1, 28.5 and 44.3.3.3)
		a.QualifiedSigner, a.ExtraData, a.Attested.Certify.QualifiedName = nil, nil, nil
	}
	if o == nil || o.hierarchy != tpm2.RHEndorsement && o.hierarchy != tpm2.RHPlatform {
		alg, name := tpm2.AlgSHA256, []byte{}
		if o != nil {
			alg, name = o.pub.NameAlg, o.qn
		}
		if alg == tpm2.AlgNull {
			alg = tpm2.AlgSHA256
		}
		m := crypt.KDFa(alg, t.n().shProof, "OBFUSCATE", name, nil, 128)
		a.FirmwareVersion += binary.BigEndian.Uint64(m)
		a.ClockInfo.ResetCount += binary.BigEndian.Uint32(m[8:])
		a.ClockInfo.RestartCount += binary.BigEndian.Uint32(m[12:])
		// In attested.time of TPM2_GetTime they stay as they are, for the privacy
		// administrator, who has authorized that (Part 3, 18.7.1).
	}
	blob = tpm2.Marshal(a)
	switch {
	case o == nil:
	case anonymous:
		alg := scheme.Details.ECDAA.HashAlg
		sig, rc = t.signECDAA(o, &scheme.Details.ECDAA, crypt.Digest(alg, extra, crypt.Digest(alg, blob)))
	default:
		sig, rc = t.signStructure(o, scheme, blob)
	}
	return blob, sig, rc
}
