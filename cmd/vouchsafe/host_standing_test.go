package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestStandingLost: when the service no longer knows what a host proved (it was
// started anew, or somebody sent other evidence), a VM that starts now starts.
func TestStandingLost(t *testing.T) {
	w := newHostWorld(t)
	enroll := []string{"host", "enroll", "h1", "--tpm", w.tpm2, "--event-log", w.log, "-o", filepath.Join(w.dir, dirHost)}
	if out, err := w.cli(append(enroll, "--approve", "--note", "Debian 12")...); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.run()
	if out, err := w.cli("vm", "create", "web1", "--host", "h1"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.until("it is carried", func() bool { _, err := os.Stat(filepath.Join(w.dir, dirSockets, "web1.sock")); return err == nil })
	for range 2 {
		m, err := w.start("web1")
		if err != nil {
			t.Fatalf("%v\n%s", err, w.logs)
		}
		m.off()
		if out, err := w.cli(enroll...); err != nil { // its evidence is of no vTPMs
			t.Fatalf("%v: %s", err, out)
		}
	}
}
