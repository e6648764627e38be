package chain

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"github.com/vouchsafe/vouchsafe/finding"
)

// finish gives the verdict and proposes the repair.
func (d *diagnosis) finish() {
	d.r.judge()
	d.showChain()
	d.propose()
	*d.r = *d.r.In(finding.English)
}

// Add puts a finding that was made elsewhere (over the network) into the
// report, and judges anew. The code must be in [Catalog].
func (r *Report) Add(code, evidence string) {
	f := Finding{Finding: Catalog.New(code, r.Input, evidence), Place: nowhere}
	r.Findings = append(r.Findings, f)
	r.judge()
	if f.Severity == finding.Error && r.Repair.Class == ClassLocal {
		r.Repair.Class = ClassNone
	}
}

// judge sorts the findings, root cause first, and gives the verdict.
func (r *Report) judge() {
	weight := func(f Finding) int {
		return slices.Index([]finding.Severity{finding.Error, finding.Warning, finding.Info}, f.Severity)
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		if x, y := weight(a), weight(b); x != y {
			return x - y
		}
		return rank(a.Code) - rank(b.Code)
	})
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Place.Cert < 0 && f.Subject == "" {
			f.Subject = r.Input
		}
	}
	var fs []finding.Finding
	for _, f := range r.Findings {
		fs = append(fs, f.Finding)
	}
	switch finding.Worst(fs) {
	case finding.Error:
		r.Verdict = Error
	case finding.Warning:
		r.Verdict = Warning
	default:
		r.Verdict = OK
	}
}

func (d *diagnosis) showChain() {
	p := d.mended
	if p == nil {
		p = d.best
	}
	if p == nil {
		return
	}
	for i, c := range p.certs {
		l := Link{SHA256: c.SHA256(), Subject: c.Subject(), Issuer: c.Issuer(), Role: "intermediate"}
		if c.X != nil {
			l.NotBefore, l.NotAfter = c.X.NotBefore.UTC(), c.X.NotAfter.UTC()
		}
		switch {
		case i == 0:
			l.Role = "leaf"
		case p.anchored && i == len(p.certs)-1 || c.selfIssued() && i == len(p.certs)-1:
			l.Role = "root"
		}
		d.r.Chain = append(d.r.Chain, l)
	}
}

// propose says what it takes, and what the file would hold then.
func (d *diagnosis) propose() {
	r := d.r
	d.r.Repair.certs = d.mendedChain()
	possible := len(r.Repair.certs) > 0
	for _, f := range r.Findings {
		// What no file can mend forbids the rest.
		if f.Severity == finding.Error {
			switch ClassOf(f.Code) {
			case ClassReissue, ClassInput, ClassNone:
				if !d.mendable(f) {
					possible = false
				}
			}
		}
	}
	if !possible {
		r.Repair.certs = nil
		r.Repair.Class = d.hardest()
		return
	}
	class := ClassNone
	for _, f := range r.Findings {
		if ClassOf(f.Code) == ClassLocal {
			class = ClassLocal
		}
		if f.Code == "EXPIRED" || ClassOf(f.Code) == ClassPool || f.Code == "TOO_COMPLEX" {
			class = ClassLocal // the good edition may be in the file already
		}
	}
	for _, c := range r.Repair.certs {
		r.Repair.Chain = append(r.Repair.Chain, c.SHA256())
		if c.origin == fromPool && !d.beside(c) && class != ClassNetwork {
			class = ClassPool
			if d.o.Fetched != nil && d.o.Fetched.bySHA[c.sha] != nil {
				class = ClassNetwork
			}
		}
	}
	r.Repair.Class = class
}

// mendable says that an error of a class that files cannot mend is mended all
// the same: it is about a certificate that the repaired chain does not have.
func (d *diagnosis) mendable(f Finding) bool {
	if f.Place.Cert < 0 || f.Place.Cert >= len(d.f.Certs) {
		// About a CA from elsewhere: a sound path without it was found.
		return f.Subject != "" && f.Subject != d.r.Input && d.mended != nil && !slices.ContainsFunc(d.mended.certs, func(c *Cert) bool { return c.Subject() == f.Subject })
	}
	if f.Code == "CSR_NOT_CERT" || f.Code == "PUBLIC_KEY_NOT_CERT" {
		return true
	}
	c := d.f.Certs[f.Place.Cert]
	return c != d.leaf && !slices.ContainsFunc(d.r.Repair.certs, func(m *Cert) bool { return m.sha == c.sha })
}

// hardest is the class of a file that cannot be mended from what is at hand.
func (d *diagnosis) hardest() Class {
	order := []Class{ClassNone, ClassLocal, ClassPool, ClassNetwork, ClassReissue, ClassInput}
	worst := ClassNone
	stuck := false // an error that says only what to do
	for _, f := range d.r.Findings {
		if f.Severity != finding.Error {
			continue
		}
		c := ClassOf(f.Code)
		switch f.Code {
		case "TRUNCATED_CERT", "MALFORMED_CERT", "BAD_SIGNATURE", "BASE64_DAMAGED":
			if d.leaf == nil || f.Place.Cert == d.leaf.Index || f.Code == "BASE64_DAMAGED" {
				c = ClassInput
			}
		case "MISSING_INTERMEDIATE":
			if top := d.best.certs[len(d.best.certs)-1]; top.X != nil && len(top.X.IssuingCertificateURL) > 0 {
				c = ClassNetwork
			}
		case "PKCS12":
			if len(d.f.Certs) == 0 {
				c = ClassInput
			}
		}
		stuck = stuck || c == ClassNone
		if slices.Index(order, c) > slices.Index(order, worst) {
			worst = c
		}
	}
	if stuck && slices.Index(order, worst) < slices.Index(order, ClassReissue) {
		return ClassNone
	}
	return worst
}

// mendedChain is what the file should hold: the leaf, then the intermediates,
// and no root.
func (d *diagnosis) mendedChain() []*Cert {
	if d.mended == nil || d.leaf == nil || d.r.Has("KEY_MISMATCH") {
		return nil
	}
	if len(d.clean) > 1 && !d.r.Has("ORDER_WRONG") {
		// Several good paths: the file may serve them all, as it does now.
		var out []*Cert
		for _, c := range d.certs {
			if c == d.leaf || d.used[c] && !(c.selfIssued() && d.o.Roots.holds(c) != nil) {
				out = append(out, c)
			}
		}
		if len(out) > 0 && out[0] == d.leaf {
			return out
		}
	}
	var out []*Cert
	for i, c := range d.mended.certs {
		if i > 0 && i == len(d.mended.certs)-1 && (c.selfIssued() || c.origin == fromRoots) {
			break
		}
		out = append(out, c)
	}
	return out
}

// Encode writes certificates as canonical PEM: RFC 7468, Section 5, lines of
// 64, LF, nothing between the blocks.
func Encode(certs []*Cert) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return b.Bytes()
}

// Certs returns the certificates of the repaired chain, leaf first.
func (r Repair) Certs() []*Cert { return r.certs }

// CannotRepair says why there is nothing to write.
type CannotRepair struct {
	Class   Class
	Missing []string // the codes that stand in the way
}

func (e *CannotRepair) Error() string {
	if len(e.Missing) == 0 {
		return "the chain cannot be repaired"
	}
	return "the chain cannot be repaired: " + strings.Join(e.Missing, ", ")
}

// Fix writes the repaired file of a report, and proves it: what it returns has
// been read and checked again, and is clean. The error is a *CannotRepair.
func Fix(r *Report, o Options) ([]byte, error) {
	if len(r.Repair.certs) == 0 {
		e := &CannotRepair{Class: r.Repair.Class}
		for _, hard := range []bool{true, false} {
			for _, f := range r.Findings {
				if f.Severity == finding.Error && len(e.Missing) < 8 && (ClassOf(f.Code) != ClassLocal) == hard && (hard || len(e.Missing) == 0) {
					e.Missing = append(e.Missing, f.Code)
				}
			}
		}
		return nil, e
	}
	out := Encode(r.Repair.certs)
	again := Check(r.Input, out, o)
	for _, f := range again.Findings {
		if c := ClassOf(f.Code); f.Severity == finding.Error || c == ClassLocal && f.Severity == finding.Warning {
			return nil, &CannotRepair{Class: again.Repair.Class, Missing: again.Codes()}
		}
	}
	for i, c := range again.file.Certs {
		if c.sha != r.Repair.certs[i].sha {
			return nil, fmt.Errorf("internal error: the repaired chain does not read back")
		}
	}
	return out, nil
}
