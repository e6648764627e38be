package attest

import (
	"fmt"

	"github.com/vouchsafe/vouchsafe/eventlog"
	"github.com/vouchsafe/vouchsafe/finding"
)

// Golden appraises evidence of a boot that is to become reference values, and
// returns its log for [NewStatement], which may name any PCR that was quoted;
// [BootPCRs] always are. Everything but the comparison with
// reference values must hold; otherwise the error names the first thing that does
// not. The findings say what the boot does not measure: whoever approves it must
// see them (KERNEL_NOT_MEASURED: these values would admit every kernel).
func Golden(ev Evidence, exp Expected) (*eventlog.Log, []finding.Finding, error) {
	a := &appraisal{exp: exp, res: newResult(exp)}
	a.run(ev, nil)
	var warnings []finding.Finding
	for _, f := range a.res.Findings {
		switch {
		case f.Code == "REFERENCE_MISSING":
		case f.Severity == finding.Error:
			return nil, nil, fmt.Errorf("taking a golden boot of %s: %s: %s", exp.Subject, f.Code, f.Evidence)
		default:
			warnings = append(warnings, f)
		}
	}
	for _, pcr := range BootPCRs() {
		if _, ok := a.q.values[pcr]; !ok {
			return nil, nil, fmt.Errorf("taking a golden boot of %s: PCR %d is not in the quote; quote PCRs %v", exp.Subject, pcr, BootPCRs())
		}
	}
	for _, f := range a.log.Check() {
		if f.Severity == finding.Error {
			return nil, nil, fmt.Errorf("taking a golden boot of %s: %s: %s", exp.Subject, f.Code, f.Evidence)
		}
		warnings = append(warnings, f)
	}
	return a.log, warnings, nil
}
