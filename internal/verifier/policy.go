package verifier

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vouchsafe/vouchsafe/eventlog"
	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/derive"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
)

// Limits of boots that wait for an operator, and why.
const (
	// maxWaiting: an event log is below 100 KiB, so this is a few MB. The oldest goes first.
	maxWaiting = 64
	// waitingLife: whoever approves a boot should have looked at the VM today.
	waitingLife = time.Hour
)

// waiting keeps boots that proved everything but that anybody approved them, in
// memory: after a restart the agent sends its evidence again.
type waiting struct {
	mu    sync.Mutex
	boots map[[2]string]boot
}

type boot struct {
	ev  attest.Evidence
	exp attest.Expected
}

func (w *waiting) keep(tenant, vm string, ev attest.Evidence, exp attest.Expected) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.boots == nil {
		w.boots = map[[2]string]boot{}
	}
	id := [2]string{tenant, vm}
	if _, again := w.boots[id]; !again && len(w.boots) >= maxWaiting {
		oldest := id
		for other, b := range w.boots {
			if old, ok := w.boots[oldest]; !ok || b.exp.Now.Before(old.exp.Now) {
				oldest = other
			}
		}
		delete(w.boots, oldest)
	}
	w.boots[id] = boot{ev, exp}
}

func (w *waiting) get(tenant, vm string, now time.Time) (boot, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b, ok := w.boots[[2]string{tenant, vm}]
	return b, ok && now.Sub(b.exp.Now) < waitingLife
}

func (w *waiting) drop(tenant, vm string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.boots, [2]string{tenant, vm})
}

// policyRef ties an approval to one VM, so that the TPM of another does not
// take it although the same key signed.
func policyRef(tenant, vm string) []byte {
	sum := sha256.Sum256([]byte(derive.Info("", "policy", tenant, vm)))
	return sum[:]
}

// Approved is a set of reference values that was just made.
type Approved struct {
	Statement attest.Statement
	Changes   []string          // against the newest set before it
	Warnings  []finding.Finding // what the boot does not measure
	Saved     bool
}

// Enroll approves the boot that a VM last showed and that nobody had approved:
// a golden boot. Everything else about it held; the warnings say what it does
// not measure, and whoever approves must see them.
func (v *Verifier) Enroll(ctx context.Context, tenant, vm, note string) (Approved, error) {
	fail := func(err error) (Approved, error) {
		return Approved{}, fmt.Errorf("enrolling the boot of %s: %w", vm, err)
	}
	b, ok := v.boots.get(tenant, vm, v.Now())
	if !ok {
		return fail(enroll.Refusal{Code: "NO_BOOT_WAITING", Why: "no boot of it waits for approval: let its agent attest first, within the hour before this"})
	}
	log, warnings, err := attest.Golden(b.ev, b.exp)
	if err != nil {
		return fail(err)
	}
	refs, err := v.references(ctx, tenant, vm)
	if err != nil {
		return fail(err)
	}
	last, err := v.Records.LastVersion(ctx, tenant, vm)
	if err != nil {
		return fail(err)
	}
	s, err := attest.NewStatement(tenant, vm, last+1, v.Now(), log, eventlog.SHA256, attest.BootPCRs())
	if err != nil {
		return fail(err)
	}
	s.Note = note
	out := Approved{Statement: *s, Warnings: warnings}
	if base := newest(refs); base != nil {
		if out.Changes, err = s.Changes(base); err != nil {
			return fail(err)
		}
	}
	if err := v.approve(ctx, vm, s); err != nil {
		return fail(err)
	}
	v.boots.drop(tenant, vm)
	out.Saved = true
	return out, nil
}

// Propose computes the set for another kernel, initrd or command line out of the
// newest one, before the reboot; with save it is approved.
func (v *Verifier) Propose(ctx context.Context, tenant, vm, note string, m *eventlog.Measured, save bool) (Approved, error) {
	fail := func(err error) (Approved, error) {
		return Approved{}, fmt.Errorf("proposing a boot of %s: %w", vm, err)
	}
	refs, err := v.references(ctx, tenant, vm)
	if err != nil {
		return fail(err)
	}
	base := newest(refs)
	if base == nil {
		return fail(enroll.Refusal{Code: "REFERENCE_MISSING", Why: "it has no approved boot to begin with: vouchsafe policy enroll " + vm})
	}
	last, err := v.Records.LastVersion(ctx, tenant, vm)
	if err != nil {
		return fail(err)
	}
	s, err := attest.Propose(base, m, last+1, v.Now())
	if err != nil {
		return fail(err)
	}
	s.Note = note
	out := Approved{Statement: *s}
	if out.Changes, err = s.Changes(base); err != nil {
		return fail(err)
	}
	if !save {
		return out, nil
	}
	if err := v.approve(ctx, vm, s); err != nil {
		return fail(err)
	}
	out.Saved = true
	return out, nil
}

// Statements are the approved sets of a VM, in the order of their versions.
func (v *Verifier) Statements(ctx context.Context, tenant, vm string) ([]attest.Statement, error) {
	refs, err := v.references(ctx, tenant, vm)
	var out []attest.Statement
	for _, r := range refs {
		out = append(out, r.Statement())
	}
	return out, err
}

func (v *Verifier) approve(ctx context.Context, vm string, s *attest.Statement) error {
	key, err := v.Keys.signer(ctx, s.Tenant)
	if err != nil {
		return err
	}
	signed, err := s.Sign(key, policyRef(s.Tenant, vm))
	if err != nil {
		return err
	}
	return v.Records.SaveReference(ctx, Reference{Tenant: s.Tenant, Subject: vm, Version: s.Version, Signed: *signed, Created: v.Now()})
}

// references reads the approved sets and verifies each: what the database says
// counts only under the tenant's policy key.
func (v *Verifier) references(ctx context.Context, tenant, vm string) ([]*attest.ReferenceValues, error) {
	stored, err := v.Records.References(ctx, tenant, vm)
	if err != nil || len(stored) == 0 {
		return nil, err
	}
	key, err := v.Keys.signer(ctx, tenant)
	if err != nil {
		return nil, err
	}
	var refs []*attest.ReferenceValues
	for i := range stored {
		r, err := attest.Verify(&stored[i].Signed, key.Public().(*ecdsa.PublicKey))
		if err != nil {
			return nil, fmt.Errorf("version %d of the reference values of %s: %w", stored[i].Version, vm, err)
		}
		refs = append(refs, r)
	}
	return refs, nil
}

func newest(refs []*attest.ReferenceValues) *attest.ReferenceValues {
	var best *attest.ReferenceValues
	for _, r := range refs {
		if best == nil || r.Statement().Version > best.Statement().Version {
			best = r
		}
	}
	return best
}

// KeyStore keeps keys, wrapped; internal/store is one.
type KeyStore interface {
	Key(ctx context.Context, tenant, name string) (keyring.Key, error)
	SaveKey(ctx context.Context, k keyring.Key) error
}

// PolicyKeys are the tenants' policy keys: each is made when first needed, and
// never rotated by itself, since what VMs sealed names it.
type PolicyKeys struct {
	Store KeyStore
	Ring  *keyring.Ring
	Now   func() time.Time

	mu   sync.Mutex
	open map[string]crypto.Signer
}

// policyKeyName is its name in the keyring.
const policyKeyName = "policy"

func (p *PolicyKeys) signer(ctx context.Context, tenant string) (crypto.Signer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.open[tenant]; s != nil {
		return s, nil
	}
	k, err := p.Store.Key(ctx, tenant, policyKeyName)
	if errors.Is(err, enroll.ErrNotFound) {
		if k, err = p.Ring.Create(tenant, policyKeyName, keyring.Identity, keyring.Policy{}, p.Now()); err == nil {
			err = p.Store.SaveKey(ctx, k)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the policy key of tenant %s: %w", tenant, err)
	}
	opened, err := p.Ring.Open(k)
	if err != nil {
		return nil, fmt.Errorf("the policy key of tenant %s: %w", tenant, err)
	}
	s, err := opened.Signer(0)
	if err != nil {
		return nil, err
	}
	if p.open == nil {
		p.open = map[string]crypto.Signer{}
	}
	p.open[tenant] = s
	return s, nil
}

// Public is the tenant's policy key as a SubjectPublicKeyInfo.
func (p *PolicyKeys) Public(ctx context.Context, tenant string) ([]byte, error) {
	s, err := p.signer(ctx, tenant)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKIXPublicKey(s.Public())
}
