package swtpm

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// The files in ../testdata/swtpm were written by Debian's swtpm 0.7.1 (test/takeover, TestFixtures).
func stateFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../testdata/swtpm", name, "tpm2-00.permall"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOpenState(t *testing.T) {
	key := func(n int) StateKey { return StateKey{Secret: bytes.Repeat([]byte{7}, n)} }
	phrase := func(s string) StateKey { return StateKey{Secret: []byte(s), Passphrase: true} }
	for _, tc := range []struct {
		file string
		key  StateKey
		want error
	}{
		{"clear", StateKey{}, nil},
		{"clear", key(16), nil}, // whether that may be is the caller's to say
		{"aes128", key(16), nil},
		{"aes256", key(32), nil},
		{"passphrase", phrase("correct horse"), nil}, // the file ended in a line feed
		{"aes128", StateKey{}, ErrStateKeyMissing},
		{"aes128", key(32), ErrStateKeyWrong},
		{"aes256", StateKey{Secret: make([]byte, 32)}, ErrStateKeyWrong},
		{"passphrase", phrase("correct hors"), ErrStateKeyWrong},
	} {
		b := stateFile(t, tc.file)
		got, sealed, err := OpenState(b, tc.key, StateKey{})
		if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: %v, want %v", tc.file, err, tc.want)
			continue
		}
		if err != nil {
			continue
		}
		// PERSISTENT_ALL begins with its version and magic.
		if !bytes.Equal(got[:6], []byte{0, 3, 0xab, 0x36, 0x47, 0x23}) || sealed.State != (tc.file != "clear") || !IsState(b) {
			t.Errorf("%s: %x, %v", tc.file, got[:6], sealed)
		}
		for n := range len(b) {
			if _, _, err := OpenState(b[:n], tc.key, StateKey{}); err == nil {
				t.Fatalf("%s: its first %d octets are a state", tc.file, n)
			}
		}
		if tc.file != "clear" { // one flipped bit anywhere in what is authenticated
			for at := 16; at < len(b); at += 97 {
				c := bytes.Clone(b)
				c[at] ^= 4
				if _, _, err := OpenState(c, tc.key, StateKey{}); err == nil {
					t.Errorf("%s: octet %d flipped, and it opens", tc.file, at)
				}
			}
		}
	}
	newer := stateFile(t, "clear")
	newer[1] = 3
	if _, _, err := OpenState(newer, StateKey{}, StateKey{}); !errors.Is(err, ErrStateNewer) {
		t.Errorf("a newer version: %v", err)
	}
}

func FuzzOpenState(f *testing.F) {
	for _, name := range []string{"clear", "aes128", "aes256"} {
		f.Add(stateFile(f, name))
	}
	f.Add(untagged(f, bytes.Repeat([]byte{7}, 16), []byte("state")))
	f.Fuzz(func(t *testing.T, b []byte) {
		content, _, err := OpenState(b, StateKey{Secret: bytes.Repeat([]byte{7}, 16)}, StateKey{Secret: bytes.Repeat([]byte{7}, 32)})
		if err == nil && len(content) > len(b) {
			t.Errorf("%d octets out of %d", len(content), len(b))
		}
	})
}
