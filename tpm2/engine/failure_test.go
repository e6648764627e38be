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

// Failure mode may begin before TPM2_Startup is over, and takes no sessions.
func TestFailureModeBeforeStartup(t *testing.T) {
	b := newBench(t)
	b.mayFail = true
	b.ok(&tpm2.SetCommandCodeAuditStatus{Auth: tpm2.RHOwner, AuditAlg: tpm2.AlgNull, SetList: []tpm2.CC{tpm2.CCGetTestResult}}, nil)
	b.powerOff()
	state := b.store.state
	b.tpm.rng.src = failingSource{}
	b.refused(tpm2.RCFailure, &tpm2.Startup{}) // it draws the seed of the NULL hierarchy
	var r tpm2.GetTestResultResponse
	b.ok(&tpm2.GetTestResult{}, &r)
	if r.TestResult != tpm2.RCFailure {
		t.Errorf("test result %v", r.TestResult)
	}
	var c tpm2.GetCapabilityResponse
	b.ok(&tpm2.GetCapability{Capability: tpm2.CapTPMProperties, Property: uint32(tpm2.PTManufacturer), PropertyCount: 1}, &c)
	if p := c.CapabilityData.Data.TPMProperties; len(p) != 1 || p[0].Value != Manufacturer {
		t.Errorf("the manufacturer: %v", p)
	}
	session := authEntry(tpm2.HMACSessionFirst, nil, tpm2.SessionAudit, nil)
	if rc := b.raw(with(&tpm2.GetTestResult{}, session), nil); rc != tpm2.RCFailure {
		t.Errorf("with a session: %v", rc)
	}
	b.refused(tpm2.RCFailure, &tpm2.GetRandom{BytesRequested: 4})
	if !bytes.Equal(state, b.store.state) {
		t.Error("the stored state has changed")
	}
}

type failingSource struct{}

func (failingSource) Read([]byte) (int, error) { return 0, errors.New("no entropy") }
