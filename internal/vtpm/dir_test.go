package vtpm

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A write that fails leaves what was there, wherever it fails.
func TestFailedWriteChangesNothing(t *testing.T) {
	broken := errors.New("the disk does not answer")
	d := dir{path: t.TempDir(), mode: 0o600}
	file := filepath.Join(d.path, permanentFile)
	fail := func() error { return broken }

	d.testOnlySync = fail
	if err := d.write(permanentFile, []byte("first")); !errors.Is(err, broken) {
		t.Fatalf("writing: %v", err)
	}
	if d.has(permanentFile) {
		t.Error("a file that could not be made durable is there")
	}
	d.testOnlySync = nil
	if err := d.write(permanentFile, []byte("first")); err != nil {
		t.Fatal(err)
	}
	d.testOnlySync = fail
	if err := d.write(permanentFile, []byte("second")); !errors.Is(err, broken) {
		t.Fatalf("writing: %v", err)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "first" {
		t.Errorf("after a write that failed: %q, %v", got, err)
	}
	if d.has(permanentFile + tempSuffix) {
		t.Error("a temporary file stays")
	}
}

// A command that is refused because its state could not be kept is not there
// after the next start either.
func TestRefusedCommandIsNotInTheState(t *testing.T) {
	i, _ := openTest(t, Config{Dir: t.TempDir(), NoAutoShutdown: true})
	on(t, i)
	if rc, _, _ := run(i, 1); rc != 0 {
		t.Fatalf("response code %x", rc)
	}
	i.dir.testOnlySync = func() error { return errors.New("the disk does not answer") }
	if rc, _, _ := run(i, 1); rc != 0x923 {
		t.Errorf("response code %x, want TPM_RC_NV_UNAVAILABLE", rc)
	}
	i.dir.testOnlySync = nil
	on(t, i)
	if _, nv, _ := run(i, 2); nv != 1 {
		t.Errorf("the counter is %d after a command that was refused, want 1", nv)
	}
	if rc, nv, _ := run(i, 1); rc != 0 || nv != 2 {
		t.Errorf("afterwards: response code %x, counter %d", rc, nv)
	}
}
