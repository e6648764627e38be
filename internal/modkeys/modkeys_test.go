package modkeys_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
	"github.com/vouchsafe/vouchsafe/internal/modkeys"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/store"
	"github.com/vouchsafe/vouchsafe/modsig"
)

type house struct {
	*modkeys.Keys
	dir  string
	root secret.Bytes
	log  *audit.Log
	now  time.Time
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{dir: t.TempDir(), root: secret.Random(32), now: time.Now()}
	now := func() time.Time { return h.now }
	st, err := store.Open(t.Context(), filepath.Join(h.dir, "db"), now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	signer, err := audit.NewSigner(h.root, "test/audit")
	if err != nil {
		t.Fatal(err)
	}
	if h.log, err = audit.Open(filepath.Join(h.dir, "audit"), signer, audit.Options{Now: now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.log.Close() })
	h.Keys = &modkeys.Keys{Records: st, Ring: keyring.NewRing(h.root), Log: h.log, Now: now}
	return h
}

func (h *house) records(t *testing.T) []audit.Record {
	t.Helper()
	signer, err := audit.NewSigner(h.root, "test/audit")
	if err != nil {
		t.Fatal(err)
	}
	var out []audit.Record
	if _, err := audit.Verify(filepath.Join(h.dir, "audit"), signer.VerifierKey(), nil, func(r audit.Record) { out = append(out, r) }); err != nil {
		t.Fatal(err)
	}
	return out
}

func refusal(err error) string {
	var r enroll.Refusal
	errors.As(err, &r)
	return r.Code
}

func use(serial string) modkeys.Use {
	sum := sha256.Sum256([]byte("module"))
	return modkeys.Use{File: "host:/m.ko", Serial: serial, Hash: crypto.SHA256, Digest: sum[:]}
}

func TestLife(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	if _, err := h.Show(ctx, "default"); refusal(err) != "MODULE_KEYS_MISSING" {
		t.Errorf("before anything: %v", err)
	}
	for _, kind := range []string{"", "ed25519", "rsa-1024"} {
		if _, err := h.Init(ctx, "default", "op", "web", kind); err == nil {
			t.Errorf("kind %q was made", kind)
		}
	}
	s, err := h.Init(ctx, "default", "op", "web", "rsa-2048")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Init(ctx, "default", "op", "web", "rsa-2048"); refusal(err) != "MODULE_KEYS_EXIST" {
		t.Errorf("a second CA: %v", err)
	}
	if _, err := h.Show(ctx, "other"); refusal(err) != "MODULE_KEYS_MISSING" {
		t.Errorf("another tenant's: %v", err)
	}
	if life := s.Leaf.NotAfter.Sub(h.now).Round(24 * time.Hour); life != modsig.LeafLifetime {
		t.Errorf("the leaf lives %v", life)
	}
	first := s.Leaf.SerialNumber.Text(16)
	sign := func(serial string) error {
		t.Helper()
		u := use(serial)
		before := len(h.records(t))
		sig, err := h.Sign(ctx, "default", "op", u)
		if err != nil {
			return err
		}
		s, err := h.Show(ctx, "default")
		if err != nil {
			t.Fatal(err)
		}
		if err := rsa.VerifyPKCS1v15(s.Leaf.PublicKey.(*rsa.PublicKey), crypto.SHA256, u.Digest, sig); err != nil {
			t.Error(err)
		}
		r := h.records(t)[before:]
		if len(r) != 2 || r[0].Phase != audit.Intent || r[1].Phase != audit.Done || r[0].Action != "module.signed" || r[0].Object != serial || r[0].Detail["file"] != u.File {
			t.Errorf("on record: %+v", r)
		}
		return nil
	}
	if err := sign(first); err != nil {
		t.Fatal(err)
	}

	// Not due for four months; then the next key, and the one before is gone.
	if _, rotated, err := h.Rotate(ctx, "default", "timer", "", true); err != nil || rotated {
		t.Errorf("rotated at once: %v", err)
	}
	h.now = h.now.Add(modsig.LeafLifetime*2/3 + time.Hour)
	s, rotated, err := h.Rotate(ctx, "default", "timer", "", true)
	if err != nil || !rotated || len(s.Retired) != 1 || s.Retired[0].SerialNumber.Text(16) != first {
		t.Fatalf("%v, %v, %d former keys", rotated, err, len(s.Retired))
	}
	if err := sign(first); refusal(err) != "MODULE_KEY_ROTATED" {
		t.Errorf("signing with the former key: %v", err)
	}
	if err := sign(s.Leaf.SerialNumber.Text(16)); err != nil {
		t.Error(err)
	}
	if s, _, err = h.Rotate(ctx, "default", "op", "p384", false); err != nil || len(s.Retired) != 2 {
		t.Errorf("another kind of key: %v", err)
	}

	// What cannot be recorded does not happen.
	if err := h.Record(ctx, "default", "op", use("1f")); err != nil {
		t.Error(err)
	}
	h.log.Close()
	if sig, err := h.Sign(ctx, "default", "op", use(s.Leaf.SerialNumber.Text(16))); err == nil || sig != nil {
		t.Error("signed without a record")
	}
	if _, _, err := h.Rotate(ctx, "default", "op", "", false); err == nil {
		t.Error("rotated without a record")
	}
	if err := h.Record(ctx, "default", "op", use("1f")); err == nil {
		t.Error("recorded without a log")
	}
}

func TestUseRefuses(t *testing.T) {
	h := newHouse(t)
	for name, change := range map[string]func(*modkeys.Use){
		"short digest": func(u *modkeys.Use) { u.Digest = u.Digest[:31] }, "SHA-1": func(u *modkeys.Use) { u.Hash, u.Digest = crypto.SHA1, u.Digest[:20] },
		"no hash": func(u *modkeys.Use) { u.Hash = 0 }, "no file": func(u *modkeys.Use) { u.File = "" }, "long file": func(u *modkeys.Use) { u.File = strings.Repeat("x", 5000) },
		"no serial": func(u *modkeys.Use) { u.Serial = "" },
	} {
		u := use("1f")
		change(&u)
		if err := h.Record(t.Context(), "default", "op", u); err == nil {
			t.Errorf("%s: recorded", name)
		}
		if _, err := h.Sign(t.Context(), "default", "op", u); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func TestRefusalsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/findings/service.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range modkeys.Refusals {
		if !strings.Contains(string(doc), e.Code) || e.Meaning.ZH == "" || e.Remedy.ZH == "" {
			t.Errorf("%s is not documented, or lacks a language", e.Code)
		}
	}
}
