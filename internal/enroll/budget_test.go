package enroll

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestTenantBudget: many VMs of one tenant share a budget, another tenant has
// its own, and a thousand VMs that boot at once fit.
func TestTenantBudget(t *testing.T) {
	var elapsed time.Duration
	b := newBudgets(Clock{Elapsed: func() time.Duration { return elapsed }})
	spent := func(tenant string, vms int) (n int) {
		for i := range vms {
			var r Refusal
			if errors.As(b.spend(Admissions, tenant, fmt.Sprint("vm", i)), &r) && r.Code == "BUDGET_SPENT" {
				n++
			}
		}
		return n
	}
	for _, tt := range []struct {
		what, tenant string
		wait         time.Duration
		vms, want    int
	}{
		{"a rack", "a", 0, 1000, 0},
		{"three more", "a", 0, 3000, 0},
		{"one too many", "a", 0, 1, 1},
		{"another tenant", "b", 0, 1000, 0},
		{"a second later", "a", time.Second, 101, 1},
	} {
		elapsed += tt.wait
		if got := spent(tt.tenant, tt.vms); got != tt.want {
			t.Errorf("%s: %d refused, want %d", tt.what, got, tt.want)
		}
	}
}

// TestBucketsAreBounded: names that never existed do not fill the memory.
func TestBucketsAreBounded(t *testing.T) {
	var elapsed time.Duration
	b := newBudgets(Clock{Elapsed: func() time.Duration { return elapsed }})
	for i := range maxBuckets + 1000 {
		b.spend(Commands, fmt.Sprint(i), "x")
		elapsed += time.Millisecond
	}
	if len(b.buckets) > maxBuckets+1 {
		t.Errorf("%d buckets", len(b.buckets))
	}
}

// TestAllowances: each kind has a bucket of its own, and ends where it says.
func TestAllowances(t *testing.T) {
	for kind, may := range allowances {
		var elapsed time.Duration
		b := newBudgets(Clock{Elapsed: func() time.Duration { return elapsed }})
		taken := 0
		for b.spend(kind, "a", "vm") == nil {
			taken++
		}
		if taken != may.mine.burst {
			t.Errorf("kind %d: %d at once, want %d", kind, taken, may.mine.burst)
		}
		elapsed += may.mine.every
		if b.spend(kind, "a", "vm") != nil || b.spend(kind, "a", "vm") == nil {
			t.Errorf("kind %d: after %s there is not exactly one more", kind, may.mine.every)
		}
		if b.spend(kind, "a", "other") != nil || b.spend(kind, "b", "vm") != nil {
			t.Errorf("kind %d: others pay for it", kind)
		}
		for other := range allowances {
			if other != kind && b.spend(other, "a", "vm") != nil {
				t.Errorf("kind %d pays for kind %d", other, kind)
			}
		}
		if may.tenant.burst < may.mine.burst {
			t.Errorf("kind %d: one alone may spend more than its tenant", kind)
		}
	}
}
