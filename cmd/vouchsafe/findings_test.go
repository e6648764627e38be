package main

import (
	"os"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/eventlog"
	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/host"
	"github.com/vouchsafe/vouchsafe/internal/vtpm"
)

// TestEveryFindingIsDocumented, in both languages and in docs/findings.
func TestEveryFindingIsDocumented(t *testing.T) {
	for _, in := range []struct {
		path    string
		catalog finding.Catalog
	}{
		{"../../docs/findings/attest.md", attest.Findings},
		{"../../docs/findings/eventlog.md", eventlog.Findings},
		{"../../docs/findings/service.md", checkFindings},
		{"../../docs/findings/service.md", host.Findings},
		{"../../docs/findings/service.md", enroll.Findings},
		{"../../docs/findings/vtpm.md", vtpm.Catalog},
	} {
		path, catalog := in.path, in.catalog
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
