package keyring

import (
	"bytes"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/secret"
)

// TestRewrap: under two root keys everything opens, afterwards under the new
// one alone; the second time nothing changes.
func TestRewrap(t *testing.T) {
	old, root := secret.Random(32), secret.Random(32)
	before, during, after := NewRing(old), NewRing(root, old), NewRing(root)
	k, err := before.Create("default", "k", Identity, Policy{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if k, _, err = before.Rotate(k, time.Now(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := during.Open(k); err != nil {
		t.Errorf("under both root keys: %v", err)
	}
	if _, err := after.Open(k); err == nil {
		t.Error("it opens under a root key that never wrapped it")
	}
	again, changed, err := during.RewrapKey(k)
	if err != nil || !changed {
		t.Fatalf("changed %v, %v", changed, err)
	}
	if _, err := after.Open(again); err != nil {
		t.Errorf("under the new root key: %v", err)
	}
	if _, err := before.Open(again); err == nil {
		t.Error("the old root key still opens it")
	}
	if _, err := before.Open(k); err != nil {
		t.Errorf("the value that was given changed: %v", err)
	}
	twice, changed, err := during.RewrapKey(again)
	if err != nil || changed || !bytes.Equal(twice.Versions[0].Wrapped, again.Versions[0].Wrapped) {
		t.Errorf("a second time: changed %v, %v", changed, err)
	}
	if _, _, err := NewRing(secret.Random(32), secret.Random(32)).RewrapKey(k); err == nil {
		t.Error("foreign root keys wrapped it anew")
	}
}
