package main

import (
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

func sessionOps() []op {
	return []op{
		{"StartAuthSession unsalted+Flush", always(func(b *bench) error {
			_, end, err := tpm2.HMACSession(b, tpm2.TPMAlgSHA256, 16)
			if err != nil {
				return err
			}
			return end()
		})},
		{"StartAuthSession salted ECC P256", func(b *bench) (steps, error) {
			return salted(b, b.srk.ObjectHandle, b.srkPublic), nil
		}},
		{"StartAuthSession salted RSA2048", func(b *bench) (steps, error) {
			r, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.RSASRKTemplate)}.Execute(b)
			if err != nil {
				return steps{}, err
			}
			pub, err := r.OutPublic.Contents()
			if err != nil {
				return steps{}, err
			}
			s := salted(b, r.ObjectHandle, pub)
			end := s.after
			s.after = func() {
				end()
				b.flush(r.ObjectHandle)
			}
			return s, nil
		}},
		{"GetRandom(32) in AES-CFB encrypting HMAC session", func(b *bench) (steps, error) {
			s, end, err := tpm2.HMACSession(b, tpm2.TPMAlgSHA256, 16,
				tpm2.Salted(b.srk.ObjectHandle, *b.srkPublic), tpm2.AESEncryption(128, tpm2.EncryptOut))
			if err != nil {
				return steps{}, err
			}
			return steps{after: func() { end() }, run: func() error {
				_, err := tpm2.GetRandom{BytesRequested: 32}.Execute(b, s)
				return err
			}}, nil
		}},
		{"ActivateCredential RSA EK (session+PolicySecret+Activate)", activate(tpm2.RSAEKTemplate)},
		{"ActivateCredential ECC EK (session+PolicySecret+Activate)", activate(tpm2.ECCEKTemplate)},
	}
}

func salted(b *bench, h tpm2.TPMHandle, pub *tpm2.TPMTPublic) steps {
	return flushing(b, func() (tpm2.TPMHandle, error) {
		s, _, err := tpm2.HMACSession(b, tpm2.TPMAlgSHA256, 16, tpm2.Salted(h, *pub), tpm2.AESEncryption(128, tpm2.EncryptInOut))
		if err != nil {
			return 0, err
		}
		return s.Handle(), nil
	})
}

func activate(template tpm2.TPMTPublic) func(*bench) (steps, error) {
	return func(b *bench) (steps, error) {
		ek, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(template)}.Execute(b)
		if err != nil {
			return steps{}, err
		}
		ak, err := b.createLoad(eccSigner(tpm2.TPMECCNistP256, tpm2.TPMAlgSHA256, true), nil)
		if err != nil {
			return steps{}, err
		}
		c, err := tpm2.MakeCredential{Handle: ek.ObjectHandle, Credential: tpm2.TPM2BDigest{Buffer: make([]byte, 32)}, ObjectName: ak.Name}.Execute(b)
		if err != nil {
			return steps{}, err
		}
		byEndorsement := tpm2.Policy(tpm2.TPMAlgSHA256, 16, func(t transport.TPM, s tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
			_, err := tpm2.PolicySecret{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
				PolicySession: s, NonceTPM: nonce}.Execute(t)
			return err
		})
		return steps{
			after: func() { b.flush(ek.ObjectHandle); b.flush(ak.Handle) },
			run: func() error {
				_, err := tpm2.ActivateCredential{ActivateHandle: ak,
					KeyHandle:      tpm2.AuthHandle{Handle: ek.ObjectHandle, Name: ek.Name, Auth: byEndorsement},
					CredentialBlob: c.CredentialBlob, Secret: c.Secret}.Execute(b)
				return err
			}}, nil
	}
}
