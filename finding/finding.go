// Package finding gives every diagnosis in vouchsafe its one shape: a stable
// code, how bad it is, what it is about, what was seen, what that means and
// what to type to mend it.
//
// It is for any package that explains something to a person: chain, modsig,
// eventlog, the doctor. Each of them keeps a [Catalog] of its own codes, in
// English and Chinese; docs/findings has one longer entry per code. It is not
// for errors: a finding is a result, an error means there is no result.
//
// Begin with [Catalog.New].
package finding

import (
	"fmt"
	"slices"
	"strings"
)

// Severity says what a finding means for a person's day.
type Severity string

const (
	// Error: something real fails, or must be refused.
	Error Severity = "error"
	// Warning: it works, and should be mended.
	Warning Severity = "warning"
	// Info: worth knowing; changes no verdict and no exit code.
	Info Severity = "info"
)

// Lang is a language that findings speak.
type Lang string

const (
	English Lang = "en"
	Chinese Lang = "zh"
)

// Text is one sentence in every language we speak. A place for the n-th
// argument is written {0}, {1}, …
type Text struct{ EN, ZH string }

// In renders the text in l; English stands in where l has none.
func (t Text) In(l Lang, args ...string) string {
	s := t.EN
	if l == Chinese && t.ZH != "" {
		s = t.ZH
	}
	for i, a := range args {
		s = strings.ReplaceAll(s, fmt.Sprintf("{%d}", i), a)
	}
	return s
}

// Finding is one diagnosis. Its JSON form is stable.
type Finding struct {
	Code     string   `json:"code"`               // UPPER_SNAKE, documented, never reused
	Severity Severity `json:"severity"`           //
	Subject  string   `json:"subject,omitempty"`  // what it is about: a file, a certificate, a VM
	Evidence string   `json:"evidence,omitempty"` // what was seen, exactly
	Meaning  string   `json:"meaning"`            // why it matters, in plain words
	Remedy   string   `json:"remedy"`             // something a person can type or do

	entry *Entry
	args  []string
}

// In returns f with its meaning and remedy in language l.
func (f Finding) In(l Lang) Finding {
	if f.entry != nil {
		f.Meaning = f.entry.Meaning.In(l, f.args...)
		f.Remedy = f.entry.Remedy.In(l, f.args...)
	}
	return f
}

// Entry describes one code. Arguments given to [Catalog.New] fill {0}, {1}, …
// in both texts.
type Entry struct {
	Code     string
	Severity Severity
	Meaning  Text
	Remedy   Text
}

// Catalog is the list of codes that one package can report.
type Catalog []Entry

// New makes a finding of a code in the catalogue, in English. A code that is
// not there is our own mistake and panics.
func (c Catalog) New(code, subject, evidence string, args ...string) Finding {
	i := slices.IndexFunc(c, func(e Entry) bool { return e.Code == code })
	if i < 0 {
		panic("internal error: no finding has the code " + code)
	}
	f := Finding{Code: code, Severity: c[i].Severity, Subject: subject, Evidence: evidence, entry: &c[i], args: args}
	return f.In(English)
}

// Worst returns the gravest severity among fs, or "" when there is none.
func Worst(fs []Finding) Severity {
	worst := Severity("")
	rank := func(s Severity) int { return slices.Index([]Severity{"", Info, Warning, Error}, s) }
	for _, f := range fs {
		if rank(f.Severity) > rank(worst) {
			worst = f.Severity
		}
	}
	return worst
}
