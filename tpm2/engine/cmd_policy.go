package engine

import (
	"bytes"
	"encoding/binary"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// extend is policyDigest = H(policyDigest || code || data) (Part 1, 16.7.6.3).
func (s *session) extend(cc tpm2.CC, data ...[]byte) {
	h := crypt.New(s.hash)
	h.Write(s.policy.digest)
	h.Write(crypt.HandleName(tpm2.Handle(cc)))
	for _, d := range data {
		h.Write(d)
	}
	s.policy.digest = h.Sum(nil)
}

// extendRef is the two-step extension with a Name and a policyRef (Part 1, 16.7.7.3).
func (s *session) extendRef(cc tpm2.CC, name, ref []byte) {
	s.extend(cc, name)
	s.policy.digest = crypt.Digest(s.hash, s.policy.digest, ref)
}

// zeroDigest starts the digest over, as PolicyOR and PolicyAuthorize do.
func (s *session) zeroDigest() { s.policy.digest = make([]byte, s.hash.DigestSize()) }

// bind fills the one slot for a hash; TPM_RC_CPHASH when another is there (Part 3, 23.12.1).
func (s *session) bind(kind slotKind, hash []byte, n int) tpm2.RC {
	switch {
	case len(hash) != s.hash.DigestSize():
		return tpm2.RCSize.Param(n)
	case s.policy.slot != slotNone && (s.policy.slot != kind || !bytes.Equal(s.policy.hash, hash)):
		return tpm2.RCCpHash
	}
	s.policy.slot, s.policy.hash = kind, bytes.Clone(hash)
	return tpm2.RCSuccess
}

// checkCpHash verifies that an assertion's cpHashA can go with the session.
func (s *session) checkCpHash(cpHash []byte, n int) tpm2.RC {
	switch {
	case len(cpHash) == 0:
		return tpm2.RCSuccess
	case len(cpHash) != s.hash.DigestSize():
		return tpm2.RCSize.Param(n)
	case s.policy.slot != slotNone && (s.policy.slot != slotCpHash || !bytes.Equal(s.policy.hash, cpHash)):
		return tpm2.RCCpHash
	}
	return tpm2.RCSuccess
}

// assert updates the session with a checked assertion of PolicySigned, PolicySecret or PolicyTicket.
func (t *TPM) assert(s *session, cc tpm2.CC, name, ref, cpHash []byte, timeout uint64) {
	s.extendRef(cc, name, ref)
	if len(cpHash) != 0 {
		s.policy.slot, s.policy.hash = slotCpHash, bytes.Clone(cpHash)
	}
	if timeout != 0 && (s.policy.timeout == 0 || timeout < s.policy.timeout) {
		s.policy.timeout = timeout
	}
}

// deadline turns an expiration in seconds into a Time, and checks the session's
// nonce; zero is no deadline (Part 1, 16.7.7.2). The sign only asks for a ticket.
func (t *TPM) deadline(s *session, nonce []byte, expiration int32) (uint64, tpm2.RC) {
	if len(nonce) != 0 && !bytes.Equal(nonce, s.nonceTPM) {
		return 0, tpm2.RCNonce.Param(1)
	}
	if expiration == 0 {
		return 0, tpm2.RCSuccess
	}
	if !t.sameTime(s) {
		return 0, tpm2.RCExpired.Param(4)
	}
	sec := int64(expiration)
	if sec < 0 {
		sec = -sec
	}
	// Counted from when the session got its nonce; without one the seconds are
	// those of Time itself, so that what was authorized once ends once (Part 3, 23.2.2).
	at := t.time()%1000 + uint64(sec)*1000
	if len(nonce) != 0 {
		at = s.start + uint64(sec)*1000
	}
	if at < t.time() {
		return 0, tpm2.RCExpired.Param(4)
	}
	return at, tpm2.RCSuccess
}

// authTicket makes the ticket for a negative expiration. It ends with Time, so
// it is bound to this power cycle as well. With their lengths, the octets of
// cpHash, policyRef and Name cannot pass for one another's.
func (t *TPM) authTicket(tag tpm2.ST, h tpm2.Handle, s *session, timeout uint64, cpHash, ref, name []byte) ([]byte, tpm2.TPMTTkAuth) {
	blob := be(timeout)
	if h == tpm2.RHNull {
		return blob, tpm2.TPMTTkAuth{Tag: tag, Hierarchy: h}
	}
	return blob, tpm2.TPMTTkAuth{Tag: tag, Hierarchy: h,
		Digest: t.ticket(tag, h, blob, be(t.n().totalResetCount), be(uint64(t.n().restartCount)), []byte{byte(s.hash >> 8), byte(s.hash)},
			be(uint64(len(cpHash))), cpHash, be(uint64(len(ref))), ref, name)}
}

// be is a number as the TPM puts it into a hash: eight octets, the first the highest.
func be(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

// policySigned is TPM2_PolicySigned (Part 3, 23.3).
func (t *TPM) policySigned(_ *call, in *tpm2.PolicySigned, out *tpm2.PolicySignedResponse) tpm2.RC {
	o, s := t.object(in.AuthObject), t.session(in.PolicySession)
	out.PolicyTicket = tpm2.TPMTTkAuth{Tag: tpm2.STAuthSigned, Hierarchy: tpm2.RHNull}
	timeout, rc := t.deadline(s, in.NonceTPM, in.Expiration)
	if s.kind != tpm2.SETrial {
		if rc != tpm2.RCSuccess {
			return rc
		}
		if rc := s.checkCpHash(in.CpHashA, 2); rc != tpm2.RCSuccess {
			return rc
		}
		alg, ok := signatureHash(&in.Auth)
		if !ok || o.seq != nil {
			return tpm2.RCScheme.Param(5)
		}
		exp := crypt.HandleName(tpm2.Handle(uint32(in.Expiration)))
		digest := crypt.Digest(alg, in.NonceTPM, exp, in.CpHashA, in.PolicyRef)
		if rc := o.verify(&in.Auth, digest); rc != tpm2.RCSuccess {
			return rc.Param(5)
		}
	}
	t.assert(s, tpm2.CCPolicySigned, o.name, in.PolicyRef, in.CpHashA, timeout)
	if in.Expiration < 0 && s.kind != tpm2.SETrial {
		out.Timeout, out.PolicyTicket = t.authTicket(tpm2.STAuthSigned, o.hierarchy, s, timeout, in.CpHashA, in.PolicyRef, o.name)
	}
	return tpm2.RCSuccess
}

// signatureHash is the hash that a signature was made with.
func signatureHash(sig *tpm2.TPMTSignature) (tpm2.AlgID, bool) {
	switch sig.SigAlg {
	case tpm2.AlgRSASSA, tpm2.AlgRSAPSS:
		return sig.Signature.RSA.Hash, true
	case tpm2.AlgECDSA, tpm2.AlgECDAA:
		return sig.Signature.ECC.Hash, true
	case tpm2.AlgHMAC:
		return sig.Signature.HMAC.HashAlg, sig.Signature.HMAC.HashAlg != tpm2.AlgNull
	}
	return 0, false
}

// policySecret is TPM2_PolicySecret (Part 3, 23.4); the pipeline has checked the authorization.
func (t *TPM) policySecret(_ *call, in *tpm2.PolicySecret, out *tpm2.PolicySecretResponse) tpm2.RC {
	s := t.session(in.PolicySession)
	out.PolicyTicket = tpm2.TPMTTkAuth{Tag: tpm2.STAuthSecret, Hierarchy: tpm2.RHNull}
	timeout, rc := t.deadline(s, in.NonceTPM, in.Expiration)
	if s.kind != tpm2.SETrial {
		if rc != tpm2.RCSuccess {
			return rc
		}
		if rc := s.checkCpHash(in.CpHashA, 2); rc != tpm2.RCSuccess {
			return rc
		}
	}
	name := t.nameOf(in.AuthHandle)
	t.assert(s, tpm2.CCPolicySecret, name, in.PolicyRef, in.CpHashA, timeout)
	if in.Expiration < 0 && s.kind != tpm2.SETrial && !t.isPinPass(in.AuthHandle) {
		out.Timeout, out.PolicyTicket = t.authTicket(tpm2.STAuthSecret, t.hierarchyOf(in.AuthHandle), s, timeout, in.CpHashA, in.PolicyRef, name)
	}
	return tpm2.RCSuccess
}

func (t *TPM) isPin(h tpm2.Handle) bool {
	x := t.index(h)
	return x != nil && (x.pub.Attributes.Type() == tpm2.NTPinFail || x.pub.Attributes.Type() == tpm2.NTPinPass)
}

// isPinPass: with a ticket, a PIN Pass index would be used without being counted (Part 3, 23.2.5).
func (t *TPM) isPinPass(h tpm2.Handle) bool {
	return t.isPin(h) && t.index(h).pub.Attributes.Type() == tpm2.NTPinPass
}

// hierarchyOf is the hierarchy whose proof stands for an entity.
func (t *TPM) hierarchyOf(h tpm2.Handle) tpm2.Handle {
	switch h.Space() {
	case tpm2.HTTransient, tpm2.HTPersistent:
		return t.object(h).hierarchy
	case tpm2.HTPermanent:
		if h == tpm2.RHLockout {
			return tpm2.RHOwner
		}
		return h
	case tpm2.HTNVIndex:
		if t.index(h).has(tpm2.NVPlatformCreate) {
			return tpm2.RHPlatform
		}
		return tpm2.RHOwner
	case tpm2.HTPCR: // of no hierarchy; what vouches for them is the Owner's, as in libtpms
		return tpm2.RHOwner
	}
	return tpm2.RHNull
}

// policyTicket is TPM2_PolicyTicket (Part 3, 23.5).
func (t *TPM) policyTicket(_ *call, in *tpm2.PolicyTicket, _ *tpm2.PolicyTicketResponse) tpm2.RC {
	s := t.session(in.PolicySession)
	if s.kind == tpm2.SETrial { // a ticket can only be used, not tried
		return tpm2.RCAttributes.Handle(1)
	}
	if len(in.Timeout) != 8 {
		return tpm2.RCSize.Param(1)
	}
	timeout := binary.BigEndian.Uint64(in.Timeout)
	if rc := s.checkCpHash(in.CpHashA, 2); rc != tpm2.RCSuccess {
		return rc
	}
	_, want := t.authTicket(in.Ticket.Tag, in.Ticket.Hierarchy, s, timeout, in.CpHashA, in.PolicyRef, in.AuthName)
	switch {
	case in.Ticket.Hierarchy == tpm2.RHNull, !bytesEqual(want.Digest, in.Ticket.Digest):
		return tpm2.RCTicket.Param(5)
	case timeout != 0 && timeout < t.time():
		return tpm2.RCExpired.Param(1)
	}
	cc := tpm2.CCPolicySigned
	if in.Ticket.Tag == tpm2.STAuthSecret {
		cc = tpm2.CCPolicySecret
	}
	t.assert(s, cc, in.AuthName, in.PolicyRef, in.CpHashA, timeout)
	return tpm2.RCSuccess
}

// policyOR is TPM2_PolicyOR (Part 3, 23.6).
func (t *TPM) policyOR(_ *call, in *tpm2.PolicyOR, _ *tpm2.PolicyORResponse) tpm2.RC {
	s := t.session(in.PolicySession)
	found := s.kind == tpm2.SETrial
	for _, d := range in.PHashList {
		found = found || bytes.Equal(d, s.policy.digest)
	}
	if !found {
		return tpm2.RCValue.Param(1)
	}
	s.zeroDigest()
	s.extend(tpm2.CCPolicyOR, in.PHashList...)
	return tpm2.RCSuccess
}

// policyPCR is TPM2_PolicyPCR (Part 3, 23.7).
func (t *TPM) policyPCR(_ *call, in *tpm2.PolicyPCR, _ *tpm2.PolicyPCRResponse) tpm2.RC {
	s := t.session(in.PolicySession)
	digest := t.pcrDigest(s.hash, in.PCRs)
	if s.kind == tpm2.SETrial {
		if len(in.PCRDigest) != 0 {
			digest = in.PCRDigest
		}
	} else {
		switch {
		case len(in.PCRDigest) != 0 && !bytes.Equal(digest, in.PCRDigest):
			return tpm2.RCValue.Param(1)
		case s.policy.pcrChecked && s.policy.pcrCounter != t.ram.reset.pcrCounter:
			return tpm2.RCPCRChanged
		}
		s.policy.pcrChecked, s.policy.pcrCounter = true, t.ram.reset.pcrCounter
	}
	var e tpm2.Encoder
	e.EncodePCRSelection(in.PCRs)
	s.extend(tpm2.CCPolicyPCR, e.Out(), digest)
	return tpm2.RCSuccess
}

// policyLocality is TPM2_PolicyLocality (Part 3, 23.8).
func (t *TPM) policyLocality(_ *call, in *tpm2.PolicyLocality, _ *tpm2.PolicyLocalityResponse) tpm2.RC {
	s := t.session(in.PolicySession)
	l, was := uint8(in.Locality), s.policy.locality
	switch {
	case l == 0, was != 0 && (was >= 32) != (l >= 32):
		return tpm2.RCRange.Param(1)
	case was >= 32 && was != l:
		return tpm2.RCRange.Param(1)
	case was != 0 && was < 32:
		if l &= was; l == 0 {
			return tpm2.RCRange.Param(1)
		}
	}
	s.policy.locality = l
	s.extend(tpm2.CCPolicyLocality, []byte{uint8(in.Locality)})
	return tpm2.RCSuccess
}

// policyNV is TPM2_PolicyNV (Part 3, 23.9).
func (t *TPM) policyNV(_ *call, in *tpm2.PolicyNV, _ *tpm2.PolicyNVResponse) tpm2.RC {
	s, x := t.session(in.PolicySession), t.index(in.NVIndex)
	if s.kind != tpm2.SETrial {
		if rc := t.nvReadable(in.AuthHandle, x); rc != tpm2.RCSuccess {
			return rc
		}
		size := int(x.pub.DataSize)
		if int(in.Offset) > size {
			return tpm2.RCValue.Param(2)
		}
		if size-int(in.Offset) < len(in.OperandB) {
			return tpm2.RCSize.Param(1)
		}
		if !compare(x.data[in.Offset:int(in.Offset)+len(in.OperandB)], in.OperandB, in.Operation) {
			return tpm2.RCPolicy
		}
	}
	args := crypt.Digest(s.hash, in.OperandB, []byte{byte(in.Offset >> 8), byte(in.Offset), byte(in.Operation >> 8), byte(in.Operation)})
	s.extend(tpm2.CCPolicyNV, args, x.name())
	return tpm2.RCSuccess
}

// compare carries out a TPM_EO on two operands of the same length (Part 2, 6.8).
func compare(a, b []byte, op tpm2.EO) bool {
	unsigned := bytes.Compare(a, b)
	// Two negative numbers are compared by magnitude, as libtpms does and policies
	// have come to rely on (abrmd_policynv of tpm2-tools is one); different signs
	// reverse too. Version 1.83 and later have two's complement (Part 3, 23.9.1).
	signed := unsigned
	if len(a) > 0 && (a[0]|b[0])&0x80 != 0 {
		signed = -unsigned
	}
	switch op {
	case tpm2.EOEq:
		return unsigned == 0
	case tpm2.EONeq:
		return unsigned != 0
	case tpm2.EOSignedGT:
		return signed > 0
	case tpm2.EOUnsignedGT:
		return unsigned > 0
	case tpm2.EOSignedLT:
		return signed < 0
	case tpm2.EOUnsignedLT:
		return unsigned < 0
	case tpm2.EOSignedGE:
		return signed >= 0
	case tpm2.EOUnsignedGE:
		return unsigned >= 0
	case tpm2.EOSignedLE:
		return signed <= 0
	case tpm2.EOUnsignedLE:
		return unsigned <= 0
	}
	for i := range a { // bits
		if op == tpm2.EOBitSet && a[i]&b[i] != b[i] || op == tpm2.EOBitClear && a[i]&b[i] != 0 {
			return false
		}
	}
	return true
}

// policyCounterTimer is TPM2_PolicyCounterTimer (Part 3, 23.10), over TPMS_TIME_INFO.
// Since version 1.83 TPM_EO_UNSIGNED_LT on Time is to mean seconds from the
// session's start. It stays what it was and is in libtpms, milliseconds of Time:
// a guest that lets its secrets go in the first minute of a boot only relies on it.
func (t *TPM) policyCounterTimer(_ *call, in *tpm2.PolicyCounterTimer, _ *tpm2.PolicyCounterTimerResponse) tpm2.RC {
	s := t.session(in.PolicySession)
	info := t.timeInfo()
	wire := tpm2.Marshal(&info)
	switch {
	case int(in.Offset) > len(wire):
		return tpm2.RCValue.Param(2)
	case int(in.Offset)+len(in.OperandB) > len(wire):
		return tpm2.RCRange
	}
	if s.kind != tpm2.SETrial && !compare(wire[in.Offset:int(in.Offset)+len(in.OperandB)], in.OperandB, in.Operation) {
		return tpm2.RCPolicy
	}
	args := crypt.Digest(s.hash, in.OperandB, []byte{byte(in.Offset >> 8), byte(in.Offset), byte(in.Operation >> 8), byte(in.Operation)})
	s.extend(tpm2.CCPolicyCounterTimer, args)
	return tpm2.RCSuccess
}

// policyCommandCode is TPM2_PolicyCommandCode (Part 3, 23.11).
func (t *TPM) policyCommandCode(_ *call, in *tpm2.PolicyCommandCode, _ *tpm2.PolicyCommandCodeResponse) tpm2.RC {
	s := t.session(in.PolicySession)
	switch {
	case s.policy.code != 0 && s.policy.code != in.Code:
		return tpm2.RCValue.Param(1)
	case command(in.Code) == nil:
		return tpm2.RCPolicyCC.Param(1)
	}
	s.policy.code = in.Code
	s.extend(tpm2.CCPolicyCommandCode, crypt.HandleName(tpm2.Handle(in.Code)))
	return tpm2.RCSuccess
}
