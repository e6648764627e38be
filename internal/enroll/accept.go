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

// After an older backup of the service was restored, hosts have newer states than
// the record knows, and are refused with STATE_AHEAD. After a host's disk was
// restored, it has states that were written less often than the record says, and
// is refused with STATE_ROLLED_BACK. An operator may accept such a state; what is
// given up is in docs/runbooks/restore.md.

// Shown is a state that a host showed, and that was refused as another than the
// one on record: of a newer generation, or of the same one and written less often.
type Shown struct {
	VM, Host             string
	Generation, Writes   int64
	Record, RecordWrites int64 // what was on record then
	At                   time.Time
}

// Limits of what is remembered of refused hosts, and why.
const (
	// shownLife: hosts try again every few seconds.
	shownLife = time.Hour
	// maxShown: as many as a large service has VMs; 200 bytes each.
	maxShown = 1 << 15
)

// showns remembers the last state of each VM that was refused so. It is in memory:
// a host that is still there asks again.
type showns struct {
	clock Clock

	mu sync.Mutex
	of map[[2]string]shownUntil // by tenant and VM
}

type shownUntil struct {
	Shown
	until time.Duration
}

func newShowns(c Clock) *showns { return &showns{clock: c, of: map[[2]string]shownUntil{}} }

func (s *showns) note(tenant string, a Shown) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Elapsed()
	if len(s.of) >= maxShown {
		for k, v := range s.of {
			if v.until <= now {
				delete(s.of, k)
			}
		}
		if len(s.of) >= maxShown {
			return
		}
	}
	s.of[[2]string{tenant, a.VM}] = shownUntil{a, now + shownLife}
}

func (s *showns) get(tenant, vm string) (Shown, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.of[[2]string{tenant, vm}]
	return v.Shown, ok && v.until > s.clock.Elapsed()
}

func (s *showns) drop(tenant, vm string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, [2]string{tenant, vm})
}

// Shown lists the states of a tenant's VMs that were refused within the hour and
// may be accepted, by the VM's name.
func (e *Enroller) Shown(tenant string) (out []Shown) {
	e.shown.mu.Lock()
	defer e.shown.mu.Unlock()
	for k, v := range e.shown.of {
		if k[0] == tenant && v.until > e.Clock.Elapsed() {
			out = append(out, v.Shown)
		}
	}
	slices.SortFunc(out, func(a, b Shown) int { return cmp.Compare(a.VM, b.VM) })
	return out
}

// Acceptance is an operator's word that a state which was refused is the newest
// that there is.
type Acceptance struct {
	Tenant, VM string
	// Generation must be the one that was refused: a number that somebody mistyped
	// would shut the VM's state out for good.
	Generation int64
	// Writes must be named for a state that was written less often than the record
	// says: it is taken back, and that is not to happen by the way. 0: not named.
	Writes int64
	Reason string
	Actor  string
}

// AcceptState makes the record of a VM fit the state that its host showed: forward
// to a newer generation, never back to an older one, and within the same one back
// to the count of writes that the operator names.
func (e *Enroller) AcceptState(ctx context.Context, a Acceptance) (VM, audit.Receipt, error) {
	fail := func(err error) (VM, audit.Receipt, error) {
		return VM{}, audit.Receipt{}, e.refuse(ctx, a.Tenant, a.Actor, "vm.state-accepted", a.VM, fmt.Errorf("accepting the state of %s: %w", a.VM, err))
	}
	if err := checkReason(a.Reason); err != nil {
		return fail(err)
	}
	seen, ok := e.shown.get(a.Tenant, a.VM)
	switch {
	case !ok:
		return fail(Refusal{"STATE_NOT_SHOWN", "no host showed another state of it than the one on record within the last hour"})
	case seen.Generation != a.Generation:
		return fail(Refusal{"STATE_NOT_SHOWN", fmt.Sprintf("host %s showed generation %d, not %d", seen.Host, seen.Generation, a.Generation)})
	case a.Writes != 0 && seen.Writes != a.Writes:
		return fail(Refusal{"STATE_NOT_SHOWN", fmt.Sprintf("host %s showed a state of %d writes, not %d", seen.Host, seen.Writes, a.Writes)})
	}
	intent, err := e.Log.Begin(ctx, audit.Event{Tenant: a.Tenant, Actor: a.Actor, Action: "vm.state-accepted", Object: a.VM,
		Detail: map[string]string{"generation": strconv.FormatInt(seen.Generation, 10), "writes": strconv.FormatInt(seen.Writes, 10), "host": seen.Host, "reason": a.Reason}})
	if err != nil {
		return fail(err)
	}
	var was, is VM
	err = e.Records.UpdateVM(ctx, a.Tenant, a.VM, func(s *Standing) error {
		was = s.VM
		if err := accept(s, seen, a.Writes); err != nil {
			return err
		}
		is = s.VM
		return nil
	})
	if err != nil {
		intent.Failed(ctx, err)
		return VM{}, audit.Receipt{}, fmt.Errorf("accepting the state of %s: %w", a.VM, err)
	}
	e.shown.drop(a.Tenant, a.VM)
	receipt, err := intent.Done(ctx, map[string]string{"record": strconv.FormatInt(was.Generation, 10), "record-writes": strconv.FormatInt(was.Writes, 10)})
	return is, receipt, err
}

// accept is the decision. Whoever had a lease has none afterwards: it was of
// another history, and what its host still says of writes counts no more.
func accept(s *Standing, seen Shown, writes int64) error {
	newer := seen.Generation > max(s.VM.Generation, s.VM.Pending)
	switch {
	case s.VM.State == StateRevoked:
		return Refusal{"VM_REVOKED", s.VM.Name + " was revoked"}
	case s.VM.Host != seen.Host:
		return Refusal{"VM_ELSEWHERE", fmt.Sprintf("%s belongs on host %s, the state is on %s", s.VM.Name, s.VM.Host, seen.Host)}
	case seen.Generation < s.VM.Generation, !newer && seen.Writes >= s.VM.Writes:
		return Refusal{"STATE_ROLLED_BACK", fmt.Sprintf("the record is of generation %d: it never goes back", s.VM.Generation)}
	case seen.Writes < s.VM.Writes && writes == 0:
		return Refusal{"STATE_ROLLED_BACK", fmt.Sprintf("the state was written %d times, the one on record %d times: to take that back, name it (writes %d)", seen.Writes, s.VM.Writes, seen.Writes)}
	}
	if newer {
		s.VM.Generation, s.VM.Pending = seen.Generation, 0
	}
	s.VM.Writes, s.Lease = min(s.VM.Writes, seen.Writes), nil
	return nil
}
