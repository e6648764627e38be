package takeover

import (
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// TestTakeOverFull fills the memory of swtpm with persistent keys and takes over
// all of them.
func TestTakeOverFull(t *testing.T) {
	s := startTheirs(t)
	owner := client.Hierarchy(tpm2.RHOwner, nil)
	key, err := s.CreatePrimary(owner, client.SigningTemplate(client.P256))
	if err != nil {
		t.Fatal(err)
	}
	const first = tpm2.Handle(0x81000000)
	last := first
	for ; ; last++ {
		err := s.Execute(&tpm2.EvictControl{Auth: tpm2.RHOwner, ObjectHandle: key.Handle, PersistentHandle: last}, nil, owner, client.About(key.Entity))
		if errors.Is(err, tpm2.RCNVSpace) {
			break
		}
		if err != nil || last > first+500 {
			t.Fatalf("swtpm: key %d: %v", last-first+1, err)
		}
	}
	t.Logf("swtpm has room for %d", last-first)
	s.must(t, &tpm2.Shutdown{}, nil)
	s.stop()

	ours := startOurs(t, s)
	digest := sha256.Sum256(nil)
	for h := first; h < last; h++ {
		k, err := ours.Key(h, nil)
		if err != nil {
			t.Fatalf("0x%x: %v", uint32(h), err)
		}
		sign := &tpm2.Sign{KeyHandle: h, Digest: digest[:], InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull}, Validation: tpm2.TPMTTkHashCheck{Tag: tpm2.STHashCheck, Hierarchy: tpm2.RHNull}}
		if err := ours.Execute(sign, nil, k); err != nil {
			t.Errorf("0x%x does not sign: %v", uint32(h), err)
		}
	}
	// And it goes on: what is full takes no more, what makes room is stored.
	if err := ours.Evict(owner, first); err != nil {
		t.Errorf("evicting the first of them: %v", err)
	}
}
