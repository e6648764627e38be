package api

import (
	"context"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/hosting"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
)

// LeasePath is a path with a VM's name and a lease's id.
type LeasePath struct {
	Named
	ID string `path:"id" maxLength:"32"`
}

func leaseOut(g enroll.Granted) hosting.Lease {
	return hosting.Lease{ID: g.Lease.ID.String(), Generation: g.Lease.Generation, Seconds: int(g.For / time.Second), Writes: g.Writes,
		OpenKey: g.OpenKey.Reveal(), SealKey: g.SealKey.Reveal(), Residence: string(g.Residence), Findings: g.Findings}
}

// ownLease wants a host that speaks of a lease to be the one that has it: the id
// alone proves nothing, since every residence statement names it.
func (s *server) ownLease(ctx context.Context, in LeasePath) (keyring.ID, error) {
	id, err := keyID(in.ID)
	if who := caller(ctx); err == nil && who.Kind == ca.KindAgent {
		var st enroll.Standing
		if st, err = s.Store.Standing(ctx, who.Tenant, in.Name); err == nil && st.Lease != nil {
			err = sameHost(ctx, st.Lease.Host)
		}
	}
	return id, err
}

func (s *server) leases() {
	type ask struct {
		Named
		Body hosting.AskLease
	}
	operation(s, "POST", "/v1/vms/{name}/lease", "lend", "Ask for a vTPM's lease", agents, func(ctx context.Context, in *ask) (*body[hosting.Lease], error) {
		if err := sameHost(ctx, in.Body.Host); err != nil {
			return nil, err
		}
		g, err := s.Enroll.Lend(ctx, enroll.Ask{Tenant: caller(ctx).Tenant, VM: in.Name, Host: in.Body.Host, Generation: in.Body.Generation, Writes: in.Body.Writes, Pass: in.Body.Pass, Actor: caller(ctx).String()})
		return answer(leaseOut(g)), err
	})
	type confirm struct {
		LeasePath
		Body hosting.ConfirmLease
	}
	operation(s, "POST", "/v1/vms/{name}/lease/{id}/confirm", "confirm-lease", "The state of the lease's generation is written", agents, func(ctx context.Context, in *confirm) (*none, error) {
		id, err := s.ownLease(ctx, in.LeasePath)
		if err != nil {
			return nil, err
		}
		return &none{}, s.Enroll.Confirm(ctx, caller(ctx).Tenant, in.Name, id, in.Body.Generation)
	})
	type renew struct {
		LeasePath
		body[hosting.RenewLease]
	}
	operation(s, "POST", "/v1/vms/{name}/lease/{id}/renew", "renew-lease", "Make a lease last longer, and say what the host counted", agents, func(ctx context.Context, in *renew) (*body[hosting.Lease], error) {
		id, err := s.ownLease(ctx, in.LeasePath)
		if err != nil {
			return nil, err
		}
		g, err := s.Enroll.Renew(ctx, caller(ctx).Tenant, in.Name, id, in.Body.Counters)
		return answer(leaseOut(g)), err
	})
	operation(s, "DELETE", "/v1/vms/{name}/lease/{id}", "return-lease", "Give a lease back", agents, func(ctx context.Context, in *LeasePath) (*none, error) {
		id, err := s.ownLease(ctx, *in)
		if err != nil {
			return nil, err
		}
		return &none{}, s.Enroll.Return(ctx, caller(ctx).Tenant, in.Name, id)
	})
}
