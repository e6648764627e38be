package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/internal/vtpm"
)

func newVTPMCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vtpm",
		Short: "Stand-alone vTPMs that take swtpm's place",
	}
	cmd.AddCommand(
		newVTPMServeCommand(a),
		newVTPMSetupCommand(a),
		newVTPMRekeyCommand(a),
		newVTPMImportCommand(a),
		newVTPMControlCommand(a),
	)
	return cmd
}

// refused turns the refusal of a state into an error with its way out, and
// prints the finding itself for --json.
func (a *app) refused(err error) error {
	var r *vtpm.Refusal
	if !errors.As(err, &r) {
		return err
	}
	f := r.Finding.In(a.dataLang())
	if a.json {
		if err := a.printJSON(f); err != nil {
			return err
		}
	}
	return withHint(fmt.Errorf("%s: %s: %s\n%s", f.Code, a.words(f.Subject), a.words(f.Evidence), f.Meaning), "%s", f.Remedy)
}
