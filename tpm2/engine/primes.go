package engine

import (
	"encoding/binary"
	"io"
	"math/big"
	"math/bits"
	"sync"
)

// The search for primes. What it finds is part of derivation 1 and never
// changes; how it is found may: docs/formats/derivation.md says what, and the
// golden vectors hold it fast. math/big is not constant-time; docs/THREATS.md
// says what that means.

// window is how many odd numbers from a random start are searched for a prime before a new start is drawn.
const window = 4096

// derivePrime finds the first prime at or after a random start whose two top
// bits are set (so that a product of two has all its bits) and for which 65537
// has an inverse.
func derivePrime(size int, r io.Reader) *big.Int {
	var composite [window]bool
	e, one, two := big.NewInt(65537), big.NewInt(1), big.NewInt(2)
	p, minus, rem := new(big.Int), new(big.Int), new(big.Int)
	for {
		start := new(big.Int).SetBytes(take(r, size/8))
		start.SetBit(start, size-1, 1).SetBit(start, size-2, 1).SetBit(start, 0, 1)
		sieve().mark(start, composite[:], sieveLimit)
		for i := range composite {
			if composite[i] {
				continue
			}
			p.Add(start, rem.SetUint64(uint64(2*i)))
			if p.BitLen() > size {
				break
			}
			// Nearly all composites that are left end at Fermat's test to base 2.
			minus.Sub(p, one)
			if rem.Exp(two, minus, p).Cmp(one) != 0 {
				continue
			}
			// Baillie-PSW and 5 rounds of Miller-Rabin: below 2^-128 for such
			// numbers (FIPS 186-5, Table B.1 asks for 5 at 1024 bits).
			if p.ProbablyPrime(5) && rem.Mod(minus, e).Sign() != 0 {
				return p
			}
		}
	}
}

// sieveLimit bounds the primes that are sieved with. Twice as many leave 6 % fewer
// candidates and cost as much as two of them: beyond this it does not pay.
const sieveLimit = 1 << 18

// primeSieve is the odd primes below sieveLimit, in groups whose product fits into 64 bits.
type primeSieve struct {
	products []uint64
	groups   [][]uint32
}

// sieve is made when the first prime is searched for.
var sieve = sync.OnceValue(func() *primeSieve {
	s := new(primeSieve)
	composite := make([]bool, sieveLimit)
	product, group := uint64(1), []uint32(nil)
	flush := func() {
		s.products, s.groups = append(s.products, product), append(s.groups, group)
		product, group = 1, nil
	}
	for i := 3; i < sieveLimit; i += 2 {
		if composite[i] {
			continue
		}
		if over, _ := bits.Mul64(product, uint64(i)); over != 0 {
			flush()
		}
		product, group = product*uint64(i), append(group, uint32(i))
		for j := i * i; j < sieveLimit; j += 2 * i {
			composite[j] = true
		}
	}
	flush()
	return s
})

// mark says which of the odd numbers start+2i have a prime factor below limit,
// which is at most sieveLimit. start is odd and far above it.
func (s *primeSieve) mark(start *big.Int, composite []bool, limit uint32) {
	clear(composite)
	b := start.Bytes()
	words := make([]uint64, 0, len(b)/8+1)
	for ; len(b)%8 != 0; b = append([]byte{0}, b...) {
	}
	for ; len(b) > 0; b = b[8:] {
		words = append(words, binary.BigEndian.Uint64(b))
	}
	for g, product := range s.products {
		m := uint64(0)
		for _, w := range words {
			m = bits.Rem64(m, w, product)
		}
		for _, p := range s.groups[g] {
			if p >= limit {
				return
			}
			// The first i with start+2i = 0 mod p.
			i := (p - uint32(m%uint64(p))) % p
			if i%2 == 1 {
				i += p
			}
			for i /= 2; i < uint32(len(composite)); i += p {
				composite[i] = true
			}
		}
	}
}
