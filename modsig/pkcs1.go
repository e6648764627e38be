package modsig

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// verifyPKCS1v15 is RSASSA-PKCS1-V1_5-VERIFY (RFC 8017, Section 8.2.2). There
// is nothing secret in a verification, so math/big may do it: crypto/rsa, made
// for constant time, takes three times as long, and this is most of the work
// over a tree of modules. The expected block is built and compared whole, so
// there is no padding to be parsed wrongly. FuzzPKCS1v15 holds it against
// crypto/rsa.
func verifyPKCS1v15(pub *rsa.PublicKey, h crypto.Hash, digest, sig []byte) bool {
	k := pub.Size()
	s := new(big.Int).SetBytes(sig)
	// Step 1 and RSAVP1 (Section 5.2.2), and moduli and exponents that are no RSA key's.
	if len(sig) != k || len(digest) != h.Size() || s.Cmp(pub.N) >= 0 || pub.N.Bit(0) == 0 || pub.E < 3 || pub.E&1 == 0 {
		return false
	}
	want, ok := encodePKCS1v15(h, digest, k)
	if !ok {
		return false
	}
	m := s.Exp(s, big.NewInt(int64(pub.E)), pub.N)
	return bytes.Equal(m.FillBytes(make([]byte, k)), want)
}

// encodePKCS1v15 is EMSA-PKCS1-v1_5 (RFC 8017, Section 9.2).
func encodePKCS1v15(h crypto.Hash, digest []byte, k int) ([]byte, bool) {
	oid, ok := oidOf(h)
	if !ok {
		return nil, false
	}
	var b cryptobyte.Builder
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		Algorithm{oid, null}.marshal(b)
		b.AddASN1OctetString(digest)
	})
	t, err := b.Bytes()
	if err != nil || k < len(t)+11 {
		return nil, false
	}
	em := bytes.Repeat([]byte{0xff}, k)
	em[0], em[1], em[k-len(t)-1] = 0, 1, 0
	copy(em[k-len(t):], t)
	return em, true
}
