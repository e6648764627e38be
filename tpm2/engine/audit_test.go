package engine

import (
	"bytes"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// commandAudit is the state of the command audit; TPM2_GetCommandAuditDigest
// with a key would end it.
func (b *bench) commandAudit() tpm2.TPMSCommandAuditInfo {
	return tpm2.TPMSCommandAuditInfo{AuditCounter: b.tpm.nv.auditCounter, DigestAlg: b.tpm.nv.auditHash, AuditDigest: b.tpm.ram.reset.auditDigest}
}

// audited extends a digest as one audited command without handles does.
func audited(alg tpm2.AlgID, old []byte, cc tpm2.CC, params, response []byte) []byte {
	code := []byte{byte(cc >> 24), byte(cc >> 16), byte(cc >> 8), byte(cc)}
	return crypt.Digest(alg, old, crypt.Digest(alg, code, params), crypt.Digest(alg, []byte{0, 0, 0, 0}, code, response))
}

// An audited command after TPM2_Shutdown(STATE) is not forgotten in a power
// loss: where it would be, there is no TPM Resume (Part 3, 9.4.1).
func TestAuditAfterShutdown(t *testing.T) {
	b := newBench(t)
	b.ok(&tpm2.SetCommandCodeAuditStatus{Auth: tpm2.RHOwner, AuditAlg: tpm2.AlgNull, SetList: []tpm2.CC{tpm2.CCGetTestResult}}, nil)
	b.ok(&tpm2.Shutdown{ShutdownType: tpm2.SUState}, nil)
	b.ok(&tpm2.GetRandom{BytesRequested: 1}, nil) // neither audited nor saved
	b.powerCycle(tpm2.SUState)

	b.ok(&tpm2.Shutdown{ShutdownType: tpm2.SUState}, nil)
	b.ok(&tpm2.GetTestResult{}, nil)
	b.powerOff()
	b.refused(tpm2.RCValue.Param(1), &tpm2.Startup{StartupType: tpm2.SUState})
	b.ok(&tpm2.Startup{StartupType: tpm2.SUClear}, nil)
}

// A change of the algorithm is not audited; the digest begins anew (Part 3, 21.2.1).
func TestAuditAlgorithm(t *testing.T) {
	b := newBench(t)
	set := &tpm2.SetCommandCodeAuditStatus{Auth: tpm2.RHOwner, AuditAlg: tpm2.AlgNull, SetList: []tpm2.CC{tpm2.CCStirRandom}}
	b.ok(set, nil)
	b.ok(&tpm2.StirRandom{InData: []byte{1}}, nil)
	before := b.commandAudit()

	b.refused(tpm2.RCValue.Param(1), &tpm2.SetCommandCodeAuditStatus{Auth: tpm2.RHOwner, AuditAlg: tpm2.AlgSHA384, SetList: []tpm2.CC{tpm2.CCGetRandom}})
	if got := b.commandAudit(); !bytes.Equal(got.AuditDigest, before.AuditDigest) {
		t.Error("a change that was refused changed the digest")
	}
	b.ok(&tpm2.SetCommandCodeAuditStatus{Auth: tpm2.RHOwner, AuditAlg: tpm2.AlgSHA384}, nil)
	if got := b.commandAudit(); len(got.AuditDigest) != 0 || got.DigestAlg != tpm2.AlgSHA384 || got.AuditCounter != before.AuditCounter {
		t.Errorf("after the change: %+v", got)
	}
	b.ok(&tpm2.StirRandom{InData: []byte{2}}, nil)
	want := audited(tpm2.AlgSHA384, make([]byte, 48), tpm2.CCStirRandom, []byte{0, 1, 2}, nil)
	if got := b.commandAudit(); !bytes.Equal(got.AuditDigest, want) || got.AuditCounter != before.AuditCounter+1 {
		t.Errorf("after an audited command: %+v, want the digest %x", got, want)
	}
}
