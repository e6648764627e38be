package engine

import (
	"bytes"
	"hash"
	"slices"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// object is a loaded object or, with seq set, a sequence object. Except for a
// sequence's state it never changes once it is made, so that slots, the
// persistent list and saved contexts may share one.
type object struct {
	handle    tpm2.Handle // of a persistent object; 0 for a transient one
	pub       tpm2.TPMTPublic
	sens      *tpm2.TPMTSensitive // nil when only the public area is loaded
	name, qn  []byte
	hierarchy tpm2.Handle
	external  bool // by TPM2_LoadExternal: no parent in this TPM
	clearing  bool // an ancestor has stClear, see endsAtRestart
	seq       *sequence

	key keyCache // private keys in the form of Go's packages, made when first used
}

// walkObject walks an object for state and contexts; a sequence's digest state
// must have been saved before, and be restored after.
func walkObject(c *coder, o *object) {
	num(c, &o.handle)
	num(c, &o.hierarchy)
	origin := uint8(bit(bit(0, 0, o.external), 1, o.clearing)) // what a flag was, for objects without such an ancestor
	if c.u8(&origin); origin > 3 {
		c.refuse()
	}
	o.external, o.clearing = origin&1 != 0, origin&2 != 0
	optional(c, &o.seq, walkSequence)
	if o.seq != nil || c.bad() {
		return
	}
	c.structure(&o.pub)
	optional(c, &o.sens, func(c *coder, s *tpm2.TPMTSensitive) { c.structure(s) })
	c.bytes(&o.qn, 66)
	if c.dec != nil && !c.bad() {
		if !o.wellFormed() {
			c.refuse()
			return
		}
		o.name = crypt.ObjectName(&o.pub)
	}
}

// wellFormed verifies that the parts of an object which was read from a state
// go together as far as other code takes for granted; private keys are checked
// when they are first used.
func (o *object) wellFormed() bool {
	if o.pub.NameAlg != tpm2.AlgNull && crypt.Hash(o.pub.NameAlg) == 0 ||
		checkParameters(o.pub.Type, &o.pub.Parameters) != tpm2.RCSuccess || checkPublicKey(&o.pub) != tpm2.RCSuccess {
		return false
	}
	if o.sens == nil {
		return true
	}
	return o.sens.SensitiveType == o.pub.Type &&
		(o.pub.Type != tpm2.AlgSymCipher || len(o.sens.Sensitive.Sym) == int(o.pub.Parameters.SymDetail.Sym.KeyBits.AES)/8) &&
		(!o.isStorage() || implementsAES(o.symmetric().KeyBits.AES))
}

// authValue is the object's authorization value; empty when its private area is not there.
func (o *object) authValue() []byte {
	switch {
	case o.seq != nil:
		return o.seq.auth
	case o.sens != nil:
		return o.sens.AuthValue
	}
	return nil
}

// endsAtRestart reports whether a TPM Restart ends the object's contexts, and
// whether it can be made persistent: its own stClear or an ancestor's (Part 1,
// 22.2.2; Part 2, 14.5; Part 3, 28.5.1).
func (o *object) endsAtRestart() bool {
	return o.clearing || o.pub.ObjectAttributes.Has(tpm2.STClear)
}

// isStorage reports whether the object is a storage parent: restricted, decrypt, not sign (Part 1, 22.1).
func (o *object) isStorage() bool {
	a := o.pub.ObjectAttributes
	return o.seq == nil && a.Has(tpm2.Restricted|tpm2.Decrypt) && !a.Has(tpm2.SignEncrypt) &&
		o.pub.NameAlg != tpm2.AlgNull && o.pub.Type != tpm2.AlgKeyedHash
}

// isDerivation reports whether the object is a derivation parent (Part 1, 25).
func (o *object) isDerivation() bool {
	a := o.pub.ObjectAttributes
	return o.seq == nil && a.Has(tpm2.Restricted|tpm2.Decrypt) && !a.Has(tpm2.SignEncrypt) && o.pub.Type == tpm2.AlgKeyedHash
}

// symmetric is the symmetric algorithm with which a storage key protects its children.
func (o *object) symmetric() tpm2.TPMTSymDefObject {
	switch o.pub.Type {
	case tpm2.AlgRSA:
		return o.pub.Parameters.RSADetail.Symmetric
	case tpm2.AlgECC:
		return o.pub.Parameters.ECCDetail.Symmetric
	case tpm2.AlgMLKEM:
		return o.pub.Parameters.MLKEMDetail.Symmetric
	case tpm2.AlgSymCipher:
		return o.pub.Parameters.SymDetail.Sym
	}
	return tpm2.TPMTSymDefObject{Algorithm: tpm2.AlgNull}
}

// object finds the object of a handle that the pipeline has checked, or nil.
func (t *TPM) object(h tpm2.Handle) *object {
	switch h.Space() {
	case tpm2.HTTransient:
		if i := h - tpm2.TransientFirst; i < maxTransient {
			return t.ram.objects[i]
		}
	case tpm2.HTPersistent:
		for _, o := range t.n().persistent {
			if o.handle == h {
				return o
			}
		}
	}
	return nil
}

// addObject puts an object into a free slot.
func (t *TPM) addObject(o *object) (tpm2.Handle, tpm2.RC) {
	for i, slot := range t.ram.objects {
		if slot == nil {
			t.ram.objects[i] = o
			return tpm2.TransientFirst + tpm2.Handle(i), tpm2.RCSuccess
		}
	}
	return 0, tpm2.RCObjectMemory
}

// slotFree reports whether addObject would succeed; commands ask before long work.
func (t *TPM) slotFree() bool {
	for _, o := range t.ram.objects {
		if o == nil {
			return true
		}
	}
	return false
}

// flushObject takes an object out of its slot.
func (t *TPM) flushObject(h tpm2.Handle) { t.ram.objects[h-tpm2.TransientFirst] = nil }

// flushHierarchy takes all objects of a hierarchy out of their slots.
func (t *TPM) flushHierarchy(h tpm2.Handle) {
	for i, o := range t.ram.objects {
		if o != nil && o.hierarchy == h {
			t.ram.objects[i] = nil
		}
	}
}

// hierarchyEnabled reports whether the hierarchy may be used.
func (t *TPM) hierarchyEnabled(h tpm2.Handle) bool {
	switch h {
	case tpm2.RHOwner:
		return t.ram.clear.shEnable
	case tpm2.RHEndorsement:
		return t.ram.clear.ehEnable
	case tpm2.RHPlatform:
		return t.ram.clear.phEnable
	}
	return h == tpm2.RHNull
}

// proof is the secret that ties tickets and contexts to a hierarchy (Part 1, 11.4).
func (t *TPM) proof(h tpm2.Handle) []byte {
	switch h {
	case tpm2.RHOwner:
		return t.n().shProof
	case tpm2.RHEndorsement:
		return t.n().ehProof
	case tpm2.RHPlatform:
		return t.n().phProof
	}
	return t.ram.reset.nullProof
}

// proofMAC starts an HMAC with a hierarchy's proof, whose key was made ready when
// it was first used. It is the caller's until the next one of that hierarchy.
func (t *TPM) proofMAC(h tpm2.Handle) hash.Hash {
	proof := t.proof(h)
	m := &t.macs[slices.Index([]tpm2.Handle{tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHPlatform}, h)+1]
	if len(m.proof) == 0 || len(proof) == 0 || &m.proof[0] != &proof[0] { // a proof is replaced, never changed
		m.proof, m.mac = proof, crypt.NewHMAC(ticketHash, proof)
	}
	m.mac.Reset()
	return m.mac
}

// primarySeed is the seed of a hierarchy (Part 1, 11.3).
func (t *TPM) primarySeed(h tpm2.Handle) seed {
	switch h {
	case tpm2.RHOwner:
		return t.n().sp
	case tpm2.RHEndorsement:
		return t.n().ep
	case tpm2.RHPlatform:
		return t.n().pp
	}
	return t.ram.reset.nullSeed
}

// newObject completes an object under a parent (nil for a primary): Name and Qualified Name (Part 1, 23.5).
func newObject(pub tpm2.TPMTPublic, sens *tpm2.TPMTSensitive, hierarchy tpm2.Handle, parent *object) *object {
	o := &object{pub: clonePublic(&pub), sens: cloneSensitive(sens), hierarchy: hierarchy, clearing: parent != nil && parent.endsAtRestart()}
	o.name = crypt.ObjectName(&o.pub)
	switch {
	case o.pub.NameAlg == tpm2.AlgNull:
	case parent != nil:
		o.qn = qualify(o, parent.qn)
	default:
		o.qn = qualify(o, crypt.HandleName(hierarchy))
	}
	return o
}

func qualify(o *object, parentQN []byte) []byte {
	out := []byte{byte(o.pub.NameAlg >> 8), byte(o.pub.NameAlg)}
	return append(out, crypt.Digest(o.pub.NameAlg, parentQN, o.name)...)
}

// clonePublic copies a public area, with the buffers that decoding left in the command.
func clonePublic(p *tpm2.TPMTPublic) tpm2.TPMTPublic {
	c := *p
	u := &c.Unique
	for _, b := range []*[]byte{&c.AuthPolicy, &u.KeyedHash, &u.Sym, &u.RSA, &u.ECC.X, &u.ECC.Y, &u.MLDSA, &u.MLKEM} {
		*b = bytes.Clone(*b)
	}
	return c
}

func cloneSensitive(s *tpm2.TPMTSensitive) *tpm2.TPMTSensitive {
	if s == nil {
		return nil
	}
	c := *s
	u := &c.Sensitive
	for _, b := range []*[]byte{&c.AuthValue, &c.SeedValue, &u.RSA, &u.ECC, &u.Bits, &u.Sym, &u.MLDSA, &u.MLKEM} {
		*b = bytes.Clone(*b)
	}
	return &c
}
