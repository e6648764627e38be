package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
)

// Who may call: kinds of names in client certificates.
var (
	operators = []string{ca.KindOperator}
	agents    = []string{ca.KindOperator, ca.KindAgent}
	hosts     = []string{ca.KindAgent}
	everyone  = []string{ca.KindOperator, ca.KindAgent, ca.KindGuest, ca.KindVM}
)

// TLSConfig is TLS 1.3 that wants a client certificate by one of the office's
// intermediates that vouch for callers. Those are our own and known by heart, so
// they are what is trusted here: verifying one under the root for each of a
// thousand guests that boot at once costs as much as the guest's own certificate.
// Which one it must be, and whether the certificate was revoked, is asked again
// for every request, so a revocation does not wait for a connection to end.
func TLSConfig(office *ca.Office, certificate func() (*tls.Certificate, error)) *tls.Config {
	pool := x509.NewCertPool()
	for purpose := range kindOf {
		for _, a := range office.Authorities(purpose) {
			pool.AddCert(a.Certificate)
		}
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		ClientAuth:     tls.RequireAndVerifyClientCert,
		ClientCAs:      pool,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate() },
		// A resumed session would bring the certificate of its beginning.
		SessionTicketsDisabled: true,
		NextProtos:             []string{"h2", "http/1.1"},
	}
}

type callerKey struct{}

// caller is who sent the request; authenticate put it there.
func caller(ctx context.Context) ca.Name {
	n, ok := ctx.Value(callerKey{}).(ca.Name)
	if !ok {
		panic("internal error: a request that was not authenticated")
	}
	return n
}

func allow(ctx context.Context, kinds []string) error {
	if n := caller(ctx); !slices.Contains(kinds, n.Kind) {
		return &Problem{Status: http.StatusForbidden, Title: "Forbidden", Code: "ROLE_MISSING",
			Detail: "a certificate of kind " + n.Kind + " may not do this", Hint: "use an operator's certificate"}
	}
	return nil
}

// authenticate lets only known callers through, whatever they ask for.
func (s *server) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, err := s.identify(r.Context(), r.TLS)
		if err != nil {
			p := &Problem{Status: http.StatusUnauthorized, Title: "Unauthorized", Detail: err.Error(), Code: "CLIENT_CERTIFICATE_REFUSED",
				Hint: "vouchsafe ca credential NAME makes a new one"}
			var r enroll.Refusal
			if errors.As(err, &r) {
				p.Code, p.Hint = r.Code, remedy(r.Code)
			}
			errors.As(err, &p) // the record could not be read: that says nothing about the caller
			writeProblem(w, p)
			return
		}
		leave, err := s.letIn(r, name)
		if err != nil {
			w.Header().Set("Retry-After", "6")
			writeProblem(w, asProblem(err).(*Problem))
			return
		}
		defer leave()
		w.Header().Set("Strict-Transport-Security", "max-age=31536000")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		ctx := context.WithValue(r.Context(), connectionKey{}, r.TLS)
		next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, callerKey{}, name)))
	})
}

// letIn takes a request out of the caller's budget and finds room for it, before
// anything of it is read.
func (s *server) letIn(r *http.Request, who ca.Name) (leave func(), err error) {
	if err := s.spend(who); err != nil {
		return nil, err
	}
	return s.rooms.enter(r.Context(), who, r.ContentLength)
}

func (s *server) spend(who ca.Name) error {
	switch who.Kind {
	case ca.KindGuest, ca.KindVM: // one VM, whichever certificate it comes with
		return s.Enroll.Spend(enroll.Commands, who.Tenant, who.Name)
	case ca.KindAgent:
		return s.Enroll.Spend(enroll.HostCommands, who.Tenant, who.Name)
	}
	return nil
}

// kindOf says which kinds of callers an intermediate vouches for.
var kindOf = map[ca.Purpose][]string{
	ca.Operator:   {ca.KindOperator, ca.KindAgent, ca.KindGuest},
	ca.VMIdentity: {ca.KindVM},
}

// maxSetBack is how far a clock may be set back and expired certificates stay
// expired. Beyond it the newest record rather was from the future: were it
// believed, one wrong clock would shut everybody out until its time has come.
const maxSetBack = 7 * 24 * time.Hour

// clock is the time that certificates are judged by: what the wall clock says,
// or the audit log's newest record when that is later. A clock that was set back
// makes no expired certificate good.
func (s *server) clock() time.Time {
	now := s.Now()
	if last := s.Audit.Last(); last.After(now) && last.Sub(now) <= maxSetBack {
		return last
	}
	return now
}

func (s *server) identify(ctx context.Context, state *tls.ConnectionState) (ca.Name, error) {
	if state == nil || len(state.VerifiedChains) == 0 {
		return ca.Name{}, errors.New("there is no client certificate")
	}
	chain := state.VerifiedChains[0]
	leaf := chain[0]
	if len(chain) != 2 {
		return ca.Name{}, errors.New("the client certificate was not issued by one of this service's intermediates")
	}
	name, err := ca.NameOf(leaf)
	if err != nil {
		return name, err
	}
	vouched := false
	for purpose, kinds := range kindOf {
		if s.Office.Speaks(purpose, chain[1]) {
			vouched = slices.Contains(kinds, name.Kind)
		}
	}
	if !vouched || name.TrustDomain != s.TrustDomain {
		return name, errors.New("the client certificate was issued for another purpose")
	}
	if now := s.clock(); now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		return name, errors.New("the client certificate is not valid now") // a connection may outlive it
	}
	state2, _, err := s.Store.Certificate(ctx, ca.SerialText(leaf))
	if errors.Is(err, enroll.ErrNotFound) {
		return name, errors.New("the client certificate is not on record")
	}
	if err != nil {
		return name, asProblem(err)
	}
	if state2.State != "issued" {
		if h, err := s.Store.Host(ctx, name.Tenant, name.Name); name.Kind == ca.KindAgent && err == nil && h.WasRevoked() != nil {
			return name, h.WasRevoked() // a host that carries VMs must know that it is not its certificate alone
		}
		return name, errors.New("the client certificate was revoked")
	}
	return name, nil
}
