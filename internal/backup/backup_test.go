package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/secret"
)

func seal(t testing.TB, r Recipient, files map[string]string, order ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	err := r.Seal(&out, time.Unix(1e9, 0), func() (File, error) {
		if len(order) == 0 {
			return File{}, io.EOF
		}
		name := order[0]
		order = order[1:]
		return File{name, int64(len(files[name])), strings.NewReader(files[name])}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func open(b []byte, recovery secret.Bytes) (map[string]string, error) {
	got := map[string]string{}
	err := Open(bytes.NewReader(b), int64(len(b)), recovery, func(name string, size int64, r io.Reader) error {
		data, err := io.ReadAll(r)
		if err == nil && int64(len(data)) != size {
			err = fmt.Errorf("%s has %d bytes, not %d", name, len(data), size)
		}
		got[name] = string(data)
		return err
	})
	return got, err
}

// TestRoundTrip covers bodies that end before, at and after the edge of a chunk.
func TestRoundTrip(t *testing.T) {
	recovery := secret.Random(32)
	r, err := NewRecipient(recovery)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1, chunkSize - 2048 - 512, chunkSize - 1536 - 512, chunkSize, 3*chunkSize + 7} {
		want := map[string]string{"service.json": "{}", "audit/0.seg": strings.Repeat("x", size)}
		got, err := open(seal(t, r, want, "service.json", "audit/0.seg"), recovery)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("size %d: %d files, %v", size, len(got), err)
		}
	}
}

// TestRefused: another recovery key, a cut file, any changed byte, and a file
// that somebody else sealed to the same public key.
func TestRefused(t *testing.T) {
	recovery := secret.Random(32)
	r, _ := NewRecipient(recovery)
	good := seal(t, r, map[string]string{"a": "b"}, "a")
	if bytes.Contains(good, []byte("root.key")) {
		t.Error("names are in clear")
	}
	forger := Recipient{r.Public, secret.Random(32)}
	for name, b := range map[string][]byte{
		"empty":                 nil,
		"cut":                   good[:len(good)-1],
		"cut at a chunk":        good[:len(good)-macSize],
		"longer":                append(bytes.Clone(good), 0),
		"sealed by a stranger":  seal(t, forger, map[string]string{"a": "b"}, "a"),
		"another service's own": seal(t, other(t), map[string]string{"a": "b"}, "a"),
	} {
		if got, err := open(b, recovery); !errors.Is(err, ErrNotOurs) || len(got) > 0 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for i := 0; i < len(good); i += 37 {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := open(bad, recovery); !errors.Is(err, ErrNotOurs) {
			t.Errorf("byte %d may change: %v", i, err)
		}
	}
	if _, err := open(good, secret.Random(32)); !errors.Is(err, ErrNotOurs) {
		t.Errorf("another recovery key: %v", err)
	}
}

func other(t *testing.T) Recipient {
	t.Helper()
	r, err := NewRecipient(secret.Random(32))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "audit/0.seg": true, "": false, "/etc/passwd": false, "../x": false, "a/../b": false, "a//b": false, "..": false, "a\\b": false, "./a": false, strings.Repeat("a", 256): false,
	} {
		if err := checkName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	recovery := secret.New(bytes.Repeat([]byte{8}, 32))
	good, err := os.ReadFile("testdata/v1.backup") // sealing is random, and each worker must know the same one
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := open(b, recovery); err == nil && !bytes.Equal(b, good) {
			t.Fatal("a forgery opens")
		}
	})
}

// TestVector opens a file that was written when the format was settled: the
// recovery secret is 32 bytes of 8.
func TestVector(t *testing.T) {
	b, err := os.ReadFile("testdata/v1.backup")
	if err != nil {
		t.Fatal(err)
	}
	got, err := open(b, secret.New(bytes.Repeat([]byte{8}, 32)))
	if want := map[string]string{"service.json": "{}\n", "audit/0.seg": "one\n"}; err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, %v", got, err)
	}
}
