package chain

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
	"golang.org/x/net/publicsuffix"
)

// lint holds a path against the rules that decide about trust on the web: the
// CA/Browser Forum's baseline requirements and what of RFC 5280 clients check.
// Outside --profile webpki only what breaks clients is told.
func lint(p *path, o *Options) []fault {
	var fs []fault
	add := func(code string, c *Cert, evidence string, args ...string) {
		fs = append(fs, fault{code: code, cert: c, evidence: evidence, args: args, severity: finding.Error})
	}
	mild := func(code string, c *Cert, evidence string, args ...string) {
		fs = append(fs, fault{code: code, cert: c, evidence: evidence, args: args, severity: finding.Warning})
	}
	leaf := p.certs[0]
	if leaf.X == nil {
		return nil
	}
	if mustStaple(leaf.X) && len(leaf.X.OCSPServer) == 0 {
		fs = append(fs, fault{code: "MUST_STAPLE", cert: leaf, evidence: "TLS feature status_request, and no OCSP address"})
	}
	if o.Profile != WebPKI {
		return fs
	}
	for i, c := range p.certs {
		if c.X == nil {
			continue
		}
		anchor := p.anchored && i == len(p.certs)-1
		lintAny(c, anchor, add)
		if i > 0 {
			lintCA(c, anchor, add)
		}
	}
	if len(p.certs) > 1 || !p.anchored {
		lintLeaf(leaf, o, add, mild)
	}
	return fs
}

func mustStaple(x *x509.Certificate) bool {
	v, _, ok := extension(x, oidTLSFeature)
	var features []int
	if !ok {
		return false
	}
	_, err := asn1.Unmarshal(v, &features)
	return err == nil && slices.Contains(features, 5)
}

func lintAny(c *Cert, anchor bool, add adder) {
	x := c.X
	if x.Version != 3 {
		add("LINT_VERSION", c, fmt.Sprintf("version %d", x.Version))
	}
	// RFC 5280, Section 4.1.2.2: positive, at most 20 octets.
	if !anchor && (x.SerialNumber.Sign() <= 0 || len(x.SerialNumber.Bytes()) > 20 || x.SerialNumber.BitLen() == 160) {
		add("LINT_SERIAL", c, "serial number "+clipName(x.SerialNumber.String()))
	}
	if len(x.Issuer.Names) == 0 {
		add("LINT_NAME", c, "an empty issuer name")
	}
	for _, e := range x.Extensions {
		switch {
		case (e.Id.Equal(oidAKI) || e.Id.Equal(oidSKI) || e.Id.Equal(oidAIA)) && e.Critical:
			add("LINT_EXTENSION", c, "extension "+e.Id.String()+" is critical")
		case (e.Id.Equal(oidPolicyConstr) || e.Id.Equal(oidInhibitAny)) && !e.Critical:
			add("LINT_EXTENSION", c, "extension "+e.Id.String()+" is not critical")
		}
	}
	// RFC 5280, Section 4.2.1.1: only a self-signed certificate may go without.
	aki, _, hasAKI := extension(x, oidAKI)
	selfSigned := c.selfIssued() && verifies(c, c)
	switch {
	case !hasAKI && !selfSigned && !anchor:
		add("LINT_KEY_ID", c, "authorityKeyIdentifier is missing")
	case hasAKI && (anchor || selfSigned):
		seq, _, _ := nextTLV(aki)
		tags := elements(seq.body, 4)
		if len(tags) == 0 || tags[0].tag != 0x80 {
			add("LINT_KEY_ID", c, "authorityKeyIdentifier without a keyIdentifier")
		}
		for _, e := range tags {
			if e.tag != 0x80 {
				add("LINT_KEY_ID", c, "authorityKeyIdentifier names issuer and serial")
				break
			}
		}
		if selfSigned && len(c.aki) > 0 && !bytes.Equal(c.aki, c.ski) {
			add("LINT_KEY_ID", c, "authorityKeyIdentifier is not its own subjectKeyIdentifier")
		}
	}
}

func lintCA(c *Cert, anchor bool, add adder) {
	x := c.X
	if len(x.Subject.Names) == 0 {
		add("LINT_NAME", c, "a CA with an empty name")
	}
	if len(c.ski) == 0 {
		add("LINT_KEY_ID", c, "a CA without subjectKeyIdentifier")
	}
	for _, n := range slices.Concat(x.PermittedDNSDomains, x.ExcludedDNSDomains) {
		if strings.HasPrefix(n, ".") {
			add("LINT_CONSTRAINTS", c, "a name constraint with a leading dot: "+clip(n))
			break
		}
	}
	_, critical, ok := extension(x, oidBasic)
	if !ok || !critical {
		add("LINT_CONSTRAINTS", c, "basicConstraints of a CA is missing or not critical")
	}
	if anchor && len(x.ExtKeyUsage)+len(x.UnknownExtKeyUsage) > 0 {
		add("LINT_EKU", c, "a root with extendedKeyUsage")
	}
	if x.KeyUsage&x509.KeyUsageCertSign != 0 && x.BasicConstraintsValid && !x.IsCA {
		add("LINT_CONSTRAINTS", c, "keyCertSign without CA:TRUE")
	}
}

func lintLeaf(c *Cert, o *Options, add, mild adder) {
	x := c.X
	if x.KeyUsage&x509.KeyUsageCertSign != 0 && !x.IsCA {
		add("LINT_CONSTRAINTS", c, "keyCertSign without CA:TRUE")
	}
	if x.IsCA && x.KeyUsage&x509.KeyUsageCertSign == 0 {
		add("LINT_CONSTRAINTS", c, "CA:TRUE without keyCertSign, in a server's certificate")
	}
	if _, _, ok := extension(x, oidNameConstraints); ok && !x.IsCA {
		add("LINT_CONSTRAINTS", c, "nameConstraints in a certificate that is no CA")
	}
	if value, critical, ok := extension(x, oidEKU); ok {
		switch {
		case critical:
			add("LINT_EKU", c, "extendedKeyUsage is critical")
		case slices.Contains(x.ExtKeyUsage, x509.ExtKeyUsageAny):
			add("LINT_EKU", c, "extendedKeyUsage any")
		case len(value) <= 2:
			add("LINT_EKU", c, "an empty extendedKeyUsage")
		}
	}
	_, critical, ok := extension(x, oidSAN)
	switch {
	case ok && critical && len(x.Subject.Names) > 0:
		add("LINT_EXTENSION", c, "subjectAltName is critical although there is a subject")
	case ok && !critical && len(x.Subject.Names) == 0:
		add("LINT_EXTENSION", c, "subjectAltName is not critical although the subject is empty")
	}
	lintNames(c, add, mild)
	if o.Purpose == Server {
		if limit, rule := lifetime(x.NotBefore); limit > 0 && x.NotAfter.Sub(x.NotBefore)+time.Second > limit {
			add("LIFETIME", c, fmt.Sprintf("%d days; %s", int((x.NotAfter.Sub(x.NotBefore)+time.Second).Hours()/24), rule))
		}
	}
}

func lintNames(c *Cert, add, mild adder) {
	x := c.X
	for _, m := range x.EmailAddresses {
		if local, host, ok := strings.Cut(m, "@"); !ok || local == "" || !validHost(strings.ToLower(host), false) {
			add("LINT_NAME", c, "no mailbox: "+clip(m))
			return
		}
	}
	for _, n := range x.DNSNames {
		l := strings.ToLower(n)
		if _, err := netip.ParseAddr(l); err == nil {
			add("LINT_NAME", c, "an address as a DNS name: "+clipName(n))
			return
		}
		if !validHost(l, true) || strings.Contains(l, "_") || strings.HasSuffix(l, ".") || l == "*" {
			add("LINT_NAME", c, "no DNS name: "+clip(n))
			return
		}
		if rest, ok := strings.CutPrefix(l, "*."); ok {
			// Below a suffix that a company registered (s3.amazonaws.com) the
			// owner of the suffix may have one; below a registry's nobody may.
			switch suffix, icann := publicsuffix.PublicSuffix(rest); {
			case suffix == rest && icann:
				add("PUBLIC_SUFFIX_WILDCARD", c, clipName(n))
				return
			case suffix == rest:
				mild("PUBLIC_SUFFIX_WILDCARD", c, clipName(n))
				return
			}
		}
	}
	lintCommonName(c, add, mild)
}

// lintCommonName wants the common name to be one of the SAN's, to the letter
// (baseline requirements, 7.1.4.3). Public CAs have long written the parent
// domain there; that is told mildly.
func lintCommonName(c *Cert, add, mild adder) {
	x := c.X
	cn := x.Subject.CommonName
	if cn == "" || !hasSAN(x) || x.IsCA {
		return
	}
	found, related := slices.Contains(x.DNSNames, cn), len(x.DNSNames) == 0 && (len(x.IPAddresses) == 0 || dnsLike(cn))
	for _, ip := range x.IPAddresses {
		found = found || ip.String() == cn
	}
	for _, n := range x.DNSNames {
		related = related || strings.HasSuffix(strings.ToLower(n), "."+cn)
	}
	switch what := "the common name " + clipName(cn) + " is not among the subjectAltNames"; {
	case found:
	case related:
		mild("LINT_NAME", c, what)
	default:
		add("LINT_NAME", c, what)
	}
}

// dnsLike says that s is a host name and no address in any notation.
func dnsLike(s string) bool {
	i := strings.LastIndexByte(s, '.')
	return i > 0 && validHost(strings.ToLower(s), true) && strings.ContainsFunc(s[i:], func(r rune) bool { return r < 0x80 && isLetter(byte(r)) })
}

// lifetime is the longest life a public server certificate may have, by the
// rule in force when it was issued (baseline requirements 6.3.2; ballots 193,
// SC22's successor in the root programmes, and SC-081v3).
func lifetime(issued time.Time) (time.Duration, string) {
	const d = 24 * time.Hour
	for _, r := range []struct {
		from string
		days int
	}{{"2029-03-15", 47}, {"2027-03-15", 100}, {"2026-03-15", 200}, {"2020-09-01", 398}, {"2018-03-01", 825}, {"2015-04-01", 1187}, {"2012-07-01", 1827}} {
		if from, _ := time.Parse(time.DateOnly, r.from); !issued.Before(from) {
			return time.Duration(r.days) * d, fmt.Sprintf("%d days at most since %s", r.days, r.from)
		}
	}
	return 0, ""
}
