package modsig_test

import (
	"bufio"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/modvariants"
	"github.com/vouchsafe/vouchsafe/modsig"
)

// TestRecordedVerdicts wants every answer that real kernels gave to be the
// predicted one. testdata/verdicts.tsv is recorded in QEMU by test/modules:
//
//	release  mode  keys enrolled  variant  errno  taint  log
//
// Here the module is a stand-in, signed with a stand-in for the build key.
func TestRecordedVerdicts(t *testing.T) {
	f, err := os.Open("testdata/verdicts.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	boots := map[string]*variants.Boot{}
	rows := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		if strings.HasPrefix(s.Text(), "#") {
			continue
		}
		c := strings.Split(s.Text(), "\t")
		if len(c) != 7 {
			t.Fatalf("not seven columns: %q", s.Text())
		}
		release, mode, enrolled, name := c[0], modsig.Mode(c[1]), c[2] == "true", c[3]
		features := oldFeatures
		if strings.HasPrefix(release, "6.12") {
			features = newFeatures
		}
		var log []string
		if c[6] != "" {
			log = strings.Split(c[6], " | ")
		}
		boot := boots[strings.Join(c[:3], " ")]
		if boot == nil {
			boot = &variants.Boot{}
			boots[strings.Join(c[:3], " ")] = boot
		}
		fix := fixturesFor(t, release)
		o := modsig.Check(fix.files[name], fix.kernel(features, enrolled), modsig.Options{Now: time.Now()}).Predict(mode)
		if ok, want := boot.Agrees(o, variants.Answer{Errno: c[4], Taint: c[5], Log: log}); !ok {
			t.Errorf("%s: predicted %+v with log %q", s.Text(), o, want)
		}
		rows++
	}
	if rows < 520 {
		t.Errorf("only %d rows", rows)
	}
}
