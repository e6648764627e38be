package chain

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/finding"
)

var update = flag.Bool("update", false, "write docs/findings/chain.md anew")

const findingsDocument = "../docs/findings/chain.md"

// TestFindingsDocument keeps docs/findings/chain.md and the knowledge base the same:
// go test ./chain -run FindingsDocument -update
func TestFindingsDocument(t *testing.T) {
	want := document()
	if *update {
		if err := os.WriteFile(findingsDocument, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(findingsDocument)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the knowledge base says: go test ./chain -run FindingsDocument -update", findingsDocument)
	}
}

func document() string {
	var b strings.Builder
	b.WriteString(`# Findings of ` + "`vouchsafe chain`" + `

One entry for each code that ` + "`chain check`" + ` can report, in the order of root causes: what
stands further up is told first. ` + "`vouchsafe chain explain CODE`" + ` prints the same, in English
or Chinese. The file is written from the knowledge base (chain/knowledge_texts.go); edit that.

**Severity**: ` + "`error`" + ` some real client fails; ` + "`warning`" + ` it works, and should be mended; ` + "`info`" + ` harmless.
**Repair**: ` + "`local`" + ` the file is enough; ` + "`pool`" + ` an intermediate must be found; ` + "`network`" + ` it must be fetched;
` + "`reissue`" + ` only the CA can; ` + "`input`" + ` it is the wrong file; ` + "`none`" + ` nothing in a file would help.

| code | severity | repair |
|---|---|---|
`)
	for _, e := range Entries() {
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s |\n", e.Code, strings.ToLower(e.Code), e.Severity, e.Class)
	}
	for _, e := range Entries() {
		en, zh := e.In(finding.English), e.In(finding.Chinese)
		fmt.Fprintf(&b, "\n## %s\n\n%s. Repair: %s.\n\n%s\n\n", e.Code, e.Severity, e.Class, en.Meaning)
		fmt.Fprintf(&b, "- **Looks like**: %s\n- **Who fails**: %s\n- **Mend**: %s\n\n", en.Looks, en.Clients, en.Remedy)
		fmt.Fprintf(&b, "%s\n\n- **现象**：%s\n- **受影响的客户端**：%s\n- **修复**：%s\n", zh.Meaning, zh.Looks, zh.Clients, zh.Remedy)
	}
	return b.String()
}
