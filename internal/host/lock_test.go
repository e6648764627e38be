package host

import (
	"errors"
	"testing"
)

// A second host on the same directory would take the first one's sockets.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(dir); !errors.Is(err, ErrHeld) {
		t.Errorf("the second lock: %v, want ErrHeld", err)
	}
	unlock()
	unlock, err = lock(dir)
	if err != nil {
		t.Fatal("after the first is gone:", err)
	}
	unlock()
}
