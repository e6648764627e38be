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
// free for derivations of other makers, whose seeds may be taken over.
const currentDerivation = 1

// A deriver gives the octets from which one object's secrets are made, in a
// stream of its own for each purpose.
type deriver func(purpose string) io.Reader

// primary is derivation 1: a purpose's stream is AES-256 in counter mode from
// zero, under KDFa(SHA-512, seed, purpose, SHA-512(template), sensitive data).
func (s seed) primary(template *tpm2.TPMTPublic, data []byte) deriver {
	digest := crypt.Digest(tpm2.AlgSHA512, tpm2.Marshal(template))
	return func(purpose string) io.Reader {
		return keyStream(crypt.KDFa(tpm2.AlgSHA512, s.value, purpose, digest, data, 256))
	}
}

// random is the deriver of ordinary objects: every purpose draws on the generator.
func (t *TPM) random(string) io.Reader { return rngReader{&t.rng} }

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

// window is how many odd numbers from a random start are searched for a prime before a new start is drawn.
const window = 4096

// derivePrime finds the first prime at or after a random start whose two top
// bits are set (so that a product of two has all its bits) and for which 65537
// has an inverse. math/big is not constant-time; docs/THREATS.md says what that means.
func derivePrime(bits int, r io.Reader) *big.Int {
	var composite [window]bool
	e, rem, small := big.NewInt(65537), new(big.Int), new(big.Int)
	for {
		start := new(big.Int).SetBytes(take(r, bits/8))
		start.SetBit(start, bits-1, 1).SetBit(start, bits-2, 1).SetBit(start, 0, 1)
		clear(composite[:])
		for _, s := range sieve {
			// First odd offset 2i with start+2i = 0 mod s.
			m := uint32(rem.Mod(start, small.SetUint64(uint64(s))).Uint64())
			i := (s - m) % s
			if i%2 == 1 {
				i += s
			}
			for i /= 2; i < window; i += s {
				composite[i] = true
			}
		}
		for i := range composite {
			if composite[i] {
				continue
			}
			p := new(big.Int).Add(start, small.SetUint64(uint64(2*i)))
			if p.BitLen() > bits {
				break
			}
			// Baillie-PSW and 5 rounds of Miller-Rabin: below 2^-128 for such
			// numbers (FIPS 186-5, Table B.1 asks for 5 at 1024 bits).
			if !p.ProbablyPrime(0) || !p.ProbablyPrime(5) {
				continue
			}
			if rem.Mod(rem.Sub(p, big.NewInt(1)), e).Sign() == 0 {
				continue
			}
			return p
		}
	}
}

// sieve is the odd primes below 2^14.
var sieve = func() (out []uint32) {
	const limit = 1 << 14
	var composite [limit]bool
	for i := 3; i < limit; i += 2 {
		if composite[i] {
			continue
		}
		out = append(out, uint32(i))
		for j := i * i; j < limit; j += 2 * i {
			composite[j] = true
		}
	}
	return out
}()

// derivedStreams is the deriver of TPM2_CreateLoaded under a derivation parent
// (Part 1, 25): KDFa with label and context, without a purpose for the key itself.
func derivedStreams(alg tpm2.AlgID, secret, label, context []byte) deriver {
	const bits = 8192 // the length that KDFa mixes in; more than any object takes
	return func(purpose string) io.Reader {
		var v []byte
		if purpose == "SEED" {
			v = []byte(purpose)
		}
		return bytes.NewReader(crypt.KDFa(alg, secret, string(label), context, v, bits))
	}
}
