package engine

import (
	"math/big"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// TestSieve: exactly the numbers with a small factor are marked.
func TestSieve(t *testing.T) {
	var composite [window]bool
	start := new(big.Int).SetBit(big.NewInt(1), 1023, 1)
	sieve().mark(start, composite[:], sieveLimit)
	product := big.NewInt(1)
	for _, group := range sieve().groups {
		for _, p := range group {
			product.Mul(product, big.NewInt(int64(p)))
		}
	}
	for i := range composite {
		n := new(big.Int).Add(start, big.NewInt(int64(2*i)))
		if has := new(big.Int).GCD(nil, nil, n, new(big.Int).Mod(product, n)).Cmp(big.NewInt(1)) != 0; has != composite[i] {
			t.Fatalf("start+%d: marked %v, has a small factor %v", 2*i, composite[i], has)
		}
	}
}

// TestFirstPrime: no prime between the start and what is found was passed over.
func TestFirstPrime(t *testing.T) {
	const size = 256 // small, so that every number can be tried
	for n := range 20 {
		key := crypt.KDFa(tpm2.AlgSHA256, []byte{byte(n)}, "TEST", nil, nil, 256)
		start := new(big.Int).SetBytes(take(keyStream(key), size/8))
		start.SetBit(start, size-1, 1).SetBit(start, size-2, 1).SetBit(start, 0, 1)
		for !start.ProbablyPrime(20) {
			start.Add(start, big.NewInt(2))
		}
		if got := derivePrime(size, keyStream(key)); got.Cmp(start) != 0 {
			t.Errorf("stream %d: got %x, want %x", n, got, start)
		}
	}
}
