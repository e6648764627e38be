package enroll

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/audit"
)

// After an older backup was restored, hosts have newer states than the record
// knows, and are refused with STATE_AHEAD. An operator may accept such a state;
// what is given up is in docs/runbooks/restore.md.

// Ahead is a state that a host showed and that is newer than the record.
type Ahead struct {
	VM, Host   string
	Generation int64
	Record     int64 // the generation on record then
	At         time.Time
}

// Limits of what is remembered of refused hosts, and why.
const (
	// aheadLife: hosts try again every few seconds.
	aheadLife = time.Hour
	// maxAhead: as many as a large service has VMs; 200 bytes each.
	maxAhead = 1 << 15
)

// aheads remembers the last state of each VM that was refused as too new. It is
// in memory: a host that is still there asks again.
type aheads struct {
	clock Clock

	mu sync.Mutex
	of map[[2]string]shown // by tenant and VM
}

type shown struct {
	Ahead
	until time.Duration
}

func newAheads(c Clock) *aheads { return &aheads{clock: c, of: map[[2]string]shown{}} }

func (s *aheads) note(tenant string, a Ahead) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Elapsed()
	if len(s.of) >= maxAhead {
		for k, v := range s.of {
			if v.until <= now {
				delete(s.of, k)
			}
		}
		if len(s.of) >= maxAhead {
			return
		}
	}
	s.of[[2]string{tenant, a.VM}] = shown{a, now + aheadLife}
}

func (s *aheads) get(tenant, vm string) (Ahead, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.of[[2]string{tenant, vm}]
	return v.Ahead, ok && v.until > s.clock.Elapsed()
}

func (s *aheads) drop(tenant, vm string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, [2]string{tenant, vm})
}

// Ahead lists the states of a tenant's VMs that were refused as newer than the
// record within the hour, by the VM's name.
func (e *Enroller) Ahead(tenant string) (out []Ahead) {
	e.ahead.mu.Lock()
	defer e.ahead.mu.Unlock()
	for k, v := range e.ahead.of {
		if k[0] == tenant && v.until > e.Clock.Elapsed() {
			out = append(out, v.Ahead)
		}
	}
	slices.SortFunc(out, func(a, b Ahead) int { return cmp.Compare(a.VM, b.VM) })
	return out
}

// AcceptState moves the record of a VM forward to the state that its host
// showed, and never back. The generation must be the one that was refused: a
// number that somebody mistyped would shut the VM's state out for good.
func (e *Enroller) AcceptState(ctx context.Context, tenant, vm string, generation int64, reason, actor string) (VM, audit.Receipt, error) {
	fail := func(err error) (VM, audit.Receipt, error) {
		return VM{}, audit.Receipt{}, e.refuse(ctx, tenant, actor, "vm.state-accepted", vm, fmt.Errorf("accepting the state of %s: %w", vm, err))
	}
	if err := checkReason(reason); err != nil {
		return fail(err)
	}
	seen, ok := e.ahead.get(tenant, vm)
	if !ok {
		return fail(Refusal{"STATE_NOT_SHOWN", "no host showed a state of it that is newer than the record within the last hour"})
	}
	if seen.Generation != generation {
		return fail(Refusal{"STATE_NOT_SHOWN", fmt.Sprintf("host %s showed generation %d, not %d", seen.Host, seen.Generation, generation)})
	}
	intent, err := e.Log.Begin(ctx, audit.Event{Tenant: tenant, Actor: actor, Action: "vm.state-accepted", Object: vm,
		Detail: map[string]string{"generation": strconv.FormatInt(generation, 10), "host": seen.Host, "reason": reason}})
	if err != nil {
		return fail(err)
	}
	var out VM
	var was int64
	err = e.Records.UpdateVM(ctx, tenant, vm, func(s *Standing) error {
		switch {
		case s.VM.State == StateRevoked:
			return Refusal{"VM_REVOKED", vm + " was revoked"}
		case s.VM.Host != seen.Host:
			return Refusal{"VM_ELSEWHERE", fmt.Sprintf("%s belongs on host %s, the state is on %s", vm, s.VM.Host, seen.Host)}
		case generation <= max(s.VM.Generation, s.VM.Pending):
			return Refusal{"STATE_ROLLED_BACK", fmt.Sprintf("the record is of generation %d: it never goes back", s.VM.Generation)}
		}
		was = s.VM.Generation
		// Whoever had a lease has none: it was of another history.
		s.VM.Generation, s.VM.Pending, s.Lease = generation, 0, nil
		out = s.VM
		return nil
	})
	if err != nil {
		intent.Failed(ctx, err)
		return VM{}, audit.Receipt{}, fmt.Errorf("accepting the state of %s: %w", vm, err)
	}
	e.ahead.drop(tenant, vm)
	receipt, err := intent.Done(ctx, map[string]string{"record": strconv.FormatInt(was, 10)})
	return out, receipt, err
}
