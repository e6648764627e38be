package chain

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
	"golang.org/x/crypto/ocsp"
)

// reasons are the words of RFC 5280, Section 5.3.1.
var reasons = map[int]string{
	0: "unspecified", 1: "keyCompromise", 2: "cACompromise", 3: "affiliationChanged", 4: "superseded",
	5: "cessationOfOperation", 6: "certificateHold", 8: "removeFromCRL", 9: "privilegeWithdrawn", 10: "aACompromise",
}

// checkRevocation holds the path against the CRLs and OCSP responses given. No
// answer is no fault: nobody asked the network.
func checkRevocation(p *path, o *Options) []fault {
	var fs []fault
	unusable := finding.Warning
	if o.Profile == WebPKI {
		unusable = finding.Error
	}
	for i := 0; i+1 < len(p.certs); i++ {
		c, issuer := p.certs[i], p.certs[i+1]
		if c.X == nil || issuer.X == nil || !p.links[i].signed {
			continue
		}
		for _, crl := range o.crls {
			if !rdnEqual(crl.RawIssuer, issuer.subject) {
				continue
			}
			if err := usableCRL(crl, issuer, o.Time, o.TimeUncertainty); err != nil {
				fs = append(fs, fault{code: "CRL_UNUSABLE", cert: issuer, evidence: err.Error(), severity: unusable})
				if !errors.Is(err, errStale) {
					continue
				}
			}
			for _, e := range crl.RevokedCertificateEntries {
				if e.SerialNumber.Cmp(c.X.SerialNumber) == 0 && e.ReasonCode != 8 && !e.RevocationTime.After(o.Time.Add(o.TimeUncertainty)) {
					fs = append(fs, fault{code: "REVOKED", cert: c, evidence: fmt.Sprintf("revoked on %s (%s), says the CRL of %s", stamp(e.RevocationTime), reasons[e.ReasonCode], issuer.short()), args: []string{c.short()}})
					break
				}
			}
		}
		for _, raw := range o.OCSP {
			if f, ok := checkOCSP(raw, c, issuer, o.Time, unusable); ok {
				fs = append(fs, f)
			}
		}
	}
	return fs
}

var errStale = errors.New("out of date")

var (
	oidCRLNumber = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidIDP       = asn1.ObjectIdentifier{2, 5, 29, 28}
)

// usableCRL wants a CRL to be one that clients would believe: RFC 5280, Sections 5.2 and 6.3.3.
func usableCRL(crl *x509.RevocationList, issuer *Cert, now time.Time, slack time.Duration) error {
	if issuer.X.KeyUsage != 0 && issuer.X.KeyUsage&x509.KeyUsageCRLSign == 0 {
		return fmt.Errorf("%s signed a CRL, but its keyUsage lacks cRLSign", issuer.short())
	}
	if err := crl.CheckSignatureFrom(&x509.Certificate{
		Version: 3, BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCRLSign,
		PublicKey: issuer.pub, PublicKeyAlgorithm: issuer.X.PublicKeyAlgorithm, RawSubject: issuer.subject,
	}); err != nil {
		return fmt.Errorf("the signature of the CRL is not by %s", issuer.short())
	}
	number := false
	for _, e := range crl.Extensions {
		switch {
		case e.Id.Equal(oidCRLNumber):
			number = true
			if e.Critical {
				return errors.New("the CRL's number is marked critical")
			}
		case e.Critical && !e.Id.Equal(oidIDP):
			return fmt.Errorf("the CRL has a critical extension %s", e.Id)
		}
	}
	if !number {
		return errors.New("the CRL has no number")
	}
	if !crl.NextUpdate.IsZero() && now.Add(-slack).After(crl.NextUpdate) {
		return fmt.Errorf("the CRL of %s is %w: its next update was due on %s", issuer.short(), errStale, stamp(crl.NextUpdate))
	}
	if now.Add(slack).Before(crl.ThisUpdate) {
		return fmt.Errorf("the CRL of %s is %w: it is from %s", issuer.short(), errStale, stamp(crl.ThisUpdate))
	}
	return nil
}

// checkOCSP reads one response (RFC 6960). One that is about another certificate says nothing.
func checkOCSP(raw []byte, c, issuer *Cert, now time.Time, unusable finding.Severity) (fault, bool) {
	r, err := ocsp.ParseResponseForCert(raw, c.X, issuer.X)
	if err != nil {
		if strings.Contains(err.Error(), "no response matching") {
			return fault{}, false
		}
		if r, err2 := ocsp.ParseResponse(raw, nil); err2 == nil && r.SerialNumber.Cmp(c.X.SerialNumber) != 0 {
			return fault{}, false
		}
		return fault{code: "OCSP_UNUSABLE", cert: c, evidence: clip(err.Error()), severity: unusable}, true
	}
	switch {
	case r.Status == ocsp.Revoked:
		return fault{code: "REVOKED", cert: c, evidence: fmt.Sprintf("revoked on %s (%s), says an OCSP response", stamp(r.RevokedAt), reasons[r.RevocationReason]), args: []string{c.short()}}, true
	case r.Status == ocsp.Unknown:
		return fault{code: "OCSP_UNUSABLE", cert: c, evidence: "the responder does not know this certificate", severity: unusable}, true
	case !r.NextUpdate.IsZero() && now.After(r.NextUpdate):
		return fault{code: "OCSP_UNUSABLE", cert: c, evidence: "the response was good until " + stamp(r.NextUpdate), severity: unusable}, true
	}
	return fault{}, false
}
