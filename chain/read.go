package chain

import (
	"bytes"
	"crypto"
	"fmt"
	"slices"
	"strings"
)

// Place is where in its file something was seen.
type Place struct {
	Cert int // index of the certificate in the file, from 0; -1 when it is about no certificate
	Line int // from 1; 0 when the file has no lines
	Byte int // from 0; -1 when unknown
}

// nowhere is the place of what is not in the file.
var nowhere = Place{Cert: -1, Byte: -1}

// Kind is what a thing in a file turned out to be, whatever its label says.
type Kind string

const (
	KindCertificate  Kind = "certificate"
	KindPrivateKey   Kind = "private key"
	KindEncryptedKey Kind = "encrypted private key"
	KindPublicKey    Kind = "public key"
	KindRequest      Kind = "certificate request"
	KindCRL          Kind = "certificate revocation list"
	KindPKCS7        Kind = "PKCS #7 bundle"
	KindPKCS12       Kind = "PKCS #12 file"
	KindOther        Kind = "something else"
)

// Item is one thing in a file that is not a certificate.
type Item struct {
	Kind  Kind
	Label string
	DER   []byte
	Place Place
}

// File is what [Read] made of an input.
type File struct {
	// Certs are the certificates in the order of the file, damaged ones included.
	Certs []*Cert
	// Items is everything else that was in there.
	Items []Item
	// PEM says that certificates stood in PEM blocks of their own.
	PEM bool

	notes []note
	keys  []crypto.PublicKey // of the private keys that came along in a container
	// privateKeys are those keys themselves, kept for who packs the file again.
	privateKeys []any
	entries     int     // keys in a keystore, each with a chain of its own
	beside      []*Cert // trusted certificates in a keystore with keys: in no chain
}

// note is something noticed while reading: one for each code, however often it was seen.
type note struct {
	code     string
	place    Place
	evidence string
	count    int
	mild     bool // every client measured bears it as it stands here
}

// reader collects while an input is undressed layer by layer.
type reader struct {
	f        *File
	password string
	limit    int // items
	quiet    bool
	bundle   bool // a bundle is not looked at for how it is dressed
}

func (r *reader) note(code string, p Place, evidence string) {
	if r.quiet {
		return
	}
	for i := range r.f.notes {
		if r.f.notes[i].code == code {
			r.f.notes[i].count++
			if r.f.notes[i].mild { // the place that hurts is the one to tell
				count := r.f.notes[i].count
				r.f.notes[i] = note{code: code, place: p, evidence: evidence, count: count}
			}
			return
		}
	}
	r.f.notes = append(r.f.notes, note{code: code, place: p, evidence: evidence, count: 1})
}

// noteMild is for what every client bears in this place, and not in another:
// a warning, unless the same thing is seen where it hurts.
func (r *reader) noteMild(code string, p Place, evidence string) {
	if r.quiet {
		return
	}
	for i := range r.f.notes {
		if r.f.notes[i].code == code {
			r.f.notes[i].count++
			return
		}
	}
	r.f.notes = append(r.f.notes, note{code: code, place: p, evidence: evidence, count: 1, mild: true})
}

func (f *File) noted(code string) bool {
	return slices.ContainsFunc(f.notes, func(n note) bool { return n.code == code })
}

// Read undresses data: PEM in all its injuries, DER, several DER, PKCS #7,
// PKCS #12 (opened by password), JKS and JCEKS, base64 of any of them, UTF-16, JSON, YAML.
// It never fails: what cannot be read is a finding of the report.
func Read(data []byte, password string) *File {
	r := &reader{f: &File{}, password: password, limit: maxItems}
	r.read(data)
	return r.f
}

// ReadBundle reads a file of roots or intermediates, up to MaxBundle, and
// returns the certificates in it that are whole.
func ReadBundle(data []byte) []*Cert {
	if len(data) > MaxBundle {
		return nil
	}
	r := &reader{f: &File{}, limit: maxBundleItems, quiet: true, bundle: true}
	r.read(data)
	var certs []*Cert
	for _, c := range r.f.Certs {
		if c.X != nil {
			c.Index = -1
			c.Place = nowhere
			certs = append(certs, c)
		}
	}
	return certs
}

func (r *reader) read(data []byte) {
	switch {
	case !r.bundle && len(data) > MaxFile:
		r.note("TOO_LARGE", nowhere, fmt.Sprintf("%d bytes; the limit is %d", len(data), MaxFile))
		return
	case len(bytes.TrimSpace(bytes.Trim(data, "\x00\ufeff"))) == 0:
		r.note("EMPTY", nowhere, fmt.Sprintf("%d bytes, nothing in them", len(data)))
		return
	}
	if looksBinary(data) && r.readBinary(data, "") {
		return
	}
	t := r.decodeText(data)
	r.readText(t, 0)
	r.conclude(t.data)
	r.fold()
}

// follows lists what is only a consequence: a block on one line has glued
// boundaries, and one fault in the file is one finding.
var follows = map[string][]string{
	"NEWLINES_LOST":    {"GLUED_BOUNDARIES", "INDENTED", "TRAILING_SPACE", "UNWRAPPED_BASE64"},
	"GLUED_BOUNDARIES": {"UNWRAPPED_BASE64"},
}

func (r *reader) fold() {
	foreign := !slices.ContainsFunc(r.f.Items, func(i Item) bool { return i.Kind != KindOther || isCertLabel(i.Label) })
	if len(r.f.Certs) == 0 && foreign && (r.f.noted("NOT_A_CERTIFICATE") || len(r.f.Items) > 0) {
		// How something else stands in its file is nobody's concern.
		r.f.notes = slices.DeleteFunc(r.f.notes, func(n note) bool { return rank(n.code) >= rank(bodyCodes[0].name) })
	}
	for cause, list := range follows {
		if r.f.noted(cause) {
			r.f.notes = slices.DeleteFunc(r.f.notes, func(n note) bool { return slices.Contains(list, n.code) })
		}
	}
}

// looksBinary says that data starts like DER, BER or a Java keystore.
func looksBinary(data []byte) bool {
	if isJKS(data) {
		return true
	}
	return len(data) > 2 && data[0] == 0x30 && (data[1] >= 0x80 || int(data[1]) <= len(data)-2)
}

// readBinary takes a file of one DER value or several. False means that it was none of ours.
func (r *reader) readBinary(data []byte, label string) bool {
	if isJKS(data) {
		r.readJKS(data)
		return true
	}
	rest := data
	for n := 0; len(rest) > 0; n++ {
		off := len(data) - len(rest)
		size, whole := tlvSize(rest)
		p := Place{Cert: -1, Byte: off}
		if size == 0 || rest[0] != 0x30 {
			if n == 0 {
				return false
			}
			if len(bytes.Trim(rest, "\x00")) == 0 {
				r.note("NUL_BYTES", p, fmt.Sprintf("%d zero bytes after the certificate", len(rest)))
			} else if bytes.Contains(rest, []byte("BEGIN CERT")) {
				// A DER file and a PEM file joined by cat.
				inner := Read(rest, r.password)
				for _, c := range inner.Certs {
					r.addCert(c.Raw, Place{Cert: -1, Byte: off + c.Place.Byte})
				}
			} else if len(bytes.TrimSpace(rest)) > 0 {
				r.note("TRAILING_BYTES", p, fmt.Sprintf("%d bytes after the certificate that belong to nothing", len(rest)))
			}
			return true
		}
		if !whole {
			size = len(rest)
		}
		kind := sniff(rest[:size])
		if n == 0 && kind == KindOther && whole {
			if size < len(data) {
				return false
			}
			r.note("NOT_A_CERTIFICATE", p, "binary DER of another kind: "+shapeOf(rest))
			return true
		}
		if kind == KindCertificate {
			r.note("DER_NOT_PEM", p, "binary DER, first bytes "+fmt.Sprintf("% X", rest[:min(4, len(rest))]))
		}
		r.add(rest[:size], p, label, false)
		rest = rest[size:]
	}
	return true
}

// readText looks for PEM blocks, and for base64 without them.
func (r *reader) readText(t *text, depth int) {
	blocks := r.scanPEM(t)
	if len(blocks) == 0 {
		if r.readBare(t, 0, len(t.data), depth) {
			return
		}
		lower := asciiLower(t.data[:min(len(t.data), 2048)]) // bytes.ToLower may change the length
		for _, mark := range []string{"<!doctype html", "<html", "<head", "<body", "<title"} {
			if i := bytes.Index(lower, []byte(mark)); i >= 0 {
				line, _, _ := bytes.Cut(t.data[i:], []byte("\n"))
				r.note("HTML", t.place(i), clip(string(line)))
				return
			}
		}
		r.note("NOT_A_CERTIFICATE", t.place(0), "starts with "+clip(string(bytes.TrimSpace(t.data))))
		return
	}
	at := 0
	for _, b := range blocks {
		r.between(t, at, b.start, depth)
		r.readBlock(t, b, depth)
		at = b.end
	}
	r.between(t, at, len(t.data), depth)
	for _, h := range t.hidden {
		for _, b := range blocks {
			if h.at >= b.start && h.at <= b.end {
				r.note("INVISIBLE_CHARACTER", h.place, h.name)
				break
			}
		}
	}
}

func asciiLower(b []byte) []byte {
	out := bytes.Clone(b)
	for i, c := range out {
		if c >= 'A' && c <= 'Z' {
			out[i] = c + 'a' - 'A'
		}
	}
	return out
}

// between looks at what stands outside blocks.
func (r *reader) between(t *text, from, to, depth int) {
	s := bytes.TrimSpace(t.data[from:to])
	if len(s) == 0 {
		return
	}
	if r.readBare(t, from, to, depth) {
		return
	}
	if len(bytes.Trim(s, "\"'`,;{}[]()>|\\ \n\t:")) == 0 {
		return // the quotes and brackets around a value
	}
	first, _, _ := bytes.Cut(s, []byte("\n"))
	i := from + bytes.Index(t.data[from:to], first)
	r.note("TEXT_OUTSIDE_PEM", t.place(i), clip(string(first)))
}

// add takes one DER value and files it under what it is. inContainer says that
// it came out of PKCS #7 and the like, where there are no labels.
func (r *reader) add(der []byte, p Place, label string, inContainer bool) {
	if len(r.f.Certs)+len(r.f.Items) >= r.limit {
		r.note("TOO_MANY", p, fmt.Sprintf("more than %d things in one file", r.limit))
		return
	}
	kind := sniff(der)
	if strings.HasSuffix(label, "PARAMETERS") {
		kind = KindOther // two numbers, like an RSA key's
	}
	if kind == KindOther && isCertLabel(label) {
		kind = KindCertificate
	}
	switch kind {
	case KindCertificate:
		r.addCert(der, p)
		r.f.Certs[len(r.f.Certs)-1].unordered = inContainer
	case KindPKCS7:
		r.note("PKCS7", p, "a PKCS #7 bundle (.p7b)")
		certs, err := certsInPKCS7(der)
		if err != nil {
			r.note("MALFORMED_CONTAINER", p, err.Error())
		}
		if len(certs) == 0 {
			r.note("NOT_A_CERTIFICATE", p, "a PKCS #7 value without certificates")
		}
		for _, c := range certs {
			r.add(c, p, "", true)
		}
	case KindPKCS12:
		r.addPKCS12(der, p)
	default:
		r.f.Items = append(r.f.Items, Item{Kind: kind, Label: label, DER: der, Place: p})
	}
}

func (r *reader) addCert(der []byte, p Place) {
	p.Cert = len(r.f.Certs)
	c := parseCert(der)
	c.Index, c.Place = p.Cert, p
	r.f.Certs = append(r.f.Certs, c)
}

// conclude names a file that holds no certificate by what it holds instead.
func (r *reader) conclude(data []byte) {
	if len(r.f.Certs) > 0 || r.bundle {
		return
	}
	for _, n := range r.f.notes {
		switch n.code {
		case "HTML", "EMPTY", "PKCS12", "NOT_A_CERTIFICATE", "TOO_LARGE", "TRUNCATED_CERT", "MALFORMED_CERT", "MALFORMED_CONTAINER", "JKS", "BASE64_DAMAGED":
			return
		}
	}
	if len(r.f.Items) == 0 {
		r.note("NOT_A_CERTIFICATE", nowhere, "starts with "+clip(string(bytes.TrimSpace(data))))
	}
}

// clip shortens what is quoted from a file; private keys never come here.
func clip(s string) string {
	s = string(bytes.Map(func(c rune) rune {
		if c < 0x20 || c == 0x7F || c == 0xFFFD {
			return ' '
		}
		return c
	}, []byte(s)))
	if r := []rune(s); len(r) > 60 {
		return fmt.Sprintf("%q…", string(r[:60]))
	}
	return fmt.Sprintf("%q", s)
}
