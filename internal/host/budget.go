package host

import (
	"sync"
	"time"
)

// Budgets of TPM time, and why.
const (
	// burst is TPM time that a VM may use at once: a boot with firmware, shim, an
	// agent's admission and a dozen RSA keys is below it.
	burst = 20 * time.Second
	// share is what of one core a VM's TPM may use for ever: 1/share. A guest that
	// makes keys in a loop costs its neighbours no more than that.
	share = 4
)

// meter is a token bucket of TPM time. A guest that overdraws it waits; it is
// refused nothing, and nobody else waits for it.
type meter struct {
	mu   sync.Mutex
	full time.Duration // on elapsed: when all that was used is paid for
}

// charge takes used from the budget, at a moment, and returns how long the
// guest has to wait before its next answer.
func (m *meter) charge(now, used time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.full = max(m.full, now) + share*used
	return max(0, m.full-now-share*burst)
}
