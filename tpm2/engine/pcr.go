package engine

import (
	"slices"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// pcrBank is one bank: PCRCount digests side by side.
type pcrBank struct {
	alg    tpm2.AlgID
	values []byte
}

func walkBank(c *coder, b *pcrBank) {
	num(c, &b.alg)
	c.bytes(&b.values, tpm2.PCRCount*maxDigest)
	if !c.bad() && (!slices.Contains(bankAlgs, b.alg) || len(b.values) != tpm2.PCRCount*b.alg.DigestSize()) {
		c.refuse()
	}
}

// at is the value of one PCR, to read or to change in place.
func (b *pcrBank) at(pcr int) []byte {
	n := b.alg.DigestSize()
	return b.values[pcr*n : (pcr+1)*n : (pcr+1)*n]
}

// pcrAttributes say what PC Client PTP, 4.6, Table 5 allows of a PCR, a bit a locality.
type pcrAttributes struct {
	save          bool
	reset, extend uint8
	noIncrement   bool // pcrUpdateCounter does not count it
	drtm          bool // all ones until a dynamic launch
}

var pcrs = func() (a [tpm2.PCRCount]pcrAttributes) {
	for i := range 16 {
		a[i] = pcrAttributes{save: true, extend: 0x1f}
	}
	a[16] = pcrAttributes{reset: 0x0f, extend: 0x1f, noIncrement: true}
	a[17] = pcrAttributes{reset: 0x10, extend: 0x1c, drtm: true}
	a[18] = pcrAttributes{reset: 0x10, extend: 0x1c, drtm: true}
	a[19] = pcrAttributes{reset: 0x10, extend: 0x0c, drtm: true}
	a[20] = pcrAttributes{reset: 0x14, extend: 0x0e, drtm: true}
	a[21] = pcrAttributes{reset: 0x14, extend: 0x04, drtm: true, noIncrement: true}
	a[22] = pcrAttributes{reset: 0x14, extend: 0x04, drtm: true, noIncrement: true}
	a[23] = pcrAttributes{reset: 0x0f, extend: 0x1f, noIncrement: true}
	return a
}()

// startPCRs sets the PCRs at TPM2_Startup: saved ones are kept, the rest begin
// afresh (Part 1, 14.2; PC Client PTP, 4.6). PCR 0 begins with the locality of
// TPM2_Startup in its last octet, or 4 after an H-CRTM (Part 3, 9.3).
func (t *TPM) startPCRs(saved []pcrBank, locality uint8) {
	banks := t.n().banks
	t.ram.pcr = make([]pcrBank, len(banks))
	for i, alg := range banks {
		b := &t.ram.pcr[i]
		*b = pcrBank{alg: alg, values: make([]byte, tpm2.PCRCount*alg.DigestSize())}
		var old *pcrBank
		if j := slices.IndexFunc(saved, func(s pcrBank) bool { return s.alg == alg }); j >= 0 {
			old = &saved[j]
		}
		for n, a := range pcrs {
			switch v := b.at(n); {
			case old != nil && a.save:
				copy(v, old.at(n))
			case a.drtm:
				fill(v, 0xff)
			case n == 0:
				v[len(v)-1] = locality
			}
		}
	}
	for n, a := range pcrs { // setting them changes them; what is kept has not changed
		if saved == nil || !a.save {
			t.pcrChanged(n)
		}
	}
}

func fill(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}

// bank finds an allocated bank, or nil.
func (t *TPM) bank(alg tpm2.AlgID) *pcrBank {
	for i := range t.ram.pcr {
		if t.ram.pcr[i].alg == alg {
			return &t.ram.pcr[i]
		}
	}
	return nil
}

// extend is PCR.digest = H(PCR.digest || data); a bank that is not allocated is ignored (Part 3, 22.2).
func (t *TPM) extend(pcr int, alg tpm2.AlgID, data []byte) {
	b := t.bank(alg)
	if b == nil {
		return
	}
	v := b.at(pcr)
	h := t.hash(alg)
	h.Write(v)
	h.Write(data)
	h.Sum(v[:0])
	t.pcrChanged(pcr)
}

// pcrChanged counts a change (Part 1, 14.9).
func (t *TPM) pcrChanged(pcr int) {
	if !pcrs[pcr].noIncrement {
		t.ram.reset.pcrCounter++
	}
}

// selected reports whether a selection has PCR n.
func selected(sel []byte, n int) bool { return n/8 < len(sel) && sel[n/8]>>(n%8)&1 != 0 }

// pcrDigest hashes the selected PCRs, in the order of the selection and then by
// number (Part 1, 14.5). The selection is reduced to what is there, as the
// response must say.
func (t *TPM) pcrDigest(alg tpm2.AlgID, sel []tpm2.TPMSPCRSelection) []byte {
	h := t.hash(alg)
	for i := range sel {
		b := t.bank(sel[i].Hash)
		if b == nil {
			sel[i].PCRSelect = make([]byte, len(sel[i].PCRSelect))
			continue
		}
		for n := range tpm2.PCRCount {
			if selected(sel[i].PCRSelect, n) {
				h.Write(b.at(n))
			}
		}
	}
	return h.Sum(nil)
}
