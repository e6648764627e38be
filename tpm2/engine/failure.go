package engine

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// Failure mode (Part 1, 9.4) is where a fault of this program leads, or an
// entropy source that fails: one TPM stops, and the others in the process go on.
// The command that met the fault has changed no non-volatile state, and nothing
// will until the next _TPM_Init. TPM2_GetTestResult and TPM2_GetCapability are
// still answered.

// errFailureMode refuses to take volatile state that may be half changed.
var errFailureMode = errors.New("the TPM is in failure mode")

// Failure says what led into failure mode, and where; nil while the TPM works.
func (t *TPM) Failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

// fail enters failure mode; the fault that was met first is kept.
func (t *TPM) fail(fault any) {
	t.tx = nil
	if t.failed == nil {
		t.failed = fmt.Errorf("%v%s", fault, callers())
	}
}

// callers names the functions on the way to a fault, without their arguments.
func callers() string {
	var pcs [32]uintptr
	var b strings.Builder
	frames := runtime.CallersFrames(pcs[:runtime.Callers(4, pcs[:])])
	for {
		f, more := frames.Next()
		if strings.Contains(f.Function, "/tpm2") {
			fmt.Fprintf(&b, "; %s:%d", f.Function[strings.LastIndexByte(f.Function, '/')+1:], f.Line)
		}
		if !more {
			return b.String()
		}
	}
}

// worksInFailure lists the commands of failure mode.
func worksInFailure(cc tpm2.CC) bool { return cc == tpm2.CCGetTestResult || cc == tpm2.CCGetCapability }
