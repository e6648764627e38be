package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/vouchsafe/vouchsafe/eventlog"
	"github.com/vouchsafe/vouchsafe/tpm2"
)

// Approval lets the TPM itself accept a set of PCR values: what is sealed under
// TPM2_PolicyAuthorize with the policy key opens in a session whose policy
// digest is ApprovedPolicy, once TPM2_VerifySignature has checked Signature
// (Part 3, 23.16). It never expires and the TPM cannot withdraw it; the
// server's share of a key is what withdraws.
type Approval struct {
	ApprovedPolicy Hex    `json:"approvedPolicy"` // of TPM2_PolicyPCR over Selection
	PolicyRef      Hex    `json:"policyRef,omitempty"`
	Selection      []byte `json:"selection"` // TPML_PCR_SELECTION for TPM2_PolicyPCR
	Signature      []byte `json:"signature"` // TPMT_SIGNATURE over H(approvedPolicy || policyRef)
}

// UnlockPCR must still be zero when the disk key is unsealed; the agent extends
// it afterwards, so the key opens once a boot. Approvals contain it.
const UnlockPCR = 15

// approve signs the PolicyPCR digest of the statement's values, and zero in
// UnlockPCR, for sessions of SHA-256.
func (s *Statement) approve(key crypto.Signer, ref []byte) (*Approval, error) {
	public, ok := key.Public().(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("signing reference values: the policy key must be ECDSA")
	}
	area, err := PolicyKeyPublic(public)
	if err != nil {
		return nil, err
	}
	selection, digest, err := s.policyPCR()
	if err != nil {
		return nil, fmt.Errorf("signing reference values: %w", err)
	}
	h, _ := hashOf(area.NameAlg)
	toSign := h.New()
	toSign.Write(digest)
	toSign.Write(ref)
	der, err := key.Sign(rand.Reader, toSign.Sum(nil), h)
	if err != nil {
		return nil, fmt.Errorf("signing reference values: %w", err)
	}
	var rs struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &rs); err != nil || len(rest) > 0 {
		return nil, errors.New("signing reference values: the key made no ECDSA signature")
	}
	n := (public.Curve.Params().BitSize + 7) / 8
	sig := tpm2.TPMTSignature{SigAlg: tpm2.AlgECDSA}
	sig.Signature.ECC = tpm2.TPMSSignatureECC{Hash: area.NameAlg, SignatureR: rs.R.FillBytes(make([]byte, n)), SignatureS: rs.S.FillBytes(make([]byte, n))}
	return &Approval{digest, bytes.Clone(ref), selection, tpm2.Marshal(&sig)}, nil
}

// policyPCR is what a TPM compares with in a boot that the statement approves:
// its values, and zero in UnlockPCR.
func (s *Statement) policyPCR() (selection, digest []byte, err error) {
	bank, err := eventlog.ParseAlg(s.Bank)
	if err != nil {
		return nil, nil, err
	}
	values := map[int][]byte{UnlockPCR: make([]byte, bank.Size())}
	for _, p := range s.PCRs {
		if p.PCR != UnlockPCR {
			values[p.PCR] = p.Value
		}
	}
	selection, digest = PolicyPCR(bank, values)
	return selection, digest, nil
}

// PolicyPCR computes TPML_PCR_SELECTION for the given PCRs and the digest of a
// SHA-256 policy session after TPM2_PolicyPCR alone (Part 3, 23.7).
func PolicyPCR(bank eventlog.Alg, values map[int][]byte) (selection, digest []byte) {
	var mask [3]byte
	concat := crypto.SHA256.New()
	for pcr := 0; pcr <= eventlog.MaxPCR; pcr++ {
		if v, ok := values[pcr]; ok {
			mask[pcr/8] |= 1 << (pcr % 8)
			concat.Write(v)
		}
	}
	selection = binary.BigEndian.AppendUint32(nil, 1)
	selection = binary.BigEndian.AppendUint16(selection, uint16(bank))
	selection = append(append(selection, byte(len(mask))), mask[:]...)
	h := crypto.SHA256.New()
	h.Write(make([]byte, 32))
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(tpm2.CCPolicyPCR)))
	h.Write(selection)
	h.Write(concat.Sum(nil))
	return selection, h.Sum(nil)
}

// PolicyAuthorize computes the policy digest under which to seal: of a SHA-256
// session after TPM2_PolicyAuthorize with the policy key (Part 3, 23.16 and 23.2.3).
func PolicyAuthorize(key *ecdsa.PublicKey, ref []byte) ([]byte, error) {
	area, err := PolicyKeyPublic(key)
	if err != nil {
		return nil, err
	}
	name, err := Name(tpm2.Marshal(area))
	if err != nil {
		return nil, err
	}
	h := crypto.SHA256.New()
	h.Write(make([]byte, 32))
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(tpm2.CCPolicyAuthorize)))
	h.Write(name)
	first := h.Sum(nil)
	h.Reset()
	h.Write(first)
	h.Write(ref)
	return h.Sum(nil), nil
}

// PolicyKeyPublic is the public area with which everybody loads the policy key
// (TPM2_LoadExternal), so that its Name is the same everywhere. nameAlg is the
// hash of the signature, as TPM2_PolicyAuthorize needs it (Part 3, 23.16.2).
func PolicyKeyPublic(key *ecdsa.PublicKey) (*tpm2.TPMTPublic, error) {
	p := &tpm2.TPMTPublic{Type: tpm2.AlgECC, ObjectAttributes: tpm2.SignEncrypt | tpm2.UserWithAuth}
	switch key.Curve {
	case elliptic.P256():
		p.NameAlg, p.Parameters.ECCDetail.CurveID = tpm2.AlgSHA256, tpm2.ECCNISTP256
	case elliptic.P384():
		p.NameAlg, p.Parameters.ECCDetail.CurveID = tpm2.AlgSHA384, tpm2.ECCNISTP384
	default:
		return nil, errors.New("reading the policy key: want ECDSA on P-256 or P-384")
	}
	point, err := key.Bytes()
	if err != nil {
		return nil, fmt.Errorf("reading the policy key: %v", err)
	}
	n := len(point) / 2
	e := &p.Parameters.ECCDetail
	e.Symmetric.Algorithm, e.KDF.Scheme = tpm2.AlgNull, tpm2.AlgNull
	e.Scheme.Scheme, e.Scheme.Details.Any.HashAlg = tpm2.AlgECDSA, p.NameAlg
	p.Unique.ECC = tpm2.TPMSECCPoint{X: point[1 : 1+n], Y: point[1+n:]}
	return p, nil
}
