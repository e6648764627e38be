//go:build unix

package engine

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// BenchmarkDerivePrime reports CPU time, which a busy machine does not distort
// as it does the wall's. The streams are the same every time.
func BenchmarkDerivePrime(b *testing.B) {
	used := func() time.Duration {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	sieve()
	begin, n := used(), 0
	for b.Loop() {
		key := crypt.KDFa(tpm2.AlgSHA256, []byte(fmt.Sprint(n%50)), "TEST", nil, nil, 256)
		derivePrime(1024, keyStream(key))
		n++
	}
	b.ReportMetric(float64(used()-begin)/float64(time.Millisecond)/float64(n), "cpu-ms/op")
}
