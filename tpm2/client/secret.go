package client

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// shareSecret makes a secret that only the TPM with the private part of pub can
// read from encrypted: by RSA-OAEP (Part 1, 43.10) or one-pass ECDH (Part 1, 44.7).
// label is SECRET, IDENTITY or DUPLICATE, without its terminating zero octet.
func shareSecret(pub *tpm2.TPMTPublic, label string) (secret, encrypted []byte, err error) {
	if crypt.Hash(pub.NameAlg) == 0 {
		return nil, nil, fmt.Errorf("the key's name algorithm 0x%x is not supported here", uint16(pub.NameAlg))
	}
	if !pub.ObjectAttributes.Has(tpm2.Decrypt) {
		return nil, nil, errors.New("the key is not one that decrypts")
	}
	key, err := PublicKey(pub)
	if err != nil {
		return nil, nil, err
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		// The size of the secret is that of the name algorithm's digest, the label ends in a zero octet.
		secret = make([]byte, pub.NameAlg.DigestSize())
		rand.Read(secret)
		encrypted, err = rsa.EncryptOAEP(crypt.New(pub.NameAlg), rand.Reader, key, secret, append([]byte(label), 0))
		return secret, encrypted, err
	case interface {
		ECDH() (*ecdh.PublicKey, error)
	}:
		peer, err := key.ECDH()
		if err != nil {
			return nil, nil, err
		}
		ephemeral, err := peer.Curve().GenerateKey(rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		z, err := ephemeral.ECDH(peer)
		if err != nil {
			return nil, nil, err
		}
		x, y := coordinates(ephemeral.PublicKey())
		px, _ := coordinates(peer)
		// All x coordinates are padded to the size of the curve (Part 1, 44.8).
		secret = crypt.KDFe(pub.NameAlg, z, label, x, px, pub.NameAlg.DigestSize()*8)
		clear(z)
		return secret, tpm2.Marshal(&tpm2.TPMSECCPoint{X: x, Y: y}), nil
	}
	return nil, nil, fmt.Errorf("a key of type %T cannot receive a secret", key)
}

// coordinates are those of a NIST point, in the curve's full size.
func coordinates(p *ecdh.PublicKey) (x, y []byte) {
	b := p.Bytes()[1:] // 0x04: not compressed
	return b[:len(b)/2], b[len(b)/2:]
}
