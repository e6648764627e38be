package ca

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net/url"
	"strings"
)

// OIDBase is the one arc below which all private object identifiers of
// vouchsafe stand. 32473 is the example arc of RFC 5612; whoever gets an own
// enterprise number changes this line and nothing else. 2.25 (UUIDs) is not
// used: many readers cannot hold arcs of 128 bits.
var OIDBase = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 1}

// Our extensions. docs/formats/oids.md says what they hold.
var (
	OIDAdmissionTier   = under(1, 1) // UTF8String: unattested, tpm-attested, confidential
	OIDResidenceDigest = under(1, 2) // OCTET STRING: SHA-256 of the residence statement
)

func under(arcs ...int) asn1.ObjectIdentifier {
	return append(append(asn1.ObjectIdentifier(nil), OIDBase...), arcs...)
}

// Kinds of names.
const (
	KindVM       = "vm"
	KindHost     = "host"
	KindOperator = "operator"
	KindAgent    = "agent" // on a host
	KindGuest    = "guest" // in a VM, by the name of the VM, before it has an identity
	KindService  = "service"
)

// Name is who a certificate speaks for, as a SPIFFE ID (SPIFFE-ID.md, Section 2):
// spiffe://TRUST-DOMAIN/TENANT/KIND/NAME. It stands alone as a URI in the
// subject alternative name.
type Name struct {
	TrustDomain, Tenant, Kind, Name string
}

func (n Name) String() string { return n.URI().String() }

// URI returns the SPIFFE ID.
func (n Name) URI() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: n.TrustDomain, Path: "/" + n.Tenant + "/" + n.Kind + "/" + n.Name}
}

// maxWord bounds a tenant's or a VM's name: one label of a host name.
const maxWord = 63

// CheckWord says whether s can be the name of a tenant, a VM or a person: 1 to
// 63 letters a-z, digits, '.', '-', '_', beginning with a letter or a digit.
// Capitals are refused, so that no two names differ only by them.
func CheckWord(s string) error {
	if s == "" || len(s) > maxWord {
		return fmt.Errorf("%.70q is no name: it has %d letters, want 1 to %d", s, len(s), maxWord)
	}
	for i, c := range []byte(s) {
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '-' && c != '_' && c != '.') {
			return fmt.Errorf("%q is no name: use a-z, 0-9, '-', '_' and '.', beginning with a letter or a digit", s)
		}
	}
	return nil
}

func (n Name) check() error {
	for _, w := range []string{n.Tenant, n.Kind, n.Name} {
		if err := CheckWord(w); err != nil {
			return err
		}
	}
	return CheckHostName(n.TrustDomain)
}

// ParseName reads a SPIFFE ID of ours, and nothing that is written differently.
func ParseName(s string) (Name, error) {
	rest, ok := strings.CutPrefix(s, "spiffe://")
	parts := strings.Split(rest, "/")
	if !ok || len(s) > 2048 || len(parts) != 4 {
		return Name{}, fmt.Errorf("%.100q is no name of ours: spiffe://TRUST-DOMAIN/TENANT/KIND/NAME", s)
	}
	n := Name{TrustDomain: parts[0], Tenant: parts[1], Kind: parts[2], Name: parts[3]}
	return n, n.check()
}

// NameOf returns who a certificate speaks for.
func NameOf(cert *x509.Certificate) (Name, error) {
	if len(cert.URIs) != 1 {
		return Name{}, fmt.Errorf("the certificate has %d URIs, want one", len(cert.URIs))
	}
	return ParseName(cert.URIs[0].String())
}
