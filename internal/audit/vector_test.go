package audit

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestVector writes the log of docs/formats/audit.md again, byte for byte:
// root key 32 bytes of 3, a clock that ticks once a second and goes back once.
func TestVector(t *testing.T) {
	dir := t.TempDir()
	noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	ticks := []time.Duration{0, time.Second, 2 * time.Second, -time.Hour, 4 * time.Second}
	at := 0
	l := open(t, dir, Options{Now: func() time.Time { return noon.Add(ticks[min(at, len(ticks)-1)]) }})
	step := func(do func() error) {
		t.Helper()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		at++
	}
	var p *Pending
	step(func() (err error) { p, err = l.Begin(t.Context(), event(0)); return err })
	step(func() error { _, err := p.Done(t.Context(), map[string]string{"serial": "4f"}); return err })
	step(func() error {
		_, err := l.Append(t.Context(), Event{Tenant: "default", Actor: "service", Action: "vm.admitted", Object: "vm1", Phase: Refused, Detail: map[string]string{"code": "NONCE_USED"}})
		return err
	})
	step(func() error { _, err := l.Append(t.Context(), event(2)); return err }) // the clock was set back
	step(func() error { _, err := l.Append(t.Context(), event(3)); return err })
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{segmentName(0), "checkpoint"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join("testdata", "v1", name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs from the vector (%v)", name, err)
		}
	}
	key, err := os.ReadFile("testdata/v1/key")
	if err != nil || strings.TrimSpace(string(key)) != signer(t).VerifierKey() {
		t.Errorf("the verifier key is %s (%v)", signer(t).VerifierKey(), err)
	}
	r, err := Verify("testdata/v1", string(key), nil, nil)
	if err != nil || r.Records != 5 || len(r.Findings) != 1 || r.Findings[0].Code != "AUDIT_CLOCK_BACK" {
		t.Errorf("verifying the vector: %+v, %v", r, err)
	}
	doc, err := os.ReadFile("../../docs/formats/audit.md")
	if err != nil || !strings.Contains(string(doc), r.Root) {
		t.Errorf("docs/formats/audit.md does not name the root %s (%v)", r.Root, err)
	}
}
