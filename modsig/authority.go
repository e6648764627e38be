package modsig

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Module-signing-only: shim does not boot anything that a certificate with
// this extended key usage has signed, so enrolling one opens nothing else.
var oidModulesOnly = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 2312, 16, 1, 2}

const (
	// LeafLifetime is how long a signing key is used: half a year. Modules
	// that it has signed go on loading, for the kernel looks at no dates.
	LeafLifetime = 183 * 24 * time.Hour
	// CALifetime is how long one enrolment lasts. Enrolling again means
	// somebody at the console of every machine.
	CALifetime = 10 * 365 * 24 * time.Hour
	// backdate lets a machine whose clock is a little behind use a new leaf.
	backdate = time.Hour
)

// NewCA certifies key as a CA for kernel modules alone. Its certificate is
// what a machine's owner enrols once.
func NewCA(name string, key crypto.Signer, now time.Time) (*x509.Certificate, error) {
	t, err := template(name, key.Public(), now, CALifetime)
	if err != nil {
		return nil, err
	}
	t.IsCA, t.MaxPathLenZero = true, true
	// Kernels that keep only CAs on .machine want keyCertSign and no digitalSignature.
	t.KeyUsage = x509.KeyUsageCertSign
	// RFC 5280, Section 4.2.1.1: for a self-signed certificate the two are one.
	t.AuthorityKeyId = t.SubjectKeyId
	t.SignatureAlgorithm = certificateHash(key.Public())
	return create(t, t, key.Public(), key)
}

// NewLeaf certifies pub, for LeafLifetime, under the CA whose key is caKey.
func NewLeaf(name string, pub crypto.PublicKey, ca *x509.Certificate, caKey crypto.Signer, now time.Time) (*x509.Certificate, error) {
	if !ca.IsCA || len(ca.SubjectKeyId) == 0 {
		return nil, errors.New("the issuer is not a CA with a subject key identifier, by which alone the kernel finds it")
	}
	if err := fits(caKey, ca); err != nil {
		return nil, err
	}
	if now.After(ca.NotAfter) {
		return nil, fmt.Errorf("the CA ended on %s", ca.NotAfter.UTC().Format(time.DateOnly))
	}
	t, err := template(name, pub, now, LeafLifetime)
	if err != nil {
		return nil, err
	}
	if t.NotAfter.After(ca.NotAfter) {
		t.NotAfter = ca.NotAfter
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.SignatureAlgorithm = certificateHash(caKey.Public())
	return create(t, ca, pub, caKey)
}

// certificateHash is SHA-256 with RSA: kernels that lack SHA-512 check the
// leaf's certificate too.
func certificateHash(pub crypto.PublicKey) x509.SignatureAlgorithm {
	if _, ok := pub.(*ecdsa.PublicKey); ok {
		return x509.ECDSAWithSHA256
	}
	return x509.SHA256WithRSA
}

func template(name string, pub crypto.PublicKey, now time.Time, life time.Duration) (*x509.Certificate, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	// RFC 5280, Section 4.1.2.2: positive, at most 20 octets.
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159))
	if err != nil {
		return nil, err
	}
	// RFC 7093, Section 2, method 1.
	id := sha256.Sum256(spki)
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(life),
		BasicConstraintsValid: true, SubjectKeyId: id[:20],
		ExtKeyUsage:        []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{oidModulesOnly},
	}, nil
}

func create(t, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
