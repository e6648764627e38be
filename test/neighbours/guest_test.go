package neighbours

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDemoGuest leads a real guest through its life and lets other people's tools
// judge what it leaves. Eight boots: two minutes on two quiet cores without KVM.
//
//	vouchsafe: service ── 10.0.2.2, virtio-net ── vouchsafe-agent, cryptsetup
//	           vTPM ───── swtpm's control channel ── OVMF, Linux    (QEMU)
//	           disk.luks ─ virtio-blk ── device-mapper, ext2
func TestDemoGuest(t *testing.T) {
	need(t, "qemu-system-x86", "qemu-system-x86_64")
	need(t, "cryptsetup-bin", "cryptsetup")
	need(t, "busybox-static", "busybox")
	need(t, "tpm2-tools openssl", "tpm2_eventlog", "tpm2_checkquote", "openssl")
	if found, _ := filepath.Glob("/boot/vmlinuz-*-cloud-amd64"); len(found) == 0 {
		absent(t, "no kernel with its modules for the guest", "apt-get install linux-image-cloud-amd64")
	}
	if _, err := os.Stat("/usr/share/OVMF/OVMF_CODE_4M.fd"); err != nil {
		absent(t, "OVMF is not installed", "apt-get install ovmf")
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", named(t, "vouchsafe-agent"), "./cmd/vouchsafe-agent")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the agent: %v\n%s", err, out)
	}
	keep := filepath.Join(t.TempDir(), "evidence")
	cmd := exec.Command(named(t, "vouchsafe"), "demo", "--guest", "--json", "--keep", keep)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), complaint.String())
	}
	t.Logf("%s", out.String())
	details := map[string]string{}
	var names []string
	ended := false
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		var l struct {
			Step, Detail string
			OK           bool
			Summary      *struct{ OK bool }
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if l.Summary != nil {
			ended = l.Summary.OK
			continue
		}
		if !l.OK {
			t.Errorf("%s did not hold: %s", l.Step, l.Detail)
		}
		details[l.Step] = l.Detail
		names = append(names, l.Step)
	}
	const want = "[born boot attest certificate disk-key reboot tamper-refused swap-refused snapshot-refused propose revoked-refused]"
	if got := fmt.Sprint(names); got != want || !ended {
		t.Errorf("steps %s, summary %v; want %s", got, ended, want)
	}
	for step, code := range map[string]string{"tamper-refused": "BOOT_DIFFERS", "swap-refused": "DISK_SWAPPED", "snapshot-refused": "STATE_ROLLED_BACK", "revoked-refused": "VM_REVOKED"} {
		if !strings.Contains(details[step], code) {
			t.Errorf("%s does not name %s: %s", step, code, details[step])
		}
	}

	// Other people's tools on what the guest's own TPM signed and its firmware logged.
	tool := func(name string, args ...string) string {
		t.Helper()
		c := exec.Command(name, args...)
		c.Dir = keep
		b, err := c.CombinedOutput()
		if err != nil {
			t.Errorf("%s %v: %v\n%s", name, args, err, b)
		}
		return string(b)
	}
	nonce, err := os.ReadFile(filepath.Join(keep, "quote.nonce"))
	if err != nil {
		t.Fatal(err)
	}
	tool("tpm2_checkquote", "-u", "ak.pem", "-m", "quote.msg", "-s", "quote.sig", "-g", "sha256", "-q", strings.TrimSpace(string(nonce)), "-f", "pcrs.bin", "-e", "eventlog.bin")
	if log := tool("tpm2_eventlog", "eventlog.bin"); !strings.Contains(log, "EV_EFI_BOOT_SERVICES_APPLICATION") {
		t.Error("tpm2_eventlog sees no kernel in the guest's log")
	}
	tool("openssl", "verify", "-CAfile", "ca.pem", "-untrusted", "vm-chain.pem", "-purpose", "sslclient", "vm.pem")
	tool("cryptsetup", "open", "--test-passphrase", "--key-file", "disk.key", "disk.luks")

	// What a person at the console read.
	for file, says := range map[string]string{
		"console-1-first.txt":    "an operator can approve this boot: vouchsafe policy enroll web1",
		"console-2-again.txt":    "a disk opens once a boot",
		"console-3-tampered.txt": "(BOOT_DIFFERS)",
		"console-5-swapped.txt":  "no disk opens any more until the next boot",
		"console-8-proposed.txt": "/dev/vda is open as /dev/mapper/root",
	} {
		if b, err := os.ReadFile(filepath.Join(keep, file)); err != nil || !strings.Contains(string(b), says) {
			t.Errorf("%s does not say %q: %v\n%s", file, says, err, b)
		}
	}
	// The initramfs of the report is the one that these files make.
	if initrd, err := os.ReadFile(filepath.Join(keep, "initrd")); err != nil || !strings.Contains(details["boot"], fmt.Sprintf("%x", sha256.Sum256(initrd))) {
		t.Errorf("the initramfs that was kept is another one than %s (%v)", details["boot"], err)
	}
}
