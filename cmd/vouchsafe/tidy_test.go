package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/ca"
)

// TestTidy: a service forgets certificates that ended, says so once, and nothing
// that looks at it afterwards finds anything amiss.
func TestTidy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	populated(t, dir, 2)
	s, err := openService(t.Context(), dir, serviceOptions{ownTPM: "none"})
	must(t, err)
	defer func() { s.close() }()
	const many = 230
	var serials []string
	for i := range many + 1 {
		life := time.Minute
		if i == many {
			life = 8 * time.Hour // ended as well when the clock is ahead, and out of one sweep's reach
		}
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		name := ca.Name{TrustDomain: s.file.TrustDomain, Tenant: defaultTenant, Kind: ca.KindVM, Name: fmt.Sprint("vm", i%2)}
		c, err := s.office.Issue(t.Context(), ca.VMProfile, ca.Request{Tenant: defaultTenant, PublicKey: k.Public(), Name: &name, Lifetime: life})
		must(t, err)
		serials = append(serials, ca.SerialText(c))
	}
	must(t, s.store.Revoke(t.Context(), defaultTenant, serials[0], ca.KeyCompromise))
	all, err := s.store.Certificates(t.Context(), defaultTenant, "", 1000)
	must(t, err)
	start := time.Now()
	at := func(d time.Duration, keep time.Duration) {
		t.Helper()
		s.now = func() time.Time { return start.Add(d) }
		must(t, s.tidy(t.Context(), keep))
	}
	left := func(want int) {
		t.Helper()
		cs, err := s.store.Certificates(t.Context(), defaultTenant, "", 1000)
		if must(t, err); len(cs) != want {
			t.Errorf("%d certificates are left, want %d", len(cs), want)
		}
	}
	at(10*365*24*time.Hour, 0)
	left(len(all)) // for ever
	at(10*365*24*time.Hour, ca.CRLLifetime)
	left(len(all) - many) // as far as six hours, whatever the clock says
	at(ca.CRLLifetime+time.Hour, ca.CRLLifetime)
	left(len(all) - many)
	if revoked, err := s.store.Revoked(t.Context(), ca.VMIdentity); err != nil || len(revoked) != 0 {
		t.Errorf("the CRL still names %v, %v", revoked, err)
	}
	must(t, s.close())

	told := map[audit.Phase]int{}
	_, err = audit.Verify(filepath.Join(dir, dirAudit), s.file.AuditKey, nil, func(r audit.Record) {
		if r.Action == "certificates.forgotten" {
			if told[r.Phase]++; r.Phase == audit.Intent && r.Detail["certificates"] != fmt.Sprint(many) {
				t.Errorf("the record says %v", r.Detail)
			}
		}
	})
	if must(t, err); told[audit.Intent] != 1 || told[audit.Done] != 1 || len(told) != 2 {
		t.Errorf("on record: %v", told)
	}
	noErrors(t, dir)
	sealed := filepath.Join(t.TempDir(), "backup")
	_, err = backupService(t.Context(), dir, sealed)
	must(t, err)
	restored := filepath.Join(t.TempDir(), "restored")
	_, _, err = restoreService(t.Context(), sealed, recoveryOf[dir], restored, nil)
	must(t, err)
	noErrors(t, restored)
}
