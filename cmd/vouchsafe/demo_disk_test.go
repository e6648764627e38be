package main

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/agent"
	"github.com/vouchsafe/vouchsafe/internal/secret"
)

// TestEnvelope is the demo's disk where cryptsetup is not installed.
func TestEnvelope(t *testing.T) {
	dir := t.TempDir()
	key := secret.Random(32)
	mine, other := envelope(filepath.Join(dir, "mine")), envelope(filepath.Join(dir, "other"))
	digest, err := mine.Format(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Format(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if err := mine.Check(t.Context(), key, digest); err != nil {
		t.Error(err)
	}
	if err := mine.Check(t.Context(), secret.Random(32), digest); err == nil {
		t.Error("another key opens it")
	}
	if err := other.Check(t.Context(), key, digest); !errors.Is(err, agent.ErrOtherDisk) {
		t.Errorf("another volume: %v", err)
	}
}
