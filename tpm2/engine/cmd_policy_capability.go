package engine

import (
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// policyCapability is TPM2_PolicyCapability (Part 3, 23.23).
func (t *TPM) policyCapability(_ *call, in *tpm2.PolicyCapability, _ *tpm2.PolicyCapabilityResponse) tpm2.RC {
	s := t.session(in.PolicySession)
	if s.kind != tpm2.SETrial {
		a, ok, rc := t.property(in.Capability, in.Property)
		switch {
		case rc != tpm2.RCSuccess:
			return rc.Param(4)
		case !ok:
			if in.Operation != tpm2.EONeq {
				return tpm2.RCPolicy
			}
		case int(in.Offset) > len(a):
			return tpm2.RCValue.Param(2)
		case len(a)-int(in.Offset) < len(in.OperandB):
			return tpm2.RCSize.Param(1)
		case !compare(a[in.Offset:int(in.Offset)+len(in.OperandB)], in.OperandB, in.Operation):
			return tpm2.RCPolicy
		}
	}
	var e tpm2.Encoder
	e.Bytes(in.OperandB)
	e.U16(in.Offset)
	e.U16(uint16(in.Operation))
	e.U32(uint32(in.Capability))
	e.U32(in.Property)
	s.extend(tpm2.CCPolicyCapability, crypt.Digest(s.hash, e.Out()))
	return tpm2.RCSuccess
}

// property is one property of a capability in its wire form (Part 3, Table 184),
// and whether there is such a one.
func (t *TPM) property(c tpm2.CAP, p uint32) (wire []byte, ok bool, rc tpm2.RC) {
	var out tpm2.GetCapabilityResponse
	if c == tpm2.CapPCRs {
		return nil, false, tpm2.RCValue
	}
	if rc := t.getCapability(nil, &tpm2.GetCapability{Capability: c, Property: p, PropertyCount: 1}, &out); rc != tpm2.RCSuccess {
		if rc == tpm2.RCHandle.Param(2) { // a handle of no space is one that is not there
			return nil, false, tpm2.RCSuccess
		}
		return nil, false, rc.Base()
	}
	// With one property asked for there is one, or none, and it may be a later one.
	wire = tpm2.Marshal(&out.CapabilityData)[8:] // after capability and count
	d := &out.CapabilityData.Data
	var got uint32
	switch {
	case len(d.Algorithms) > 0:
		got = uint32(d.Algorithms[0].Alg)
	case len(d.Handles) > 0:
		got = p&^0xffffff | inSpace(d.Handles[0]) // saved sessions are listed as if of another space
	case len(d.Command) > 0:
		got = uint32(d.Command[0] & 0xffff)
	case len(d.PPCommands) > 0:
		got = uint32(d.PPCommands[0])
	case len(d.AuditCommands) > 0:
		got = uint32(d.AuditCommands[0])
	case len(d.TPMProperties) > 0:
		got = uint32(d.TPMProperties[0].Property)
	case len(d.PCRProperties) > 0:
		got = uint32(d.PCRProperties[0].Tag)
	case len(d.ECCCurves) > 0:
		got = uint32(d.ECCCurves[0])
	case len(d.AuthPolicies) > 0:
		got = uint32(d.AuthPolicies[0].Handle)
	default:
		return nil, false, tpm2.RCSuccess
	}
	return wire, got == p, tpm2.RCSuccess
}
