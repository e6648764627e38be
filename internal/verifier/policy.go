package verifier

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"github.com/vouchsafe/vouchsafe/eventlog"
	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/derive"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
)

// Limits of boots that wait for an operator, and why.
const (
	// maxWaiting: an event log is below 100 KiB, so this is a few MB. The oldest goes first.
	maxWaiting = 64
	// maxWaitingBytes: a guest may send twenty times as much, and keep it here for an hour.
	maxWaitingBytes = 16 << 20
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
	ev     attest.Evidence
	exp    attest.Expected
	digest []byte // of the PCRs, as the quote signs it
}

func (w *waiting) keep(tenant, vm string, ev attest.Evidence, exp attest.Expected, digest []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.boots == nil {
		w.boots = map[[2]string]boot{}
	}
	id := [2]string{tenant, vm}
	delete(w.boots, id)
	for len(w.boots) > 0 && (len(w.boots) >= maxWaiting || w.bytes()+size(ev) > maxWaitingBytes) {
		oldest := id
		for other, b := range w.boots {
			if old, ok := w.boots[oldest]; !ok || b.exp.Now.Before(old.exp.Now) {
				oldest = other
			}
		}
		delete(w.boots, oldest)
	}
	w.boots[id] = boot{ev, exp, digest}
}

func (w *waiting) bytes() (n int) {
	for _, b := range w.boots {
		n += size(b.ev)
	}
	return n
}

func size(ev attest.Evidence) (n int) {
	for _, it := range ev {
		n += len(it.Data)
	}
	return n
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
// not measure, and whoever approves must see them. pcrDigest is that of the boot
// that was looked at, or nil: a guest may show another one in between.
func (v *Verifier) Enroll(ctx context.Context, tenant, vm, note string, pcrDigest []byte) (Approved, error) {
	fail := func(err error) (Approved, error) {
		return Approved{}, fmt.Errorf("enrolling the boot of %s: %w", vm, err)
	}
	b, ok := v.boots.get(tenant, vm, v.Now())
	if !ok {
		return fail(enroll.Refusal{Code: "NO_BOOT_WAITING", Why: "no boot of it waits for approval: let its agent attest first, within the hour before this"})
	}
	if len(pcrDigest) > 0 && !bytes.Equal(pcrDigest, b.digest) {
		return fail(enroll.Refusal{Code: "NO_BOOT_WAITING", Why: fmt.Sprintf("another boot waits for approval, with PCR digest %x: look at it", b.digest)})
	}
	log, warnings, err := attest.Golden(b.ev, b.exp)
	if err != nil {
		return fail(enroll.Coded("BOOT_UNFIT", err))
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
		return fail(enroll.Coded("BOOT_UNFIT", err))
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
		return fail(enroll.Coded("BOOT_UNFIT", err))
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
	v.Keys.approving.RLock()
	defer v.Keys.approving.RUnlock()
	key, err := v.Keys.get(ctx, s.Tenant)
	if err != nil {
		return err
	}
	ref, err := key.sign(s, vm, v.Now())
	if err != nil {
		return err
	}
	return v.Records.SaveReference(ctx, ref)
}

// references reads the approved sets and verifies each: what the database says
// counts only under the newest version of the tenant's policy key.
func (v *Verifier) references(ctx context.Context, tenant, vm string) ([]*attest.ReferenceValues, error) {
	_, _, refs, err := v.stored(ctx, tenant, vm)
	return refs, err
}

// stored is references with the key, and with what is on record beside each.
func (v *Verifier) stored(ctx context.Context, tenant, vm string) (*policyKey, []Reference, []*attest.ReferenceValues, error) {
	v.Keys.approving.RLock() // not between a rotation and what it signs
	defer v.Keys.approving.RUnlock()
	fail := func(err error) (*policyKey, []Reference, []*attest.ReferenceValues, error) { return nil, nil, nil, err }
	stored, err := v.Records.References(ctx, tenant, vm)
	if err != nil {
		return fail(err)
	}
	key, err := v.Keys.get(ctx, tenant)
	if err != nil {
		return fail(err)
	}
	var refs []*attest.ReferenceValues
	for i := range stored {
		r, err := key.verify(&stored[i].Signed)
		if err == nil {
			err = stored[i].is(r)
		}
		if err != nil {
			return fail(enroll.Coded("RECORD_CHANGED", fmt.Errorf("version %d of the reference values of %s: %w", stored[i].Version, vm, err)))
		}
		refs = append(refs, r)
	}
	return key, stored, refs, nil
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
