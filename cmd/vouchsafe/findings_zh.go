package main

import (
	"github.com/vouchsafe/vouchsafe/chain"
	"github.com/vouchsafe/vouchsafe/eventlog"
	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/chinese"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/host"
	"github.com/vouchsafe/vouchsafe/internal/modkeys"
	"github.com/vouchsafe/vouchsafe/internal/verifier"
	"github.com/vouchsafe/vouchsafe/internal/vtpm"
	"github.com/vouchsafe/vouchsafe/modsig"
)

// findingCatalogs are all codes that this program can print, and the page of
// docs/findings that has them; a code may be in two, of which the text says which
// is meant.
var findingCatalogs = []struct {
	finding.Catalog
	page string
}{
	{attest.Findings, "attest"}, {enroll.Findings, "service"}, {enroll.Refusals, "service"}, {verifier.Refusals, "service"}, {modkeys.Refusals, "service"},
	{eventlog.Findings, "eventlog"}, {checkFindings, "service"}, {audit.Findings, "service"}, {host.Findings, "service"}, {vtpm.Catalog, "vtpm"},
	{modsig.Findings, "modsig"}, {chain.Catalog, "chain"},
}

// inChinese is f in Chinese. One that came over the wire has its English text
// alone: its code says which entry that was made of, and the text what filled it.
func inChinese(f finding.Finding) finding.Finding {
	f = f.In(finding.Chinese)
	for _, catalog := range findingCatalogs {
		for _, e := range catalog.Catalog {
			if e.Code != f.Code {
				continue
			}
			meaning, ok1 := chinese.Fill(e.Meaning.EN, e.Meaning.ZH, f.Meaning)
			remedy, ok2 := chinese.Fill(e.Remedy.EN, e.Remedy.ZH, f.Remedy)
			if ok1 && ok2 {
				f.Meaning, f.Remedy = meaning, remedy
			}
		}
	}
	f.Evidence = chinese.Of(f.Evidence)
	return f
}

// coded is how a finding's line begins: how bad, and its code.
func (a *app) coded(f finding.Finding) string {
	return a.severity(f.Severity) + " " + f.Code + a.say(": ", "：")
}

// severity is how bad a finding is, in the person's language.
func (a *app) severity(s finding.Severity) string {
	return map[finding.Severity]string{finding.Error: a.say("error", "错误"), finding.Warning: a.say("warning", "警告"), finding.Info: a.say("info", "提示")}[s]
}

// hint is the way out in the person's language. A refusal of the service has the
// remedy of its code as its hint.
func (a *app) hint(text string) string {
	if a.lang() == finding.English {
		return text
	}
	for _, catalog := range findingCatalogs {
		for _, e := range catalog.Catalog {
			if e.Remedy.EN == text {
				return e.Remedy.ZH
			}
		}
	}
	return chinese.Of(text)
}
