package host

import (
	"sync"
	"time"
)

// patience is the longest pause between two tries of what does not work.
const patience = 30 * time.Second

// tries spaces out what fails again and again: the first pause is one poll, and
// each is twice as long as the one before. A refused lease is a record in the
// service's audit log, and a vTPM that is not born yet is switched on for each
// try: neither may happen every second until somebody looks.
//
// What failed because this host was not trusted is tried at once when that
// changes: [Host.trust] asks for it, which leaves no record.
type tries struct {
	mu    sync.Mutex
	next  map[string]try
	asked time.Duration // on elapsed: when trust was asked for last
}

type try struct {
	at, pause time.Duration // at: on elapsed
	trust     bool          // it failed for want of trust in this host
}

// due says whether it is time to try it.
func (t *tries) due(what string, now time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return now >= t.next[what].at
}

func (t *tries) failed(what string, now time.Duration, trust bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	pause := min(max(poll, 2*t.next[what].pause), patience)
	if t.next == nil {
		t.next = map[string]try{}
	}
	t.next[what] = try{now + pause, pause, trust}
}

// ask says whether it is time to ask if this host is trusted by now.
func (t *tries) ask(now time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.next {
		if n.trust && now >= t.asked+pause {
			t.asked = now
			return true
		}
	}
	return false
}

// trusted makes due what failed for want of trust.
func (t *tries) trusted() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for what, n := range t.next {
		if n.trust {
			delete(t.next, what)
		}
	}
}

func (t *tries) worked(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.next, what)
}
