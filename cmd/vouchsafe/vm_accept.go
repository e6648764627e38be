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
		Use:   "accept-state NAME --generation N [--writes N] --reason TEXT",
		Short: "After an older backup was restored: accept the state that a VM's host has",
		Long: `After an older backup of the service was restored, hosts have newer states of their vTPMs than the
record, and are refused with STATE_AHEAD. This moves the record of one VM forward, and never back, to
the generation that its host showed within the last hour; --list says which those are.

After a host's disk was restored or lost its last writes, it has a copy of a state that was written
less often than the record says, and is refused with STATE_ROLLED_BACK. With --writes, which names
that copy, it is accepted if it was made since the VM's last start: counters, PINs and failed tries
are then as they were when it was made.

You vouch for it that this state is the newest there is: what happened since, nobody can tell any
more. docs/runbooks/restore.md has the whole procedure.`,
		Example: `  vouchsafe vm accept-state --list
  vouchsafe vm accept-state web1 --generation 12 --reason "restored last night's backup"
  vouchsafe vm accept-state web1 --generation 12 --writes 340 --reason "the host's disk failed"`,
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
				return a.listStatesShown(cmd, c)
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
	cmd.Flags().Int64Var(&in.Writes, "writes", 0, "how often the state was written that the host showed; needed for one that was written less often than the record says")
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why, for the record")
	cmd.Flags().BoolVar(&list, "list", false, "list the states that were refused and may be accepted")
	return cmd
}

func (a *app) listStatesShown(cmd *cobra.Command, c *apiClient) error {
	var states []api.StateShown
	if err := c.call(cmd.Context(), "GET", "/v1/states-shown", nil, &states); err != nil {
		return err
	}
	w := a.table()
	defer w.Flush()
	if !a.json {
		fmt.Fprintln(w, a.say("VM\tHOST\tSHOWN\tWRITES\tRECORD\tWRITES\tAT", "虚拟机\t宿主机\t出示\t写入次数\t记录\t写入次数\t时间"))
	}
	for _, s := range states {
		if a.json {
			if err := a.printJSON(s); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%s\n", s.VM, s.Host, s.Generation, s.Writes, s.Record, s.RecordWrites, s.At)
	}
	return nil
}
