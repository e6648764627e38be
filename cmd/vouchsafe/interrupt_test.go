package main

import (
	"bytes"
	"context"
	"os"
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

// TestOutputThatDoesNotArrive: what was asked for and could not be written is a
// failure, also where a table or cobra printed it.
func TestOutputThatDoesNotArrive(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, line := range []string{"version", "explain", "explain --json", "--help", "chain explain"} {
		var errw bytes.Buffer
		if got := run(t.Context(), append([]string{"vouchsafe"}, strings.Fields(line)...), nil, full, &errw); got != exitFailed || !strings.Contains(errw.String(), "no space left") {
			t.Errorf("%s: exit code %d, %q", line, got, &errw)
		}
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
