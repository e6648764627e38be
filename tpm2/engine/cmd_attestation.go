package engine

import (
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// certify is TPM2_Certify (Part 3, 18.2).
func (t *TPM) certify(_ *call, in *tpm2.Certify, out *tpm2.CertifyResponse) tpm2.RC {
	o := t.object(in.ObjectHandle)
	key, rc := t.checkAttestKey(in.SignHandle, 2)
	if rc != tpm2.RCSuccess {
		return rc
	}
	if o.seq != nil {
		return tpm2.RCType.Handle(1)
	}
	scheme, rc := signScheme(key, &in.InScheme)
	if rc != tpm2.RCSuccess {
		return rc.Param(2)
	}
	a := tpm2.TPMSAttest{Type: tpm2.STAttestCertify}
	a.Attested.Certify = tpm2.TPMSCertifyInfo{Name: o.name, QualifiedName: o.qn}
	out.CertifyInfo, out.Signature, rc = t.attest(key, &scheme, &a, in.QualifyingData)
	return rc
}

// certifyCreation is TPM2_CertifyCreation (Part 3, 18.3).
func (t *TPM) certifyCreation(_ *call, in *tpm2.CertifyCreation, out *tpm2.CertifyCreationResponse) tpm2.RC {
	key, rc := t.checkAttestKey(in.SignHandle, 1)
	if rc != tpm2.RCSuccess {
		return rc
	}
	o := t.object(in.ObjectHandle)
	h := in.CreationTicket.Hierarchy
	want := t.ticket(tpm2.STCreation, h, o.name, in.CreationHash)
	if !bytesEqual(want, in.CreationTicket.Digest) {
		return tpm2.RCTicket.Param(4)
	}
	scheme, rc := signScheme(key, &in.InScheme)
	if rc != tpm2.RCSuccess {
		return rc.Param(3)
	}
	a := tpm2.TPMSAttest{Type: tpm2.STAttestCreation}
	a.Attested.Creation = tpm2.TPMSCreationInfo{ObjectName: o.name, CreationHash: in.CreationHash}
	out.CertifyInfo, out.Signature, rc = t.attest(key, &scheme, &a, in.QualifyingData)
	return rc
}

// quote is TPM2_Quote (Part 3, 18.4).
func (t *TPM) quote(_ *call, in *tpm2.Quote, out *tpm2.QuoteResponse) tpm2.RC {
	key, rc := t.checkAttestKey(in.SignHandle, 1)
	if rc != tpm2.RCSuccess {
		return rc
	}
	scheme, rc := signScheme(key, &in.InScheme)
	if rc != tpm2.RCSuccess {
		return rc.Param(2)
	}
	alg, rc := schemeHash(key, &scheme, &in.InScheme)
	if rc != tpm2.RCSuccess {
		return rc
	}
	a := tpm2.TPMSAttest{Type: tpm2.STAttestQuote}
	a.Attested.Quote = tpm2.TPMSQuoteInfo{PCRDigest: t.pcrDigest(alg, in.PCRSelect), PCRSelect: in.PCRSelect}
	out.Quoted, out.Signature, rc = t.attest(key, &scheme, &a, in.QualifyingData)
	return rc
}

// getSessionAuditDigest is TPM2_GetSessionAuditDigest (Part 3, 18.5).
func (t *TPM) getSessionAuditDigest(_ *call, in *tpm2.GetSessionAuditDigest, out *tpm2.GetSessionAuditDigestResponse) tpm2.RC {
	key, rc := t.checkAttestKey(in.SignHandle, 2)
	if rc != tpm2.RCSuccess {
		return rc
	}
	s := t.session(in.SessionHandle)
	if !s.audit {
		return tpm2.RCType.Handle(3)
	}
	scheme, rc := signScheme(key, &in.InScheme)
	if rc != tpm2.RCSuccess {
		return rc.Param(2)
	}
	a := tpm2.TPMSAttest{Type: tpm2.STAttestSessionAudit}
	a.Attested.SessionAudit = tpm2.TPMSSessionAuditInfo{
		ExclusiveSession: tpm2.Bool(t.ram.exclusive == in.SessionHandle), SessionDigest: s.auditDigest,
	}
	out.AuditInfo, out.Signature, rc = t.attest(key, &scheme, &a, in.QualifyingData)
	return rc
}

// getCommandAuditDigest is TPM2_GetCommandAuditDigest (Part 3, 18.6): it starts the digest anew.
func (t *TPM) getCommandAuditDigest(_ *call, in *tpm2.GetCommandAuditDigest, out *tpm2.GetCommandAuditDigestResponse) tpm2.RC {
	key, rc := t.checkAttestKey(in.SignHandle, 2)
	if rc != tpm2.RCSuccess {
		return rc
	}
	scheme, rc := signScheme(key, &in.InScheme)
	if rc != tpm2.RCSuccess {
		return rc.Param(2)
	}
	nv := t.n()
	var codes tpm2.Encoder
	for _, cc := range nv.audited {
		codes.U32(uint32(cc))
	}
	a := tpm2.TPMSAttest{Type: tpm2.STAttestCommandAudit}
	a.Attested.CommandAudit = tpm2.TPMSCommandAuditInfo{
		AuditCounter: nv.auditCounter, DigestAlg: nv.auditHash, AuditDigest: t.ram.reset.auditDigest,
		CommandDigest: crypt.Digest(nv.auditHash, codes.Out()),
	}
	out.AuditInfo, out.Signature, rc = t.attest(key, &scheme, &a, in.QualifyingData)
	if rc == tpm2.RCSuccess && key != nil {
		t.ram.reset.auditDigest = nil
	}
	return rc
}

// getTime is TPM2_GetTime (Part 3, 18.7).
func (t *TPM) getTime(_ *call, in *tpm2.GetTime, out *tpm2.GetTimeResponse) tpm2.RC {
	key, rc := t.checkAttestKey(in.SignHandle, 2)
	if rc != tpm2.RCSuccess {
		return rc
	}
	scheme, rc := signScheme(key, &in.InScheme)
	if rc != tpm2.RCSuccess {
		return rc.Param(2)
	}
	a := tpm2.TPMSAttest{Type: tpm2.STAttestTime}
	a.Attested.Time = tpm2.TPMSTimeAttestInfo{Time: t.timeInfo(), FirmwareVersion: FirmwareVersion}
	out.TimeInfo, out.Signature, rc = t.attest(key, &scheme, &a, in.QualifyingData)
	return rc
}
