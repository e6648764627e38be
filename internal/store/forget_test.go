package store

import (
	"context"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/ca"
)

// certificate puts one on record that ends at a time.
func certificate(ctx context.Context, s *Store, p ca.Purpose, serial int64, ends time.Time) error {
	c := &x509.Certificate{SerialNumber: big.NewInt(serial), Raw: make([]byte, 650)}
	in := ca.Intent{Tenant: "default", Purpose: p, Profile: string(p), Serial: ca.SerialText(c), Subject: "spiffe://vouchsafe.test/default/vm/web1", NotBefore: ends.Add(-time.Hour), NotAfter: ends}
	if err := s.RecordIntent(ctx, in); err != nil {
		return err
	}
	return s.RecordIssued(ctx, c)
}

// TestForgetEnded: certificates that ended go, in steps that a wrong clock cannot
// hurry; what is good, what a CRL names and what VMs were endorsed with stays.
func TestForgetEnded(t *testing.T) {
	s := open(t, temp(t))
	start := time.UnixMilli(1_800_000_000_000)
	now := start
	s.now = func() time.Time { return now }
	const week = 7 * 24 * time.Hour
	if until, n, err := s.Ended(t.Context(), now); err != nil || n != 0 || !until.Equal(now) {
		t.Errorf("an empty store: %s, %d, %v", until, n, err)
	}
	record := func(p ca.Purpose, serial int64, ends time.Time) {
		t.Helper()
		if err := certificate(t.Context(), s, p, serial, ends); err != nil {
			t.Fatal(err)
		}
	}
	sweep := func(want int64) {
		t.Helper()
		until, n, err := s.Ended(t.Context(), now.Add(-week))
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.ForgetEnded(t.Context(), until)
		if err != nil || got != int64(n) || got != want {
			t.Errorf("forgotten %d, announced %d, want %d; %v", got, n, want, err)
		}
	}
	there := func(what string, serial int64, want bool) {
		t.Helper()
		c, der, err := s.Certificate(t.Context(), ca.SerialText(&x509.Certificate{SerialNumber: big.NewInt(serial)}))
		if got := err == nil && len(der) > 0; got != want || err != nil && err != ErrNotFound {
			t.Errorf("%s: %+v, %v", what, c, err)
		}
	}
	const many = 2*certificatesAtOnce + 7
	for i := range int64(many) {
		record(ca.VMIdentity, 1000+i, start.Add(time.Duration(i)*time.Second))
	}
	record(ca.VTPMEK, 1, start)
	record(ca.VMIdentity, 2, start.Add(time.Hour))
	record(ca.VMIdentity, 3, start.Add(60*24*time.Hour))
	record(ca.Operator, 4, start.Add(3*time.Hour))
	for _, serial := range []string{"2", "3"} {
		if err := s.Revoke(t.Context(), "default", serial, ca.KeyCompromise); err != nil {
			t.Fatal(err)
		}
	}
	now = start.Add(week - time.Minute)
	sweep(0)
	if named, err := s.Revoked(t.Context(), ca.VMIdentity); err != nil || len(named) != 2 {
		t.Errorf("the CRL names %v, %v", named, err)
	}
	// A clock that is years ahead takes six hours a sweep, also when it is tried again.
	now = start.Add(20 * 365 * 24 * time.Hour)
	sweep(many + 2) // 2 and 4 too: within six hours of the oldest
	sweep(0)
	there("good for weeks yet", 3, true)
	now = start.Add(week + 2*time.Hour)
	sweep(0)
	there("an endorsement certificate", 1, true)
	there("revoked, and long ended", 2, false)
	there("the oldest", 1000, false)
	there("the last", 1000+many-1, false)
	if named, err := s.Revoked(t.Context(), ca.VMIdentity); err != nil || len(named) != 1 || named[0].Serial != "3" {
		t.Errorf("the CRL names %v, %v", named, err)
	}
	if bad, err := s.Check(t.Context()); err != nil || bad != nil {
		t.Errorf("check: %v, %v", bad, err)
	}
	if err := s.write(t.Context(), func(t *tx) error { _, err := t.exec(`DELETE FROM certificate WHERE serial = '3'`); return err }); err != nil {
		t.Fatal(err)
	}
	if bad, err := s.Check(t.Context()); err != nil || len(bad) != 1 {
		t.Errorf("check after one was taken out by hand: %v, %v", bad, err)
	}
}

// BenchmarkForgetEnded says how long other writers wait for a sweep.
func BenchmarkForgetEnded(b *testing.B) {
	s := open(b, temp(b))
	ends := time.Now().Add(-time.Hour)
	serial := int64(1)
	for b.Loop() {
		b.StopTimer()
		for range certificatesAtOnce - 1 {
			if err := certificate(b.Context(), s, ca.VMIdentity, serial*2654435761, ends); err != nil {
				b.Fatal(err)
			}
			serial++
		}
		b.StartTimer()
		if _, err := s.ForgetEnded(b.Context(), time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
