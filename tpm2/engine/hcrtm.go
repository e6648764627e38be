package engine

import (
	"hash"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// hcrtm is an event sequence of the platform: before TPM2_Startup an H-CRTM,
// after it a dynamic launch (Part 1, 14.7; Part 3, 22.9 to 22.11).
type hcrtm struct {
	alg []tpm2.AlgID
	h   []hash.Hash
}

// HashStart is _TPM_Hash_Start.
func (t *TPM) HashStart() {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &hcrtm{alg: t.nv.banks}
	if t.ram.started {
		s.alg = nil
		for _, b := range t.ram.pcr {
			s.alg = append(s.alg, b.alg)
		}
	}
	for _, a := range s.alg {
		s.h = append(s.h, crypt.New(a))
	}
	t.hcrtm = s
	t.established = true
}

// HashData is _TPM_Hash_Data; without a start before it, it does nothing.
func (t *TPM) HashData(data []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hcrtm != nil {
		for _, h := range t.hcrtm.h {
			h.Write(data)
		}
	}
}

// HashEnd is _TPM_Hash_End. Before TPM2_Startup the measurement waits for PCR 0;
// after it, PCR 17 to 22 begin at zero and PCR 17 is extended.
func (t *TPM) HashEnd() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hcrtm == nil || !t.ram.started {
		return
	}
	for i := range t.ram.pcr {
		for n, a := range pcrs {
			if a.drtm {
				clear(t.ram.pcr[i].at(n))
			}
		}
	}
	for i, a := range t.hcrtm.alg {
		t.extend(17, a, t.hcrtm.h[i].Sum(nil))
	}
	t.hcrtm = nil
}

// intoPCR0 extends PCR 0, which holds locality 4, with what was measured before TPM2_Startup.
func (s *hcrtm) intoPCR0(t *TPM) {
	for i, a := range s.alg {
		t.extend(0, a, s.h[i].Sum(nil))
	}
}
