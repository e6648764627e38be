package main

import (
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/vouchsafe/vouchsafe/internal/api"
)

func newVMAcceptStateCommand(a *app) *cobra.Command {
	var f clientFlags
	var in api.AcceptState
	var list bool
	cmd := &cobra.Command{
		Use:   "accept-state NAME --generation N --reason TEXT",
		Short: "After an older backup was restored: accept the newer state that a VM's host has",
		Long: `After an older backup was restored, hosts have newer states of their vTPMs than the record, and are
refused with STATE_AHEAD. This moves the record of one VM forward, and never back, to the generation
that its host showed within the last hour; --list says which those are. You vouch for it that this state
is the newest there is: what happened between the backup and now, nobody can tell any more.
docs/runbooks/restore.md has the whole procedure.`,
		Example: `  vouchsafe vm accept-state --list
  vouchsafe vm accept-state web1 --generation 12 --reason "restored last night's backup"`,
		Args: func(cmd *cobra.Command, args []string) error {
			if list {
				return exactArgs(0)(cmd, args)
			}
			return exactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.open()
			if err != nil {
				return err
			}
			if list {
				return a.listStatesAhead(cmd, c)
			}
			if in.Generation == 0 || in.Reason == "" {
				return usageError{fmt.Errorf("--generation N and --reason TEXT are needed: which state, and why, for the record")}
			}
			var vm api.VM
			if err := c.call(cmd.Context(), "POST", "/v1/vms/"+url.PathEscape(args[0])+"/accept-state", in, &vm); err != nil {
				return err
			}
			return a.showVM(vm)
		},
	}
	f.add(cmd)
	cmd.Flags().Int64Var(&in.Generation, "generation", 0, "the generation that the host showed")
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why, for the record")
	cmd.Flags().BoolVar(&list, "list", false, "list the states that were refused as newer than the record")
	return cmd
}

func (a *app) listStatesAhead(cmd *cobra.Command, c *apiClient) error {
	var states []api.StateAhead
	if err := c.call(cmd.Context(), "GET", "/v1/states-ahead", nil, &states); err != nil {
		return err
	}
	w := a.table()
	defer w.Flush()
	if !a.json {
		fmt.Fprintln(w, a.say("VM\tHOST\tSHOWN\tRECORD\tAT", "虚拟机\t宿主机\t出示\t记录\t时间"))
	}
	for _, s := range states {
		if a.json {
			if err := a.printJSON(s); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\n", s.VM, s.Host, s.Generation, s.Record, s.At)
	}
	return nil
}
