package seal

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/secret"
)

func software(t *testing.T) *Software {
	t.Helper()
	s, err := NewSoftware(secret.Random(RootKeySize))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// lost is a tier whose hardware is gone.
type lost struct{ *Software }

func (lost) Unwrap(context.Context, []byte, []byte) (secret.Bytes, error) {
	return secret.Bytes{}, errors.New("no such device")
}

// TestAnyTierOpens: two tiers wrap the root key; either alone opens it.
func TestAnyTierOpens(t *testing.T) {
	ctx := t.Context()
	a, b, stranger := software(t), software(t), software(t)
	root := secret.Random(RootKeySize)
	sealed, err := Seal(ctx, "svc", root, time.Now(), a, b)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err = Parse(sealed.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		tiers []Tier
		by    string
	}{
		{"first", []Tier{a}, a.Name()},
		{"second", []Tier{b}, b.Name()},
		{"first lost", []Tier{lost{a}, b}, b.Name()},
		{"stranger first", []Tier{stranger, a}, a.Name()},
		{"stranger only", []Tier{stranger}, ""},
		{"all lost", []Tier{lost{a}, lost{b}}, ""},
		{"none", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, by, err := sealed.Open(ctx, tt.tiers...)
			if by != tt.by || (err == nil) != (tt.by != "") {
				t.Fatalf("opened by %q, %v; want %q", by, err, tt.by)
			}
			if err == nil && !got.Equal(root) {
				t.Error("another root key came out")
			}
			if err != nil && !errors.Is(err, ErrNoTier) {
				t.Errorf("the error is %v", err)
			}
		})
	}
	if bad := sealed.Check(ctx, a, b); bad != nil {
		t.Errorf("check complains: %v", bad)
	}
	if bad := sealed.Check(ctx, lost{a}, b, stranger); len(bad) != 2 {
		t.Errorf("check names %d faults, want 2: %v", len(bad), bad)
	}
}

// TestBoundToService: a wrap moved to another service's file opens nothing.
func TestBoundToService(t *testing.T) {
	a := software(t)
	sealed, err := Seal(t.Context(), "one", secret.Random(RootKeySize), time.Now(), a)
	if err != nil {
		t.Fatal(err)
	}
	sealed.Service = "two"
	if _, _, err := sealed.Open(t.Context(), a); err == nil {
		t.Error("opened under another service's name")
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.key")
	key := secret.Random(RootKeySize)
	if err := WriteKeyFile(path, key); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	if got, err := ReadKeyFile(path); err != nil || !got.Equal(key) {
		t.Errorf("reading back: %v", err)
	}
	if err := WriteKeyFile(path, key); err == nil {
		t.Error("wrote over a key file")
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKeyFile(path); !errors.Is(err, ErrKeyFileOpen) {
		t.Errorf("a file that its group reads: %v", err)
	}
	os.Chmod(path, 0o600)
	link := path + ".link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKeyFile(link); err == nil {
		t.Error("followed a symbolic link")
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add(MarshalKey(secret.New(bytes.Repeat([]byte{5}, RootKeySize))).Reveal())
	f.Add([]byte("vouchsafe-key-v1 AAAA\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := ParseKey(text)
		if err == nil && !bytes.Equal(MarshalKey(key).Reveal(), text) {
			t.Fatal("accepted a text that is written differently")
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"format":"vouchsafe-sealed-root-v1","service":"s","created":"2026-01-01T00:00:00Z","wraps":[{"tier":"t","blob":"AA=="}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			return
		}
		if again, err := Parse(s.Marshal()); err != nil || len(again.Wraps) != len(s.Wraps) {
			t.Fatalf("what was read does not write: %v", err)
		}
	})
}
