package main

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vouchsafe/vouchsafe/internal/api"
)

func newHostRevokeCommand(a *app) *cobra.Command {
	var f clientFlags
	var reason string
	cmd := &cobra.Command{
		Use:   "revoke NAME --reason TEXT",
		Short: "End all trust in a host: its credential, its leases, its word for its VMs",
		Long: `End all trust in a host, at once and in one act. Its credential is revoked and no other is made in its
name; it gets no lease, and those that it has are not renewed and end within five minutes; what it
proved, and that it was accepted, counts no longer. VMs that belong on it are not admitted, and the
identities that they have are revoked, since whoever had root there had them too. The VMs themselves
are not revoked.

Where only a copy of its credential got into wrong hands, "vouchsafe ca revoke SERIAL" ends that one.`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usageError{fmt.Errorf("--reason is missing: whoever reads the record will want to know")}
			}
			var h api.RevokedHost
			if err := f.call(cmd.Context(), "POST", "/v1/hosts/"+url.PathEscape(args[0])+"/revoke", api.HostChange{Reason: reason}, &h); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(h)
			}
			fmt.Fprintf(a.err, a.say("%d certificates are revoked; its leases end within five minutes\n", "已吊销 %d 张证书；其租约将在五分钟内结束\n"), h.Certificates)
			if len(h.VMs) > 0 {
				fmt.Fprintf(a.err, a.say("nothing is given any more to the VMs that belong on it: %s\n", "属于它的虚拟机不再获得任何密钥与证书：%s\n"), strings.Join(h.VMs, " "))
			}
			return a.showHosts([]api.Host{h.Host})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record")
	return cmd
}

func newHostReinstateCommand(a *app) *cobra.Command {
	var f clientFlags
	var reason string
	cmd := &cobra.Command{
		Use:   "reinstate NAME --reason TEXT",
		Short: "Begin anew with a revoked host: nothing of before counts",
		Long: `Begin anew with a host that was revoked, when its machine is clean again or another one took its place.
Of before only its name stays, and which VMs belong on it: no TPM is on record, nothing is accepted,
and its old credentials stay revoked. Then enrol it as a new one: vouchsafe host enroll NAME, on it.`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usageError{fmt.Errorf("--reason is missing: whoever reads the record will want to know")}
			}
			var h api.Host
			if err := f.call(cmd.Context(), "POST", "/v1/hosts/"+url.PathEscape(args[0])+"/reinstate", api.HostChange{Reason: reason}, &h); err != nil {
				return err
			}
			fmt.Fprintf(a.err, a.say("now, on that machine: vouchsafe host enroll %s\n", "接下来在该机器上：vouchsafe host enroll %s\n"), h.Name)
			return a.showHosts([]api.Host{h})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record")
	return cmd
}
