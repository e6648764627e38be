package main

import (
	"encoding/binary"

	"github.com/google/go-tpm/tpm2"
)

func keyOps() []op {
	return []op{
		{"CreatePrimary RSA2048 SRK", primary(tpm2.RSASRKTemplate, false)},
		{"CreatePrimary RSA2048 varied unique", primary(tpm2.RSASRKTemplate, true)},
		{"CreatePrimary ECC P256 SRK", primary(tpm2.ECCSRKTemplate, false)},
		{"CreatePrimary ECC P384 SRK", primary(p384SRK(), false)},
		{"Create ECC P256 sign", create(eccSigner(tpm2.TPMECCNistP256, tpm2.TPMAlgSHA256, false))},
		{"Create+Load ECC P256 sign", func(b *bench) (steps, error) {
			return flushing(b, func() (tpm2.TPMHandle, error) {
				k, err := b.createLoad(eccSigner(tpm2.TPMECCNistP256, tpm2.TPMAlgSHA256, false), nil)
				return k.Handle, err
			}), nil
		}},
		{"Load ECC P256 sign", load(eccSigner(tpm2.TPMECCNistP256, tpm2.TPMAlgSHA256, false))},
		{"Create RSA2048 sign", create(rsaSigner())},
	}
}

// primary makes the same primary again and again, or, varied, a new one each
// time, which nothing prepared or remembered can help with.
func primary(pub tpm2.TPMTPublic, varied bool) func(*bench) (steps, error) {
	return func(b *bench) (steps, error) {
		n := uint64(0)
		return flushing(b, func() (tpm2.TPMHandle, error) {
			p := pub
			if varied {
				n++
				unique := make([]byte, 256)
				binary.BigEndian.PutUint64(unique, n)
				p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: unique})
			}
			r, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(p)}.Execute(b)
			if err != nil {
				return 0, err
			}
			return r.ObjectHandle, nil
		}), nil
	}
}

func create(pub tpm2.TPMTPublic) func(*bench) (steps, error) {
	return always(func(b *bench) error {
		_, err := tpm2.Create{ParentHandle: b.parent(), InPublic: tpm2.New2B(pub)}.Execute(b)
		return err
	})
}

func load(pub tpm2.TPMTPublic) func(*bench) (steps, error) {
	return func(b *bench) (steps, error) {
		c, err := tpm2.Create{ParentHandle: b.parent(), InPublic: tpm2.New2B(pub)}.Execute(b)
		if err != nil {
			return steps{}, err
		}
		return flushing(b, func() (tpm2.TPMHandle, error) {
			l, err := tpm2.Load{ParentHandle: b.parent(), InPrivate: c.OutPrivate, InPublic: c.OutPublic}.Execute(b)
			if err != nil {
				return 0, err
			}
			return l.ObjectHandle, nil
		}), nil
	}
}
