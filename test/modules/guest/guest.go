// Package guest boots a real kernel in QEMU, asks it to load modules and
// returns its answers. It is for the test in test/modules only. Begin with [Run].
//
//	variants -> initramfs (cpio) -> QEMU (TCG) -> guestinit -> console -> Answer
//	                          \-> with Secure Boot: a FAT disk with shim, GRUB
//	                              and the kernel, OVMF, our keys in MokList
package guest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// File is one module to try.
type File struct {
	Name string
	Data []byte
}

// Answer is the kernel's, for one file.
type Answer struct {
	File  string
	Errno string
	Taint string
	Log   []string
}

// Facts are what the guest says about its kernel.
type Facts map[string]string

// Machine is how to boot.
type Machine struct {
	Kernel  string // vmlinuz
	Append  string // kernel command line, added
	Limit   time.Duration
	SecBoot *SecureBoot
}

// SecureBoot boots through OVMF with Microsoft's keys, shim and GRUB.
type SecureBoot struct {
	Shim, GRUB string   // signed binaries
	MOK        [][]byte // certificates in DER to enrol
	DBX, MOKX  []byte   // the firmware's and shim's lists of what is forbidden, made of [Entry]; empty: as they are
}

// Run boots once and tries every file. dir is for temporary files.
func Run(ctx context.Context, dir string, m Machine, files []File) ([]Answer, Facts, error) {
	initrd, err := initramfs(ctx, dir, files)
	if err != nil {
		return nil, nil, err
	}
	ctx, stop := context.WithTimeout(ctx, m.Limit)
	defer stop()
	// No KVM: nested and paravirtual KVMs open /dev/kvm and then hang.
	args := []string{"-name", "modules", "-m", "512", "-smp", "1", "-cpu", "max", "-display", "none", "-nodefaults", "-no-reboot",
		"-serial", "stdio"}
	// On a busy machine an emulated timer comes too late for the kernel's check of it.
	line := "quiet console=ttyS0 panic=-1 no_timer_check " + m.Append
	if m.SecBoot == nil {
		args = append(args, "-M", "q35,accel=tcg", "-kernel", m.Kernel, "-initrd", initrd, "-append", line)
	} else {
		more, err := m.SecBoot.prepare(ctx, dir, m.Kernel, initrd, line)
		if err != nil {
			return nil, nil, err
		}
		args = append(args, more...)
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	console, err := cmd.CombinedOutput()
	answers, facts, done := parse(console)
	if !done {
		return nil, nil, fmt.Errorf("the guest did not finish (%v, %v); its console ends with:\n%s", err, ctx.Err(), console[max(0, len(console)-2000):])
	}
	return answers, facts, nil
}

func parse(console []byte) (answers []Answer, facts Facts, done bool) {
	s := bufio.NewScanner(bytes.NewReader(console))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		line := strings.TrimRight(s.Text(), "\r")
		if _, j, ok := strings.Cut(line, "VERDICT "); ok {
			var a Answer
			if json.Unmarshal([]byte(j), &a) == nil {
				answers = append(answers, a)
			}
		} else if _, j, ok := strings.Cut(line, "FACT "); ok {
			_ = json.Unmarshal([]byte(j), &facts)
		}
		done = done || strings.HasSuffix(line, "DONE")
	}
	return answers, facts, done
}

// initramfs builds guestinit and packs it with the files.
func initramfs(ctx context.Context, dir string, files []File) (string, error) {
	bin := filepath.Join(dir, "guestinit")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, "github.com/vouchsafe/vouchsafe/test/modules/guestinit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building guestinit: %v\n%s", err, out)
	}
	init, err := os.ReadFile(bin)
	if err != nil {
		return "", err
	}
	in := make([]File, 0, len(files))
	for _, f := range files {
		in = append(in, File{"modules/" + f.Name, f.Data})
	}
	out := filepath.Join(dir, "initrd")
	return out, os.WriteFile(out, Archive(init, in), 0o600)
}

// Archive packs init and files, with their directories and /dev/console, as an initramfs (cpio "newc").
func Archive(init []byte, files []File) []byte {
	var b bytes.Buffer
	ino := 1
	entry := func(name string, mode int, data []byte) {
		// newc: thirteen fields of eight hex digits behind the magic; name and data on multiples of four.
		major, minor := 0, 0
		if name == "dev/console" {
			major, minor = 5, 1
		}
		fmt.Fprintf(&b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", ino, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0)
		b.WriteString(name)
		b.WriteByte(0)
		pad(&b)
		b.Write(data)
		pad(&b)
		ino++
	}
	made := map[string]bool{".": true}
	var directory func(name string)
	directory = func(name string) {
		if !made[name] {
			directory(path.Dir(name))
			made[name] = true
			entry(name, 0o40755, nil)
		}
	}
	directory("dev")
	directory("modules")
	entry("dev/console", 0o20600, nil)
	entry("init", 0o100755, init)
	for _, f := range files {
		directory(path.Dir(f.Name))
		entry(f.Name, 0o100755, f.Data)
	}
	entry("TRAILER!!!", 0, nil)
	return b.Bytes()
}

func pad(b *bytes.Buffer) {
	for b.Len()%4 != 0 {
		b.WriteByte(0)
	}
}
