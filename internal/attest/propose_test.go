package attest

import (
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/eventlog"
)

// newCommandLine is the boot of ovmf-direct-changed, told by digest.
func newCommandLine(t *testing.T) *eventlog.Measured {
	t.Helper()
	l, err := eventlog.Parse(capture(t, "ovmf-direct"))
	if err != nil {
		t.Fatal(err)
	}
	b := eventlog.Boot{CommandLine: "console=ttyS0 panic=-1 init=/bin/sh", Initrd: []byte{0}}
	return &eventlog.Measured{Kernel: l.Events[10].Digests, Initrd: l.Events[22].Digests,
		CommandLine: []eventlog.Digest{{Alg: eventlog.SHA256, Sum: eventlog.SHA256.Sum(b.LoadOptions())}}}
}

// TestProposedBeforeTheReboot: what is computed from the old boot's statement is
// what the changed boot then really had.
func TestProposedBeforeTheReboot(t *testing.T) {
	golden, changed := capture(t, "ovmf-direct"), capture(t, "ovmf-direct-changed")
	old := references(t, 1, golden)
	s, err := Propose(old, newCommandLine(t), 2, now.Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	changes, err := s.Changes(old)
	if err != nil || len(changes) != 1 || !strings.HasPrefix(changes[0], "PCR 9: ") || !strings.Contains(changes[0], "LOADED_IMAGE::LoadOptions") || strings.Contains(changes[0], "initrd") {
		t.Errorf("changes %q, %v", changes, err)
	}
	signed, err := s.Sign(policyKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	proposed, err := Verify(signed, &policyKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	d := newDevice(t, changed, "ecc")
	exp := expect(d)
	ev := d.evidence(changed, exp.Qualifying)
	if res := Appraise(ev, exp, []*ReferenceValues{old}); codes(res) != "BOOT_DIFFERS" {
		t.Errorf("before the approval: %q", codes(res))
	}
	if res := Appraise(ev, exp, []*ReferenceValues{old, proposed}); res.Status != Affirming || res.Reference.Version != 2 {
		t.Errorf("after the approval: %s %q %+v", res.Status, codes(res), res.Reference)
	}
	// The old boot stays good until its set is withdrawn.
	d = newDevice(t, golden, "ecc")
	exp = expect(d)
	if res := Appraise(d.evidence(golden, exp.Qualifying), exp, []*ReferenceValues{old, proposed}); res.Status != Affirming {
		t.Errorf("the old boot: %q", codes(res))
	}
}

func TestProposeRefuses(t *testing.T) {
	m := newCommandLine(t)
	good := references(t, 1, capture(t, "ovmf-direct"))
	for _, tt := range []struct {
		name    string
		base    *ReferenceValues
		version uint64
		want    string
	}{
		{"no new version", good, 1, "not a new one"},
		{"SeaBIOS", references(t, 1, capture(t, "seabios")), 2, "0 kernels"},
		{"shim and GRUB", references(t, 1, capture(t, "secureboot")), 2, "4 kernels"},
		{"PCR 9 not in it", references(t, 1, capture(t, "ovmf-direct"), 0, 4, 7), 2, "do not lead to PCR 9"},
	} {
		if _, err := Propose(tt.base, m, tt.version, now); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	spoiled := *good
	spoiled.statement.Events = spoiled.statement.Events[:5]
	if _, err := Propose(&spoiled, m, 2, now); err == nil {
		t.Error("proposed from a statement whose events do not lead to its values")
	}
}
