package enroll

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/vouchsafe/vouchsafe/internal/audit"
)

// StateOrdered is a VM whose vTPM its host has yet to make.
const StateOrdered State = "ordered"

// Order asks the host to make a vTPM for a VM; with the vTPM's endorsement key
// the VM is then born. The birth's own key is left out.
func (e *Enroller) Order(ctx context.Context, b Birth) (Order, error) {
	fail := func(err error) (Order, error) { return Order{}, fmt.Errorf("ordering %s: %w", b.Name, err) }
	if len(b.Disks) == 0 {
		b.Disks = []string{"root"}
	}
	if err := b.checkWords(); err != nil {
		return fail(err)
	}
	if name, err := e.Repeats.Repeated(ctx, b.Tenant, b.Once); err != nil {
		return fail(err)
	} else if name != "" {
		return e.ordered(ctx, b.Tenant, name)
	}
	if _, err := e.Records.VM(ctx, b.Tenant, b.Name); err == nil {
		return fail(ErrExists)
	} else if !errors.Is(err, ErrNotFound) {
		return fail(err)
	}
	if err := e.lost(ctx, b.Tenant, b.Host); err != nil {
		return fail(err)
	}
	if err := e.budget.spend(Keys, b.Tenant, b.Actor); err != nil {
		return fail(err)
	}
	intent, err := e.Log.Begin(ctx, audit.Event{Tenant: b.Tenant, Actor: b.Actor, Action: "vm.ordered", Object: b.Name, Detail: map[string]string{"host": b.Host}})
	if err != nil {
		return fail(err)
	}
	o := Order{Tenant: b.Tenant, VM: b.Name, Host: b.Host, Endorse: b.Endorse, Disks: b.Disks, Actor: b.Actor, Created: e.Clock.Wall()}
	if err := e.Orders.SaveOrder(ctx, o, b.Once); err != nil {
		intent.Failed(ctx, err)
		return fail(err)
	}
	_, err = intent.Done(ctx, nil)
	return o, err
}

// ordered is what became of an order that was made before.
func (e *Enroller) ordered(ctx context.Context, tenant, name string) (Order, error) {
	o, err := e.Orders.Order(ctx, tenant, name)
	if errors.Is(err, ErrNotFound) { // fulfilled meanwhile
		vm, err := e.Records.VM(ctx, tenant, name)
		return Order{Tenant: tenant, VM: name, Host: vm.Host, Created: vm.Created}, err
	}
	return o, err
}

// Fulfil is a host's answer to an order: the vTPM is made, and this is its
// endorsement key. Told twice, it is done once.
func (e *Enroller) Fulfil(ctx context.Context, tenant, host, vm string, ek []byte, actor string) (Born, error) {
	o, err := e.Orders.Order(ctx, tenant, vm)
	if errors.Is(err, ErrNotFound) {
		if known, err := e.Records.VM(ctx, tenant, vm); err == nil && known.Host == host && bytes.Equal(known.EKPublic, ek) {
			return Born{VM: known, Repeated: true}, nil
		}
	}
	if err == nil && o.Host != host {
		err = Refusal{"VM_ELSEWHERE", vm + " was ordered of host " + o.Host}
	}
	if err != nil {
		return Born{}, fmt.Errorf("fulfilling the order for %s: %w", vm, err)
	}
	return e.Born(ctx, Birth{Tenant: tenant, Name: vm, Host: host, EKPublic: ek, Endorse: o.Endorse, Disks: o.Disks, Actor: actor})
}

// EnrollTPM records the TPM by which a host proves itself from now on. That it
// was once accepted without one counts no longer. A host's TPM is not exchanged:
// a new one is a new host.
func (e *Enroller) EnrollTPM(ctx context.Context, tenant, name string, ek []byte, trust, actor string) (Host, error) {
	fail := func(err error) (Host, error) {
		return Host{}, fmt.Errorf("enrolling the TPM of host %s: %w", name, err)
	}
	if err := checkEK(ek); err != nil {
		return fail(err)
	}
	h, err := e.Hosts.Host(ctx, tenant, name)
	switch {
	case err != nil:
		return fail(err)
	case h.WasRevoked() != nil:
		return fail(h.WasRevoked())
	case bytes.Equal(h.EK, ek):
		return h, nil
	case len(h.EK) > 0:
		return fail(Refusal{"HOST_TPM_OTHER", "another TPM of this host is on record"})
	}
	intent, err := e.Log.Begin(ctx, audit.Event{Tenant: tenant, Actor: actor, Action: "host.tpm-enrolled", Object: name, Detail: map[string]string{"ek": fmt.Sprintf("%x", sha256.Sum256(ek)), "trust": trust}})
	if err != nil {
		return fail(err)
	}
	h.EK, h.AcceptedUnattested = ek, false
	h.bind(e.Ring)
	if err := e.Hosts.SaveHost(ctx, h); err != nil {
		intent.Failed(ctx, err)
		return fail(err)
	}
	_, err = intent.Done(ctx, nil)
	return h, err
}
