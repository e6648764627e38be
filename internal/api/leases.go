package api

import (
	"context"
	"net/http"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
)

// Lease is leave to run a vTPM, with the keys to its state. It is for the host
// alone: the keys are in clear inside TLS.
type Lease struct {
	ID         string            `json:"id"`
	Generation int64             `json:"generation"`
	Seconds    int               `json:"seconds" doc:"how long it lasts; count on a monotonic clock"`
	OpenKey    []byte            `json:"open_key,omitempty" doc:"opens the state of the generation asked for"`
	SealKey    []byte            `json:"seal_key,omitempty" doc:"seals the state of this lease's generation"`
	Residence  string            `json:"residence" doc:"a signed residence statement (JWS)"`
	Findings   []finding.Finding `json:"findings,omitempty"`
}

// AskLease asks for a lease.
type AskLease struct {
	Host       string `json:"host" maxLength:"63"`
	Generation int64  `json:"generation" minimum:"0" doc:"of the state that the host has; 0: none yet"`
}

// LeasePath is a path with a VM's name and a lease's id.
type LeasePath struct {
	Named
	ID string `path:"id" maxLength:"32"`
}

// ConfirmLease says which generation is written.
type ConfirmLease struct {
	Generation int64 `json:"generation" minimum:"1"`
}

func leaseOut(g enroll.Granted) Lease {
	return Lease{g.Lease.ID.String(), g.Lease.Generation, int(g.For / time.Second), g.OpenKey.Reveal(), g.SealKey.Reveal(), string(g.Residence), g.Findings}
}

func (s *server) leases() {
	type ask struct {
		Named
		Body AskLease
	}
	operation(s, "POST", "/v1/vms/{name}/lease", "lend", "Ask for a vTPM's lease", agents, func(ctx context.Context, in *ask) (*body[Lease], error) {
		if c := caller(ctx); c.Kind == ca.KindAgent && c.Name != in.Body.Host {
			return nil, &Problem{Status: http.StatusForbidden, Title: "Forbidden", Code: "OTHER_HOST", Detail: "the certificate is of host " + c.Name + ", which cannot speak for " + in.Body.Host,
				Hint: "use the credential that was made for this host"}
		}
		g, err := s.Enroll.Lend(ctx, enroll.Ask{Tenant: caller(ctx).Tenant, VM: in.Name, Host: in.Body.Host, Generation: in.Body.Generation, Actor: caller(ctx).String()})
		return answer(leaseOut(g)), err
	})
	type confirm struct {
		LeasePath
		Body ConfirmLease
	}
	operation(s, "POST", "/v1/vms/{name}/lease/{id}/confirm", "confirm-lease", "The state of the lease's generation is written", agents, func(ctx context.Context, in *confirm) (*none, error) {
		id, err := keyID(in.ID)
		if err != nil {
			return nil, err
		}
		return &none{}, s.Enroll.Confirm(ctx, caller(ctx).Tenant, in.Name, id, in.Body.Generation)
	})
	operation(s, "POST", "/v1/vms/{name}/lease/{id}/renew", "renew-lease", "Make a lease last longer", agents, func(ctx context.Context, in *LeasePath) (*body[Lease], error) {
		id, err := keyID(in.ID)
		if err != nil {
			return nil, err
		}
		g, err := s.Enroll.Renew(ctx, caller(ctx).Tenant, in.Name, id)
		return answer(leaseOut(g)), err
	})
	operation(s, "DELETE", "/v1/vms/{name}/lease/{id}", "return-lease", "Give a lease back", agents, func(ctx context.Context, in *LeasePath) (*none, error) {
		id, err := keyID(in.ID)
		if err != nil {
			return nil, err
		}
		return &none{}, s.Enroll.Return(ctx, caller(ctx).Tenant, in.Name, id)
	})
}
