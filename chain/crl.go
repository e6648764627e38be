package chain

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// crl is a certificate revocation list and what it is about: RFC 5280, Section 5.
type crl struct {
	*x509.RevocationList
	issuer string   // key of the name, see nameKey
	base   *big.Int // of a delta, which says only what changed since that number; nil for a complete list
	scope  scope
	fault  string // why no client believes it, whoever signed it
}

// scope is an issuingDistributionPoint (RFC 5280, Section 5.2.5). A list
// without one is about every certificate of its issuer, for every reason.
type scope struct {
	raw                    []byte
	names                  []generalName
	users, cas, attributes bool
	indirect               bool // it lists certificates of other issuers too
	reasons                reasons
}

// reasons is a set of ReasonFlags: RFC 5280, Section 4.2.1.13.
type reasons uint16

// allReasons is bits 1 (keyCompromise) to 8 (aACompromise).
const allReasons reasons = 0x1FE

var (
	oidCRLNumber         = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidDeltaIndicator    = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIDP               = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidCertificateIssuer = asn1.ObjectIdentifier{2, 5, 29, 29}
	oidDistribution      = asn1.ObjectIdentifier{2, 5, 29, 31}
)

var errScope = errors.New("a distribution point that cannot be read")

// parseCRL reads one list. What makes it useless is in fault: whom it lists as
// revoked is revoked all the same (RFC 5280, Section 5.3).
func parseCRL(der []byte) (*crl, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	l := &crl{RevocationList: list, issuer: nameKey(list.RawIssuer), scope: scope{reasons: allReasons}}
	complain := func(format string, args ...any) {
		if l.fault == "" {
			l.fault = fmt.Sprintf(format, args...)
		}
	}
	number := false
	for _, e := range list.Extensions {
		switch {
		case e.Id.Equal(oidCRLNumber):
			number = true
			if e.Critical {
				complain("the CRL's number is marked critical")
			}
		case e.Id.Equal(oidDeltaIndicator):
			if _, err := asn1.Unmarshal(e.Value, &l.base); err != nil {
				complain("the CRL has a delta CRL indicator that cannot be read")
				l.base = new(big.Int)
			}
		case e.Id.Equal(oidIDP):
			if l.scope, err = parseScope(e.Value, list.RawIssuer); err != nil {
				complain("the CRL has %v", err)
			}
		case e.Critical:
			complain("the CRL has a critical extension %s", e.Id)
		}
	}
	if !number {
		complain("the CRL has no number")
	}
	for _, r := range list.RevokedCertificateEntries {
		for _, e := range r.Extensions {
			if e.Critical && !e.Id.Equal(oidCertificateIssuer) {
				complain("an entry of the CRL has a critical extension %s", e.Id)
			}
		}
	}
	return l, nil
}

func parseScope(der, issuer []byte) (s scope, err error) {
	s.raw, s.reasons = der, allReasons
	seq, rest, ok := nextTLV(der)
	if !ok || seq.cut || seq.tag != 0x30 || len(rest) > 0 {
		return s, errScope
	}
	for _, e := range elements(seq.body, 8) {
		yes := len(e.body) == 1 && e.body[0] != 0
		switch e.tag {
		case 0xA0:
			s.names = pointNames(e.body, issuer)
		case 0x81:
			s.users = yes
		case 0x82:
			s.cas = yes
		case 0x83:
			s.reasons = reasonFlags(e.body)
		case 0x84:
			s.indirect = yes
		case 0x85:
			s.attributes = yes
		default:
			return s, errScope
		}
	}
	return s, nil
}

// point is one DistributionPoint of a certificate (RFC 5280, Section 4.2.1.13).
type point struct {
	names   []generalName
	reasons reasons
	issuer  []generalName // cRLIssuer: the list is signed by somebody else
}

// pointsOf lists where a certificate says that its revocation is told, and as
// RFC 5280, Section 6.3.3 has it at the end, its own issuer.
func pointsOf(x *x509.Certificate) []point {
	var out []point
	raw, _, _ := extension(x, oidDistribution)
	seq, _, _ := nextTLV(raw)
	for _, e := range elements(seq.body, maxPoints) {
		p := point{reasons: allReasons}
		var name []byte
		for _, part := range elements(e.body, 3) {
			switch part.tag {
			case 0xA0:
				name = part.body
			case 0x81:
				p.reasons = reasonFlags(part.body)
			case 0xA2:
				p.issuer = generalNames(part.body)
			}
		}
		base := x.RawIssuer
		if len(p.issuer) > 0 && p.issuer[0].tag == 4 {
			base = p.issuer[0].value
		}
		p.names = pointNames(name, base)
		out = append(out, p)
	}
	return append(out, point{names: []generalName{{4, x.RawIssuer}}, reasons: allReasons})
}

// pointNames reads a DistributionPointName: full names, or one that continues
// the name of whoever issues the list.
func pointNames(b, issuer []byte) []generalName {
	e, _, ok := nextTLV(b)
	switch {
	case !ok:
		return nil
	case e.tag == 0xA0:
		return generalNames(e.body)
	case e.tag == 0xA1:
		dn, _, _ := nextTLV(issuer)
		full := append(bytes.Clone(dn.body), wrapTLV(0x31, e.body)...)
		return []generalName{{4, wrapTLV(0x30, full)}}
	}
	return nil
}

func generalNames(b []byte) []generalName {
	var out []generalName
	for _, e := range elements(b, maxPoints) {
		out = append(out, generalName{int(e.tag & 0x1F), e.body})
	}
	return out
}

// reasonFlags reads a BIT STRING, whose first octet counts the unused bits.
func reasonFlags(b []byte) reasons {
	var r reasons
	for i := 0; len(b) > 1 && i < 8*(len(b)-1) && i <= 8; i++ {
		if b[1+i/8]&(0x80>>(i%8)) != 0 {
			r |= 1 << i
		}
	}
	return r & allReasons
}

func (g generalName) same(o generalName) bool {
	if g.tag != o.tag {
		return false
	}
	return bytes.Equal(g.value, o.value) || g.tag == 4 && nameKey(g.value) == nameKey(o.value)
}

func overlap(a, b []generalName) bool {
	return slices.ContainsFunc(a, func(n generalName) bool { return slices.ContainsFunc(b, n.same) })
}

// covers says that the list is one that p leads to, and is about certificates
// like c: RFC 5280, Section 6.3.3 (b).
func (l *crl) covers(c *Cert, p point) bool {
	switch {
	case len(p.issuer) > 0 && (!l.scope.indirect || !overlap(p.issuer, []generalName{{4, l.RawIssuer}})):
		return false
	case len(p.issuer) == 0 && l.issuer != c.nameKeys[1]:
		return false
	case l.scope.attributes, l.scope.users && c.isCA(), l.scope.cas && !c.isCA():
		return false
	case len(l.scope.names) == 0:
		return true
	case len(p.names) == 0:
		return overlap(l.scope.names, p.issuer)
	}
	return overlap(l.scope.names, p.names)
}

// entry is what the list says about c. In an indirect list each entry is about
// the issuer named last: RFC 5280, Section 5.3.3.
func (l *crl) entry(c *Cert) (found x509.RevocationListEntry, ok bool) {
	issuer := l.issuer
	for _, e := range l.RevokedCertificateEntries {
		for _, x := range e.Extensions {
			if x.Id.Equal(oidCertificateIssuer) && l.scope.indirect {
				seq, _, _ := nextTLV(x.Value)
				for _, n := range generalNames(seq.body) {
					if n.tag == 4 {
						issuer = nameKey(n.value)
					}
				}
			}
		}
		if issuer == c.nameKeys[1] && e.SerialNumber.Cmp(c.serial) == 0 {
			found, ok = e, true
		}
	}
	return found, ok
}

// updates says that delta continues the complete list l: RFC 5280, Section
// 6.3.3 (c). Both must be by the same key.
func (l *crl) updates(delta *crl) bool {
	return l.base == nil && delta.base != nil && delta.issuer == l.issuer && bytes.Equal(delta.scope.raw, l.scope.raw) &&
		bytes.Equal(delta.AuthorityKeyId, l.AuthorityKeyId) && l.Number != nil && delta.Number != nil &&
		delta.base.Cmp(l.Number) <= 0 && delta.Number.Cmp(l.Number) >= 0
}

// newestFirst sorts lists by number, so that the latest word is heard first.
func newestFirst(a, b *crl) int {
	if a.Number != nil && b.Number != nil {
		if n := b.Number.Cmp(a.Number); n != 0 {
			return n
		}
	}
	return cmp.Compare(b.ThisUpdate.Unix(), a.ThisUpdate.Unix())
}
