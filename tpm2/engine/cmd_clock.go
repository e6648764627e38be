package engine

import "github.com/vouchsafe/vouchsafe/tpm2"

// readClock is TPM2_ReadClock (Part 3, 29.1).
func (t *TPM) readClock(_ *call, _ *tpm2.ReadClock, out *tpm2.ReadClockResponse) tpm2.RC {
	out.CurrentTime = t.timeInfo()
	return tpm2.RCSuccess
}

// clockSet is TPM2_ClockSet (Part 3, 29.2): forward only, and not into the last 2^48 ms.
func (t *TPM) clockSet(_ *call, in *tpm2.ClockSet, _ *tpm2.ClockSetResponse) tpm2.RC {
	now := t.clock()
	if in.NewTime > 0xffff_0000_0000_0000 || in.NewTime < now {
		return tpm2.RCValue.Param(1)
	}
	t.rebase(t.time(), in.NewTime)
	t.w()
	if rc := t.commit(); rc != tpm2.RCSuccess {
		t.rebase(t.time(), now)
		return rc
	}
	return tpm2.RCSuccess
}

// clockRateAdjust is TPM2_ClockRateAdjust (Part 3, 29.3).
func (t *TPM) clockRateAdjust(_ *call, in *tpm2.ClockRateAdjust, _ *tpm2.ClockRateAdjustResponse) tpm2.RC {
	step := map[tpm2.ClockAdjust]int{
		tpm2.ClockCoarseSlower: -300, tpm2.ClockMediumSlower: -30, tpm2.ClockFineSlower: -3,
		tpm2.ClockCoarseFaster: 300, tpm2.ClockMediumFaster: 30, tpm2.ClockFineFaster: 3,
	}[in.RateAdjust]
	rate := int(t.ram.rate) + step
	if rate < nominalRate-rateRange || rate > nominalRate+rateRange {
		return tpm2.RCValue.Param(1)
	}
	t.rebase(t.time(), t.clock())
	t.ram.rate = uint32(rate)
	return tpm2.RCSuccess
}
