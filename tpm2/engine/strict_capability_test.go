package engine

import (
	"slices"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// What TPM2_GetCapability tells of the state (Part 3, 30.2.1).

// listed checks that a capability lists exactly these handles from a first one on.
func (b *bench) listed(first tpm2.Handle, want ...tpm2.Handle) {
	b.t.Helper()
	var r tpm2.GetCapabilityResponse
	b.ok(&tpm2.GetCapability{Capability: tpm2.CapHandles, Property: uint32(first), PropertyCount: 100}, &r)
	if got := r.CapabilityData.Data.Handles; !slices.Equal(got, want) {
		b.t.Errorf("handles from %v: got %v, want %v", first, got, want)
	}
}

var capabilityRules = []rule{
	{name: "loaded sessions by their own handles", cite: "Part 3, 30.2.1", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		hmac, policy := b.session(tpm2.SEHMAC), b.session(tpm2.SEPolicy)
		b.listed(0x02000000, hmac, policy)
		b.listed(0x02000001, policy)
		return b.do(&tpm2.FlushContext{FlushHandle: policy}, nil) // as tpm2_flushcontext --loaded-session does
	}},
	{name: "flush of a policy session as an HMAC session", cite: "Part 3, 28.4.1", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.FlushContext{FlushHandle: b.session(tpm2.SEPolicy) - 0x01000000}, nil)
	}},
	{name: "saved sessions as if they were HMAC sessions", cite: "Part 3, 30.2.1", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		for _, kind := range []tpm2.SE{tpm2.SEHMAC, tpm2.SEPolicy} {
			b.ok(&tpm2.ContextSave{SaveHandle: b.session(kind)}, nil)
		}
		b.listed(0x03000000, 0x02000000, 0x02000001)
		b.listed(0x03000001, 0x02000001)
		return b.do(&tpm2.FlushContext{FlushHandle: 0x02000001}, nil)
	}},
}
