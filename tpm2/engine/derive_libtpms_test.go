package engine

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// TestDerivationsOfLibtpms holds derivations 128 and 129 fast by what libtpms
// itself made: the keys, and the seeds for their children, under which libtpms
// has sealed something.
func TestDerivationsOfLibtpms(t *testing.T) {
	for _, derivation := range []uint8{derivationLibtpms0, derivationLibtpms1} {
		seeds := map[tpm2.Handle]byte{tpm2.RHEndorsement: 1, tpm2.RHOwner: 2, tpm2.RHPlatform: 3}
		octets := func(n byte) []byte { return bytes.Repeat([]byte{n}, 64) }
		nv := &nvram{phProof: octets(0x11), shProof: octets(0x12), ehProof: octets(0x13)}
		nv.ep, nv.sp, nv.pp = seed{octets(1), derivation}, seed{octets(2), derivation}, seed{octets(3), derivation}
		tpm := newTPM(Config{})
		tpm.nv = nv
		b, err := os.ReadFile(fmt.Sprintf("testdata/derivation-%d.txt", derivation))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for l := range strings.Lines(string(b)) {
			f := strings.Fields(l)
			if f[0] == "#" {
				continue
			}
			n++
			var h tpm2.Handle
			fmt.Sscanf(f[0], "%x", &h)
			if seeds[h] == 0 {
				t.Fatalf("hierarchy %s", f[0])
			}
			var data []byte
			if f[2] != "-" {
				data = unhex(t, f[2])
			}
			var pub tpm2.TPMTPublic
			if err := tpm2.Unmarshal(unhex(t, f[3]), &pub); err != nil {
				t.Fatal(err)
			}
			from := tpm.primary(h, &pub, data)
			sens, rc := generate(&pub, from, nil, data)
			if rc != tpm2.RCSuccess {
				t.Errorf("%d %s: %v", derivation, f[1], rc)
				continue
			}
			if got := fmt.Sprintf("%x", tpm2.Marshal(&pub)); got != f[4] {
				t.Errorf("%d %s: got %s, want %s", derivation, f[1], got, f[4])
				continue
			}
			o := newObject(pub, sens, h, nil)
			if rc := checkBinding(o); rc != tpm2.RCSuccess {
				t.Errorf("%d %s: %v", derivation, f[1], rc)
			}
			if len(f) < 7 {
				continue
			}
			var child tpm2.TPMTPublic
			if err := tpm2.Unmarshal(unhex(t, f[5]), &child); err != nil {
				t.Fatal(err)
			}
			inside, rc := unprotect(o, crypt.ObjectName(&child), unhex(t, f[6]))
			if rc != tpm2.RCSuccess || string(inside.Sensitive.Bits) != "made under swtpm" || string(inside.AuthValue) != "password" {
				t.Errorf("%d %s: what libtpms sealed under it does not open: %v", derivation, f[1], rc)
			}
		}
		if n != 20 {
			t.Errorf("%d vectors of derivation %d", n, derivation)
		}
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// BenchmarkPrimaryLibtpms: what an RSA-2048 key of libtpms' derivation costs; its
// two primes come one after the other.
func BenchmarkPrimaryLibtpms(b *testing.B) {
	for n := 0; b.Loop(); n++ {
		s := seed{bytes.Repeat([]byte{byte(n), byte(n >> 8)}, 32), derivationLibtpms1}
		pub := rsaStorage()
		if _, rc := generate(&pub, s.primaryLibtpms(&pub, nil, nil), nil, nil); rc != tpm2.RCSuccess {
			b.Fatal(rc)
		}
	}
}

// TestLibtpmsSearch: trying several candidates at once finds the same number,
// and leaves the generator the same, as trying one after the other. Small
// numbers are taken since many of them pass a first round and fail a later one.
func TestLibtpmsSearch(t *testing.T) {
	later := 0
	for n := range 2000 {
		candidates := func() func() *big.Int {
			i := 0
			return func() *big.Int {
				if i++; i > 40 {
					return nil
				}
				return big.NewInt(int64(91 + 2*((n*7+i*i*31)%1200)))
			}
		}
		start := []byte{byte(n), byte(n >> 8)}
		g := newLibtpmsDRBG(start)
		got := libtpmsSearch(candidates(), g)

		want, h := (*big.Int)(nil), newLibtpmsDRBG(start)
		for next, c := candidates(), new(big.Int); want == nil; {
			if c = next(); c == nil {
				break
			}
			r := newMillerRabin(c)
			if r.draw(h); r.round() {
				if r.more(h) {
					want = c
				} else {
					later++
				}
			}
		}
		if (got == nil) != (want == nil) || got != nil && got.Cmp(want) != 0 || *g != *h {
			t.Fatalf("start %x: %v and not %v, or another generator", start, got, want)
		}
	}
	if later < 20 {
		t.Errorf("only %d candidates failed in a later round", later)
	}
}
