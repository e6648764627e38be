package eventlog

import (
	"bytes"
	"fmt"

	"github.com/vouchsafe/vouchsafe/finding"
)

// maxViolations is how many violations are reported one by one.
const maxViolations = 16

// CheckIMA looks for what is wrong with an IMA list of the boot that l is the
// log of: entries whose text was changed, violations, and whether it continues l.
func (l *Log) CheckIMA(entries []IMAEntry) []finding.Finding {
	var out []finding.Finding
	violations := 0
	for i := range entries {
		e := &entries[i]
		switch {
		case e.Violation():
			if violations++; violations <= maxViolations {
				out = append(out, Findings.New("IMA_VIOLATION", fmt.Sprintf("IMA entry %d", i), e.Text(), printable(e.Name)))
			}
		case !bytes.Equal(e.templateHash(SHA1), e.SHA1):
			// One is enough: from here on nothing in the list is proved.
			return append(out, Findings.New("IMA_ENTRY_CHANGED", fmt.Sprintf("IMA entry %d", i), e.Text(), fmt.Sprint(i)))
		}
	}
	if len(entries) == 0 || entries[0].Name != "boot_aggregate" {
		return out // a list of kexec or of a policy without it
	}
	a, err := ParseAlg(entries[0].FileAlg)
	if err != nil {
		return out
	}
	b, err := l.Replay(a)
	if err != nil {
		return out // the log has not this bank
	}
	if want := BootAggregate(b); !bytes.Equal(entries[0].FileHash, want) {
		out = append(out, Findings.New("IMA_OTHER_BOOT", "IMA entry 0", fmt.Sprintf("boot_aggregate is %s, the log leads to %s", short(entries[0].FileHash), short(want))))
	}
	return out
}
