package client

import (
	"errors"
	"fmt"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// Credential is a secret that only one TPM reads, and only if it holds the
// object with a certain Name: the contents of a TPM2B_ID_OBJECT and a
// TPM2B_ENCRYPTED_SECRET.
type Credential struct {
	Blob   []byte
	Secret []byte // encrypted to the EK
}

// MakeCredential encrypts secret to the TPM with that EK and to the object with
// that Name, without a TPM (Part 1, 21). The secret is no longer than the digest
// of the EK's name algorithm.
func MakeCredential(ek *tpm2.TPMTPublic, name, secret []byte) (*Credential, error) {
	blob, enc, err := makeCredential(ek, name, secret)
	if err != nil {
		return nil, fmt.Errorf("making a credential: %w", err)
	}
	return &Credential{blob, enc}, nil
}

func makeCredential(ek *tpm2.TPMTPublic, name, secret []byte) (blob, enc []byte, err error) {
	if len(secret) == 0 || len(secret) > ek.NameAlg.DigestSize() {
		return nil, nil, fmt.Errorf("the secret has %d octets, this EK takes 1 to %d", len(secret), ek.NameAlg.DigestSize())
	}
	seed, enc, err := shareSecret(ek, "IDENTITY")
	if err != nil {
		return nil, nil, err
	}
	e := tpm2.NewEncoder(nil)
	e.Buf(secret)
	blob, err = protect(ek, seed, name, e.Out())
	clear(seed)
	return blob, enc, err
}

// protect encrypts data in place and puts an HMAC before it, under keys derived
// from seed and bound to name: the outer wrap of credentials and duplicates (Part 1, 20.3, 21.4).
func protect(parent *tpm2.TPMTPublic, seed, name, data []byte) ([]byte, error) {
	sym, err := symmetricOf(parent)
	if err != nil {
		return nil, err
	}
	bits := int(sym.KeyBits.AES)
	key := crypt.KDFa(parent.NameAlg, seed, "STORAGE", name, nil, bits)
	crypt.CFBEncrypt(key, nil, data)
	clear(key)
	mac := crypt.KDFa(parent.NameAlg, seed, "INTEGRITY", nil, nil, parent.NameAlg.DigestSize()*8)
	e := tpm2.NewEncoder(nil)
	e.Buf(crypt.HMAC(parent.NameAlg, mac, data, name))
	clear(mac)
	e.Bytes(data)
	return e.Out(), nil
}

// symmetricOf is the algorithm by which a storage key protects its children.
func symmetricOf(parent *tpm2.TPMTPublic) (tpm2.TPMTSymDefObject, error) {
	var sym tpm2.TPMTSymDefObject
	switch parent.Type {
	case tpm2.AlgRSA:
		sym = parent.Parameters.RSADetail.Symmetric
	case tpm2.AlgECC:
		sym = parent.Parameters.ECCDetail.Symmetric
	}
	if !parent.ObjectAttributes.Has(tpm2.Restricted | tpm2.Decrypt) {
		return sym, errors.New("the key is not a storage key: it must be restricted and decrypt")
	}
	bits := sym.KeyBits.AES
	if sym.Algorithm != tpm2.AlgAES || sym.Mode.AES != tpm2.AlgCFB || bits != 128 && bits != 192 && bits != 256 {
		return sym, errors.New("the key protects its children with something other than AES in CFB mode")
	}
	return sym, nil
}

// ActivateCredential has the TPM read a credential. object authorizes the
// object in the ADMIN role, ek the EK: see [Client.EKSession].
func (c *Client) ActivateCredential(object, ek Auth, cred *Credential, extra ...Auth) ([]byte, error) {
	var rsp tpm2.ActivateCredentialResponse
	cmd := tpm2.ActivateCredential{
		ActivateHandle: entityOf(object).Handle, KeyHandle: entityOf(ek).Handle,
		CredentialBlob: cred.Blob, Secret: cred.Secret,
	}
	err := c.Execute(&cmd, &rsp, with(extra, object, ek)...)
	return rsp.CertInfo, err
}
