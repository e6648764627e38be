package libtpms

import (
	"errors"
	"fmt"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// Object is OBJECT: a loaded or persistent key, or with Sequence set a HASH_OBJECT.
type Object struct {
	Handle        tpm2.Handle // of a persistent one
	Attributes    Attributes
	Public        tpm2.TPMTPublic
	Sensitive     *tpm2.TPMTSensitive // nil when only the public area is loaded
	QualifiedName []byte
	Name          []byte
	Sequence      *Sequence
}

// Attributes is OBJECT_ATTRIBUTES, of a little-endian host.
type Attributes uint32

// The attributes that say something that the rest of an object does not.
const (
	PublicOnly Attributes = 1 << iota
	Endorsement
	Platform
	Owner
	Evict
	Primary
	Temporary
	StClear
	HMACSequence
	HashSequence
	EventSequence
	TicketSafe
	FirstBlock
	isParent
	privateExp
	occupied
	derivation
	External
)

// Has reports whether all of b are set.
func (a Attributes) Has(b Attributes) bool { return a&b == b }

// Hierarchy is that of the object.
func (a Attributes) Hierarchy() tpm2.Handle {
	switch {
	case a.Has(Endorsement):
		return tpm2.RHEndorsement
	case a.Has(Platform):
		return tpm2.RHPlatform
	case a.Has(Owner):
		return tpm2.RHOwner
	}
	return tpm2.RHNull
}

// Sequence is a hash in progress.
type Sequence struct {
	Auth   []byte
	Hashes []Hash // several in an event sequence
	OPad   []byte // of an HMAC: its key combined with the outer pad, a block long
}

// Hash is the state of one hash function (FIPS 180-4): the chaining value, what
// of the message waits for a block to be full, and the length of the message so far.
type Hash struct {
	Alg     tpm2.AlgID
	Words   []uint64
	Pending []byte
	Octets  uint64
}

var (
	partAny         = part{"ANY_OBJECT", 0xfe9a3974, 2}
	partObject      = part{"OBJECT", 0x75be73af, 4}
	partHashObject  = part{"HASH_OBJECT", 0xb874fe38, 3}
	partHashState   = part{"HASH_STATE", 0x562878a2, 2}
	partAnyHash     = part{"ANY_HASH_STATE", 0x349d494b, 2}
	partSHA1        = part{"SHA1", 0x19d46f50, 2}
	partSHA256      = part{"SHA256", 0x6ea059d0, 2}
	partSHA384      = part{"SHA384", 0x14814b08, 2}
	partSHA512      = part{"SHA512", 0x269e8ae0, 2}
	hashSequences   = HMACSequence | HashSequence | EventSequence
	knownAttributes = External<<1 - 1
)

// anyObject reads a slot for objects; nil is an empty one. what names it in errors.
func anyObject(r *reader, what string) *Object {
	version := r.open(partAny)
	o := &Object{Attributes: Attributes(r.u32())}
	switch {
	case o.Attributes&^knownAttributes != 0:
		r.fail(fmt.Errorf("%s has attributes 0x%x: is it of a big-endian host?", what, uint32(o.Attributes)))
	case !o.Attributes.Has(occupied):
		o = nil
	case o.Attributes&hashSequences != 0:
		o.sequence(r)
	default:
		o.key(r, what)
	}
	r.rest(version >= 2)
	if r.err != nil {
		return nil
	}
	return o
}

func (o *Object) key(r *reader, what string) {
	version := r.open(partObject)
	r.structure(&o.Public, what)
	sensitive := tpm2.TPMTSensitive{SensitiveType: r.alg(), AuthValue: r.sized(maxDigest), SeedValue: r.sized(maxDigest)}
	private := func() []byte { return r.sized(maxPrivate) }
	switch u := &sensitive.Sensitive; sensitive.SensitiveType {
	case tpm2.AlgRSA:
		u.RSA = private()
	case tpm2.AlgECC:
		u.ECC = private()
	case tpm2.AlgKeyedHash:
		u.Bits = private()
	case tpm2.AlgSymCipher:
		u.Sym = private()
	case tpm2.AlgError: // there is only a public area
	default:
		r.fail(fmt.Errorf("%s has a private area of type 0x%x", what, uint16(sensitive.SensitiveType)))
	}
	if !o.Attributes.Has(PublicOnly) && r.err == nil {
		if sensitive.SensitiveType != o.Public.Type {
			r.fail(fmt.Errorf("the private area of %s is of another type than its public area", what))
		}
		o.Sensitive = &sensitive
	}
	r.block() // what can be computed from an RSA key's prime
	o.QualifiedName = r.sized(maxName)
	r.u32() // evictHandle; the entry of a persistent object says it too
	o.Name = r.sized(maxName)
	r.rest(version >= 2) // a compatibility level, and the hierarchy, which is in the attributes as well
}

func (o *Object) sequence(r *reader) {
	version := r.open(partHashObject)
	r.alg() // TPM_ALG_NULL or the like
	r.alg()
	r.u32()
	s := &Sequence{Auth: r.sized(maxDigest)}
	o.Sequence = s
	switch {
	case o.Attributes.Has(HMACSequence):
		s.Hashes = []Hash{hashState(r)}
		s.OPad = r.sized(128)
	case o.Attributes.Has(EventSequence) && version < 3:
		r.fail(errors.New("it has an event sequence in progress, which libtpms before 0.7 did not write whole"))
	default:
		n := int(r.u16())
		if n > maxPCRAlgs {
			r.fail(fmt.Errorf("a sequence has %d hashes", n))
		}
		for range min(n, maxPCRAlgs) {
			// A hash sequence uses the first place only; the others hold what was there before.
			if h := hashState(r); h.Alg != tpm2.AlgNull && (o.Attributes.Has(EventSequence) || len(s.Hashes) == 0) {
				s.Hashes = append(s.Hashes, h)
			}
		}
	}
	r.rest(version >= 2)
}

func hashState(r *reader) (h Hash) {
	version := r.open(partHashState)
	r.u8() // its type
	h.Alg = r.alg()
	v := r.open(partAnyHash)
	switch h.Alg {
	case tpm2.AlgSHA1:
		h.sha(r, partSHA1, 5, 4, 64)
	case tpm2.AlgSHA256:
		h.sha(r, partSHA256, 8, 4, 64)
	case tpm2.AlgSHA384:
		h.sha(r, partSHA384, 8, 8, 128)
	case tpm2.AlgSHA512:
		h.sha(r, partSHA512, 8, 8, 128)
	default: // nothing is written
		h.Alg = tpm2.AlgNull
	}
	r.rest(v >= 2)
	r.rest(version >= 2)
	return h
}

// sha reads what OpenSSL keeps of a hash of the SHA family.
func (h *Hash) sha(r *reader, p part, words, wordSize, block int) {
	word := func() uint64 {
		if wordSize == 8 {
			return r.u64()
		}
		return uint64(r.u32())
	}
	version := r.open(p)
	if p != partSHA1 {
		if n := int(r.u16()); n != words && r.err == nil {
			r.fail(fmt.Errorf("%s has %d words", p.name, n))
		}
	}
	for range words {
		h.Words = append(h.Words, word())
	}
	low, high := word(), word() // of the length in bits
	h.Octets = low >> 3
	if wordSize == 4 {
		h.Octets |= high << 29
	}
	pending := r.sized(block)
	n := int(r.u32())
	if p != partSHA1 {
		r.u32() // the length of the digest
	}
	r.rest(version >= 2)
	if r.err == nil && (len(pending) != block || n >= block || uint64(n) != h.Octets%uint64(block)) {
		r.fail(fmt.Errorf("%s has %d of %d octets pending after %d", p.name, n, len(pending), h.Octets))
		return
	}
	if r.err == nil {
		h.Pending = pending[:n]
	}
}
