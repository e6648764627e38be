package main

import (
	"context"
	"fmt"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"github.com/vouchsafe/vouchsafe/internal/agent"
	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/ca"
)

func newCACommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "ca", Short: "Certificates: list, show, revoke, CRLs, credentials", Args: cobra.NoArgs}
	cmd.AddCommand(newCAListCommand(a), newCAShowCommand(a), newCARevokeCommand(a), newCACRLCommand(a), newCARootCommand(a), newCACredentialCommand(a))
	return cmd
}

func newCAListCommand(a *app) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List certificates",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.open()
			if err != nil {
				return err
			}
			w := a.table()
			defer w.Flush()
			for after := ""; ; {
				var cs []api.Certificate
				if err := c.call(cmd.Context(), "GET", "/v1/certificates?limit=500&after="+after, nil, &cs); err != nil {
					return err
				}
				if !a.json && after == "" {
					fmt.Fprintln(w, a.say("SERIAL\tPROFILE\tSTATE\tNOT AFTER\tSUBJECT", "序列号\t模板\t状态\t有效期至\t主体"))
				}
				for _, v := range cs {
					after = v.Serial
					if !a.json {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", v.Serial, v.Profile, v.State, v.NotAfter, v.Subject)
					} else if err := a.printJSON(v); err != nil {
						return err
					}
				}
				if len(cs) < 500 {
					return nil
				}
			}
		},
	}
	f.add(cmd)
	return cmd
}

func newCAShowCommand(a *app) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "show SERIAL",
		Short: "Print a certificate in PEM",
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var v api.Certificate
			if err := f.call(cmd.Context(), "GET", "/v1/certificates/"+url.PathEscape(args[0]), nil, &v); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(v)
			}
			fmt.Fprintf(a.err, "%s %s %s\n", v.Profile, v.State, v.Subject)
			_, err := fmt.Fprint(a.out, v.PEM)
			return err
		},
	}
	f.add(cmd)
	return cmd
}

func newCARevokeCommand(a *app) *cobra.Command {
	var f clientFlags
	var reason string
	cmd := &cobra.Command{
		Use:   "revoke SERIAL",
		Short: "Revoke a certificate, for good",
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := ca.ParseReason(reason); err != nil {
				return usageError{err}
			}
			var v api.Certificate
			if err := f.call(cmd.Context(), "POST", "/v1/certificates/"+url.PathEscape(args[0])+"/revoke", map[string]string{"reason": reason}, &v); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(v)
			}
			fmt.Fprintf(a.err, a.say("revoked %s (%s)\n", "已吊销 %s（%s）\n"), v.Serial, v.Reason)
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "key-compromise, affiliation-changed, superseded, cessation-of-operation or privilege-withdrawn (default unspecified)")
	return cmd
}

func newCACRLCommand(a *app) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "crl vtpm-ek|vm-identity|service-tls|operator|residence",
		Short: "Print the CRL of one intermediate in PEM",
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var v api.CRL
			if err := f.call(cmd.Context(), "GET", "/v1/crls/"+url.PathEscape(args[0]), nil, &v); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(v)
			}
			_, err := fmt.Fprint(a.out, v.PEM)
			return err
		},
	}
	f.add(cmd)
	return cmd
}

func newCARootCommand(a *app) *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use:   "root",
		Short: "Print the root certificate in PEM",
		Args:  exactArgs(0),
		RunE: func(*cobra.Command, []string) error {
			dir, err := stateDir(state)
			if err != nil {
				return err
			}
			s, err := readService(dir)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]string{"pem": s.RootCA})
			}
			_, err = fmt.Fprint(a.out, s.RootCA)
			return err
		},
	}
	stateFlag(cmd, &state)
	return cmd
}

// noteEarly says so when nobody has the name of a credential yet. That may be
// meant: an image that is prepared before its VM. It may be a typing error, too.
func (a *app) noteEarly(ctx context.Context, c *apiClient, kind, name string) error {
	path, en, zh := "/v1/vms/", "note: there is no VM %[1]s yet, and this credential is good for that name alone: vouchsafe vm create %[1]s\n", "注意：尚无虚拟机 %[1]s，此凭据仅对该名称有效：vouchsafe vm create %[1]s\n"
	switch kind {
	case ca.KindAgent:
		path, en, zh = "/v1/hosts/", "note: there is no host %[1]s yet, and this credential is good for that name alone: vouchsafe host add %[1]s\n", "注意：尚无宿主机 %[1]s，此凭据仅对该名称有效：vouchsafe host add %[1]s\n"
	case ca.KindOperator:
		return nil
	}
	err := c.call(ctx, "GET", path+url.PathEscape(name), nil, nil)
	if notFound(err) {
		fmt.Fprintf(a.err, a.say(en, zh), name)
		return nil
	}
	return err
}

func newCACredentialCommand(a *app) *cobra.Command {
	var f clientFlags
	var kind, out string
	cmd := &cobra.Command{
		Use:   "credential NAME -o DIR",
		Short: "Make a client credential for an operator or an agent; its key is made here",
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return usageError{fmt.Errorf("-o DIR is missing: where key, certificate and root go")}
			}
			if err := checkName(args[0]); err != nil {
				return err
			}
			if _, err := os.Lstat(out); err == nil {
				return withHint(fmt.Errorf("%s is there already", out), "choose another directory, or move it away: mv %s %s.old", out, out)
			}
			c, err := f.open()
			if err != nil {
				return err
			}
			// First the place, then what is issued for good.
			if err := os.MkdirAll(out, 0o700); err != nil {
				return err
			}
			key, got, err := askCredential(cmd.Context(), c, kind, args[0])
			if err != nil {
				os.Remove(out)
				return err
			}
			if err := saveCredential(out, key, got.PEM, got.RootCA); err != nil {
				return err
			}
			root, err := parseCertificate([]byte(got.RootCA))
			if err != nil {
				return err
			}
			fmt.Fprintf(a.err, a.say("credential of %s %s in %s\nthe CA to believe is sha256:%s\n", "%s %s 的凭据已写入 %s\n应信任的 CA 为 sha256:%s\n"), kind, args[0], out, agent.Fingerprint(root))
			if a.json {
				if err := a.printJSON(map[string]string{"name": args[0], "kind": kind, "directory": out, "root": "sha256:" + agent.Fingerprint(root)}); err != nil {
					return err
				}
			}
			return a.noteEarly(cmd.Context(), c, kind, args[0])
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&kind, "kind", "operator", "operator (may do everything), agent (a host: may ask for leases) or guest (a VM, by its name: may prove itself)")
	cmd.Flags().StringVarP(&out, "out", "o", "", "new directory for the credential")
	return cmd
}
