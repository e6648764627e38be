package engine

import (
	"crypto/subtle"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// auth is one entry of a command's authorization area.
type auth struct {
	handle tpm2.Handle // a session, or RSPW
	sess   *session    // nil for RSPW
	nonce  []byte      // nonceCaller
	attr   tpm2.SessionAttributes
	hmac   []byte
	entity tpm2.Handle // what it authorizes …
	role   tpm2.Role   // … and for what; RoleNone: nothing
	keyed  bool        // the authValue is in the session's HMAC key, for command and response alike
	ended  bool        // the session, or the entity, is gone after the command
}

// readSessions takes the authorization area apart (Part 3, 5.5).
func (t *TPM) readSessions(c *call, tag tpm2.ST, d *tpm2.Decoder) tpm2.RC {
	if tag == tpm2.STNoSessions {
		c.params = d.Rest()
		if c.info.Auths() > 0 {
			return tpm2.RCAuthMissing
		}
		return tpm2.RCSuccess
	}
	if c.info.NoSessions {
		return tpm2.RCAuthContext
	}
	size := d.U32()
	// An entry is at least handle, two empty buffers and attributes.
	if d.RC() != tpm2.RCSuccess || size < 9 || uint64(size) > uint64(len(d.Rest())) {
		return tpm2.RCAuthSize
	}
	area := d.Bytes(int(size))
	c.params = d.Rest()
	c.auths = c.authMem[:0]
	d.Reset(area)
	for len(d.Rest()) > 0 {
		n := len(c.auths)
		if n == maxAuths {
			return tpm2.RCAuthSize
		}
		a := auth{handle: tpm2.Handle(d.U32())}
		a.nonce = d.Buf(maxDigest)
		attr := tpm2.SessionAttributes(d.U8())
		a.attr = attr
		a.hmac = d.Buf(maxDigest)
		switch {
		case d.RC() != tpm2.RCSuccess:
			return d.RC().Session(n + 1)
		case attr&0x18 != 0:
			return tpm2.RCReservedBits.Session(n + 1)
		}
		switch a.handle.Space() {
		case tpm2.HTHMACSession, tpm2.HTPolicySession:
			if a.sess = t.session(a.handle); a.sess == nil {
				return tpm2.RCReferenceS0 + tpm2.RC(n)
			}
		default:
			if a.handle != tpm2.RSPW {
				return tpm2.RCValue.Session(n + 1)
			}
		}
		c.auths = append(c.auths, a)
	}
	if len(c.auths) < c.info.Auths() {
		return tpm2.RCAuthMissing
	}
	n := 0
	for i, h := range c.info.Handles {
		if h.Role != tpm2.RoleNone {
			c.auths[n].entity, c.auths[n].role = c.handles[i], h.Role
			n++
		}
	}
	return t.checkUses(c)
}

// checkUses verifies that each session is used for what it can be used for (Part 1, 16.6.5 to 16.6.12).
func (t *TPM) checkUses(c *call) tpm2.RC {
	const forParams = tpm2.SessionDecrypt | tpm2.SessionEncrypt | tpm2.SessionAudit
	for i := range c.auths {
		a := &c.auths[i]
		if a.sess == nil {
			switch {
			case a.role == tpm2.RoleNone:
				return tpm2.RCHandle.Session(i + 1)
			case a.attr&^tpm2.ContinueSession != 0:
				return tpm2.RCAttributes.Session(i + 1)
			case len(a.nonce) != 0:
				return tpm2.RCNonce.Session(i + 1)
			}
			continue
		}
		for j := range i { // a session may appear once (Part 1, 16.6.3)
			if c.auths[j].handle == a.handle {
				return tpm2.RCHandle.Session(i + 1)
			}
		}
		switch {
		case a.role == tpm2.RoleNone && a.attr&forParams == 0:
			return tpm2.RCAttributes.Session(i + 1)
		case a.attr&(tpm2.AuditExclusive|tpm2.AuditReset) != 0 && !a.attr.Has(tpm2.SessionAudit):
			return tpm2.RCAttributes.Session(i + 1)
		case a.role != tpm2.RoleNone && a.sess.kind == tpm2.SETrial:
			return tpm2.RCAttributes.Session(i + 1)
		}
		if a.attr.Has(tpm2.SessionAudit) {
			if c.auditBy >= 0 || a.sess.kind != tpm2.SEHMAC {
				return tpm2.RCAttributes.Session(i + 1)
			}
			if a.attr.Has(tpm2.AuditExclusive) && a.sess.audit && !a.attr.Has(tpm2.AuditReset) && t.ram.exclusive != a.handle {
				return tpm2.RCExclusive
			}
			c.auditBy = i
		}
		if a.attr.Has(tpm2.SessionDecrypt) {
			if c.decryptBy >= 0 || !c.info.Decrypt {
				return tpm2.RCAttributes.Session(i + 1)
			}
			if a.sess.symmetric.Algorithm == tpm2.AlgNull {
				return tpm2.RCSymmetric.Session(i + 1)
			}
			c.decryptBy = i
		}
		if a.attr.Has(tpm2.SessionEncrypt) {
			if c.encryptBy >= 0 || !c.info.Encrypt {
				return tpm2.RCAttributes.Session(i + 1)
			}
			if a.sess.symmetric.Algorithm == tpm2.AlgNull {
				return tpm2.RCSymmetric.Session(i + 1)
			}
			c.encryptBy = i
		}
	}
	return tpm2.RCSuccess
}

// authorize checks every session of the command (Part 3, 5.6). What fails under
// dictionary attack protection is counted before it is answered.
func (t *TPM) authorize(c *call) tpm2.RC {
	for i := range c.auths {
		if rc := t.authorizeOne(c, i); rc != tpm2.RCSuccess {
			return rc
		}
	}
	if c.auditBy >= 0 { // now, while Names and parameters are as they came
		c.auditCp = t.cpHash(c, c.auths[c.auditBy].sess.hash)
	}
	if t.failed == nil && t.n().audits(c.info.Code) { // not in failure mode (Part 3, 21.1)
		c.commandCp = t.cpHash(c, t.n().auditHash)
	}
	return tpm2.RCSuccess
}

func (t *TPM) authorizeOne(c *call, i int) tpm2.RC {
	a := &c.auths[i]
	// Also where the session authorizes nothing: its HMAC tells whether the
	// authValue in its key was guessed (Part 1, 16.8.7).
	if a.sess != nil && a.sess.boundDA && t.lockedOut(a.sess.boundLock) {
		return tpm2.RCLockout
	}
	if a.role == tpm2.RoleNone {
		return t.checkHMAC(c, i)
	}
	if rc := t.checkPresence(c, a); rc != tpm2.RCSuccess {
		return rc.Session(i + 1)
	}
	policy := a.sess != nil && a.sess.isPolicy()
	usesAuth := !policy || a.sess.policy.authValue || a.sess.policy.password

	if usesAuth && t.daProtected(a.entity) && t.lockedOut(a.entity == tpm2.RHLockout) {
		return tpm2.RCLockout
	}
	if !policy && t.policyRequired(c, a) {
		return tpm2.RCAuthType
	}
	if usesAuth && t.pinSpent(a.entity) {
		return tpm2.RCAuthUnavailable
	}
	if policy {
		if !t.policyAvailable(a.entity, a.role, c.info.Code) {
			return tpm2.RCAuthUnavailable
		}
		if c.info.Code == tpm2.CCPolicySecret && !usesAuth { // it is about knowing the authValue (Part 3, 23.4.1)
			return tpm2.RCMode.Session(i + 1)
		}
		if rc := t.checkPolicy(c, a); rc != tpm2.RCSuccess {
			return rc.Session(i + 1)
		}
	} else if !t.authValueAvailable(a.entity, a.role, c.info.Code) {
		return tpm2.RCAuthUnavailable
	}

	switch {
	case a.sess == nil:
		if rc := t.checkPassword(a, i); rc != tpm2.RCSuccess {
			return rc
		}
	case policy && a.sess.policy.password:
		if rc := t.checkPassword(a, i); rc != tpm2.RCSuccess {
			return rc
		}
	default:
		a.keyed = policy && a.sess.policy.authValue || !policy && !t.isBoundTo(a.sess, a.entity)
		if rc := t.checkHMAC(c, i); rc != tpm2.RCSuccess {
			return rc
		}
	}
	if usesAuth {
		t.afterPIN(a.entity, true)
	}
	return tpm2.RCSuccess
}

// policyRequired: DUP always, ADMIN when adminWithPolicy says so or the entity is
// an NV index, and any role for a PCR that was given a policy (Part 1, 16.2).
func (t *TPM) policyRequired(c *call, a *auth) bool {
	switch a.role {
	case tpm2.RoleDup:
		return true
	case tpm2.RoleAdmin:
		if o := t.object(a.entity); o != nil {
			return o.pub.ObjectAttributes.Has(tpm2.AdminWithPolicy)
		}
		return true
	}
	return a.entity.Space() == tpm2.HTPCR && t.policyOf(a.entity).alg != tpm2.AlgNull
}

// checkPassword compares a plain authValue (Part 1, 16.4).
func (t *TPM) checkPassword(a *auth, i int) tpm2.RC {
	want := t.authValueOf(a.entity)
	if subtle.ConstantTimeCompare(crypt.Trim(a.hmac), want) == 1 {
		return tpm2.RCSuccess
	}
	return t.authFailed(a, i)
}

// authFailed counts the failure where it must be, and answers accordingly. What
// the entity counts is a wrong authValue: an HMAC under the session's key alone
// tells nothing about it (Part 1, 16.8.1).
func (t *TPM) authFailed(a *auth, i int) tpm2.RC {
	entity := a.entity
	guess := a.sess == nil || a.keyed || a.sess.isPolicy() && a.sess.policy.password
	protected := a.role != tpm2.RoleNone && guess && t.daProtected(entity)
	lockout := protected && entity == tpm2.RHLockout
	if a.sess != nil && a.sess.boundDA {
		protected, lockout = true, lockout || a.sess.boundLock
	}
	if !protected {
		if t.tx = nil; a.role != tpm2.RoleNone && guess { // a PIN index counts on its own
			t.afterPIN(entity, false)
		}
		if rc := t.commitFailure(); rc != tpm2.RCSuccess {
			return rc
		}
		return tpm2.RCBadAuth.Session(i + 1)
	}
	if rc := t.countFailure(lockout); rc != tpm2.RCSuccess {
		return rc
	}
	return tpm2.RCAuthFail.Session(i + 1)
}

// hmacKey is sessionKey || authValue, the latter as Part 1, 16.6.5 wants it:
// whether it is in the key is settled with the command, its value is the current one.
func (t *TPM) hmacKey(a *auth) []byte {
	key := a.sess.key
	if a.keyed && !a.ended {
		key = append(append([]byte{}, key...), t.authValueOf(a.entity)...)
	}
	return key
}

// checkHMAC verifies a session's HMAC over the command (Part 1, 16.6.3.4).
func (t *TPM) checkHMAC(c *call, i int) tpm2.RC {
	a := &c.auths[i]
	key := t.hmacKey(a)
	if len(key) == 0 && len(a.hmac) == 0 {
		return tpm2.RCSuccess
	}
	m := crypt.NewHMAC(a.sess.hash, key)
	m.Write(t.cpHash(c, a.sess.hash))
	m.Write(a.nonce)
	m.Write(a.sess.nonceTPM)
	if i == 0 && a.role != tpm2.RoleNone { // the first authorization speaks for the sessions that encrypt, once each
		if c.decryptBy > 0 {
			m.Write(c.auths[c.decryptBy].sess.nonceTPM)
		}
		if c.encryptBy > 0 && c.encryptBy != c.decryptBy {
			m.Write(c.auths[c.encryptBy].sess.nonceTPM)
		}
	}
	m.Write([]byte{byte(a.attr)})
	if subtle.ConstantTimeCompare(m.Sum(nil), a.hmac) == 1 {
		return tpm2.RCSuccess
	}
	return t.authFailed(a, i)
}
