package host

import (
	"testing"
	"time"
)

// TestMeter: a boot waits for nothing; a guest that computes without end gets
// its share of a core in the long run, and its credit back when it is quiet.
func TestMeter(t *testing.T) {
	var m meter
	now := time.Hour
	for range 19 {
		if wait := m.charge(now, time.Second); wait != 0 {
			t.Fatalf("waits %v within the burst", wait)
		}
		now += time.Second
	}
	var used time.Duration
	start := now
	for now-start < time.Hour {
		now += 100*time.Millisecond + m.charge(now+100*time.Millisecond, 100*time.Millisecond)
		used += 100 * time.Millisecond
	}
	if part := float64(used) / float64(now-start); part < 0.24 || part > 0.27 {
		t.Errorf("it had %.3f of a core for an hour, want 1/%d", part, share)
	}
	if wait := m.charge(now, time.Second); wait < time.Second {
		t.Errorf("waits %v after an hour of work", wait)
	}
	now += share * burst
	if wait := m.charge(now, time.Second); wait != 0 {
		t.Errorf("waits %v after a rest", wait)
	}
}
