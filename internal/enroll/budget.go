package enroll

import (
	"fmt"
	"sync"
	"time"
)

// Spending is a kind of request that costs the service work or a record.
type Spending int

const (
	// Admissions: appraisals, leases and hosts' quotes, which cost signatures and records.
	Admissions Spending = iota
	// Commands: every request of a guest or a VM, whatever it asks for.
	Commands
	// HostCommands: every request of a host's agent, which speaks for all its VMs.
	HostCommands
	// Keys: births, orders and credentials, which cost keys, certificates and
	// rows that stay for ever.
	Keys
)

// allowance is a token bucket: so many at once, then one in every.
type allowance struct {
	burst int
	every time.Duration
}

// allowances are what each may ask for, alone and with its whole tenant, and why.
var allowances = map[Spending]struct{ mine, tenant allowance }{
	// A start takes up to three: lease, disk key, identity. A VM that is started
	// by hand, crashes and is started again needs a dozen starts at once; one that
	// boots in a loop must not fill the audit log. For the tenant: a whole rack
	// comes back after a power cut.
	Admissions: {allowance{40, 6 * time.Second}, allowance{4000, 10 * time.Millisecond}},
	// An admission is two requests, a first format one more; an agent that waits
	// for an approval asks every three seconds.
	Commands: {allowance{240, time.Second}, allowance{16_000, 2 * time.Millisecond}},
	// A host with a thousand vTPMs starts them all, renews each lease and its own
	// quote twice in five minutes, and says ten times a second what they wrote.
	HostCommands: {allowance{16_000, 20 * time.Millisecond}, allowance{64_000, 2 * time.Millisecond}},
	// Nobody makes VMs by hand faster than this; a script that runs wild fills the
	// disk with what cannot be deleted.
	Keys: {allowance{4000, 50 * time.Millisecond}, allowance{8000, 20 * time.Millisecond}},
}

// maxBuckets: those who asked lately, 150 bytes each.
const maxBuckets = 1 << 17

// budgets is a token bucket for each asker and each tenant, on the monotonic clock.
type budgets struct {
	clock Clock

	mu      sync.Mutex
	buckets map[bucketKey]bucket
}

type bucketKey struct {
	kind        Spending
	tenant, who string // who is empty for the tenant's own
}

// bucket is full at the time it says; each token taken moves that into the future.
type bucket struct{ full time.Duration }

func newBudgets(c Clock) *budgets { return &budgets{clock: c, buckets: map[bucketKey]bucket{}} }

// Spend takes one token from whoever asks and one from its tenant. Callers are
// those who know the asker and not yet what it wants: the faces.
func (e *Enroller) Spend(kind Spending, tenant, who string) error {
	return e.budget.spend(kind, tenant, who)
}

// spend is Spend. A refusal here is not recorded: whoever asks too often must
// not fill the log by asking.
func (b *budgets) spend(kind Spending, tenant, who string) error {
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
	mine, all := bucketKey{kind, tenant, who}, bucketKey{kind, tenant, ""}
	next := func(k bucketKey, a allowance) (bucket, bool) {
		v := bucket{max(b.buckets[k].full, now) + a.every}
		return v, v.full-now <= time.Duration(a.burst)*a.every
	}
	may := allowances[kind]
	v, ok := next(mine, may.mine)
	if !ok {
		return Refusal{"BUDGET_SPENT", fmt.Sprintf("%s asked more than %d times within %s", who, may.mine.burst, time.Duration(may.mine.burst)*may.mine.every)}
	}
	t, ok := next(all, may.tenant)
	if !ok {
		return Refusal{"BUDGET_SPENT", fmt.Sprintf("tenant %s asked more than %d times within %s", tenant, may.tenant.burst, time.Duration(may.tenant.burst)*may.tenant.every)}
	}
	b.buckets[mine], b.buckets[all] = v, t
	return nil
}
