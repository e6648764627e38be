package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Profile is what certificates of one kind look like, and what a request may
// ask for. What a profile does not allow is refused, never dropped silently.
type Profile struct {
	Name    string
	Purpose Purpose // the authority that may issue it

	Default time.Duration // lifetime when the request asks for none
	Max     time.Duration // longest lifetime

	// KeyUsage may depend on the key: RSA enciphers, ECDH agrees.
	KeyUsage    func(crypto.PublicKey) x509.KeyUsage
	ExtKeyUsage []x509.ExtKeyUsage
	// OtherExtKeyUsage are those that crypto/x509 has no name for.
	OtherExtKeyUsage []asn1.ObjectIdentifier

	Keys func(crypto.PublicKey) error // which public keys are taken

	DNS, IP  bool   // may the request name hosts?
	NameKind string // if not empty, exactly one name of this kind as a URI

	// Extensions that a request may bring, by identifier.
	Extensions []asn1.ObjectIdentifier
}

// Request asks for a certificate.
type Request struct {
	Tenant    string
	PublicKey crypto.PublicKey
	Subject   pkix.Name
	DNSNames  []string
	IPs       []net.IP
	Name      *Name // becomes the URI in the subject alternative name
	// Extensions beside those that the profile makes.
	Extensions []pkix.Extension
	Lifetime   time.Duration // zero: the profile's default
	// NotBefore overrides "a little before now", for a certificate that must
	// not be older than something else.
	NotBefore time.Time
}

// Limits of a request, so that nobody fills a certificate with names.
const (
	maxNames     = 32 // DNS names and addresses together
	maxExtension = 4 << 10
)

// The profiles that need no more than this package. The endorsement and
// platform profiles are in ek.go.
var (
	// VMProfile is a VM's identity, for mutual TLS, in both directions. It is
	// short-lived: renewing it needs a fresh attestation, so a lost trust ends by itself.
	VMProfile = Profile{
		Name: "vm-identity", Purpose: VMIdentity,
		Default: 7 * day, Max: 30 * day,
		KeyUsage:    func(crypto.PublicKey) x509.KeyUsage { return x509.KeyUsageDigitalSignature },
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		Keys:        onlyECDSA, DNS: true, IP: true, NameKind: KindVM,
		Extensions: []asn1.ObjectIdentifier{OIDAdmissionTier, OIDResidenceDigest},
	}
	// ServiceProfile is the TLS certificate of the API.
	ServiceProfile = Profile{
		Name: "service-tls", Purpose: ServiceTLS,
		Default: 90 * day, Max: 200 * day,
		KeyUsage:    func(crypto.PublicKey) x509.KeyUsage { return x509.KeyUsageDigitalSignature },
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		Keys:        onlyECDSA, DNS: true, IP: true, NameKind: KindService,
	}
	// OperatorProfile is a person's client certificate for the API.
	OperatorProfile = Profile{
		Name: "operator", Purpose: Operator,
		Default: 365 * day, Max: 2 * 365 * day,
		KeyUsage:    func(crypto.PublicKey) x509.KeyUsage { return x509.KeyUsageDigitalSignature },
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		Keys:        onlyECDSA, NameKind: KindOperator,
	}
	// AgentProfile is the client certificate of an agent on a host.
	AgentProfile = Profile{
		Name: "agent", Purpose: Operator,
		Default: 90 * day, Max: 365 * day,
		KeyUsage:    func(crypto.PublicKey) x509.KeyUsage { return x509.KeyUsageDigitalSignature },
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		Keys:        onlyECDSA, NameKind: KindAgent,
	}
	// GuestProfile is the client certificate of the agent in a VM that has no
	// identity yet. It may ask to be appraised as this VM, nothing else: never for
	// a lease, whose keys a guest must not see.
	GuestProfile = Profile{
		Name: "guest", Purpose: Operator,
		Default: 90 * day, Max: 365 * day,
		KeyUsage:    func(crypto.PublicKey) x509.KeyUsage { return x509.KeyUsageDigitalSignature },
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		Keys:        onlyECDSA, NameKind: KindGuest,
	}
	// ResidenceProfile signs residence statements.
	ResidenceProfile = Profile{
		Name: "residence", Purpose: Residence,
		Default: 90 * day, Max: 200 * day,
		KeyUsage: func(crypto.PublicKey) x509.KeyUsage { return x509.KeyUsageDigitalSignature },
		Keys:     onlyP384, NameKind: KindService,
	}
)

func onlyP384(pub crypto.PublicKey) error {
	if k, ok := pub.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P384() {
		return errors.New("the key must be ECDSA on P-384")
	}
	return nil
}

func onlyECDSA(pub crypto.PublicKey) error {
	k, ok := pub.(*ecdsa.PublicKey)
	if !ok || k.Curve != elliptic.P384() && k.Curve != elliptic.P256() && k.Curve != elliptic.P521() {
		return errors.New("the key must be ECDSA on P-384 (or P-256, P-521)")
	}
	return nil
}

// RSAOrECC takes what a TPM has as an endorsement key: RSA of 2048 to 4096 bits,
// or a NIST curve.
func RSAOrECC(pub crypto.PublicKey) error {
	if k, ok := pub.(*rsa.PublicKey); ok {
		if n := k.N.BitLen(); n < 2048 || n > 4096 || k.E < 65537 {
			return fmt.Errorf("an RSA key of %d bits, exponent %d", n, k.E)
		}
		return nil
	}
	return onlyECDSA(pub)
}

// template turns a request into what will be signed, or says why not.
func (p Profile) template(req Request, issuer *x509.Certificate, now time.Time) (*x509.Certificate, error) {
	if err := p.Keys(req.PublicKey); err != nil {
		return nil, err
	}
	if !p.DNS && len(req.DNSNames) > 0 || !p.IP && len(req.IPs) > 0 {
		return nil, fmt.Errorf("profile %s has no host names or addresses", p.Name)
	}
	if len(req.DNSNames)+len(req.IPs) > maxNames {
		return nil, fmt.Errorf("more than %d names", maxNames)
	}
	for _, n := range req.DNSNames {
		if err := CheckHostName(n); err != nil {
			return nil, err
		}
	}
	t := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               req.Subject,
		DNSNames:              req.DNSNames,
		IPAddresses:           req.IPs,
		NotBefore:             now.Add(-backdate),
		KeyUsage:              p.KeyUsage(req.PublicKey),
		ExtKeyUsage:           p.ExtKeyUsage,
		UnknownExtKeyUsage:    p.OtherExtKeyUsage,
		BasicConstraintsValid: true,
		SignatureAlgorithm:    x509.ECDSAWithSHA384,
		ExtraExtensions:       req.Extensions,
	}
	switch {
	case p.NameKind == "" && req.Name != nil:
		return nil, fmt.Errorf("profile %s has no name of ours", p.Name)
	case p.NameKind != "" && (req.Name == nil || req.Name.Kind != p.NameKind):
		return nil, fmt.Errorf("profile %s wants the name of one %s", p.Name, p.NameKind)
	case req.Name != nil:
		if err := req.Name.check(); err != nil {
			return nil, err
		}
		t.URIs = []*url.URL{req.Name.URI()}
	}
	for _, e := range req.Extensions {
		if !slices.ContainsFunc(p.Extensions, e.Id.Equal) {
			return nil, fmt.Errorf("profile %s has no extension %v", p.Name, e.Id)
		}
		if len(e.Value) > maxExtension {
			return nil, fmt.Errorf("extension %v has %d bytes, more than %d", e.Id, len(e.Value), maxExtension)
		}
	}
	if !req.NotBefore.IsZero() {
		t.NotBefore = req.NotBefore
	}
	life := req.Lifetime
	if life == 0 {
		life = p.Default
	}
	if life < time.Minute || life > p.Max {
		return nil, fmt.Errorf("a lifetime of %s; profile %s allows one minute to %s", life, p.Name, p.Max)
	}
	t.NotBefore = t.NotBefore.UTC().Truncate(time.Second)
	t.NotAfter = now.Add(life).UTC().Truncate(time.Second)
	if t.NotAfter.After(issuer.NotAfter) {
		t.NotAfter = issuer.NotAfter // no longer than who vouches for it
	}
	if !t.NotAfter.After(now) {
		return nil, fmt.Errorf("the %s authority expired on %s", p.Purpose, issuer.NotAfter.Format(time.DateOnly))
	}
	var err error
	t.SubjectKeyId, err = keyID(req.PublicKey)
	return t, err
}

// CheckHostName wants the preferred name syntax of RFC 1034, Section 3.5, as RFC
// 5280, Section 4.2.1.6 does; a wildcard is never issued.
func CheckHostName(n string) error {
	bad := func(why string) error { return fmt.Errorf("%q is no host name: %s", n, why) }
	if n == "" || len(n) > 253 {
		return bad("empty, or longer than 253 letters")
	}
	for label := range strings.SplitSeq(n, ".") {
		if label == "" || len(label) > 63 {
			return bad("a label is empty or longer than 63 letters")
		}
		for i, c := range []byte(label) {
			alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
			if !alnum && (c != '-' || i == 0 || i == len(label)-1) {
				return bad(fmt.Sprintf("%q may not stand there", c))
			}
		}
	}
	return nil
}
