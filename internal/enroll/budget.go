package enroll

import (
	"fmt"
	"sync"
	"time"
)

// Budgets of requests that cost the service work or a record, and why.
const (
	// A start takes up to three: lease, disk key, identity. A VM that is started
	// by hand, crashes and is started again needs a dozen starts at once; one that
	// boots in a loop must not fill the audit log.
	vmBurst, vmEvery = 40, 6 * time.Second
	// A whole rack comes back after a power cut.
	tenantBurst, tenantEvery = 4000, 10 * time.Millisecond
	// maxBuckets: those who asked lately, 100 bytes each.
	maxBuckets = 1 << 17
)

// budgets is a token bucket for each VM and each tenant, on the monotonic clock.
type budgets struct {
	clock Clock

	mu      sync.Mutex
	buckets map[[2]string]bucket // tenant and VM; the VM is empty for the tenant's own
}

// bucket is full at the time it says; each token taken moves that into the future.
type bucket struct{ full time.Duration }

func newBudgets(c Clock) *budgets { return &budgets{clock: c, buckets: map[[2]string]bucket{}} }

// spend takes one token from the VM and one from its tenant. A refusal here is
// not recorded: whoever asks too often must not fill the log by asking.
func (b *budgets) spend(tenant, vm string) error {
	now := b.clock.Elapsed()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.buckets) >= maxBuckets {
		for k, v := range b.buckets {
			if v.full <= now {
				delete(b.buckets, k)
			}
		}
		if len(b.buckets) >= maxBuckets {
			return Refusal{"BUDGET_SPENT", "too many VMs ask at once"}
		}
	}
	mine, all := [2]string{tenant, vm}, [2]string{tenant, ""}
	next := func(k [2]string, burst int, every time.Duration) (bucket, bool) {
		v := bucket{max(b.buckets[k].full, now) + every}
		return v, v.full-now <= time.Duration(burst)*every
	}
	v, ok := next(mine, vmBurst, vmEvery)
	if !ok {
		return Refusal{"BUDGET_SPENT", fmt.Sprintf("%s asked more than %d times within %s", vm, vmBurst, vmBurst*vmEvery)}
	}
	t, ok := next(all, tenantBurst, tenantEvery)
	if !ok {
		return Refusal{"BUDGET_SPENT", fmt.Sprintf("tenant %s asked more than %d times within %s", tenant, tenantBurst, tenantBurst*tenantEvery)}
	}
	b.buckets[mine], b.buckets[all] = v, t
	return nil
}
