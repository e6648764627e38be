package main

import (
	"os"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/eventlog"
	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/attest"
)

// TestEveryFindingIsDocumented, in both languages and in docs/findings.
func TestEveryFindingIsDocumented(t *testing.T) {
	for path, catalog := range map[string]finding.Catalog{
		"../../docs/findings/attest.md":   attest.Findings,
		"../../docs/findings/eventlog.md": eventlog.Findings,
	} {
		doc, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var headings strings.Builder
		for line := range strings.Lines(string(doc)) {
			if h, ok := strings.CutPrefix(line, "## "); ok {
				headings.WriteString(strings.ReplaceAll(h, ",", " ") + " ")
			}
		}
		known := " " + strings.Join(strings.Fields(headings.String()), " ") + " "
		for _, e := range catalog {
			if !strings.Contains(known, " "+e.Code+" ") {
				t.Errorf("%s has no heading in %s", e.Code, path)
			}
			if e.Meaning.ZH == "" || e.Remedy.ZH == "" || e.Meaning.EN == "" || e.Remedy.EN == "" {
				t.Errorf("%s lacks a language", e.Code)
			}
		}
	}
}
