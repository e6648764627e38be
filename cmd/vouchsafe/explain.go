package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/chain"
	"github.com/vouchsafe/vouchsafe/finding"
)

func newExplainCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "explain [CODE]",
		Short:   "Tell what any code means, and what to type",
		Example: "  vouchsafe explain STATE_LOCKED\n  vouchsafe explain --lang zh QUOTE_NOT_FRESH",
		Args:    rangeArgs(0, 1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			var codes []string
			for _, e := range explanations("", finding.English) {
				if len(args) == 0 && strings.HasPrefix(e.Code, strings.ToUpper(typed)) {
					codes = append(codes, e.Code)
				}
			}
			return codes, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				for _, e := range explanations("", a.dataLang()) {
					if err := a.printExplanation(e, false); err != nil {
						return err
					}
				}
				return nil
			}
			found := explanations(strings.ToUpper(args[0]), a.dataLang())
			for _, e := range found {
				if err := a.printExplanation(e, true); err != nil {
					return err
				}
			}
			if len(found) == 0 {
				return withHint(fmt.Errorf("no code is called %s", visible(args[0])), "vouchsafe explain lists them all")
			}
			return nil
		},
	}
}

// explanation is the entry of a code, without a case that it was found in.
type explanation struct {
	Code     string           `json:"code"`
	Severity finding.Severity `json:"severity"`
	Page     string           `json:"page"` // of docs/findings
	Meaning  string           `json:"meaning"`
	Remedy   string           `json:"remedy"`
}

// place is where an entry names what a finding is about.
var place = regexp.MustCompile(`\{\d\}`)

// explanations are the entries of a code, or all; a few codes are used in two fields.
func explanations(code string, l finding.Lang) []explanation {
	var all []explanation
	for _, c := range findingCatalogs {
		for _, e := range c.Catalog {
			if code == "" || code == e.Code {
				all = append(all, explanation{e.Code, e.Severity, c.page, place.ReplaceAllString(e.Meaning.In(l), "…"), place.ReplaceAllString(e.Remedy.In(l), "…")})
			}
		}
	}
	return all
}

func (a *app) printExplanation(e explanation, whole bool) error {
	if a.json {
		return a.printJSON(e)
	}
	if !whole {
		_, err := fmt.Fprintf(a.out, "%-28s %-8s %s\n", e.Code, e.Severity, e.Page)
		return err
	}
	if c, ok := chain.EntryOf(e.Code); ok && e.Page == "chain" { // which tells more
		_, err := fmt.Fprint(a.out, c.Text(a.lang()))
		return err
	}
	_, err := fmt.Fprintf(a.out, a.say("%s  (%s, docs/findings/%s.md)\n\n%s\n\nWhat to do\n  %s\n", "%s（%s，docs/findings/%s.md）\n\n%s\n\n如何处理\n  %s\n"),
		e.Code, a.severity(e.Severity), e.Page, e.Meaning, e.Remedy)
	return err
}
