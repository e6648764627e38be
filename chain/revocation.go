package chain

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
	"golang.org/x/crypto/ocsp"
)

// reasonWords are those of RFC 5280, Section 5.3.1.
var reasonWords = map[int]string{
	0: "unspecified", 1: "keyCompromise", 2: "cACompromise", 3: "affiliationChanged", 4: "superseded",
	5: "cessationOfOperation", 6: "certificateHold", removeFromCRL: "removeFromCRL", 9: "privilegeWithdrawn", 10: "aACompromise",
}

const removeFromCRL = 8 // in a delta: revoked no longer

// revocation answers whether the certificates of one check are revoked, as far
// as the CRLs and OCSP responses given say it (RFC 5280, Section 6.3; RFC 6960).
type revocation struct {
	o        *Options
	lists    []*crl // newest first
	find     *finder
	verified map[crlSigner]bool
}

type crlSigner struct {
	list *crl
	cert *Cert
}

func newRevocation(o *Options, lists []*crl, find *finder) *revocation {
	slices.SortStableFunc(lists, newestFirst)
	return &revocation{o: o, lists: lists, find: find, verified: map[crlSigner]bool{}}
}

// standing is what the CRLs say about one certificate.
type standing struct {
	revoked string  // when, why and by whose list; "" for not listed
	decided reasons // for which reasons a list that is believed says no
	doubts  []string
}

// check holds a path against what was given. Where nothing was given that
// could answer, nothing is said: nobody asked.
func (v *revocation) check(p *path) []fault {
	if v == nil || len(v.lists)+len(v.o.OCSP) == 0 {
		return nil
	}
	unusable := finding.Warning
	if v.o.Profile == WebPKI {
		unusable = finding.Error
	}
	var fs []fault
	for i := 0; i+1 < len(p.certs); i++ {
		c, issuer := p.certs[i], p.certs[i+1]
		if c.X == nil || issuer.X == nil || !p.links[i].signed {
			continue
		}
		st := v.standing(c, p.certs, 0)
		answered := false
		for _, raw := range v.o.OCSP {
			f, about := checkOCSP(raw, c, issuer, v.o.Time, unusable)
			if f.code != "" {
				fs = append(fs, f)
			}
			answered = answered || about
		}
		if st.revoked != "" {
			fs = append(fs, fault{code: "REVOKED", cert: c, evidence: "revoked " + st.revoked, args: []string{c.short()}})
		}
		severity := unusable
		if st.decided == allReasons {
			severity = finding.Info // another list answers
		}
		for _, doubt := range st.doubts {
			fs = append(fs, fault{code: "CRL_UNUSABLE", cert: issuer, evidence: doubt, severity: severity})
		}
		concerned := i == 0 || st.decided != 0 || slices.ContainsFunc(v.lists, func(l *crl) bool { return l.issuer == c.nameKeys[1] })
		if len(v.lists) > 0 && st.revoked == "" && st.decided != allReasons && len(st.doubts) == 0 && !answered && concerned {
			fs = append(fs, fault{code: "REVOCATION_OPEN", cert: c, evidence: v.whyOpen(c, st), severity: unusable, args: []string{c.short()}})
		}
	}
	return fs
}

// standing follows RFC 5280, Section 6.3.3 for one certificate.
func (v *revocation) standing(c *Cert, path []*Cert, depth int) standing {
	var st standing
	doubt := func(s string) {
		if !slices.Contains(st.doubts, s) {
			st.doubts = append(st.doubts, s)
		}
	}
	used := map[*crl]bool{}
	points := pointsOf(c.X)
	for _, p := range points {
		for _, l := range v.lists {
			if l.base != nil || used[l] || !l.covers(c, p) || p.reasons&l.scope.reasons&^st.decided == 0 {
				continue
			}
			used[l] = true
			signer, err := v.signer(l, path, depth)
			if err != nil {
				doubt(err.Error())
				continue
			}
			said, stale := l, v.stale(l, signer)
			delta := v.deltaOf(l, signer)
			if delta != nil {
				// A delta brings its base up to date (RFC 5280, Section 5.2.4).
				used[delta] = true
				stale = ""
			}
			e, listed := l.entry(c)
			if delta != nil {
				if d, ok := delta.entry(c); ok {
					e, listed, said = d, true, delta
				}
			}
			if listed && e.ReasonCode != removeFromCRL && !e.RevocationTime.After(v.o.Time.Add(v.o.TimeUncertainty)) {
				st.revoked = toldBy(said, signer, e.RevocationTime, e.ReasonCode)
			}
			switch {
			case l.fault != "":
				doubt(l.fault)
			case stale != "":
				doubt(stale)
			default:
				st.decided |= p.reasons & l.scope.reasons
			}
		}
	}
	// Deltas whose base is not here: what they list is revoked, the rest is open.
	for _, d := range v.lists {
		about := d.base != nil && !used[d] && slices.ContainsFunc(points, func(p point) bool { return d.covers(c, p) })
		if !about || st.decided == allReasons {
			continue
		}
		signer, err := v.signer(d, path, depth)
		if err != nil {
			doubt(err.Error())
			continue
		}
		if e, ok := d.entry(c); ok && e.ReasonCode != removeFromCRL {
			st.revoked = toldBy(d, signer, e.RevocationTime, e.ReasonCode)
			continue
		}
		doubt(fmt.Sprintf("a delta CRL of %s tells only what changed since CRL number %s, and that list is not here", signer.short(), clipName(d.base.String())))
	}
	return st
}

func toldBy(l *crl, signer *Cert, when time.Time, reason int) string {
	kind := "CRL"
	if l.base != nil {
		kind = "delta CRL"
	}
	return fmt.Sprintf("on %s (%s), says the %s of %s", stamp(when), reasonWords[reason], kind, signer.short())
}

// deltaOf is the newest delta of a list that can be believed, nil for none.
func (v *revocation) deltaOf(l *crl, signer *Cert) *crl {
	for _, d := range v.lists {
		if l.updates(d) && d.fault == "" && v.signedBy(d, signer) && v.stale(d, signer) == "" {
			return d
		}
	}
	return nil
}

// stale says that a list is not of today: RFC 5280, Section 6.3.3 (a).
func (v *revocation) stale(l *crl, signer *Cert) string {
	now, slack := v.o.Time, v.o.TimeUncertainty
	if !l.NextUpdate.IsZero() && now.Add(-slack).After(l.NextUpdate) {
		return fmt.Sprintf("the CRL of %s is out of date: its next update was due on %s", signer.short(), stamp(l.NextUpdate))
	}
	if now.Add(slack).Before(l.ThisUpdate) {
		return fmt.Sprintf("the CRL of %s is out of date: it is from %s", signer.short(), stamp(l.ThisUpdate))
	}
	return ""
}

func (v *revocation) signedBy(l *crl, c *Cert) bool {
	key := crlSigner{l, c}
	ok, known := v.verified[key]
	if !known {
		ok = verifiesSigned(c.pub, l.SignatureAlgorithm, l.Raw, l.RawTBSRevocationList, l.Signature)
		v.verified[key] = ok
	}
	return ok
}

// signer finds who signed a list and may: the CA itself, another key of its
// name, or for an indirect list somebody else, who must lead to the same trust
// (RFC 5280, Section 6.3.3 (f)).
func (v *revocation) signer(l *crl, path []*Cert, depth int) (*Cert, error) {
	err := fmt.Errorf("a CRL of %s is here, and no certificate of whoever signed it", nameShort(nameText(l.RawIssuer)))
	candidates := slices.Concat(path, v.find.file, v.find.pool.named(l.issuer), v.find.roots.named(l.issuer))
	for _, c := range candidates {
		if c.X == nil || c.nameKeys[0] != l.issuer {
			continue
		}
		if !v.signedBy(l, c) {
			err = fmt.Errorf("the signature of the CRL is not by %s", c.short())
			continue
		}
		if _, _, has := extension(c.X, oidKeyUsage); has && c.X.KeyUsage&x509.KeyUsageCRLSign == 0 {
			return nil, fmt.Errorf("%s signed a CRL, but its keyUsage lacks cRLSign", c.short())
		}
		if slices.Contains(path, c) || v.find.roots.holds(c) != nil {
			return c, nil
		}
		now := v.o.Time
		switch {
		case !v.vouched(c, path, 0):
			err = fmt.Errorf("%s signed a CRL, and no trusted path leads to it", c.short())
		case now.Before(c.X.NotBefore) || now.After(c.X.NotAfter):
			err = fmt.Errorf("%s signed a CRL, and its certificate is valid from %s to %s", c.short(), stamp(c.X.NotBefore), stamp(c.X.NotAfter))
		case depth < 2 && v.standing(c, path, depth+1).revoked != "":
			err = fmt.Errorf("%s signed a CRL, and its certificate is revoked", c.short())
		default:
			return c, nil
		}
	}
	return nil, err
}

// vouched says that signatures lead from c to the path or to a trust anchor.
func (v *revocation) vouched(c *Cert, path []*Cert, depth int) bool {
	if depth > maxDepth/4 {
		return false
	}
	for _, up := range slices.Concat(path, v.find.candidates(c, true, false)) {
		if up.X == nil || up == c || up.nameKeys[0] != c.nameKeys[1] || !v.find.verifies(up, c) {
			continue
		}
		if slices.Contains(path, up) || v.find.roots.holds(up) != nil || v.vouched(up, path, depth+1) {
			return true
		}
	}
	return false
}

// whyOpen says what the lists given leave open about c.
func (v *revocation) whyOpen(c *Cert, st standing) string {
	if st.decided != 0 {
		return "the CRLs given tell of some reasons for revocation only"
	}
	for _, l := range v.lists {
		if l.issuer != c.nameKeys[1] {
			continue
		}
		switch {
		case l.scope.attributes:
			return "the CRL of its issuer is for attribute certificates only"
		case l.scope.users && c.isCA():
			return "the CRL of its issuer is for end-entity certificates only"
		case l.scope.cas && !c.isCA():
			return "the CRL of its issuer is for CA certificates only"
		case len(l.scope.names) > 0:
			return "the CRL of its issuer is of another distribution point, " + l.scope.names[0].String()
		}
	}
	return "none of the CRLs given is by its issuer " + nameShort(c.Issuer())
}

// checkOCSP reads one response. about says that it answers for c.
func checkOCSP(raw []byte, c, issuer *Cert, now time.Time, unusable finding.Severity) (f fault, about bool) {
	r, err := ocsp.ParseResponseForCert(raw, c.X, issuer.X)
	if own, err2 := ocsp.ParseResponseForCert(raw, c.X, nil); err != nil && err2 == nil && own.Certificate != nil && bytes.Equal(own.Certificate.RawSubjectPublicKeyInfo, issuer.spki) {
		// The CA signed the response itself and sent its certificate along, as
		// OpenSSL does; x/crypto/ocsp takes that for a delegate's, and wants it
		// signed by the CA. Its signature has been verified under that key.
		r, err = own, nil
	}
	if err != nil {
		if strings.Contains(err.Error(), "no response matching") {
			return fault{}, false
		}
		if r, err2 := ocsp.ParseResponse(raw, nil); err2 == nil && r.SerialNumber.Cmp(c.X.SerialNumber) != 0 {
			return fault{}, false
		}
		return fault{code: "OCSP_UNUSABLE", cert: c, evidence: clip(err.Error()), severity: unusable}, false
	}
	if why := unauthorised(r, issuer, now); why != "" {
		return fault{code: "OCSP_UNUSABLE", cert: c, evidence: why, severity: unusable}, false
	}
	switch {
	case r.Status == ocsp.Revoked:
		return fault{code: "REVOKED", cert: c, evidence: fmt.Sprintf("revoked on %s (%s), says an OCSP response", stamp(r.RevokedAt), reasonWords[r.RevocationReason]), args: []string{c.short()}}, true
	case r.Status == ocsp.Unknown:
		return fault{code: "OCSP_UNUSABLE", cert: c, evidence: "the responder does not know this certificate", severity: unusable}, false
	case !r.NextUpdate.IsZero() && now.After(r.NextUpdate):
		return fault{code: "OCSP_UNUSABLE", cert: c, evidence: "the response was good until " + stamp(r.NextUpdate), severity: unusable}, false
	}
	return fault{}, true
}

// unauthorised says why a responder may not speak for the issuer: RFC 6960,
// Section 4.2.2.2. x/crypto/ocsp looks only at its signature.
func unauthorised(r *ocsp.Response, issuer *Cert, now time.Time) string {
	x := r.Certificate
	switch {
	case x == nil || bytes.Equal(x.RawSubjectPublicKeyInfo, issuer.spki):
		return ""
	case !slices.Contains(x.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return fmt.Sprintf("signed by %s, whose extendedKeyUsage lacks OCSPSigning", clipName(x.Subject.CommonName))
	case now.Before(x.NotBefore) || now.After(x.NotAfter):
		return fmt.Sprintf("signed by %s, whose certificate is valid from %s to %s", clipName(x.Subject.CommonName), stamp(x.NotBefore), stamp(x.NotAfter))
	}
	return ""
}
