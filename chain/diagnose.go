package chain

import (
	"bytes"
	"crypto"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/vouchsafe/vouchsafe/finding"
)

// diagnosis turns one file into one report.
type diagnosis struct {
	o *Options
	f *File
	r *Report

	certs  []*Cert // without duplicates, in the order of the file
	leaf   *Cert
	find   *finder
	clean  []*path // sound and without an error, from the file alone
	mended *path   // the best sound path without an error, from anywhere
	best   *path   // what the findings are about
	used   map[*Cert]bool
}

// add puts a finding into the report; the pointer is good until the next one.
func (d *diagnosis) add(code string, c *Cert, p Place, evidence string, args ...string) *Finding {
	subject := ""
	if c != nil {
		subject = c.Subject()
	}
	f := Finding{Finding: Catalog.New(code, subject, evidence, args...), Place: p}
	if len(d.r.Findings) >= maxFindings {
		return &f
	}
	// One thing wrong in one place is one finding.
	for i := range d.r.Findings {
		old := &d.r.Findings[i]
		if old.Code == code && old.Subject == subject && old.Place == p {
			return old
		}
	}
	d.r.Findings = append(d.r.Findings, f)
	return &d.r.Findings[len(d.r.Findings)-1]
}

// at is the place of a certificate, nowhere for one that is not in the file.
func at(c *Cert) Place {
	if c.Index < 0 {
		return nowhere
	}
	return c.Place
}

func (d *diagnosis) run() {
	for _, n := range d.f.notes {
		ev := n.evidence
		if n.count > 1 {
			ev = fmt.Sprintf("%s (%d times)", ev, n.count)
		}
		if f := d.add(n.code, nil, n.place, ev); n.mild {
			f.Severity = finding.Warning
		}
	}
	d.items()
	if len(d.f.Certs) == 0 {
		return
	}
	d.unique()
	if len(d.f.beside) > 0 {
		d.o.Pool = NewPool(slices.Concat(d.f.beside, d.o.Pool.Certs()))
	}
	d.find = newFinder(d.certs, d.o.Roots, d.o.Pool)
	d.believeSigned()
	d.o.OCSP = readOCSP(d.o.OCSP)
	d.o.revocation = newRevocation(d.o, d.readCRLs(), d.find)
	d.chooseLeaf()
	if d.leaf == nil {
		for _, c := range d.certs {
			if c.Damage != "" {
				d.damaged(c)
			}
		}
		return
	}
	d.checkKey()
	d.paths()
	d.explain()
	d.extras()
	d.order()
	d.clock()
	if d.find.spent && len(d.clean) == 0 && d.mended == nil {
		d.add("TOO_COMPLEX", nil, nowhere, fmt.Sprintf("%d signatures checked", d.find.checks))
	}
}

// items tells of what is in the file besides certificates.
func (d *diagnosis) items() {
	alone := len(d.f.Certs) == 0
	keys := slices.ContainsFunc(d.f.Items, func(i Item) bool { return i.Kind == KindPrivateKey || i.Kind == KindEncryptedKey })
	for _, it := range d.f.Items {
		p := it.Place
		p.Cert = -1
		if !alone {
			p.Cert = max(it.Place.Cert-1, 0) // it stands after this one
		}
		what := "BEGIN " + it.Label
		if it.Label == "" {
			what = string(it.Kind)
		}
		switch {
		case it.Kind == KindPrivateKey || it.Kind == KindEncryptedKey:
			if alone {
				d.add("PRIVATE_KEY_NOT_CERT", nil, p, what)
			} else {
				d.add("PRIVATE_KEY_IN_CHAIN", nil, p, what)
			}
		case it.Kind == KindRequest:
			f := d.add("CSR_NOT_CERT", nil, p, what)
			if !alone {
				f.Severity = finding.Warning
			}
		case it.Kind == KindPublicKey:
			if f := d.add("PUBLIC_KEY_NOT_CERT", nil, p, what); !alone {
				f.Severity = finding.Warning
			}
		case alone && !keys && isCertLabel(it.Label):
			d.add("BASE64_DAMAGED", nil, p, what)
		case alone && !keys:
			d.add("NOT_A_CERTIFICATE", nil, p, what)
		default:
			d.add("EXTRA_ITEM", nil, p, what)
		}
	}
}

// unique sets copies aside: however many there are, somebody joined two files once.
func (d *diagnosis) unique() {
	seen := map[[32]byte]*Cert{}
	var copies []*Cert
	var ev []string
	for _, c := range d.f.Certs {
		if first := seen[c.sha]; first != nil {
			if d.f.entries > 1 {
				continue // each key has its chain, and they may share it
			}
			copies = append(copies, c)
			if len(ev) < 3 {
				ev = append(ev, fmt.Sprintf("certificate %d is certificate %d again", c.Index, first.Index))
			}
			continue
		}
		seen[c.sha] = c
		d.certs = append(d.certs, c)
	}
	if n := len(copies); n > len(ev) {
		ev = append(ev, fmt.Sprintf("and %d more", n-len(ev)))
	}
	if len(copies) > 0 {
		d.add("DUPLICATE", copies[0], at(copies[0]), strings.Join(ev, ", "))
	}
}

// issuesAnother says that another certificate here names c as its issuer.
func (d *diagnosis) issuesAnother(c *Cert) bool {
	return slices.ContainsFunc(d.certs, func(o *Cert) bool {
		return o != c && len(o.issuer) > 0 && o.nameKeys[1] == c.nameKeys[0] && !bytes.Equal(o.subject, c.subject)
	})
}

// looksCA says that c is meant to be a CA, damaged or not.
func (d *diagnosis) looksCA(c *Cert) bool {
	if c.X != nil {
		return c.isCA() || d.issuesAnother(c)
	}
	if d.issuesAnother(c) {
		return true
	}
	// CA:TRUE in what is left of basicConstraints.
	return bytes.Contains(c.Raw, []byte{0x30, 0x03, 0x01, 0x01, 0xFF}) || bytes.Contains(c.Raw, []byte{0x30, 0x06, 0x01, 0x01, 0xFF, 0x02, 0x01})
}

// keysHere are the keys that say whose file this is: the one given, or the
// private keys in the file.
func (d *diagnosis) keysHere() []crypto.PublicKey {
	if d.o.Key != nil {
		return []crypto.PublicKey{d.o.Key}
	}
	out := slices.Clone(d.f.keys)
	for _, it := range d.f.Items {
		if it.Kind == KindPrivateKey {
			if pub := it.public(); pub != nil {
				out = append(out, pub)
			}
		}
	}
	return out
}

// chooseLeaf finds the certificate that the file is about.
func (d *diagnosis) chooseLeaf() {
	keys := d.keysHere()
	for _, c := range d.certs {
		if slices.ContainsFunc(keys, c.hasKey) && (d.leaf == nil || d.rather(c, d.leaf)) {
			d.leaf = c
		}
	}
	if d.leaf != nil {
		return
	}
	var ends []*Cert
	for _, c := range d.certs {
		if !d.looksCA(c) {
			ends = append(ends, c)
		}
	}
	if d.o.Purpose == CA && len(ends) == 0 {
		for _, c := range d.certs {
			if !d.issuesAnother(c) {
				d.leaf = c
				return
			}
		}
		d.leaf = d.certs[0]
		return
	}
	switch {
	case len(ends) == 1:
		d.leaf = ends[0]
	case len(ends) > 1:
		// A scrap that does not even say who issued it is nobody's leaf beside a whole one.
		d.leaf = ends[max(0, slices.IndexFunc(ends, func(c *Cert) bool { return c.X != nil || len(c.issuer) > 0 }))]
		// Renewed by appending: last year's is still the first.
		for _, c := range ends {
			if c.X != nil && d.leaf.X != nil && d.o.Time.After(d.leaf.X.NotAfter) && !d.o.Time.After(c.X.NotAfter) && shareName(c, d.leaf) {
				d.leaf = c
			}
		}
		if d.o.Name != "" {
			for _, c := range ends {
				if c.X != nil && !misnamed(c, d.o) {
					d.leaf = c
					break
				}
			}
		}
	default:
		d.leaf = d.caAsLeaf()
		if d.leaf == nil {
			c := d.certs[0]
			what := "all are CA certificates"
			if len(d.certs) == 1 {
				what = "the only certificate is a CA's"
			}
			d.add("LEAF_MISSING", c, at(c), what)
		}
	}
}

// shareName says that a host is in both certificates.
func shareName(a, b *Cert) bool {
	return slices.ContainsFunc(a.X.DNSNames, func(n string) bool { return slices.Contains(b.X.DNSNames, n) }) ||
		len(a.X.DNSNames)+len(b.X.DNSNames) == 0 && bytes.Equal(sanOf(a), sanOf(b))
}

// rather says that of two certificates with keys, as in a keystore, c is
// likelier meant than the one before it.
func (d *diagnosis) rather(c, before *Cert) bool {
	named := func(c *Cert) bool { return d.o.Name != "" && c.X != nil && !misnamed(c, d.o) }
	if named(c) != named(before) {
		return named(c)
	}
	return !d.looksCA(c) && d.looksCA(before)
}

// beside says that c is trusted in the keystore that this is about.
func (d *diagnosis) beside(c *Cert) bool {
	return slices.ContainsFunc(d.f.beside, func(o *Cert) bool { return o.sha == c.sha })
}

// caAsLeaf finds the CA certificate that is meant as a server's own: self-
// signed with a host name in it, or the one that has the name asked for.
func (d *diagnosis) caAsLeaf() *Cert {
	for _, c := range d.certs {
		if c.X == nil && len(d.certs) == 1 && bytes.Contains(c.Raw, []byte{0x55, 0x1D, 0x11}) {
			return c // damaged, and with a subjectAltName in what is left
		}
		if c.X == nil || d.issuesAnother(c) {
			continue
		}
		if d.o.Name != "" && hasSAN(c.X) && !misnamed(c, d.o) {
			return c
		}
		cn := strings.ToLower(c.X.Subject.CommonName)
		named := len(c.X.DNSNames)+len(c.X.IPAddresses) > 0 || strings.Contains(cn, ".") && validHost(cn, true) || cn == "localhost" || cn != "" && cn == hostName(d.o.Name)
		if len(d.certs) == 1 && named {
			return c
		}
	}
	return nil
}

func misnamed(c *Cert, o *Options) bool {
	bad := false
	checkName(c, &Options{Name: o.Name, Purpose: Server}, func(string, *Cert, string, ...string) { bad = true })
	return bad
}

func (d *diagnosis) checkKey() {
	keys := d.keysHere()
	if len(keys) == 0 || d.leaf.Damage != "" || slices.ContainsFunc(keys, d.leaf.hasKey) {
		return
	}
	d.add("KEY_MISMATCH", d.leaf, at(d.leaf), "the key's public half is not the certificate's")
}

// errorsOf counts the errors among a path's faults.
func errorsOf(fs []fault) int {
	n := 0
	for _, f := range fs {
		if severityOf(f) == finding.Error {
			n++
		}
	}
	return n
}

func severityOf(f fault) finding.Severity {
	if f.severity != "" {
		return f.severity
	}
	return codes[rank(f.code)].severity
}

// paths finds the sound ones, and the one that explains the file best.
func (d *diagnosis) paths() {
	var faulty []*path
	for _, p := range d.find.complete(d.leaf, false) {
		p.faults = checkPath(p, d.o)
		if errorsOf(p.faults) == 0 {
			d.clean = append(d.clean, p)
		} else {
			faulty = append(faulty, p)
		}
	}
	if len(d.clean) > 0 {
		slices.SortStableFunc(d.clean, func(a, b *path) int { return len(a.certs) - len(b.certs) })
		d.best, d.mended = d.clean[0], d.clean[0]
		return
	}
	for _, p := range d.find.complete(d.leaf, true) {
		p.faults = checkPath(p, d.o)
		if errorsOf(p.faults) == 0 && (d.mended == nil || d.better(p, d.mended)) {
			d.mended = p
		}
	}
	d.best = d.find.likely(d.leaf, d.price)
	for _, p := range faulty {
		if c := d.price(p); c < d.best.cost {
			p.cost = c
			d.best = p
		}
	}
	if d.best.faults == nil {
		d.best.faults = checkPath(d.best, d.o)
	}
}

// better prefers a path with more of the file's own certificates, then the
// shorter, then the one that lives longer.
func (d *diagnosis) better(a, b *path) bool {
	own := func(p *path) (n int) {
		for _, c := range p.certs {
			if c.origin == fromFile {
				n++
			}
		}
		return n
	}
	if x, y := own(a), own(b); x != y {
		return x > y
	}
	if len(a.certs) != len(b.certs) {
		return len(a.certs) < len(b.certs)
	}
	life := func(p *path) int64 {
		end := p.certs[0].X.NotAfter
		for _, c := range p.certs {
			if c.X != nil && c.X.NotAfter.Before(end) {
				end = c.X.NotAfter
			}
		}
		return end.Unix()
	}
	return life(a) > life(b)
}

// price is what a path costs for its faults and for what it leaves unused.
func (d *diagnosis) price(p *path) int {
	cost := 0
	for _, f := range checkPath(p, d.o) {
		if severityOf(f) == finding.Error {
			cost += costFault
		}
	}
	top := p.certs[len(p.certs)-1]
	for _, c := range d.certs {
		if d.looksCA(c) && !slices.Contains(p.certs, c) && d.o.Roots.holds(c) == nil && !(c.selfIssued() && !p.anchored && c.nameKeys[0] != top.nameKeys[1]) {
			same := slices.ContainsFunc(p.certs, func(o *Cert) bool { return sameKeyAndName(o, c) && o.origin == fromFile })
			if !same {
				cost += costUnused
			}
		}
	}
	return cost
}

// nearlyEqual says that two identifiers differ by a few bits: damage, not another key.
func nearlyEqual(a, b []byte) bool {
	if len(a) != len(b) || len(a) == 0 {
		return false
	}
	n := 0
	for i := range a {
		n += bits.OnesCount8(a[i] ^ b[i])
	}
	return n <= 8
}
