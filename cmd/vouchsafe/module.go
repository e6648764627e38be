package main

import (
	"github.com/spf13/cobra"
)

func newModuleCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "module",
		Short: "Sign, verify and explain Linux kernel modules",
		Long: `Sign, verify and explain Linux kernel modules.

verify and scan say, before a reboot, which modules a kernel will load, load
with a taint, or refuse, and why. The key that a distribution's modules are
signed with is made anew for every build of a kernel and is found only inside
that kernel's image, so each module is judged against its own kernel.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newModuleVerifyCommand(a),
		newModuleScanCommand(a),
		newModuleSignCommand(a),
		newModuleKeyCommand(a),
		newModuleExplainCommand(a),
	)
	return cmd
}
