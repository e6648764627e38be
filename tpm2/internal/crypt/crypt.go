// Package crypt is the cryptography of Part 1 that both sides of the wire
// compute: hashes by TPM algorithm, KDFa and KDFe, the two ways of encrypting a
// parameter, and Names. It holds no keys and draws no random numbers; what only
// a TPM does is in package engine.
//
// Begin with [KDFa].
package crypt

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	_ "crypto/sha1" // banks and old templates still use it
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"hash"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// Hash is the Go hash for a TPM algorithm; 0 when there is none here.
func Hash(alg tpm2.AlgID) crypto.Hash {
	switch alg {
	case tpm2.AlgSHA1:
		return crypto.SHA1
	case tpm2.AlgSHA256:
		return crypto.SHA256
	case tpm2.AlgSHA384:
		return crypto.SHA384
	case tpm2.AlgSHA512:
		return crypto.SHA512
	}
	return 0
}

// New starts a digest with alg, which must be one that [Hash] knows.
func New(alg tpm2.AlgID) hash.Hash { return Hash(alg).New() }

// Digest hashes the parts one after the other.
func Digest(alg tpm2.AlgID, parts ...[]byte) []byte {
	h := New(alg)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// HMAC is the keyed hash over the parts one after the other.
func HMAC(alg tpm2.AlgID, key []byte, parts ...[]byte) []byte {
	m := NewHMAC(alg, key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

// NewHMAC starts a keyed hash. A key of any size is allowed: a TPM takes what it is given.
func NewHMAC(alg tpm2.AlgID, key []byte) hash.Hash { return hmac.New(Hash(alg).New, key) }

// KDFa derives bits from key in counter mode (Part 1, 8.4.10.2; SP 800-108).
// label is given without its terminating zero octet.
func KDFa(alg tpm2.AlgID, key []byte, label string, contextU, contextV []byte, bits int) []byte {
	return KDFaOf(NewHMAC(alg, key), label, contextU, contextV, bits)
}

// KDFaOf is [KDFa] with a keyed hash that nothing was written to.
func KDFaOf(m hash.Hash, label string, contextU, contextV []byte, bits int) []byte {
	n := (bits + 7) / 8
	out := make([]byte, 0, n+64)
	block := make([]byte, 4, 4+len(label)+1+len(contextU)+len(contextV)+4) // the counter first
	block = append(append(block, label...), 0)
	block = append(append(block, contextU...), contextV...)
	block = binary.BigEndian.AppendUint32(block, uint32(bits))
	for i := uint32(1); len(out) < n; i++ {
		if i > 1 { // one block is the usual, and the first Reset of an HMAC costs as much as making it
			m.Reset()
		}
		binary.BigEndian.PutUint32(block, i)
		m.Write(block)
		out = m.Sum(out)
	}
	return maskBits(out[:n], bits)
}

// KDFe derives bits from the x coordinate of a shared point (Part 1, 8.4.10.3; SP 800-56A).
// label is given without its terminating zero octet.
func KDFe(alg tpm2.AlgID, z []byte, label string, partyU, partyV []byte, bits int) []byte {
	n := (bits + 7) / 8
	out := make([]byte, 0, n+64)
	var word [4]byte
	for i := uint32(1); len(out) < n; i++ {
		h := New(alg)
		binary.BigEndian.PutUint32(word[:], i)
		h.Write(word[:])
		h.Write(z)
		h.Write([]byte(label))
		h.Write([]byte{0})
		h.Write(partyU)
		h.Write(partyV)
		out = h.Sum(out)
	}
	return maskBits(out[:n], bits)
}

// maskBits clears the bits above the wanted number in the first octet.
func maskBits(b []byte, bits int) []byte {
	if r := bits % 8; r != 0 {
		b[0] &= 1<<r - 1
	}
	return b
}

// CFBEncrypt encrypts data in place with AES in CFB mode with a full-block shift.
// The key is 16, 24 or 32 octets, the IV 16, or nil for zeros. It returns the
// last ciphertext block, the IV to go on with. crypto/cipher has this mode only
// as deprecated code; it is two lines of XOR.
func CFBEncrypt(key, iv, data []byte) (next []byte) { return cfb(key, iv, data, false) }

// CFBDecrypt is the inverse of [CFBEncrypt].
func CFBDecrypt(key, iv, data []byte) (next []byte) { return cfb(key, iv, data, true) }

func cfb(key, iv, data []byte, decrypt bool) []byte {
	block := mustAES(key)
	var reg, ks [aes.BlockSize]byte
	copy(reg[:], iv)
	for len(data) > 0 {
		block.Encrypt(ks[:], reg[:])
		n := min(len(data), aes.BlockSize)
		reg = ks // a last, short block is followed by its unused key stream, as libtpms has it
		if decrypt {
			copy(reg[:], data[:n])
		}
		subtle.XORBytes(data[:n], data[:n], ks[:n])
		if !decrypt {
			copy(reg[:], data[:n])
		}
		data = data[n:]
	}
	return reg[:]
}

func mustAES(key []byte) cipher.Block {
	b, err := aes.NewCipher(key)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return b
}

// XORObfuscate combines data in place with a mask from key and the nonces (Part 1, 8.4.7.3).
func XORObfuscate(alg tpm2.AlgID, key, contextU, contextV, data []byte) {
	subtle.XORBytes(data, data, KDFa(alg, key, "XOR", contextU, contextV, len(data)*8))
}

// Trim strips trailing zero octets, as every authValue is (Part 1, 16.6.4.3).
func Trim(auth []byte) []byte {
	for len(auth) > 0 && auth[len(auth)-1] == 0 {
		auth = auth[:len(auth)-1]
	}
	return auth
}

// HandleName is the Name of an entity that has no public area: its handle (Part 1, 13).
func HandleName(h tpm2.Handle) []byte { return binary.BigEndian.AppendUint32(nil, uint32(h)) }

// ObjectName is the Name of an object: nameAlg and the digest of its public area.
// An object with nameAlg TPM_ALG_NULL has an empty Name.
func ObjectName(p *tpm2.TPMTPublic) []byte {
	if p.NameAlg == tpm2.AlgNull {
		return nil
	}
	return nameOf(p.NameAlg, tpm2.Marshal(p))
}

// NVName is the Name of an NV index.
func NVName(p *tpm2.TPMSNVPublic) []byte { return nameOf(p.NameAlg, tpm2.Marshal(p)) }

func nameOf(alg tpm2.AlgID, wire []byte) []byte {
	out := binary.BigEndian.AppendUint16(nil, uint16(alg))
	return append(out, Digest(alg, wire)...)
}
