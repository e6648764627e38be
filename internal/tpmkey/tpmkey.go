// Package tpmkey reads key files whose private key only one TPM can open: "TSS2
// PRIVATE KEY" in PEM, as tpm2-openssl, tpm2-tss-engine and the kernel's trusted
// keys write them (ASN.1 TPMKey, draft-bottomley-tpm2-keys, section 3.1), and
// loads them into that TPM.
//
// It uses keys without a policy, under a persistent parent or under the primary
// storage key that these programs make. It writes no such file.
//
// Begin with [Parse] and [File.Load].
package tpmkey

import (
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// PEMType is the label of such a file.
const PEMType = "TSS2 PRIVATE KEY"

// maxFile bounds the DER: two TPM structures of at most 2 KiB.
const maxFile = 16 << 10

// loadable is id-loadablekey.
var loadable = asn1.ObjectIdentifier{2, 23, 133, 10, 1, 3}

// File is a key file.
type File struct {
	EmptyAuth bool        // no authValue is needed
	Parent    tpm2.Handle // a persistent key, or a hierarchy
	RSAParent bool        // the hierarchy's primary key is RSA
	Blob      client.Blob
}

// Parse reads the file, PEM or the DER inside.
func Parse(b []byte) (*File, error) {
	if block, _ := pem.Decode(b); block != nil {
		if block.Type != PEMType {
			return nil, fmt.Errorf("reading a TPM key: a %.40q, not a %s", block.Type, PEMType)
		}
		b = block.Bytes
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("reading a TPM key: %d bytes; the limit is %d", len(b), maxFile)
	}
	f, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("reading a TPM key: %w", err)
	}
	return f, nil
}

var errNotDER = errors.New("it is not a TPMKey in DER")

func parse(b []byte) (*File, error) {
	in := cryptobyte.String(b)
	var key, public, private cryptobyte.String
	var typ asn1.ObjectIdentifier
	f := new(File)
	if !in.ReadASN1(&key, der.SEQUENCE) || !in.Empty() || !key.ReadASN1ObjectIdentifier(&typ) {
		return nil, errNotDER
	}
	if !typ.Equal(loadable) {
		return nil, fmt.Errorf("its type is %v, not a loadable key", typ)
	}
	for tag := range uint8(6) {
		var element cryptobyte.String
		var there bool
		if !key.ReadOptionalASN1(&element, &there, der.Tag(tag).ContextSpecific().Constructed()) {
			return nil, errNotDER
		}
		if !there {
			continue
		}
		switch tag {
		case 0, 5:
			v, ok := boolean(element)
			if !ok {
				return nil, errNotDER
			}
			if tag == 0 {
				f.EmptyAuth = v
			} else {
				f.RSAParent = v
			}
		case 4: // a description
		default: // 1 policy, 2 secret, 3 authPolicy
			return nil, errors.New("it may be used under a policy only, or is to be imported first")
		}
	}
	var parent int64
	if !key.ReadASN1Integer(&parent) || !key.ReadASN1(&public, der.OCTET_STRING) || !key.ReadASN1(&private, der.OCTET_STRING) || !key.Empty() {
		return nil, errNotDER
	}
	// Some write the handle as a signed 32-bit number.
	if parent < -1<<31 || parent >= 1<<32 {
		return nil, fmt.Errorf("its parent is %d", parent)
	}
	f.Parent = tpm2.Handle(uint32(parent))
	area, err := sized(public)
	if err != nil {
		return nil, err
	}
	if err := tpm2.Unmarshal(area, &f.Blob.Public); err != nil {
		return nil, fmt.Errorf("its public area: %w", err)
	}
	if f.Blob.Private, err = sized(private); err != nil {
		return nil, err
	}
	return f, nil
}

// boolean reads a BOOLEAN: true is any octet but zero, for openssl writes 01 or FF.
func boolean(in cryptobyte.String) (v, ok bool) {
	var b cryptobyte.String
	ok = in.ReadASN1(&b, der.BOOLEAN) && in.Empty() && len(b) == 1
	return ok && b[0] != 0, ok
}

// sized takes the content out of a TPM2B.
func sized(b []byte) ([]byte, error) {
	if len(b) < 2 || int(b[0])<<8|int(b[1]) != len(b)-2 {
		return nil, errors.New("a TPM2B in it has not the length that it says")
	}
	return b[2:], nil
}

// Load loads the key into the TPM that made it, with its authValue. Flush it afterwards.
func (f *File) Load(c *client.Client, auth client.AuthValue) (*client.Key, error) {
	key, err := f.load(c, auth)
	if err != nil {
		return nil, fmt.Errorf("loading a TPM key: %w", err)
	}
	return key, nil
}

func (f *File) load(c *client.Client, auth client.AuthValue) (*client.Key, error) {
	if f.Parent>>24 == 0x81 {
		parent, err := c.Key(f.Parent, nil)
		if err != nil {
			return nil, fmt.Errorf("its parent %v: %w", f.Parent, err)
		}
		return c.Load(parent.Entity, &f.Blob, auth)
	}
	switch f.Parent {
	case tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHNull, tpm2.RHPlatform:
	default:
		return nil, fmt.Errorf("its parent is %v: neither a persistent key nor a hierarchy", f.Parent)
	}
	kind := client.P256
	if f.RSAParent {
		kind = client.RSA2048
	}
	// The draft's primary key has an empty unique field, as tpm2-openssl makes it;
	// the TCG's storage root key has one of zeros.
	filled := client.SRKTemplate(kind)
	empty := filled
	empty.Unique = tpm2.TPMUPublicID{}
	var first error
	for _, template := range []tpm2.TPMTPublic{empty, filled} {
		parent, err := c.CreatePrimary(client.Hierarchy(f.Parent, nil), template)
		if err != nil {
			return nil, fmt.Errorf("making its parent: %w", err)
		}
		key, err := c.Load(parent.Entity, &f.Blob, auth)
		if ferr := c.Flush(parent.Handle); err == nil && ferr != nil {
			return nil, ferr
		}
		if err == nil {
			return key, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}
