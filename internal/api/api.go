// Package api is the service over HTTPS: resources under /v1, described by
// OpenAPI 3.1 at /openapi.yaml. It is one of the few places that know HTTP: it
// turns requests into calls of package enroll and its neighbours, and their
// errors into problems (errors.go). It decides nothing itself but who may call
// what (auth.go): every request, the description included, comes over TLS with
// a client certificate of this service. Being on the same machine is no
// authentication.
//
// Begin with [Handler] and [TLSConfig].
package api

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/modkeys"
	"github.com/vouchsafe/vouchsafe/internal/store"
	"github.com/vouchsafe/vouchsafe/internal/verifier"
)

// Backend is what the API stands on. All fields are needed.
type Backend struct {
	ServiceID, TrustDomain, Version string
	Enroll                          *enroll.Enroller
	Verifier                        *verifier.Verifier
	Store                           *store.Store
	Office                          *ca.Office
	Audit                           *audit.Log
	ModKeys                         *modkeys.Keys
	AuditKey                        string
	// RootKey says which tiers open the root key, and since when it is the one.
	RootKey func() (tiers []string, since time.Time, err error)
	Now     func() time.Time
}

// maxBody bounds a request; the largest is evidence with an event log.
const maxBody = 4 << 20

// maxPage bounds a list.
const maxPage = 500

// Handler serves the API. It must be reached through TLSConfig.
func Handler(b Backend) http.Handler {
	mux := http.NewServeMux()
	config := huma.DefaultConfig("vouchsafe", b.Version)
	config.Info.Description = "Trust for virtual machines. Every request needs a client certificate of this service."
	config.DocsPath = "" // its page loads scripts from elsewhere
	config.SchemasPath = ""
	config.CreateHooks = nil // no $schema member in answers
	config.Transformers = append(config.Transformers, notAllowed)
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"client-certificate": {Type: "mutualTLS"}}
	config.Security = []map[string][]string{{"client-certificate": {}}}
	s := &server{b, humago.New(mux, config), newRooms()}
	s.service()
	s.hosts()
	s.vms()
	s.leases()
	s.certificates()
	s.admission()
	s.policies()
	s.modules()
	s.moduleKeys()
	s.keys()
	s.states()
	s.offline()
	s.authorities()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, &Problem{Status: http.StatusNotFound, Title: "Not Found", Code: "NOT_FOUND", Detail: "there is no " + r.Method + " of this path", Hint: "GET /openapi.yaml says what there is"})
	})
	return s.authenticate(http.MaxBytesHandler(mux, maxBody))
}

type server struct {
	Backend
	api   huma.API
	rooms *rooms
}

// operation registers one operation for callers of the given kinds.
func operation[I, O any](s *server, method, path, id, summary string, kinds []string, do func(context.Context, *I) (*O, error)) {
	op := huma.Operation{Method: method, Path: path, OperationID: id, Summary: summary, MaxBodyBytes: maxBody}
	if method == http.MethodPost {
		op.DefaultStatus = http.StatusOK
	}
	if _, empty := any((*O)(nil)).(*none); empty {
		op.DefaultStatus = http.StatusNoContent
	}
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		if err := allow(ctx, kinds); err != nil {
			return nil, err
		}
		out, err := do(ctx, in)
		if err != nil {
			return nil, asProblem(err)
		}
		return out, nil
	})
}

// body is an answer that is one JSON object.
type body[T any] struct{ Body T }

func answer[T any](v T) *body[T] { return &body[T]{v} }

type none struct{}

// Service is who answers.
type Service struct {
	ID          string `json:"id"`
	TrustDomain string `json:"trust_domain"`
	Version     string `json:"version"`
	RootCA      string `json:"root_ca" doc:"the root certificate, in PEM"`
	AuditKey    string `json:"audit_key" doc:"verifier key of audit checkpoints, c2sp.org/signed-note"`
}

// Checkpoint is the newest audit checkpoint.
type Checkpoint struct {
	Checkpoint string `json:"checkpoint" doc:"a signed note, c2sp.org/tlog-checkpoint"`
}

// Change is one line of the change feed.
type Change struct {
	Revision int64  `json:"revision"`
	Kind     string `json:"kind"`
	ID       string `json:"id"`
	Op       string `json:"op"`
}

func (s *server) service() {
	operation(s, "GET", "/v1/service", "get-service", "Who answers", everyone, func(ctx context.Context, _ *none) (*body[Service], error) {
		return answer(Service{s.ServiceID, s.TrustDomain, s.Version, PEM(s.Office.Root), s.AuditKey}), nil
	})
	operation(s, "GET", "/v1/audit/checkpoint", "get-audit-checkpoint", "The newest audit checkpoint; keep some elsewhere", everyone, func(ctx context.Context, _ *none) (*body[Checkpoint], error) {
		return answer(Checkpoint{string(s.Audit.Checkpoint())}), nil
	})
	type after struct {
		After int64 `query:"after" minimum:"0" doc:"the revision seen last"`
	}
	operation(s, "GET", "/v1/changes", "list-changes", "What changed after a revision, in the order of commits; about a million are kept", operators, func(ctx context.Context, in *after) (*body[[]Change], error) {
		changes, err := s.Store.Changes(ctx, caller(ctx).Tenant, in.After, maxPage)
		out := make([]Change, 0, len(changes))
		for _, c := range changes {
			out = append(out, Change{c.Rev, c.Kind, c.ID, c.Op})
		}
		return answer(out), err
	})
}

// PEM writes certificates one after the other.
func PEM(certs ...*x509.Certificate) string {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return string(out)
}
