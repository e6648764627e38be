package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// guestOptions are the flags of demo --guest; empty: found in the usual places.
type guestOptions struct {
	kernel, modules, ovmf, agent string
}

// guestParts are what a guest is made of: files of this machine.
type guestParts struct {
	qemu                string
	firmware, variables string // OVMF's code, and its empty variable store
	kernel, modules     string
	version             string // of the kernel
	busybox, cryptsetup string
	kvm                 bool
}

// findGuest finds the parts, or says which are missing and how to get them all.
func findGuest(o guestOptions) (*guestParts, error) {
	if runtime.GOARCH != "amd64" {
		return nil, fmt.Errorf("the guest is made of this machine's programs and needs amd64, which this machine (%s) is not", runtime.GOARCH)
	}
	p := &guestParts{kvm: haveKVM()}
	var missing, packages []string
	lack := func(what, pkg string) {
		missing, packages = append(missing, what), append(packages, pkg)
	}
	for _, x := range []struct {
		to        *string
		name, pkg string
		places    []string
	}{
		{&p.qemu, "qemu-system-x86_64", "qemu-system-x86", nil},
		{&p.busybox, "busybox", "busybox-static", []string{"/usr/bin/busybox", "/bin/busybox"}},
		{&p.cryptsetup, "cryptsetup", "cryptsetup-bin", []string{"/sbin/cryptsetup", "/usr/sbin/cryptsetup"}},
	} {
		if *x.to = findProgram(x.name, x.places...); *x.to == "" {
			lack(x.name, x.pkg)
		}
	}
	if p.busybox != "" && !static(p.busybox) {
		lack("busybox that needs no libraries", "busybox-static")
	}
	p.firmware = cmp.Or(o.ovmf, "/usr/share/OVMF/OVMF_CODE_4M.fd")
	p.variables = strings.Replace(p.firmware, "OVMF_CODE", "OVMF_VARS", 1)
	if !there(p.firmware) || !there(p.variables) || p.firmware == p.variables {
		lack(fmt.Sprintf("OVMF (%s with its OVMF_VARS)", p.firmware), "ovmf")
	}
	p.kernel, p.modules, p.version = findKernel(o)
	if p.kernel == "" {
		lack("a kernel with its modules", "linux-image-cloud-amd64")
	}
	if len(missing) > 0 {
		return nil, withHint(fmt.Errorf("a guest cannot be made, for this machine lacks: %s", strings.Join(missing, ", ")),
			"apt-get install --no-install-recommends %s", strings.Join(packages, " "))
	}
	return p, nil
}

func there(path string) bool { _, err := os.Stat(path); return err == nil }

func findProgram(name string, places ...string) string {
	for _, p := range places {
		if there(p) {
			return p
		}
	}
	p, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return p
}

// static says whether a program needs no dynamic loader.
func static(file string) bool {
	t := tree{}
	return t.addProgram(file) == nil && len(t) == 1
}

// findKernel takes the newest cloud kernel whose modules are there. A package that was
// only unpacked (dpkg -x) is found by its kernel: DIR/boot/vmlinuz-V, DIR/lib/modules/V.
func findKernel(o guestOptions) (kernel, modules, version string) {
	kernels := []string{o.kernel}
	if o.kernel == "" {
		kernels, _ = filepath.Glob("/boot/vmlinuz-*-cloud-amd64")
		slices.Sort(kernels)
		slices.Reverse(kernels)
	}
	for _, k := range kernels {
		_, v, _ := strings.Cut(filepath.Base(k), "vmlinuz-")
		m := cmp.Or(o.modules, filepath.Join(filepath.Dir(filepath.Dir(k)), "lib/modules", v))
		if there(k) && there(filepath.Join(m, "modules.builtin")) {
			return k, m, filepath.Base(m)
		}
	}
	return "", "", ""
}

// findAgent finds vouchsafe-agent: beside this program, in PATH, or built from the
// source tree in which this runs.
func findAgent(ctx context.Context, given, dir string) (string, error) {
	if given != "" {
		if !static(given) {
			return "", withHint(fmt.Errorf("%s is no static program", given), "CGO_ENABLED=0 go build ./cmd/vouchsafe-agent")
		}
		return given, nil
	}
	if self, err := os.Executable(); err == nil {
		if a := filepath.Join(filepath.Dir(self), "vouchsafe-agent"); there(a) && static(a) {
			return a, nil
		}
	}
	if a := findProgram("vouchsafe-agent"); a != "" && static(a) {
		return a, nil
	}
	const source = "github.com/vouchsafe/vouchsafe/cmd/vouchsafe-agent"
	if _, err := exec.LookPath("go"); err == nil {
		out := filepath.Join(dir, "vouchsafe-agent")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
		if text, err := build.CombinedOutput(); err == nil {
			return out, nil
		} else if !strings.Contains(string(text), "no required module provides") && !strings.Contains(string(text), "go.mod file not found") {
			return "", fmt.Errorf("building the agent: %w\n%s", err, text)
		}
	}
	return "", withHint(errors.New("there is no static vouchsafe-agent beside this program or in PATH"), "--agent FILE, or in the source tree: CGO_ENABLED=0 go build ./cmd/vouchsafe-agent")
}

// haveKVM asks for real hardware as well: a /dev/kvm that opens may still be one that
// cannot run a stock kernel (nested without vmx or svm).
func haveKVM() bool {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return false
	}
	words := strings.Fields(string(info))
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	f.Close()
	return slices.Contains(words, "vmx") || slices.Contains(words, "svm")
}
