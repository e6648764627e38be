package derive

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/secret"
)

// TestDocumented holds docs/formats/hkdf.md and the list of labels together.
func TestDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/formats/hkdf.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[Label]bool{}
	for _, l := range Labels() {
		if seen[l] {
			t.Errorf("label %q is there twice", l)
		}
		seen[l] = true
		if n := strings.Count(string(doc), "`"+string(l)+"`"); n != 1 {
			t.Errorf("docs/formats/hkdf.md names %q %d times, want once", l, n)
		}
	}
	if got, want := strings.Count(string(doc), "| `vouchsafe/"), len(Labels()); got != want {
		t.Errorf("docs/formats/hkdf.md has %d labels, the code %d", got, want)
	}
}

// TestContextsDiffer: the same letters cut elsewhere are another context.
func TestContextsDiffer(t *testing.T) {
	k := secret.Random(32)
	seen := map[string]bool{}
	for _, context := range [][]string{nil, {""}, {"", ""}, {"ab"}, {"a", "b"}, {"", "ab"}, {"ab", ""}, {"b", "a"}} {
		out := string(Key(k, DiskKeyShares, 32, context...).Reveal())
		if seen[out] {
			t.Errorf("context %q gives a key that another context gave", context)
		}
		seen[out] = true
	}
	if Key(k, BoxAEAD, 32).Equal(Key(k, BoxCommit, 32)) {
		t.Error("two labels give one key")
	}
}

// TestDiskKeyVectors are the vectors of docs/formats/keyring.md.
func TestDiskKeyVectors(t *testing.T) {
	share := func(b byte) secret.Bytes { return secret.New(bytes.Repeat([]byte{b}, ShareSize)) }
	for _, tt := range []struct {
		name             string
		server, local    secret.Bytes
		tenant, vm, disk string
		want             string
	}{
		{"web1's root disk", share(1), share(2), "default", "web1", "root", "0f22c884f5ce8433b3b9eb7823173c908fac7bbea229789759f4a7ba964bab62"},
		{"shares swapped", share(2), share(1), "default", "web1", "root", "a464df339f6a863fb65f03b9d4c3491b64ba19785ee8ff4928ba74fa654d374b"},
		{"another VM", share(1), share(2), "default", "web2", "root", "8dd7986fcb31a2415f8f1e296e36e48ca2b82e24d4802ccc63724a8859a07b46"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, err := DiskKey(tt.server, tt.local, tt.tenant, tt.vm, tt.disk)
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(k.Reveal()); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	for _, bad := range []secret.Bytes{{}, secret.Random(31), secret.Random(33)} {
		if _, err := DiskKey(bad, share(1), "", "", ""); err == nil {
			t.Errorf("a server share of %d bytes was taken", bad.Len())
		}
		if _, err := DiskKey(share(1), bad, "", "", ""); err == nil {
			t.Errorf("a local share of %d bytes was taken", bad.Len())
		}
	}
}

func TestErasedSecretPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("derived from an erased secret")
		}
	}()
	k := secret.Random(32)
	k.Erase()
	Key(k, BoxAEAD, 32)
}
