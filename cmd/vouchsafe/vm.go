package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
)

func newVMCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "vm", Short: "VMs: create, list, show, revoke", Args: cobra.NoArgs}
	cmd.AddCommand(newVMCreateCommand(a), newVMListCommand(a), newVMShowCommand(a), newVMRevokeCommand(a), newVMDropOrderCommand(a), newVMAcceptStateCommand(a))
	return cmd
}

func newVMCreateCommand(a *app) *cobra.Command {
	var f clientFlags
	var in api.NewVM
	var ek, key string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "create NAME [--host HOST]",
		Short: "Make a VM: its host makes the vTPM",
		Long: `Make a VM. Its host, where "vouchsafe host run" or "vouchsafe up" runs, makes the vTPM; this command
waits for that. With --ek-public the vTPM is there already, and the VM is known by its endorsement key.`,
		Example: `  vouchsafe vm create web1
  vouchsafe vm create web2 --host rack1-7 --disk root --disk data`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range append([]string{args[0], in.Host}, in.Disks...) {
				if err := checkName(name); err != nil {
					return err
				}
			}
			if wait < 0 {
				return usageError{fmt.Errorf("--wait %v: want a time from now on, or 0", wait)}
			}
			in.Name = args[0]
			if ek != "" {
				text, err := a.readAtMost(ek, maxToken)
				if err != nil {
					return err
				}
				if b, _ := pem.Decode(text); b == nil || b.Type != "PUBLIC KEY" {
					return withHint(fmt.Errorf("%s holds no PUBLIC KEY in PEM", ek), "tpm2_readpublic -c 0x81010016 -f pem -o %s", ek)
				}
				in.EKPublic = string(text)
			}
			c, err := f.open()
			if err != nil {
				return err
			}
			if key == "" { // so that our own retries do it once
				b := make([]byte, 16)
				rand.Read(b)
				key = hex.EncodeToString(b)
			}
			var vm api.VM
			if err := c.callOnce(cmd.Context(), "POST", "/v1/vms", key, in, &vm); err != nil {
				return err
			}
			if vm.State == string(enroll.StateOrdered) && wait > 0 {
				if vm, err = a.awaitBirth(cmd.Context(), c, vm, f.socket(vm.Name), wait); err != nil {
					return err
				}
			}
			return a.showVM(vm)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&in.Host, "host", "localhost", "host that carries its vTPM")
	cmd.Flags().StringVar(&ek, "ek-public", "", "file with the vTPM's endorsement key, PUBLIC KEY in PEM")
	cmd.Flags().BoolVar(&in.Endorse, "endorse", false, "issue an endorsement certificate: the vTPM is one of vouchsafe's own (vouchsafe ca show SERIAL prints it)")
	cmd.Flags().StringSliceVar(&in.Disks, "disk", nil, "name of a disk that gets a key; may be repeated (default root)")
	cmd.Flags().DurationVar(&wait, "wait", time.Minute, "how long to wait until its host has made the vTPM; 0: not at all")
	cmd.Flags().StringVar(&key, "idempotency-key", "", "the same key twice makes one VM")
	return cmd
}

// socket is what QEMU connects to, as far as it can be known here: `up` keeps its
// sockets in the state directory, another host where it was told to.
func (f *clientFlags) socket(vm string) string {
	if dir, err := stateDir(f.state); err == nil {
		if _, err := os.Stat(filepath.Join(dir, dirSockets)); err == nil {
			return filepath.Join(dir, dirSockets, vm+".sock")
		}
	}
	return "SOCKETS/" + vm + ".sock"
}

// awaitBirth waits until the host has made the vTPM.
func (a *app) awaitBirth(ctx context.Context, c *apiClient, vm api.VM, socket string, most time.Duration) (api.VM, error) {
	fmt.Fprintf(a.err, a.say("waiting until host %s has made the vTPM of %s …\n", "等待宿主机 %s 制造 %s 的 vTPM……\n"), vm.Host, vm.Name)
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			if context.Cause(ctx) == context.DeadlineExceeded {
				return vm, withHint(fmt.Errorf("host %s has not made the vTPM of %s within %v; the order stands", vm.Host, vm.Name, most),
					"is vouchsafe host run (or up) running there? Otherwise: vouchsafe vm drop-order %s", vm.Name)
			}
			return vm, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		if err := c.call(ctx, "GET", "/v1/vms/"+url.PathEscape(vm.Name), nil, &vm); err != nil && ctx.Err() == nil {
			return vm, err
		}
		if vm.State != string(enroll.StateOrdered) {
			fmt.Fprintf(a.err, a.say("on %s, give QEMU: -chardev socket,id=tpm,path=%s -tpmdev emulator,id=tpm0,chardev=tpm -device tpm-crb,tpmdev=tpm0\n",
				"在 %s 上为 QEMU 加参数：-chardev socket,id=tpm,path=%s -tpmdev emulator,id=tpm0,chardev=tpm -device tpm-crb,tpmdev=tpm0\n"), vm.Host, socket)
			var h api.Host
			if err := c.call(ctx, "GET", "/v1/hosts/"+url.PathEscape(vm.Host), nil, &h); err == nil && !h.HasTPM && !h.AcceptUnattested {
				fmt.Fprintf(a.err, a.say("note: there is no socket before host %s is attested (vouchsafe host enroll), or accepted: vouchsafe host add %[1]s --accept-unattested-host\n",
					"注意：在宿主机 %s 通过证明（vouchsafe host enroll）或被接受（vouchsafe host add %[1]s --accept-unattested-host）之前，没有套接字\n"), vm.Host)
			}
			return vm, nil
		}
	}
}

func newVMDropOrderCommand(a *app) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "drop-order NAME",
		Short: "Drop the order of a VM whose vTPM its host has not made",
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.call(cmd.Context(), "DELETE", "/v1/vms/"+url.PathEscape(args[0])+"/order", nil, nil)
		},
	}
	f.add(cmd)
	return cmd
}

func newVMListCommand(a *app) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List VMs",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.open()
			if err != nil {
				return err
			}
			w := a.table()
			defer w.Flush()
			for after := ""; ; {
				var vms []api.VM
				if err := c.call(cmd.Context(), "GET", "/v1/vms?limit=500&after="+url.QueryEscape(after), nil, &vms); err != nil {
					return err
				}
				if !a.json && after == "" {
					fmt.Fprintln(w, a.say("NAME\tSTATE\tHOST\tGENERATION\tCREATED", "名称\t状态\t宿主机\t代\t创建时间"))
				}
				for _, v := range vms {
					if a.json {
						if err := a.printJSON(v); err != nil {
							return err
						}
					} else {
						fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", v.Name, v.State, v.Host, v.Generation, v.Created)
					}
					after = v.Name
				}
				if len(vms) < 500 {
					return nil
				}
			}
		},
	}
	f.add(cmd)
	return cmd
}

func newVMShowCommand(a *app) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show one VM",
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var vm api.VM
			if err := f.call(cmd.Context(), "GET", "/v1/vms/"+url.PathEscape(args[0]), nil, &vm); err != nil {
				return err
			}
			return a.showVM(vm)
		},
	}
	f.add(cmd)
	return cmd
}

func newVMRevokeCommand(a *app) *cobra.Command {
	var f clientFlags
	var reason string
	cmd := &cobra.Command{
		Use:   "revoke NAME --reason TEXT",
		Short: "End all trust in a VM, for good: no key, no certificate, no lease",
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usageError{fmt.Errorf("--reason is missing: whoever reads the record will want to know")}
			}
			var vm api.VM
			if err := f.call(cmd.Context(), "POST", "/v1/vms/"+url.PathEscape(args[0])+"/revoke", map[string]string{"reason": reason}, &vm); err != nil {
				return err
			}
			return a.showVM(vm)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record")
	return cmd
}

func (a *app) showVM(v api.VM) error {
	if a.json {
		return a.printJSON(v)
	}
	w := a.table()
	for _, row := range [][2]string{
		{a.say("name", "名称"), v.Name}, {"id", v.ID}, {a.say("state", "状态"), v.State}, {a.say("host", "宿主机"), v.Host},
		{a.say("ek digest", "EK 摘要"), v.EKDigest}, {a.say("ek certificate", "EK 证书"), v.EKSerial},
		{a.say("generation", "代"), fmt.Sprint(v.Generation)}, {a.say("created", "创建时间"), v.Created}, {a.say("revoked", "吊销时间"), v.Revoked}, {a.say("reason", "原因"), v.Reason},
	} {
		if row[1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
		}
	}
	return w.Flush()
}
