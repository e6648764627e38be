// Package ca issues certificates in two steps and revokes them. Under one
// offline root there is one intermediate for each purpose, so that a stolen
// key of one cannot speak for another, and a verifier can trust one alone.
//
//	root (offline, opened by the recovery key only)
//	 ├─ vtpm-ek       endorsement and platform certificates of vTPMs (ek.go)
//	 ├─ vm-identity   what a VM shows to the world
//	 ├─ service-tls   this service's own TLS servers
//	 ├─ operator      clients of the API: people, and agents on hosts and guests
//	 └─ residence     who signs statements about where a vTPM lives
//
// The order is forced by the types: [Authority.Prepare] settles every byte that
// will be signed and checks it as a reader would, [Prepared.Record] writes the
// intent down, and only what that returns can be signed ([Recorded.Sign]). So
// no certificate exists that the record does not know; an intent without a
// certificate is possible, and harmless.
//
// It stores nothing and does not decide who may have what. Private keys are
// crypto.Signer. RFC 5280 throughout; P-384 with SHA-384 for every issuer.
package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// Purpose is what an intermediate is for.
type Purpose string

const (
	VTPMEK     Purpose = "vtpm-ek"
	VMIdentity Purpose = "vm-identity"
	ServiceTLS Purpose = "service-tls"
	Operator   Purpose = "operator"
	Residence  Purpose = "residence"
)

// Purposes lists them all, in the order in which they are made.
func Purposes() []Purpose { return []Purpose{VTPMEK, VMIdentity, ServiceTLS, Operator, Residence} }

const day = 24 * time.Hour

// Lifetimes of issuers, in days of 24 hours.
const (
	// The root outlives every machine that trusts it today.
	rootLifetime = 20 * 365 * day
	// An intermediate is replaced often enough that replacing it is practised.
	intermediateLifetime = 5 * 365 * day
	// Except over the endorsement certificates: these last as long as the vTPM
	// (TCG EK Credential Profile 2.6, 3.2.5), and so must what signed them.
	ekIntermediateLifetime = rootLifetime - day
	// Clocks of machines that just woke may be behind: valid from a little earlier.
	backdate = 5 * time.Minute
)

// Authority is an intermediate that can sign. It is safe for concurrent use.
type Authority struct {
	Purpose     Purpose
	Certificate *x509.Certificate
	signer      crypto.Signer
}

// NewAuthority joins an intermediate's certificate and its private key.
func NewAuthority(p Purpose, der []byte, signer crypto.Signer) (*Authority, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the %s authority: %w", p, err)
	}
	pub, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P384() {
		return nil, fmt.Errorf("reading the %s authority: its key is no P-384 key", p)
	}
	if !pub.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("reading the %s authority: the private key belongs to another certificate", p)
	}
	if !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, fmt.Errorf("reading the %s authority: its certificate may not sign certificates", p)
	}
	return &Authority{p, cert, signer}, nil
}

// NewRoot makes the self-signed root certificate of a service.
func NewRoot(service string, signer crypto.Signer, now time.Time) ([]byte, error) {
	tmpl := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{Organization: []string{service}, CommonName: "vouchsafe root"},
		NotBefore:             now.Add(-backdate).UTC().Truncate(time.Second),
		NotAfter:              now.Add(rootLifetime).UTC().Truncate(time.Second),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLen:            1,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SignatureAlgorithm:    x509.ECDSAWithSHA384,
	}
	var err error
	if tmpl.SubjectKeyId, err = keyID(signer.Public()); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, signer.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("making the root certificate: %w", err)
	}
	return der, nil
}

// NewIntermediate signs the certificate of the intermediate for p with the root.
func NewIntermediate(root *x509.Certificate, rootSigner crypto.Signer, p Purpose, pub crypto.PublicKey, now time.Time) ([]byte, error) {
	tmpl := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{Organization: root.Subject.Organization, CommonName: "vouchsafe " + string(p)},
		NotBefore:             now.Add(-backdate).UTC().Truncate(time.Second),
		NotAfter:              now.Add(intermediateLifetime).UTC().Truncate(time.Second),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true, // it signs end entities only
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SignatureAlgorithm:    x509.ECDSAWithSHA384,
	}
	// Extended key usages of an issuer bound those of what it issues, as TLS
	// libraries read them (RFC 5280, 4.2.1.12 is silent). An endorsement
	// certificate may have none at all, so that issuer has none either.
	switch p {
	case ServiceTLS:
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	case Operator:
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	case VMIdentity:
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	case VTPMEK:
		tmpl.NotAfter = now.Add(ekIntermediateLifetime).UTC().Truncate(time.Second)
	case Residence:
	default:
		return nil, fmt.Errorf("making an intermediate: there is no purpose %q", p)
	}
	if tmpl.NotAfter.After(root.NotAfter) {
		tmpl.NotAfter = root.NotAfter
	}
	var err error
	if tmpl.SubjectKeyId, err = keyID(pub); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, root, pub, rootSigner)
	if err != nil {
		return nil, fmt.Errorf("making the %s intermediate: %w", p, err)
	}
	return der, nil
}

// newSerial is 127 random bits and never zero: RFC 5280, Section 4.1.2.2 wants
// a positive number of at most 20 octets.
func newSerial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] = b[0]&0x7f | 0x40 // one length for all: 16 octets
	return new(big.Int).SetBytes(b)
}

// keyID is the subject key identifier of RFC 7093, Section 2, method 1.
func keyID(pub crypto.PublicKey) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("encoding a public key: %w", err)
	}
	sum := sha256.Sum256(spki)
	return sum[:20], nil
}

// Verify checks that leaf was issued under root by the intermediate for p, for
// one of the usages, at a time. It is what a relying party of this service does.
func Verify(leaf *x509.Certificate, intermediate, root *x509.Certificate, at time.Time, usages ...x509.ExtKeyUsage) error {
	roots, inter := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	inter.AddCert(intermediate)
	if len(usages) == 0 {
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	}
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: inter, CurrentTime: at, KeyUsages: usages})
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(chains, func(c []*x509.Certificate) bool { return len(c) == 3 && c[1].Equal(intermediate) }) {
		return errors.New("the certificate was issued for another purpose")
	}
	return nil
}
