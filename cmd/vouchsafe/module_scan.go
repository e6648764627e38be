package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

func newModuleScanCommand(a *app) *cobra.Command {
	var root, mode string
	var certs, dbx []string
	cmd := &cobra.Command{
		Use:   "scan [--root DIR] [--mode MODE] [--cert FILE]... [--dbx FILE]...",
		Short: "Verify every module of every installed kernel",
		Long: `Verify every module of every installed kernel.

A table, one kernel a line, on standard output, and each module that does not
load cleanly below it. With --json one object a module, as verify prints them.
Exit code 0: all load cleanly. 3: not so, or an installed kernel has no modules.`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			j, err := newJudging(a, filepath.Clean(root), nil, certs, dbx, mode)
			if err != nil {
				return err
			}
			return j.scan(cmd, a)
		},
	}
	cmd.Flags().StringVar(&root, "root", "/", "where /boot and /lib/modules are: another system's root, or an unpacked package")
	cmd.Flags().StringVar(&mode, "mode", "", "off, enforce, lockdown or integrity (default: the running kernel's own for its modules, else lockdown)")
	dbxFlag(cmd, &dbx)
	cmd.Flags().StringArrayVar(&certs, "cert", nil, "a certificate to take for enrolled, PEM or DER (repeatable)")
	return cmd
}

// scanLine counts one kernel's modules.
type scanLine struct {
	release                         string
	modules, clean, tainted, refuse int
	image                           bool
}

func (j *judging) scan(cmd *cobra.Command, a *app) error {
	root := j.kernels.root
	releases := installedKernels(root)
	if len(releases) == 0 {
		return withHint(fmt.Errorf("no kernel under %s", root), "%s",
			a.say("a kernel has lib/modules/RELEASE and boot/vmlinuz-RELEASE there; name another place with --root",
				"内核应包含 lib/modules/版本 和 boot/vmlinuz-版本；可用 --root 指定其他位置"))
	}
	report := moduleReport{a: a}
	var lines []scanLine
	var bad []moduleResult
	for _, release := range releases {
		line := scanLine{release: release}
		var files []string
		for _, dir := range []string{"lib/modules", "usr/lib/modules"} {
			path := filepath.Join(root, dir, release)
			if _, err := os.Stat(path); err == nil {
				if files, err = moduleFiles([]string{path}); err != nil {
					return fmt.Errorf("looking for modules: %w", err)
				}
				break
			}
		}
		kernel := j.kernels.find(release, "")
		p := a.newProgress(len(files))
		err := j.judgeAll(cmd.Context(), files, func(r moduleResult) error {
			p.step()
			line.count(r)
			if !r.clean || len(r.Findings) > 0 {
				bad = append(bad, r)
			}
			if a.json {
				return report.add(r, p)
			}
			return nil
		})
		p.clear()
		if err != nil {
			return err
		}
		<-kernel.ready
		line.image = kernel.err == nil
		lines = append(lines, line)
	}
	if !a.json {
		if err := j.printScan(a, lines); err != nil {
			return err
		}
		for _, l := range lines {
			report.total, report.clean = report.total+l.modules, report.clean+l.clean
		}
		for _, r := range bad {
			if _, err := fmt.Fprintln(a.out); err != nil {
				return err
			}
			clean, total := report.clean, report.total
			if err := report.add(r, &progress{}); err != nil {
				return err
			}
			report.clean, report.total = clean, total
		}
	}
	err := report.end()
	if slices.ContainsFunc(lines, func(l scanLine) bool { return l.modules == 0 }) {
		return errFindings
	}
	return err
}

func (l *scanLine) count(r moduleResult) {
	l.modules++
	switch {
	case r.clean:
		l.clean++
	case r.Kernel.Loads && r.Kernel.Taints:
		l.tainted++
	case !r.Kernel.Loads:
		l.refuse++
	}
}

func (j *judging) printScan(a *app, lines []scanLine) error {
	rows := [][]string{strings.Fields(a.say("KERNEL MODE MODULES CLEAN TAINT REFUSED NOTE", "内核 模式 模块 正常 污染 拒绝 说明"))}
	for _, l := range lines {
		var notes []string
		if l.release == j.running && j.kernels.root == "/" {
			notes = append(notes, a.say("running", "正在运行"))
		}
		if !l.image {
			notes = append(notes, a.say("no kernel image", "没有内核映像"))
		}
		if l.modules == 0 {
			notes = append(notes, a.say("no modules", "没有模块"))
		}
		rows = append(rows, []string{l.release, string(j.modeFor(l.release)), strconv.Itoa(l.modules), strconv.Itoa(l.clean), strconv.Itoa(l.tainted), strconv.Itoa(l.refuse), strings.Join(notes, a.say(", ", "，"))})
	}
	return printTable(a.out, rows)
}

// installedKernels lists the releases that have modules or an image under root.
func installedKernels(root string) (out []string) {
	for _, dir := range []string{"lib/modules", "usr/lib/modules"} {
		entries, _ := os.ReadDir(filepath.Join(root, dir))
		for _, e := range entries {
			if e.IsDir() {
				out = append(out, e.Name())
			}
		}
	}
	images, _ := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	for _, p := range images {
		if st, err := os.Stat(p); err == nil && st.Mode().Type()&fs.ModeDir == 0 {
			out = append(out, strings.TrimPrefix(filepath.Base(p), "vmlinuz-"))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
