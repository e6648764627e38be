package eventlog

import (
	"bytes"
	"fmt"
	"slices"
)

// Bank is the 24 PCR values of one algorithm.
type Bank struct {
	Alg      Alg
	PCR      [MaxPCR + 1][]byte
	Extended uint32 // bit n: PCR n was extended
}

// NewBank returns a bank as a PC's TPM has it after TPM2_Startup: zeros, and
// ones in 17 to 22 (TCG PC Client Platform TPM Profile, section 4.6.2).
func NewBank(a Alg) *Bank {
	b := &Bank{Alg: a}
	size := a.Size()
	all := make([]byte, len(b.PCR)*size)
	for i := range b.PCR {
		b.PCR[i] = all[i*size : (i+1)*size : (i+1)*size]
		if i >= 17 && i <= 22 {
			for j := range b.PCR[i] {
				b.PCR[i][j] = 0xFF
			}
		}
	}
	return b
}

// Replay computes the PCR values that the log's digests lead to in one bank.
// PCRs that the log never extends keep their value at start-up.
func (l *Log) Replay(a Alg) (*Bank, error) {
	if !slices.Contains(l.Algs, a) {
		return nil, fmt.Errorf("replaying the event log: it has no %v digests, only %v", a, l.Algs)
	}
	if !a.Available() {
		return nil, fmt.Errorf("replaying the event log: %v cannot be computed here", a)
	}
	b := NewBank(a)
	h := a.New()
	for i := range l.Events {
		e := &l.Events[i]
		if !e.Extends() {
			// StartupLocality decides where PCR 0 starts (PFP, section 10.4.5.3).
			if loc, ok := startupLocality(e); ok && b.Extended&1 == 0 {
				b.PCR[0][a.Size()-1] = loc
			}
			continue
		}
		sum := e.Digest(a)
		if sum == nil || e.PCR > MaxPCR {
			return nil, fmt.Errorf("replaying the event log: event %d has no %v digest, or no PCR", i, a)
		}
		v := b.PCR[e.PCR]
		if b.Extended&(1<<e.PCR) == 0 && e.PCR >= 17 && e.PCR <= 22 {
			clear(v) // a dynamic launch resets these before it extends them
		}
		h.Reset()
		h.Write(v)
		h.Write(sum)
		h.Sum(v[:0])
		b.Extended |= 1 << e.PCR
	}
	return b, nil
}

func startupLocality(e *Event) (byte, bool) {
	if len(e.Data) != len(localityH)+1 || !bytes.HasPrefix(e.Data, []byte(localityH)) {
		return 0, false
	}
	loc := e.Data[len(localityH)]
	return loc, loc == 0 || loc == 3 || loc == 4
}
