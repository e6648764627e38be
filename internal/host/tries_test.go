package host

import (
	"testing"
	"time"
)

// A host that nobody accepts asks for a lease seldom, and not every second for
// days: each no is a record in the audit log.
func TestTries(t *testing.T) {
	var tr tries
	asked := func(from, to time.Duration) (n int) {
		for now := from; now < to; now += poll {
			if tr.due("web1", now) {
				n++
				tr.failed("web1", now)
			}
		}
		return n
	}
	if n := asked(0, 8*time.Second); n != 4 { // at 0, 1, 3 and 7
		t.Errorf("%d tries in the first 8 seconds, want 4", n)
	}
	if n := asked(time.Minute, time.Hour+time.Minute); n != 121 { // the second after 16 seconds, as it still grows
		t.Errorf("%d tries in an hour, want one every %v", n, patience)
	}
	now := time.Hour + time.Minute
	if !tr.due("web2", now) {
		t.Error("another VM has to wait")
	}
	tr.worked("web1")
	if !tr.due("web1", now) {
		t.Error("what worked has to wait")
	}
	tr.failed("web1", now)
	if tr.due("web1", now) || !tr.due("web1", now+poll) {
		t.Error("after it worked, the first pause is not one poll")
	}
}
