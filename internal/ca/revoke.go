package ca

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// Reason is why a certificate was revoked: CRLReason, RFC 5280, Section 5.3.1.
type Reason int

const (
	Unspecified          Reason = 0
	KeyCompromise        Reason = 1
	AffiliationChanged   Reason = 3
	Superseded           Reason = 4
	CessationOfOperation Reason = 5
	PrivilegeWithdrawn   Reason = 9
)

// Not offered: cACompromise and aACompromise (2, 10: not about end entities),
// certificateHold and removeFromCRL (6, 8: a revocation here is for good).
var reasons = map[Reason]string{
	Unspecified:          "unspecified",
	KeyCompromise:        "key-compromise",
	AffiliationChanged:   "affiliation-changed",
	Superseded:           "superseded",
	CessationOfOperation: "cessation-of-operation",
	PrivilegeWithdrawn:   "privilege-withdrawn",
}

func (r Reason) String() string { return reasons[r] }

// ParseReason reads a reason by its name; empty is unspecified.
func ParseReason(s string) (Reason, error) {
	if s == "" {
		return Unspecified, nil
	}
	var all []string
	for r := range PrivilegeWithdrawn + 1 {
		name, ok := reasons[r]
		if ok && name == s {
			return r, nil
		}
		if ok {
			all = append(all, name)
		}
	}
	return 0, fmt.Errorf("there is no reason %q; there are %s", s, strings.Join(all, ", "))
}

// Revocation is one line of a CRL.
type Revocation struct {
	Serial string // hexadecimal, as SerialText writes it
	At     time.Time
	Reason Reason
}

// CRLLifetime is how long a CRL is good for. A reader that cannot get a newer
// one refuses after that, so it is the longest that a revocation may go unseen.
const CRLLifetime = 7 * day

// CRL signs the list of what this authority revoked (RFC 5280, Section 5). The
// number must be higher than that of any list before.
func (a *Authority) CRL(number int64, revoked []Revocation, now time.Time) ([]byte, error) {
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("signing the %s CRL: %w", a.Purpose, err) }
	tmpl := &x509.RevocationList{
		Number:             big.NewInt(number),
		ThisUpdate:         now.UTC().Truncate(time.Second),
		NextUpdate:         now.Add(CRLLifetime).UTC().Truncate(time.Second),
		SignatureAlgorithm: x509.ECDSAWithSHA384,
	}
	for _, r := range revoked {
		serial, ok := new(big.Int).SetString(r.Serial, 16)
		if !ok || serial.Sign() <= 0 {
			return fail(fmt.Errorf("%q is no serial number", r.Serial))
		}
		tmpl.RevokedCertificateEntries = append(tmpl.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: serial, RevocationTime: r.At.UTC().Truncate(time.Second), ReasonCode: int(r.Reason),
		})
	}
	der, err := x509.CreateRevocationList(rand.Reader, tmpl, a.Certificate, a.signer)
	if err != nil {
		return fail(err)
	}
	return der, nil
}
