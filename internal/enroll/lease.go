package enroll

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/derive"
	"github.com/vouchsafe/vouchsafe/internal/hosting"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
	"github.com/vouchsafe/vouchsafe/internal/secret"
)

// LeaseTime is how long a host may run a vTPM without asking again. It is the
// longest that a second copy has to wait after the first one's host went
// silent, and that a revoked VM's vTPM keeps running.
const LeaseTime = 5 * time.Minute

// Findings is what comes with a lease or an admission.
var Findings = finding.Catalog{
	{Code: "ROLLBACK_UNANCHORED", Severity: finding.Warning,
		Meaning: finding.Text{EN: "The record of this vTPM's generation lies on the same machine as its state: whoever sets the whole machine back sets both back, and nobody notices.", ZH: "该 vTPM 的世代记录与其状态位于同一台机器：整机回滚时两者一同回滚，无从察觉。"},
		Remedy:  finding.Text{EN: "Run the control plane on another machine, or keep audit checkpoints on another machine's disk: --push-checkpoint FILE", ZH: "请将控制面放到另一台机器，或将审计检查点保存到另一台机器的磁盘：--push-checkpoint FILE"}},
	{Code: "ROLLBACK_ANCHORED", Severity: finding.Info,
		Meaning: finding.Text{EN: "The record of this vTPM's generation lies on the same machine as its state. Checkpoints of it are pushed to another file system: when the machine is set back and that is not, the service does not start.", ZH: "该 vTPM 的世代记录与其状态位于同一台机器，但其检查点被推送到另一文件系统：若整机回滚而该文件系统未回滚，服务将拒绝启动。"},
		Remedy:  finding.Text{EN: "Make sure that this file lies on another machine, and is in no snapshot of this one", ZH: "请确保该文件位于另一台机器，且不包含在本机的任何快照中"}},
	{Code: "OFFLINE_UNLOCK_ALLOWED", Severity: finding.Warning,
		Meaning: finding.Text{EN: "This VM opens its disks without the service, for some boots after each admission: whoever keeps it off the network keeps revocation from it.", ZH: "该虚拟机每次准入后可在若干次启动内不经服务打开磁盘：切断其网络者可使吊销无法送达。"},
		Remedy:  finding.Text{EN: "vouchsafe policy offline revoke NAME, when it is no longer needed", ZH: "不再需要时：vouchsafe policy offline revoke NAME"}},
	{Code: "OFFLINE_UNLOCK_OUT", Severity: finding.Warning,
		Meaning: finding.Text{EN: "The leave was withdrawn, and the VM was not seen without its ticket since: until that ran out it opens its disks without the service. Nothing takes it back from afar.", ZH: "许可已撤回，但此后尚未确认该虚拟机已删除票据：在其用尽之前仍可不经服务打开磁盘，无法远程收回。"},
		Remedy:  finding.Text{EN: "Let the VM be admitted twice: the first time it forgets its ticket, the second time it says so. To be sure at once, stop its vTPM", ZH: "让虚拟机准入两次：第一次删除票据，第二次报告。若需立即生效，请停止其 vTPM"}},
	{Code: "HOST_UNATTESTED", Severity: finding.Warning,
		Meaning: finding.Text{EN: "Keys go to a host that proved nothing about itself: everything rests on its word.", ZH: "密钥被交给未经证明的宿主机：一切取决于它是否诚实。"},
		Remedy:  finding.Text{EN: "Give the host a TPM and enrol it: vouchsafe host enroll", ZH: "请为宿主机配置 TPM 并登记：vouchsafe host enroll"}},
}

// Ask asks for a lease.
type Ask struct {
	Tenant, VM, Host string
	// Generation of the state file that the host has; 0 when the vTPM is new.
	Generation int64
	Writes     int64  // of that file, as its header says
	Pass       []byte // of a host with a TPM: what it got when it proved itself
	Actor      string
}

// Granted is a lease with its keys.
type Granted struct {
	Lease Lease
	// OpenKey opens the state at the generation asked for; empty at 0.
	OpenKey secret.Bytes
	// SealKey seals the state at Lease.Generation. The host writes its state
	// under it at once, and then confirms.
	SealKey secret.Bytes
	// Writes is how often the state was written at least: the host refuses a file
	// that says less, since only it can tell whether the file says the truth.
	Writes int64
	// For is how long the lease lasts; the host counts it on its monotonic clock.
	For       time.Duration
	Residence []byte // a signed statement
	Findings  []finding.Finding
}

// Lend gives a host leave to run a vTPM.
func (e *Enroller) Lend(ctx context.Context, a Ask) (Granted, error) {
	fail := func(err error) (Granted, error) {
		return Granted{}, e.refuse(ctx, a.Tenant, a.Actor, "vtpm.lease", a.VM, fmt.Errorf("lending %s to %s: %w", a.VM, a.Host, err))
	}
	who, err := e.asker(ctx, a)
	if err == nil {
		err = e.budget.spend(Admissions, a.Tenant, who)
	}
	if err != nil {
		return Granted{}, fmt.Errorf("lending %s to %s: %w", a.VM, a.Host, err)
	}
	// 1. May keys go to this host?
	host, err := e.Hosts.Host(ctx, a.Tenant, a.Host)
	if err != nil {
		return fail(err)
	}
	tier, st, err := e.trusted(host, a.VM, a.Generation)
	if err == nil && st != nil && !st.passes(a.Pass) {
		err = Refusal{"HOST_QUOTE_STALE", "host " + host.Name + " has proved itself, but whoever asks now did not: its credential is not enough"}
	}
	if err != nil {
		return fail(err)
	}
	// 2. Record the intent: with the answer the state key leaves the house.
	intent, err := e.Log.Begin(ctx, audit.Event{Tenant: a.Tenant, Actor: a.Actor, Action: "vtpm.lease", Object: a.VM,
		Detail: map[string]string{"host": a.Host, "generation": strconv.FormatInt(a.Generation, 10), "writes": strconv.FormatInt(a.Writes, 10)}})
	if err != nil {
		return Granted{}, err
	}
	// 3. One living copy, no older state: decided and written in one transaction.
	var s Standing
	var record VM
	err = e.Records.UpdateVM(ctx, a.Tenant, a.VM, func(st *Standing) error {
		record = st.VM
		if err := e.notOwn(a.VM, st.VM.EKPublic); err != nil {
			return err
		}
		if err := lend(st, a, e.Clock.Wall(), e.alive.holds(*st)); err != nil {
			return err
		}
		e.alive.begin(st.Lease.ID)
		s = *st
		return nil
	})
	if err != nil {
		var r Refusal
		if errors.As(err, &r) && (r.Code == "STATE_AHEAD" || r.Code == "STATE_ROLLED_BACK" && a.Generation >= record.Generation) {
			e.shown.note(a.Tenant, Shown{VM: a.VM, Host: a.Host, Generation: a.Generation, Writes: a.Writes, Record: record.Generation, RecordWrites: record.Writes, At: e.Clock.Wall()})
		}
		intent.Failed(ctx, err)
		return Granted{}, fmt.Errorf("lending %s to %s: %w", a.VM, a.Host, err)
	}
	// 4. The keys of two generations, and where the vTPM lives from now on.
	g, err := e.grant(ctx, s, house{host, tier, st}, a.Generation)
	if err != nil {
		intent.Failed(ctx, err)
		return Granted{}, fmt.Errorf("lending %s to %s: %w", a.VM, a.Host, err)
	}
	_, err = intent.Done(ctx, map[string]string{"lease": s.Lease.ID.String(), "generation": strconv.FormatInt(s.Lease.Generation, 10)})
	return g, err
}

// asker is whose budget a request for a lease is taken from: the VM's, so that one
// that boots in a loop holds up no other. A host that asks for what is not its own
// pays itself, or it could keep the VMs of others from starting.
func (e *Enroller) asker(ctx context.Context, a Ask) (string, error) {
	vm, err := e.Records.VM(ctx, a.Tenant, a.VM)
	switch {
	case err == nil && vm.Host == a.Host:
		return a.VM, nil
	case err == nil || errors.Is(err, ErrNotFound):
		return "host/" + a.Host, nil
	}
	return "", err
}

// lend is the decision: from what stands and what is asked to what shall stand.
func lend(s *Standing, a Ask, now time.Time, alive bool) error {
	switch {
	case s.VM.State == StateRevoked:
		return Refusal{"VM_REVOKED", fmt.Sprintf("%s was revoked on %s", s.VM.Name, s.VM.Revoked.UTC().Format(time.DateOnly))}
	case s.VM.Host != a.Host:
		return Refusal{"VM_ELSEWHERE", fmt.Sprintf("%s belongs on host %s", s.VM.Name, s.VM.Host)}
	case alive && s.Lease.Host != a.Host:
		return Refusal{"LEASE_ELSEWHERE", fmt.Sprintf("host %s runs this vTPM", s.Lease.Host)}
	case a.Generation < s.VM.Generation:
		return Refusal{"STATE_ROLLED_BACK", fmt.Sprintf("the state is of generation %d, the record of %d: an old copy", a.Generation, s.VM.Generation)}
	case a.Generation > max(s.VM.Generation, s.VM.Pending):
		return Refusal{"STATE_AHEAD", fmt.Sprintf("the state is of generation %d, the record only of %d: was this service set back?", a.Generation, s.VM.Generation)}
	case a.Writes < s.VM.Writes:
		return Refusal{"STATE_ROLLED_BACK", fmt.Sprintf("the state was written %d times, the one on record %d times: a copy made since the last start", a.Writes, s.VM.Writes)}
	}
	if a.Generation == s.VM.Pending {
		s.VM.Generation = a.Generation // it was written, and the confirmation got lost
	}
	s.VM.Pending = s.VM.Generation + 1
	l := Lease{Tenant: s.VM.Tenant, VM: s.VM.Name, Host: a.Host, Generation: s.VM.Pending, Issued: now, Expires: now.Add(LeaseTime)}
	rand.Read(l.ID[:])
	s.Lease = &l
	return nil
}

// Confirm says that the host has written the state of the lease's generation:
// from now on an older one is a roll-back.
func (e *Enroller) Confirm(ctx context.Context, tenant, vm string, lease keyring.ID, generation int64) error {
	err := e.Records.UpdateVM(ctx, tenant, vm, func(s *Standing) error {
		if err := hold(*s, lease, e.alive.holds(*s)); err != nil {
			return err
		}
		if generation != s.Lease.Generation {
			return Refusal{"STATE_AHEAD", fmt.Sprintf("generation %d was confirmed, the lease is for %d", generation, s.Lease.Generation)}
		}
		s.VM.Generation, s.VM.Pending = generation, 0
		return nil
	})
	if err != nil {
		return fmt.Errorf("confirming %s: %w", vm, err)
	}
	return nil
}

// Renew makes a lease last longer and states anew where the vTPM lives. A lease
// that ran out, was given back or belongs to a revoked VM is gone. c is what the
// host counted, nil when the vTPM has not started.
func (e *Enroller) Renew(ctx context.Context, tenant, vm string, lease keyring.ID, c *hosting.Counters) (Granted, error) {
	s, err := e.Records.Standing(ctx, tenant, vm)
	if err == nil {
		err = hold(s, lease, e.alive.holds(s))
	}
	if err != nil {
		return Granted{}, fmt.Errorf("renewing the lease of %s: %w", vm, err)
	}
	host, err := e.Hosts.Host(ctx, tenant, s.Lease.Host)
	if err != nil {
		return Granted{}, fmt.Errorf("renewing the lease of %s: %w", vm, err)
	}
	tier, st, err := e.trusted(host, vm, s.Lease.Generation)
	if err != nil {
		return Granted{}, fmt.Errorf("renewing the lease of %s: %w", vm, err)
	}
	err = e.Records.UpdateVM(ctx, tenant, vm, func(st *Standing) error {
		if err := hold(*st, lease, e.alive.holds(*st)); err != nil {
			return err
		}
		// State of an old snapshot, loaded past the file: the host counts fewer resets.
		if c != nil && c.Ever < st.VM.Resets {
			return Refusal{"STATE_ROLLED_BACK", fmt.Sprintf("the vTPM was reset %d times, the record says %d: its state was set back", c.Ever, st.VM.Resets)}
		} else if c != nil {
			st.VM.Resets = c.Ever
		}
		st.Lease.Expires = e.Clock.Wall().Add(LeaseTime)
		e.alive.begin(lease)
		s = *st
		return nil
	})
	if err != nil {
		return Granted{}, fmt.Errorf("renewing the lease of %s: %w", vm, err)
	}
	e.powers.keep(tenant, vm, lease, c)
	at := house{host, tier, st}
	g := Granted{Lease: *s.Lease, For: LeaseTime, Findings: e.findings(at)}
	g.Residence, err = e.residence(ctx, s, at)
	return g, err
}

// Written is told by a host how often the states that it has leases on were
// written. It is told of what lies on the disk already, so no state of an honest
// host is ever older than the record; it may be newer, and that is taken.
func (e *Enroller) Written(ctx context.Context, tenant, host string, states []hosting.Written) error {
	if err := e.Records.Written(ctx, tenant, host, states); err != nil {
		return fmt.Errorf("noting what %s wrote: %w", host, err)
	}
	return nil
}

// Return gives a lease back: the vTPM is switched off, and another host need not wait.
func (e *Enroller) Return(ctx context.Context, tenant, vm string, lease keyring.ID) error {
	err := e.Records.UpdateVM(ctx, tenant, vm, func(s *Standing) error {
		if err := hold(*s, lease, true); err != nil {
			return err
		}
		s.Lease = nil
		return nil
	})
	if err != nil {
		return fmt.Errorf("giving back the lease of %s: %w", vm, err)
	}
	return nil
}

func hold(s Standing, lease keyring.ID, alive bool) error {
	switch {
	case s.VM.State == StateRevoked:
		return Refusal{"VM_REVOKED", s.VM.Name + " was revoked"}
	case s.Lease == nil || s.Lease.ID != lease:
		return Refusal{"LEASE_GONE", "this lease was given back, or another one took its place"}
	case !alive:
		return Refusal{"LEASE_EXPIRED", "the lease ran out: ask for a new one"}
	}
	return nil
}

// house is where a vTPM lives, and what that is worth now.
type house struct {
	Host
	tier     Tier
	standing *hostStanding // nil: the host proved nothing
}

func (e *Enroller) grant(ctx context.Context, s Standing, at house, opens int64) (Granted, error) {
	key, erase, err := StateKeys(e.Ring, s.VM)
	if err != nil {
		return Granted{}, err
	}
	defer erase()
	g := Granted{Lease: *s.Lease, SealKey: key(s.Lease.Generation), Writes: s.VM.Writes, For: LeaseTime, Findings: e.findings(at)}
	if opens > 0 {
		g.OpenKey = key(opens)
	}
	g.Residence, err = e.residence(ctx, s, at)
	return g, err
}

// StateKeys returns the keys of a vTPM's state by generation, for as long as
// erase was not called. It leaves no record: it is for a lease, which does, and
// for an examination in which no key leaves the house.
func StateKeys(ring *keyring.Ring, vm VM) (key func(generation int64) secret.Bytes, erase func(), err error) {
	root, err := ring.Unwrap(vm.Tenant, vm.ID, stateSecretLabel(vm.EKPublic), vm.StateSecret)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the state secret: %w", err)
	}
	return func(generation int64) secret.Bytes {
		return derive.Key(root, derive.LeaseState, 32, vm.Tenant, vm.ID.String(), strconv.FormatInt(generation, 10))
	}, root.Erase, nil
}

func (e *Enroller) findings(at house) []finding.Finding {
	var fs []finding.Finding
	if at.tier == TierUnattested {
		fs = append(fs, Findings.New("HOST_UNATTESTED", at.Name, "tier "+string(at.tier)))
	}
	switch here := at.Name == e.LocalHost; {
	case here && e.Anchor.Apart:
		fs = append(fs, Findings.New("ROLLBACK_ANCHORED", at.Name, "by the checkpoints in "+e.Anchor.File))
	case here && e.Anchor.File != "":
		fs = append(fs, Findings.New("ROLLBACK_UNANCHORED", at.Name, "the control plane runs on this host, and "+e.Anchor.File+" lies on the same file system as its record"))
	case here:
		fs = append(fs, Findings.New("ROLLBACK_UNANCHORED", at.Name, "the control plane runs on this host"))
	}
	return fs
}

// deadlines knows which leases are still alive, on the monotonic clock: setting
// the wall clock forward ends none early, setting it back keeps none alive.
type deadlines struct {
	clock Clock
	start time.Duration

	mu    sync.Mutex
	until map[keyring.ID]time.Duration // by lease
	sweep time.Duration                // when the expired ones are dropped again
}

func newDeadlines(c Clock) *deadlines {
	return &deadlines{clock: c, start: c.Elapsed(), until: map[keyring.ID]time.Duration{}}
}

// begin starts, or starts anew, the time of a lease. It is called inside the
// transaction that writes the lease: one moment later somebody else may look.
// When the transaction then fails, this is about a lease that nobody has.
func (d *deadlines) begin(lease keyring.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.clock.Elapsed()
	d.until[lease] = now + LeaseTime
	if now >= d.sweep {
		for id, end := range d.until {
			// Kept for one more time: until all of those before the start have ended,
			// a lease that is not here counts as one of them.
			if end+LeaseTime < now {
				delete(d.until, id)
			}
		}
		d.sweep = now + LeaseTime
	}
}

// holds says whether the lease on record may still be in use. One that this
// process did not give itself may have been given just before it started.
func (d *deadlines) holds(s Standing) bool {
	if s.Lease == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	end, ok := d.until[s.Lease.ID]
	if !ok {
		end = d.start + LeaseTime
	}
	return d.clock.Elapsed() < end
}

// powers is what hosts counted of the vTPMs that run, by VM; it dies with the
// process and comes anew with the next renewal.
type powers struct {
	mu sync.Mutex
	of map[[2]string]powered // by tenant and VM; as many as there are leases
}

type powered struct {
	lease    keyring.ID
	counters hosting.Counters
}

func newPowers() *powers { return &powers{of: map[[2]string]powered{}} }

func (p *powers) keep(tenant, vm string, lease keyring.ID, c *hosting.Counters) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if id := [2]string{tenant, vm}; c != nil {
		p.of[id] = powered{lease, *c}
	} else if p.of[id].lease != lease {
		delete(p.of, id)
	}
}

// get returns what was counted under a lease, nil when nothing was.
func (p *powers) get(tenant, vm string, lease keyring.ID) *hosting.Counters {
	p.mu.Lock()
	defer p.mu.Unlock()
	got, ok := p.of[[2]string{tenant, vm}]
	if !ok || got.lease != lease {
		return nil
	}
	return &got.counters
}
