package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/eventlog"
)

func newEventlogPredictCommand(a *app) *cobra.Command {
	var kernel, initrd, cmdline, memory, machine, out string
	var banks []string
	var untouched bool
	cmd := &cobra.Command{
		Use:   "predict --kernel FILE [--initrd FILE] --cmdline TEXT --memory SIZE [GOLDEN]",
		Short: "Compute the PCR values of a boot before it happens",
		Long: `Compute the PCR values of a boot before it happens: QEMU with OVMF, -kernel,
-initrd and -append.

With GOLDEN, the log of a boot of the same VM, all its PCRs are computed, for a
boot that differs in nothing but kernel, initrd and command line: with another
machine type or memory size OVMF's PCR 0 is another one, which nobody can compute.
Without GOLDEN only PCR 4 and 9 are, which do not depend on the firmware's build.

The command line is measured as SHA-256 of UTF-16LE with a NUL, and OVMF appends
" initrd=initrd" to it when there is an initrd: give it as you give it to -append.
--memory is QEMU's -m: QEMU writes the initrd's address into the kernel's header,
which is measured, so PCR 4 depends on it and on the initrd's size.`,
		Example: `  vouchsafe eventlog predict --kernel vmlinuz --initrd initrd.img --cmdline "console=ttyS0 root=/dev/vda" --memory 2G golden.bin
  vouchsafe eventlog predict --kernel vmlinuz --cmdline "console=ttyS0" --memory 512M --json`,
		Args: rangeArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if kernel == "" || !cmd.Flags().Changed("cmdline") {
				return usageError{fmt.Errorf("--kernel and --cmdline are needed (--cmdline \"\" for an empty one)")}
			}
			b := eventlog.Boot{CommandLine: cmdline, Machine: machine, Untouched: untouched}
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
				if b.Initrd == nil {
					b.Initrd = []byte{}
				}
			}
			l, err := a.predict(&b, args, banks)
			if err != nil {
				return err
			}
			if out != "" {
				if err := os.WriteFile(out, l.Encode(), 0o644); err != nil {
					return fmt.Errorf("writing the predicted log: %w", err)
				}
			}
			for _, bank := range l.Algs {
				p, err := l.Replay(bank)
				if err == nil {
					err = a.printBank(p, false)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&kernel, "kernel", "", "the kernel image, as for QEMU's -kernel")
	f.StringVar(&initrd, "initrd", "", "the initrd, as for -initrd")
	f.StringVar(&cmdline, "cmdline", "", "the command line, as for -append")
	f.StringVar(&memory, "memory", "", "the guest's memory, as for -m: 512M, 2G")
	f.StringVar(&machine, "machine", "q35", "q35 or pc")
	f.BoolVar(&untouched, "untouched", false, "the loader leaves the kernel's header alone (QEMU with SEV kernel-hashes)")
	f.StringArrayVar(&banks, "bank", nil, "without GOLDEN: compute this bank (repeatable; default sha256)")
	f.StringVar(&out, "out", "", "write the predicted log to this file")
	return cmd
}

// predict makes the log of the boot, from a golden one if there is one.
func (a *app) predict(b *eventlog.Boot, golden, names []string) (*eventlog.Log, error) {
	var l *eventlog.Log
	banks := []eventlog.Alg{eventlog.SHA256}
	if len(golden) == 1 {
		if len(names) > 0 {
			return nil, usageError{fmt.Errorf("--bank has no use with a golden log: its banks are computed")}
		}
		var err error
		if l, err = a.readEventLog(golden[0]); err != nil {
			return nil, err
		}
		banks = l.Algs
	} else if len(names) > 0 {
		banks = nil
		for _, n := range names {
			x, err := eventlog.ParseAlg(n)
			if err != nil {
				return nil, usageError{err}
			}
			banks = append(banks, x)
		}
	}
	m, err := b.Measure(banks...)
	if err != nil {
		hint := a.say("a direct boot of a Linux kernel can be predicted; for any other boot enrol a golden one", "只能预测直接启动的 Linux 内核；其他启动方式请登记一次基准启动")
		if b.Memory == 0 && b.Initrd != nil && !b.Untouched {
			hint = "--memory 512M"
		}
		return nil, withHint(err, "%s", hint)
	}
	if l == nil {
		return m.Alone(banks...)
	}
	p, err := m.Predict(l)
	return p, withHint(err, "%s", a.say("the golden log must be of a direct boot (-kernel) under OVMF", "基准日志须来自 OVMF 下的直接启动（-kernel）"))
}

// parseMemory reads a size as QEMU's -m does: MiB without a unit.
func parseMemory(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	unit, digits := uint64(1<<20), s
	switch s[len(s)-1] {
	case 'M', 'm':
		digits = s[:len(s)-1]
	case 'G', 'g':
		unit, digits = 1<<30, s[:len(s)-1]
	}
	n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("--memory %q: want a size such as 512M or 2G", s)
	}
	return n * unit, nil
}
