package agent

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/tpm2"
)

func exampleTicket() *ticket {
	return &ticket{Disk: "root", VolumeKey: make([]byte, 32), Resets: 7, Clock: 3_600_000, Public: make([]byte, 90), Private: make([]byte, 160),
		Unlock: admission.Unlock{PolicyKey: make([]byte, 120), Approval: &attest.Approval{ApprovedPolicy: make([]byte, 32), PolicyRef: make([]byte, 32), Selection: make([]byte, 10), Signature: make([]byte, 104)}}}
}

// TestTicket: what is written is read again and fits into an NV index; what is
// no ticket is none.
func TestTicket(t *testing.T) {
	data, err := json.Marshal(exampleTicket())
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > tpm2.MaxNVIndexSize {
		t.Errorf("a ticket has %d bytes, an index %d", len(data), tpm2.MaxNVIndexSize)
	}
	got, err := parseTicket(data)
	if err != nil || got.Resets != 7 || got.Disk != "root" {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, text := range map[string][]byte{
		"nothing": nil, "zeros": make([]byte, 100), "cut": data[:len(data)-1], "more": append(bytes.Clone(data), 'x'), "endless": bytes.Repeat([]byte(" "), maxTicket+1),
		"no disk": bytes.Replace(data, []byte(`"root"`), []byte(`""`), 1), "another member": bytes.Replace(data, []byte(`"resets"`), []byte(`"reset"`), 1),
	} {
		if _, err := parseTicket(text); err == nil {
			t.Errorf("%s is a ticket", name)
		}
	}
}

// TestTicketPolicy: the two limits are part of what the share is sealed under,
// each at its place.
func TestTicketPolicy(t *testing.T) {
	seen := map[string]bool{}
	for _, change := range []func(*ticket){func(*ticket) {}, func(t *ticket) { t.Resets++ }, func(t *ticket) { t.Clock++ }, func(t *ticket) { t.Resets, t.Clock = uint32(t.Clock), uint64(t.Resets) }} {
		tk := exampleTicket()
		change(tk)
		digest := string(tk.policy(make([]byte, 32)))
		if seen[digest] || len(digest) != 32 {
			t.Errorf("%x twice, or no digest", digest)
		}
		seen[digest] = true
	}
}

// FuzzTicket is what guest root may write into the index.
func FuzzTicket(f *testing.F) {
	data, _ := json.Marshal(exampleTicket())
	f.Add(data)
	f.Add([]byte(`{"disk":"x"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		tk, err := parseTicket(data)
		if err != nil {
			return
		}
		newUnlocking(&tk.Unlock)
		again, err := json.Marshal(tk)
		if err != nil {
			t.Fatal(err)
		}
		// Base64 and numbers may be written in other ways, but mean the same.
		other, err := parseTicket(again)
		if err == nil && !bytes.Equal(other.policy(nil), tk.policy(nil)) {
			t.Errorf("%s is another ticket", again)
		}
	})
}
