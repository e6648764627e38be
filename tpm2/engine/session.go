package engine

import (
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// session is a loaded session (Part 1, 16.6 and 16.7).
type session struct {
	handle    tpm2.Handle
	kind      tpm2.SE // SEHMAC, SEPolicy or SETrial
	hash      tpm2.AlgID
	symmetric tpm2.TPMTSymDef
	key       []byte
	nonceTPM  []byte

	bound     []byte // Name and authValue of the bound entity, see boundTo; nil when unbound
	boundDA   bool   // the bound entity is under dictionary attack protection
	boundLock bool   // … or it is lockoutAuth

	audit       bool
	auditDigest []byte

	policy policyState
	start  uint64 // TPM time at its creation
}

// policyState is what a policy session has promised so far (Part 1, 16.7).
type policyState struct {
	digest  []byte
	code    tpm2.CC // 0: any
	slot    slotKind
	hash    []byte // cpHash, nameHash, templateHash or parameter hash, as slot says
	timeout uint64 // TPM time when it ends; 0: never
	epoch   uint32 // restartCount when the policy began: Time starts again with each

	locality     uint8 // TPMA_LOCALITY; 0: any
	pcrCounter   uint32
	pcrChecked   bool
	authValue    bool // PolicyAuthValue
	password     bool // PolicyPassword
	presence     bool // PolicyPhysicalPresence
	checkWritten bool // PolicyNvWritten …
	written      bool // … and what it wants
}

// slotKind says what the one hash that a policy can hold is over.
type slotKind uint8

const (
	slotNone slotKind = iota
	slotCpHash
	slotNameHash
	slotTemplate
	slotParameters
)

func walkSession(c *coder, s *session) {
	num(c, &s.handle)
	num(c, &s.kind)
	num(c, &s.hash)
	c.structure(&s.symmetric)
	c.bytes(&s.key, maxDigest)
	c.bytes(&s.nonceTPM, maxDigest)
	c.bytes(&s.bound, 2*maxDigest+2)
	for _, f := range []*bool{&s.boundDA, &s.boundLock, &s.audit} {
		c.flag(f)
	}
	c.bytes(&s.auditDigest, maxDigest)
	c.u64(&s.start)
	p := &s.policy
	c.bytes(&p.digest, maxDigest)
	num(c, &p.code)
	num(c, &p.slot)
	c.bytes(&p.hash, maxDigest)
	c.u64(&p.timeout)
	c.u32(&p.epoch)
	c.u8(&p.locality)
	c.u32(&p.pcrCounter)
	for _, f := range []*bool{&p.pcrChecked, &p.authValue, &p.password, &p.presence, &p.checkWritten, &p.written} {
		c.flag(f)
	}
	if !c.bad() && (crypt.Hash(s.hash) == 0 || s.kind > tpm2.SETrial ||
		s.handle.Space() != tpm2.HTHMACSession && s.handle.Space() != tpm2.HTPolicySession ||
		(s.kind == tpm2.SEHMAC) != (s.handle.Space() == tpm2.HTHMACSession)) {
		c.refuse()
	}
}

// isPolicy reports whether the session can satisfy a policy; a trial session cannot.
func (s *session) isPolicy() bool { return s.kind == tpm2.SEPolicy }

// resetPolicy begins the policy anew, as use for an authorization does.
func (t *TPM) resetPolicy(s *session) {
	s.policy = policyState{digest: make([]byte, s.hash.DigestSize()), epoch: t.n().restartCount}
	s.start = t.time()
}

// sameTime reports whether Time has run on since the policy began. A session
// whose context was kept over a TPM Resume or TPM Restart has times of another
// epoch in it (Part 1, 16.7.12).
func (t *TPM) sameTime(s *session) bool { return s.policy.epoch == t.n().restartCount }

// session finds a loaded session by its handle, or nil.
func (t *TPM) session(h tpm2.Handle) *session {
	if h.Space() != tpm2.HTHMACSession && h.Space() != tpm2.HTPolicySession {
		return nil
	}
	if i := h & 0xffffff; i < maxSessions {
		if s := t.ram.sessions[i]; s != nil && s.handle == h {
			return s
		}
	}
	return nil
}

// freeSession finds a number that no session has, loaded or saved.
func (t *TPM) freeSession() (int, tpm2.RC) {
	for i := range t.ram.sessions {
		if t.ram.sessions[i] == nil && t.ram.reset.savedAt[i] == 0 {
			return i, tpm2.RCSuccess
		}
	}
	return 0, tpm2.RCSessionHandles
}

// flushSession ends a loaded session.
func (t *TPM) flushSession(h tpm2.Handle) {
	t.ram.sessions[h&0xffffff] = nil
	if t.ram.exclusive == h {
		t.ram.exclusive = tpm2.RHNull
	}
}
