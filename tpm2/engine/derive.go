package engine

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"io"
	"math/big"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// Primary keys are derived from a seed and a template, the same ones every time
// (Part 1, 24.6 leaves the way to the vendor). A way once used can never change,
// so each has a number, which is stored beside the seed; docs/formats/derivation.md
// describes them, and golden vectors hold them fast. Numbers from 128 are kept
// kept for derivations of other makers, whose seeds may be taken over.
const (
	currentDerivation  = 1
	derivationLibtpms0 = 128 // derive_libtpms.go
	derivationLibtpms1 = 129
)

// knownDerivation reports whether this program can derive the keys of such a seed.
func knownDerivation(n uint8) bool {
	return n == currentDerivation || n == derivationLibtpms0 || n == derivationLibtpms1
}

// primary is the origin of a hierarchy's primary key, by the derivation of its seed.
func (t *TPM) primary(h tpm2.Handle, template *tpm2.TPMTPublic, data []byte) origin {
	s := t.primarySeed(h)
	if s.derivation == currentDerivation {
		return s.primary(template, data)
	}
	var proofs [][]byte
	if h == tpm2.RHEndorsement {
		proofs = [][]byte{t.n().shProof, t.n().ehProof}
	}
	return s.primaryLibtpms(template, data, proofs)
}

// A deriver gives the octets from which one object's secrets are made, in a
// stream of its own for each purpose.
type deriver func(purpose string) io.Reader

// primary is derivation 1: a purpose's stream is AES-256 in counter mode from
// zero, under KDFa(SHA-512, seed, purpose, SHA-512(template), sensitive data).
func (s seed) primary(template *tpm2.TPMTPublic, data []byte) origin {
	digest := crypt.Digest(tpm2.AlgSHA512, tpm2.Marshal(template))
	octets := func(purpose string) io.Reader {
		return keyStream(crypt.KDFa(tpm2.AlgSHA512, s.value, purpose, digest, data, 256))
	}
	return origin{octets: octets, primes: func(bits int) (p, q *big.Int) {
		return derivePrimes(bits, octets("RSA P"), octets("RSA Q"))
	}}
}

type rngReader struct{ r *rng }

func (r rngReader) Read(b []byte) (int, error) {
	r.r.fill(b)
	return len(b), nil
}

// keyStream is AES-CTR output as a reader.
func keyStream(key []byte) io.Reader {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return cipher.StreamReader{S: cipher.NewCTR(block, make([]byte, aes.BlockSize)), R: zeros{}}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// take reads n octets of a stream, which never ends.
func take(r io.Reader, n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		panic("internal error: " + err.Error())
	}
	return b
}

// deriveECC makes a private key with 64 bits more than the order needs, so that
// the bias is negligible (FIPS 186-5, A.2.1).
func deriveECC(order *big.Int, r io.Reader) *big.Int {
	c := new(big.Int).SetBytes(take(r, (order.BitLen()+64+7)/8))
	n1 := new(big.Int).Sub(order, big.NewInt(1))
	return c.Mod(c, n1).Add(c, big.NewInt(1))
}

// derivePrimes makes the two primes of an RSA key, each from its own stream and
// at the same time.
func derivePrimes(bits int, rp, rq io.Reader) (p, q *big.Int) {
	got := make(chan *big.Int)
	go func() { got <- derivePrime(bits/2, rq) }()
	p = derivePrime(bits/2, rp)
	q = <-got
	// FIPS 186-5, A.1.3 wants them 2^(bits/2-100) apart. That two random primes
	// are nearer has a chance of 2^-99; the next q is then taken.
	for diff := new(big.Int); diff.Sub(p, q).BitLen() <= bits/2-100; {
		q = derivePrime(bits/2, rq)
	}
	return p, q
}

// derivedStreams is the deriver of TPM2_CreateLoaded under a derivation parent:
// KDFa with label and context, of which each purpose takes the next octets
// (Part 1, 25.4.1).
func derivedStreams(alg tpm2.AlgID, secret, label, context []byte) deriver {
	const bits = 8192 // the length that KDFa mixes in; more than any object takes
	r := bytes.NewReader(crypt.KDFa(alg, secret, string(label), context, nil, bits))
	return func(string) io.Reader { return r }
}
