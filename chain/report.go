package chain

import (
	"crypto"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
)

// Options is what a file is checked against.
type Options struct {
	// Name is the host, address or mailbox that clients will ask for; "" for none.
	Name string
	// Time is the moment of the check. There is no default: this package has no clock.
	Time time.Time
	// TimeUncertainty is how far Time may be off. Only what is wrong at both ends is wrong.
	TimeUncertainty time.Duration
	// Roots are the trust anchors.
	Roots *Store
	// Pool is where missing intermediates are looked for.
	Pool *Store
	// Fetched says which of the pool came over the network.
	Fetched *Store
	// Key is the public half of the server's private key; nil for unknown.
	Key crypto.PublicKey
	// Password opens PKCS #12.
	Password string
	// CRLs and OCSP are DER or PEM; no answer in them is no fault.
	CRLs [][]byte
	OCSP [][]byte
	// Purpose is what the leaf is for; "" is Server.
	Purpose Purpose
	// Profile is whose rules apply; "" is Private.
	Profile Profile
	// MaxIntermediates bounds the path when it is not nil.
	MaxIntermediates *int

	revocation *revocation
}

// Finding is one diagnosis with its place in the file.
type Finding struct {
	finding.Finding
	Place Place
	// Consequences are what else clients report because of this one.
	Consequences []string
}

// MarshalJSON writes the documented form; see docs/formats/chain-json.md.
func (f Finding) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Code         string           `json:"code"`
		Severity     finding.Severity `json:"severity"`
		Place        Place            `json:"place"`
		Subject      string           `json:"subject,omitempty"`
		Evidence     string           `json:"evidence,omitempty"`
		Meaning      string           `json:"meaning"`
		Remedy       string           `json:"remedy"`
		Consequences []string         `json:"consequences,omitempty"`
	}{f.Code, f.Severity, f.Place, f.Subject, f.Evidence, f.Meaning, f.Remedy, f.Consequences})
}

// MarshalJSON leaves out what is not known.
func (p Place) MarshalJSON() ([]byte, error) {
	m := struct {
		Cert *int `json:"cert,omitempty"`
		Line *int `json:"line,omitempty"`
		Byte *int `json:"byte,omitempty"`
	}{}
	if p.Cert >= 0 {
		m.Cert = &p.Cert
	}
	if p.Line > 0 {
		m.Line = &p.Line
	}
	if p.Byte >= 0 {
		m.Byte = &p.Byte
	}
	return json.Marshal(m)
}

// Verdict is the worst of a report in one word.
type Verdict string

const (
	OK      Verdict = "ok"
	Warning Verdict = "warning"
	Error   Verdict = "error"
)

// Link is one certificate of the best path.
type Link struct {
	SHA256    string    `json:"sha256"`
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Role      string    `json:"role"` // leaf, intermediate or root
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
}

// Repair says what it takes to mend the file, and what it would hold then.
type Repair struct {
	Class Class    `json:"class"`
	Chain []string `json:"chain"` // SHA-256 of each certificate, leaf first, no root; empty when a file cannot mend it

	certs []*Cert
}

// Report is everything there is to say about one input. Its JSON form is stable.
type Report struct {
	Input    string    `json:"input"`
	Verdict  Verdict   `json:"verdict"`
	Findings []Finding `json:"findings"`
	Chain    []Link    `json:"chain"`
	Repair   Repair    `json:"repair"`
	// Clients says who fails; only when it was asked for.
	Clients []Outcome `json:"clients,omitempty"`

	file *File
}

// In returns the report with its words in language l.
func (r *Report) In(l finding.Lang) *Report {
	out := *r
	out.Findings = slices.Clone(r.Findings)
	for i, f := range out.Findings {
		out.Findings[i].Finding = f.Finding.In(l)
		// "FILE" in a remedy is this input.
		out.Findings[i].Remedy = strings.ReplaceAll(out.Findings[i].Remedy, "FILE", quoted(r.Input))
	}
	return &out
}

// quoted makes a file name safe to paste into a shell.
func quoted(s string) string {
	if s == "" || s == "-" {
		return "FILE"
	}
	if strings.ContainsAny(s, " '\"$`\\&;|<>()*?[]{}!#~\n\t") {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}

// Has says that a code is among the findings.
func (r *Report) Has(code string) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Code == code })
}

// Codes lists the codes of the findings, root cause first.
func (r *Report) Codes() []string {
	var out []string
	for _, f := range r.Findings {
		out = append(out, f.Code)
	}
	return out
}

// File is what was read.
func (r *Report) File() *File { return r.file }

// Check reads data and diagnoses it. input is its name, for the report.
func Check(input string, data []byte, o Options) *Report {
	return CheckFile(input, Read(data, o.Password), o)
}

// CheckFile diagnoses what was read.
func CheckFile(input string, f *File, o Options) *Report {
	o.Purpose = orDefault(o.Purpose, Server)
	o.Profile = orDefault(o.Profile, Private)
	d := &diagnosis{o: &o, f: f, r: &Report{Input: input, Findings: []Finding{}, Chain: []Link{}, Repair: Repair{Class: ClassNone, Chain: []string{}}, file: f}}
	d.run()
	d.finish()
	return d.r
}

func orDefault[T ~string](v, d T) T {
	if v == "" {
		return d
	}
	return v
}

// readCRLs parses the CRLs once for all paths.
func (d *diagnosis) readCRLs() (lists []*crl) {
	for _, raw := range d.o.CRLs {
		var ders [][]byte
		if looksBinary(raw) {
			ders = append(ders, raw)
		} else {
			for _, it := range Read(raw, "").Items {
				if it.Kind == KindCRL {
					ders = append(ders, it.DER)
				}
			}
		}
		if len(ders) == 0 {
			d.add("CRL_UNUSABLE", nil, nowhere, "what was given is no CRL")
		}
		for _, der := range ders {
			list, err := parseCRL(der)
			if err != nil {
				f := d.add("CRL_UNUSABLE", nil, nowhere, strings.TrimPrefix(err.Error(), "x509: "))
				if d.o.Profile == WebPKI {
					f.Severity = finding.Error
				}
				continue
			}
			lists = append(lists, list)
		}
	}
	return lists
}

// readOCSP takes OCSP responses out of PEM. The caller's slice stays as it is.
func readOCSP(given [][]byte) (out [][]byte) {
	for _, raw := range given {
		if der, ok := pemOnly(raw); ok {
			raw = der
		}
		out = append(out, raw)
	}
	return out
}

// pemOnly undoes one PEM block, whatever its label.
func pemOnly(raw []byte) ([]byte, bool) {
	if looksBinary(raw) {
		return raw, false
	}
	for _, it := range Read(raw, "").Items {
		return it.DER, true
	}
	return nil, false
}

// HasPrivateKey says that a private key was among the certificates.
func (f *File) HasPrivateKey() bool {
	return len(f.keys) > 0 || slices.ContainsFunc(f.Items, func(i Item) bool { return i.Kind == KindPrivateKey || i.Kind == KindEncryptedKey })
}
