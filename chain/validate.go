package chain

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"filippo.io/mldsa"
	"github.com/vouchsafe/vouchsafe/finding"
)

// Purpose is what the leaf is to be used for.
type Purpose string

const (
	Server   Purpose = "server"
	Client   Purpose = "client"
	CA       Purpose = "ca"
	CodeSign Purpose = "codesign"
	Module   Purpose = "module"
)

// Profile is whose rules apply.
type Profile string

const (
	// Private is a PKI of one's own: what breaks clients is reported.
	Private Profile = "private"
	// WebPKI adds the CA/Browser Forum's baseline requirements, as errors.
	WebPKI Profile = "webpki"
)

// fault is one thing wrong on a path, before it is told to a person.
type fault struct {
	code     string
	cert     *Cert
	evidence string
	args     []string
	severity finding.Severity // "" for the catalogue's
}

// checkPath lists every fault of a path. It goes on where RFC 5280, Section
// 6.1.4 would stop.
func checkPath(p *path, o *Options) []fault {
	var fs []fault
	add := func(code string, c *Cert, evidence string, args ...string) {
		fs = append(fs, fault{code: code, cert: c, evidence: evidence, args: args})
	}
	leaf := p.certs[0]
	fs = append(fs, checkTime(p, o)...)
	below := 0 // intermediates that are not self-issued, RFC 5280, Section 6.1.4 (l)
	for i, c := range p.certs {
		anchor := p.anchored && i == len(p.certs)-1
		checkKey(c, anchor, o, add)
		if c.X == nil {
			continue
		}
		if !anchor {
			checkHash(c, add)
		}
		if c.quirk != "" {
			add("NONCONFORMING", c, c.quirk, c.short())
		}
		for _, oid := range unknownCritical(c.X) {
			add("CRITICAL_EXTENSION", c, "critical extension "+oid.String())
		}
		if i == 0 {
			continue
		}
		checkIssuer(c, anchor, add)
		// basicConstraints.pathLenConstraint counts the intermediates below.
		if c.X.BasicConstraintsValid && (c.X.MaxPathLen > 0 || c.X.MaxPathLenZero) && below > c.X.MaxPathLen {
			add("PATH_LENGTH", c, fmt.Sprintf("pathLenConstraint %d, and %d intermediates below it", c.X.MaxPathLen, below))
		}
		if !c.selfIssued() {
			below++
		}
	}
	if o.MaxIntermediates != nil && countIntermediates(p) > *o.MaxIntermediates {
		add("PATH_LENGTH", leaf, fmt.Sprintf("%d intermediates; at most %d are wanted", countIntermediates(p), *o.MaxIntermediates))
	}
	checkUsage(p, o, add)
	checkConstraints(p, add)
	checkPolicies(p, o, add)
	if leaf.X != nil {
		checkName(leaf, o, add)
		if o.Purpose == CA {
			checkIssuer(leaf, false, add)
		}
	}
	fs = append(fs, o.revocation.check(p)...)
	fs = append(fs, lint(p, o)...)
	return fs
}

func countIntermediates(p *path) int {
	n := 0
	for i, c := range p.certs[1:] {
		if !(p.anchored && i == len(p.certs)-2) && !c.selfIssued() {
			n++
		}
	}
	return n
}

// checkTime holds validity against the time of the check and its uncertainty:
// only what is wrong at both ends of it is wrong.
func checkTime(p *path, o *Options) []fault {
	var fs []fault
	from, to := o.Time.Add(-o.TimeUncertainty), o.Time.Add(o.TimeUncertainty)
	for _, c := range p.certs {
		if c.X == nil {
			continue
		}
		nb, na := c.X.NotBefore, c.X.NotAfter
		// RFC 5280, Section 4.1.2.5: both ends are included, and have whole seconds.
		end := na.Add(time.Second)
		switch {
		case !from.Before(end):
			fs = append(fs, fault{code: "EXPIRED", cert: c, evidence: fmt.Sprintf("valid until %s; the check is at %s", stamp(na), stamp(o.Time)), args: []string{c.short(), stamp(na), ago(o.Time.Sub(na))}})
		case to.Before(nb):
			fs = append(fs, fault{code: "NOT_YET_VALID", cert: c, evidence: fmt.Sprintf("valid from %s; the check is at %s", stamp(nb), stamp(o.Time)), args: []string{c.short(), stamp(nb), ago(nb.Sub(o.Time))}})
		case !to.Before(end):
			fs = append(fs, fault{code: "CLOCK_UNCERTAIN", cert: c, evidence: fmt.Sprintf("valid until %s; the check is at %s ± %s", stamp(na), stamp(o.Time), o.TimeUncertainty)})
		case from.Before(nb):
			fs = append(fs, fault{code: "CLOCK_UNCERTAIN", cert: c, evidence: fmt.Sprintf("valid from %s; the check is at %s ± %s", stamp(nb), stamp(o.Time), o.TimeUncertainty)})
		}
	}
	return fs
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// ago tells a duration roughly: people think in days and years.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	case d < 2*365*24*time.Hour:
		return fmt.Sprintf("%d d", int(d.Hours()/24))
	}
	return fmt.Sprintf("%.1f a", d.Hours()/24/365.25)
}

type adder func(code string, c *Cert, evidence string, args ...string)

// checkKey refuses keys that clients refuse: RSA below 2048 bits (SP 800-131A),
// curves below P-224.
func checkKey(c *Cert, anchor bool, o *Options, add adder) {
	if c.Damage == "WEAK_KEY" {
		return // named as damage
	}
	switch k := c.pub.(type) {
	case *rsa.PublicKey:
		switch bits := k.N.BitLen(); {
		case bits < 2048:
			add("WEAK_KEY", c, fmt.Sprintf("RSA with %d bits", bits))
		case bits%8 != 0 && o.Profile == WebPKI:
			add("WEAK_KEY", c, fmt.Sprintf("RSA with %d bits, not a multiple of 8", bits))
		case bits > maxRSABits:
			add("WEAK_KEY", c, fmt.Sprintf("RSA with %d bits: clients refuse to compute with it", bits))
		}
	case *ecdsa.PublicKey:
		if bits := k.Curve.Params().BitSize; bits < 256 {
			add("WEAK_KEY", c, fmt.Sprintf("elliptic curve with %d bits", bits))
		}
	case ed25519.PublicKey, *mldsa.PublicKey:
	default:
		if c.X != nil && c.X.PublicKeyAlgorithm == x509.DSA {
			add("WEAK_KEY", c, "DSA, which no TLS client accepts any more")
		} else if c.X != nil && c.pub == nil {
			add("UNKNOWN_ALGORITHM", c, "a public key of a kind that we do not know")
		}
	}
}

func checkHash(c *Cert, add adder) {
	switch a := c.X.SignatureAlgorithm; a {
	case x509.MD2WithRSA, x509.MD5WithRSA:
		add("WEAK_HASH", c, "signed with "+a.String(), "MD5")
	case x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		add("WEAK_HASH", c, "signed with "+a.String(), "SHA-1")
	}
}

// checkIssuer wants whoever signs to be a CA: RFC 5280, Section 6.1.4 (k) and (n).
func checkIssuer(c *Cert, anchor bool, add adder) {
	x := c.X
	switch {
	case x.Version < 3 && !anchor:
		add("NOT_A_CA", c, fmt.Sprintf("a version %d certificate, which cannot say that it is a CA", x.Version))
	case x.Version >= 3 && !x.BasicConstraintsValid && !anchor:
		add("NOT_A_CA", c, "basicConstraints is missing")
	case x.BasicConstraintsValid && !x.IsCA:
		add("NOT_A_CA", c, "basicConstraints says CA:FALSE")
	}
	if _, _, has := extension(x, oidKeyUsage); has && x.KeyUsage&x509.KeyUsageCertSign == 0 {
		add("CA_KEY_USAGE", c, "keyUsage without keyCertSign")
	}
}

var (
	oidSAN             = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidKeyUsage        = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidBasic           = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidPolicies        = asn1.ObjectIdentifier{2, 5, 29, 32}
	oidPolicyMappings  = asn1.ObjectIdentifier{2, 5, 29, 33}
	oidPolicyConstr    = asn1.ObjectIdentifier{2, 5, 29, 36}
	oidEKU             = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidInhibitAny      = asn1.ObjectIdentifier{2, 5, 29, 54}
	oidSKI             = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidAKI             = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidAIA             = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}
	oidTLSFeature      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}
)

// processed are the critical extensions that we act on.
var processed = []asn1.ObjectIdentifier{
	oidSAN, oidKeyUsage, oidBasic, oidNameConstraints, oidPolicies, oidPolicyMappings, oidPolicyConstr, oidEKU, oidInhibitAny,
	oidSKI, oidAKI, oidTLSFeature,
	oidDistribution,
}

// checkPolicies processes certificate policies (RFC 5280, Section 6.1.3 (d) to
// (f)) where a CA demands them. Nearly no path does, and TLS clients ask for
// none, so the processing is the standard library's, over just this path.
func checkPolicies(p *path, o *Options, add adder) {
	demanded := false
	for _, c := range p.certs {
		if c.X == nil {
			return
		}
		_, _, constrained := extension(c.X, oidPolicyConstr)
		_, _, mapped := extension(c.X, oidPolicyMappings)
		demanded = demanded || constrained || mapped
	}
	if !demanded || !p.anchored || len(p.certs) < 2 {
		return
	}
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: o.Time, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	opts.Roots.AddCert(p.certs[len(p.certs)-1].X)
	for _, c := range p.certs[1 : len(p.certs)-1] {
		opts.Intermediates.AddCert(c.X)
	}
	_, err := p.certs[0].X.Verify(opts)
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.NoValidChains && strings.Contains(invalid.Detail, "policies") {
		add("POLICY", p.certs[0], "a CA above demands a certificate policy (policyConstraints), and none is valid along the whole path")
	}
}

// unknownCritical lists critical extensions nobody here processes (RFC 5280, Section 4.2).
func unknownCritical(x *x509.Certificate) []asn1.ObjectIdentifier {
	var out []asn1.ObjectIdentifier
	for _, e := range x.Extensions {
		known := slices.ContainsFunc(processed, func(o asn1.ObjectIdentifier) bool { return o.Equal(e.Id) })
		if e.Critical && !known && len(out) < 8 {
			out = append(out, e.Id)
		}
	}
	return out
}

// wants is the extended key usage for a purpose; ok is false when any will do.
func (p Purpose) wants() (x509.ExtKeyUsage, string, bool) {
	switch p {
	case Client:
		return x509.ExtKeyUsageClientAuth, "clientAuth", true
	case CodeSign, Module:
		return x509.ExtKeyUsageCodeSigning, "codeSigning", true
	case CA:
		return 0, "", false
	}
	return x509.ExtKeyUsageServerAuth, "serverAuth", true
}

// checkUsage holds keyUsage and extendedKeyUsage against the purpose. An EKU in
// a CA limits what is below it, as every TLS client has it.
func checkUsage(p *path, o *Options, add adder) {
	want, word, ok := o.Purpose.wants()
	if !ok {
		return
	}
	for i, c := range p.certs {
		if c.X == nil || p.anchored && i == len(p.certs)-1 && i > 0 {
			continue
		}
		x := c.X
		if len(x.ExtKeyUsage)+len(x.UnknownExtKeyUsage) == 0 {
			continue
		}
		if !slices.Contains(x.ExtKeyUsage, want) && !slices.Contains(x.ExtKeyUsage, x509.ExtKeyUsageAny) {
			add("EKU", c, "extendedKeyUsage "+usages(x)+" without "+word, word)
		}
	}
}

func usages(x *x509.Certificate) string {
	var s []string
	for _, u := range x.ExtKeyUsage {
		if u == x509.ExtKeyUsageAny {
			s = append(s, "any")
			continue
		}
		s = append(s, u.String())
	}
	for _, u := range x.UnknownExtKeyUsage {
		s = append(s, u.String())
	}
	return fmt.Sprint(s[:min(len(s), 6)])
}

// extension returns the value of one extension.
func extension(x *x509.Certificate, id asn1.ObjectIdentifier) (value []byte, critical, ok bool) {
	for _, e := range x.Extensions {
		if e.Id.Equal(id) {
			return e.Value, e.Critical, true
		}
	}
	return nil, false, false
}

func rdnEqual(a, b []byte) bool { return bytes.Equal(a, b) || nameKey(a) == nameKey(b) }
