package engine

import (
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// attested parses what an attestation says.
func attested(t *testing.T, blob []byte) (a tpm2.TPMSAttest) {
	t.Helper()
	if err := tpm2.Unmarshal(blob, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// GetTime tells the privacy administrator the counters as they are, beside the
// ones that are obfuscated for a key of the owner's (Part 3, 18.7.1).
func TestGetTimeTellsTheCounters(t *testing.T) {
	b := newBench(t)
	for h, same := range map[tpm2.Handle]bool{tpm2.RHOwner: false, tpm2.RHEndorsement: true} {
		key := b.primary(h, signP256()).ObjectHandle
		var r tpm2.GetTimeResponse
		b.ok(&tpm2.GetTime{PrivacyAdminHandle: tpm2.RHEndorsement, SignHandle: key, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull}}, &r)
		a := attested(t, r.TimeInfo)
		reset, restart := b.counts()
		in := a.Attested.Time
		if c := in.Time.ClockInfo; c.ResetCount != reset || c.RestartCount != restart || in.FirmwareVersion != FirmwareVersion {
			t.Errorf("%v: attested.time has reset %d, restart %d, firmware %#x", h, c.ResetCount, c.RestartCount, in.FirmwareVersion)
		}
		if (a.ClockInfo.ResetCount == reset && a.ClockInfo.RestartCount == restart && a.FirmwareVersion == FirmwareVersion) != same {
			t.Errorf("%v: clockInfo has reset %d, restart %d, firmware %#x", h, a.ClockInfo.ResetCount, a.ClockInfo.RestartCount, a.FirmwareVersion)
		}
	}
}
