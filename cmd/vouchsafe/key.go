package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/audit"
)

func newKeyCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Keys of the service: list, show, versions, history, rotate", Args: cobra.NoArgs}
	cmd.AddCommand(newKeyListCommand(a), newKeyShowCommand(a), newKeyVersionsCommand(a), newKeyHistoryCommand(a), newKeyRotateCommand(a))
	return cmd
}

func newKeyListCommand(a *app) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List every key by class and purpose; never the keys themselves",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var keys []api.Key
			if err := f.call(cmd.Context(), "GET", "/v1/keys", nil, &keys); err != nil {
				return err
			}
			w := a.table()
			defer w.Flush()
			if !a.json {
				fmt.Fprintln(w, a.say("NAME\tSCOPE\tCLASS\tVERSION\tKEPT\tSINCE\tPURPOSE", "名称\t范围\t类别\t版本\t保留\t自\t用途"))
			}
			for _, k := range keys {
				if a.json {
					if err := a.printJSON(k); err != nil {
						return err
					}
					continue
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%s\n", k.Name, k.Scope, k.Class, k.Primary, len(k.Versions), k.Since, a.words(k.Purpose))
			}
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

func getKey(ctx context.Context, f *clientFlags, name string) (k api.Key, err error) {
	c, err := f.open()
	if err != nil {
		return k, err
	}
	return k, c.call(ctx, "GET", "/v1/key?name="+url.QueryEscape(name), nil, &k)
}

func newKeyShowCommand(a *app) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show one key: what it is for, its versions, and what still needs them",
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := getKey(cmd.Context(), &f, args[0])
			if err != nil {
				return err
			}
			return a.showKey(k)
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) showKey(k api.Key) error {
	if a.json {
		return a.printJSON(k)
	}
	w := a.table()
	for _, row := range [][2]string{{a.say("name", "名称"), k.Name}, {a.say("scope", "范围"), k.Scope}, {a.say("class", "类别"), k.Class},
		{a.say("purpose", "用途"), a.words(k.Purpose)}, {a.say("since", "自"), k.Since}, {a.say("tiers", "级别"), strings.Join(k.Tiers, ", ")},
		{a.say("protects", "保护"), a.words(k.Protects)}, {a.say("due", "到期"), a.words(k.Due)}, {a.say("rotate", "轮换"), a.words(k.Rotate)}} {
		if row[1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
		}
	}
	for _, v := range k.Versions {
		fmt.Fprintf(w, a.say("version %d\t%s since %s", "版本 %d\t%s，自 %s"), v.Number, v.State, v.Created)
		for _, more := range []string{a.words(v.Used), v.Digest} {
			if more != "" {
				fmt.Fprintf(w, ", %s", more)
			}
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

func newKeyVersionsCommand(a *app) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "versions NAME",
		Short: "List the versions of a key that are kept: the primary one and at most three before it",
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := getKey(cmd.Context(), &f, args[0])
			if err != nil {
				return err
			}
			w := a.table()
			defer w.Flush()
			if !a.json {
				fmt.Fprintln(w, a.say("VERSION\tSTATE\tCREATED\tUSED", "版本\t状态\t创建时间\t使用"))
			}
			for _, v := range k.Versions {
				if a.json {
					if err := a.printJSON(v); err != nil {
						return err
					}
					continue
				}
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", v.Number, v.State, v.Created, a.words(v.Used))
			}
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

func newKeyHistoryCommand(a *app) *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "history NAME",
		Short: "Show who rotated a key and when, out of the audit log",
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, key, err := f.open()
			if err != nil {
				return err
			}
			w := a.table()
			var printing error
			r, err := audit.Verify(dir, key, nil, func(r audit.Record) {
				if r.Action != "key.rotated" || r.Object != args[0] || printing != nil {
					return
				}
				if a.json {
					printing = a.printJSON(r)
					return
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.Time.Format(time.RFC3339), r.Phase, r.Actor, detailText(r.Detail))
			})
			if err = errors.Join(err, printing, w.Flush()); err != nil {
				return err
			}
			a.printFindings(r.Findings)
			return worst(r.Findings)
		},
	}
	f.add(cmd)
	return cmd
}

func newKeyRotateCommand(a *app) *cobra.Command {
	var f clientFlags
	var recovery string
	cmd := &cobra.Command{
		Use:   "rotate root|ca/PURPOSE|policy",
		Short: "Make a new version of a key",
		Long: `Make a new version of a key.

  root        replace the root key and the key file that opens it, and wrap every secret anew under it.
              On the machine, with the service stopped. Cut off, it goes on where it was: run it again,
              or start the server. Older backups still open, with the recovery key, as what they were.
  ca/PURPOSE  give the vtpm-ek, vm-identity, service-tls, operator or residence authority a new key and
              certificate. On the machine, with the service stopped, and with the recovery key, since
              the root CA signs. What the one before issued stays good until it ends.
  policy      the key that approves boots. While the service runs. Every approved boot is signed anew;
              a VM opens its disk with the version that it knows and seals anew at its next admission
              with a disk: vouchsafe key show policy says how many still have to.`,
		Example: `  vouchsafe key rotate policy
  systemctl stop vouchsafe-server && vouchsafe key rotate root && systemctl start vouchsafe-server
  vouchsafe key rotate ca/vm-identity --recovery /media/usb/recovery.key`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			purpose, authority := strings.CutPrefix(args[0], "ca/")
			if recovery != "" && !authority {
				return withHint(usageError{fmt.Errorf("--recovery: the recovery key has no part in rotating %s", args[0])}, "vouchsafe key rotate %s", args[0])
			}
			switch {
			case args[0] == "root":
				dir, err := stateDir(f.state)
				if err != nil {
					return err
				}
				n, err := rotateRoot(cmd.Context(), dir)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(map[string]any{"name": "root", "rewrapped": n})
				}
				fmt.Fprintf(a.err, a.say("the root key is another one; %d keys and VMs were wrapped anew\nMake a backup now: those from before open with the old keys inside them.\n",
					"根密钥已更换；%d 个密钥和虚拟机已重新加密\n请立即备份：此前的备份只含旧密钥。\n"), n)
				return nil
			case authority:
				if recovery == "" {
					return usageError{errors.New("--recovery KEYFILE is missing: the root CA signs the new authority")}
				}
				dir, err := stateDir(f.state)
				if err != nil {
					return err
				}
				cert, err := rotateAuthority(cmd.Context(), dir, purpose, recovery)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(map[string]string{"name": args[0], "certificate": api.PEM(cert)})
				}
				_, err = io.WriteString(a.out, api.PEM(cert))
				return err
			}
			var k api.Key
			if err := f.call(cmd.Context(), "POST", "/v1/key/rotate?name="+url.QueryEscape(args[0]), nil, &k); err != nil {
				return err
			}
			return a.showKey(k)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&recovery, "recovery", "", "ca/PURPOSE: file with the recovery key")
	return cmd
}

// detailText writes what a record says beside its names, in a fixed order.
func detailText(detail map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(detail)) {
		parts = append(parts, name+"="+detail[name])
	}
	return strings.Join(parts, " ")
}
