package engine

import (
	"bytes"
	"errors"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// A dynamic launch is a change of what the TPM reports on, and is counted (Part
// 1, 33.5; Part 3, 22.11.1); libtpms counts it too.
func TestDynamicLaunchIsCounted(t *testing.T) {
	b := newBench(t)
	launch := func() {
		b.tpm.HashStart()
		b.tpm.HashData([]byte("launched"))
		b.tpm.HashEnd()
	}
	reset, restart := b.counts()
	launch()
	b.store.err = errors.New("no space left")
	launch()
	b.store.err = nil
	if r, s := b.counts(); r != reset || s != restart+2 {
		t.Errorf("resetCount %d, restartCount %d after two launches, %d and %d before", r, s, reset, restart)
	}
	b.tpm.HashStart() // of the platform's next start
	b.powerOff()
	b.tpm.HashStart()
	b.tpm.HashEnd() // an H-CRTM, which is part of the TPM Reset
	b.ok(&tpm2.Startup{}, nil)
	if n := b.pcrCounter(); n != 20 { // the PCRs that TPM2_Startup sets; swtpm's own tests want it so
		t.Errorf("pcrUpdateCounter %d after an H-CRTM", n)
	}
	if r, s := b.counts(); r != reset+1 || s != 0 {
		t.Errorf("resetCount %d, restartCount %d after a TPM Reset", r, s)
	}
}

// A sequence that a command comes into, or that has not ended before
// TPM2_Startup, has no effect (Part 1, 31.1; Part 3, 22.11.1).
func TestLaunchIsNotInterrupted(t *testing.T) {
	b := newBench(t)
	b.tpm.HashStart()
	b.tpm.HashData([]byte("launched"))
	b.ok(getRandom8, nil)
	b.tpm.HashData([]byte("by somebody else"))
	b.tpm.HashEnd()
	if got, want := b.pcr(17), bytes.Repeat([]byte{0xff}, 32); !bytes.Equal(got, want) {
		t.Errorf("PCR 17 after an interrupted launch: %x", got)
	}
	b.powerOff()
	b.tpm.HashStart()
	b.tpm.HashData([]byte("core"))
	b.ok(&tpm2.Startup{}, nil)
	b.tpm.HashEnd()
	if got, want := b.pcr(0), make([]byte, 32); !bytes.Equal(got, want) {
		t.Errorf("PCR 0 after an H-CRTM that did not end: %x", got)
	}
}
