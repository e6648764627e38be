package enroll

import (
	"fmt"
	"testing"
	"time"
)

// TestAheadIsBounded: hosts that lie do not fill the memory.
func TestAheadIsBounded(t *testing.T) {
	var elapsed time.Duration
	a := newAheads(Clock{Elapsed: func() time.Duration { return elapsed }})
	for i := range maxAhead + 100 {
		a.note("default", Ahead{VM: fmt.Sprint(i)})
	}
	if len(a.of) > maxAhead {
		t.Errorf("%d are remembered", len(a.of))
	}
	elapsed = aheadLife
	a.note("default", Ahead{VM: "late"})
	if _, ok := a.get("default", "late"); !ok || len(a.of) != 1 {
		t.Errorf("%d are remembered after they ended", len(a.of))
	}
}
