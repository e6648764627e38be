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
				tr.failed("web1", now, false)
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
	tr.failed("web1", now, false)
	if tr.due("web1", now) || !tr.due("web1", now+poll) {
		t.Error("after it worked, the first pause is not one poll")
	}
}

// What failed because nobody accepted this host is tried as soon as that changed,
// and the question is put every few seconds, not with each look for work.
func TestTriesForTrust(t *testing.T) {
	var tr tries
	if tr.ask(time.Hour) {
		t.Error("it asks, and nothing waits for the answer")
	}
	now := time.Hour
	for range 10 { // by now its pause is the longest
		tr.failed("web1", now, true)
		tr.failed("web2", now, false)
	}
	asked := 0
	for end := now + time.Minute; now < end; now += poll {
		if tr.ask(now) {
			asked++
		}
	}
	if want := int(time.Minute / pause); asked != want {
		t.Errorf("asked %d times in a minute, want %d", asked, want)
	}
	tr.failed("web1", now, true)
	tr.failed("web2", now, false)
	tr.trusted()
	if !tr.due("web1", now) || tr.due("web2", now) {
		t.Error("only what waited for trust is due")
	}
	if tr.ask(now + time.Hour) {
		t.Error("it asks on")
	}
}
