package main

import (
	"os"
	"strings"
	"testing"
)

// TestEveryFindingIsDocumented, in both languages and in docs/findings.
func TestEveryFindingIsDocumented(t *testing.T) {
	for _, in := range findingCatalogs {
		path, catalog := "../../docs/findings/"+in.page+".md", in.Catalog
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
