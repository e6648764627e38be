package host

import (
	"bytes"
	"crypto/rand"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/hosting"
	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
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

// TestTakeOldCopy: a file that was exchanged after the host had asked for its
// lease does not open, nor one that says in clear to be newer than it is.
func TestTakeOldCopy(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "vtpm.state")
	s, err := OpenState(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.Writes(); n != 0 || err != nil {
		t.Errorf("before there is a state: %d, %v", n, err)
	}
	if _, err := s.Manufacture("sha256"); err != nil {
		t.Fatal(err)
	}
	key := bytes.Repeat([]byte{1}, 32)
	l := hosting.Lease{Generation: 1, SealKey: key}
	read := func() []byte {
		t.Helper()
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	take := func(what, code string) {
		t.Helper()
		instance, err := s.Take(l)
		if err == nil {
			if err = instance.PowerOn(swtpm.Peer{}, false); err == nil {
				instance.Execute(0, []byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0}, nil) // TPM2_Startup(CLEAR)
				err = instance.Close()
			}
		}
		if (err == nil) != (code == "") || err != nil && !strings.Contains(err.Error(), code) {
			t.Errorf("%s: %v, want %q", what, err, code)
		}
	}
	take("the first lease", "")
	old := read()
	take("again", "")
	newest := read()
	if l.Writes, err = s.Writes(); err != nil {
		t.Fatal(err)
	}
	put := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(old)
	if n, err := s.Writes(); err != nil || n >= l.Writes {
		t.Errorf("the old copy has %d writes, the newest %d; %v", n, l.Writes, err)
	}
	take("an old copy", "STATE_ROLLED_BACK")
	forged := append(bytes.Clone(old[:32]), append(bytes.Clone(newest[32:40]), old[40:]...)...)
	put(forged)
	if n, err := s.Writes(); err != nil || n != l.Writes {
		t.Errorf("the forged header says %d, %v", n, err)
	}
	take("an old copy with the newest's header", "STATE_WRONG_KEY")
	put(bytes.Repeat([]byte{0xff}, 100))
	if _, err := s.Writes(); err == nil || !strings.Contains(err.Error(), "STATE_DAMAGED") {
		t.Errorf("no state at all: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Writes(); err == nil {
		t.Errorf("the state is gone: %d writes", n)
	}
	put(newest)
	take("the newest", "")
}
