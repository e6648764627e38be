package engine

import (
	"encoding/binary"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// paramKey is the key of a session's parameter encryption: sessionKey, and the
// authValue of what the session authorizes (Part 1, 18.1).
func (t *TPM) paramKey(a *auth) []byte {
	key := a.sess.key
	if a.role != tpm2.RoleNone && !a.ended {
		key = append(append([]byte{}, key...), t.authValueOf(a.entity)...)
	}
	return key
}

// firstBuffer is the content of the sized buffer at the front of a parameter area.
func firstBuffer(params []byte) ([]byte, tpm2.RC) {
	if len(params) < 2 {
		return nil, tpm2.RCInsufficient
	}
	n := int(binary.BigEndian.Uint16(params))
	if n > len(params)-2 { // CVE-2023-1017, CVE-2023-1018: never past the end
		return nil, tpm2.RCSize
	}
	return params[2 : 2+n], tpm2.RCSuccess
}

// decryptParameter decrypts the first parameter in place, when a session asks for it (Part 3, 5.7).
func (t *TPM) decryptParameter(c *call) tpm2.RC {
	if c.decryptBy < 0 {
		return tpm2.RCSuccess
	}
	a := &c.auths[c.decryptBy]
	c.params = append([]byte(nil), c.params...) // the caller's bytes stay as they are
	buf, rc := firstBuffer(c.params)
	if rc != tpm2.RCSuccess {
		return rc.Param(1)
	}
	t.cryptParameter(a, buf, a.nonce, a.sess.nonceTPM, crypt.CFBDecrypt)
	return tpm2.RCSuccess
}

// cryptParameter runs a session's cipher over a buffer; newer and older are the nonces (Part 1, 18.2 and 18.3).
func (t *TPM) cryptParameter(a *auth, buf, newer, older []byte, cfb func(key, iv, data []byte) []byte) {
	s := a.sess
	key := t.paramKey(a)
	if s.symmetric.Algorithm == tpm2.AlgXOR {
		crypt.XORObfuscate(s.hash, key, newer, older, buf) // the session's hash, whatever the cipher's says (Part 1, 18.2)
		return
	}
	n := int(s.symmetric.KeyBits.AES) / 8
	km := crypt.KDFa(s.hash, key, "CFB", newer, older, (n+16)*8)
	cfb(km[:n], km[n:], buf)
}

// respondSessions rolls the nonces, encrypts the first parameter, and appends
// the response's authorization area (Part 3, 5.9; Part 1, 16.6.3 and 18).
func (t *TPM) respondSessions(c *call, params int) {
	for i := range c.auths {
		if s := c.auths[i].sess; s != nil {
			s.nonceTPM = t.rng.bytes(len(s.nonceTPM))
		}
	}
	e := &t.enc
	if c.encryptBy >= 0 {
		a := &c.auths[c.encryptBy]
		if buf, rc := firstBuffer(e.Out()[params:]); rc == tpm2.RCSuccess {
			t.cryptParameter(a, buf, a.sess.nonceTPM, a.nonce, crypt.CFBEncrypt)
		}
	}
	area := e.Out()[params:]
	t.auditSession(c, area)
	for i := range c.auths {
		a := &c.auths[i]
		if a.sess == nil {
			e.Buf(nil)
			e.U8(uint8(tpm2.ContinueSession)) // (Part 1, 16.4)
			e.Buf(nil)
			continue
		}
		attr := a.attr &^ tpm2.AuditExclusive // the others are echoed (Part 1, 15.6)
		if i == c.auditBy && t.ram.exclusive == a.handle {
			attr |= tpm2.AuditExclusive
		}
		e.Buf(a.sess.nonceTPM)
		e.U8(uint8(attr))
		key := t.hmacKey(a)
		if len(a.hmac) == 0 && len(key) == 0 || a.sess.isPolicy() && a.sess.policy.password {
			e.Buf(nil)
		} else {
			m := crypt.NewHMAC(a.sess.hash, key)
			m.Write(rpHash(a.sess.hash, c.info.Code, area))
			m.Write(a.sess.nonceTPM)
			m.Write(a.nonce)
			m.Write([]byte{byte(attr)})
			e.Buf(m.Sum(nil))
		}
	}
	for i := range c.auths {
		a := &c.auths[i]
		switch {
		case a.sess == nil:
		case !a.attr.Has(tpm2.ContinueSession):
			t.flushSession(a.handle)
		case a.role != tpm2.RoleNone && a.sess.isPolicy():
			t.resetPolicy(a.sess) // its promises were for one use (Part 1, 16.7.4)
		}
	}
}

// auditSession extends the digest of the session that audits (Part 1, 30.3).
func (t *TPM) auditSession(c *call, area []byte) {
	if c.auditBy < 0 {
		t.ram.exclusive = tpm2.RHNull
		return
	}
	a := &c.auths[c.auditBy]
	s := a.sess
	if !s.audit || a.attr.Has(tpm2.AuditReset) {
		s.audit = true
		s.bound, s.boundDA, s.boundLock = nil, false, false // an audit session is bound to nothing (16.6.12)
		s.auditDigest = make([]byte, s.hash.DigestSize())
		t.ram.exclusive = a.handle
	} else if t.ram.exclusive != a.handle {
		t.ram.exclusive = tpm2.RHNull
	}
	s.auditDigest = crypt.Digest(s.hash, s.auditDigest, c.auditCp, rpHash(s.hash, c.info.Code, area))
}
