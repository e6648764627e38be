package client

import (
	"encoding/binary"
	"fmt"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// Policy calculates a policy digest, without a TPM, as a trial session would
// (Part 3, 23). Each method is one policy command and returns its receiver:
//
//	p, err := client.NewPolicy(tpm2.AlgSHA256)
//	digest := p.PCR(sel, values).AuthValue().Digest()
type Policy struct {
	alg    tpm2.AlgID
	digest []byte
}

// NewPolicy begins a policy with a digest of zeros.
func NewPolicy(alg tpm2.AlgID) (*Policy, error) {
	if err := knownHash(alg); err != nil {
		return nil, fmt.Errorf("calculating a policy: %w", err)
	}
	return &Policy{alg, make([]byte, alg.DigestSize())}, nil
}

// Digest is the digest so far.
func (p *Policy) Digest() []byte { return append([]byte(nil), p.digest...) }

func (p *Policy) extend(cc tpm2.CC, parts ...[]byte) *Policy {
	h := crypt.New(p.alg)
	h.Write(p.digest)
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(cc)))
	for _, b := range parts {
		h.Write(b)
	}
	p.digest = h.Sum(nil)
	return p
}

// update is PolicyUpdate() (Part 3, 23.2.3).
func (p *Policy) update(cc tpm2.CC, name, ref []byte) *Policy {
	p.extend(cc, name)
	p.digest = crypt.Digest(p.alg, p.digest, ref)
	return p
}

func (p *Policy) reset() { p.digest = make([]byte, p.alg.DigestSize()) }

// Signed wants a signature by the key with that Name (Part 3, 23.3).
func (p *Policy) Signed(name, ref []byte) *Policy { return p.update(tpm2.CCPolicySigned, name, ref) }

// Secret wants the authorization of the entity with that Name (Part 3, 23.4);
// [HierarchyName] is that of a hierarchy.
func (p *Policy) Secret(name, ref []byte) *Policy { return p.update(tpm2.CCPolicySecret, name, ref) }

// OR wants one of up to eight other policies (Part 3, 23.6).
func (p *Policy) OR(digests ...[]byte) *Policy {
	p.reset()
	return p.extend(tpm2.CCPolicyOR, digests...)
}

// PCR wants PCRs with the given digest over their values (Part 3, 23.7); see [PCRValues.Digest].
func (p *Policy) PCR(sel []tpm2.TPMSPCRSelection, pcrDigest []byte) *Policy {
	return p.extend(tpm2.CCPolicyPCR, marshalSelection(sel), pcrDigest)
}

// Locality wants one of the localities (Part 3, 23.8).
func (p *Policy) Locality(l tpm2.Locality) *Policy {
	return p.extend(tpm2.CCPolicyLocality, []byte{byte(l)})
}

// NV compares the contents of the NV index with that Name (Part 3, 23.9).
func (p *Policy) NV(name, operandB []byte, offset uint16, op tpm2.EO) *Policy {
	return p.extend(tpm2.CCPolicyNV, p.comparison(operandB, offset, op), name)
}

// CounterTimer compares the TPMS_TIME_INFO (Part 3, 23.10).
func (p *Policy) CounterTimer(operandB []byte, offset uint16, op tpm2.EO) *Policy {
	return p.extend(tpm2.CCPolicyCounterTimer, p.comparison(operandB, offset, op))
}

func (p *Policy) comparison(operandB []byte, offset uint16, op tpm2.EO, more ...uint32) []byte {
	b := binary.BigEndian.AppendUint16(nil, offset)
	b = binary.BigEndian.AppendUint16(b, uint16(op))
	for _, m := range more {
		b = binary.BigEndian.AppendUint32(b, m)
	}
	return crypt.Digest(p.alg, operandB, b)
}

// CommandCode allows only this command (Part 3, 23.11).
func (p *Policy) CommandCode(cc tpm2.CC) *Policy {
	return p.extend(tpm2.CCPolicyCommandCode, binary.BigEndian.AppendUint32(nil, uint32(cc)))
}

// PhysicalPresence wants it asserted (Part 3, 23.12).
func (p *Policy) PhysicalPresence() *Policy { return p.extend(tpm2.CCPolicyPhysicalPresence) }

// CpHash allows only one command with its parameters (Part 3, 23.13); see [Policy.CpHashOf].
func (p *Policy) CpHash(cpHash []byte) *Policy { return p.extend(tpm2.CCPolicyCpHash, cpHash) }

// NameHash allows only these entities (Part 3, 23.14); see [Policy.NameHashOf].
func (p *Policy) NameHash(nameHash []byte) *Policy { return p.extend(tpm2.CCPolicyNameHash, nameHash) }

// DuplicationSelect allows duplication to one new parent (Part 3, 23.15);
// object is nil when any object may be.
func (p *Policy) DuplicationSelect(object, newParent []byte) *Policy {
	return p.extend(tpm2.CCPolicyDuplicationSelect, object, newParent, []byte{byte(tpm2.Bool(object != nil))})
}

// Authorize allows whatever policy the key with that Name signs (Part 3, 23.16).
func (p *Policy) Authorize(keyName, ref []byte) *Policy {
	p.reset()
	return p.update(tpm2.CCPolicyAuthorize, keyName, ref)
}

// AuthValue wants the object's authValue in the session's HMAC (Part 3, 23.17).
func (p *Policy) AuthValue() *Policy { return p.extend(tpm2.CCPolicyAuthValue) }

// Password wants the object's authValue in the clear; the digest is that of
// AuthValue (Part 3, 23.18).
func (p *Policy) Password() *Policy { return p.AuthValue() }

// NVWritten wants an NV index to have been written, or not yet (Part 3, 23.20).
func (p *Policy) NVWritten(written bool) *Policy {
	return p.extend(tpm2.CCPolicyNvWritten, []byte{byte(tpm2.Bool(written))})
}

// Template allows the creation of only this template (Part 3, 23.21); see [Policy.TemplateHash].
func (p *Policy) Template(templateHash []byte) *Policy {
	return p.extend(tpm2.CCPolicyTemplate, templateHash)
}

// AuthorizeNV allows the policy that the index with that Name holds (Part 3, 23.22).
func (p *Policy) AuthorizeNV(name []byte) *Policy {
	p.reset()
	return p.extend(tpm2.CCPolicyAuthorizeNV, name)
}

// Capability compares a capability of the TPM (Part 3, 23.23).
func (p *Policy) Capability(operandB []byte, offset uint16, op tpm2.EO, capability tpm2.CAP, property uint32) *Policy {
	return p.extend(tpm2.CCPolicyCapability, p.comparison(operandB, offset, op, uint32(capability), property))
}

// Parameters allows only these parameters, of whatever objects (Part 3, 23.24).
func (p *Policy) Parameters(pHash []byte) *Policy { return p.extend(tpm2.CCPolicyParameters, pHash) }

// HierarchyName is the Name of a hierarchy, or of a PCR: its handle.
func HierarchyName(h tpm2.Handle) []byte { return crypt.HandleName(h) }

// ObjectName is the Name of an object with that public area (Part 1, 13).
func ObjectName(pub *tpm2.TPMTPublic) ([]byte, error) {
	if pub.NameAlg == tpm2.AlgNull {
		return nil, nil
	}
	if err := knownHash(pub.NameAlg); err != nil {
		return nil, fmt.Errorf("computing a Name: %w", err)
	}
	return crypt.ObjectName(pub), nil
}

// TemplateHash is the digest of a template for [Policy.Template].
func (p *Policy) TemplateHash(template *tpm2.TPMTPublic) []byte {
	return crypt.Digest(p.alg, tpm2.Marshal(template))
}

// CpHashOf is the digest of a command for [Policy.CpHash]: names are those of
// its handles in order.
func (p *Policy) CpHashOf(cmd tpm2.Command, names ...[]byte) []byte {
	e := tpm2.NewEncoder(nil)
	cmd.EncodeParameters(e)
	return cpHash(p.alg, cmd.CommandCode(), names, e.Out())
}

// NameHashOf is the digest of the Names of a command's handles for [Policy.NameHash].
func (p *Policy) NameHashOf(names ...[]byte) []byte { return crypt.Digest(p.alg, names...) }

func knownHash(alg tpm2.AlgID) error {
	if crypt.Hash(alg) == 0 {
		return fmt.Errorf("hash algorithm 0x%x is not supported here", uint16(alg))
	}
	return nil
}

// marshalSelection is a TPML_PCR_SELECTION.
func marshalSelection(sel []tpm2.TPMSPCRSelection) []byte {
	e := tpm2.NewEncoder(nil)
	e.U32(uint32(len(sel)))
	for i := range sel {
		e.Encode(&sel[i])
	}
	return e.Out()
}
