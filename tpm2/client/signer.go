package client

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// Authorize makes an authorization for one use of a key: for instance a policy
// session that has fulfilled the policy, as [SessionAuth.Once].
type Authorize func() (Auth, error)

// Private is a loaded key as a crypto.Signer and crypto.Decrypter, fit for
// crypto/tls and crypto/x509. RSA keys for TLS come from [TLSTemplate].
type Private struct {
	c    *Client
	key  *Key
	pub  crypto.PublicKey
	auth Authorize
}

var (
	_ crypto.Signer    = (*Private)(nil)
	_ crypto.Decrypter = (*Private)(nil)
)

// Private returns the private key that is in the TPM at k. A nil auth
// authorizes with k's authValue as a password.
func (c *Client) Private(k *Key, auth Authorize) (*Private, error) {
	pub, err := PublicKey(&k.Public)
	if err != nil {
		return nil, fmt.Errorf("using the key %v: %w", k.Handle, err)
	}
	if auth == nil {
		e := k.Entity
		auth = func() (Auth, error) { return e, nil }
	}
	return &Private{c, k, pub, auth}, nil
}

// Public is the public key, an *rsa.PublicKey or *ecdsa.PublicKey.
func (p *Private) Public() crypto.PublicKey { return p.pub }

// Sign signs a digest: ECDSA as DER, RSASSA, or RSAPSS with *rsa.PSSOptions. The
// TPM takes its own randomness; the reader is not used.
func (p *Private) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	b, err := p.sign(digest, opts)
	if err != nil {
		return nil, fmt.Errorf("signing with the key %v: %w", p.key.Handle, err)
	}
	return b, nil
}

// algOf is the TPM's algorithm for a hash, 0 for none.
func algOf(h crypto.Hash) tpm2.AlgID {
	for _, a := range []tpm2.AlgID{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512} {
		if crypt.Hash(a) == h {
			return a
		}
	}
	return 0
}

func (p *Private) sign(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	alg := algOf(opts.HashFunc())
	if alg == 0 {
		return nil, fmt.Errorf("a TPM signs digests only, and none of %v", opts.HashFunc())
	}
	if len(digest) != alg.DigestSize() {
		return nil, fmt.Errorf("the digest has %d octets, %v has %d", len(digest), opts.HashFunc(), alg.DigestSize())
	}
	scheme := tpm2.TPMTSigScheme{Scheme: tpm2.AlgECDSA}
	pss, isPSS := opts.(*rsa.PSSOptions)
	if _, ok := p.pub.(*rsa.PublicKey); ok {
		scheme.Scheme = tpm2.AlgRSASSA
		if isPSS {
			scheme.Scheme = tpm2.AlgRSAPSS
		}
	}
	scheme.Details.Any.HashAlg = alg
	auth, err := p.auth()
	if err != nil {
		return nil, err
	}
	var rsp tpm2.SignResponse
	cmd := tpm2.Sign{
		KeyHandle: p.key.Handle, Digest: digest, InScheme: scheme,
		// No ticket: the key is not restricted, so the digest may come from outside.
		Validation: tpm2.TPMTTkHashCheck{Tag: tpm2.STHashCheck, Hierarchy: tpm2.RHNull},
	}
	if err := p.c.Execute(&cmd, &rsp, auth); err != nil {
		return nil, err
	}
	s := &rsp.Signature
	if s.SigAlg != scheme.Scheme || signatureHash(s) != alg {
		return nil, fmt.Errorf("TPM2_Sign: %w: the signature is of another scheme", ErrResponse)
	}
	if scheme.Scheme == tpm2.AlgECDSA {
		return ecdsaDER(s)
	}
	if isPSS {
		// TPMs choose the salt's length themselves, and TLS 1.3 wants that of the digest.
		if err := rsa.VerifyPSS(p.pub.(*rsa.PublicKey), opts.HashFunc(), digest, s.Signature.RSA.Sig, pss); err != nil {
			return nil, errors.New("this TPM salts RSAPSS otherwise than asked for; use an ECDSA key, or RSASSA with TLS 1.2")
		}
	}
	return s.Signature.RSA.Sig, nil
}

// Decrypt decrypts with an RSA key what was encrypted by OAEP; opts is an
// *rsa.OAEPOptions. PKCS #1 v1.5 is left out: whoever sees it fail can decrypt by it.
func (p *Private) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	b, err := p.decrypt(ciphertext, opts)
	if err != nil {
		return nil, fmt.Errorf("decrypting with the key %v: %w", p.key.Handle, err)
	}
	return b, nil
}

func (p *Private) decrypt(ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	if _, ok := p.pub.(*rsa.PublicKey); !ok {
		return nil, errors.New("only RSA keys decrypt; an ECC key agrees on a secret by ECDH")
	}
	o, ok := opts.(*rsa.OAEPOptions)
	if !ok {
		return nil, errors.New("only OAEP is decrypted: give *rsa.OAEPOptions")
	}
	alg := algOf(o.Hash)
	switch {
	case alg == 0:
		return nil, fmt.Errorf("a TPM has no OAEP with %v", o.Hash)
	case o.MGFHash != 0 && o.MGFHash != o.Hash:
		return nil, errors.New("a TPM has no OAEP with two hash algorithms")
	case len(o.Label) > 0 && o.Label[len(o.Label)-1] != 0:
		return nil, errors.New("a TPM's OAEP labels end in a zero octet (Part 3, 14.2)")
	}
	cmd := tpm2.RSADecrypt{KeyHandle: p.key.Handle, CipherText: ciphertext, InScheme: tpm2.TPMTRSADecrypt{Scheme: tpm2.AlgOAEP}, Label: o.Label}
	cmd.InScheme.Details.Any.HashAlg = alg
	auth, err := p.auth()
	if err != nil {
		return nil, err
	}
	var rsp tpm2.RSADecryptResponse
	err = p.c.Execute(&cmd, &rsp, auth)
	return rsp.Message, err
}

// ECDH is the x coordinate of the point shared with a peer, in the curve's full size.
func (p *Private) ECDH(peer *ecdh.PublicKey) ([]byte, error) {
	own, ok := p.pub.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("agreeing on a secret with the key %v: it is not an ECC key", p.key.Handle)
	}
	if k, err := own.ECDH(); err != nil || k.Curve() != peer.Curve() {
		return nil, fmt.Errorf("agreeing on a secret with the key %v: the peer's is on another curve", p.key.Handle)
	}
	auth, err := p.auth()
	if err != nil {
		return nil, err
	}
	x, y := coordinates(peer)
	var rsp tpm2.ECDHZGenResponse
	if err := p.c.Execute(&tpm2.ECDHZGen{KeyHandle: p.key.Handle, InPoint: tpm2.TPMSECCPoint{X: x, Y: y}}, &rsp, auth); err != nil {
		return nil, err
	}
	if len(rsp.OutPoint.X) > len(x) {
		return nil, fmt.Errorf("TPM2_ECDH_ZGen: %w: the point is on no such curve", ErrResponse)
	}
	z := make([]byte, len(x))
	copy(z[len(x)-len(rsp.OutPoint.X):], rsp.OutPoint.X)
	return z, nil
}
