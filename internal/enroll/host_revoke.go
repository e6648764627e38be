package enroll

import (
	"context"
	"fmt"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/ca"
)

// The end of trust in a host, and a new beginning. Whoever had root on a host had
// everything of the VMs there, so their identities end with it. The VMs themselves
// are not revoked: their vTPMs run again where trust is established anew. Leases
// are not renewed and run out by themselves, since until then nobody knows that the
// old host stopped: one living copy.

// WasRevoked refuses a host in which trust was ended.
func (h Host) WasRevoked() error {
	if h.Revoked.IsZero() {
		return nil
	}
	return Refusal{"HOST_REVOKED", fmt.Sprintf("host %s was revoked on %s", h.Name, h.Revoked.UTC().Format(time.DateOnly))}
}

// RevokeHost ends all trust in a host: its credential, its leases, its word for the
// VMs on it, and what certificates they got by it. A second time does what may be left.
func (e *Enroller) RevokeHost(ctx context.Context, tenant, name, reason, actor string) (HostGone, audit.Receipt, error) {
	fail := func(err error) (HostGone, audit.Receipt, error) {
		return HostGone{}, audit.Receipt{}, fmt.Errorf("revoking host %s: %w", name, err)
	}
	if err := checkReason(reason); err != nil {
		return fail(err)
	}
	intent, err := e.Log.Begin(ctx, audit.Event{Tenant: tenant, Actor: actor, Action: "host.revoked", Object: name, Detail: map[string]string{"reason": reason}})
	if err != nil {
		return fail(err)
	}
	gone, err := e.Hosts.RevokeHost(ctx, tenant, name, reason, func(kind, name string) string {
		return ca.Name{TrustDomain: e.TrustDomain, Tenant: tenant, Kind: kind, Name: name}.String()
	})
	if err != nil {
		intent.Failed(ctx, err)
		return fail(err)
	}
	e.hosts.forget(tenant, name)
	receipt, err := intent.Done(ctx, map[string]string{"vms": fmt.Sprint(len(gone.VMs)), "certificates": fmt.Sprint(gone.Certificates)})
	if err != nil {
		return fail(err)
	}
	return gone, receipt, nil
}

// ReinstateHost begins anew with a host that was revoked. Nothing of before counts:
// no TPM, no acceptance, no credential.
func (e *Enroller) ReinstateHost(ctx context.Context, tenant, name, reason, actor string) (Host, audit.Receipt, error) {
	fail := func(err error) (Host, audit.Receipt, error) {
		return Host{}, audit.Receipt{}, fmt.Errorf("reinstating host %s: %w", name, err)
	}
	if err := checkReason(reason); err != nil {
		return fail(err)
	}
	intent, err := e.Log.Begin(ctx, audit.Event{Tenant: tenant, Actor: actor, Action: "host.reinstated", Object: name, Detail: map[string]string{"reason": reason}})
	if err != nil {
		return fail(err)
	}
	h, err := e.Hosts.ReinstateHost(ctx, tenant, name)
	if err != nil {
		intent.Failed(ctx, err)
		return fail(err)
	}
	e.hosts.forget(tenant, name)
	receipt, err := intent.Done(ctx, nil)
	return h, receipt, err
}

func checkReason(reason string) error {
	if reason == "" || len(reason) > 500 {
		return Refusal{RequestInvalid, "a reason of 1 to 500 letters is needed"}
	}
	return nil
}

// lost says that a host is not there, or not any more. It is also the last look before
// what rests on a host's word is handed out: it may have been revoked since the first.
func (e *Enroller) lost(ctx context.Context, tenant, name string) error {
	h, err := e.Hosts.Host(ctx, tenant, name)
	if err != nil {
		return fmt.Errorf("host %s: %w", name, err)
	}
	return h.WasRevoked()
}
