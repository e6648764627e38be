package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vouchsafe/vouchsafe/internal/api"
)

func newHostCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "host", Short: "Hosts that carry vTPMs: add, enroll, run, list, show, revoke, reinstate", Args: cobra.NoArgs}
	cmd.AddCommand(newHostAddCommand(a), newHostEnrollCommand(a), newHostRunCommand(a), newHostListCommand(a), newHostShowCommand(a),
		newHostRevokeCommand(a), newHostReinstateCommand(a))
	return cmd
}

func newHostAddCommand(a *app) *cobra.Command {
	var f clientFlags
	var in api.NewHost
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Make a host known that proved nothing yet",
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkName(args[0]); err != nil {
				return err
			}
			in.Name = args[0]
			var h api.Host
			if err := f.call(cmd.Context(), "POST", "/v1/hosts", in, &h); err != nil {
				return err
			}
			if !h.HasTPM && !h.AcceptUnattested {
				fmt.Fprintln(a.err, a.say("note: no key goes to this host before it is attested, or accepted with --accept-unattested-host",
					"注意：在该宿主机通过证明、或以 --accept-unattested-host 接受之前，不会向其发放密钥"))
			}
			return a.showHosts([]api.Host{h})
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&in.AcceptUnattested, "accept-unattested-host", false, "let keys go there although it proved nothing: everything then rests on its word")
	return cmd
}

func newHostListCommand(a *app) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List hosts",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var hosts []api.Host
			if err := f.call(cmd.Context(), "GET", "/v1/hosts", nil, &hosts); err != nil {
				return err
			}
			return a.showHosts(hosts)
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) showHosts(hosts []api.Host) error {
	w := a.table()
	if !a.json {
		fmt.Fprintln(w, a.say("NAME\tTIER\tTPM\tACCEPTED\tCREATED\tREVOKED", "名称\t级别\tTPM\t已接受\t创建时间\t吊销时间"))
	}
	for _, h := range hosts {
		if a.json {
			if err := a.printJSON(h); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%v\t%v\t%s\t%s\n", h.Name, h.Tier, h.HasTPM, h.AcceptUnattested, h.Created, cmp.Or(strings.TrimSpace(h.Revoked+" "+h.Reason), "-"))
	}
	return w.Flush()
}
