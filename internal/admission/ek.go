package admission

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// Templates are the endorsement keys that are challenged, by the names that go
// over the wire. The template is the profile's for that kind of key, never the
// caller's: a key with other attributes would answer for objects that are not
// in its TPM.
var Templates = map[string]client.EK{"RSA-2048": client.EKRSA2048, "P-256": client.EKP256, "P-384": client.EKHighP384}

// EndorsementArea is the public area of a recorded endorsement key, given as a
// SubjectPublicKeyInfo, and the name of its kind.
func EndorsementArea(spki []byte) (*tpm2.TPMTPublic, string, error) {
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, "", fmt.Errorf("reading the recorded endorsement key: %w", err)
	}
	kind := ""
	switch k := public.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() == 2048 {
			kind = "RSA-2048"
		}
	case *ecdsa.PublicKey:
		switch k.Curve.Params().BitSize {
		case 256:
			kind = "P-256"
		case 384:
			kind = "P-384"
		}
	}
	template, ok := Templates[kind]
	if !ok {
		return nil, "", errors.New("the recorded endorsement key is none of RSA-2048, P-256 and P-384")
	}
	area := client.EKTemplate(template)
	key, err := client.PublicArea(public, 0)
	if err != nil {
		return nil, "", err
	}
	area.Unique = key.Unique
	return &area, kind, nil
}

// EKName is the Name (Part 1, 14) of a recorded endorsement key.
func EKName(spki []byte) ([]byte, error) {
	area, _, err := EndorsementArea(spki)
	if err != nil {
		return nil, err
	}
	return attest.Name(tpm2.Marshal(area))
}
