package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Intent is what is written down before a certificate is signed.
type Intent struct {
	Tenant    string
	Purpose   Purpose
	Profile   string
	Serial    string // hexadecimal
	Subject   string
	NotBefore time.Time
	NotAfter  time.Time
	TBS       [32]byte // SHA-256 of the bytes to be signed
	SPKI      [32]byte // SHA-256 of the subject's public key
}

// Recorder writes an intent down durably before it returns nil.
type Recorder interface {
	RecordIntent(ctx context.Context, in Intent) error
}

// Prepared is a certificate that is settled to the last byte and not signed.
type Prepared struct {
	Intent Intent
	by     *Authority
	tbs    []byte
}

// Recorded is a certificate whose intent is on record. Only Prepared.Record
// makes one that can be signed.
type Recorded struct{ p *Prepared }

// Prepare settles a certificate and reads it as a relying party would.
func (a *Authority) Prepare(p Profile, req Request, now time.Time) (*Prepared, error) {
	fail := func(err error) (*Prepared, error) {
		return nil, fmt.Errorf("preparing a certificate of profile %s: %w", p.Name, err)
	}
	if p.Purpose != a.Purpose {
		return fail(fmt.Errorf("the %s authority does not issue it", a.Purpose))
	}
	tmpl, err := p.template(req, a.Certificate, now)
	if err != nil {
		return fail(err)
	}
	tbs, err := a.toBeSigned(tmpl, req.PublicKey)
	if err != nil {
		return fail(err)
	}
	der, err := assemble(tbs, make([]byte, 8)) // parsing looks at no signature
	if err != nil {
		return fail(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fail(fmt.Errorf("reading it back: %w", err))
	}
	if err := p.lint(cert, tmpl, a.Certificate, now); err != nil {
		return fail(fmt.Errorf("reading it back: %w", err))
	}
	return &Prepared{
		Intent: Intent{
			Tenant: req.Tenant, Purpose: a.Purpose, Profile: p.Name,
			Serial: SerialText(cert), Subject: subjectText(cert),
			NotBefore: cert.NotBefore, NotAfter: cert.NotAfter,
			TBS: sha256.Sum256(cert.RawTBSCertificate), SPKI: sha256.Sum256(cert.RawSubjectPublicKeyInfo),
		},
		by: a, tbs: cert.RawTBSCertificate,
	}, nil
}

// Record writes the intent down. A certificate whose intent could not be
// recorded is never signed.
func (p *Prepared) Record(ctx context.Context, r Recorder) (Recorded, error) {
	if err := r.RecordIntent(ctx, p.Intent); err != nil {
		return Recorded{}, fmt.Errorf("recording the intent to sign %s: %w", p.Intent.Serial, err)
	}
	return Recorded{p}, nil
}

// Sign signs what was recorded, and nothing else.
func (r Recorded) Sign() (*x509.Certificate, error) {
	if r.p == nil {
		return nil, errors.New("signing a certificate: nothing was recorded")
	}
	digest := sha512.Sum384(r.p.tbs)
	sig, err := r.p.by.signer.Sign(rand.Reader, digest[:], crypto.SHA384)
	if err != nil {
		return nil, fmt.Errorf("signing certificate %s: %w", r.p.Intent.Serial, err)
	}
	der, err := assemble(r.p.tbs, sig)
	if err != nil {
		return nil, fmt.Errorf("signing certificate %s: %w", r.p.Intent.Serial, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("signing certificate %s: reading it back: %w", r.p.Intent.Serial, err)
	}
	// A signature that came out wrong may give the key away: it must not leave.
	if err := cert.CheckSignatureFrom(r.p.by.Certificate); err != nil {
		return nil, fmt.Errorf("signing certificate %s: the signature came out wrong: %w", r.p.Intent.Serial, err)
	}
	return cert, nil
}

// lint reads a certificate as the world will.
func (p Profile) lint(cert, tmpl, issuer *x509.Certificate, now time.Time) error {
	switch {
	case cert.Version != 3:
		return fmt.Errorf("version %d", cert.Version)
	case cert.IsCA || !cert.BasicConstraintsValid:
		return errors.New("it is a CA, or does not say that it is not")
	case cert.SerialNumber.Sign() <= 0 || cert.SerialNumber.BitLen() > 159:
		return errors.New("the serial number is not a positive one of at most 20 octets")
	case !slices.Equal(cert.AuthorityKeyId, issuer.SubjectKeyId):
		return errors.New("the authority key identifier is not its issuer's")
	case cert.KeyUsage != tmpl.KeyUsage || !slices.Equal(cert.ExtKeyUsage, p.ExtKeyUsage) || len(cert.UnknownExtKeyUsage) != len(p.OtherExtKeyUsage):
		return errors.New("the key usages are not the profile's")
	case cert.NotAfter.Sub(now) > p.Max || cert.NotAfter.After(issuer.NotAfter) || !cert.NotBefore.Before(cert.NotAfter):
		return errors.New("the validity is not what the profile allows")
	case !slices.Equal(cert.DNSNames, tmpl.DNSNames) || len(cert.IPAddresses) != len(tmpl.IPAddresses) || len(cert.URIs) != len(tmpl.URIs):
		return errors.New("names were lost")
	case len(cert.UnhandledCriticalExtensions) > 0 && !p.mayBeCritical(cert.UnhandledCriticalExtensions):
		return fmt.Errorf("critical extensions that readers do not know: %v", cert.UnhandledCriticalExtensions)
	}
	seen := map[string]bool{}
	for _, e := range cert.Extensions {
		if seen[e.Id.String()] {
			return fmt.Errorf("extension %v is there twice", e.Id) // RFC 5280, Section 4.2
		}
		seen[e.Id.String()] = true
	}
	return nil
}

// mayBeCritical: the standard library does not handle a subject alternative
// name that holds only a directory name, which is what an endorsement
// certificate with an empty subject has.
func (p Profile) mayBeCritical(ids []asn1.ObjectIdentifier) bool {
	san := asn1.ObjectIdentifier{2, 5, 29, 17}
	return !slices.ContainsFunc(ids, func(id asn1.ObjectIdentifier) bool {
		return !id.Equal(san) || !slices.ContainsFunc(p.Extensions, san.Equal)
	})
}

// SerialText is how a certificate's serial number is written everywhere here.
func SerialText(c *x509.Certificate) string { return fmt.Sprintf("%x", c.SerialNumber) }

func subjectText(c *x509.Certificate) string {
	if len(c.URIs) == 1 {
		return c.URIs[0].String()
	}
	return c.Subject.String()
}

var ecdsaWithSHA384 = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}} // RFC 5758, 3.2

// assemble is Certificate, RFC 5280, Section 4.1.
func assemble(tbs, sig []byte) ([]byte, error) {
	return asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, ecdsaWithSHA384, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}})
}

// throwawayKey is one key for the life of the process that never signs anything
// which leaves Prepare. On P-256, where signing is 20 times faster than on P-384.
var throwawayKey = sync.OnceValues(func() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
})

// toBeSigned encodes a TBSCertificate, without the real key: the standard
// library encodes only what it signs, so it signs with a key that is thrown
// away, and the one field that tells of it, the third, is put right.
func (a *Authority) toBeSigned(tmpl *x509.Certificate, pub crypto.PublicKey) ([]byte, error) {
	throwaway, err := throwawayKey()
	if err != nil {
		return nil, err
	}
	issuer := *a.Certificate
	issuer.PublicKey = nil // so that CreateCertificate takes the throw-away key
	unsigned := *tmpl
	unsigned.SignatureAlgorithm = x509.ECDSAWithSHA256
	der, err := x509.CreateCertificate(rand.Reader, &unsigned, &issuer, pub, throwaway)
	if err != nil {
		return nil, err
	}
	algorithm, err := asn1.Marshal(ecdsaWithSHA384)
	if err != nil {
		return nil, err
	}
	in := cryptobyte.String(der)
	var certificate, tbs, version, serial, wrong cryptobyte.String
	if !in.ReadASN1(&certificate, cbasn1.SEQUENCE) || !certificate.ReadASN1(&tbs, cbasn1.SEQUENCE) ||
		!tbs.ReadASN1Element(&version, cbasn1.Tag(0).ContextSpecific().Constructed()) ||
		!tbs.ReadASN1Element(&serial, cbasn1.INTEGER) || !tbs.ReadASN1Element(&wrong, cbasn1.SEQUENCE) {
		return nil, errors.New("internal error: reading our own certificate")
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, part := range [][]byte{version, serial, algorithm, tbs} {
			b.AddBytes(part)
		}
	})
	return b.Bytes()
}
