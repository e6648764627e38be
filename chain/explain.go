package chain

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"filippo.io/mldsa"
	"github.com/vouchsafe/vouchsafe/finding"
)

// explain turns the faults of the best path into findings.
func (d *diagnosis) explain() {
	p := d.best
	d.used = map[*Cert]bool{}
	mark := func(p *path) {
		for _, c := range p.certs {
			d.used[c] = true
		}
	}
	for _, q := range d.clean {
		mark(q)
	}
	if d.mended != nil {
		mark(d.mended)
	}
	mark(p)
	for _, c := range d.certs {
		if c.Damage != "" {
			d.damaged(c)
		}
	}
	top := p.certs[len(p.certs)-1]
	selfSigned := !p.anchored && len(p.certs) == 1 && top.selfIssued() && top.X != nil && d.find.verifies(top, top)
	for i, l := range p.links {
		d.explainLink(p, i, l)
	}
	if !p.anchored {
		d.explainEnd(top)
	}
	for _, f := range p.faults {
		if selfSigned && (f.code == "NOT_A_CA" || f.code == "CA_KEY_USAGE") {
			continue
		}
		place := at(f.cert)
		g := d.add(f.code, f.cert, place, f.evidence, f.args...)
		if f.severity != "" {
			g.Severity = f.severity
		}
	}
}

func (d *diagnosis) damaged(c *Cert) {
	f := d.add(c.Damage, c, at(c), c.evidence, c.short())
	if c == d.leaf {
		f.Consequences = append(f.Consequences, "nothing else about the leaf can be checked")
	} else if len(d.certs) > 1 {
		f.Consequences = append(f.Consequences, "clients say: unable to get issuer certificate")
	}
}

// explainLink tells why certs[i] and the one above it do not fit.
func (d *diagnosis) explainLink(p *path, i int, l link) {
	child, parent := p.certs[i], p.certs[i+1]
	switch {
	case child.origin != fromPool && parent.origin == fromPool:
		d.missing(child, p.certs[i+1:])
	case l.good() || child.X == nil || parent.X == nil && !l.signed && !(l.named && parent.keyWhole()):
	case !checkable(parent, child) && l.named:
		// Ed448, say: nobody is accused of what we cannot verify.
		d.add("UNKNOWN_ALGORITHM", parent, at(parent), "its key or its signature is of a kind that we do not know, so whether it signed "+child.short()+" is open")
	case l.signed:
		d.add("ISSUER_NAME_MISMATCH", child, at(child), fmt.Sprintf("issuer is %s; the key is that of %s", child.Issuer(), parent.Subject()), child.short(), child.Issuer(), parent.short())
	case d.damagedRather(child, parent, l):
		d.add("BAD_SIGNATURE", child, at(child), fmt.Sprintf("issuer %s is there, and its key does not verify the signature", parent.short()), child.short())
	case i+1 < len(p.links) && !p.links[i+1].signed && l.keyID == 1:
		// The parent's own signature is bad: told there.
	case parent.origin != fromFile:
		// Not in the file, so not wrong in it: a root of the name is trusted, but
		// it is another one.
		d.add("UNKNOWN_ROOT", child, at(child), fmt.Sprintf("issuer %s: a trusted root has this name, but its key did not sign", child.Issuer()), parent.short())
	default:
		ev := "its key does not verify the signature of " + child.short()
		if l.keyID == -1 {
			ev = fmt.Sprintf("subjectKeyIdentifier %X…, but %s names the authority %X…", parent.ski[:min(6, len(parent.ski))], child.short(), child.aki[:min(6, len(child.aki))])
		}
		f := d.add("WRONG_INTERMEDIATE", parent, at(parent), ev, parent.short(), child.short())
		f.Consequences = append(f.Consequences, "clients say: unable to get local issuer certificate")
	}
}

// checkable says that we can verify whether parent signed child.
func checkable(parent, child *Cert) bool {
	switch parent.pub.(type) {
	case *mldsa.PublicKey:
		return true
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
		return child.X == nil || child.X.SignatureAlgorithm != x509.UnknownSignatureAlgorithm
	}
	return false
}

// damagedRather tells a certificate whose bytes have changed from one that
// another key signed.
func (d *diagnosis) damagedRather(child, parent *Cert, l link) bool {
	// The same certificate, whole, is somewhere else: then this one is damaged.
	for _, o := range d.o.Pool.named(child.nameKeys[0]) {
		if o.X == nil || child.X == nil {
			continue
		}
		same := bytes.Equal(o.X.RawTBSCertificate, child.X.RawTBSCertificate) || o.serial != nil && child.serial != nil && o.serial.Cmp(child.serial) == 0 && len(o.Raw) == len(child.Raw)
		if same && o.sha != child.sha {
			return true
		}
	}
	// Somebody of that name, somewhere, did sign it: then this is the wrong one.
	for _, s := range []*Store{d.o.Pool, d.o.Roots} {
		for _, o := range s.named(child.nameKeys[1]) {
			if o != parent && d.find.verifies(o, child) {
				return false
			}
		}
	}
	// The parent itself has changed, and with it perhaps its key.
	if parent.origin == fromFile && d.changed(parent) {
		return false
	}
	switch {
	case madeBy(parent.pub, child.X):
		return true
	case l.keyID == 0 && parent.origin != fromFile:
		return true
	case l.keyID == 1:
		return true
	case l.keyID == -1:
		return nearlyEqual(child.aki, parent.ski)
	}
	return false
}

// changed says that c's own signature fails under the key it names.
func (d *diagnosis) changed(c *Cert) bool {
	for _, q := range d.best.certs {
		if q != c && len(c.aki) > 0 && bytes.Equal(q.ski, c.aki) && q.nameKeys[0] == c.nameKeys[1] {
			return !d.find.verifies(q, c)
		}
	}
	return false
}

// missing tells of certificates that the pool has and the file has not.
func (d *diagnosis) missing(child *Cert, above []*Cert) {
	var names []string
	for _, c := range above {
		if c.origin != fromPool {
			break
		}
		if !d.standsDamaged(c) {
			names = append(names, c.short())
		}
	}
	if len(names) == 0 {
		return // damaged ones in the file are the missing ones: told there
	}
	where := "not in the file, but in the pool: "
	if d.beside(above[0]) {
		where = "trusted by the keystore, but not in the chain of its key: "
	}
	d.add("MISSING_INTERMEDIATE", child, at(child), where+strings.Join(names, ", "), names[0], child.short())
}

// standsDamaged says that the file has c, damaged, or something so damaged that
// it may be c.
func (d *diagnosis) standsDamaged(c *Cert) bool {
	return slices.ContainsFunc(d.certs, func(o *Cert) bool {
		switch {
		case o.Damage == "" || o == d.leaf:
			return false
		case o.endOnly:
			return bytes.HasSuffix(c.Raw, o.Raw)
		}
		return len(o.subject) == 0 || o.nameKeys[0] == c.nameKeys[0]
	})
}

// explainEnd tells why the path ends before a trusted root.
func (d *diagnosis) explainEnd(top *Cert) {
	if top.X == nil && len(top.issuer) == 0 {
		return // cut before its issuer: told as damage
	}
	if top.selfIssued() && (top.X == nil || d.find.verifies(top, top)) {
		if top == d.leaf {
			d.add("SELF_SIGNED", top, at(top), "issuer and subject are the same, and its own key signed it")
			return
		}
		d.add("UNKNOWN_ROOT", top, at(top), fmt.Sprintf("self-signed, SHA-256 %s…, not among %d trusted roots", top.SHA256()[:16], d.o.Roots.Len()), top.short())
		return
	}
	if top.selfIssued() && top.X != nil && top == d.leaf && !checkable(top, top) {
		d.add("UNKNOWN_ALGORITHM", top, at(top), "issuer and subject are the same, but its key or its signature is of a kind that we do not know")
		return
	}
	if top.selfIssued() && top.X != nil && top == d.leaf && sameKeyID(top, top) {
		d.add("BAD_SIGNATURE", top, at(top), "issuer and subject are the same, and its own key does not verify it", top.short())
		return
	}
	// Another edition of a CA on the path is trusted.
	for _, c := range d.best.certs[min(1, len(d.best.certs)-1):] {
		other := d.edition(c)
		switch {
		case c == d.leaf || other == nil:
		case d.changedEdition(c, other):
			d.missingAbove(c, other)
			return
		case c.X == nil: // told as damage
			d.missingAbove(c, other)
			if c == top {
				return
			}
		case c.nameKeys[1] != other.nameKeys[1]:
			d.add("CROSS_SIGNED_UNTRUSTED", c, at(c), fmt.Sprintf("issuer %s leads to no trusted root; the edition by %s does", c.Issuer(), other.Issuer()), c.short(), nameShort(c.Issuer()), nameShort(other.Issuer()))
			return
		}
	}
	if top == d.leaf && d.strayDamage() {
		return
	}
	issuer := nameShort(top.Issuer())
	if d.rootRather(top) {
		d.add("UNKNOWN_ROOT", top, at(top), fmt.Sprintf("its issuer %s is neither in the file nor in the pool nor among %d trusted roots", top.Issuer(), d.o.Roots.Len()), issuer)
		return
	}
	ev := "no certificate with the subject " + top.Issuer()
	if top.X != nil && len(top.X.IssuingCertificateURL) > 0 {
		ev += "; to be fetched from " + clipName(top.X.IssuingCertificateURL[0])
	}
	d.add("MISSING_INTERMEDIATE", top, at(top), ev, issuer, top.short())
}

// strayDamage says that the file has a damaged CA with no place on the path:
// it is the missing one. The end of a certificate before the leaf is not: what
// was copied began too early.
func (d *diagnosis) strayDamage() bool {
	return slices.ContainsFunc(d.certs, func(c *Cert) bool {
		return c.X == nil && c != d.leaf && len(c.subject) == 0 && !(c.endOnly && c.Index < d.leaf.Index)
	})
}

// edition finds another certificate for the same CA on the mended path.
func (d *diagnosis) edition(c *Cert) *Cert {
	if d.mended == nil {
		return nil
	}
	for _, o := range d.mended.certs {
		if o != c && sameKeyAndName(o, c) {
			return o
		}
	}
	return nil
}

// changedEdition tells c, another edition of a certificate on the mended path,
// from a cross-sign: it is the same certificate with a bad signature, or by the
// same key under another name. True when it is, and was told.
func (d *diagnosis) changedEdition(c, good *Cert) bool {
	if c.X == nil || good.X == nil {
		return false
	}
	if bytes.Equal(c.X.RawTBSCertificate, good.X.RawTBSCertificate) {
		d.add("BAD_SIGNATURE", c, at(c), "the same certificate, with a good signature, is at hand", c.short())
		return true
	}
	up := d.mended.above(good)
	if len(up) == 0 || c.nameKeys[1] == good.nameKeys[1] || !d.find.verifies(up[0], c) {
		return false
	}
	d.add("ISSUER_NAME_MISMATCH", c, at(c), fmt.Sprintf("issuer is %s; the key is that of %s", c.Issuer(), up[0].Subject()), c.short(), c.Issuer(), up[0].short())
	return true
}

// missingAbove tells what the file lacks above c, whose good edition is on the
// mended path.
func (d *diagnosis) missingAbove(c, good *Cert) {
	if up := d.mended.above(good); len(up) > 0 && up[0].origin == fromPool && !d.r.Has("MISSING_INTERMEDIATE") {
		d.missing(c, up)
	}
}

// shippedRoots are roots that laptops came with, their keys known to everyone:
// a leaf of theirs was made by malware or by a proxy on that machine.
var shippedRoots = []string{"eDellRoot", "DSDTestProvider", "Superfish"}

// rootRather guesses whether the unknown issuer is a root that is not trusted,
// or an intermediate that is not here. Whom a root has signed publishes no
// caIssuers as a rule, and roots are called so.
func (d *diagnosis) rootRather(top *Cert) bool {
	if slices.ContainsFunc(shippedRoots, func(n string) bool { return strings.Contains(top.Issuer(), "CN="+n) }) {
		return true
	}
	name := strings.ToLower(top.Issuer())
	switch words := strings.FieldsFunc(name, func(r rune) bool { return r < 0x80 && !isLetter(byte(r)) }); {
	case slices.Contains(words, "root"):
		return true
	case top.X != nil && len(top.X.IssuingCertificateURL) > 0 || top == d.leaf:
		return false
	}
	return d.o.Pool.Len() > 0 || strings.Contains(name, "root") || strings.Contains(name, "primary")
}

// nameShort takes the common name out of a name's text.
func nameShort(s string) string {
	for _, part := range strings.Split(s, ",") {
		if cn, ok := strings.CutPrefix(part, "CN="); ok {
			return clipName(cn)
		}
	}
	return clipName(s)
}

// extras tells of certificates that no path uses.
func (d *diagnosis) extras() {
	if d.leaf.X == nil && len(d.leaf.issuer) == 0 {
		return // nobody can say what belongs to it
	}
	if d.f.entries > 1 {
		d.add("KEYSTORE_ENTRIES", d.leaf, at(d.leaf), fmt.Sprintf("%d key entries", d.f.entries), d.leaf.short(), fmt.Sprint(d.f.entries))
	}
	if d.o.Purpose == CA && !slices.ContainsFunc(d.certs, func(c *Cert) bool { return c.X == nil || !c.selfIssued() }) {
		d.rootsEach()
		return
	}
	for _, c := range d.certs {
		if c == d.leaf || c.Damage != "" {
			continue
		}
		anchor := d.o.Roots.holds(c)
		if c.selfIssued() && (anchor != nil || d.anchorOf(c)) && (d.f.entries <= 1 || d.anchorOf(c)) {
			d.add("ROOT_INCLUDED", c, at(c), "self-signed, and clients have it")
			continue
		}
		if d.used[c] || d.f.entries > 1 {
			continue // used, or of another entry's chain
		}
		switch twin := d.twin(c); {
		case !d.looksCA(c):
			f := d.add("TWO_LEAVES", c, at(c), fmt.Sprintf("besides %s", d.leaf.short()))
			if c.Index < d.leaf.Index {
				f.Severity = finding.Error
				f.Consequences = append(f.Consequences, "servers take this one, the first, as their own")
			}
		case twin != nil && d.mended != nil && d.edition(c) != nil && d.changedEdition(c, d.edition(c)):
		case twin != nil && d.expiredEdition(c):
			d.add("CROSS_SIGNED_EXPIRED", c, at(c), fmt.Sprintf("signed by %s, valid until %s", c.Issuer(), stamp(c.X.NotAfter)))
		case twin != nil && d.best.anchored:
			d.add("CROSS_SIGNED_UNUSED", c, at(c), "signed by "+c.Issuer())
		case twin != nil:
		case !d.best.anchored && len(d.find.complete(c, false)) > 0:
			// It leads to a root, and the path ends in a gap: it may be what comes
			// after the gap.
		default:
			d.add("UNRELATED_CERT", c, at(c), "no path from "+d.leaf.short()+" uses it")
		}
	}
}

// rootsEach is for a file of roots, which is no chain: nothing in it is sent,
// and each stands for itself.
func (d *diagnosis) rootsEach() {
	for _, c := range d.certs {
		if c == d.leaf {
			continue
		}
		for _, f := range checkPath(&path{certs: []*Cert{c}, anchored: true}, d.o) {
			if g := d.add(f.code, f.cert, at(f.cert), f.evidence, f.args...); f.severity != "" {
				g.Severity = f.severity
			}
		}
	}
}

// twin finds another certificate on a path for the same CA as c.
func (d *diagnosis) twin(c *Cert) *Cert {
	for o := range d.used {
		if o != c && sameKeyAndName(o, c) {
			return o
		}
	}
	return nil
}

// anchorOf says that c stands for the anchor of the best path.
func (d *diagnosis) anchorOf(c *Cert) bool {
	top := d.best.certs[len(d.best.certs)-1]
	return d.best.anchored && sameKeyAndName(top, c)
}

// expiredEdition says that c, or whoever signed it as far as known, has expired.
func (d *diagnosis) expiredEdition(c *Cert) bool {
	if c.X.NotAfter.Before(d.o.Time) {
		return true
	}
	issuers := slices.Concat(d.o.Roots.named(c.nameKeys[1]), d.o.Pool.named(c.nameKeys[1]), d.certs)
	for _, i := range issuers {
		if i.X != nil && i.nameKeys[0] == c.nameKeys[1] && i.X.NotAfter.Before(d.o.Time) && d.find.verifies(i, c) {
			return true
		}
	}
	return false
}

// order holds the order of the file against that of the path: RFC 5246,
// Section 7.4.2: leaf first, each next one certifies the one before it. RFC
// 8446, Section 4.4.2 is milder, except for the leaf.
func (d *diagnosis) order() {
	if d.leaf.unordered {
		return // a SET OF has no order to get wrong
	}
	if len(d.clean) > 1 {
		d.orderAmong()
		return
	}
	for _, p := range []*path{d.best, d.mended} {
		if p == nil {
			continue
		}
		var want []*Cert
		for i, c := range p.certs {
			if c.origin == fromFile && c.Index >= 0 && !(i > 0 && i == len(p.certs)-1 && p.anchored && c.selfIssued()) && d.o.Roots.holds(c) == nil {
				want = append(want, c)
			}
		}
		if d.outOfOrder(want) {
			return
		}
	}
}

func (d *diagnosis) outOfOrder(want []*Cert) bool {
	have := slices.Clone(want)
	slices.SortFunc(have, func(a, b *Cert) int { return a.Index - b.Index })
	for i := range want {
		if want[i] != have[i] {
			var is, should []string
			for k := range want {
				is = append(is, fmt.Sprint(have[k].Index))
				should = append(should, fmt.Sprint(want[k].Index))
			}
			f := d.add("ORDER_WRONG", have[i], at(have[i]), fmt.Sprintf("certificates stand as %s; the path is %s", strings.Join(is, " "), strings.Join(should, " ")))
			if i == 0 {
				f.Consequences = append(f.Consequences, "servers say: key values mismatch", "clients say: unsuitable certificate purpose, or a wrong name")
			}
			return true
		}
	}
	return false
}

// orderAmong is for several good paths (cross-signs): the leaf is first, and
// every certificate comes after one that it certifies.
func (d *diagnosis) orderAmong() {
	placed := map[*Cert]bool{}
	for _, c := range d.certs {
		if !d.used[c] || c.selfIssued() && d.o.Roots.holds(c) != nil {
			continue
		}
		ok := c == d.leaf
		for _, p := range d.clean {
			for i, l := range p.certs[:len(p.certs)-1] {
				ok = ok || p.certs[i+1] == c && placed[l]
			}
		}
		if !ok {
			d.add("ORDER_WRONG", c, at(c), "it stands before every certificate that it certifies")
			return
		}
		placed[c] = true
	}
}

// clock folds "all expired" and "none valid yet" into one cause.
func (d *diagnosis) clock() {
	if len(d.best.certs) < 2 {
		return
	}
	// One clock is not sure of itself once.
	unsure := func(f Finding) bool { return f.Code == "CLOCK_UNCERTAIN" }
	if first := slices.IndexFunc(d.r.Findings, unsure); first >= 0 {
		f := &d.r.Findings[first]
		rest := d.r.Findings[first+1:]
		if n := len(rest) - len(slices.DeleteFunc(slices.Clone(rest), unsure)); n > 0 {
			f.Consequences = append(f.Consequences, fmt.Sprintf("CLOCK_UNCERTAIN on %d certificates", n+1))
			d.r.Findings = append(d.r.Findings[:first+1], slices.DeleteFunc(rest, unsure)...)
		}
	}
	for code, cause := range map[string]string{"EXPIRED": "CLOCK_AHEAD", "NOT_YET_VALID": "CLOCK_BEHIND"} {
		n, whole := 0, 0
		for _, c := range d.best.certs {
			if c.X == nil {
				continue
			}
			whole++
			if slices.ContainsFunc(d.best.faults, func(f fault) bool { return f.cert == c && f.code == code }) {
				n++
			}
		}
		// An old leaf and its old intermediate are two that are expired; only when
		// the root is too, which outlives them by decades, it is the clock.
		if top := d.best.certs[len(d.best.certs)-1]; code == "EXPIRED" && !d.best.anchored && !top.selfIssued() {
			continue
		}
		// A root from long ago is valid even for a clock that is years behind.
		all := n == whole || code == "NOT_YET_VALID" && n == whole-1 && n >= 2 && d.best.anchored
		if n < 2 || !all {
			continue
		}
		d.r.Findings = slices.DeleteFunc(d.r.Findings, func(f Finding) bool { return f.Code == code || f.Code == "CRL_UNUSABLE" || f.Code == "OCSP_UNUSABLE" })
		x := d.leaf.X
		ev := fmt.Sprintf("all %d certificates fail the same way; the check is at %s", n, stamp(d.o.Time))
		if x != nil {
			ev += fmt.Sprintf(", the leaf is valid from %s to %s", stamp(x.NotBefore), stamp(x.NotAfter))
		}
		f := d.add(cause, nil, nowhere, ev)
		f.Consequences = append(f.Consequences, fmt.Sprintf("%s on %d certificates", code, n))
	}
}
