package client

import (
	"fmt"
	"slices"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// Select is a selection of PCRs of one bank. Numbers that no PCR has are left out.
func Select(bank tpm2.AlgID, pcrs ...int) []tpm2.TPMSPCRSelection {
	s := tpm2.TPMSPCRSelection{Hash: bank, PCRSelect: make([]byte, tpm2.PCRCount/8)}
	for _, n := range pcrs {
		if n >= 0 && n < tpm2.PCRCount {
			s.PCRSelect[n/8] |= 1 << (n % 8)
		}
	}
	return []tpm2.TPMSPCRSelection{s}
}

func selected(s *tpm2.TPMSPCRSelection, n int) bool {
	return n/8 < len(s.PCRSelect) && s.PCRSelect[n/8]&(1<<(n%8)) != 0
}

// PCRValues are the values of PCRs by bank and number.
type PCRValues map[tpm2.AlgID]map[int][]byte

// Digest is the digest over the selected values, in the order in which a TPM
// takes them: that of the selection's banks, then of the numbers.
func (v PCRValues) Digest(alg tpm2.AlgID, sel []tpm2.TPMSPCRSelection) ([]byte, error) {
	if crypt.Hash(alg) == 0 {
		return nil, fmt.Errorf("digesting PCRs: hash algorithm 0x%x is not supported here", uint16(alg))
	}
	h := crypt.New(alg)
	for i := range sel {
		for n := range 8 * len(sel[i].PCRSelect) {
			if !selected(&sel[i], n) {
				continue
			}
			b, ok := v[sel[i].Hash][n]
			if !ok {
				return nil, fmt.Errorf("digesting PCRs: no value of PCR %d in bank 0x%x", n, uint16(sel[i].Hash))
			}
			h.Write(b)
		}
	}
	return h.Sum(nil), nil
}

// ReadPCRs reads any selection of PCRs, all of one moment: it begins again when
// one is extended meanwhile.
func (c *Client) ReadPCRs(sel []tpm2.TPMSPCRSelection) (PCRValues, error) {
	for range 8 {
		v, ok, err := c.readPCRs(sel)
		if err != nil || ok {
			return v, err
		}
	}
	return nil, fmt.Errorf("reading PCRs: they change faster than they can be read")
}

func (c *Client) readPCRs(sel []tpm2.TPMSPCRSelection) (v PCRValues, ok bool, err error) {
	rest := merge(sel)
	v = PCRValues{}
	var counter uint32
	for round := range maxRounds {
		if !slices.ContainsFunc(rest, func(s tpm2.TPMSPCRSelection) bool { return slices.Max(append(s.PCRSelect, 0)) != 0 }) {
			return v, true, nil
		}
		var rsp tpm2.PCRReadResponse
		if err := c.Execute(&tpm2.PCRRead{PCRSelectionIn: rest}, &rsp); err != nil {
			return nil, false, err
		}
		if round == 0 {
			counter = rsp.PCRUpdateCounter
		} else if counter != rsp.PCRUpdateCounter {
			return nil, false, nil
		}
		n, err := takePCRs(v, rest, &rsp)
		if err != nil {
			return nil, false, err
		}
		if n == 0 {
			for _, s := range rest {
				if slices.Max(append(s.PCRSelect, 0)) != 0 {
					return nil, false, fmt.Errorf("reading PCRs: the TPM has no bank 0x%x, or not all PCRs in it; tpm2_pcrread shows what there is", uint16(s.Hash))
				}
			}
		}
	}
	return nil, false, fmt.Errorf("TPM2_PCR_Read: %w: it never ends", ErrResponse)
}

// merge is a copy of sel with each bank once: a TPM takes no more entries than
// it has banks.
func merge(sel []tpm2.TPMSPCRSelection) []tpm2.TPMSPCRSelection {
	var out []tpm2.TPMSPCRSelection
	for _, s := range sel {
		i := slices.IndexFunc(out, func(o tpm2.TPMSPCRSelection) bool { return o.Hash == s.Hash })
		if i < 0 {
			i = len(out)
			out = append(out, tpm2.TPMSPCRSelection{Hash: s.Hash, PCRSelect: make([]byte, tpm2.PCRCount/8)})
		}
		for n := range tpm2.PCRCount {
			if selected(&s, n) {
				out[i].PCRSelect[n/8] |= 1 << (n % 8)
			}
		}
	}
	return out
}

// takePCRs moves what came from rest to v and says how many there were.
func takePCRs(v PCRValues, rest []tpm2.TPMSPCRSelection, rsp *tpm2.PCRReadResponse) (int, error) {
	values := rsp.PCRValues
	for i := range rsp.PCRSelectionOut {
		out := &rsp.PCRSelectionOut[i]
		for n := range 8 * len(out.PCRSelect) {
			if !selected(out, n) {
				continue
			}
			at := slices.IndexFunc(rest, func(s tpm2.TPMSPCRSelection) bool { return s.Hash == out.Hash && selected(&s, n) })
			if at < 0 || len(values) == 0 || len(values[0]) != out.Hash.DigestSize() {
				return 0, fmt.Errorf("TPM2_PCR_Read: %w: it does not answer the question", ErrResponse)
			}
			if v[out.Hash] == nil {
				v[out.Hash] = map[int][]byte{}
			}
			v[out.Hash][n] = values[0]
			values = values[1:]
			rest[at].PCRSelect[n/8] &^= 1 << (n % 8)
		}
	}
	if len(values) != 0 {
		return 0, fmt.Errorf("TPM2_PCR_Read: %w: it has more values than PCRs", ErrResponse)
	}
	return len(rsp.PCRValues), nil
}

// Banks lists the PCR banks that are in use, with their PCRs.
func (c *Client) Banks() ([]tpm2.TPMSPCRSelection, error) {
	var out []tpm2.TPMSPCRSelection
	err := c.capability(tpm2.CapPCRs, 0, func(d *tpm2.TPMUCapabilities) (uint32, int) {
		for _, s := range d.AssignedPCR {
			if slices.Max(append(s.PCRSelect, 0)) != 0 {
				out = append(out, s)
			}
		}
		return 0, 0 // this capability comes whole
	})
	return out, err
}

// ExtendPCR extends a PCR by one digest for each of some banks.
func (c *Client) ExtendPCR(n int, digests ...tpm2.TPMTHA) error {
	return c.Execute(&tpm2.PCRExtend{PCRHandle: tpm2.Handle(n), Digests: digests}, nil, PCR(n))
}

// EventPCR extends a PCR in all banks by the digests of data, and returns them.
func (c *Client) EventPCR(n int, data []byte) ([]tpm2.TPMTHA, error) {
	if len(data) > maxEvent {
		return nil, fmt.Errorf("extending PCR %d by an event: it has %d octets, a TPM takes %d; hash it and extend by the digests", n, len(data), maxEvent)
	}
	var rsp tpm2.PCREventResponse
	err := c.Execute(&tpm2.PCREvent{PCRHandle: tpm2.Handle(n), EventData: data}, &rsp, PCR(n))
	return rsp.Digests, err
}

// ResetPCR sets a PCR to its initial value, where the locality may.
func (c *Client) ResetPCR(n int) error {
	return c.Execute(&tpm2.PCRReset{PCRHandle: tpm2.Handle(n)}, nil, PCR(n))
}
