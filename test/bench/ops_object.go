package main

import (
	"crypto/ecdh"
	"crypto/rand"

	"github.com/google/go-tpm/tpm2"
)

func objectOps() []op {
	p256 := eccSigner(tpm2.TPMECCNistP256, tpm2.TPMAlgSHA256, false)
	return []op{
		{"ContextSave ECC key", withKey(p256, func(b *bench, k tpm2.AuthHandle) (func() error, error) {
			return func() error {
				_, err := tpm2.ContextSave{SaveHandle: k.Handle}.Execute(b)
				return err
			}, nil
		})},
		{"ContextLoad ECC key", contextLoad},
		{"Import ECC P256 (outer wrap)", importKey},
		{"HMAC 1024B sha256", withKey(hmacKey(), func(b *bench, k tpm2.AuthHandle) (func() error, error) {
			return func() error {
				_, err := tpm2.Hmac{Handle: k, Buffer: tpm2.TPM2BMaxBuffer{Buffer: make([]byte, maxBuffer)}, HashAlg: tpm2.TPMAlgNull}.Execute(b)
				return err
			}, nil
		})},
		{"EncryptDecrypt2 AES128-CFB 1024B", withKey(aesKey(), func(b *bench, k tpm2.AuthHandle) (func() error, error) {
			return func() error {
				_, err := tpm2.EncryptDecrypt2{KeyHandle: k, Message: tpm2.TPM2BMaxBuffer{Buffer: make([]byte, maxBuffer)},
					Mode: tpm2.TPMAlgCFB, IV: tpm2.TPM2BIV{Buffer: make([]byte, 16)}}.Execute(b)
				return err
			}, nil
		})},
	}
}

func contextLoad(b *bench) (steps, error) {
	k, err := b.createLoad(eccSigner(tpm2.TPMECCNistP256, tpm2.TPMAlgSHA256, false), nil)
	if err != nil {
		return steps{}, err
	}
	saved, err := tpm2.ContextSave{SaveHandle: k.Handle}.Execute(b)
	b.flush(k.Handle)
	if err != nil {
		return steps{}, err
	}
	return flushing(b, func() (tpm2.TPMHandle, error) {
		r, err := tpm2.ContextLoad{Context: saved.Context}.Execute(b)
		if err != nil {
			return 0, err
		}
		return r.LoadedHandle, nil
	}), nil
}

// importKey brings in a key that was made outside, wrapped to the storage primary.
func importKey(b *bench) (steps, error) {
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return steps{}, err
	}
	p := k.PublicKey().Bytes() // 04 || x || y
	pub := tpm2.TPMTPublic{Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{UserWithAuth: true, NoDA: true, SignEncrypt: true},
		Parameters:       tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: p[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: p[33:]}})}
	private := tpm2.Marshal(tpm2.TPMTSensitive{SensitiveType: tpm2.TPMAlgECC,
		Sensitive: tpm2.NewTPMUSensitiveComposite(tpm2.TPMAlgECC, &tpm2.TPM2BECCParameter{Buffer: k.Bytes()})})
	name, err := tpm2.ObjectName(&pub)
	if err != nil {
		return steps{}, err
	}
	to, err := tpm2.ImportEncapsulationKey(b.srkPublic)
	if err != nil {
		return steps{}, err
	}
	duplicate, seed, err := tpm2.CreateDuplicate(rand.Reader, to, name.Buffer, private)
	return steps{run: func() error {
		_, err := tpm2.Import{ParentHandle: b.parent(), ObjectPublic: tpm2.New2B(pub), Duplicate: tpm2.TPM2BPrivate{Buffer: duplicate},
			InSymSeed: tpm2.TPM2BEncryptedSecret{Buffer: seed}, Symmetric: tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull}}.Execute(b)
		return err
	}}, err
}
