package engine

import (
	"bytes"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// startAuthSession is TPM2_StartAuthSession (Part 3, 11.1).
func (t *TPM) startAuthSession(_ *call, in *tpm2.StartAuthSession, out *tpm2.StartAuthSessionResponse) tpm2.RC {
	if n := len(in.NonceCaller); n < 16 || n > in.AuthHash.DigestSize() {
		return tpm2.RCSize.Param(1)
	}
	if rc := checkSessionCipher(&in.Symmetric); rc != tpm2.RCSuccess {
		return rc.Param(4)
	}
	var salt []byte
	if in.TPMKey == tpm2.RHNull {
		if len(in.EncryptedSalt) != 0 {
			return tpm2.RCValue.Param(2)
		}
	} else {
		key := t.object(in.TPMKey)
		switch {
		case key.pub.Type != tpm2.AlgRSA && key.pub.Type != tpm2.AlgECC && key.pub.Type != tpm2.AlgMLKEM,
			key.pub.NameAlg == tpm2.AlgNull: // no hash for OAEP or KDFe
			return tpm2.RCKey.Handle(1)
		case key.sens == nil:
			return tpm2.RCHandle.Handle(1)
		case !key.pub.ObjectAttributes.Has(tpm2.Decrypt):
			return tpm2.RCAttributes.Handle(1)
		}
		if s := key.pub.Parameters.RSADetail.Scheme.Scheme; key.pub.Type == tpm2.AlgRSA && s != tpm2.AlgNull && s != tpm2.AlgOAEP {
			return tpm2.RCValue.Param(2) // it must not be used with another padding than its own
		}
		var rc tpm2.RC
		if salt, rc = key.decryptSecret("SECRET", in.EncryptedSalt); rc != tpm2.RCSuccess {
			return tpm2.RCValue.Param(2) // whatever is wrong with it
		}
	}
	n, rc := t.freeSession()
	if rc != tpm2.RCSuccess {
		return rc
	}
	first := tpm2.HMACSessionFirst
	if in.SessionType != tpm2.SEHMAC {
		first = tpm2.PolicySessionFirst
	}
	s := &session{
		handle: first + tpm2.Handle(n), kind: in.SessionType, hash: in.AuthHash, symmetric: in.Symmetric,
		nonceTPM: t.rng.bytes(len(in.NonceCaller)), start: t.time(),
	}
	if s.kind != tpm2.SEHMAC {
		t.resetPolicy(s)
	}
	var bindAuth []byte
	if in.Bind != tpm2.RHNull {
		if o := t.object(in.Bind); o != nil && o.seq == nil && o.sens == nil {
			return tpm2.RCHandle.Handle(2) // there is no authValue to bind to
		}
		if t.isPin(in.Bind) { // a guess through the session would not be counted (Part 1, 34.2.8)
			return tpm2.RCHandle.Handle(2)
		}
		bindAuth = t.authValueOf(in.Bind)
		s.bound = t.boundTo(in.Bind)
		s.boundDA = t.daProtected(in.Bind)
		s.boundLock = in.Bind == tpm2.RHLockout
	}
	if in.Bind != tpm2.RHNull || in.TPMKey != tpm2.RHNull { // (Part 1, 16.6.8)
		key := append(append([]byte{}, bindAuth...), salt...)
		s.key = crypt.KDFa(s.hash, key, "ATH", s.nonceTPM, in.NonceCaller, 8*s.hash.DigestSize())
		clear(key)
	}
	t.ram.sessions[n] = s
	out.SessionHandle, out.NonceTPM = s.handle, s.nonceTPM
	return tpm2.RCSuccess
}

// checkSessionCipher verifies the algorithm for parameter encryption: XOR, or a block cipher in CFB mode.
func checkSessionCipher(s *tpm2.TPMTSymDef) tpm2.RC {
	switch {
	case s.Algorithm == tpm2.AlgNull || s.Algorithm == tpm2.AlgXOR:
		return tpm2.RCSuccess
	case !implementsAES(s.KeyBits.AES):
		return tpm2.RCValue
	case s.Mode.AES != tpm2.AlgCFB:
		return tpm2.RCMode
	}
	return tpm2.RCSuccess
}

// policyRestart is TPM2_PolicyRestart (Part 3, 11.2). The session keeps its
// nonceTPM, and so the time from which an expiration counts: else a signature
// over the nonce would never expire.
func (t *TPM) policyRestart(_ *call, in *tpm2.PolicyRestart, _ *tpm2.PolicyRestartResponse) tpm2.RC {
	s := t.session(in.SessionHandle)
	start, epoch := s.start, s.policy.epoch
	t.resetPolicy(s)
	s.start, s.policy.epoch = start, epoch
	return tpm2.RCSuccess
}

// checkPolicy verifies that a policy session permits this command on this
// entity (Part 1, 16.7.4 and Part 3, 5.6).
func (t *TPM) checkPolicy(c *call, a *auth) tpm2.RC {
	s := a.sess
	p := &s.policy
	want := t.policyOf(a.entity)
	switch {
	case want.alg != s.hash || !bytes.Equal(want.digest, p.digest):
		return tpm2.RCPolicyFail
	case p.timeout != 0 && (t.time() > p.timeout || !t.sameTime(s)):
		return tpm2.RCExpired
	case p.pcrChecked && p.pcrCounter != t.ram.reset.pcrCounter:
		return tpm2.RCPCRChanged
	case p.code != 0 && p.code != c.info.Code:
		return tpm2.RCPolicyCC
	case p.code == 0 && (a.role == tpm2.RoleAdmin || a.role == tpm2.RoleDup): // they must name the command (Part 1, 16.2)
		return tpm2.RCPolicyFail
	case p.locality != 0 && !localityAllowed(p.locality, c.locality):
		return tpm2.RCLocality
	case p.presence && !t.present:
		return tpm2.RCPP
	}
	switch p.slot {
	case slotCpHash:
		if !bytes.Equal(p.hash, t.cpHash(c, s.hash)) {
			return tpm2.RCPolicyFail
		}
	case slotNameHash:
		if !bytes.Equal(p.hash, t.nameHash(c, s.hash)) {
			return tpm2.RCPolicyFail
		}
	case slotTemplate:
		if !templateMatches(c, s, p.hash) {
			return tpm2.RCPolicyFail
		}
	case slotParameters:
		if !bytes.Equal(p.hash, parametersHash(c, s.hash)) {
			return tpm2.RCPolicyFail
		}
	}
	if p.checkWritten {
		x := t.index(a.entity)
		if x == nil {
			return tpm2.RCPolicyFail
		}
		if x.has(tpm2.NVWritten) != p.written {
			return tpm2.RCPolicyFail
		}
	}
	return tpm2.RCSuccess
}

// localityAllowed: bits for localities 0 to 4, or one extended locality (Part 2, 8.5).
func localityAllowed(mask uint8, l uint8) bool {
	if mask >= 32 {
		return mask == l
	}
	return l < 5 && mask>>l&1 != 0
}

// templateMatches verifies PolicyTemplate against the inPublic of a creation (Part 3, 23.21).
func templateMatches(c *call, s *session, want []byte) bool {
	d := tpm2.NewDecoder(c.params)
	switch c.info.Code {
	case tpm2.CCCreate, tpm2.CCCreatePrimary, tpm2.CCCreateLoaded:
	default:
		return false
	}
	d.Buf(0xffff) // inSensitive
	template := d.Buf(0xffff)
	return d.RC() == tpm2.RCSuccess && bytes.Equal(crypt.Digest(s.hash, template), want)
}

// parametersHash is the digest that PolicyParameters binds (Part 3, 23.25): command code and parameters, no Names.
func parametersHash(c *call, alg tpm2.AlgID) []byte {
	cc := crypt.HandleName(tpm2.Handle(c.info.Code))
	return crypt.Digest(alg, cc, c.params)
}
