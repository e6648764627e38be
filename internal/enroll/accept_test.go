package enroll_test

import (
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/enroll"
)

// TestAcceptState: forward only, only what the host showed, and only by name.
func TestAcceptState(t *testing.T) {
	h := newHouse(t)
	h.born("web1", "h1")
	g, err := h.lend("h1", 0)
	h.wants("first lease", err, "")
	h.wants("confirming", h.Confirm(t.Context(), "default", "web1", g.Lease.ID, 1), "")
	accept := func(generation int64, reason string) error {
		_, _, err := h.AcceptState(t.Context(), enroll.Acceptance{Tenant: "default", VM: "web1", Generation: generation, Reason: reason, Actor: "spiffe://vouchsafe.test/default/operator/alice"})
		return err
	}
	h.wants("nobody showed anything", accept(7, "restored"), "STATE_NOT_SHOWN")
	_, err = h.lend("h1", 7)
	h.wants("a newer state", err, "STATE_AHEAD")
	if a := h.Shown("default"); len(a) != 1 || a[0].Generation != 7 || a[0].Record != 1 || a[0].Host != "h1" || len(h.Shown("other")) != 0 {
		t.Errorf("shown: %+v", a)
	}
	h.wants("another generation", accept(8, "restored"), "STATE_NOT_SHOWN")
	if err := accept(7, ""); err == nil {
		t.Error("accepted without a reason")
	}
	h.wants("another host asks", func() error { _, err := h.lend("h2", 9); return err }(), "VM_ELSEWHERE")
	h.wants("the one that was shown", accept(7, "restored"), "")
	h.wants("twice", accept(7, "restored"), "STATE_NOT_SHOWN")
	if len(h.Shown("default")) != 0 {
		t.Error("it is still on the list")
	}
	// The lease of before is of another history, and what is older is a roll-back.
	h.wants("confirming a lease of before", h.Confirm(t.Context(), "default", "web1", g.Lease.ID, 1), "LEASE_GONE")
	_, err = h.lend("h1", 6)
	h.wants("an older state", err, "STATE_ROLLED_BACK")
	g, err = h.lend("h1", 7)
	h.wants("the accepted state", err, "")
	if g.Lease.Generation != 8 {
		t.Errorf("the next generation is %d", g.Lease.Generation)
	}
	// An hour is enough to look.
	_, err = h.lend("h1", 20)
	h.wants("newer still", err, "STATE_AHEAD")
	h.pass(61 * time.Minute)
	h.wants("an hour later", accept(20, "restored"), "STATE_NOT_SHOWN")
	_, err = h.lend("h1", 20)
	h.wants("shown again", err, "STATE_AHEAD")
	if _, _, err := h.Revoke(t.Context(), "default", "web1", "test", "test"); err != nil {
		t.Fatal(err)
	}
	h.wants("a revoked VM", accept(20, "restored"), "VM_REVOKED")
}
