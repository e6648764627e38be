package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestInterruptedWhileReading: nobody writes into the FIFO, and a signal ends the
// command all the same.
func TestInterruptedWhileReading(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "chain.pem")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	var out, errw bytes.Buffer
	if got := run(ctx, []string{"vouchsafe", "--lang", "en", "chain", "check", fifo}, nil, &out, &errw); got != exitInterrupted {
		t.Errorf("exit code %d, want %d: %s", got, exitInterrupted, &errw)
	}
}

// TestLastingCommands exist.
func TestLastingCommands(t *testing.T) {
	root := newRoot(&app{})
	for _, path := range lasting {
		cmd, _, err := root.Find(strings.Fields(path)[1:])
		if err != nil || cmd.CommandPath() != path {
			t.Errorf("there is no command %q", path)
		}
	}
}
