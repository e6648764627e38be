package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/audit"
)

// TestPushedCheckpoint: a service whose machine was set back finds its log behind
// the checkpoint that it pushed away, and neither starts nor overwrites that.
func TestPushedCheckpoint(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	newState(t, dir)
	file := filepath.Join(t.TempDir(), "pushed")
	o := serviceOptions{ownTPM: "none", pushCheckpoint: file}
	live := func(records int) (signed []byte) {
		t.Helper()
		s, err := openService(t.Context(), dir, o)
		must(t, err)
		for range records {
			_, err = s.audit.Append(t.Context(), audit.Event{Actor: "test", Action: "test", Object: "x", Phase: audit.Fact})
			must(t, err)
		}
		signed = s.audit.Checkpoint()
		must(t, s.close())
		return signed
	}
	older := live(1)
	before := t.TempDir()
	must(t, os.CopyFS(before, os.DirFS(dir)))
	live(3)
	live(1) // what was pushed by this service is no obstacle
	newest, err := os.ReadFile(file)
	must(t, err)

	// Set back as a whole.
	must(t, os.RemoveAll(dir))
	must(t, os.CopyFS(dir, os.DirFS(before)))
	private(t, dir)
	_, err = openService(t.Context(), dir, o)
	var h hinted
	if err == nil || !strings.Contains(err.Error(), "AUDIT_CUT") || !errors.As(err, &h) || !strings.Contains(h.hint, "set back") {
		t.Fatalf("it starts: %v", err)
	}

	// Set back while it ran: memory and all, so that nobody looks at a start.
	service, err := readService(dir)
	must(t, err)
	var said locked
	p := &pushed{path: file, verifier: service.AuditKey, log: slog.New(slog.NewTextHandler(&said, nil))}
	p.push(older)
	if got, err := os.ReadFile(file); err != nil || string(got) != string(newest) {
		t.Errorf("the newest checkpoint was overwritten, %v", err)
	}
	if !strings.Contains(said.String(), "set back") {
		t.Errorf("it says %q", said.String())
	}

	// On purpose.
	must(t, os.Rename(file, file+".kept"))
	live(1)

	// Another service's file.
	must(t, os.WriteFile(file, []byte("no checkpoint"), 0o600))
	if _, err := openService(t.Context(), dir, o); err == nil || !strings.Contains(err.Error(), "AUDIT_CHECKPOINT_BAD") {
		t.Errorf("no checkpoint at all: %v", err)
	}
	o.pushCheckpoint = filepath.Join(dir, "nowhere", "file")
	if err := (&serverOptions{serviceOptions: o, listen: "127.0.0.1:0"}).check(); !errors.As(err, &h) {
		t.Errorf("no such directory: %v", err)
	}
}
