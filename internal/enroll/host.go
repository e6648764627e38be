package enroll

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/hosting"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
	"github.com/vouchsafe/vouchsafe/internal/secret"
)

// PurposeHost is what a nonce for a host's evidence is for.
const PurposeHost = hosting.Purpose

// HostLife is how long a host's quote counts: as long as a lease, which is
// renewed with a new one.
const HostLife = LeaseTime

// HostEvidence is what a host sends: a quote of its TPM that covers the root of
// the Merkle tree over {EK name, generation} of the vTPMs it carries, so that
// one quote speaks for all of them.
type HostEvidence struct {
	Tenant, Host string
	Nonce        []byte
	Items        []Item
	Exporter     []byte
	Carried      []hosting.Carried // in the order of the leaves
	Actor        string
}

// HostAppraisal is the result of appraising a host.
type HostAppraisal struct {
	Affirming bool
	Code, Why string // why not
	Measured  Measured
	Result    []byte // EAR
}

// Measured is what a host's TPM says that it booted.
type Measured struct {
	Policy uint64 `json:"policy_version"` // the approved boot that it fits
	PCRs   []byte `json:"pcr_digest"`     // as the quote signs it
	Quote  []byte `json:"quote"`          // SHA-256 of the TPMS_ATTEST
}

// HostAppraiser judges a host's evidence.
type HostAppraiser interface {
	AppraiseHost(ctx context.Context, h Host, e HostEvidence, covers []byte) (HostAppraisal, error)
}

// HostStanding is what a host has just proved.
type HostStanding struct {
	Tier   Tier
	For    time.Duration
	Pass   []byte // a lease is asked for with it
	Result []byte
}

// AttestHost takes a host's evidence. What it proves counts for HostLife and
// dies with this process: the host attests again by itself.
func (e *Enroller) AttestHost(ctx context.Context, ev HostEvidence) (HostStanding, error) {
	fail := func(err error) (HostStanding, error) {
		return HostStanding{}, e.refuse(ctx, ev.Tenant, ev.Actor, "host.attested", ev.Host, fmt.Errorf("attesting host %s: %w", ev.Host, err))
	}
	if err := e.budget.spend(Admissions, ev.Tenant, "host/"+ev.Host); err != nil {
		return HostStanding{}, fmt.Errorf("attesting host %s: %w", ev.Host, err)
	}
	// 1. Fresh, ours, and never seen; a host that has a TPM.
	if err := e.nonces.use(ev.Nonce, ev.Tenant, ev.Host, PurposeHost); err != nil {
		return fail(err)
	}
	host, err := e.Hosts.Host(ctx, ev.Tenant, ev.Host)
	if err != nil {
		return fail(err)
	}
	if err := host.WasRevoked(); err != nil {
		return fail(err)
	}
	if len(host.EK) == 0 {
		return fail(Refusal{"HOST_TPM_UNKNOWN", "no TPM of this host is on record"})
	}
	if err := CheckHost(e.Ring, host); err != nil {
		return fail(err)
	}
	// 2. The tree, from our own records: the host says only which it has, and how old.
	tree, at, err := e.carriedTree(ctx, ev)
	if err != nil {
		return fail(err)
	}
	root, err := tree.Root()
	if err != nil {
		return fail(err)
	}
	// 3. Appraise.
	if e.HostAppraiser == nil {
		return fail(errors.New("this service appraises no hosts"))
	}
	a, err := e.HostAppraiser.AppraiseHost(ctx, host, ev, root)
	if err != nil {
		return fail(err)
	}
	if !a.Affirming {
		e.hosts.forget(ev.Tenant, ev.Host) // what it proved before counts no longer
		return fail(Refusal{a.Code, a.Why})
	}
	// 4. On record when it says something new, then in force.
	if old := e.hosts.get(ev.Tenant, ev.Host); old == nil || old.measured.Policy != a.Measured.Policy || !bytes.Equal(old.measured.PCRs, a.Measured.PCRs) {
		_, err = e.Log.Append(ctx, audit.Event{Tenant: ev.Tenant, Actor: ev.Actor, Action: "host.attested", Object: ev.Host, Phase: audit.Fact,
			Detail: map[string]string{"vtpms": strconv.Itoa(len(ev.Carried)), "root": fmt.Sprintf("%x", root), "result": fmt.Sprintf("%x", sha256.Sum256(a.Result))}})
		if err != nil {
			return HostStanding{}, fmt.Errorf("attesting host %s: %w", ev.Host, err)
		}
	}
	pass := e.hosts.keep(ev.Tenant, ev.Host, &hostStanding{measured: a.Measured, tree: tree, at: at})
	return HostStanding{Tier: TierTPM, For: HostLife, Pass: pass, Result: a.Result}, nil
}

func (e *Enroller) carriedTree(ctx context.Context, ev HostEvidence) (*attest.CarriedTree, map[string]carriedAt, error) {
	if len(ev.Carried) > hosting.MaxCarried {
		return nil, nil, Refusal{"EVIDENCE_TOO_LARGE", fmt.Sprintf("%d vTPMs, more than %d", len(ev.Carried), hosting.MaxCarried)}
	}
	here, err := e.Hosts.VMsOn(ctx, ev.Tenant, ev.Host)
	if err != nil {
		return nil, nil, err
	}
	eks := make(map[string][]byte, len(here))
	for _, vm := range here {
		eks[vm.Name] = vm.EKPublic
	}
	list, at := make([]attest.Carried, 0, len(ev.Carried)), make(map[string]carriedAt, len(ev.Carried))
	for i, c := range ev.Carried {
		ek, ok := eks[c.VM]
		if !ok {
			return nil, nil, Refusal{"VM_ELSEWHERE", fmt.Sprintf("%.63q does not belong on host %s", c.VM, ev.Host)}
		}
		if _, twice := at[c.VM]; twice {
			return nil, nil, Refusal{"CARRIED_TWICE", c.VM + " is listed twice"}
		}
		name, err := admission.EKName(ek)
		if err != nil {
			return nil, nil, err
		}
		at[c.VM] = carriedAt{int64(i), c.Generation}
		list = append(list, attest.Carried{EKName: name, Generation: c.Generation})
	}
	tree, err := attest.NewCarriedTree(list)
	return tree, at, err
}

// hostStanding is what a host proved, and until when that counts.
type hostStanding struct {
	until    time.Duration // on the monotonic clock
	measured Measured
	tree     *attest.CarriedTree
	at       map[string]carriedAt // by VM
	// pass is what whoever proved itself asks for leases with. It stays the same for
	// HostLife, since many quotes are made while one lease is on its way, and is good
	// for as long again.
	pass, before []byte
	passed       time.Duration // when it was made
}

type carriedAt struct{ index, generation int64 }

// hostStandings are those of all hosts, in memory: a quote speaks of now.
type hostStandings struct {
	clock Clock

	mu sync.Mutex
	of map[[2]string]*hostStanding // by tenant and host; as many as there are hosts with a TPM
}

func newHostStandings(c Clock) *hostStandings {
	return &hostStandings{clock: c, of: map[[2]string]*hostStanding{}}
}

// keep puts a standing in force, and returns the pass that goes with it.
func (s *hostStandings) keep(tenant, host string, st *hostStanding) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, now := [2]string{tenant, host}, s.clock.Elapsed()
	if old := s.of[id]; old != nil && now < old.until {
		st.pass, st.before, st.passed = old.pass, old.before, old.passed
	}
	if st.pass == nil || now-st.passed >= HostLife {
		st.pass, st.before, st.passed = make([]byte, 32), st.pass, now
		rand.Read(st.pass)
	}
	st.until = now + HostLife
	s.of[id] = st
	return st.pass
}

// passes says whether whoever asks is who proved itself. The answer to a host's
// evidence goes to the machine whose TPM quoted, since the quote is bound to the
// connection; a host's credential lies on its disk, and a copy of that disk must
// not be as good as the machine.
func (st *hostStanding) passes(pass []byte) bool {
	return subtle.ConstantTimeCompare(pass, st.pass) == 1 || len(st.before) > 0 && subtle.ConstantTimeCompare(pass, st.before) == 1
}

func (s *hostStandings) forget(tenant, host string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, [2]string{tenant, host})
}

func (s *hostStandings) get(tenant, host string) *hostStanding {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.of[[2]string{tenant, host}]
	if st == nil || s.clock.Elapsed() >= st.until {
		return nil
	}
	return st
}

// trusted says what a host is worth now, for a VM whose state is of a
// generation: nothing is handed out on the word of a host that has a TPM and
// lets it not speak. The standing is nil for a host that was accepted unattested.
func (e *Enroller) trusted(h Host, vm string, generation int64) (Tier, *hostStanding, error) {
	if err := h.WasRevoked(); err != nil {
		return "", nil, err
	}
	st := e.hosts.get(h.Tenant, h.Name)
	if st == nil {
		switch {
		case h.AcceptedUnattested:
			return TierUnattested, nil, nil
		case len(h.EK) == 0:
			return "", nil, Refusal{"HOST_UNATTESTED", "host " + h.Name + " proved nothing about itself, and nobody accepted that"}
		}
		return "", nil, Refusal{"HOST_QUOTE_STALE", fmt.Sprintf("host %s has not proved itself within the last %s", h.Name, HostLife)}
	}
	if got, ok := st.at[vm]; generation > 0 && (!ok || got.generation != generation) {
		return "", nil, Refusal{"VTPM_NOT_QUOTED", fmt.Sprintf("the quote of host %s does not cover %s in generation %d", h.Name, vm, generation)}
	}
	return TierTPM, st, nil
}

// Tier is what a host is worth now, whatever VM it is asked for.
func (e *Enroller) Tier(h Host) Tier {
	if e.hosts.get(h.Tenant, h.Name) != nil {
		return TierTPM
	}
	return TierUnattested
}

// docs/formats/keyring.md lists it. Whoever can write to the store cannot put
// another TPM into a host's record, nor give one host's TPM to another.
func hostEKLabel(h Host) string {
	sum := sha256.Sum256(h.EK)
	return "endorsement key of host " + h.Name + " " + hex.EncodeToString(sum[:])
}

// bind ties the endorsement key to the record.
func (h *Host) bind(ring *keyring.Ring) {
	s := secret.Random(16)
	defer s.Erase()
	h.EKBond = ring.Wrap(h.Tenant, h.ID, hostEKLabel(*h), s)
}

// CheckHost makes sure that a host's endorsement key is the one that was enrolled.
func CheckHost(ring *keyring.Ring, h Host) error {
	if len(h.EK) == 0 {
		return nil
	}
	s, err := ring.Unwrap(h.Tenant, h.ID, hostEKLabel(h), h.EKBond)
	s.Erase()
	if err != nil {
		return Refusal{"RECORD_CHANGED", "the record of host " + h.Name + " is not as the service wrote it: its endorsement key is another one than was enrolled"}
	}
	return nil
}

// RewrapHost wraps what is kept of a host anew under the ring's root key, and
// says whether it was under an older one.
func RewrapHost(ring *keyring.Ring, h Host) (Host, bool, error) {
	if len(h.EK) == 0 {
		return h, false, nil
	}
	bond, changed, err := ring.Rewrap(h.Tenant, h.ID, hostEKLabel(h), h.EKBond)
	if err != nil {
		return h, false, fmt.Errorf("wrapping the bond of host %s anew: %w", h.Name, err)
	}
	h.EKBond = bond
	return h, changed, nil
}
