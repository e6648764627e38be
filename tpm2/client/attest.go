package client

import (
	"bytes"
	"crypto"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// Attested is a statement by a TPM and its signature, as on the wire: a
// TPMS_ATTEST and a TPMT_SIGNATURE.
type Attested struct {
	Attest    []byte
	Signature []byte
}

var inKeyScheme = tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull}

// Quote has the TPM sign the values of PCRs, with a nonce of the verifier.
func (c *Client) Quote(ak Auth, nonce []byte, sel []tpm2.TPMSPCRSelection, extra ...Auth) (*Attested, error) {
	var rsp tpm2.QuoteResponse
	cmd := tpm2.Quote{SignHandle: entityOf(ak).Handle, QualifyingData: nonce, InScheme: inKeyScheme, PCRSelect: sel}
	if err := c.Execute(&cmd, &rsp, with(extra, ak)...); err != nil {
		return nil, err
	}
	return &Attested{rsp.Quoted, tpm2.Marshal(&rsp.Signature)}, nil
}

// Certify has the TPM sign that it holds an object of that Name. object
// authorizes the object in the ADMIN role.
func (c *Client) Certify(object, ak Auth, nonce []byte, extra ...Auth) (*Attested, error) {
	var rsp tpm2.CertifyResponse
	cmd := tpm2.Certify{ObjectHandle: entityOf(object).Handle, SignHandle: entityOf(ak).Handle, QualifyingData: nonce, InScheme: inKeyScheme}
	if err := c.Execute(&cmd, &rsp, with(extra, object, ak)...); err != nil {
		return nil, err
	}
	return &Attested{rsp.CertifyInfo, tpm2.Marshal(&rsp.Signature)}, nil
}

// CertifyCreation has the TPM sign that it made an object, under which
// circumstances.
func (c *Client) CertifyCreation(ak Auth, object *Key, made *Creation, nonce []byte, extra ...Auth) (*Attested, error) {
	var rsp tpm2.CertifyCreationResponse
	cmd := tpm2.CertifyCreation{
		SignHandle: entityOf(ak).Handle, ObjectHandle: object.Handle, QualifyingData: nonce,
		CreationHash: made.Hash, InScheme: inKeyScheme, CreationTicket: made.Ticket,
	}
	if err := c.Execute(&cmd, &rsp, with(extra, ak, About(object.Entity))...); err != nil {
		return nil, err
	}
	return &Attested{rsp.CertifyInfo, tpm2.Marshal(&rsp.Signature)}, nil
}

// VerifyQuote checks a quote without a TPM: that the key with public area pub
// signed it, that it answers nonce and that it is a quote. Whether pub is an AK
// of the right TPM, and the PCRs are as they should be (see [CheckPCRs]), is
// for the caller to find out.
func VerifyQuote(pub *tpm2.TPMTPublic, attest, sig, nonce []byte) (*tpm2.TPMSAttest, error) {
	a, err := verifyAttest(pub, attest, sig, nonce, tpm2.STAttestQuote)
	if err != nil {
		return nil, fmt.Errorf("verifying a quote: %w", err)
	}
	return a, nil
}

// VerifyCertify checks a statement of [Client.Certify] that the TPM holds the
// object with the given Name.
func VerifyCertify(pub *tpm2.TPMTPublic, attest, sig, nonce, name []byte) (*tpm2.TPMSAttest, error) {
	a, err := verifyAttest(pub, attest, sig, nonce, tpm2.STAttestCertify)
	if err == nil && !bytes.Equal(a.Attested.Certify.Name, name) {
		err = errors.New("it certifies another object")
	}
	if err != nil {
		return nil, fmt.Errorf("verifying a certification: %w", err)
	}
	return a, nil
}

func verifyAttest(pub *tpm2.TPMTPublic, attest, sig, nonce []byte, typ tpm2.ST) (*tpm2.TPMSAttest, error) {
	// Only a restricted key vouches for the contents: any other signs whatever
	// it is given, also what somebody has made to look like a statement of the TPM.
	if !pub.ObjectAttributes.Has(tpm2.Restricted|tpm2.SignEncrypt|tpm2.FixedTPM) || pub.ObjectAttributes.Has(tpm2.Decrypt) {
		return nil, errors.New("the key is not an attestation key: it must be a restricted signing key fixed to its TPM")
	}
	if len(nonce) == 0 {
		return nil, errors.New("without a nonce it may be of any time")
	}
	var s tpm2.TPMTSignature
	if err := tpm2.Unmarshal(sig, &s); err != nil {
		return nil, fmt.Errorf("the signature does not decode: %w", err)
	}
	if scheme, hash := Scheme(pub); scheme != s.SigAlg || hash != signatureHash(&s) {
		return nil, fmt.Errorf("the signature is not of the key's scheme: 0x%x with 0x%x, not 0x%x with 0x%x",
			uint16(s.SigAlg), uint16(signatureHash(&s)), uint16(scheme), uint16(hash))
	}
	if err := VerifySignature(pub, attest, &s); err != nil {
		return nil, err
	}
	var a tpm2.TPMSAttest
	if err := tpm2.Unmarshal(attest, &a); err != nil { // checks TPM_GENERATED_VALUE
		return nil, fmt.Errorf("what was signed does not decode: %w", err)
	}
	switch {
	case a.Type != typ:
		return nil, fmt.Errorf("what was signed is a statement of type 0x%x, not 0x%x", uint16(a.Type), uint16(typ))
	case subtle.ConstantTimeCompare(a.ExtraData, nonce) != 1:
		return nil, errors.New("it answers another nonce: it is old, or for somebody else")
	}
	return &a, nil
}

// CheckPCRs checks that values are the PCRs that a verified quote is about. hash
// is that of the AK's scheme; see [Scheme].
func CheckPCRs(a *tpm2.TPMSAttest, hash tpm2.AlgID, values PCRValues) error {
	q := a.Attested.Quote
	got, err := values.Digest(hash, q.PCRSelect)
	if err == nil && subtle.ConstantTimeCompare(got, q.PCRDigest) != 1 {
		err = errors.New("their digest is another")
	}
	if err != nil {
		return fmt.Errorf("comparing PCRs with a quote: %w", err)
	}
	return nil
}

// Scheme is the signing scheme and hash algorithm that a key is made for;
// TPM_ALG_NULL for one that takes any.
func Scheme(pub *tpm2.TPMTPublic) (scheme, hash tpm2.AlgID) {
	switch pub.Type {
	case tpm2.AlgRSA:
		s := pub.Parameters.RSADetail.Scheme
		return s.Scheme, s.Details.Any.HashAlg
	case tpm2.AlgECC:
		s := pub.Parameters.ECCDetail.Scheme
		return s.Scheme, s.Details.Any.HashAlg
	}
	return tpm2.AlgNull, 0
}

func signatureHash(s *tpm2.TPMTSignature) tpm2.AlgID {
	switch s.SigAlg {
	case tpm2.AlgRSASSA, tpm2.AlgRSAPSS:
		return s.Signature.RSA.Hash
	case tpm2.AlgECDSA:
		return s.Signature.ECC.Hash
	}
	return tpm2.AlgNull
}

// VerifySignature checks a TPM's signature over a message, without a TPM:
// RSASSA, RSAPSS or ECDSA with SHA-256 or longer.
func VerifySignature(pub *tpm2.TPMTPublic, message []byte, s *tpm2.TPMTSignature) error {
	alg := signatureHash(s)
	hash := crypt.Hash(alg)
	if hash == 0 || hash == crypto.SHA1 {
		return fmt.Errorf("hash algorithm 0x%x is not one to sign with", uint16(alg))
	}
	key, err := PublicKey(pub)
	if err != nil {
		return err
	}
	return verifyDigest(key, hash, crypt.Digest(alg, message), s)
}
