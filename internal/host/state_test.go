package host

import (
	"bytes"
	"crypto/rand"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/hosting"
)

// TestBirthCutShort: a crash after the first lease sealed the state, before and
// after that was written down, leaves a vTPM that goes on.
func TestBirthCutShort(t *testing.T) {
	dir := t.TempDir()
	key := func() []byte { b := make([]byte, 32); rand.Read(b); return b }
	open := func() *State {
		t.Helper()
		s, err := OpenState(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	ek, err := s.Manufacture("sha256")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := open().Manufacture("sha256"); err != nil || !bytes.Equal(again, ek) {
		t.Fatalf("made anew: %v", err)
	}
	certificate := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("any octets")}))
	before, err := os.ReadFile(filepath.Join(dir, fileRecord))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Endorse(certificate); err != nil || !s.Unborn() {
		t.Fatalf("unborn %v, %v", s.Unborn(), err)
	}
	first := hosting.Lease{Generation: 1, SealKey: key()}
	take := func(s *State, l hosting.Lease) {
		t.Helper()
		instance, err := s.Take(l)
		if err == nil {
			err = instance.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	take(s, first)

	// Sealed, and not written down.
	if err := os.WriteFile(filepath.Join(dir, fileRecord), before, 0o600); err != nil {
		t.Fatal(err)
	}
	s = open()
	if !s.Unborn() {
		t.Error("it is born, and no lease is written down")
	}
	if err := s.Endorse(certificate); err != nil {
		t.Errorf("endorsing again: %v", err)
	}
	take(s, first)

	// Written down, and not confirmed: an ordinary lease, which drops the key of birth.
	s = open()
	if s.Unborn() || s.At() != 1 {
		t.Errorf("unborn %v, generation %d", s.Unborn(), s.At())
	}
	take(s, hosting.Lease{Generation: 2, OpenKey: first.SealKey, SealKey: key()})
	if err := s.Confirmed(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, fileBirth)); err == nil {
		t.Error("the key of birth is still there")
	}
}
