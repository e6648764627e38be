package engine

import (
	"bytes"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// An entity is whatever a handle can name: a PCR, an NV index, a hierarchy, an
// object, a session (Part 1, 13). These are the questions that sessions and
// policies ask of any of them.

// checkEntity verifies that a handle in range also names something that can be
// used (Part 3, 5.4). n counts handles from 0.
func (t *TPM) checkEntity(h tpm2.Handle, typ tpm2.HandleType, n int) tpm2.RC {
	switch h.Space() {
	case tpm2.HTPCR, tpm2.HTPermanent:
		if h.Space() == tpm2.HTPermanent && typ != tpm2.TPMIRhEnables && !t.permanentUsable(h) {
			return tpm2.RCHierarchy.Handle(n + 1)
		}
	case tpm2.HTNVIndex:
		x := t.index(h)
		if x == nil {
			return tpm2.RCHandle.Handle(n + 1)
		}
		if !t.indexVisible(x) {
			return tpm2.RCHandle.Handle(n + 1)
		}
	case tpm2.HTTransient:
		if h-tpm2.TransientFirst >= maxTransient { // no slot could have it
			return tpm2.RCValue.Handle(n + 1)
		}
		if t.object(h) == nil {
			return tpm2.RCReferenceH0 + tpm2.RC(n)
		}
	case tpm2.HTPersistent:
		o := t.object(h)
		if o == nil || !t.hierarchyEnabled(o.hierarchy) {
			return tpm2.RCHandle.Handle(n + 1)
		}
	case tpm2.HTHMACSession, tpm2.HTPolicySession:
		if t.session(h) == nil {
			return tpm2.RCReferenceH0 + tpm2.RC(n)
		}
	}
	return tpm2.RCSuccess
}

// permanentUsable: a disabled hierarchy's handle is no longer an entity.
func (t *TPM) permanentUsable(h tpm2.Handle) bool {
	switch h {
	case tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHPlatform:
		return t.hierarchyEnabled(h)
	}
	return true
}

// nameOf is the entity's Name (Part 1, 13).
func (t *TPM) nameOf(h tpm2.Handle) []byte {
	switch h.Space() {
	case tpm2.HTTransient, tpm2.HTPersistent:
		if o := t.object(h); o != nil {
			return o.name
		}
		return nil
	case tpm2.HTNVIndex:
		if x := t.index(h); x != nil {
			return x.name()
		}
		return nil
	}
	return crypt.HandleName(h)
}

// authValueOf is the entity's authorization value.
func (t *TPM) authValueOf(h tpm2.Handle) []byte {
	switch h {
	case tpm2.RHOwner:
		return t.n().ownerAuth
	case tpm2.RHEndorsement:
		return t.n().endorsementAuth
	case tpm2.RHLockout:
		return t.n().lockoutAuth
	case tpm2.RHPlatform:
		return t.ram.clear.platformAuth
	}
	switch h.Space() {
	case tpm2.HTTransient, tpm2.HTPersistent:
		if o := t.object(h); o != nil {
			return o.authValue()
		}
	case tpm2.HTNVIndex:
		if x := t.index(h); x != nil {
			return x.auth
		}
	case tpm2.HTPCR:
		if pcrAuthorized(h) {
			return t.ram.clear.pcrAuth
		}
	}
	return nil // other PCRs have no authValue; the NULL hierarchy's is empty
}

// policyOf is the entity's policy; alg is TPM_ALG_NULL when it has none.
func (t *TPM) policyOf(h tpm2.Handle) authPolicy {
	switch h {
	case tpm2.RHOwner:
		return t.n().ownerPolicy
	case tpm2.RHEndorsement:
		return t.n().endorsementPolicy
	case tpm2.RHLockout:
		return t.n().lockoutPolicy
	case tpm2.RHPlatform:
		return t.ram.clear.platformPolicy
	}
	switch h.Space() {
	case tpm2.HTTransient, tpm2.HTPersistent:
		if o := t.object(h); o != nil && o.seq == nil {
			return authPolicy{o.pub.NameAlg, o.pub.AuthPolicy}
		}
	case tpm2.HTNVIndex:
		if x := t.index(h); x != nil {
			return authPolicy{x.pub.NameAlg, x.pub.AuthPolicy}
		}
	case tpm2.HTPCR:
		if pcrAuthorized(h) {
			return t.n().pcrPolicy
		}
	}
	return noPolicy
}

// daProtected reports whether failures to authorize the entity count (Part 1, 16.8.2).
func (t *TPM) daProtected(h tpm2.Handle) bool {
	switch h.Space() {
	case tpm2.HTTransient, tpm2.HTPersistent:
		o := t.object(h)
		return o != nil && o.seq == nil && !o.pub.ObjectAttributes.Has(tpm2.NoDA)
	case tpm2.HTNVIndex:
		x := t.index(h)
		return x != nil && !x.pub.Attributes.Has(tpm2.NVNoDA)
	}
	return h == tpm2.RHLockout
}

// authValueAvailable reports whether the entity can be authorized with its
// authValue for this role and command (Part 1, 16.3).
func (t *TPM) authValueAvailable(h tpm2.Handle, role tpm2.Role, cc tpm2.CC) bool {
	switch h.Space() {
	case tpm2.HTTransient, tpm2.HTPersistent:
		o := t.object(h)
		switch {
		case o.seq != nil:
			return true
		case o.sens == nil: // no private area: there is no authValue to know
			return false
		}
		return o.pub.ObjectAttributes.Has(tpm2.UserWithAuth) || role == tpm2.RoleAdmin && !o.pub.ObjectAttributes.Has(tpm2.AdminWithPolicy)
	case tpm2.HTNVIndex:
		a := t.index(h).pub.Attributes
		if nvWrites(cc) {
			return a.Has(tpm2.NVAuthWrite)
		}
		return a.Has(tpm2.NVAuthRead)
	}
	return true
}

// policyAvailable reports whether the entity can be authorized with a policy for this role and command.
func (t *TPM) policyAvailable(h tpm2.Handle, role tpm2.Role, cc tpm2.CC) bool {
	p := t.policyOf(h)
	switch h.Space() {
	case tpm2.HTTransient, tpm2.HTPersistent:
		return t.object(h).seq == nil && t.object(h).sens != nil
	case tpm2.HTNVIndex:
		a := t.index(h).pub.Attributes
		if len(p.digest) == 0 {
			return false
		}
		switch {
		case role == tpm2.RoleAdmin: // nothing but a policy will do
			return true
		case nvWrites(cc):
			return a.Has(tpm2.NVPolicyWrite)
		}
		return a.Has(tpm2.NVPolicyRead)
	}
	return pcrAuthorized(h) || p.alg != tpm2.AlgNull && len(p.digest) != 0 // the digests of the group just do not match
}

// nvWrites are the commands that want an attribute for writing; all others want one for reading (Part 2, 13.4).
func nvWrites(cc tpm2.CC) bool {
	switch cc {
	case tpm2.CCNVWrite, tpm2.CCNVIncrement, tpm2.CCNVExtend, tpm2.CCNVSetBits, tpm2.CCNVWriteLock:
		return true
	}
	return false
}

// boundTo makes the value that a session remembers of the entity it is bound
// to. It has the authValue in it, so that a changed authValue unbinds (Part 1, 16.6.13).
func (t *TPM) boundTo(h tpm2.Handle) []byte {
	return append(append([]byte{}, t.nameOf(h)...), t.authValueOf(h)...)
}

// isBoundTo reports whether the session is bound to this entity as it is now.
func (t *TPM) isBoundTo(s *session, h tpm2.Handle) bool {
	return s.bound != nil && bytes.Equal(s.bound, t.boundTo(h))
}
