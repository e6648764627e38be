package libtpms

import (
	"bytes"
	"crypto/sha1"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// The states in testdata were written by libtpms of the version in their names
// (0.10 with its profile default-v2); test/takeover makes those of 0.9.2 (go test
// ./takeover -run Fixtures -args -update) and says what is in them.
var versions = []string{"0.7.11", "0.8.10", "0.9.2", "0.10"}

func state(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadPermanent(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) { readPermanent(t, version) })
	}
}

func readPermanent(t *testing.T, version string) {
	p, err := ReadPermanent(state(t, "permanent-"+version+".bin"))
	if err != nil {
		t.Fatal(err)
	}
	level := uint8(1)
	if version == "0.7.11" {
		level = 0
	}
	if (p.Profile != "") != (version == "0.10") {
		t.Errorf("profile %q", p.Profile)
	}
	if len(p.EP.Value) != 64 || p.EP.Level != level || p.SP.Level != level || p.PP.Level != level || len(p.SHProof) != 64 {
		t.Errorf("seeds %d %d %d %d, proof %d", len(p.EP.Value), p.EP.Level, p.SP.Level, p.PP.Level, len(p.SHProof))
	}
	if string(p.OwnerAuth) != "owner" || string(p.EndorsementAuth) != "endorsement" || string(p.LockoutAuth) != "lockout" {
		t.Errorf("authorizations %q %q %q", p.OwnerAuth, p.EndorsementAuth, p.LockoutAuth)
	}
	if p.FailedTries != 2 || p.MaxTries != 30 || p.RecoveryTime != 7200 || p.LockoutRecovery != 86400 || !p.LockoutAuthEnabled || !p.DisableClear {
		t.Errorf("dictionary attack protection %d %d %d %d %v, clear disabled %v", p.FailedTries, p.MaxTries, p.RecoveryTime, p.LockoutRecovery, p.LockoutAuthEnabled, p.DisableClear)
	}
	if p.OwnerPolicy.Alg != tpm2.AlgSHA256 || len(p.OwnerPolicy.Digest) != 32 || p.AuditHash != tpm2.AlgSHA384 || p.OrderlyState != SUDAUsed {
		t.Errorf("owner policy %v, audit %x, orderly %x", p.OwnerPolicy, p.AuditHash, p.OrderlyState)
	}
	want := []tpm2.CC{tpm2.CCSetCommandCodeAuditStatus, tpm2.CCUnseal, tpm2.CCGetRandom, tpm2.CCCertifyX509}
	if version == "0.7.11" { // it has no TPM2_CertifyX509
		want = want[:3]
	}
	if len(p.Audited) != len(want) {
		t.Fatalf("audited %x", p.Audited)
	}
	for i := range want {
		if p.Audited[i] != want[i] {
			t.Errorf("audited %x, want %x", p.Audited, want)
		}
	}
	if len(p.Indexes) != 11 || len(p.Objects) != 5 || len(p.OrderlyIndexes) != 2 {
		t.Errorf("%d indexes, %d objects, %d orderly", len(p.Indexes), len(p.Objects), len(p.OrderlyIndexes))
	}
	for _, o := range p.Objects {
		if o.Sensitive == nil || o.Handle.Space() != tpm2.HTPersistent || !o.Attributes.Has(Evict) {
			t.Errorf("object %08x: %x", uint32(o.Handle), o.Attributes)
		}
	}
	if p.Reset != nil || len(p.Banks) == 0 {
		t.Errorf("saved %v, banks %v", p.Reset, p.Banks)
	}
	asleep, err := ReadPermanent(state(t, "permanent-"+version+"-sleeping.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if su, _, ok := asleep.Shutdown(); !ok || su != tpm2.SUState || asleep.Reset == nil || len(asleep.Reset.NullSeed.Value) != 64 || len(asleep.OrderlyIndexes) != 2 {
		t.Errorf("sleeping: %v %v %v, %d orderly indexes", su, ok, asleep.Reset, len(asleep.OrderlyIndexes))
	}
}

func TestReadVolatile(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) { readVolatile(t, version) })
	}
}

func readVolatile(t *testing.T, version string) {
	v, err := ReadVolatile(state(t, "volatile-"+version+".bin"))
	if err != nil {
		t.Fatal(err)
	}
	if !v.Initialized || v.Failed || len(v.Seeds) != 3 || len(v.PCRs) != 4 || len(v.OrderlyIndexes) != 2 {
		t.Errorf("%v %v, %d seeds, %d banks, %d orderly indexes", v.Initialized, v.Failed, len(v.Seeds), len(v.PCRs), len(v.OrderlyIndexes))
	}
	if o := v.Objects; len(o) != 3 || o[0] == nil || o[0].Sequence == nil || len(o[0].Sequence.Hashes) != 4 || o[1] == nil || o[1].Sensitive == nil || o[2] != nil {
		t.Errorf("objects %v", o)
	} else if h := o[0].Sequence.Hashes[1]; h.Alg != tpm2.AlgSHA256 || string(h.Pending) != "half of it" || h.Octets != 10 {
		t.Errorf("sequence %+v", h)
	}
	if s := v.Sessions; len(s) != 3 || s[0] == nil || !s[0].Attributes.Has(SessionPolicy) || s[1] != nil {
		t.Errorf("sessions %v", s)
	}
}

// TestCut: no beginning of a state is a state.
func TestCut(t *testing.T) {
	p, v := state(t, "permanent-0.9.2.bin"), state(t, "volatile-0.9.2.bin")
	for n := range len(p) {
		if _, err := ReadPermanent(p[:n]); err == nil {
			t.Fatalf("the first %d octets are a permanent state", n)
		}
	}
	for n := 0; n < len(v); n += 7 {
		if _, err := ReadVolatile(v[:n]); err == nil {
			t.Fatalf("the first %d octets are a volatile state", n)
		}
	}
	if _, err := ReadPermanent(append(bytes.Clone(p), 0)); err == nil || !strings.Contains(err.Error(), "left over") {
		t.Errorf("an octet more: %v", err)
	}
}

func FuzzReadPermanent(f *testing.F) {
	for _, version := range versions {
		f.Add(state(f, "permanent-"+version+".bin"))
		f.Add(state(f, "permanent-"+version+"-sleeping.bin"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := ReadPermanent(b); err == nil && len(p.EP.Value) > maxDigest {
			t.Error("a seed beyond the limit")
		}
	})
}

func FuzzReadVolatile(f *testing.F) {
	for _, version := range versions {
		b := state(f, "volatile-"+version+".bin")
		f.Add(b[:len(b)-20])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ReadVolatile(withSum(b))
		if err == nil && len(v.Objects) > maxSlots {
			t.Error("slots beyond the limit")
		}
	})
}

func FuzzReadContext(f *testing.F) {
	f.Add(make([]byte, SessionContextSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		ReadObject(b)
		ReadSession(b)
	})
}

// withSum appends the digest that ReadVolatile wants.
func withSum(b []byte) []byte {
	sum := sha1.Sum(b)
	return append(b[:len(b):len(b)], sum[:]...)
}
