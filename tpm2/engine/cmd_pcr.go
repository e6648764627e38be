package engine

import (
	"slices"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// pcrExtend is TPM2_PCR_Extend (Part 3, 22.2).
func (t *TPM) pcrExtend(c *call, in *tpm2.PCRExtend, _ *tpm2.PCRExtendResponse) tpm2.RC {
	if in.PCRHandle == tpm2.RHNull {
		return tpm2.RCSuccess
	}
	if rc := t.pcrWritable(c, in.PCRHandle); rc != tpm2.RCSuccess {
		return rc
	}
	for i := range in.Digests {
		t.extend(int(in.PCRHandle), in.Digests[i].HashAlg, in.Digests[i].Digest)
	}
	return tpm2.RCSuccess
}

func (t *TPM) pcrWritable(c *call, h tpm2.Handle) tpm2.RC {
	if pcrs[h].extend>>c.locality&1 == 0 {
		return tpm2.RCLocality
	}
	return tpm2.RCSuccess
}

// pcrEvent is TPM2_PCR_Event (Part 3, 22.3).
func (t *TPM) pcrEvent(c *call, in *tpm2.PCREvent, out *tpm2.PCREventResponse) tpm2.RC {
	if in.PCRHandle != tpm2.RHNull {
		if rc := t.pcrWritable(c, in.PCRHandle); rc != tpm2.RCSuccess {
			return rc
		}
	}
	for i := range t.ram.pcr {
		alg := t.ram.pcr[i].alg
		d := crypt.Digest(alg, in.EventData)
		if in.PCRHandle != tpm2.RHNull {
			t.extend(int(in.PCRHandle), alg, d)
		}
		out.Digests = append(out.Digests, tpm2.TPMTHA{HashAlg: alg, Digest: d})
	}
	return tpm2.RCSuccess
}

// pcrReading is memory for one TPM2_PCR_Read.
type pcrReading struct {
	values  [maxPCRValues][]byte
	selects [16 * (tpm2.PCRCount / 8)]byte // as many as a TPML_PCR_SELECTION has
}

// maxPCRValues is how many digests a TPML_DIGEST holds.
const maxPCRValues = 8

// pcrRead is TPM2_PCR_Read (Part 3, 22.4): at most 8 digests, and a selection that says which.
func (t *TPM) pcrRead(_ *call, in *tpm2.PCRRead, out *tpm2.PCRReadResponse) tpm2.RC {
	out.PCRUpdateCounter = t.ram.reset.pcrCounter
	out.PCRSelectionOut = in.PCRSelectionIn
	out.PCRValues = t.reading.values[:0]
	left := maxPCRValues
	for i := range out.PCRSelectionOut {
		s := &out.PCRSelectionOut[i]
		b := t.bank(s.Hash)
		got := t.reading.selects[i*len(s.PCRSelect) : (i+1)*len(s.PCRSelect)]
		clear(got)
		for n := 0; b != nil && n < tpm2.PCRCount && left > 0; n++ {
			if selected(s.PCRSelect, n) {
				out.PCRValues = append(out.PCRValues, b.at(n))
				got[n/8] |= 1 << (n % 8)
				left--
			}
		}
		s.PCRSelect = got
	}
	return tpm2.RCSuccess
}

// pcrAllocate is TPM2_PCR_Allocate (Part 3, 22.5): which banks there are after
// the next TPM Reset. A bank has all its PCRs or none, as the PC Client profile asks.
func (t *TPM) pcrAllocate(_ *call, in *tpm2.PCRAllocate, out *tpm2.PCRAllocateResponse) tpm2.RC {
	out.MaxPCR = tpm2.PCRCount
	want := map[tpm2.AlgID]bool{}
	for _, b := range t.ram.pcr { // what is not listed stays as it is now
		want[b.alg] = true
	}
	for _, s := range in.PCRAllocation {
		if want[s.Hash] = slices.Max(s.PCRSelect) != 0; !want[s.Hash] {
			continue
		}
		if slices.Min(s.PCRSelect) != 0xff { // no partial banks
			return tpm2.RCSuccess // allocationSuccess is NO
		}
	}
	var banks []tpm2.AlgID
	for _, alg := range bankAlgs {
		if want[alg] {
			banks = append(banks, alg)
			out.SizeNeeded += uint32(tpm2.PCRCount * alg.DigestSize())
		}
	}
	for _, alg := range bankAlgs {
		out.SizeAvailable += uint32(tpm2.PCRCount * alg.DigestSize())
	}
	if len(banks) == 0 { // a TPM without PCRs proves nothing
		return tpm2.RCPCR
	}
	t.w().banks = banks
	if rc := t.commit(); rc != tpm2.RCSuccess {
		return rc
	}
	t.ram.pcrAllocated = true
	out.AllocationSuccess = tpm2.Yes
	return tpm2.RCSuccess
}

// bankAlgs are the banks that can be, in the order in which they are reported.
var bankAlgs = []tpm2.AlgID{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512}

// pcrReset is TPM2_PCR_Reset (Part 3, 22.8).
func (t *TPM) pcrReset(c *call, in *tpm2.PCRReset, _ *tpm2.PCRResetResponse) tpm2.RC {
	n := int(in.PCRHandle)
	// At locality 4 only _TPM_Hash_Start resets (PC Client PTP, 4.6).
	if c.locality == 4 || pcrs[n].reset>>c.locality&1 == 0 {
		return tpm2.RCLocality
	}
	for i := range t.ram.pcr {
		clear(t.ram.pcr[i].at(n))
	}
	t.pcrChanged(n)
	return tpm2.RCSuccess
}
