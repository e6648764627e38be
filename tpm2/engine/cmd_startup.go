package engine

import (
	"github.com/vouchsafe/vouchsafe/tpm2"
)

// powerOn is _TPM_Init: RAM is gone (Part 3, 9.2).
func (t *TPM) powerOn() {
	t.ram = ram{rate: nominalRate, exclusive: tpm2.RHNull}
	t.rebase(0, t.nv.clock)
	t.hcrtm = nil
}

// startup is TPM2_Startup (Part 3, 9.3), with the transitions of Part 1, 9.2.3.
func (t *TPM) startup(c *call, in *tpm2.Startup, _ *tpm2.StartupResponse) tpm2.RC {
	if t.ram.started {
		return tpm2.RCInitialize
	}
	if c.locality != 0 && c.locality != 3 {
		return tpm2.RCLocality
	}
	nv := t.n()
	if in.StartupType == tpm2.SUState {
		switch {
		case nv.saved == nil || nv.orderly != orderlyState:
			return tpm2.RCValue.Param(1)
		case nv.startupLocality3 != (c.locality == 3): // (Part 3, 9.3.1)
			return tpm2.RCLocality
		case t.hcrtm != nil:
			return tpm2.RCValue.Param(1)
		}
	}
	nv = t.w()
	saved, was := nv.saved, nv.orderly
	nv.saved, nv.orderly = nil, notOrderly
	nv.startupLocality3 = c.locality == 3
	nv.clockSafe = nv.clockSafe && was != notOrderly
	if nv.lockoutRecovery == 0 { // locked until a start, and this is one (Part 1, 16.8.5)
		nv.lockoutAuthDisabled = false
	}

	// State follows in three steps: Reset re-rolls all, Restart keeps the reset
	// data, Resume keeps everything that was saved.
	var reset stateReset
	clear := stateClear{shEnable: true, ehEnable: true, phEnable: true, phEnableNV: true, platformPolicy: noPolicy}
	var keepPCR []pcrBank
	switch {
	case saved != nil && was == orderlyState:
		reset = saved.reset
		nv.restartCount++
		if in.StartupType == tpm2.SUState {
			clear, keepPCR = saved.clear, saved.pcr
			clear.phEnable = true // (Part 3, 9.3.1)
		} else {
			reset.clearCount++
		}
	default:
		nv.resetCount++
		nv.totalResetCount++
		nv.restartCount = 0
		reset = stateReset{
			nullSeed: t.newSeed(), nullProof: t.rng.bytes(proofSize), contextCount: 1,
			commits: commits{secret: t.rng.bytes(proofSize)},
		}
	}
	resume := in.StartupType == tpm2.SUState
	t.startIndexes(resume, saved == nil || was != orderlyState)
	if rc := t.commit(); rc != tpm2.RCSuccess {
		return rc
	}
	t.ram.reset, t.ram.clear = reset, clear
	t.ram.orderlyAtStart = was != notOrderly
	locality := c.locality
	if t.hcrtm != nil {
		locality = 4
	}
	t.startPCRs(keepPCR, locality)
	if t.hcrtm != nil {
		count := t.ram.reset.pcrCounter
		t.measure(0)                   // which holds locality 4 by now
		t.ram.reset.pcrCounter = count // it came before the TPM Reset that clears the counter, as in libtpms
	}
	t.ram.started = true
	return tpm2.RCSuccess
}

// shutdown is TPM2_Shutdown (Part 3, 9.4).
func (t *TPM) shutdown(_ *call, in *tpm2.Shutdown, _ *tpm2.ShutdownResponse) tpm2.RC {
	nv := t.w()
	nv.orderly, nv.saved = orderlyClear, nil
	if in.ShutdownType == tpm2.SUState {
		if t.ram.pcrAllocated { // PCRs of other banks cannot be resumed
			return tpm2.RCType.Param(1)
		}
		nv.orderly = orderlyState
		pcr := make([]pcrBank, len(t.ram.pcr))
		for i, b := range t.ram.pcr {
			pcr[i] = pcrBank{b.alg, append([]byte(nil), b.values...)}
		}
		nv.saved = &savedState{reset: t.ram.reset, clear: t.ram.clear, pcr: pcr}
	}
	return tpm2.RCSuccess
}

// keepsOrder reports whether a command leaves a TPM2_Shutdown before it valid:
// it changes nothing that was saved (Part 3, 9.4.1). Commands that may write NV
// do not, nor those that count contexts or ephemeral keys; signECDAA, behind
// which there are many commands, sees to it itself.
func keepsOrder(c *tpm2.CommandInfo) bool {
	switch c.Code {
	case tpm2.CCStartup, tpm2.CCShutdown, tpm2.CCStirRandom, tpm2.CCSelfTest, tpm2.CCIncrementalSelfTest:
		return true
	case tpm2.CCContextSave, tpm2.CCContextLoad, tpm2.CCCommit, tpm2.CCECEphemeral, tpm2.CCZGen2Phase, tpm2.CCPCRSetAuthValue:
		return false
	}
	return !c.NV
}

// noLongerOrderly takes back a TPM2_Shutdown that another command has overtaken.
// Where that cannot be stored the command must not run: after a power loss
// TPM2_Startup(STATE) would bring back PCRs from before it.
func (t *TPM) noLongerOrderly() tpm2.RC {
	if t.ram.started && t.n().orderly != notOrderly {
		nv := t.w()
		nv.orderly, nv.saved = notOrderly, nil
	}
	return t.commit()
}
