package api

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/ca"
)

// TestCommandBudget: a guest that asks without end is told to wait, with 429 and
// before anything is read; others are not, and operators never.
func TestCommandBudget(t *testing.T) {
	s := newService(t)
	get := func(cert *tls.Certificate) *http.Response {
		t.Helper()
		pool := x509.NewCertPool()
		pool.AddCert(s.root)
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{*cert}, ServerName: "example.com"}}}
		defer c.CloseIdleConnections()
		var last *http.Response
		for range 1000 { // 240 at once, and a busy machine is slow
			if last != nil && last.StatusCode == http.StatusTooManyRequests {
				break
			}
			r, err := c.Get(s.url + "/v1/service")
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, r.Body) // so that the connection is used again
			r.Body.Close()
			last = r
		}
		return last
	}
	greedy := s.issue(s.backend.Office, ca.GuestProfile, ca.KindGuest, "web1")
	if r := get(greedy); r.StatusCode != http.StatusTooManyRequests || r.Header.Get("Retry-After") == "" || r.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("a guest that asks without end: %s %v", r.Status, r.Header)
	}
	if r := get(s.issue(s.backend.Office, ca.AgentProfile, ca.KindAgent, "h1")); r.StatusCode != http.StatusOK {
		t.Errorf("a host: %s", r.Status)
	}
	if r := get(s.issue(s.backend.Office, ca.OperatorProfile, ca.KindOperator, "alice")); r.StatusCode != http.StatusOK {
		t.Errorf("an operator: %s", r.Status)
	}
}

// TestClockSetBack: a certificate that has expired stays expired when the clock
// is set back, by what the audit log has seen; but one record from the far
// future shuts nobody out.
func TestClockSetBack(t *testing.T) {
	s := newService(t)
	k := newKey(t)
	begin := time.Now().Add(-26 * time.Hour)
	then, err := ca.NewOffice(s.root, s.backend.Store, func() time.Time { return begin }, s.backend.Office.Authorities(ca.Operator)...)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := then.Issue(t.Context(), ca.OperatorProfile, ca.Request{Tenant: "default", PublicKey: k.Public(), Lifetime: time.Hour,
		Name: &ca.Name{TrustDomain: "vouchsafe.test", Tenant: "default", Kind: ca.KindOperator, Name: "alice"}})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := s.backend.Office.Chain(ca.Operator)
	if err != nil {
		t.Fatal(err)
	}
	good := cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) / 2)
	state := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{cert, chain[0]}}}
	before := s.backend
	before.Now = func() time.Time { return good }
	if _, err := (&server{Backend: before}).identify(t.Context(), state); err != nil {
		t.Fatalf("it never was good: %v", err)
	}
	if _, err := s.backend.Audit.Append(t.Context(), audit.Event{Actor: "test", Action: "test", Object: "x", Phase: audit.Fact}); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		now  time.Time
		want bool
	}{
		"now":                          {time.Now(), false},
		"a day ahead":                  {time.Now().Add(24 * time.Hour), false},
		"set back to when it was good": {good, false},
	} {
		b := s.backend
		b.Now = func() time.Time { return tt.now }
		_, err := (&server{Backend: b}).identify(t.Context(), state)
		if (err == nil) != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := s.backend
	b.Now = func() time.Time { return time.Now().Add(-maxSetBack - time.Hour) }
	if got := (&server{Backend: b}).clock(); !got.Before(time.Now().Add(-maxSetBack)) {
		t.Errorf("a record from the far future is the time: %s", got)
	}
}
