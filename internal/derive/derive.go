// Package derive is every use of HKDF in vouchsafe: one key, one purpose, and
// the purpose is a [Label] in the list below. docs/formats/hkdf.md is the same
// list with reasons, and a test holds the two together.
//
// It is for whoever turns one secret into another, the guest's agent included;
// it keeps nothing and knows no storage.
//
// Begin with [Key].
package derive

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/vouchsafe/vouchsafe/internal/secret"
)

// Label names one purpose. It is the beginning of HKDF's info string.
type Label string

// All labels. A label is never reused for something else; a change of format
// is a new label with the next number.
const (
	BoxAEAD        Label = "vouchsafe/box/v1/aead"
	BoxCommit      Label = "vouchsafe/box/v1/commit"
	RootWrap       Label = "vouchsafe/seal/v1/software-wrap"
	KeyringWrap    Label = "vouchsafe/keyring/v1/wrap"
	AuditSign      Label = "vouchsafe/audit/v1/checkpoint-ed25519"
	BackupKEM      Label = "vouchsafe/backup/v1/kem-seed"
	BackupMAC      Label = "vouchsafe/backup/v1/mac"
	LeaseState     Label = "vouchsafe/lease/v1/state-key"
	DiskKeyShares  Label = "vouchsafe/disk/v1/key-from-two-shares"
	NonceMAC       Label = "vouchsafe/nonce/v1/mac"
	OfflineKeyFile Label = "vouchsafe/ca/v1/offline-key-file"
	VTPMState      Label = "vouchsafe/vtpm/v1/state-file"
)

// Labels lists all of them, for the test that compares the list with the document.
func Labels() []Label {
	return []Label{BoxAEAD, BoxCommit, RootWrap, KeyringWrap, AuditSign, BackupKEM, BackupMAC, LeaseState, DiskKeyShares, NonceMAC, OfflineKeyFile, VTPMState}
}

// MinInput is the least that a key may be derived from: 128 bits.
const MinInput = 16

// Key is HKDF-SHA-256 (RFC 5869) with an empty salt: the input is always
// uniformly random here, never a password. It makes n bytes for label in the
// given context, which tells apart what shares a label: a tenant, a VM.
func Key(input secret.Bytes, label Label, n int, context ...string) secret.Bytes {
	if input.Len() < MinInput {
		panic("internal error: derive: a secret of less than 128 bits, or an erased one")
	}
	out, err := hkdf.Key(sha256.New, input.Reveal(), nil, Info(label, context...), n)
	if err != nil {
		panic("internal error: derive: " + err.Error())
	}
	return secret.New(out)
}

// Info is the info string: the label, a zero byte, then each part of the
// context behind its length in two bytes, so that no two contexts read the same.
func Info(label Label, context ...string) string {
	b := append([]byte(label), 0)
	for _, c := range context {
		if len(c) > 0xffff {
			panic("internal error: derive: a context of more than 64 KiB")
		}
		b = binary.BigEndian.AppendUint16(b, uint16(len(c)))
		b = append(b, c...)
	}
	return string(b)
}

// ShareSize is the length of both shares of a disk key, and of the key: 256
// random bits, so LUKS needs no slow password hash over it.
const ShareSize = 32

// DiskKey joins the two shares of a disk key: the server's, which every boot
// fetches anew, and the local one, which is sealed in the VM's own vTPM.
// Neither alone says anything about the key.
func DiskKey(server, local secret.Bytes, tenant, vm, disk string) (secret.Bytes, error) {
	if server.Len() != ShareSize || local.Len() != ShareSize {
		return secret.Bytes{}, fmt.Errorf("joining the disk key of %s: shares have %d and %d bytes, not %d each", vm, server.Len(), local.Len(), ShareSize)
	}
	both := secret.New(append(append(make([]byte, 0, 2*ShareSize), server.Reveal()...), local.Reveal()...))
	defer both.Erase()
	return Key(both, DiskKeyShares, ShareSize, tenant, vm, disk), nil
}
