package engine

import (
	"bytes"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// policyPhysicalPresence is TPM2_PolicyPhysicalPresence (Part 3, 23.13); whether somebody is present is looked at when the policy is used.
func (t *TPM) policyPhysicalPresence(_ *call, in *tpm2.PolicyPhysicalPresence, _ *tpm2.PolicyPhysicalPresenceResponse) tpm2.RC {
	s := t.session(in.PolicySession)
	s.policy.presence = true
	s.extend(tpm2.CCPolicyPhysicalPresence)
	return tpm2.RCSuccess
}

// policyCpHash is TPM2_PolicyCpHash (Part 3, 23.14).
func (t *TPM) policyCpHash(_ *call, in *tpm2.PolicyCpHash, _ *tpm2.PolicyCpHashResponse) tpm2.RC {
	s := t.session(in.PolicySession)
	if rc := s.bind(slotCpHash, in.CpHashA, 1); rc != tpm2.RCSuccess {
		return rc
	}
	s.extend(tpm2.CCPolicyCpHash, in.CpHashA)
	return tpm2.RCSuccess
}

// policyNameHash is TPM2_PolicyNameHash (Part 3, 23.15).
func (t *TPM) policyNameHash(_ *call, in *tpm2.PolicyNameHash, _ *tpm2.PolicyNameHashResponse) tpm2.RC {
	s := t.session(in.PolicySession)
	if s.policy.slot != slotNone && len(in.NameHash) == s.hash.DigestSize() { // even with the same hash
		return tpm2.RCCpHash
	}
	if rc := s.bind(slotNameHash, in.NameHash, 1); rc != tpm2.RCSuccess {
		return rc
	}
	s.extend(tpm2.CCPolicyNameHash, in.NameHash)
	return tpm2.RCSuccess
}

// policyDuplicationSelect is TPM2_PolicyDuplicationSelect (Part 3, 23.16).
func (t *TPM) policyDuplicationSelect(_ *call, in *tpm2.PolicyDuplicationSelect, _ *tpm2.PolicyDuplicationSelectResponse) tpm2.RC {
	s := t.session(in.PolicySession)
	if s.policy.slot != slotNone {
		return tpm2.RCCpHash
	}
	if s.policy.code != 0 && s.policy.code != tpm2.CCDuplicate {
		return tpm2.RCCommandCode
	}
	s.policy.slot, s.policy.hash = slotNameHash, crypt.Digest(s.hash, in.ObjectName, in.NewParentName)
	s.policy.code = tpm2.CCDuplicate
	data := [][]byte{in.NewParentName, {byte(in.IncludeObject)}}
	if in.IncludeObject == tpm2.Yes {
		data = append([][]byte{in.ObjectName}, data...)
	}
	s.extend(tpm2.CCPolicyDuplicationSelect, data...)
	return tpm2.RCSuccess
}

// policyAuthorize is TPM2_PolicyAuthorize (Part 3, 23.17).
func (t *TPM) policyAuthorize(_ *call, in *tpm2.PolicyAuthorize, _ *tpm2.PolicyAuthorizeResponse) tpm2.RC {
	s := t.session(in.PolicySession)
	if len(in.KeySign) < 2 {
		return tpm2.RCInsufficient.Param(3)
	}
	alg := tpm2.AlgID(in.KeySign[0])<<8 | tpm2.AlgID(in.KeySign[1])
	if crypt.Hash(alg) == 0 {
		return tpm2.RCHash.Param(3)
	}
	if len(in.KeySign) != 2+alg.DigestSize() {
		return tpm2.RCSize.Param(3)
	}
	if s.kind != tpm2.SETrial {
		if !bytes.Equal(s.policy.digest, in.ApprovedPolicy) {
			return tpm2.RCValue.Param(1)
		}
		switch in.CheckTicket.Tag { // the digest in the ticket goes by the command that made it (Part 3, 23.16.2)
		case tpm2.STMessageVerified:
			alg = ticketHash
		case tpm2.STDigestVerified:
			alg = in.CheckTicket.Metadata.DigestVerified
		}
		aHash := crypt.Digest(alg, in.ApprovedPolicy, in.PolicyRef)
		h := in.CheckTicket.Hierarchy
		if h == tpm2.RHNull || !bytesEqual(t.ticket(in.CheckTicket.Tag, h, aHash, in.KeySign, metadata(&in.CheckTicket)), in.CheckTicket.Digest) {
			return tpm2.RCValue.Param(4)
		}
	}
	s.zeroDigest()
	s.extendRef(tpm2.CCPolicyAuthorize, in.KeySign, in.PolicyRef)
	return tpm2.RCSuccess
}

// policyAuthValue is TPM2_PolicyAuthValue (Part 3, 23.18).
func (t *TPM) policyAuthValue(_ *call, in *tpm2.PolicyAuthValue, _ *tpm2.PolicyAuthValueResponse) tpm2.RC {
	s := t.session(in.PolicySession)
	s.policy.authValue, s.policy.password = true, false
	s.extend(tpm2.CCPolicyAuthValue)
	return tpm2.RCSuccess
}

// policyPassword is TPM2_PolicyPassword (Part 3, 23.19): the same promise, in plain.
func (t *TPM) policyPassword(_ *call, in *tpm2.PolicyPassword, _ *tpm2.PolicyPasswordResponse) tpm2.RC {
	s := t.session(in.PolicySession)
	s.policy.authValue, s.policy.password = false, true
	s.extend(tpm2.CCPolicyAuthValue) // the digest is that of PolicyAuthValue
	return tpm2.RCSuccess
}

// policyGetDigest is TPM2_PolicyGetDigest (Part 3, 23.20).
func (t *TPM) policyGetDigest(_ *call, in *tpm2.PolicyGetDigest, out *tpm2.PolicyGetDigestResponse) tpm2.RC {
	out.PolicyDigest = t.session(in.PolicySession).policy.digest
	return tpm2.RCSuccess
}

// policyNvWritten is TPM2_PolicyNvWritten (Part 3, 23.21).
func (t *TPM) policyNvWritten(_ *call, in *tpm2.PolicyNvWritten, _ *tpm2.PolicyNvWrittenResponse) tpm2.RC {
	s := t.session(in.PolicySession)
	want := in.WrittenSet == tpm2.Yes
	if s.policy.checkWritten && s.policy.written != want {
		return tpm2.RCValue.Param(1)
	}
	s.policy.checkWritten, s.policy.written = true, want
	s.extend(tpm2.CCPolicyNvWritten, []byte{byte(in.WrittenSet)})
	return tpm2.RCSuccess
}

// policyTemplate is TPM2_PolicyTemplate (Part 3, 23.22).
func (t *TPM) policyTemplate(_ *call, in *tpm2.PolicyTemplate, _ *tpm2.PolicyTemplateResponse) tpm2.RC {
	s := t.session(in.PolicySession)
	if rc := s.bind(slotTemplate, in.TemplateHash, 1); rc != tpm2.RCSuccess {
		return rc
	}
	s.extend(tpm2.CCPolicyTemplate, in.TemplateHash)
	return tpm2.RCSuccess
}

// policyAuthorizeNV is TPM2_PolicyAuthorizeNV (Part 3, 23.23).
func (t *TPM) policyAuthorizeNV(_ *call, in *tpm2.PolicyAuthorizeNV, _ *tpm2.PolicyAuthorizeNVResponse) tpm2.RC {
	s, x := t.session(in.PolicySession), t.index(in.NVIndex)
	if s.kind != tpm2.SETrial {
		if rc := t.nvReadable(in.AuthHandle, x); rc != tpm2.RCSuccess {
			return rc
		}
		d := tpm2.NewDecoder(x.data)
		alg := tpm2.AlgID(d.U16())
		n := alg.DigestSize()
		digest := d.Bytes(n)
		switch {
		case d.RC() != tpm2.RCSuccess || n == 0:
			return tpm2.RCHash
		case alg != s.hash:
			return tpm2.RCHash
		case !bytes.Equal(digest, s.policy.digest):
			return tpm2.RCValue
		}
	}
	s.zeroDigest()
	s.extend(tpm2.CCPolicyAuthorizeNV, x.name())
	return tpm2.RCSuccess
}

// policyParameters is TPM2_PolicyParameters (Part 3, 23.25).
func (t *TPM) policyParameters(_ *call, in *tpm2.PolicyParameters, _ *tpm2.PolicyParametersResponse) tpm2.RC {
	s := t.session(in.PolicySession)
	if rc := s.bind(slotParameters, in.PHash, 1); rc != tpm2.RCSuccess {
		return rc
	}
	s.extend(tpm2.CCPolicyParameters, in.PHash)
	return tpm2.RCSuccess
}
