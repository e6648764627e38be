package engine

import (
	"crypto/rand"
	"crypto/rsa"
	"io"
	"math/big"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// origin is where generate takes an object's secrets from.
type origin struct {
	octets deriver
	primes func(bits int) (p, q *big.Int) // nil when it has none; unset where no RSA key is made
	// parentUnique makes the unique field of a symmetric parent; unset: symmetricUnique.
	parentUnique func(tpm2.AlgID, *tpm2.TPMTSensitive) []byte
}

// random is the origin of ordinary objects, which get their RSA keys from crypto/rsa.
func (t *TPM) random() origin {
	octets := func(string) io.Reader { return rngReader{&t.rng} } // every purpose draws on the generator
	return origin{octets: octets, primes: func(bits int) (p, q *big.Int) {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			return nil, nil
		}
		return k.Primes[0], k.Primes[1]
	}}
}

// generate makes the sensitive area of an object from a checked template, and
// fills in its unique field (Part 1, 24.6; Part 3, 12.1). data is what the
// caller supplies, or empty.
func generate(pub *tpm2.TPMTPublic, o origin, auth, data []byte) (*tpm2.TPMTSensitive, tpm2.RC) {
	from := o.octets
	alg := pub.NameAlg
	s := &tpm2.TPMTSensitive{SensitiveType: pub.Type, AuthValue: auth}
	a := pub.ObjectAttributes
	storage := a.Has(tpm2.Restricted | tpm2.Decrypt)
	switch pub.Type {
	case tpm2.AlgRSA:
		bits := int(pub.Parameters.RSADetail.KeyBits)
		p, q := o.primes(bits)
		if p == nil {
			return nil, tpm2.RCNoResult
		}
		s.Sensitive.RSA = p.FillBytes(make([]byte, bits/16))
		pub.Unique = tpm2.TPMUPublicID{RSA: new(big.Int).Mul(p, q).FillBytes(make([]byte, bits/8))}
	case tpm2.AlgECC:
		c := pub.Parameters.ECCDetail.CurveID
		d := deriveECC(curveOf(c).Params().N, from("ECC")).FillBytes(make([]byte, coordinateSize(c)))
		k, err := ecdhCurve(c).NewPrivateKey(d)
		if err != nil {
			return nil, tpm2.RCNoResult
		}
		s.Sensitive.ECC = d
		pub.Unique = tpm2.TPMUPublicID{ECC: pointOf(k.PublicKey().Bytes())}
	case tpm2.AlgMLDSA, tpm2.AlgMLKEM:
		if rc := generatePQ(pub, s, from); rc != tpm2.RCSuccess {
			return nil, rc
		}
	case tpm2.AlgSymCipher:
		n := int(pub.Parameters.SymDetail.Sym.KeyBits.AES) / 8
		switch {
		case len(data) == 0:
			s.Sensitive.Sym = take(from("SYMMETRIC"), n)
		case len(data) != n:
			return nil, tpm2.RCKeySize
		default:
			s.Sensitive.Sym = data
		}
	case tpm2.AlgKeyedHash:
		hash := alg
		switch d := &pub.Parameters.KeyedHashDetail.Scheme; d.Scheme {
		case tpm2.AlgHMAC:
			hash = d.Details.HMAC.HashAlg
		case tpm2.AlgXOR:
			hash = d.Details.XOR.HashAlg
		}
		switch {
		case len(data) == 0:
			s.Sensitive.Bits = take(from("KEYEDHASH"), hash.DigestSize())
		case pub.Parameters.KeyedHashDetail.Scheme.Scheme != tpm2.AlgNull && len(data) > crypt.New(hash).BlockSize():
			return nil, tpm2.RCSize
		default:
			s.Sensitive.Bits = data
		}
	}
	// A parent needs a seed for its children, and a symmetric object one that
	// hides its key in unique (Part 1, 24.6.2).
	symmetric := pub.Type == tpm2.AlgSymCipher || pub.Type == tpm2.AlgKeyedHash
	if symmetric || storage {
		s.SeedValue = take(from("SEED"), alg.DigestSize())
	}
	if symmetric {
		u := symmetricUnique(alg, s)
		if storage && o.parentUnique != nil {
			u = o.parentUnique(alg, s)
		}
		pub.Unique = tpm2.TPMUPublicID{}
		if pub.Type == tpm2.AlgSymCipher {
			pub.Unique.Sym = u
		} else {
			pub.Unique.KeyedHash = u
		}
	}
	return s, tpm2.RCSuccess
}

// creation makes the creation data, its digest and its ticket (Part 2, 15 and 10.6.3).
func (t *TPM) creation(o, parent *object, locality uint8, outside []byte, sel []tpm2.TPMSPCRSelection) (tpm2.TPMSCreationData, []byte, tpm2.TPMTTkCreation) {
	alg := o.pub.NameAlg
	data := tpm2.TPMSCreationData{
		PCRSelect: sel, PCRDigest: t.pcrDigest(alg, sel), Locality: tpm2.Locality(localityBit(locality)), OutsideInfo: outside,
	}
	if parent != nil {
		data.ParentNameAlg, data.ParentName, data.ParentQualifiedName = parent.pub.NameAlg, parent.name, parent.qn
	} else {
		n := crypt.HandleName(o.hierarchy)
		data.ParentNameAlg, data.ParentName, data.ParentQualifiedName = tpm2.AlgNull, n, n
	}
	digest := crypt.Digest(alg, tpm2.Marshal(&data))
	ticket := tpm2.TPMTTkCreation{Tag: tpm2.STCreation, Hierarchy: o.hierarchy}
	ticket.Digest = t.ticket(tpm2.STCreation, o.hierarchy, o.name, digest)
	return data, digest, ticket
}

// localityBit is a locality as TPMA_LOCALITY.
func localityBit(l uint8) uint8 {
	if l < 5 {
		return 1 << l
	}
	return l
}

// ticketHash is the hash of tickets and context integrity.
const ticketHash = tpm2.AlgSHA512

// ticket is the HMAC of a ticket: over its tag and parts, under the hierarchy's
// proof (Part 2, 10.6). The parts stand there as in libtpms, so that a ticket from
// before a take-over holds after it. Tickets of the NULL hierarchy hold until the
// next TPM Reset; where they must say nothing, the caller leaves the digest out.
func (t *TPM) ticket(tag tpm2.ST, h tpm2.Handle, parts ...[]byte) []byte {
	m := t.proofMAC(h)
	m.Write([]byte{byte(tag >> 8), byte(tag)})
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

// childCheck finds whether a loaded object can be a parent (Part 1, 22.1).
func childCheck(parent *object) tpm2.RC {
	if !parent.isStorage() || parent.sens == nil {
		return tpm2.RCType
	}
	return tpm2.RCSuccess
}
