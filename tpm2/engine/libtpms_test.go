package engine

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

func libtpmsState(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("../internal/libtpms/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTakeOver: what is taken over is state like any other, off, asleep and
// running. What is in it is compared with swtpm in test/takeover.
func TestTakeOver(t *testing.T) {
	for version, level := range map[string]uint8{"0.7.11": 0, "0.8.10": 1, "0.9.2": 1, "0.10": 1} {
		t.Run(version, func(t *testing.T) { takeOver(t, version, level) })
	}
}

func takeOver(t *testing.T, version string, level uint8) {
	perm, vol, asleep := libtpmsState(t, "permanent-"+version+".bin"), libtpmsState(t, "volatile-"+version+".bin"), libtpmsState(t, "permanent-"+version+"-sleeping.bin")
	x, err := TakeOverLibtpms(perm, vol)
	if err != nil {
		t.Fatal(err)
	}
	if len(x.Persistent) != 5 || len(x.Indexes) != 11 || x.Derivation != fmt.Sprintf("libtpms-%d", level) {
		t.Errorf("%x %x %s", x.Persistent, x.Indexes, x.Derivation)
	}
	tpm, err := PowerOn(Config{}, x.Permanent)
	if err != nil {
		t.Fatal(err)
	}
	if err := tpm.Resume(x.Volatile); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(tpm.Permanent(), x.Permanent) {
		t.Error("the permanent state does not come back the same")
	}
	if tpm.nv.ep.derivation != derivationLibtpms0+level || tpm.nv.failedTries != 2 {
		t.Errorf("derivation %d, %d failed tries", tpm.nv.ep.derivation, tpm.nv.failedTries)
	}
	// Off, the two failures are followed by the one that libtpms counts on suspicion.
	if x, err = TakeOverLibtpms(perm, nil); err != nil {
		t.Fatal(err)
	}
	if nv, err := decodePermanent(x.Permanent); err != nil || nv.failedTries != 3 {
		t.Errorf("%v, %d failed tries", err, nv.failedTries)
	}
	if x, err = TakeOverLibtpms(asleep, nil); err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t}
	if b.tpm, err = PowerOn(Config{}, x.Permanent); err != nil {
		t.Fatal(err)
	}
	b.ok(&tpm2.Startup{StartupType: tpm2.SUState}, nil)
	if !b.tpm.ranUnderLibtpms() {
		t.Error("the seed of the NULL hierarchy is gone")
	}
	b.ok(&tpm2.Shutdown{ShutdownType: tpm2.SUClear}, nil)
	if b.tpm, err = PowerOn(Config{}, b.tpm.Permanent()); err != nil {
		t.Fatal(err)
	}
	b.ok(&tpm2.Startup{StartupType: tpm2.SUClear}, nil)
	if b.tpm.ranUnderLibtpms() {
		t.Error("the seed of the NULL hierarchy outlived a TPM Reset")
	}
}

// TestTakeOverRefusals: a TPM is taken over whole or not at all.
func TestTakeOverRefusals(t *testing.T) {
	perm, vol := libtpmsState(t, "permanent-0.9.2.bin"), libtpmsState(t, "volatile-0.9.2.bin")
	// The levels of the seeds end PERSISTENT_DATA, in a block of six octets.
	level := bytes.Replace(perm, []byte{1, 0, 6, 1, 1, 1, 1, 0, 0}, []byte{1, 0, 6, 1, 2, 1, 1, 0, 0}, 1)
	// An ECC key of P-384 becomes one of SM2.
	curve := bytes.Replace(perm, []byte{0, 0x18, 0, 0x0c, 0, 4, 0, 0x10, 0, 0x30}, []byte{0, 0x18, 0, 0x0c, 0, 0x20, 0, 0x10, 0, 0x30}, 1)
	other := bytes.Clone(vol[:len(vol)-20])
	at := bytes.LastIndex(other, []byte{0, 64})
	other[at+2] ^= 1 // the last seed that the volatile state names
	for _, tc := range []struct {
		name     string
		perm     []byte
		vol      []byte
		want     error
		sameSize bool
	}{
		{"a level of compatibility that is not known", level, nil, ErrNewer, true},
		{"a key on a curve that is not here", curve, nil, ErrUnsupported, true},
		{"cut", perm[:len(perm)-1], nil, nil, false},
		{"a volatile state that is damaged", perm, other, nil, false},
		{"volatile state as permanent state", vol, nil, nil, false},
	} {
		if tc.sameSize && bytes.Equal(tc.perm, perm) {
			t.Errorf("%s: nothing was changed", tc.name)
		}
		x, err := TakeOverLibtpms(tc.perm, tc.vol)
		if err == nil || x != nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func FuzzTakeOver(f *testing.F) {
	for _, version := range []string{"0.7.11", "0.8.10", "0.9.2", "0.10"} {
		f.Add(libtpmsState(f, "permanent-"+version+".bin"))
		f.Add(libtpmsState(f, "permanent-"+version+"-sleeping.bin"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := TakeOverLibtpms(b, nil)
		if err != nil {
			return
		}
		tpm, err := PowerOn(Config{}, x.Permanent)
		if err != nil {
			t.Fatalf("what was taken over does not start: %v", err)
		}
		(&bench{t: t, tpm: tpm}).do(&tpm2.Startup{StartupType: tpm2.SUClear}, nil)
		if err := tpm.Failure(); err != nil {
			t.Fatalf("failure mode: %v", err)
		}
	})
}
