// Package xaes is the one AEAD of this program: XAES-256-GCM
// (c2sp.org/XAES-256-GCM) on the standard library's AES, and a box around it
// that commits to its key.
//
// XAES-256-GCM takes a 192-bit nonce, so random nonces never run out, and
// costs two more AES blocks than AES-256-GCM. Like GCM it does not commit:
// somebody who chooses the keys can make one ciphertext that opens under two
// of them. [Box] adds the tag that rules this out, and is what everything here
// uses. AES-GCM-SIV was not chosen: it is slower, its nonces are short, and
// the standard library has none.
//
// It is not for streams: a message is sealed and opened whole.
//
// Begin with [NewBox]; [New] is the bare AEAD. docs/formats/envelope.md has
// the bytes and their vectors.
package xaes

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
)

const (
	KeySize   = 32
	NonceSize = 24
	Overhead  = 16 // of the GCM tag
)

type aead struct {
	k  cipher.Block
	k1 [aes.BlockSize]byte // CMAC subkey, NIST SP 800-38B, Section 6.1
}

// New returns XAES-256-GCM under a 32-byte key. Nonces are 24 bytes.
func New(key []byte) (cipher.AEAD, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("an XAES-256-GCM key has %d bytes, not %d", KeySize, len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	a := &aead{k: block}
	block.Encrypt(a.k1[:], a.k1[:]) // L
	var carry byte
	for i := len(a.k1) - 1; i >= 0; i-- {
		a.k1[i], carry = a.k1[i]<<1|carry, a.k1[i]>>7
	}
	a.k1[len(a.k1)-1] ^= carry * 0x87 // without a branch on the key
	return a, nil
}

func (a *aead) NonceSize() int { return NonceSize }
func (a *aead) Overhead() int  { return Overhead }

// derive makes the one-message AES-256-GCM: steps 3 to 6 of c2sp.org/XAES-256-GCM.
func (a *aead) derive(nonce []byte) cipher.AEAD {
	if len(nonce) != NonceSize {
		panic("internal error: xaes: a nonce has 24 bytes")
	}
	var kx [KeySize]byte
	for i, half := range [][]byte{kx[:16], kx[16:]} {
		half[1], half[2] = byte(i+1), 'X'
		copy(half[4:], nonce[:12])
		for j := range half {
			half[j] ^= a.k1[j]
		}
		a.k.Encrypt(half, half)
	}
	block, err := aes.NewCipher(kx[:])
	clear(kx[:])
	if err != nil {
		panic("internal error: xaes: " + err.Error())
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic("internal error: xaes: " + err.Error())
	}
	return gcm
}

func (a *aead) Seal(dst, nonce, plaintext, aad []byte) []byte {
	return a.derive(nonce).Seal(dst, nonce[12:], plaintext, aad)
}

func (a *aead) Open(dst, nonce, ciphertext, aad []byte) ([]byte, error) {
	out, err := a.derive(nonce).Open(dst, nonce[12:], ciphertext, aad)
	if err != nil {
		return nil, ErrOpen
	}
	return out, nil
}

// ErrOpen means that the box was not sealed with this key for this purpose, or
// that a bit of it changed since. Which of these, nobody can say.
var ErrOpen = errors.New("the key does not fit, or the bytes were changed")
