package chain

import (
	"fmt"
	"strings"

	"github.com/vouchsafe/vouchsafe/finding"
)

// Entry is one code of the knowledge base, in one language. Its JSON form is stable.
type Entry struct {
	Code     string           `json:"code"`
	Severity finding.Severity `json:"severity"`
	Class    Class            `json:"class"`
	Meaning  string           `json:"meaning"`
	Looks    string           `json:"looks"`   // how it looks in the file, or in other tools
	Clients  string           `json:"clients"` // who fails and who does not
	Remedy   string           `json:"remedy"`
}

// Localized is an entry with the fields that scripts use at hand.
type Localized struct {
	Code     string
	Severity finding.Severity
	Class    Class
	c        code
}

// Entries lists every code, in the order of root causes.
func Entries() []Localized {
	var out []Localized
	for _, c := range codes {
		out = append(out, Localized{c.name, c.severity, c.class, c})
	}
	return out
}

// EntryOf finds one code.
func EntryOf(name string) (Localized, bool) {
	i := rank(name)
	if i < 0 {
		return Localized{}, false
	}
	c := codes[i]
	return Localized{c.name, c.severity, c.class, c}, true
}

// In returns the entry in language l.
func (e Localized) In(l finding.Lang) Entry {
	k := knowledge[e.Code]
	return Entry{
		Code: e.Code, Severity: e.Severity, Class: e.Class,
		Meaning: placeholders(e.c.meaning.In(l)), Remedy: e.c.remedy.In(l),
		Looks: k.looks.In(l), Clients: k.clients.In(l),
	}
}

// placeholders puts a general word where a finding has a name.
func placeholders(s string) string {
	for i := range 4 {
		s = strings.ReplaceAll(s, fmt.Sprintf("{%d}", i), "…")
	}
	return s
}

// Text is the entry as a person reads it.
func (e Localized) Text(l finding.Lang) string {
	x := e.In(l)
	say := func(en, zh string) string { return finding.Text{EN: en, ZH: zh}.In(l) }
	var b strings.Builder
	fmt.Fprintf(&b, "%s  (%s, %s %s)\n\n", x.Code, x.Severity, say("repair:", "修复："), x.Class)
	fmt.Fprintf(&b, "%s\n\n", x.Meaning)
	fmt.Fprintf(&b, "%s\n  %s\n\n", say("What it looks like", "现象"), x.Looks)
	fmt.Fprintf(&b, "%s\n  %s\n\n", say("Who fails and who does not", "哪些客户端受影响"), x.Clients)
	fmt.Fprintf(&b, "%s\n  %s\n", say("How to mend it", "如何修复"), x.Remedy)
	return b.String()
}
