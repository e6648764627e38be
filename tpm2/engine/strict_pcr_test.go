package engine

import "github.com/vouchsafe/vouchsafe/tpm2"

// extendPCR is one extend of the SHA-256 bank.
func extendPCR(n tpm2.Handle) *tpm2.PCRExtend {
	return &tpm2.PCRExtend{PCRHandle: n, Digests: []tpm2.TPMTHA{{HashAlg: tpm2.AlgSHA256, Digest: make([]byte, 32)}}}
}

// at runs a command at a locality.
func at(locality uint8, cmd tpm2.Command) func(*bench) tpm2.RC {
	return func(b *bench) tpm2.RC {
		b.loc = locality
		return b.do(cmd, nil)
	}
}

var pcrRules = []rule{
	{name: "extend at locality 0", cite: "PC Client PTP, 4.6", want: tpm2.RCSuccess, run: at(0, extendPCR(0))},
	{name: "extend 17 at locality 0", cite: "PC Client PTP, 4.6", want: tpm2.RCLocality, run: at(0, extendPCR(17))},
	{name: "extend 17 at locality 2", cite: "PC Client PTP, 4.6", want: tpm2.RCSuccess, run: at(2, extendPCR(17))},
	{name: "extend 19 at locality 4", cite: "PC Client PTP, 4.6", want: tpm2.RCLocality, run: at(4, extendPCR(19))},
	{name: "extend 20 at locality 1", cite: "PC Client PTP, 4.6", want: tpm2.RCSuccess, run: at(1, extendPCR(20))},
	{name: "extend 21 at locality 2", cite: "PC Client PTP, 4.6", want: tpm2.RCSuccess, run: at(2, extendPCR(21))},
	{name: "extend 21 at locality 3", cite: "PC Client PTP, 4.6", want: tpm2.RCLocality, run: at(3, extendPCR(21))},
	{name: "extend none", cite: "Part 3, 22.2.1", want: tpm2.RCSuccess, run: at(0, extendPCR(tpm2.RHNull))},
	{name: "extend with a hash unknown", cite: "Part 2, 10.3.2", want: tpm2.RCHash.Param(1),
		run: octets(frame(tpm2.STSessions, tpm2.CCPCRExtend, tpm2.Handle(0), area(noPassword), uint32(1), uint16(0x1234), make([]byte, 32)))},
	{name: "extend with a digest cut", cite: "Part 2, 10.3.2", want: tpm2.RCInsufficient.Param(1),
		run: octets(frame(tpm2.STSessions, tpm2.CCPCRExtend, tpm2.Handle(0), area(noPassword), uint32(1), uint16(tpm2.AlgSHA256), make([]byte, 31)))},
	{name: "reset 0", cite: "PC Client PTP, 4.6", want: tpm2.RCLocality, run: at(0, &tpm2.PCRReset{PCRHandle: 0})},
	{name: "reset 16", cite: "PC Client PTP, 4.6", want: tpm2.RCSuccess, run: at(0, &tpm2.PCRReset{PCRHandle: 16})},
	{name: "reset 23", cite: "PC Client PTP, 4.6", want: tpm2.RCSuccess, run: at(0, &tpm2.PCRReset{PCRHandle: 23})},
	{name: "reset 20 at locality 0", cite: "PC Client PTP, 4.6", want: tpm2.RCLocality, run: at(0, &tpm2.PCRReset{PCRHandle: 20})},
	{name: "reset 20 at locality 2", cite: "PC Client PTP, 4.6", want: tpm2.RCSuccess, run: at(2, &tpm2.PCRReset{PCRHandle: 20})},
	{name: "reset 17 at locality 4", cite: "PC Client PTP, 4.6", want: tpm2.RCLocality, run: at(4, &tpm2.PCRReset{PCRHandle: 17})},
	{name: "allocate with the owner's authorization", cite: "Part 3, 22.5.2", want: tpm2.RCValue.Handle(1),
		run: octets(frame(tpm2.STSessions, tpm2.CCPCRAllocate, tpm2.RHOwner, area(noPassword), uint32(0)))},
	{name: "policy on changed PCRs", cite: "Part 3, 23.7.1", want: tpm2.RCPCRChanged, run: func(b *bench) tpm2.RC {
		s := b.session(tpm2.SEPolicy)
		p := &tpm2.PolicyPCR{PolicySession: s, PCRs: []tpm2.TPMSPCRSelection{{Hash: tpm2.AlgSHA256, PCRSelect: []byte{1, 0, 0}}}}
		b.ok(p, nil)
		b.ok(extendPCR(1), nil)
		return b.do(p, nil)
	}},
	{name: "policy on a PCR that does not count", cite: "Part 1, 14.9", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		s := b.session(tpm2.SEPolicy)
		p := &tpm2.PolicyPCR{PolicySession: s, PCRs: []tpm2.TPMSPCRSelection{{Hash: tpm2.AlgSHA256, PCRSelect: []byte{1, 0, 0}}}}
		b.ok(p, nil)
		b.ok(extendPCR(16), nil)
		return b.do(p, nil)
	}},
	{name: "event sequence with one bank", cite: "Part 3, 17.9.1", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		var banks []tpm2.TPMSPCRSelection
		for _, alg := range bankAlgs {
			sel := []byte{0, 0, 0}
			if alg == tpm2.AlgSHA256 {
				sel = []byte{0xff, 0xff, 0xff}
			}
			banks = append(banks, tpm2.TPMSPCRSelection{Hash: alg, PCRSelect: sel})
		}
		b.ok(&tpm2.PCRAllocate{AuthHandle: tpm2.RHPlatform, PCRAllocation: banks}, nil)
		b.powerCycle(tpm2.SUClear)
		var s tpm2.HashSequenceStartResponse
		b.ok(&tpm2.HashSequenceStart{HashAlg: tpm2.AlgNull}, &s)
		var r tpm2.EventSequenceCompleteResponse
		b.ok(&tpm2.EventSequenceComplete{PCRHandle: 16, SequenceHandle: s.SequenceHandle, Buffer: []byte("event")}, &r)
		if len(r.Results) != len(bankAlgs) { // whether the bank is allocated or not
			b.t.Errorf("%d digests, want %d", len(r.Results), len(bankAlgs))
		}
		return tpm2.RCSuccess
	}},
	{name: "update counter over a resume", cite: "Part 3, 9.4.1", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		before := b.pcrCounter()
		b.ok(&tpm2.Shutdown{ShutdownType: tpm2.SUState}, nil)
		b.powerCycle(tpm2.SUState)
		if n := b.pcrCounter() - before; n != 4 { // 17 to 20 begin anew; 21 and 22 are not counted, the rest is as it was
			b.t.Errorf("a resume counts %d, want 4", n)
		}
		return tpm2.RCSuccess
	}},
	{name: "update counter over a change of seeds", cite: "Part 3, 24.4.1", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		before := b.pcrCounter()
		b.ok(&tpm2.ChangePPS{AuthHandle: tpm2.RHPlatform}, nil)
		b.ok(&tpm2.ChangeEPS{AuthHandle: tpm2.RHPlatform}, nil)
		if n := b.pcrCounter() - before; n != 0 { // TPM2_Clear alone counts
			b.t.Errorf("counts %d", n)
		}
		return tpm2.RCSuccess
	}},
}

// pcrCounter is pcrUpdateCounter.
func (b *bench) pcrCounter() uint32 {
	b.t.Helper()
	var r tpm2.PCRReadResponse
	b.ok(&tpm2.PCRRead{}, &r)
	return r.PCRUpdateCounter
}
