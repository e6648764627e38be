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
type tries struct {
	mu   sync.Mutex
	next map[string]try
}

type try struct{ at, pause time.Duration } // at: on elapsed

// due says whether it is time to try it.
func (t *tries) due(what string, now time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return now >= t.next[what].at
}

func (t *tries) failed(what string, now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	pause := min(max(poll, 2*t.next[what].pause), patience)
	if t.next == nil {
		t.next = map[string]try{}
	}
	t.next[what] = try{now + pause, pause}
}

func (t *tries) worked(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.next, what)
}
