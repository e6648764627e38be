package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// version is the release; a package build sets it with -ldflags -X.
var version = "0.1.0-dev"

// versionText is what --version prints after the program's name.
func versionText() string { return fmt.Sprintf("%s (%s)", version, runtime.Version()) }

func newVersionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  exactArgs(0),
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.printJSON(map[string]string{"version": version, "go": runtime.Version()})
			}
			_, err := fmt.Fprintf(a.out, "vouchsafe %s (%s)\n", version, runtime.Version())
			return err
		},
	}
}
