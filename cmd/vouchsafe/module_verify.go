package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/modsig"
)

func newModuleVerifyCommand(a *app) *cobra.Command {
	var images, certs, dbx []string
	var mode string
	cmd := &cobra.Command{
		Use:   "verify [--kernel VMLINUZ]... [--cert FILE]... [--dbx FILE]... [--mode MODE] FILE|DIR...",
		Short: "Say which modules their kernel will load, taint itself for, or refuse",
		Long: `Say which modules their kernel will load, taint itself for, or refuse.

Each module is judged against its own kernel: the one whose lib/modules it is
under, else the one in its vermagic. The image is looked for in /boot, then
beside lib/modules, as an unpacked package has it; --json names it.
Trusted are the image's own keys, what shim and the firmware of this machine
have enrolled, and --cert; less what dbx and MokListX rule out.

The modes: off (the kernel taints itself), enforce (module.sig_enforce=1),
lockdown (Secure Boot), integrity (lockdown=integrity without Secure Boot).
Exit code 0: all load cleanly, without a taint and without an error. 3: not so.`,
		Example: `  vouchsafe module verify /lib/modules
  vouchsafe module verify --mode enforce --cert ca.der nvidia.ko
  vouchsafe module verify --kernel /boot/vmlinuz-6.1.0-56-amd64 --json *.ko`,
		Args: minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := newJudging(a, "/", images, certs, dbx, mode)
			if err != nil {
				return err
			}
			files, err := moduleFiles(args)
			if err != nil {
				return fmt.Errorf("looking for modules: %w", err)
			}
			if len(files) == 0 {
				return withHint(fmt.Errorf("no module in %s", strings.Join(args, ", ")), "%s",
					a.say("modules end in .ko, .ko.xz, .ko.gz or .ko.zst", "模块文件以 .ko、.ko.xz、.ko.gz 或 .ko.zst 结尾"))
			}
			p := a.newProgress(len(files))
			report := moduleReport{a: a, verbose: len(files) <= 10}
			err = j.judgeAll(cmd.Context(), files, func(r moduleResult) error {
				p.step()
				return report.add(r, p)
			})
			p.clear()
			if err != nil {
				return err
			}
			return report.end()
		},
	}
	cmd.Flags().StringArrayVar(&images, "kernel", nil, "a kernel image to judge against (repeatable; default: each module's own)")
	cmd.Flags().StringArrayVar(&certs, "cert", nil, "a certificate to take for enrolled, PEM or DER (repeatable)")
	dbxFlag(cmd, &dbx)
	cmd.Flags().StringVar(&mode, "mode", "", "off, enforce, lockdown or integrity (default: the running kernel's own for its modules, else lockdown)")
	return cmd
}

func dbxFlag(cmd *cobra.Command, dbx *[]string) {
	cmd.Flags().StringArrayVar(dbx, "dbx", nil, "what the firmware forbids: an EFI signature database, or dbx or MokListXRT out of efivarfs (repeatable; default: this machine's)")
}

// newJudging reads what --kernel, --cert, --dbx and --mode name.
func newJudging(a *app, root string, images, certs, dbx []string, mode string) (*judging, error) {
	j := &judging{mode: modsig.Mode(mode), now: time.Now(), running: runningRelease(),
		kernels: &moduleKernels{root: root, seen: map[string]*moduleKernel{}}}
	if mode != "" && !slices.Contains(modsig.Modes, j.mode) {
		return nil, usageError{fmt.Errorf("--mode %s is none of off, enforce, lockdown, integrity", mode)}
	}
	if root == "/" {
		j.kernels.enrolled, j.kernels.forbidden = enrolledKeys(), forbiddenHere()
	}
	if len(dbx) > 0 {
		var err error
		if j.kernels.forbidden, err = readForbidden(dbx); err != nil {
			return nil, err
		}
	}
	for _, path := range certs {
		cs, err := readCertificates(path)
		if err != nil {
			return nil, fmt.Errorf("reading --cert: %w", err)
		}
		j.kernels.enrolled = append(j.kernels.enrolled, cs...)
	}
	for _, path := range images {
		k := &moduleKernel{ready: make(chan struct{})}
		k.read(path, "", j.kernels.enrolled)
		k.judge.Forbid(j.kernels.forbidden)
		close(k.ready)
		if k.err != nil {
			return nil, withHint(fmt.Errorf("reading the kernel %s: %w", path, k.err), "%s",
				a.say("give the image that boots, such as /boot/vmlinuz-$(uname -r)", "请指定用于启动的映像，例如 /boot/vmlinuz-$(uname -r)"))
		}
		j.kernels.given = append(j.kernels.given, k)
	}
	return j, nil
}

// moduleReport prints results as they come, and what they mean at the end.
type moduleReport struct {
	a       *app
	verbose bool // the clean ones too
	total   int
	clean   int
	meant   []finding.Finding // the first of each code
}

func (m *moduleReport) add(r moduleResult, p *progress) error {
	m.total++
	if r.clean {
		m.clean++
	}
	for i, f := range r.Findings {
		r.Findings[i] = f.In(m.a.dataLang())
		if !slices.ContainsFunc(m.meant, func(g finding.Finding) bool { return g.Code == f.Code }) {
			m.meant = append(m.meant, r.Findings[i])
		}
	}
	if m.a.json {
		return m.a.printJSON(r)
	}
	if r.clean && !m.verbose && len(r.Findings) == 0 {
		return nil
	}
	p.clear()
	_, err := io.WriteString(m.a.out, r.text(m.a))
	return err
}

// text is one module for a person.
func (r moduleResult) text(a *app) string {
	var b strings.Builder
	name := r.File
	if strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) }) {
		name = strconv.Quote(name) // a name must not move the reader's cursor
	}
	fmt.Fprintf(&b, "%s: %s\n", name, r.Verdict)
	if r.Signer != nil {
		fmt.Fprintf(&b, "  %s %s, %s", a.say("signed by", "签名者"), r.Signer, r.Hash)
		if r.Signer.TrustedBy != "" {
			fmt.Fprintf(&b, " (%s)", a.say(r.Signer.TrustedBy, map[string]string{"builtin": "内核内置", "enrolled": "已导入"}[r.Signer.TrustedBy]))
		}
		b.WriteByte('\n')
	}
	switch {
	case r.unread:
	case r.blind:
		fmt.Fprintf(&b, "  %s\n", a.say("without the kernel's image nobody can tell whether it loads", "没有内核映像，无法判断能否加载"))
	default:
		fmt.Fprintf(&b, "  %s\n", r.Kernel.text(a))
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "  %s%s\n", a.coded(f), a.words(f.Evidence))
	}
	return b.String()
}

// text says what the kernel will do.
func (o moduleOutcome) text(a *app) string {
	head := fmt.Sprintf(a.say("kernel %s, mode %s:", "内核 %s，模式 %s："), o.Release, o.Mode)
	if o.Release == "" {
		head = fmt.Sprintf(a.say("any kernel, mode %s:", "任何内核，模式 %s："), o.Mode)
	}
	switch {
	case o.Loads && !o.Taints:
		return head + a.say(" loads it", "加载")
	case o.Loads:
		return head + a.say(" loads it and taints itself (E); log: ", "加载，但内核被标记为受污染（E）；日志：") + oneLine(o.Message)
	case o.Message == "":
		return head + fmt.Sprintf(a.say(" refuses it with %s, without a line in the log", "拒绝，%s，日志中没有任何提示"), o.Errno)
	}
	return head + fmt.Sprintf(a.say(" refuses it with %s; log: %s", "拒绝，%s；日志：%s"), o.Errno, oneLine(o.Message))
}

func oneLine(s string) string { return strings.ReplaceAll(s, "\n", " | ") }

// end says what the codes mean, and how many modules are how.
func (m *moduleReport) end() error {
	if !m.a.json {
		for _, f := range m.meant {
			fmt.Fprintf(m.a.err, "\n%s%s\n  %s%s\n", f.Code+m.a.say(": ", "："), f.Meaning, m.a.say("remedy: ", "处理："), f.Remedy)
		}
		if len(m.meant) > 0 {
			fmt.Fprintln(m.a.err)
		}
	}
	fmt.Fprintf(m.a.err, m.a.say("%d of %d modules load cleanly\n", "%d / %d 个模块可正常加载\n"), m.clean, m.total)
	if m.clean < m.total {
		return errFindings
	}
	return nil
}
