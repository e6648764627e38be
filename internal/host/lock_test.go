package host

import (
	"errors"
	"log/slog"
	"path/filepath"
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

// TestOnlyItsOwnDirectories: whoever has the control plane has no files of its hosts.
func TestOnlyItsOwnDirectories(t *testing.T) {
	dir := t.TempDir()
	h := &Host{Config: Config{Dir: filepath.Join(dir, "vtpms"), Log: slog.New(slog.DiscardHandler)}}
	for _, vm := range []string{"../other", "..", ".", "", "/etc", "a/../../other", ".lock", "web1/"} {
		if err := h.manufacture(vm); err == nil {
			t.Errorf("a vTPM was made in %q", vm)
		}
	}
	if there, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(there) > 0 {
		t.Errorf("made %v, %v", there, err)
	}
	if err := h.manufacture("web1"); err != nil {
		t.Error(err)
	}
}
