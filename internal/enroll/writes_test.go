package enroll_test

import (
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/hosting"
)

// TestOldCopyOfAGeneration: once a host said how often a state was written, one
// that was written less often gets no key, whatever became of host and service
// meanwhile; one that was written more often always does.
func TestOldCopyOfAGeneration(t *testing.T) {
	h := newHouse(t)
	h.born("web1", "h1")
	h.born("web2", "h2")
	lend := func(generation, writes int64) (enroll.Granted, error) {
		return h.Lend(t.Context(), enroll.Ask{Tenant: "default", VM: "web1", Host: "h1", Generation: generation, Writes: writes, Actor: "test"})
	}
	start := func(generation, writes int64) enroll.Granted {
		t.Helper()
		g, err := lend(generation, writes)
		h.wants("a lease", err, "")
		h.wants("confirming", h.Confirm(t.Context(), "default", "web1", g.Lease.ID, generation+1), "")
		return g
	}
	wrote := func(host, lease string, writes int64) {
		t.Helper()
		h.wants("told", h.Written(t.Context(), "default", host, []hosting.Written{{VM: "web1", Lease: lease, Writes: writes}, {VM: "web2", Lease: lease, Writes: writes}}), "")
	}
	record := func(want int64) {
		t.Helper()
		if v, err := h.store.VM(t.Context(), "default", "web1"); err != nil || v.Writes != want {
			t.Errorf("%d writes are on record, want %d; %v", v.Writes, want, err)
		}
	}
	g := start(0, 10)
	record(0) // what a header says in clear proves nothing
	wrote("h1", g.Lease.ID.String(), 12)
	wrote("h1", g.Lease.ID.String(), 11) // overtaken on its way
	wrote("h2", g.Lease.ID.String(), 9_000_000_000_000_000_000)
	wrote("h1", "ffffffffffffffffffffffffffffffff", 99)
	record(12)
	if v, _ := h.store.VM(t.Context(), "default", "web2"); v.Writes != 0 {
		t.Errorf("a VM without a lease: %d writes", v.Writes)
	}

	// The host crashes, and has one that is older, as new, or newer than what it said.
	_, err := lend(1, 11)
	h.wants("an old copy", err, "STATE_ROLLED_BACK")
	_, err = lend(1, 0)
	h.wants("one that does not say", err, "STATE_ROLLED_BACK")
	h.restart()
	_, err = lend(1, 11)
	h.wants("after the service was started anew", err, "STATE_ROLLED_BACK")
	g, err = lend(1, 12)
	h.wants("as new", err, "")
	if g.Writes != 12 {
		t.Errorf("the host is to refuse what was written less than %d times, want 12", g.Writes)
	}
	// It sealed it, and crashed before it confirmed that.
	_, err = lend(2, 11)
	h.wants("an old copy of what is not confirmed", err, "STATE_ROLLED_BACK")
	last := start(2, 50)
	wrote("h1", g.Lease.ID.String(), 60) // of a lease that another one replaced
	record(12)
	wrote("h1", last.Lease.ID.String(), 51)
	h.wants("giving it back", h.Return(t.Context(), "default", "web1", last.Lease.ID), "")
	record(51)
	_, err = lend(3, 50)
	h.wants("an old copy, the VM being off", err, "STATE_ROLLED_BACK")
	_, err = lend(2, 51)
	h.wants("another generation", err, "STATE_ROLLED_BACK")
}

// TestAcceptOldCopy: an operator may take back what was written since the last
// start, by the number that the host showed, and nothing beyond.
func TestAcceptOldCopy(t *testing.T) {
	h := newHouse(t)
	h.born("web1", "h1")
	lend := func(generation, writes int64) (enroll.Granted, error) {
		return h.Lend(t.Context(), enroll.Ask{Tenant: "default", VM: "web1", Host: "h1", Generation: generation, Writes: writes, Actor: "test"})
	}
	accept := func(generation, writes int64) error {
		_, _, err := h.AcceptState(t.Context(), enroll.Acceptance{Tenant: "default", VM: "web1", Generation: generation, Writes: writes, Reason: "the disk failed", Actor: "test"})
		return err
	}
	g, err := lend(0, 10)
	h.wants("a lease", err, "")
	h.wants("confirming", h.Confirm(t.Context(), "default", "web1", g.Lease.ID, 1), "")
	told := []hosting.Written{{VM: "web1", Lease: g.Lease.ID.String(), Writes: 40}}
	h.wants("told", h.Written(t.Context(), "default", "h1", told), "")

	_, err = lend(0, 40)
	h.wants("an older generation", err, "STATE_ROLLED_BACK")
	h.wants("which cannot be accepted", accept(0, 40), "STATE_NOT_SHOWN")
	_, err = lend(1, 30)
	h.wants("an old copy", err, "STATE_ROLLED_BACK")
	if s := h.Shown("default"); len(s) != 1 || s[0].Generation != 1 || s[0].Writes != 30 || s[0].Record != 1 || s[0].RecordWrites != 40 {
		t.Errorf("shown: %+v", s)
	}
	h.wants("not named", accept(1, 0), "STATE_ROLLED_BACK")
	h.wants("another number", accept(1, 29), "STATE_NOT_SHOWN")
	h.wants("another generation", accept(2, 30), "STATE_NOT_SHOWN")
	h.wants("by its number", accept(1, 30), "")
	h.wants("again", accept(1, 30), "STATE_NOT_SHOWN")
	h.wants("what the host of before still says", h.Written(t.Context(), "default", "h1", told), "")
	_, err = lend(1, 29)
	h.wants("an older copy still", err, "STATE_ROLLED_BACK")
	g, err = lend(1, 30)
	h.wants("the one that was accepted", err, "")
	if g.Writes != 30 || g.Lease.Generation != 2 {
		t.Errorf("the lease is of generation %d, for %d writes", g.Lease.Generation, g.Writes)
	}

	// The service comes back from a backup that is older than both numbers.
	h.wants("confirming", h.Confirm(t.Context(), "default", "web1", g.Lease.ID, 2), "")
	_, err = lend(7, 900)
	h.wants("a newer state", err, "STATE_AHEAD")
	h.wants("accepted", accept(7, 0), "")
	_, err = lend(7, 900)
	h.wants("which runs", err, "")
}
