package engine

import (
	"time"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// The rate at which Time and Clock advance, in steps of the nominal one; TPM2_ClockRateAdjust changes it.
const (
	nominalRate = 30000
	rateRange   = nominalRate * 15 / 100 // what a PC's oscillator may be off by, with room
)

// elapsed is the adjusted ms since the last [TPM.rebase].
func (t *TPM) elapsed() uint64 {
	d := t.cfg.Clock() - t.ram.since
	return uint64(d/time.Millisecond) * uint64(t.ram.rate) / nominalRate
}

// time is Time: ms since the TPM got power (Part 1, 33.2).
func (t *TPM) time() uint64 { return t.ram.timeThen + t.elapsed() }

// clock is Clock: ms that the TPM has been on in its life, as far as it was kept (Part 1, 33.3).
func (t *TPM) clock() uint64 { return t.ram.clockThen + t.elapsed() }

// rebase makes this moment the origin of Time and Clock, with these values.
func (t *TPM) rebase(time, clock uint64) {
	t.ram.timeThen, t.ram.clockThen, t.ram.since = time, clock, t.cfg.Clock()
}

// tick does what is due as time passes; the pipeline calls it before each
// command. Clock is stored once in clockUpdate ms, and is safe again once it has
// passed the first such boundary: it has then overtaken any value it may have
// shown before an unorderly end (Part 1, 33.3.2).
func (t *TPM) tick() {
	if !t.ram.started || t.failed != nil {
		return
	}
	if t.clock()/clockUpdate != t.nv.clock/clockUpdate {
		t.w().clockSafe = true
		t.commitQuietly()
	}
	t.heal()
}

// commitQuietly commits what must not fail the command at hand; what could not
// be stored is tried again at the next command.
func (t *TPM) commitQuietly() {
	if t.commit() != tpm2.RCSuccess {
		t.tx = nil
	}
}

// clockInfo is TPMS_CLOCK_INFO now.
func (t *TPM) clockInfo() tpm2.TPMSClockInfo {
	nv := t.n()
	return tpm2.TPMSClockInfo{
		Clock: t.clock(), ResetCount: nv.resetCount, RestartCount: nv.restartCount, Safe: tpm2.Bool(nv.clockSafe),
	}
}

// Counters are the TPM Resets and TPM Restarts as attestations show them (Part 1,
// 10.2.4), and all TPM Resets ever: TPM2_Clear sets the first two to zero, nothing
// the last. They are for whoever runs the device.
func (t *TPM) Counters() (reset, restart uint32, ever uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.nv.resetCount, t.nv.restartCount, t.nv.totalResetCount
}

func (t *TPM) timeInfo() tpm2.TPMSTimeInfo {
	return tpm2.TPMSTimeInfo{Time: t.time(), ClockInfo: t.clockInfo()}
}
