package main

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vouchsafe/vouchsafe/eventlog"
	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/attest"
)

// subjectFlags say whose policy or evidence it is: a VM's, or with --host a host's.
type subjectFlags struct {
	clientFlags
	host bool
}

func (f *subjectFlags) add(cmd *cobra.Command) {
	f.clientFlags.add(cmd)
	cmd.Flags().BoolVar(&f.host, "host", false, "NAME is a host, not a VM")
}

func (f *subjectFlags) path(name string) string {
	if f.host {
		return "/v1/hosts/" + url.PathEscape(name)
	}
	return "/v1/vms/" + url.PathEscape(name)
}

func newPolicyCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "Approved boots of VMs and hosts: enroll, propose, show, withdraw; modules of VMs; disks offline", Args: cobra.NoArgs}
	cmd.AddCommand(newPolicyEnrollCommand(a), newPolicyProposeCommand(a), newPolicyShowCommand(a), newPolicyWithdrawCommand(a), newPolicyModulesCommand(a), newPolicyOfflineCommand(a))
	return cmd
}

func newPolicyEnrollCommand(a *app) *cobra.Command {
	var f subjectFlags
	var in api.EnrollPolicy
	cmd := &cobra.Command{
		Use:   "enroll NAME",
		Short: "Approve the boot that a VM or host last showed: a golden boot",
		Long: `Approve the boot that a VM, or with --host a host, last showed. Its agent must have attested within the last hour and been
refused with REFERENCE_MISSING or BOOT_DIFFERS: everything else about the evidence held. From
now on the service admits this boot, and the VM's TPM takes it for an approved one. Read the
warnings: they say what this boot does not measure.`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var p api.Policy
			if err := f.call(cmd.Context(), "POST", f.path(args[0])+"/policy/enroll", in, &p); err != nil {
				return err
			}
			return a.showPolicy(p)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&in.Note, "note", "", "for people: what this boot is, such as \"kernel 6.1.0-32\"")
	cmd.Flags().StringVar(&in.PCRDigest, "pcr-digest", "", "approve this boot and no other that came since: as attest show says it")
	return cmd
}

func newPolicyProposeCommand(a *app) *cobra.Command {
	var f subjectFlags
	var in api.ProposePolicy
	var kernel, initrd, memory string
	var b eventlog.Boot
	cmd := &cobra.Command{
		Use:   "propose NAME --kernel FILE [--initrd FILE] --cmdline TEXT --memory SIZE [--approve]",
		Short: "Compute the next boot's values before the reboot, and approve them",
		Long: `Compute what another kernel, initrd and command line will measure (QEMU -kernel under OVMF), out of
the newest approved boot. Without --approve it only says what would change. The sets before it
stay good until they are withdrawn.`,
		Example: `  vouchsafe policy propose web1 --kernel vmlinuz --initrd initrd.img --cmdline "root=/dev/vda ro" --memory 2G --approve`,
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if kernel == "" || !cmd.Flags().Changed("cmdline") {
				return usageError{fmt.Errorf("--kernel and --cmdline are needed (--cmdline \"\" for an empty one)")}
			}
			var err error
			if b.Memory, err = parseMemory(memory); err != nil {
				return usageError{err}
			}
			if b.Kernel, err = a.readAtMost(kernel, eventlog.MaxPE); err != nil {
				return err
			}
			if initrd != "" {
				if b.Initrd, err = a.readAtMost(initrd, 1<<30); err != nil {
					return err
				}
			}
			m, err := b.Measure(eventlog.SHA256)
			if err != nil {
				return withHint(err, "--kernel FILE and --memory SIZE as for QEMU's -kernel and -m: ls /boot/vmlinuz-*")
			}
			in.Kernel, in.CommandLine, in.Initrd = measured(m.Kernel), measured(m.CommandLine), measured(m.Initrd)
			var p api.Policy
			if err := f.call(cmd.Context(), "POST", f.path(args[0])+"/policy/propose", in, &p); err != nil {
				return err
			}
			if !p.Approved {
				fmt.Fprintln(a.err, a.say("nothing was approved; --approve does", "尚未批准；加 --approve 以批准"))
			}
			return a.showPolicy(p)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&kernel, "kernel", "", "the kernel image, as for QEMU's -kernel")
	cmd.Flags().StringVar(&initrd, "initrd", "", "the initrd, as for -initrd")
	cmd.Flags().StringVar(&b.CommandLine, "cmdline", "", "the command line, as for -append")
	cmd.Flags().StringVar(&memory, "memory", "", "the guest's memory, as for -m: 512M, 2G")
	cmd.Flags().StringVar(&b.Machine, "machine", "q35", "q35 or pc")
	cmd.Flags().StringVar(&in.Note, "note", "", "for people: what this boot is")
	cmd.Flags().BoolVar(&in.Approve, "approve", false, "approve it")
	return cmd
}

func measured(ds []eventlog.Digest) []api.MeasuredDigest {
	var out []api.MeasuredDigest
	for _, d := range ds {
		out = append(out, api.MeasuredDigest{Alg: d.Alg.String(), Digest: d.Sum})
	}
	return out
}

func newPolicyShowCommand(a *app) *cobra.Command {
	var f subjectFlags
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a VM's approved boots",
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var ps []api.Policy
			if err := f.call(cmd.Context(), "GET", f.path(args[0])+"/policy", nil, &ps); err != nil {
				return err
			}
			if len(ps) == 0 {
				fmt.Fprintf(a.err, a.say("no boot of %s is approved; after its agent attested: vouchsafe policy enroll %s\n", "%s 尚无已批准的启动；其代理证明之后：vouchsafe policy enroll %s\n"), args[0], args[0])
			}
			for _, p := range ps {
				if err := a.showPolicy(p); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

func newPolicyWithdrawCommand(a *app) *cobra.Command {
	var f subjectFlags
	cmd := &cobra.Command{
		Use:   "withdraw NAME VERSION",
		Short: "Withdraw one approved boot: the service no longer admits it",
		Args:  exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			version, err := strconv.ParseUint(args[1], 10, 63)
			if err != nil || version == 0 {
				return usageError{fmt.Errorf("%q is no version", args[1])}
			}
			if err := f.call(cmd.Context(), "DELETE", fmt.Sprintf("%s/policy/%d", f.path(args[0]), version), nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(a.err, a.say("version %d of the policy of %s is withdrawn\n", "策略版本 %d（%s）已撤回\n"), version, args[0])
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) showPolicy(p api.Policy) error {
	if a.json {
		return a.printJSON(p)
	}
	w := a.table()
	fmt.Fprintf(w, a.say("version\t%d\n", "版本\t%d\n"), p.Version)
	if p.Note != "" {
		fmt.Fprintf(w, a.say("note\t%s\n", "说明\t%s\n"), p.Note)
	}
	fmt.Fprintf(w, a.say("not before\t%s\nbank\t%s\n", "生效时间\t%s\n组\t%s\n"), p.NotBefore, p.Bank)
	for pcr := range 24 {
		if v, ok := p.PCRs[strconv.Itoa(pcr)]; ok {
			fmt.Fprintf(w, "PCR %d\t%s\n", pcr, v)
		}
	}
	for _, c := range p.Changes {
		fmt.Fprintf(w, a.say("changes\t%s\n", "变化\t%s\n"), a.words(c))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	a.printFindings(p.Warnings)
	return nil
}

func newAttestCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "attest", Short: "Appraisals of VMs: show, verify", Args: cobra.NoArgs}
	cmd.AddCommand(newAttestShowCommand(a), newAttestVerifyCommand(a))
	return cmd
}

func newAttestShowCommand(a *app) *cobra.Command {
	var f subjectFlags
	var jwt bool
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show how a VM's evidence was last appraised, and why",
		Long: `Show how a VM's evidence was last appraised. The exit code is 0 when it was
affirming, 3 when there were warnings or it was refused.`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var at api.Attestation
			if err := f.call(cmd.Context(), "GET", f.path(args[0])+"/attestation", nil, &at); err != nil {
				if strings.HasPrefix(err.Error(), "the last appraisal") { // the name is known; nothing was appraised
					return withHint(err, "%s", a.say("in the guest: vouchsafe-agent attest", "在虚拟机内：vouchsafe-agent attest"))
				}
				return err
			}
			switch {
			case jwt && at.Token == "":
				return withHint(errors.New("this result was not signed: an older service made it"), "vouchsafe-agent attest")
			case jwt:
				if _, err := fmt.Fprintln(a.out, at.Token); err != nil {
					return err
				}
			case a.json:
				if err := a.printJSON(at); err != nil {
					return err
				}
			default:
				if err := a.showAttestation(at); err != nil {
					return err
				}
			}
			if at.Status != string(attest.Affirming) {
				return errFindings
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&jwt, "jwt", false, "print the signed result: an EAT that others verify without this service")
	return cmd
}

func (a *app) showAttestation(at api.Attestation) error {
	r, err := resultOf(at)
	if err != nil {
		return err
	}
	w := a.table()
	fmt.Fprintf(w, a.say("of\t%s\nat\t%s\nstatus\t%s\n", "对象\t%s\n时间\t%s\n状态\t%s\n"), r.Subject, at.At, at.Status)
	return a.showResult(w, r)
}

// showResult goes on with what was found, and why.
func (a *app) showResult(w *table, r attest.Result) error {
	fmt.Fprintf(w, a.say("tier\t%s\n", "级别\t%s\n"), r.Tier)
	if q := r.Quoted; q != nil {
		fmt.Fprintf(w, a.say("quoted\t%s %v, reset %d, restart %d\n", "quote\t%s %v，复位 %d，重启 %d\n"), q.Bank, q.PCRs, q.ResetCount, q.RestartCount)
		fmt.Fprintf(w, a.say("PCR digest\t%x\n", "PCR 摘要\t%x\n"), []byte(q.PCRDigest))
	}
	if ref := r.Reference; ref != nil {
		fmt.Fprintf(w, a.say("policy\tversion %d %s\n", "策略\t版本 %d %s\n"), ref.Version, ref.Note)
	}
	if r.Difference != nil {
		fmt.Fprintf(w, a.say("differs\t%s\n", "差异\t%s\n"), a.words(r.Difference.String()))
	}
	if r.Boot != nil && r.Boot.ModuleCount > 0 {
		fmt.Fprintf(w, a.say("modules\t%d\n", "模块\t%d\n"), r.Boot.ModuleCount)
		for _, m := range r.Boot.Modules {
			fmt.Fprintf(w, "\t%s:%x %s\n", m.Alg, []byte(m.Digest), m.Name)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	a.printFindings(r.Findings)
	return nil
}
