package main

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
)

func newPolicyOfflineCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "offline", Short: "Disks that open without the service: allow, revoke, show", Args: cobra.NoArgs}
	cmd.AddCommand(newPolicyOfflineAllowCommand(a), newPolicyOfflineRevokeCommand(a), newPolicyOfflineShowCommand(a))
	return cmd
}

func newPolicyOfflineAllowCommand(a *app) *cobra.Command {
	var f clientFlags
	var boots int
	var running time.Duration
	cmd := &cobra.Command{
		Use:   "allow VM --boots N [--for D]",
		Short: "Let a VM open its disks without the service, for a few boots",
		Long: `Let a VM open its disks without the service when nobody answers (vouchsafe-agent unlock --offline). At
each admission with its disk the VM gets a ticket that its TPM enforces: for N more resets of the vTPM,
for D of its running time, in an approved boot alone. The TPM cannot know how long it was switched off.
A ticket cannot be taken back from afar: a VM that is revoked and kept off the network opens until the
ticket ran out. So allow few boots, and withdraw it when it is no longer needed.`,
		Example: `  vouchsafe policy offline allow web1 --boots 3 --for 24h`,
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("boots") {
				return usageError{fmt.Errorf("--boots N is missing: how many boots without the service, 1 to %d", enroll.MaxOfflineBoots)}
			}
			if boots < 1 || boots > enroll.MaxOfflineBoots {
				return usageError{fmt.Errorf("--boots %d: want 1 to %d boots without the service", boots, enroll.MaxOfflineBoots)}
			}
			if running < 0 || running > enroll.MaxOfflineFor || running%time.Second != 0 {
				return usageError{errors.New("--for wants whole seconds, at most 720h")}
			}
			var o api.OfflineLeave
			if err := f.call(cmd.Context(), "PUT", offlinePath(args[0]), api.AllowOffline{Boots: boots, Seconds: int64(running / time.Second)}, &o); err != nil {
				return err
			}
			return a.showOffline(args[0], o)
		},
	}
	f.add(cmd)
	cmd.Flags().IntVar(&boots, "boots", 0, "how many boots after each admission")
	cmd.Flags().DurationVar(&running, "for", 0, "how long the vTPM may run after each admission (default 168h)")
	return cmd
}

func offlinePath(vm string) string { return "/v1/vms/" + url.PathEscape(vm) + "/offline" }

func newPolicyOfflineRevokeCommand(a *app) *cobra.Command {
	return offlineCommand(a, "DELETE", "revoke VM", "Withdraw that; what the VM has runs out, or goes when it is admitted")
}

func newPolicyOfflineShowCommand(a *app) *cobra.Command {
	return offlineCommand(a, "GET", "show VM", "Show whether a VM opens its disks without the service, and what is out")
}

// offlineCommand asks one thing about a VM's leave, and shows how it then stands.
func offlineCommand(a *app, method, use, short string) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var o api.OfflineLeave
			if err := f.call(cmd.Context(), method, offlinePath(args[0]), nil, &o); err != nil {
				return err
			}
			return a.showOffline(args[0], o)
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) showOffline(vm string, o api.OfflineLeave) error {
	if a.json {
		return a.printJSON(o)
	}
	w := a.table()
	fmt.Fprintf(w, "%s\t%s\n", a.say("vm", "虚拟机"), vm)
	if o.Boots == 0 {
		fmt.Fprintf(w, "%s\t%s\n", a.say("offline", "离线"), a.say("no", "否"))
	} else {
		fmt.Fprintf(w, a.say("offline\t%s, %s of running time after each admission, since %s\n", "离线\t每次准入后 %s、运行 %s，自 %s 起\n"), a.count(o.Boots, "boot", "次启动"), time.Duration(o.Seconds)*time.Second, o.Allowed)
	}
	if o.Issued != "" {
		fmt.Fprintf(w, a.say("out\tsince %s: %s, %s of running time\n", "已发放\t自 %s：%s，运行 %s\n"), o.Issued, a.count(o.IssuedBoots, "boot", "次启动"), time.Duration(o.IssuedSeconds)*time.Second)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	a.printFindings(o.Findings)
	return nil
}
