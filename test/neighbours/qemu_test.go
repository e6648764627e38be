package neighbours

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// machine is a running QEMU with a vTPM.
type machine struct {
	cmd   *exec.Cmd
	in    io.Writer // the guest's console
	qmp   *qmp
	mu    sync.Mutex
	lines []string
	done  chan struct{} // closed when QEMU has ended
	live  bool          // its memory came from another QEMU while its guest ran
}

// boot says how a guest is started. Everything runs under TCG: a machine may
// have a /dev/kvm that cannot run a stock kernel.
type boot struct {
	tpm      string // tis or crb
	ovmf     bool
	append   string // kernel command line
	incoming string
	disk     string // qcow2 image for savevm
	esp      string // image of an EFI system partition to boot from under Secure Boot, in place of the kernel
}

const commandLine = "console=ttyS0 panic=-1 "

// startGuest boots Debian's cloud kernel with guest/main.go as its /init.
func startGuest(t *testing.T, v *vtpm, b boot) *machine {
	t.Helper()
	need(t, "qemu-system-x86", "qemu-system-x86_64")
	work := shortDir(t)
	sock := filepath.Join(work, "qmp")
	args := []string{
		"-machine", "q35,accel=tcg,smm=on", "-cpu", "max", "-m", memory(b), "-smp", "1", "-display", "none", "-nodefaults", "-no-user-config",
		"-serial", "stdio", "-device", "virtio-rng-pci", "-qmp", "unix:" + sock + ",server=on,wait=off",
		"-chardev", "socket,id=chrtpm,path=" + v.control, "-tpmdev", "emulator,id=tpm0,chardev=chrtpm", "-device", "tpm-" + b.tpm + ",tpmdev=tpm0",
	}
	code, vars := "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
	if b.esp == "" {
		args = append(args, "-kernel", kernel(t), "-initrd", initrd(t), "-append", commandLine+b.append)
	} else { // Microsoft's keys are enrolled, and the firmware's variables are out of the guest's reach
		code, vars = "/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"
		args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1",
			"-drive", "if=none,id=esp,format=raw,file="+b.esp, "-device", "virtio-blk-pci,drive=esp,bootindex=1")
	}
	if b.ovmf || b.esp != "" {
		content, err := os.ReadFile(vars)
		if err != nil {
			absent(t, "OVMF is not installed", "apt-get install ovmf")
		}
		own := filepath.Join(work, "vars.fd")
		if err := os.WriteFile(own, content, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+code, "-drive", "if=pflash,unit=1,format=raw,file="+own)
	}
	if b.incoming != "" {
		args = append(args, "-incoming", b.incoming)
	}
	if b.disk != "" {
		args = append(args, "-drive", "if=none,id=d0,format=qcow2,file="+b.disk, "-device", "virtio-blk-pci,drive=d0")
	}
	m := &machine{cmd: exec.Command("qemu-system-x86_64", args...), done: make(chan struct{})}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.cmd.Stderr = m.cmd.Stdout
	if m.in, err = m.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			m.mu.Lock()
			m.lines = append(m.lines, strings.TrimRight(lines.Text(), "\r"))
			m.mu.Unlock()
		}
		m.cmd.Wait()
		close(m.done)
	}()
	t.Cleanup(func() {
		m.cmd.Process.Kill()
		<-m.done
		if t.Failed() {
			lines := slices.DeleteFunc(m.all(), func(l string) bool { return strings.HasPrefix(l, "LOG ") || strings.HasPrefix(l, "PCR ") })
			t.Logf("the guest's console ends with:\n%s", strings.Join(lines[max(0, len(lines)-40):], "\n"))
		}
	})
	m.qmp = dialQMP(t, sock)
	return m
}

// memory is in MiB: GRUB wants more than a kernel that is handed over.
func memory(b boot) string {
	if b.esp != "" {
		return "512"
	}
	return "256"
}

func (m *machine) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.lines)
}

// limit is for one boot on a loaded machine; OVMF under TCG takes 16 s on a quiet one.
const limit = 4 * time.Minute

// waitFor waits for a console line that starts with prefix and returns it.
func (m *machine) waitFor(t *testing.T, prefix string) string {
	t.Helper()
	deadline := time.Now().Add(limit)
	for time.Now().Before(deadline) {
		m.skipIfCrashed(t)
		if found := m.find(prefix); len(found) > 0 {
			return found[0]
		}
		select {
		case <-m.done:
			if found := m.find(prefix); len(found) > 0 {
				return found[0]
			}
			t.Fatalf("QEMU ended before the guest said %q", prefix)
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Fatalf("the guest did not say %q within %v", prefix, limit)
	return ""
}

func (m *machine) find(prefix string) (found []string) {
	for _, l := range m.all() {
		if strings.HasPrefix(l, prefix) {
			found = append(found, l)
		}
	}
	return found
}

// kernel finds Debian's cloud kernel, or fetches it without installing it.
var kernelOnce = sync.OnceValues(func() (string, error) {
	if k := os.Getenv("GUEST_KERNEL"); k != "" {
		return k, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "vouchsafe-test-kernel")
	for _, pattern := range []string{"/boot/vmlinuz-*-cloud-amd64", dir + "/boot/vmlinuz-*-cloud-amd64"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	fetch := `set -e; cd "$0"; p=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/{print $2; exit}')
apt-get -q download "$p"; dpkg-deb -x linux-image-*.deb .; rm -rf linux-image-*.deb lib usr`
	if out, err := exec.Command("sh", "-c", fetch, dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %s", err, out)
	}
	found, _ := filepath.Glob(dir + "/boot/vmlinuz-*-cloud-amd64")
	if len(found) == 0 {
		return "", fmt.Errorf("no kernel in %s", dir)
	}
	return found[0], nil
})

func kernel(t *testing.T) string {
	t.Helper()
	k, err := kernelOnce()
	if err != nil {
		absent(t, "no kernel for the guest: "+err.Error(), "apt-get update && apt-get install linux-image-cloud-amd64 (or set GUEST_KERNEL)")
	}
	return k
}

var initrdOnce = sync.OnceValues(func() (string, error) {
	dir, err := program()
	if err != nil {
		return "", err
	}
	init := filepath.Join(dir, "init")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", init, "./guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the guest: %v\n%s", err, out)
	}
	content, err := os.ReadFile(init)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "initrd")
	return path, os.WriteFile(path, newc(map[string][]byte{"init": content}), 0o644)
})

func initrd(t *testing.T) string {
	t.Helper()
	path, err := initrdOnce()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// newc is a cpio archive as the kernel unpacks it (Documentation/driver-api/
// early-userspace/buffer-format.rst): /dev/console, and executable files.
func newc(files map[string][]byte) []byte {
	var b bytes.Buffer
	inode := 0
	entry := func(name string, mode, rmajor, rminor int, content []byte) {
		inode++
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", inode, mode, 0, 0, 1, 0, len(content), 0, 0, rmajor, rminor, len(name)+1, 0)
		b.WriteString(name + "\x00")
		b.Write(make([]byte, -b.Len()&3))
		b.Write(content)
		b.Write(make([]byte, -b.Len()&3))
	}
	entry("dev", 0o040755, 0, 0, nil)
	entry("dev/console", 0o020600, 5, 1, nil)
	for name, content := range files {
		entry(name, 0o100755, 0, 0, content)
	}
	entry("TRAILER!!!", 0, 0, 0, nil)
	return b.Bytes()
}

// qmp is QEMU's machine protocol.
type qmp struct {
	conn net.Conn
	dec  *json.Decoder
}

func dialQMP(t *testing.T, path string) *qmp {
	t.Helper()
	for range 500 {
		c, err := net.Dial("unix", path)
		if err == nil {
			t.Cleanup(func() { c.Close() })
			q := &qmp{c, json.NewDecoder(c)}
			var greeting map[string]any
			if err := q.dec.Decode(&greeting); err != nil {
				t.Fatal(err)
			}
			q.do(t, "qmp_capabilities", nil)
			return q
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("QEMU does not answer on its control socket")
	return nil
}

// do executes one command and returns what it returned.
func (q *qmp) do(t *testing.T, command string, arguments map[string]any) any {
	t.Helper()
	r, err := q.try(command, arguments)
	if err != nil {
		t.Fatalf("QMP %s: %v", command, err)
	}
	return r
}

func (q *qmp) try(command string, arguments map[string]any) (any, error) {
	q.conn.SetDeadline(time.Now().Add(limit))
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(q.conn).Encode(request); err != nil {
		return nil, err
	}
	for {
		var answer map[string]any
		if err := q.dec.Decode(&answer); err != nil {
			return nil, err
		}
		if e, ok := answer["error"]; ok {
			return nil, fmt.Errorf("%v", e)
		}
		if r, ok := answer["return"]; ok {
			return r, nil
		}
	}
}

// monitor executes a line of the human monitor.
func (q *qmp) monitor(t *testing.T, line string) string {
	t.Helper()
	text, _ := q.do(t, "human-monitor-command", map[string]any{"command-line": line}).(string)
	return strings.TrimSpace(text)
}

// migrated waits until a migration is complete.
func (q *qmp) migrated(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for time.Now().Before(deadline) {
		state, _ := q.do(t, "query-migrate", nil).(map[string]any)
		switch state["status"] {
		case "completed":
			return
		case "failed", "cancelled":
			t.Fatalf("the migration ended: %v", state)
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the migration does not end")
}
