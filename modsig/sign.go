package modsig

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// SignOptions say how a signature is made. The zero value is what the
// kernel's own sign-file does with sha256.
type SignOptions struct {
	// Hash is over the module: SHA-256 when zero. Some kernels have nothing
	// else built in.
	Hash crypto.Hash
	// Embed are the certificates to carry along, the signer's first. With
	// them a kernel that trusts only the CA finds the way to the signer.
	Embed []*x509.Certificate
	// ByKeyID names the signer by its subject key identifier. A kernel does
	// not find an embedded certificate by that.
	ByKeyID bool
}

// null is the ASN.1 NULL that RSA's algorithm identifier carries (RFC 3370, Section 3.2).
var null = []byte{5, 0}

// Sign returns content with a signature by key appended. cert names the
// signer and must be key's. Any signature that content has stays inside what
// is signed: cut it off with [Split] first.
func Sign(content []byte, key crypto.Signer, cert *x509.Certificate, o SignOptions) ([]byte, error) {
	if o.Hash == 0 {
		o.Hash = crypto.SHA256
	}
	oid, ok := oidOf(o.Hash)
	if !ok {
		return nil, fmt.Errorf("no module signature is made with %v", o.Hash)
	}
	if err := fits(key, cert); err != nil {
		return nil, err
	}
	sigAlg, err := signatureAlgorithm(cert, o.Hash)
	if err != nil {
		return nil, err
	}
	w := o.Hash.New()
	w.Write(content)
	sig, err := key.Sign(rand.Reader, w.Sum(nil), o.Hash)
	if err != nil {
		return nil, fmt.Errorf("signing with the key of %s: %w", cert.Subject, err)
	}
	digestAlg := Algorithm{OID: oid}
	s := SignerInfo{Version: 1, Issuer: cert.RawIssuer, Serial: cert.SerialNumber,
		DigestAlgorithm: digestAlg, SignatureAlgorithm: sigAlg, Signature: sig}
	m := &SignedData{Version: 1, DigestAlgorithms: []Algorithm{digestAlg}, ContentType: oidData}
	if o.ByKeyID {
		if len(cert.SubjectKeyId) == 0 {
			return nil, errors.New("the certificate has no subject key identifier")
		}
		// RFC 5652, Sections 5.1 and 5.3: a key identifier makes both version 3.
		s.Version, s.Issuer, s.Serial, s.SubjectKeyID, m.Version = 3, nil, nil, cert.SubjectKeyId, 3
	}
	for _, c := range o.Embed {
		m.Certificates = append(m.Certificates, c.Raw)
	}
	slices.SortFunc(m.Certificates, bytes.Compare) // DER, SET OF
	m.Signers = []SignerInfo{s}
	cms, err := m.Marshal()
	if err != nil {
		return nil, err
	}
	return Append(content, cms)
}

// fits refuses a key that is not the certificate's.
func fits(key crypto.Signer, cert *x509.Certificate) error {
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(cert.PublicKey) {
		return fmt.Errorf("the key is not the one of the certificate %s", cert.Subject)
	}
	return nil
}

func signatureAlgorithm(cert *x509.Certificate, h crypto.Hash) (Algorithm, error) {
	switch pub := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		// The kernel's RSA takes these lengths and no others.
		if !slices.Contains([]int{1024, 1536, 2048, 3072, 4096}, pub.N.BitLen()) {
			return Algorithm{}, fmt.Errorf("an RSA key of %d bits; the kernel takes 2048, 3072 and 4096", pub.N.BitLen())
		}
		return Algorithm{oidRSA, null}, nil
	case *ecdsa.PublicKey:
		if bits := pub.Curve.Params().BitSize; bits != 256 && bits != 384 {
			return Algorithm{}, fmt.Errorf("an ECDSA key of %d bits; the kernel takes P-256 and P-384", bits)
		}
		for _, e := range ecdsaOIDs {
			if e.hash == h {
				return Algorithm{OID: e.oid}, nil
			}
		}
		return Algorithm{}, fmt.Errorf("ECDSA with %s is not defined for modules", HashName(h))
	}
	return Algorithm{}, fmt.Errorf("a key of type %T: the kernel takes RSA and ECDSA", cert.PublicKey)
}
