package attest

import (
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/eventlog"
)

func TestGolden(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(d *device, ev Evidence) Evidence
		want  string // codes of the warnings, or the error's
	}{
		{"ovmf-direct", nil, "SECURE_BOOT_OFF"},
		{"secureboot", nil, ""},
		{"seabios", nil, "KERNEL_NOT_MEASURED COMMAND_LINE_NOT_MEASURED INITRD_NOT_MEASURED"},
		{"secureboot", func(d *device, ev Evidence) Evidence {
			d.extend(4, "x")
			ev[0].Data, ev[1].Data = d.quote(BootPCRs(), []byte("qualifying"))
			return ev
		}, "EVENT_LOG_MISMATCH"},
		{"secureboot", func(d *device, ev Evidence) Evidence { return ev[:2] }, "EVENT_LOG_MISSING"},
		{"secureboot", func(d *device, ev Evidence) Evidence {
			ev[0].Data, ev[1].Data = d.quote([]int{0, 7}, []byte("qualifying"))
			return ev
		}, "PCR 1 is not in the quote"},
	} {
		log := capture(t, tt.name)
		d := newDevice(t, log, "ecc")
		exp := expect(d)
		ev := d.evidence(log, exp.Qualifying)
		if tt.spoil != nil {
			ev = tt.spoil(d, ev)
		}
		l, warnings, err := Golden(ev, exp)
		if tt.spoil != nil {
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := codes(&Result{Findings: warnings}); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		// What was taken is then what is admitted.
		s, err := NewStatement("acme", "web", 1, now, l, eventlog.SHA256, BootPCRs())
		if err != nil {
			t.Fatal(err)
		}
		signed, err := s.Sign(policyKey, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Verify(signed, &policyKey.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		if res := Appraise(ev, exp, []*ReferenceValues{r}); res.Status != Affirming {
			t.Errorf("%s: %s", tt.name, codes(res))
		}
	}
}
