package client

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// minRSABits is the least modulus whose signatures are believed (SP 800-131A).
const minRSABits = 2048

var errSignature = errors.New("the signature is wrong")

func verifyDigest(key crypto.PublicKey, hash crypto.Hash, digest []byte, s *tpm2.TPMTSignature) error {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < minRSABits {
			return fmt.Errorf("an RSA key of %d bits is too short to be believed", key.N.BitLen())
		}
		var err error
		switch s.SigAlg {
		case tpm2.AlgRSASSA:
			err = rsa.VerifyPKCS1v15(key, hash, digest, s.Signature.RSA.Sig)
		case tpm2.AlgRSAPSS: // TPMs differ in the salt's length
			err = rsa.VerifyPSS(key, hash, digest, s.Signature.RSA.Sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto})
		default:
			return fmt.Errorf("scheme 0x%x is not one of an RSA key", uint16(s.SigAlg))
		}
		if err != nil {
			return errSignature
		}
		return nil
	case *ecdsa.PublicKey:
		if s.SigAlg != tpm2.AlgECDSA {
			return fmt.Errorf("scheme 0x%x is not one of an ECDSA key", uint16(s.SigAlg))
		}
		der, err := ecdsaDER(s)
		if err != nil {
			return err
		}
		if !ecdsa.VerifyASN1(key, digest, der) {
			return errSignature
		}
		return nil
	}
	return fmt.Errorf("a key of type %T does not sign", key)
}

type ecdsaSignature struct{ R, S *big.Int }

// ecdsaDER is an ECDSA signature as X.509 and TLS have it (RFC 3279, 2.2.3).
func ecdsaDER(s *tpm2.TPMTSignature) ([]byte, error) {
	e := s.Signature.ECC
	return asn1.Marshal(ecdsaSignature{new(big.Int).SetBytes(e.SignatureR), new(big.Int).SetBytes(e.SignatureS)})
}

// SignDigest signs a digest in software and gives the signature a TPM's form:
// RSASSA or ECDSA.
func SignDigest(signer crypto.Signer, alg tpm2.AlgID, digest []byte) (*tpm2.TPMTSignature, error) {
	hash := crypt.Hash(alg)
	if hash == 0 {
		return nil, fmt.Errorf("signing: hash algorithm 0x%x is not supported here", uint16(alg))
	}
	b, err := signer.Sign(rand.Reader, digest, hash)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	switch pub := signer.Public().(type) {
	case *rsa.PublicKey:
		return &tpm2.TPMTSignature{SigAlg: tpm2.AlgRSASSA, Signature: tpm2.TPMUSignature{RSA: tpm2.TPMSSignatureRSA{Hash: alg, Sig: b}}}, nil
	case *ecdsa.PublicKey:
		var s ecdsaSignature
		if _, err := asn1.Unmarshal(b, &s); err != nil {
			return nil, fmt.Errorf("signing: %w", err)
		}
		n := (pub.Params().BitSize + 7) / 8
		if s.R.Sign() <= 0 || s.S.Sign() <= 0 || s.R.BitLen() > 8*n || s.S.BitLen() > 8*n {
			return nil, errors.New("signing: the signer's signature is out of range")
		}
		return &tpm2.TPMTSignature{SigAlg: tpm2.AlgECDSA, Signature: tpm2.TPMUSignature{ECC: tpm2.TPMSSignatureECC{
			Hash: alg, SignatureR: s.R.FillBytes(make([]byte, n)), SignatureS: s.S.FillBytes(make([]byte, n)),
		}}}, nil
	}
	return nil, fmt.Errorf("signing: a TPM has no signatures by keys of type %T", signer.Public())
}
