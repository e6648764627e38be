package enroll

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/derive"
	"github.com/vouchsafe/vouchsafe/internal/hosting"
)

// PurposeAdmit is what a nonce for an admission is for.
const PurposeAdmit = "admit"

// maxEvidence bounds what a VM may send: an event log is well below 100 KiB.
const maxEvidence = 2 << 20

// Evidence is what a VM sends, in the words of RFC 9334: a typed list, so that
// reports of confidential VMs can join.
type Evidence struct {
	Tenant, VM string
	Nonce      []byte
	Items      []Item
	// Exporter is bound to the TLS connection it came over (RFC 9266).
	Exporter []byte
	DNSNames []string // wanted in the identity certificate
	Disk     string   // whose share is wanted; empty: none
	Actor    string
	// Sealed are the policies that the VM says its local share is sealed under.
	Sealed [][]byte
	// Tickets is how many disks it says that it could open without us.
	Tickets int

	// What the service knows beside it; Admit fills it in.
	Tier     Tier              // of the host
	Counters *hosting.Counters // that the host counted; nil: it counted nothing
}

// Item is one piece of evidence.
type Item struct {
	Type  string // "tpm2-quote", …
	Value []byte
}

// Appraisal is the result of appraising evidence, in plain values.
type Appraisal struct {
	Affirming bool   // whether everything matched the reference values
	Code      string // why not
	Why       string
	// IdentityKey was made in the vTPM and certified by its AK.
	IdentityKey crypto.PublicKey
	// SealShare encrypts to a key of the null hierarchy, certified by the AK, so
	// that what it makes dies with this boot.
	SealShare func(share []byte) ([]byte, error)
	// Unlock lets the vTPM itself see that this boot is approved.
	Unlock []byte
	// Result is the attestation result as it is handed on, in the shape of EAR;
	// Token is the same, signed.
	Result []byte
	Token  string
}

// Appraiser judges evidence against what is known of a VM.
type Appraiser interface {
	Appraise(ctx context.Context, vm VM, e Evidence) (Appraisal, error)
}

// Admitted is what a VM gets.
type Admitted struct {
	Certificate *x509.Certificate
	Chain       []*x509.Certificate
	Share       []byte // the server's share of the disk key, encrypted
	Disk        Disk
	Offline     Offline // leave to open disks without the service; Boots 0: none
	Tier        Tier    // of its host
	Unlock      []byte  // for the vTPM; see [Appraisal]
	Result      []byte
	Token       string
	Checkpoint  []byte
}

// Admit lets a VM prove itself, and gives it what it then may have.
func (e *Enroller) Admit(ctx context.Context, ev Evidence) (Admitted, error) {
	fail := func(err error) (Admitted, error) {
		return Admitted{}, e.refuse(ctx, ev.Tenant, ev.Actor, "vm.admitted", ev.VM, fmt.Errorf("admitting %s: %w", ev.VM, err))
	}
	if err := e.budget.spend(Admissions, ev.Tenant, ev.VM); err != nil {
		return Admitted{}, fmt.Errorf("admitting %s: %w", ev.VM, err)
	}
	size := 0
	for _, i := range ev.Items {
		size += len(i.Value)
	}
	if size > maxEvidence {
		return fail(Refusal{"EVIDENCE_TOO_LARGE", fmt.Sprintf("the evidence has %d bytes, more than %d", size, maxEvidence)})
	}

	// 1. Fresh, ours, and never seen.
	if err := e.nonces.use(ev.Nonce, ev.Tenant, ev.VM, PurposeAdmit); err != nil {
		return fail(err)
	}
	s, err := e.Records.Standing(ctx, ev.Tenant, ev.VM)
	if err != nil {
		return fail(err)
	}
	vm := s.VM
	if vm.State == StateRevoked {
		return fail(Refusal{"VM_REVOKED", fmt.Sprintf("%s was revoked on %s", vm.Name, vm.Revoked.UTC().Format(time.DateOnly))})
	}

	if err := e.checkRecord(vm); err != nil {
		return fail(err)
	}
	if err := e.notOwn(vm.Name, vm.EKPublic); err != nil {
		return fail(err)
	}

	// 2. Where does it live? A vTPM that is kept under leases runs only under one,
	// and the certificate says how much its host is known to be worth.
	host, err := e.Hosts.Host(ctx, ev.Tenant, vm.Host)
	if err == nil {
		err = host.WasRevoked()
	}
	if err != nil {
		return fail(err)
	}
	if vm.Generation > 0 {
		if !e.alive.holds(s) {
			return fail(Refusal{"LEASE_EXPIRED", "no host has a lease on its vTPM"})
		}
		ev.Counters = e.powers.get(ev.Tenant, ev.VM, s.Lease.ID)
	}
	if ev.Tier, _, err = e.trusted(host, ev.VM, max(1, vm.Generation)); err != nil {
		return fail(err)
	}

	// 3. Appraise: the verdict uses only what the vTPM signed.
	if e.Appraiser == nil {
		return fail(errors.New("this service appraises no evidence"))
	}
	a, err := e.Appraiser.Appraise(ctx, vm, ev)
	if err != nil {
		return fail(err)
	}
	if !a.Affirming {
		return fail(Refusal{a.Code, a.Why})
	}

	// 4. Record the intent; then certificate and share.
	offline, err := e.offline(ctx, ev)
	if err != nil {
		return fail(err)
	}
	detail := map[string]string{"disk": ev.Disk, "tier": string(ev.Tier)}
	if offline.Boots > 0 {
		detail["offline"] = fmt.Sprintf("%d boots, %s", offline.Boots, offline.For)
	}
	intent, err := e.Log.Begin(ctx, audit.Event{Tenant: ev.Tenant, Actor: ev.Actor, Action: "vm.admitted", Object: ev.VM, Detail: detail})
	if err != nil {
		return Admitted{}, fmt.Errorf("admitting %s: %w", ev.VM, err)
	}
	out, err := e.admit(ctx, ev, vm, a)
	if err != nil {
		intent.Failed(ctx, err)
		return Admitted{}, fmt.Errorf("admitting %s: %w", ev.VM, err)
	}

	// 7. The outcome, with a checkpoint that the VM can keep.
	detail = map[string]string{"certificate": ca.SerialText(out.Certificate)}
	if len(a.Result) > 0 {
		detail["result"] = fmt.Sprintf("%x", sha256.Sum256(a.Result))
	}
	receipt, err := intent.Done(ctx, detail)
	if err != nil {
		return Admitted{}, fmt.Errorf("admitting %s: %w", ev.VM, err)
	}
	out.Offline = offline
	out.Tier, out.Unlock, out.Result, out.Token, out.Checkpoint = ev.Tier, a.Unlock, a.Result, a.Token, receipt.Checkpoint
	return out, nil
}

func (e *Enroller) admit(ctx context.Context, ev Evidence, vm VM, a Appraisal) (Admitted, error) {
	var out Admitted
	tier, err := asn1.MarshalWithParams(string(ev.Tier), "utf8")
	if err != nil {
		return out, err
	}
	// 5. The identity, for a key that cannot leave the vTPM.
	name := e.subject(ev.Tenant, ev.VM)
	out.Certificate, err = e.Issuer.Issue(ctx, ca.VMProfile, ca.Request{
		Tenant: ev.Tenant, PublicKey: a.IdentityKey, Name: &name, DNSNames: ev.DNSNames,
		Extensions: []pkix.Extension{{Id: ca.OIDAdmissionTier, Value: tier}},
	})
	if err != nil {
		return out, err
	}
	if out.Chain, err = e.Issuer.Chain(ca.VMIdentity); err != nil {
		return out, err
	}
	// 6. The server's share of the disk key, encrypted so that it dies with this boot.
	if ev.Disk != "" {
		if out.Disk, err = e.Disks.Disk(ctx, ev.Tenant, ev.VM, ev.Disk); err != nil {
			return out, fmt.Errorf("disk %s: %w", ev.Disk, err)
		}
		share, err := e.Ring.Unwrap(ev.Tenant, vm.ID, diskShareLabel(ev.Disk), out.Disk.Share)
		if err != nil {
			return out, fmt.Errorf("opening the share of disk %s: %w", ev.Disk, err)
		}
		defer share.Erase()
		if share.Len() != derive.ShareSize {
			return out, fmt.Errorf("the share of disk %s has %d bytes", ev.Disk, share.Len())
		}
		if out.Share, err = a.SealShare(share.Reveal()); err != nil {
			return out, fmt.Errorf("sealing the share of disk %s: %w", ev.Disk, err)
		}
	}
	// Revoked in the meantime, VM or host? The last look at the VM is in the transaction
	// that admits. What revoked the VM's certificates may have come before this one.
	err = e.Records.UpdateVM(ctx, ev.Tenant, ev.VM, func(s *Standing) error {
		if s.VM.State == StateRevoked {
			return Refusal{"VM_REVOKED", s.VM.Name + " was revoked"}
		}
		s.VM.State = StateAdmitted
		return nil
	})
	if err == nil {
		err = e.lost(ctx, ev.Tenant, vm.Host)
	}
	if err != nil {
		err = errors.Join(err, e.Records.Revoke(context.WithoutCancel(ctx), ev.Tenant, ca.SerialText(out.Certificate), ca.PrivilegeWithdrawn))
	}
	return out, err
}
