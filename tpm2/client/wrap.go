package client

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// Duplicate is an object on its way to a new parent: the contents of what
// TPM2_Import takes, encrypted to that parent without an inner wrap.
type Duplicate struct {
	Public tpm2.TPMTPublic
	Blob   []byte // TPM2B_PRIVATE
	Seed   []byte // TPM2B_ENCRYPTED_SECRET
}

// WrapForImport encrypts a key of ours to a TPM, without one (Part 1, 20.3.2):
// parent is a storage key there, key an *rsa.PrivateKey or *ecdsa.PrivateKey, o
// its authValue and, in Public, its attributes, policy and schemes; type,
// parameters and unique field are filled in. Give it to [Client.Import].
func WrapForImport(parent *tpm2.TPMTPublic, key any, o NewObject) (*Duplicate, error) {
	d, err := wrapKey(parent, key, o)
	if err != nil {
		return nil, fmt.Errorf("wrapping a key for import: %w", err)
	}
	return d, nil
}

func wrapKey(parent *tpm2.TPMTPublic, key any, o NewObject) (*Duplicate, error) {
	pub := o.Public
	s := tpm2.TPMTSensitive{AuthValue: o.Auth.Secret()}
	var area *tpm2.TPMTPublic
	var err error
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if len(key.Primes) != 2 {
			return nil, fmt.Errorf("the RSA key has %d primes, TPMs take two", len(key.Primes))
		}
		if area, err = PublicArea(&key.PublicKey, 0); err != nil {
			return nil, err
		}
		if pub.Type == tpm2.AlgRSA { // keep the wanted scheme
			area.Parameters.RSADetail.Scheme = pub.Parameters.RSADetail.Scheme
		}
		s.Sensitive.RSA = key.Primes[0].FillBytes(make([]byte, len(area.Unique.RSA)/2))
	case *ecdsa.PrivateKey:
		if area, err = PublicArea(&key.PublicKey, 0); err != nil {
			return nil, err
		}
		if pub.Type == tpm2.AlgECC {
			area.Parameters.ECCDetail.Scheme = pub.Parameters.ECCDetail.Scheme
		}
		if s.Sensitive.ECC, err = key.Bytes(); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("a TPM has no keys of type %T", key)
	}
	pub.Type, pub.Parameters, pub.Unique = area.Type, area.Parameters, area.Unique
	s.SensitiveType = pub.Type
	return wrap(parent, &pub, &s)
}

// WrapSecretForImport encrypts data to a TPM as an object that TPM2_Unseal opens
// there, under o's policy and authValue. o.Public is as [SealTemplate] makes it.
func WrapSecretForImport(parent *tpm2.TPMTPublic, o NewObject) (*Duplicate, error) {
	pub := o.Public
	if pub.Type != tpm2.AlgKeyedHash || crypt.Hash(pub.NameAlg) == 0 {
		return nil, errors.New("wrapping a secret for import: its public area is not one of a data object")
	}
	if err := sealable(o.Data); err != nil {
		return nil, fmt.Errorf("wrapping a secret for import: %w", err)
	}
	s := tpm2.TPMTSensitive{SensitiveType: pub.Type, AuthValue: o.Auth.Secret(), SeedValue: make([]byte, pub.NameAlg.DigestSize())}
	rand.Read(s.SeedValue)
	s.Sensitive.Bits = o.Data
	// Part 1, 24.5.3.1: unique is the digest of the seed and the data.
	pub.Unique.KeyedHash = crypt.Digest(pub.NameAlg, s.SeedValue, o.Data)
	d, err := wrap(parent, &pub, &s)
	if err != nil {
		return nil, fmt.Errorf("wrapping a secret for import: %w", err)
	}
	return d, nil
}

func wrap(parent, pub *tpm2.TPMTPublic, s *tpm2.TPMTSensitive) (*Duplicate, error) {
	if crypt.Hash(pub.NameAlg) == 0 {
		return nil, fmt.Errorf("the object's name algorithm 0x%x is not supported here", uint16(pub.NameAlg))
	}
	// What comes from outside is fixed to no TPM and not made by one (Part 3, 13.3.1).
	pub.ObjectAttributes &^= tpm2.FixedTPM | tpm2.FixedParent | tpm2.SensitiveDataOrigin
	seed, enc, err := shareSecret(parent, "DUPLICATE")
	if err != nil {
		return nil, err
	}
	e := tpm2.NewEncoder(nil)
	e.Buf(tpm2.Marshal(s))
	blob, err := protect(parent, seed, crypt.ObjectName(pub), e.Out())
	clear(seed)
	if err != nil {
		return nil, err
	}
	return &Duplicate{*pub, blob, enc}, nil
}

// Import gives a duplicate to its new parent; see [Client.Load] for what comes next.
func (c *Client) Import(parent Auth, d *Duplicate, extra ...Auth) (*Blob, error) {
	var rsp tpm2.ImportResponse
	cmd := tpm2.Import{
		ParentHandle: entityOf(parent).Handle, ObjectPublic: d.Public, Duplicate: d.Blob, InSymSeed: d.Seed,
		SymmetricAlg: tpm2.TPMTSymDefObject{Algorithm: tpm2.AlgNull},
	}
	if err := c.Execute(&cmd, &rsp, with(extra, parent)...); err != nil {
		return nil, err
	}
	return &Blob{rsp.OutPrivate, d.Public}, nil
}

// Duplicate encrypts an object to another parent. object authorizes it in the
// DUP role: a policy session with [Session.PolicyCommandCode] or
// [Session.PolicyDuplicationSelect].
func (c *Client) Duplicate(object Auth, pub *tpm2.TPMTPublic, newParent *Key, extra ...Auth) (*Duplicate, error) {
	var rsp tpm2.DuplicateResponse
	cmd := tpm2.Duplicate{ObjectHandle: entityOf(object).Handle, NewParentHandle: newParent.Handle, SymmetricAlg: tpm2.TPMTSymDefObject{Algorithm: tpm2.AlgNull}}
	if err := c.Execute(&cmd, &rsp, with(extra, object, About(newParent.Entity))...); err != nil {
		return nil, err
	}
	return &Duplicate{*pub, rsp.Duplicate, rsp.OutSymSeed}, nil
}
