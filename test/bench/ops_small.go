package main

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"

	"github.com/google/go-tpm/tpm2"
)

// maxBuffer is TPM_PT_INPUT_BUFFER of the TPMs compared.
const maxBuffer = 1024

// smallOps do next to no cryptography: what counts is the way through the TPM.
var smallOps = []op{
	{"GetRandom(32)", always(func(b *bench) error {
		_, err := tpm2.GetRandom{BytesRequested: 32}.Execute(b)
		return err
	})},
	{"GetCapability(PT_FIXED)", always(func(b *bench) error {
		_, err := tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: 0x100, PropertyCount: 64}.Execute(b)
		return err
	})},
	{"ReadClock", always(func(b *bench) error {
		_, err := tpm2.ReadClock{}.Execute(b)
		return err
	})},
	{"ReadPublic(ECC SRK)", always(func(b *bench) error {
		_, err := tpm2.ReadPublic{ObjectHandle: b.srk.ObjectHandle}.Execute(b)
		return err
	})},
	{"PCR_Extend(sha256)", always(extend(tpm2.TPMAlgSHA256))},
	{"PCR_Extend(sha1+sha256+sha384)", always(extend(tpm2.TPMAlgSHA1, tpm2.TPMAlgSHA256, tpm2.TPMAlgSHA384))},
	{"PCR_Read(8 of sha256)", always(func(b *bench) error {
		_, err := tpm2.PCRRead{PCRSelectionIn: sha256PCRs(0, 1, 2, 3, 4, 5, 6, 7)}.Execute(b)
		return err
	})},
	{"Hash 1024B sha256", always(func(b *bench) error {
		_, err := tpm2.Hash{Data: tpm2.TPM2BMaxBuffer{Buffer: make([]byte, maxBuffer)},
			HashAlg: tpm2.TPMAlgSHA256, Hierarchy: tpm2.TPMRHNull}.Execute(b)
		return err
	})},
	{"HashSequence 1MiB sha256", hashSequence},
}

func extend(algs ...tpm2.TPMAlgID) func(*bench) error {
	size := map[tpm2.TPMAlgID]int{tpm2.TPMAlgSHA1: 20, tpm2.TPMAlgSHA256: 32, tpm2.TPMAlgSHA384: 48}
	var d tpm2.TPMLDigestValues
	for _, a := range algs {
		d.Digests = append(d.Digests, tpm2.TPMTHA{HashAlg: a, Digest: make([]byte, size[a])})
	}
	return func(b *bench) error {
		_, err := tpm2.PCRExtend{PCRHandle: tpm2.AuthHandle{Handle: 16, Auth: tpm2.PasswordAuth(nil)}, Digests: d}.Execute(b)
		return err
	}
}

func hashSequence(b *bench) (steps, error) {
	data := make([]byte, 1<<20)
	rand.Read(data)
	want := sha256.Sum256(data)
	return steps{run: func() error {
		s, err := tpm2.HashSequenceStart{HashAlg: tpm2.TPMAlgSHA256}.Execute(b)
		if err != nil {
			return err
		}
		h := tpm2.AuthHandle{Handle: s.SequenceHandle, Auth: tpm2.PasswordAuth(nil)}
		rest := data
		for ; len(rest) > maxBuffer; rest = rest[maxBuffer:] {
			u := tpm2.SequenceUpdate{SequenceHandle: h, Buffer: tpm2.TPM2BMaxBuffer{Buffer: rest[:maxBuffer]}}
			if _, err := u.Execute(b); err != nil {
				return err
			}
		}
		r, err := tpm2.SequenceComplete{SequenceHandle: h, Buffer: tpm2.TPM2BMaxBuffer{Buffer: rest}, Hierarchy: tpm2.TPMRHNull}.Execute(b)
		if err == nil && string(r.Result.Buffer) != string(want[:]) {
			return errors.New("the digest is wrong")
		}
		return err
	}}, nil
}
