package engine

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"io"
	"math/big"
	"slices"
	"sync"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// Derivations 128 and 129 are libtpms': with them a vTPM that began its life
// under swtpm keeps every primary key it can make. libtpms stores a seed
// compatibility level with each seed; level 0 are seeds from before libtpms 0.8,
// level 1 are those since. The two differ in RSA only. What it does was read in
// the sources of libtpms 0.7.11, 0.8.10, 0.9.2 and 0.10 (CryptRand.c,
// CryptPrime.c, CryptPrimeSieve.c, CryptRsa.c, CryptEccMain.c, CryptUtil.c),
// and is held fast by vectors that libtpms itself made
// (testdata/derivation-128.txt and -129.txt); docs/formats/derivation.md tells it in words.

// libtpmsLabel is the purpose that a primary's generator begins with; the zero
// octet at its end takes part (Global.h, TPM2B_STRING).
const libtpmsLabel = "Primary Object Creation\x00"

// primaryLibtpms is the origin of a primary under a seed of libtpms: everything
// is drawn from one generator, in the order in which it is needed. Keys of the
// endorsement hierarchy have two proofs stirred in before the seed for their
// children is drawn (CryptUtil.c, CryptCreateObject).
func (s seed) primaryLibtpms(template *tpm2.TPMTPublic, data []byte, proofs [][]byte) origin {
	g := newLibtpmsDRBG(s.value, []byte(libtpmsLabel), crypt.ObjectName(template), data)
	octets := func(purpose string) io.Reader {
		if purpose == "SEED" {
			for _, p := range proofs {
				g.reseed(libtpmsDF(p))
			}
		}
		return g
	}
	primes := func(bits int) (p, q *big.Int) { return libtpmsPrimes(bits, g, s.derivation == derivationLibtpms0) }
	return origin{octets: octets, primes: primes, parentUnique: parentUnique}
}

// libtpmsDRBG is CTR_DRBG with AES-256 of NIST SP 800-90A, 10.2.1, seeded by
// the derivation function below instead of the standard's own.
type libtpmsDRBG struct {
	key [32]byte
	v   [aes.BlockSize]byte
}

func newLibtpmsDRBG(parts ...[]byte) *libtpmsDRBG {
	g := new(libtpmsDRBG)
	g.reseed(libtpmsDF(parts...))
	return g
}

// Read makes one request of the generator: how octets are asked for is a part
// of what comes out.
func (g *libtpmsDRBG) Read(b []byte) (int, error) {
	block := mustBlock(g.key[:])
	g.next(block, b)
	g.update(block, [48]byte{})
	return len(b), nil
}

// next is counter mode in which the counter goes up before each block.
func (g *libtpmsDRBG) next(block cipher.Block, b []byte) {
	for len(b) > 0 {
		for i := len(g.v) - 1; i >= 0; i-- {
			if g.v[i]++; g.v[i] != 0 {
				break
			}
		}
		var out [aes.BlockSize]byte
		block.Encrypt(out[:], g.v[:])
		b = b[copy(b, out[:]):]
	}
}

func (g *libtpmsDRBG) update(block cipher.Block, data [48]byte) {
	var out [48]byte
	g.next(block, out[:])
	for i := range out {
		out[i] ^= data[i]
	}
	copy(g.key[:], out[:32])
	copy(g.v[:], out[32:])
}

func (g *libtpmsDRBG) reseed(entropy [48]byte) { g.update(mustBlock(g.key[:]), entropy) }

// libtpmsDF condenses its input to a seed. It is near to Block_Cipher_df of SP
// 800-90A, 10.3.2, three chains of CBC-MAC side by side, but not the same: the
// chains lean on each other, the lengths go into the first chain instead of the
// input, of which four zero octets are the beginning, and the chains themselves
// are the result (CryptRand.c, DfStart to DfEnd).
func libtpmsDF(parts ...[]byte) (seed [48]byte) {
	var key [32]byte
	for i := range key {
		key[i] = byte(i)
	}
	block := mustBlock(key[:])
	var chains [3][aes.BlockSize]byte
	compute := func(in []byte) {
		var sum [aes.BlockSize]byte
		for c := range chains {
			for i := range sum {
				sum[i] ^= chains[c][i] ^ in[i]
			}
			block.Encrypt(chains[c][:], sum[:])
		}
	}
	for c := range chains {
		chains[c][3] = byte(c)
	}
	compute(make([]byte, aes.BlockSize))
	input := make([]byte, 4)
	for _, p := range parts {
		input = append(input, p...)
	}
	binary.BigEndian.PutUint32(chains[0][0:], uint32(len(input)-4))
	binary.BigEndian.PutUint32(chains[0][4:], uint32(len(seed)))
	input = append(input, 0x80)
	for len(input)%aes.BlockSize != 0 {
		input = append(input, 0)
	}
	for ; len(input) > 0; input = input[aes.BlockSize:] {
		compute(input)
	}
	for c := range chains {
		copy(seed[c*aes.BlockSize:], chains[c][:])
	}
	return seed
}

func mustBlock(key []byte) cipher.Block {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return block
}

// libtpmsPrimes makes the primes of an RSA key; the first one is q
// (CryptRsa.c, CryptRsaGenerateKey).
func libtpmsPrimes(bits int, g *libtpmsDRBG, level0 bool) (p, q *big.Int) {
	q = libtpmsPrime(bits/2, g, level0)
	for range 98 { // libtpms gives up then; so many have never been seen
		p = libtpmsPrime(bits/2, g, level0)
		if diff := new(big.Int).Sub(p, q); diff.BitLen() > 100 {
			return p, q
		}
	}
	return nil, nil
}

// libtpmsField is how many odd numbers are sieved at once (CryptPrimeSieve.c, MAX_FIELD_SIZE).
const libtpmsField = 2048 * 8

// libtpmsPrime draws a start, sieves the numbers from just below it on, and
// tries what is left in an order that the start decides. Every trial draws on
// the generator, also one that fails, so nothing may be skipped.
func libtpmsPrime(bits int, g *libtpmsDRBG, level0 bool) *big.Int {
	composite := make([]bool, libtpmsField)
	left := make([]uint16, 0, libtpmsField/8)
	// The primes that are sieved with (RsaAdjustPrimeLimit); each limit is the last that counts.
	limit := uint32(65535)
	switch {
	case bits <= 512:
		limit = 8167
	case bits <= 1024:
		limit = 38891
	}
	e, r := big.NewInt(rsaExponent), new(big.Int)
	for {
		base := libtpmsStart(bits, g, level0)
		order := uint32(base.Uint64()) | 0x80000000 // Uint64 is the low word
		// The field begins at an odd multiple of 105.
		back := r.Mod(base, big.NewInt(105)).Int64()
		if back%2 == 1 {
			back += 105
		}
		base.Sub(base, big.NewInt(back))
		sieve().mark(base, composite, limit+1)
		left = left[:0]
		for i, c := range composite {
			if !c {
				left = append(left, uint16(i))
			}
		}
		next := func() *big.Int { // nil when the field is used up
			for len(left) > 0 {
				n := int(order % uint32(len(left)))
				candidate := new(big.Int).SetUint64(2 * uint64(left[n]))
				candidate.Add(candidate, base)
				left = append(left[:n], left[n+1:]...)
				if r.Mod(candidate, e).BitLen() > 1 { // neither 0 nor 1
					return candidate
				}
			}
			return nil
		}
		if p := libtpmsSearch(next, g); p != nil {
			return p
		}
	}
}

// libtpmsSearch finds the first candidate that is prime. Nearly all fail the
// first round of their test, which then has drawn one base: so a few are tried at
// once, each with the base it gets if all before it fail. Where one does not, the
// generator goes back to where that one left it.
func libtpmsSearch(next func() *big.Int, g *libtpmsDRBG) *big.Int {
	type trial struct {
		test   *millerRabin
		after  libtpmsDRBG // the generator when its first base was drawn
		passed bool
	}
	var queue []*trial // tried, and not yet judged
	for {
		for len(queue) < libtpmsAtOnce {
			c := next()
			if c == nil {
				break
			}
			t := &trial{test: newMillerRabin(c)}
			t.test.draw(g)
			t.after = *g
			queue = append(queue, t)
		}
		if len(queue) == 0 {
			return nil
		}
		var wait sync.WaitGroup
		for _, t := range queue {
			wait.Go(func() { t.passed = t.test.round() })
		}
		wait.Wait()
		at := slices.IndexFunc(queue, func(t *trial) bool { return t.passed })
		if at < 0 {
			queue = queue[:0]
			continue
		}
		*g = queue[at].after
		if queue[at].test.more(g) {
			return queue[at].test.w
		}
		// It failed a later round, which no number of this size has been seen to
		// do. Those behind it draw anew.
		rest := queue[at+1:]
		for _, t := range rest {
			t.test.draw(g)
			t.after = *g
		}
		queue = append(queue[:0], rest...)
	}
}

// libtpmsAtOnce is how many candidates are tried at once. Of what is tried
// beyond the prime the work is lost: a few in a hundred.
const libtpmsAtOnce = 2

// libtpmsStart draws the number where the search for a prime begins: odd, and
// at least 0.7071 of its range, so that a product of two has all its bits
// (CryptPrime.c, RsaAdjustPrimeCandidate). Level 0 is as libtpms was on 64-bit
// little-endian machines: it takes the octets in the machine's order, and clears
// 32 bits of the top word by mistake.
func libtpmsStart(bits int, g *libtpmsDRBG, level0 bool) *big.Int {
	b := take(g, bits/8)
	if level0 {
		for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
			b[i], b[j] = b[j], b[i]
		}
		top := uint32(binary.BigEndian.Uint16(b))
		binary.BigEndian.PutUint16(b, uint16(top*0x4AFB>>16+0xB505))
		clear(b[2:6])
	} else {
		top := binary.BigEndian.Uint32(b)
		binary.BigEndian.PutUint32(b, (top>>16)*0x4AFB+((top&0xFFFF)*0x4AFB)>>16+0xB5050000)
	}
	b[len(b)-1] |= 1
	return new(big.Int).SetBytes(b)
}

// millerRabin is the test of FIPS 186-3, C.3.1, of one number w, with bases from
// the generator (CryptPrime.c, MillerRabin).
type millerRabin struct {
	w, minus, m *big.Int // w-1 = m * 2^a
	a           uint
	base        *big.Int
}

func newMillerRabin(w *big.Int) *millerRabin {
	t := &millerRabin{w: w, minus: new(big.Int).Sub(w, one), base: new(big.Int)}
	t.a = t.minus.TrailingZeroBits()
	t.m = new(big.Int).Rsh(t.minus, t.a)
	return t
}

var one = big.NewInt(1)

// draw takes the next base from the generator, one above 1 and below w-1.
func (t *millerRabin) draw(g *libtpmsDRBG) {
	for {
		if t.base.SetBytes(take(g, (t.w.BitLen()+7)/8)); t.base.Cmp(one) > 0 && t.base.Cmp(t.minus) < 0 {
			return
		}
	}
}

// round reports whether w may be prime as far as the base tells.
func (t *millerRabin) round() bool {
	z := new(big.Int).Exp(t.base, t.m, t.w)
	if z.Cmp(one) == 0 || z.Cmp(t.minus) == 0 {
		return true
	}
	for range t.a - 1 {
		if z.Mod(z.Mul(z, z), t.w); z.Cmp(t.minus) == 0 {
			return true
		}
		if z.Cmp(one) == 0 {
			return false
		}
	}
	return false
}

// more does the rounds after the first.
func (t *millerRabin) more(g *libtpmsDRBG) bool {
	rounds := 5
	if t.w.BitLen() >= 1536 {
		rounds = 4
	}
	for range rounds - 1 {
		if t.draw(g); !t.round() {
			return false
		}
	}
	return true
}
