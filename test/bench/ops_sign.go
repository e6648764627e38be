package main

import (
	"crypto/ecdh"
	"crypto/rand"

	"github.com/google/go-tpm/tpm2"
)

func signOps() []op {
	p256 := eccSigner(tpm2.TPMECCNistP256, tpm2.TPMAlgSHA256, false)
	p384 := eccSigner(tpm2.TPMECCNistP384, tpm2.TPMAlgSHA384, false)
	ecdsa256, ecdsa384 := signScheme(tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA256), signScheme(tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA384)
	rsassa, rsapss := signScheme(tpm2.TPMAlgRSASSA, tpm2.TPMAlgSHA256), signScheme(tpm2.TPMAlgRSAPSS, tpm2.TPMAlgSHA256)
	return []op{
		{"Sign ECDSA P256", withKey(p256, sign(ecdsa256, 32))},
		{"Sign ECDSA P384", withKey(p384, sign(ecdsa384, 48))},
		{"Sign RSASSA 2048", withKey(rsaSigner(), sign(rsassa, 32))},
		{"Sign RSAPSS 2048", withKey(rsaSigner(), sign(rsapss, 32))},
		{"VerifySignature ECDSA P256", withKey(p256, verify(ecdsa256))},
		{"VerifySignature RSASSA 2048", withKey(rsaSigner(), verify(rsassa))},
		{"Quote ECDSA P256 (8 PCRs)", withKey(eccSigner(tpm2.TPMECCNistP256, tpm2.TPMAlgSHA256, true), quote)},
		{"Quote RSASSA 2048 (8 PCRs)", withKey(rsaAK(), quote)},
		{"RSA_Decrypt OAEP 2048", withKey(rsaDecrypter(), decrypt)},
		{"ECDH_ZGen P256", withKey(eccDecrypter(), zgen)},
	}
}

func signOnce(b *bench, k tpm2.AuthHandle, s tpm2.TPMTSigScheme, digest []byte) (*tpm2.SignResponse, error) {
	return tpm2.Sign{KeyHandle: k, Digest: tpm2.TPM2BDigest{Buffer: digest}, InScheme: s,
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull}}.Execute(b)
}

func sign(s tpm2.TPMTSigScheme, size int) func(*bench, tpm2.AuthHandle) (func() error, error) {
	return func(b *bench, k tpm2.AuthHandle) (func() error, error) {
		digest := make([]byte, size)
		rand.Read(digest)
		return func() error {
			_, err := signOnce(b, k, s, digest)
			return err
		}, nil
	}
}

func verify(s tpm2.TPMTSigScheme) func(*bench, tpm2.AuthHandle) (func() error, error) {
	return func(b *bench, k tpm2.AuthHandle) (func() error, error) {
		digest := make([]byte, 32)
		rand.Read(digest)
		r, err := signOnce(b, k, s, digest)
		return func() error {
			_, err := tpm2.VerifySignature{KeyHandle: k.Handle, Digest: tpm2.TPM2BDigest{Buffer: digest}, Signature: r.Signature}.Execute(b)
			return err
		}, err
	}
}

func quote(b *bench, k tpm2.AuthHandle) (func() error, error) {
	nonce := make([]byte, 20)
	rand.Read(nonce)
	return func() error {
		_, err := tpm2.Quote{SignHandle: k, QualifyingData: tpm2.TPM2BData{Buffer: nonce},
			InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}, PCRSelect: sha256PCRs(0, 1, 2, 3, 4, 5, 6, 7)}.Execute(b)
		return err
	}, nil
}

func decrypt(b *bench, k tpm2.AuthHandle) (func() error, error) {
	ct, err := tpm2.RSAEncrypt{KeyHandle: k.Handle, Message: tpm2.TPM2BPublicKeyRSA{Buffer: make([]byte, 32)}, InScheme: oaep()}.Execute(b)
	return func() error {
		_, err := tpm2.RSADecrypt{KeyHandle: k, CipherText: ct.OutData, InScheme: oaep()}.Execute(b)
		return err
	}, err
}

func zgen(b *bench, k tpm2.AuthHandle) (func() error, error) {
	other, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	p := other.PublicKey().Bytes() // 04 || x || y
	in := tpm2.New2B(tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: p[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: p[33:]}})
	return func() error {
		_, err := tpm2.ECDHZGen{KeyHandle: k, InPoint: in}.Execute(b)
		return err
	}, nil
}
