package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
)

func newDemoCommand(a *app) *cobra.Command {
	var keep string
	var inGuest bool
	var o guestOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Lead a VM through its life, and see it refused when anything was tampered with",
		Long: `Run the service in a temporary directory, as up does, and lead a VM through its life: it is
born, boots, proves itself, gets its certificate and its disk key, and is refused when its boot,
its disk, its vTPM's state or its evidence is not what it was, and when it was revoked.
Everything is real: TPM commands over swtpm's socket, a crypto-agile event log, HTTPS with client
certificates, a TLS key inside the vTPM, LUKS2 where cryptsetup is installed. Each line says what
was checked. The exit code is 0 only if all of it held.

With --guest the VM is a real one: Debian's cloud kernel under OVMF in QEMU, with vouchsafe-agent
in an initramfs that is made on the spot. It enrols over its network, formats its disk at the first
admission, opens it by itself at the next boots, and stays shut when its command line, its disk or
its vTPM's state is another one; an update is approved before its reboot. About two minutes
without KVM. It needs Debian packages, and says which are missing.`,
		Example: `  vouchsafe demo
  vouchsafe demo --keep evidence    # then read evidence/README.txt
  vouchsafe demo --guest`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !inGuest {
				if o != (guestOptions{}) {
					return usageError{errors.New("--kernel, --modules, --ovmf and --agent are for --guest")}
				}
				return runDemo(cmd.Context(), a, keep, nil)
			}
			return runDemo(cmd.Context(), a, keep, &o)
		},
	}
	cmd.Flags().StringVar(&keep, "keep", "", "leave the evidence in this new directory, for other people's tools")
	cmd.Flags().BoolVar(&inGuest, "guest", false, "with a real kernel in QEMU")
	cmd.Flags().StringVar(&o.kernel, "kernel", "", "--guest: the kernel (default: the newest /boot/vmlinuz-*-cloud-amd64)")
	cmd.Flags().StringVar(&o.modules, "modules", "", "--guest: its modules (default: ../lib/modules/VERSION as seen from the kernel's directory)")
	cmd.Flags().StringVar(&o.ovmf, "ovmf", "", "--guest: OVMF_CODE*.fd, with its OVMF_VARS*.fd beside it (default: /usr/share/OVMF/OVMF_CODE_4M.fd)")
	cmd.Flags().StringVar(&o.agent, "agent", "", "--guest: vouchsafe-agent (default: beside this program, in PATH, or built from the source tree)")
	return cmd
}

// A demoStep is one line of the demo: it does something and says what it checked.
type demoStep struct {
	name   string
	en, zh string
	do     func(*demo) (detail string, err error)
}

// demoSteps are the story, in order.
var demoSteps = []demoStep{
	{"born", "a vTPM is made, certified, and leased to its host", "制造 vTPM，签发证书，并租借给宿主机", (*demo).born},
	{"boot", "the VM boots and measures itself", "虚拟机启动并度量自身", (*demo).booted},
	{"attest", "it proves itself", "证明自身", (*demo).attested},
	{"certificate", "it has an identity", "取得身份证书", (*demo).certified},
	{"disk-key", "it has its disk key, in two shares", "以两个份额取得磁盘密钥", (*demo).unlocked},
	{"tls", "it speaks mutual TLS", "进行双向 TLS 通信", (*demo).mutualTLS},
	{"tamper-refused", "a tampered boot is refused", "被篡改的启动遭拒绝", (*demo).tampered},
	{"swap-refused", "a swapped disk and an old vTPM are refused", "被调换的磁盘与旧的 vTPM 遭拒绝", (*demo).swapped},
	{"replay-refused", "replayed evidence is refused", "重放的证据遭拒绝", (*demo).replayed},
	{"revoked-refused", "a revoked VM is refused", "被吊销的虚拟机遭拒绝", (*demo).revoked},
}

// demoLine is the JSON of one step, and demoSummary of the whole; both are stable.
type demoLine struct {
	Step   string  `json:"step"`
	OK     bool    `json:"ok"`
	MS     float64 `json:"ms"`
	Detail string  `json:"detail"`
}

type demoSummary struct {
	Summary struct {
		OK bool    `json:"ok"`
		MS float64 `json:"ms"`
	} `json:"summary"`
}

// runDemo tells the story; with guest, of a real kernel.
func runDemo(ctx context.Context, a *app, keep string, guest *guestOptions) error {
	var parts *guestParts
	if guest != nil {
		var err error
		if parts, err = findGuest(*guest); err != nil {
			return err
		}
	}
	if keep != "" {
		if err := os.Mkdir(keep, 0o700); errors.Is(err, os.ErrExist) {
			return withHint(fmt.Errorf("%s is there already", keep), "name a directory that is not, or remove it")
		} else if err != nil {
			return fmt.Errorf("making a place for the evidence: %w", err)
		}
		defer os.Remove(keep) // if nothing came of it: it must be empty for that
	}
	begin := time.Now()
	d, err := newDemo(ctx, a, keep)
	if err != nil {
		return err
	}
	defer d.close()
	steps := demoSteps
	if guest != nil {
		g, err := newGuestDemo(d, parts, guest.agent)
		if err != nil {
			return err
		}
		steps = g.steps()
	}
	for i, s := range steps {
		start := time.Now()
		detail, err := s.do(d)
		took := time.Since(start)
		if err != nil {
			detail = err.Error()
		}
		a.demoLine(i, s, demoLine{s.name, err == nil, ms(took), detail})
		if err != nil {
			a.demoSummary(false, time.Since(begin))
			return fmt.Errorf("the step %q did not hold: %w", s.name, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	a.demoSummary(true, time.Since(begin))
	if keep != "" && !a.json {
		fmt.Fprintf(a.err, a.say("evidence: %s (README.txt there says what other tools make of it)\n", "证据：%s（其中 README.txt 说明如何用其他工具检验）\n"), keep)
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (a *app) demoLine(i int, s demoStep, l demoLine) {
	if a.json {
		a.printJSON(l)
		return
	}
	mark := "ok"
	if !l.OK {
		mark = a.say("FAILED", "失败")
	}
	fmt.Fprintf(a.out, a.say("%2d. %s: %s  (%s, %.0f ms)\n      %s\n", "%2d. %s：%s（%s，%.0f 毫秒）\n      %s\n"), i+1, s.name, a.say(s.en, s.zh), mark, l.MS, a.words(l.Detail))
}

func (a *app) demoSummary(ok bool, took time.Duration) {
	var s demoSummary
	s.Summary.OK, s.Summary.MS = ok, ms(took)
	switch {
	case a.json:
		a.printJSON(s)
	case ok:
		fmt.Fprintf(a.out, a.say("All of it held, in %.0f ms.\n", "全部成立，用时 %.0f 毫秒。\n"), s.Summary.MS)
	}
}
