package chain

import (
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/finding"
)

// TestKnowledge wants every code told in full, in both languages.
func TestKnowledge(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range Entries() {
		if seen[e.Code] {
			t.Errorf("%s is there twice", e.Code)
		}
		seen[e.Code] = true
		for _, l := range []finding.Lang{finding.English, finding.Chinese} {
			x := e.In(l)
			for what, s := range map[string]string{"meaning": x.Meaning, "looks": x.Looks, "clients": x.Clients, "remedy": x.Remedy} {
				if s == "" {
					t.Errorf("%s has no %s in %s", e.Code, what, l)
				}
				if l == finding.Chinese && !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x4E00 && r <= 0x9FFF }) && !strings.Contains(s, "vouchsafe") && what != "looks" {
					t.Errorf("%s: %s is not Chinese: %s", e.Code, what, s)
				}
			}
		}
	}
	for code := range knowledge {
		if !seen[code] {
			t.Errorf("knowledge about %s, which is no code", code)
		}
	}
}
