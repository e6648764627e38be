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
			if errors.As(b.spend(tenant, fmt.Sprint("vm", i)), &r) && r.Code == "BUDGET_SPENT" {
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
		b.spend(fmt.Sprint(i), "x")
		elapsed += time.Millisecond
	}
	if len(b.buckets) > maxBuckets+1 {
		t.Errorf("%d buckets", len(b.buckets))
	}
}
