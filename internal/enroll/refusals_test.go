package enroll_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
)

// TestEveryRefusalIsExplained: a code that the code can answer with is in the
// catalogue, in both languages, and in the document.
func TestEveryRefusalIsExplained(t *testing.T) {
	doc, err := os.ReadFile("../../docs/findings/service.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, c := range []finding.Catalog{enroll.Refusals, enroll.Findings, audit.Findings} {
		for _, e := range c {
			known[e.Code] = true
			if e.Meaning.ZH == "" || e.Remedy.ZH == "" || e.Meaning.EN == "" || e.Remedy.EN == "" {
				t.Errorf("%s is not explained in both languages", e.Code)
			}
			if !strings.Contains(string(doc), "## "+e.Code+"\n") {
				t.Errorf("docs/findings/service.md does not explain %s", e.Code)
			}
		}
	}
	files, _ := filepath.Glob("*.go")
	more, _ := filepath.Glob("../store/*.go")
	used := regexp.MustCompile(`Refusal\{(?:Code: )?"([A-Z_]+)"`)
	for _, f := range append(files, more...) {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range used.FindAllStringSubmatch(string(text), -1) {
			if !known[m[1]] {
				t.Errorf("%s answers %s, which is not in Refusals", f, m[1])
			}
		}
	}
}

// TestBudget: a VM that asks in a loop is refused, without a record for each;
// others are not held up by it, and time makes it good.
func TestBudget(t *testing.T) {
	h := newHouse(t)
	h.born("web1", "h1")
	h.born("web2", "h1")
	refused := 0
	before := h.log.Size()
	for range 100 {
		_, err := h.lend("h1", 7) // a state that never was
		var r enroll.Refusal
		if errors.As(err, &r) && r.Code == "BUDGET_SPENT" {
			refused++
		}
	}
	if refused != 60 || h.log.Size()-before > 2*40 {
		t.Errorf("%d refused, %d records", refused, h.log.Size()-before)
	}
	if _, err := h.Lend(t.Context(), enroll.Ask{Tenant: "default", VM: "web2", Host: "h1"}); err != nil {
		t.Errorf("another VM: %v", err)
	}
	// What a host asks in vain is on its own account: it keeps no VM of another from
	// starting, and does not fill the log with names that it makes up.
	before = h.log.Size()
	for i := range 100 {
		h.Lend(t.Context(), enroll.Ask{Tenant: "default", VM: "web2", Host: "h2", Generation: 1})
		h.Lend(t.Context(), enroll.Ask{Tenant: "default", VM: fmt.Sprint("no", i), Host: "h2"})
	}
	if n := h.log.Size() - before; n > 2*40 {
		t.Errorf("a host that asks in vain left %d records", n)
	}
	if _, err := h.Lend(t.Context(), enroll.Ask{Tenant: "default", VM: "web2", Host: "h1"}); err != nil {
		t.Errorf("a VM that another host asked for: %v", err)
	}
	h.pass(time.Minute)
	h.wall = h.wall.Add(-24 * time.Hour) // the wall clock does not matter
	_, err := h.lend("h1", 0)
	h.wants("a minute later", err, "")
}
