// Command vouchsafe vouches for virtual machines and keeps their keys safe.
//
// Each subcommand lives in a file of its own, named after it, and is listed in
// [newRoot]; everything is wired by hand there. What the commands share (how
// they print, how they fail) is in app.go.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	if program := onlySwtpm(os.Args, asideDir); program != "" {
		err := syscall.Exec(program, append([]string{program}, os.Args[1:]...), os.Environ())
		fmt.Fprintln(os.Stderr, &os.PathError{Op: "exec", Path: program, Err: err})
		os.Exit(1)
	}
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		signals = append(signals, syscall.SIGHUP) // a terminal that is closed is no loss of power to a TPM
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, stop) // the second signal ends the program at once
	code := run(ctx, asProgram(os.Args), os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// newRoot wires the whole command line.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "vouchsafe",
		Short:         "Trust for virtual machines: a TPM for each, and keys bound to it",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       versionText(), // a template of our own would make the program 3 MB larger
		CompletionOptions: cobra.CompletionOptions{
			HiddenDefaultCmd: true,
		},
	}
	root.Flags().BoolP("version", "v", false, "print the version and end")
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print data as JSON, one object a line")
	root.PersistentFlags().StringVar(&a.langFlag, "lang", a.langFlag, "language of the words: en or zh (default: from LANG)")
	root.PersistentFlags().Lookup("lang").DefValue = "" // what the command line says is no default
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		newDemoCommand(a),
		newVTPMCommand(a),
		newEventlogCommand(a),
		newInitCommand(a),
		newUpCommand(a),
		newServerCommand(a),
		newHostCommand(a),
		newVMCommand(a),
		newPolicyCommand(a),
		newAttestCommand(a),
		newKeyCommand(a),
		newCACommand(a),
		newAuditCommand(a),
		newCheckCommand(a),
		newBackupCommand(a),
		newRestoreCommand(a),
		newModuleCommand(a),
		newSignFileCommand(a),
		newExplainCommand(a),
		newVersionCommand(a),
		newManCommand(a),
		newChainCommand(a),
	)
	for _, cmd := range root.Commands() {
		refuseUnknown(cmd)
	}
	return root
}

// refuseUnknown has a group of commands call a word that it does not know bad
// usage. Cobra shows the help and ends with 0, and a script that mistyped
// "vm revoke" goes on as if it had revoked something.
func refuseUnknown(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		refuseUnknown(sub)
	}
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args = usageArgs(cobra.NoArgs)
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
}
