package modsig_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/modsig"
)

// TestExplainsItsOwnPredictions wants no message that Predict foresees to be
// without an explanation.
func TestExplainsItsOwnPredictions(t *testing.T) {
	f := fixtures(t)
	for _, features := range []modsig.Features{oldFeatures, newFeatures} {
		for name, file := range f.files {
			r := modsig.Check(file, f.kernel(features, false), modsig.Options{Now: time.Now()})
			for _, m := range modsig.Modes {
				for _, line := range strings.Split(r.Predict(m).Message, "\n") {
					if _, ok := modsig.Explain("[    1.234567] " + line); line != "" && !ok {
						t.Errorf("%s in mode %s: %q has no explanation", name, m, line)
					}
				}
			}
		}
	}
}

// TestCatalog wants both languages and the same arguments in each.
func TestCatalog(t *testing.T) {
	seen := map[string]bool{}
	place := regexp.MustCompile(`\{\d\}`)
	for _, e := range modsig.Findings {
		if seen[e.Code] {
			t.Errorf("%s is there twice", e.Code)
		}
		seen[e.Code] = true
		for _, text := range []finding.Text{e.Meaning, e.Remedy} {
			if text.EN == "" || text.ZH == "" {
				t.Errorf("%s lacks a language", e.Code)
			}
			en, zh := map[string]bool{}, map[string]bool{}
			for _, p := range place.FindAllString(text.EN, -1) {
				en[p] = true
			}
			for _, p := range place.FindAllString(text.ZH, -1) {
				zh[p] = true
			}
			if len(en) != len(zh) {
				t.Errorf("%s: arguments differ between languages", e.Code)
			}
		}
	}
}

func FuzzExplain(f *testing.F) {
	f.Add("[    2.184001] nvidia: module verification failed: signature and/or required key missing - tainting kernel")
	f.Add("modprobe: ERROR: could not insert 'nvidia': Key was rejected by service")
	f.Fuzz(func(t *testing.T, line string) {
		if x, ok := modsig.Explain(line); ok && (x.Meaning == "" || strings.Contains(x.Meaning+x.Remedy, "{0}")) {
			t.Errorf("%q: %+v", line, x)
		}
	})
}

// TestFindingsAreDocumented wants an entry of docs/findings for each code.
func TestFindingsAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../docs/findings/modsig.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range modsig.Findings {
		if !strings.Contains(string(b), "\n## "+e.Code+"\n") {
			t.Errorf("docs/findings/modsig.md has no entry for %s", e.Code)
		}
	}
}
