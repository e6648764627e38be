package measuredboot

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/eventlog"
)

// absent skips the test with the reason, or fails it where all neighbours must be.
func absent(t *testing.T, what, mend string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is absent: %s", what, mend)
	}
	t.Skipf("%s is absent: %s", what, mend)
}

func need(t *testing.T, program, mend string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		absent(t, program, mend)
	}
}

const captures = "../../eventlog/testdata/"

func TestTPM2ToolsAgree(t *testing.T) {
	need(t, "tpm2_eventlog", "apt-get install tpm2-tools")
	files, err := filepath.Glob(captures + "*.bin")
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		out, err := exec.Command("tpm2_eventlog", f).Output()
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		_, text, ok := strings.Cut(string(out), "\npcrs:\n")
		if !ok {
			t.Fatalf("%s: tpm2_eventlog prints no PCRs", f)
		}
		theirs, err := eventlog.ParsePCRs([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		l, err := eventlog.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(out), "- EventNum:"); n != len(l.Events) {
			t.Errorf("%s: %d events, tpm2_eventlog sees %d", f, len(l.Events), n)
		}
		for _, a := range l.Algs {
			b, err := l.Replay(a)
			if err != nil {
				t.Fatal(err)
			}
			for pcr, v := range theirs[a] {
				if !bytes.Equal(v, b.PCR[pcr]) {
					t.Errorf("%s %v PCR %d: %x, tpm2_eventlog says %x", f, a, pcr, b.PCR[pcr], v)
				}
			}
		}
	}
}

// TestPredictionOfRealBoots boots a kernel twice, with another command line and
// more memory the second time. The first boot's log is the golden one; the
// second boot's PCRs must be those predicted before it, but for PCR 0: OVMF
// measures its PEI volume after it ran in place, and what it left there depends on
// the memory size. About 30 s without KVM.
func TestPredictionOfRealBoots(t *testing.T) {
	if testing.Short() {
		t.Skip("boots two guests")
	}
	need(t, "qemu-system-x86_64", "apt-get install qemu-system-x86")
	need(t, "swtpm", "apt-get install swtpm swtpm-tools")
	need(t, "swtpm_setup", "apt-get install swtpm swtpm-tools")
	if _, err := os.Stat(ovmfCode); err != nil {
		absent(t, ovmfCode, "apt-get install ovmf")
	}
	kernel := guestKernel(t)
	dir := t.TempDir()
	initrd := filepath.Join(dir, "initrd")
	if err := os.WriteFile(initrd, guestInitrd(t, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := os.ReadFile(kernel)
	if err != nil {
		t.Fatal(err)
	}
	i, err := os.ReadFile(initrd)
	if err != nil {
		t.Fatal(err)
	}
	first := eventlog.Boot{Kernel: k, Initrd: i, CommandLine: "console=ttyS0 panic=-1", Memory: 512 << 20}
	second := first
	second.CommandLine, second.Memory = first.CommandLine+" quiet", 768<<20

	golden, pcrs := boot(t, dir, kernel, initrd, &first)
	compare(t, "the first boot, without a golden log", alone(t, &first), pcrs, 4, 9)
	m, err := second.Measure(golden.Algs...)
	if err != nil {
		t.Fatal(err)
	}
	predicted, err := m.Predict(golden)
	if err != nil {
		t.Fatal(err)
	}
	_, pcrs = boot(t, dir, kernel, initrd, &second)
	compare(t, "the second boot", predicted, pcrs, 1, 2, 3, 4, 5, 6, 7, 8, 9)
}

func alone(t *testing.T, b *eventlog.Boot) *eventlog.Log {
	t.Helper()
	m, err := b.Measure(eventlog.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	l, err := m.Alone(eventlog.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func compare(t *testing.T, what string, l *eventlog.Log, got map[int][]byte, pcrs ...int) {
	t.Helper()
	b, err := l.Replay(eventlog.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	for _, pcr := range pcrs {
		if !bytes.Equal(b.PCR[pcr], got[pcr]) {
			t.Errorf("%s: PCR %d predicted %x, the TPM had %x", what, pcr, b.PCR[pcr], got[pcr])
		}
	}
}

const (
	ovmfCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// guestKernel is $VOUCHSAFE_GUEST_KERNEL, or a cloud kernel in /boot.
func guestKernel(t *testing.T) string {
	t.Helper()
	if k := os.Getenv("VOUCHSAFE_GUEST_KERNEL"); k != "" {
		return k
	}
	found, _ := filepath.Glob("/boot/vmlinuz-*-cloud-amd64")
	if len(found) == 0 {
		absent(t, "a guest kernel", "apt-get install linux-image-cloud-amd64, or set VOUCHSAFE_GUEST_KERNEL to a vmlinuz")
	}
	return found[len(found)-1]
}

// guestInitrd builds guest/ and packs it as /init with /dev/console (cpio "newc").
func guestInitrd(t *testing.T, dir string) []byte {
	t.Helper()
	bin := filepath.Join(dir, "init")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, "./guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the guest: %v\n%s", err, out)
	}
	init, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	ino := 0
	add := func(name string, mode uint32, major, minor int, data []byte) {
		ino++
		fmt.Fprintf(&b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", ino, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0)
		b.WriteString(name + "\x00")
		b.Write(make([]byte, (4-b.Len()%4)%4))
		b.Write(data)
		b.Write(make([]byte, (4-b.Len()%4)%4))
	}
	for _, d := range []string{"dev", "proc", "sys"} {
		add(d, 0o040755, 0, 0, nil)
	}
	add("dev/console", 0o020600, 5, 1, nil)
	add("init", 0o100755, 0, 0, init)
	add("TRAILER!!!", 0, 0, 0, nil)
	return b.Bytes()
}

// boot runs the guest once with a new TPM and new firmware variables.
func boot(t *testing.T, dir, kernel, initrd string, b *eventlog.Boot) (*eventlog.Log, map[int][]byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	run, err := os.MkdirTemp(dir, "boot")
	if err != nil {
		t.Fatal(err)
	}
	state, sock, vars := filepath.Join(run, "tpm"), filepath.Join(run, "sock"), filepath.Join(run, "vars.fd")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(ctx, "swtpm_setup", "--tpm2", "--tpmstate", state, "--pcr-banks", "sha256").CombinedOutput(); err != nil {
		t.Fatalf("swtpm_setup: %v\n%s", err, out)
	}
	tpm := exec.CommandContext(ctx, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+state, "--ctrl", "type=unixio,path="+sock, "--terminate")
	if err := tpm.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tpm.Process.Kill(); _ = tpm.Wait() }()
	for range 100 {
		if _, err := os.Stat(sock); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	template, err := os.ReadFile(ovmfVars)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vars, template, 0o600); err != nil {
		t.Fatal(err)
	}
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "q35,accel=tcg", "-cpu", "max", "-smp", "1",
		"-m", strconv.FormatUint(b.Memory>>20, 10), "-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio",
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+ovmfCode, "-drive", "if=pflash,unit=1,format=raw,file="+vars,
		"-kernel", kernel, "-initrd", initrd, "-append", b.CommandLine,
		"-chardev", "socket,id=chrtpm,path="+sock, "-tpmdev", "emulator,id=tpm0,chardev=chrtpm", "-device", "tpm-crb,tpmdev=tpm0")
	console, err := qemu.CombinedOutput()
	if err != nil {
		t.Fatalf("QEMU: %v\n%s", err, console)
	}
	var text strings.Builder
	pcrs := map[int][]byte{}
	done := false
	for _, line := range strings.Split(string(console), "\n") {
		_, line, ok := strings.Cut(strings.TrimSpace(line), "GUEST ")
		w := strings.Fields(line)
		switch {
		case !ok || len(w) == 0:
		case w[0] == "log" && len(w) == 2:
			text.WriteString(w[1])
		case w[0] == "pcr" && len(w) == 3:
			n, err := strconv.Atoi(w[1])
			v, err2 := hex.DecodeString(w[2])
			if err != nil || err2 != nil {
				t.Fatal(line)
			}
			pcrs[n] = v
		case w[0] == "done":
			done = true
		default:
			t.Errorf("the guest says: %s", line)
		}
	}
	raw, err := base64.StdEncoding.DecodeString(text.String())
	if err != nil || !done {
		t.Fatalf("the guest did not finish: %v\n%s", err, console)
	}
	l, err := eventlog.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "the log itself", l, pcrs, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	return l, pcrs
}
