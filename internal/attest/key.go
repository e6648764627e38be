package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // hashes of TPM names and signatures
	_ "crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// Key is an attestation key (AK) whose attributes were looked at: only a TPM
// can have made it, and it signs nothing but what a TPM says of itself.
// [NewKey] is the only door; keep a Key as long as the VM is known.
type Key struct {
	name   []byte
	public crypto.PublicKey
	scheme tpm2.AlgID
	hash   tpm2.AlgID
}

// Name is the key's Name: the nameAlg and the hash of its public area (Part 1, 14).
func (k *Key) Name() []byte { return bytes.Clone(k.name) }

// NewKey reads a TPMT_PUBLIC and refuses what must not attest.
func NewKey(public []byte) (*Key, error) {
	var p tpm2.TPMTPublic
	if err := tpm2.Unmarshal(public, &p); err != nil {
		return nil, fmt.Errorf("reading an attestation key: %v", err)
	}
	const must = tpm2.FixedTPM | tpm2.FixedParent | tpm2.SensitiveDataOrigin | tpm2.Restricted | tpm2.SignEncrypt
	switch {
	case !p.ObjectAttributes.Has(must):
		return nil, errors.New("reading an attestation key: it must be fixedTPM, fixedParent, sensitiveDataOrigin, restricted and for signing; otherwise software could have signed")
	case p.ObjectAttributes&tpm2.Decrypt != 0:
		return nil, errors.New("reading an attestation key: it can decrypt as well")
	}
	name, err := Name(public)
	if err != nil {
		return nil, err
	}
	k := &Key{name: name}
	if k.public, err = cryptoKey(&p); err != nil {
		return nil, err
	}
	switch p.Type {
	case tpm2.AlgRSA:
		k.scheme, k.hash = p.Parameters.RSADetail.Scheme.Scheme, p.Parameters.RSADetail.Scheme.Details.Any.HashAlg
	case tpm2.AlgECC:
		k.scheme, k.hash = p.Parameters.ECCDetail.Scheme.Scheme, p.Parameters.ECCDetail.Scheme.Details.Any.HashAlg
	}
	if k.scheme != tpm2.AlgRSASSA && k.scheme != tpm2.AlgRSAPSS && k.scheme != tpm2.AlgECDSA {
		return nil, fmt.Errorf("reading an attestation key: signing scheme 0x%04x; want RSASSA, RSAPSS or ECDSA", uint16(k.scheme))
	}
	if _, ok := hashOf(k.hash); !ok {
		return nil, fmt.Errorf("reading an attestation key: it signs with hash 0x%04x; want SHA-256 or stronger", uint16(k.hash))
	}
	return k, nil
}

// Name computes the Name of an object from its TPMT_PUBLIC (Part 1, 14).
func Name(public []byte) ([]byte, error) {
	var p tpm2.TPMTPublic
	if err := tpm2.Unmarshal(public, &p); err != nil {
		return nil, fmt.Errorf("reading a public area: %v", err)
	}
	h, ok := hashOf(p.NameAlg)
	if !ok {
		return nil, fmt.Errorf("reading a public area: name algorithm 0x%04x; want SHA-256 or stronger", uint16(p.NameAlg))
	}
	d := h.New()
	d.Write(public)
	return d.Sum(binary.BigEndian.AppendUint16(nil, uint16(p.NameAlg))), nil
}

// hashOf maps the hashes we accept in signatures and names; SHA-1 is not among them.
func hashOf(a tpm2.AlgID) (crypto.Hash, bool) {
	switch a {
	case tpm2.AlgSHA256:
		return crypto.SHA256, true
	case tpm2.AlgSHA384:
		return crypto.SHA384, true
	case tpm2.AlgSHA512:
		return crypto.SHA512, true
	}
	return 0, false
}

// cryptoKey turns a public area into a key for crypto/rsa or crypto/ecdsa.
func cryptoKey(p *tpm2.TPMTPublic) (crypto.PublicKey, error) {
	switch p.Type {
	case tpm2.AlgRSA:
		e := p.Parameters.RSADetail.Exponent
		if e == 0 {
			e = 65537 // Part 2, 12.2.3.5
		}
		n := new(big.Int).SetBytes(p.Unique.RSA)
		if n.BitLen() != int(p.Parameters.RSADetail.KeyBits) || n.BitLen() < 2048 || n.BitLen() > 4096 || e != 65537 {
			return nil, fmt.Errorf("reading an RSA key: %d bits, exponent %d; want 2048 to 4096 bits and 65537", n.BitLen(), e)
		}
		return &rsa.PublicKey{N: n, E: int(e)}, nil
	case tpm2.AlgECC:
		curve := map[tpm2.ECCCurve]elliptic.Curve{
			tpm2.ECCNISTP256: elliptic.P256(), tpm2.ECCNISTP384: elliptic.P384(), tpm2.ECCNISTP521: elliptic.P521(),
		}[p.Parameters.ECCDetail.CurveID]
		if curve == nil {
			return nil, fmt.Errorf("reading an ECC key: curve 0x%04x; want NIST P-256, P-384 or P-521", uint16(p.Parameters.ECCDetail.CurveID))
		}
		n := (curve.Params().BitSize + 7) / 8
		x, y := p.Unique.ECC.X, p.Unique.ECC.Y
		if len(x) > n || len(y) > n {
			return nil, errors.New("reading an ECC key: its point is too long for its curve")
		}
		point := make([]byte, 1+2*n)
		point[0] = 4
		copy(point[1+n-len(x):], x)
		copy(point[1+2*n-len(y):], y)
		key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
		if err != nil {
			return nil, fmt.Errorf("reading an ECC key: %v", err)
		}
		return key, nil
	}
	return nil, fmt.Errorf("reading a key: type 0x%04x; want RSA or ECC", uint16(p.Type))
}

var errSignature = errors.New("the signature is not by the recorded attestation key")

// attested reads "TPM2B_ATTEST, TPMT_SIGNATURE", checks the signature and
// returns what was signed. Nothing is interpreted before the signature holds,
// but the shape.
func (k *Key) attested(d *tpm2.Decoder) (*tpm2.TPMSAttest, error) {
	signed := d.Buf(1024)
	var sig tpm2.TPMTSignature
	d.Decode(&sig, false)
	d.Done()
	if err := d.Err(); err != nil {
		return nil, fmt.Errorf("it is malformed: %v", err)
	}
	// The TPM signs with the scheme of the key; another one is somebody else's idea.
	if sig.SigAlg != k.scheme {
		return nil, errSignature
	}
	h, _ := hashOf(k.hash)
	sum := h.New()
	sum.Write(signed)
	digest := sum.Sum(nil)
	ok := false
	switch key := k.public.(type) {
	case *rsa.PublicKey:
		s := sig.Signature.RSA
		if s.Hash != k.hash {
			return nil, errSignature
		}
		if k.scheme == tpm2.AlgRSASSA {
			ok = rsa.VerifyPKCS1v15(key, h, digest, s.Sig) == nil
		} else {
			ok = rsa.VerifyPSS(key, h, digest, s.Sig, nil) == nil
		}
	case *ecdsa.PublicKey:
		s := sig.Signature.ECC
		if s.Hash != k.hash {
			return nil, errSignature
		}
		ok = ecdsa.Verify(key, digest, new(big.Int).SetBytes(s.SignatureR), new(big.Int).SetBytes(s.SignatureS))
	}
	if !ok {
		return nil, errSignature
	}
	// A restricted key signs outside data only if it does not begin with
	// TPM_GENERATED_VALUE: the decoder insists on it.
	a := new(tpm2.TPMSAttest)
	if err := tpm2.Unmarshal(signed, a); err != nil {
		return nil, fmt.Errorf("what it signs is not an attestation: %v", err)
	}
	return a, nil
}
