package xaes

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"github.com/vouchsafe/vouchsafe/internal/derive"
	"github.com/vouchsafe/vouchsafe/internal/secret"
)

// CommitSize is the length of the commitment tag: HMAC-SHA-256, so that two
// keys for one box cost 2^128 work.
const CommitSize = sha256.Size

// BoxOverhead is what a box is longer than its plaintext.
const BoxOverhead = NonceSize + CommitSize + Overhead

// ErrCommitment is [ErrOpen] where the commitment did not hold: another key, or
// another context (or a changed nonce), rather than a changed ciphertext.
var ErrCommitment = fmt.Errorf("%w: its commitment is to another key or context", ErrOpen)

// Box seals messages under one key: nonce || commitment || ciphertext. The
// commitment binds key, nonce and additional data (CMT-4 of Bellare and Hoang,
// eprint 2022/268). It is safe for concurrent use.
type Box struct {
	aead   cipher.AEAD
	commit secret.Bytes
}

// NewBox derives the two keys of a box, one for the AEAD and one for the
// commitment, from a 32-byte key, which stays the caller's.
func NewBox(key secret.Bytes) *Box {
	if key.Len() != KeySize {
		panic("internal error: xaes: a box has a key of 32 bytes")
	}
	k := derive.Key(key, derive.BoxAEAD, KeySize)
	defer k.Erase()
	a, err := New(k.Reveal())
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return &Box{aead: a, commit: derive.Key(key, derive.BoxCommit, CommitSize)}
}

// Seal encrypts plaintext, and binds aad to it, under a random nonce.
func (b *Box) Seal(plaintext, aad []byte) []byte {
	var nonce [NonceSize]byte
	rand.Read(nonce[:])
	return b.seal(nonce[:], plaintext, aad)
}

func (b *Box) seal(nonce, plaintext, aad []byte) []byte {
	out := make([]byte, 0, len(plaintext)+BoxOverhead)
	out = append(out, nonce...)
	out = b.tag(out, nonce, aad)
	return b.aead.Seal(out, nonce, plaintext, aad)
}

// Open is the inverse of Seal. It looks at nothing before the commitment holds.
func (b *Box) Open(box, aad []byte) ([]byte, error) {
	if len(box) < BoxOverhead {
		return nil, ErrOpen
	}
	nonce, tag, ciphertext := box[:NonceSize], box[NonceSize:NonceSize+CommitSize], box[NonceSize+CommitSize:]
	if subtle.ConstantTimeCompare(tag, b.tag(nil, nonce, aad)) != 1 {
		return nil, ErrCommitment
	}
	return b.aead.Open(nil, nonce, ciphertext, aad)
}

// tag appends HMAC-SHA-256(commit key, nonce || len(aad) || aad). The nonce has
// a fixed length, so no two inputs read the same.
func (b *Box) tag(dst, nonce, aad []byte) []byte {
	m := hmac.New(sha256.New, b.commit.Reveal())
	m.Write(nonce)
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(aad)))
	m.Write(n[:])
	m.Write(aad)
	return m.Sum(dst)
}
