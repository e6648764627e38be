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

// Without a key an attestation is made with the hash of the scheme that was asked
// for, and is not signed; without that there is none (Part 3, 18.4.1 and 31.16.1).
func TestAttestationWithoutKey(t *testing.T) {
	b := newBench(t)
	b.ok(define(ownerRW, 8), nil)
	b.ok(nvWrite(tpm2.RHOwner, 8, 0), nil)
	sha384 := tpm2.TPMTSigScheme{Scheme: tpm2.AlgRSASSA, Details: tpm2.TPMUSigScheme{Any: tpm2.TPMSSchemeHash{HashAlg: tpm2.AlgSHA384}}}
	none := tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull}

	// said is what an attestation says; its signature must be the NULL Signature.
	said := func(cmd tpm2.Command) tpm2.TPMSAttest {
		t.Helper()
		out := b.execute(marshal(cmd))
		d := tpm2.NewDecoder(out[min(len(out), headerSize+4):]) // after parameterSize
		blob := d.Buf(1024)
		if alg := tpm2.AlgID(d.U16()); d.RC() != tpm2.RCSuccess || alg != tpm2.AlgNull {
			t.Fatalf("%T: got %x", cmd, out)
		}
		return attested(t, blob)
	}

	quote := &tpm2.Quote{SignHandle: tpm2.RHNull, InScheme: sha384}
	if d := said(quote).Attested.Quote.PCRDigest; len(d) != 48 {
		t.Errorf("quote: digest of %d octets", len(d))
	}
	quote.InScheme = none
	b.refused(tpm2.RCScheme.Param(2), quote)

	nv := &tpm2.NVCertify{SignHandle: tpm2.RHNull, AuthHandle: tpm2.RHOwner, NVIndex: testIndex, InScheme: sha384}
	if d := said(nv).Attested.NVDigest.NVDigest; len(d) != 48 {
		t.Errorf("NV_Certify: digest of %d octets", len(d))
	}
	nv.InScheme = none
	b.refused(tpm2.RCScheme.Param(2), nv)
	nv.Size = 8 // the contents want no hash
	said(nv)
}
