package engine

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// A fault in one TPM is that TPM's: it answers TPM_RC_FAILURE until it is
// powered on again, and has changed nothing that is kept.
func TestFailureMode(t *testing.T) {
	b := newBench(t)
	b.mayFail = true
	state := b.store.state
	b.tpm.rng.src = failingSource{}
	b.refused(tpm2.RCFailure, &tpm2.Clear{AuthHandle: tpm2.RHLockout}) // it draws new seeds
	b.refused(tpm2.RCFailure, &tpm2.PCRRead{})
	if err := b.tpm.Failure(); err == nil || !strings.Contains(err.Error(), "engine.(*rng).fill") {
		t.Errorf("the cause: %v", err)
	}
	var r tpm2.GetTestResultResponse
	b.ok(&tpm2.GetTestResult{}, &r)
	if r.TestResult != tpm2.RCFailure {
		t.Errorf("test result %v", r.TestResult)
	}
	if _, err := b.tpm.Volatile(); !errors.Is(err, errFailureMode) {
		t.Errorf("volatile state was taken: %v", err)
	}
	if !bytes.Equal(state, b.store.state) {
		t.Error("the stored state has changed")
	}
	b.powerCycle(tpm2.SUClear)
	b.ok(&tpm2.GetRandom{BytesRequested: 4}, nil)
}

type failingSource struct{}

func (failingSource) Read([]byte) (int, error) { return 0, errors.New("no entropy") }
