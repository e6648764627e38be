package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/chain"
)

func newChainExplainCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "explain [CODE]",
		Short:   "Tell what a code means: how it looks, who fails, how to mend it",
		Example: "  vouchsafe chain explain ORDER_WRONG\n  vouchsafe chain explain --lang zh BOM",
		Args:    rangeArgs(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				for _, e := range chain.Entries() {
					if a.json {
						if err := a.printJSON(e.In(a.dataLang())); err != nil {
							return err
						}
						continue
					}
					fmt.Fprintf(a.out, "%-24s %-8s %s\n", e.Code, e.Severity, e.Class)
				}
				return nil
			}
			e, ok := chain.EntryOf(strings.ToUpper(args[0]))
			if !ok {
				return withHint(fmt.Errorf("no code is called %s", visible(args[0])), "vouchsafe explain lists the codes of everything")
			}
			if a.json {
				return a.printJSON(e.In(a.dataLang()))
			}
			_, err := fmt.Fprint(a.out, e.Text(a.lang()))
			return err
		},
	}
}
