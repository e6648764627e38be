package enroll

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/audit"
)

// Limits of opening disks without the service, and why: who was allowed opens
// until it ran out, whatever happens to the VM meanwhile.
const (
	// MaxOfflineBoots: a long night of crashes, not a way of life.
	MaxOfflineBoots = 20
	// MaxOfflineFor is running time; a vTPM that is switched off counts nothing.
	MaxOfflineFor = 30 * 24 * time.Hour
	// DefaultOfflineFor bounds the running time when nobody names one.
	DefaultOfflineFor = 7 * 24 * time.Hour
)

// Offline is leave for a VM to open its disks without the service. The zero
// value is none.
type Offline struct {
	Boots   int
	For     time.Duration // of the vTPM's running
	Allowed time.Time
	// Issued is when a VM last got such a leave for its vTPM, and IssuedBoots and
	// IssuedFor what it said: it opens until that ran out or the VM is online
	// again, also after the leave was withdrawn. Zero: none is out.
	Issued      time.Time
	IssuedBoots int
	IssuedFor   time.Duration
}

// Leaves remembers who may open disks without the service.
type Leaves interface {
	Offline(ctx context.Context, tenant, vm string) (Offline, error)
	// UpdateOffline runs change on what stands and writes what it leaves.
	UpdateOffline(ctx context.Context, tenant, vm string, change func(*Offline) error) (Offline, error)
}

// AllowOffline gives a VM leave to open its disks without the service. It counts
// from the VM's next admission with a disk on, and anew from each.
func (e *Enroller) AllowOffline(ctx context.Context, tenant, vm string, boots int, running time.Duration, actor string) (Offline, error) {
	fail := func(err error) (Offline, error) {
		return Offline{}, fmt.Errorf("allowing %s to open disks offline: %w", vm, err)
	}
	if running == 0 {
		running = DefaultOfflineFor
	}
	if boots < 1 || boots > MaxOfflineBoots || running < time.Minute || running > MaxOfflineFor {
		return fail(Refusal{RequestInvalid, fmt.Sprintf("%d boots and %s; want 1 to %d boots and a minute to %s", boots, running, MaxOfflineBoots, MaxOfflineFor)})
	}
	v, err := e.Records.VM(ctx, tenant, vm)
	if err != nil {
		return fail(err)
	}
	if v.State == StateRevoked {
		return fail(Refusal{"VM_REVOKED", vm + " was revoked"})
	}
	intent, err := e.Log.Begin(ctx, audit.Event{Tenant: tenant, Actor: actor, Action: "offline.allowed", Object: vm, Detail: map[string]string{"boots": fmt.Sprint(boots), "for": running.String()}})
	if err != nil {
		return fail(err)
	}
	o, err := e.Leaves.UpdateOffline(ctx, tenant, vm, func(o *Offline) error {
		o.Boots, o.For, o.Allowed = boots, running.Truncate(time.Second), e.Clock.Wall()
		return nil
	})
	if err != nil {
		intent.Failed(ctx, err)
		return fail(err)
	}
	_, err = intent.Done(ctx, nil)
	return o, err
}

// ForbidOffline withdraws the leave. What a VM has already opens until it ran
// out: what is returned says how much that may be.
func (e *Enroller) ForbidOffline(ctx context.Context, tenant, vm, actor string) (Offline, error) {
	intent, err := e.Log.Begin(ctx, audit.Event{Tenant: tenant, Actor: actor, Action: "offline.withdrawn", Object: vm})
	if err != nil {
		return Offline{}, err
	}
	o, err := e.Leaves.UpdateOffline(ctx, tenant, vm, func(o *Offline) error {
		o.Boots, o.For, o.Allowed = 0, 0, time.Time{}
		return nil
	})
	if err != nil {
		intent.Failed(ctx, err)
		return o, fmt.Errorf("withdrawing the leave of %s: %w", vm, err)
	}
	_, err = intent.Done(ctx, nil)
	return o, err
}

// offline is what an admission says of it, on record before it is said. A VM
// that has no leave and no tickets any more has nothing out.
func (e *Enroller) offline(ctx context.Context, ev Evidence) (Offline, error) {
	if e.Leaves == nil {
		return Offline{}, nil
	}
	o, err := e.Leaves.Offline(ctx, ev.Tenant, ev.VM)
	if errors.Is(err, ErrNotFound) {
		return Offline{}, nil
	}
	issues, returned := o.Boots > 0 && ev.Disk != "", o.Boots == 0 && ev.Tickets == 0 && !o.Issued.IsZero()
	if err != nil || !issues && !returned {
		return o, err
	}
	return e.Leaves.UpdateOffline(ctx, ev.Tenant, ev.VM, func(o *Offline) error {
		switch {
		case returned:
			o.Issued, o.IssuedBoots, o.IssuedFor = time.Time{}, 0, 0
		case o.Boots > 0: // it may have been withdrawn just now
			o.Issued, o.IssuedBoots, o.IssuedFor = e.Clock.Wall(), o.Boots, o.For
		}
		return nil
	})
}

// OfflineFindings is what an operator should know of a leave.
func OfflineFindings(vm string, o Offline) []finding.Finding {
	var fs []finding.Finding
	if o.Boots > 0 {
		fs = append(fs, Findings.New("OFFLINE_UNLOCK_ALLOWED", vm, fmt.Sprintf("%s, %s of running time, since %s", boots(o.Boots), o.For, o.Allowed.UTC().Format(time.RFC3339))))
	}
	if o.Boots == 0 && !o.Issued.IsZero() {
		fs = append(fs, Findings.New("OFFLINE_UNLOCK_OUT", vm, fmt.Sprintf("given on %s: %s, %s of running time", o.Issued.UTC().Format(time.RFC3339), boots(o.IssuedBoots), o.IssuedFor)))
	}
	return fs
}

func boots(n int) string {
	if n == 1 {
		return "1 boot"
	}
	return fmt.Sprintf("%d boots", n)
}
