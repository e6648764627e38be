package enroll

import (
	"fmt"
	"testing"
	"time"
)

// TestShownIsBounded: hosts that lie do not fill the memory.
func TestShownIsBounded(t *testing.T) {
	var elapsed time.Duration
	a := newShowns(Clock{Elapsed: func() time.Duration { return elapsed }})
	for i := range maxShown + 100 {
		a.note("default", Shown{VM: fmt.Sprint(i)})
	}
	if len(a.of) > maxShown {
		t.Errorf("%d are remembered", len(a.of))
	}
	elapsed = shownLife
	a.note("default", Shown{VM: "late"})
	if _, ok := a.get("default", "late"); !ok || len(a.of) != 1 {
		t.Errorf("%d are remembered after they ended", len(a.of))
	}
}
