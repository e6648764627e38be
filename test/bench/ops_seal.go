package main

import (
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

func sealOps() []op {
	secret := make([]byte, 32)
	return []op{
		{"Seal (Create keyedhash)", always(func(b *bench) error {
			_, err := tpm2.Create{ParentHandle: b.parent(), InSensitive: sensitive(secret), InPublic: tpm2.New2B(sealed(nil))}.Execute(b)
			return err
		})},
		{"Unseal password", func(b *bench) (steps, error) {
			k, err := b.createLoad(sealed(nil), secret)
			return steps{after: func() { b.flush(k.Handle) }, run: func() error {
				_, err := tpm2.Unseal{ItemHandle: k}.Execute(b)
				return err
			}}, err
		}},
		{"Unseal PCR policy (session+PolicyPCR+Unseal)", unsealPCR},
	}
}

func unsealPCR(b *bench) (steps, error) {
	sel := sha256PCRs(7)
	policy := func(t transport.TPM, s tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
		_, err := tpm2.PolicyPCR{PolicySession: s, Pcrs: sel}.Execute(t)
		return err
	}
	trial, end, err := tpm2.PolicySession(b, tpm2.TPMAlgSHA256, 16, tpm2.Trial())
	if err != nil {
		return steps{}, err
	}
	if err := policy(b, trial.Handle(), tpm2.TPM2BNonce{}); err != nil {
		return steps{}, err
	}
	d, err := tpm2.PolicyGetDigest{PolicySession: trial.Handle()}.Execute(b)
	if err != nil {
		return steps{}, err
	}
	if err := end(); err != nil {
		return steps{}, err
	}
	k, err := b.createLoad(sealed(d.PolicyDigest.Buffer), make([]byte, 32))
	k.Auth = tpm2.Policy(tpm2.TPMAlgSHA256, 16, policy)
	return steps{after: func() { b.flush(k.Handle) }, run: func() error {
		_, err := tpm2.Unseal{ItemHandle: k}.Execute(b)
		return err
	}}, err
}
