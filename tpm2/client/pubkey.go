package client

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// PublicKey converts a public area to an *rsa.PublicKey or *ecdsa.PublicKey.
func PublicKey(pub *tpm2.TPMTPublic) (crypto.PublicKey, error) {
	switch pub.Type {
	case tpm2.AlgRSA:
		p := pub.Parameters.RSADetail
		if len(pub.Unique.RSA) == 0 || len(pub.Unique.RSA)*8 != int(p.KeyBits) || pub.Unique.RSA[0]&0x80 == 0 {
			return nil, fmt.Errorf("the modulus is not one of %d bits", p.KeyBits)
		}
		e := int64(p.Exponent)
		if e == 0 { // Part 2, 12.2.3.5: zero stands for 2^16+1
			e = 65537
		}
		if e < 3 || e&1 == 0 || e > 1<<31-1 {
			return nil, fmt.Errorf("%d cannot be an RSA exponent", e)
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(pub.Unique.RSA), E: int(e)}, nil
	case tpm2.AlgECC:
		c := curve(pub.Parameters.ECCDetail.CurveID)
		if c == nil {
			return nil, fmt.Errorf("curve 0x%x is not supported here", uint16(pub.Parameters.ECCDetail.CurveID))
		}
		n := (c.Params().BitSize + 7) / 8
		x, y := pub.Unique.ECC.X, pub.Unique.ECC.Y
		if len(x) > n || len(y) > n || len(x) == 0 || len(y) == 0 {
			return nil, errors.New("the point's coordinates have a wrong size")
		}
		b := make([]byte, 1+2*n)
		b[0] = 4
		copy(b[1+n-len(x):], x)
		copy(b[1+2*n-len(y):], y)
		return ecdsa.ParseUncompressedPublicKey(c, b)
	}
	return nil, fmt.Errorf("an object of type 0x%x has no public key", uint16(pub.Type))
}

func curve(id tpm2.ECCCurve) elliptic.Curve {
	switch id {
	case tpm2.ECCNISTP256:
		return elliptic.P256()
	case tpm2.ECCNISTP384:
		return elliptic.P384()
	case tpm2.ECCNISTP521:
		return elliptic.P521()
	}
	return nil
}

func curveID(c elliptic.Curve) tpm2.ECCCurve {
	switch c {
	case elliptic.P256():
		return tpm2.ECCNISTP256
	case elliptic.P384():
		return tpm2.ECCNISTP384
	case elliptic.P521():
		return tpm2.ECCNISTP521
	}
	return tpm2.ECCNone
}

// PublicArea is the public area of an external key that signs or decrypts, for
// TPM2_LoadExternal and as the start of an import: with nameAlg SHA-256, no
// scheme, no policy. attrs are the key's purposes.
func PublicArea(key crypto.PublicKey, attrs tpm2.ObjectAttributes) (*tpm2.TPMTPublic, error) {
	none := tpm2.TPMTSymDefObject{Algorithm: tpm2.AlgNull}
	pub := &tpm2.TPMTPublic{NameAlg: tpm2.AlgSHA256, ObjectAttributes: attrs}
	switch key := key.(type) {
	case *rsa.PublicKey:
		e := uint32(key.E)
		if e == 65537 {
			e = 0
		}
		pub.Type = tpm2.AlgRSA
		pub.Parameters.RSADetail = tpm2.TPMSRSAParms{Symmetric: none, Scheme: tpm2.TPMTRSAScheme{Scheme: tpm2.AlgNull}, KeyBits: uint16(key.N.BitLen()), Exponent: e}
		pub.Unique.RSA = key.N.Bytes()
	case *ecdsa.PublicKey:
		id := curveID(key.Curve)
		if id == tpm2.ECCNone {
			return nil, errors.New("the key's curve is none that a TPM has")
		}
		b, err := key.Bytes()
		if err != nil {
			return nil, err
		}
		n := len(b) / 2
		pub.Type = tpm2.AlgECC
		pub.Parameters.ECCDetail = tpm2.TPMSECCParms{Symmetric: none, Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.AlgNull}, CurveID: id, KDF: tpm2.TPMTKDFScheme{Scheme: tpm2.AlgNull}}
		pub.Unique.ECC = tpm2.TPMSECCPoint{X: b[1 : 1+n], Y: b[1+n:]}
	default:
		return nil, fmt.Errorf("a TPM has no keys of type %T", key)
	}
	return pub, nil
}
