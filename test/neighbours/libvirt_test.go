package neighbours

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestLibvirt lets Debian's libvirt start an unchanged domain with an emulated
// TPM; it finds swtpm, swtpm_setup and swtpm_ioctl in PATH, and they are ours.
// virt-qemu-run is libvirt without its daemon (its --secret crashes in Debian 12,
// so sealed state has TestLibvirtSealed).
func TestLibvirt(t *testing.T) {
	need(t, "libvirt-daemon libvirt-daemon-driver-qemu qemu-system-x86", "virt-qemu-run", "qemu-system-x86_64")
	needRoot(t)
	for _, tc := range []struct {
		name, tpm string
		banks     []string
		log       []string // what must have happened
	}{
		{"TIS", `<tpm model='tpm-tis'><backend type='emulator' version='2.0'/></tpm>`, []string{"sha256"}, []string{"the vTPM is set up", "power on", "power off"}},
		{"CRB, two banks", `<tpm model='tpm-crb'><backend type='emulator' version='2.0'><active_pcr_banks><sha256/><sha384/></active_pcr_banks></backend></tpm>`,
			[]string{"sha256", "sha384"}, []string{"the vTPM is set up", "power on"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := shortDir(t)
			said, out, runErr := runDomain(t, root, tc.tpm)
			log, _ := os.ReadFile(filepath.Join(root, "log", "swtpm", "web1-swtpm.log"))
			defer func() {
				if t.Failed() {
					t.Logf("virt-qemu-run: %v\n%s\nswtpm's log:\n%s", runErr, out, log)
				}
			}()
			if !bytes.Contains(said, []byte("RANDOM /dev/tpm0 80010000001c00000000")) {
				t.Error("/dev/tpm0 did not answer in the guest")
			}
			for _, bank := range []string{"sha1", "sha256", "sha384", "sha512"} {
				want := strings.Contains(strings.Join(tc.banks, " "), bank)
				if got := bytes.Contains(said, []byte("PCR "+bank+" 0 ")); got != want {
					t.Errorf("bank %s is active: %v, want %v", bank, got, want)
				}
			}
			for _, line := range tc.log {
				if !bytes.Contains(log, []byte(line)) {
					t.Errorf("the log lacks %q", line)
				}
			}
		})
	}
}

// runDomain has libvirt, with its files below root, start a domain with that TPM,
// and waits until the guest is done. It returns the console.
func runDomain(t *testing.T, root, tpm string) (said, out []byte, err error) {
	t.Helper()
	dir, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return runDomainBy(t, dir+":"+os.Getenv("PATH"), root, tpm)
}

// runDomainBy is runDomain with swtpm and its tools from that PATH.
func runDomainBy(t *testing.T, path, root, tpm string) (said, out []byte, err error) {
	t.Helper()
	work := t.TempDir()
	write := func(path, text string) string {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write(filepath.Join(root, "etc", "qemu.conf"), qemuConf)
	console := filepath.Join(work, "console")
	domain := write(filepath.Join(work, "domain.xml"), fmt.Sprintf(domainXML, kernel(t), initrd(t), console, tpm))
	args := []string{"-r", root}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "virt-qemu-run", append(args, domain)...)
	cmd.Env = append(os.Environ(), "PATH="+path, "VOUCHSAFE_LOCAL_CA="+filepath.Join(work, "ca"))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	// It does not always notice that the guest has gone.
	go func() {
		for ctx.Err() == nil {
			if said, _ := os.ReadFile(console); bytes.Contains(said, []byte("DONE ok")) {
				time.Sleep(2 * time.Second)
				cancel()
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	out, err = cmd.CombinedOutput()
	said, _ = os.ReadFile(console)
	return said, out, err
}

// TestLibvirtLeased: a domain whose TPM is one that `up` carries, under a lease.
func TestLibvirtLeased(t *testing.T) {
	need(t, "libvirt-daemon libvirt-daemon-driver-qemu qemu-system-x86", "virt-qemu-run", "qemu-system-x86_64")
	needRoot(t)
	dir, err := program()
	if err != nil {
		t.Fatal(err)
	}
	state := shortDir(t)
	vouchsafe := filepath.Join(dir, "vouchsafe")
	up := exec.Command(vouchsafe, "up", "--state", filepath.Join(state, "s"), "--listen", "127.0.0.1:0", "--accept-unattested-host")
	var log lockedBuffer
	up.Stderr = &log
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		up.Process.Signal(os.Interrupt)
		up.Wait()
		if t.Failed() {
			t.Logf("up:\n%s", log.String())
		}
	}()
	wait := func(what string, ok func() bool) {
		t.Helper()
		for range 200 {
			if ok() {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Fatalf("not within 20 s: %s", what)
	}
	there := func(name string) func() bool {
		return func() bool { _, err := os.Stat(filepath.Join(state, "s", name)); return err == nil }
	}
	wait("up listens", there("operator/url"))
	if out, err := exec.Command(vouchsafe, "vm", "create", "web1", "--state", filepath.Join(state, "s")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	wait("web1 is carried", there("sockets/web1.sock"))
	for boot := range 2 {
		said, out, err := runDomain(t, shortDir(t), fmt.Sprintf(`<tpm model='tpm-crb'><backend type='external'><source type='unix' mode='connect' path='%s'/></backend></tpm>`,
			filepath.Join(state, "s", "sockets", "web1.sock")))
		if !bytes.Contains(said, []byte("RANDOM /dev/tpm0 80010000001c00000000")) {
			t.Errorf("boot %d: /dev/tpm0 did not answer in the guest: %v\n%s", boot, err, out)
		}
		wait("the lease is given back", func() bool { return strings.Count(log.String(), "vTPM stopped") == boot+1 })
	}
}

const qemuConf = `stdio_handler = "file"
user = "root"
group = "root"
dynamic_ownership = 0
security_driver = "none"
cgroup_controllers = []
namespaces = []
swtpm_user = "root"
swtpm_group = "root"
`

const domainXML = `<domain type='qemu'>
  <name>web1</name>
  <uuid>6e8a1f3c-58d0-4d0b-9a53-6b2c83a30101</uuid>
  <memory unit='MiB'>256</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>%s</kernel><initrd>%s</initrd><cmdline>console=ttyS0 panic=-1</cmdline>
  </os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <serial type='file'><source path='%s'/><target port='0'/></serial>
    %s
    <memballoon model='none'/>
  </devices>
</domain>
`

// TestLibvirtSealed repeats the command lines that libvirt 9.0 uses for a TPM
// with an <encryption> element, with the passphrase on inherited descriptors.
func TestLibvirtSealed(t *testing.T) {
	dir, work := shortDir(t), t.TempDir()
	state, sock, pid := filepath.Join(dir, "tpm2"), filepath.Join(dir, "web1-swtpm.sock"), filepath.Join(dir, "web1-swtpm.pid")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	passphrase := filepath.Join(work, "passphrase")
	if err := os.WriteFile(passphrase, []byte("a long passphrase"), 0o600); err != nil {
		t.Fatal(err)
	}
	// withSecret runs a command whose descriptors 3 and 4 give the passphrase.
	withSecret := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(named(t, name), args...)
		for range 2 {
			f, err := os.Open(passphrase)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		}
		cmd.Env = append(os.Environ(), "VOUCHSAFE_LOCAL_CA="+filepath.Join(work, "ca"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	for range 2 { // the second time is a restart of the domain
		withSecret("swtpm_setup", "--tpm2", "--tpm-state", state, "--vmid", "web1:6e8a1f3c-58d0-4d0b-9a53-6b2c83a30101",
			"--pwdfile-fd", "3", "--cipher", "aes-256-cbc", "--logfile", filepath.Join(dir, "log"),
			"--createek", "--create-ek-cert", "--create-platform-cert", "--lock-nvram", "--not-overwrite")
	}
	withSecret("swtpm_setup", "--tpm2", "--tpm-state", state, "--pwdfile-fd", "3", "--cipher", "aes-256-cbc",
		"--logfile", filepath.Join(dir, "log"), "--pcr-banks", "sha1,sha384", "--reconfigure")
	withSecret("swtpm", "socket", "--ctrl", "type=unixio,path="+sock+",mode=0600", "--tpmstate", "dir="+state+",mode=0600",
		"--log", "file="+filepath.Join(dir, "log"), "--terminate", "--tpm2", "--key", "pwdfd=3,mode=aes-256-cbc",
		"--migration-key", "pwdfd=4,mode=aes-256-cbc", "--daemon", "--pid", "file="+pid)
	t.Cleanup(func() { run(t, nil, named(t, "swtpm_ioctl"), "--unix", sock, "-s") })
	if number, err := os.ReadFile(pid); err != nil || len(number) == 0 {
		t.Fatalf("the process id: %q, %v", number, err)
	}
	m := startGuest(t, &vtpm{control: sock, log: &lockedBuffer{}}, boot{tpm: "crb"})
	m.waitFor(t, "DONE")
	for bank, want := range map[string]int{"sha1": 1, "sha256": 0, "sha384": 1} {
		if got := len(m.find("PCR " + bank + " 0 ")); got != want {
			t.Errorf("bank %s: %d, want %d", bank, got, want)
		}
	}
	<-m.done
	content, err := os.ReadFile(filepath.Join(state, "vtpm.state"))
	if err != nil || content[11] != 2 {
		t.Errorf("the state is not sealed with the passphrase: %v", err)
	}
	for range 100 { // --terminate: it goes with QEMU
		if _, err := os.Stat(pid); err != nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("the vTPM goes on after QEMU has ended")
}
