package neighbours

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program is the vouchsafe binary, built once for all tests, under all the
// names that it answers to.
var program = sync.OnceValues(func() (dir string, err error) {
	dir, err = os.MkdirTemp("", "vs-bin")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "vouchsafe")
	build := exec.Command("go", "build", "-o", path, "./cmd/vouchsafe")
	build.Dir = "../.." // this folder is in a module of its own
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building vouchsafe: %v\n%s", err, out)
	}
	for _, name := range []string{"swtpm", "swtpm_setup", "swtpm_ioctl"} {
		if err := os.Link(path, filepath.Join(dir, name)); err != nil {
			return "", err
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := program(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

func named(t *testing.T, name string) string {
	t.Helper()
	dir, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// need skips (or, with CI=true, fails) when a program is absent.
func need(t *testing.T, packages string, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			absent(t, p+" is not installed", "apt-get install "+packages)
		}
	}
}

func absent(t *testing.T, why, remedy string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s: %s", why, remedy)
	}
	t.Skipf("%s: %s", why, remedy)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		absent(t, "this test needs root", "sudo go test ./test/neighbours")
	}
}

// shortDir is a temporary directory whose name leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// run executes a command to its end and returns what it printed.
func run(t *testing.T, env []string, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(name), strings.Join(args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String(), err
}

func mustRun(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	out, err := run(t, env, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// vtpm is a running vouchsafe vTPM.
type vtpm struct {
	cmd     *exec.Cmd
	log     *lockedBuffer
	dir     string // state
	control string // unix socket, or empty
	port    int    // TCP data port; control is one above; or zero
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// setup makes a vTPM with certificates in dir.
func setup(t *testing.T, dir string, more ...string) {
	t.Helper()
	args := append([]string{"--tpm2", "--tpmstate", dir, "--vmid", "web1:test", "--createek", "--create-ek-cert",
		"--create-platform-cert", "--lock-nvram", "--local-ca", filepath.Join(dir, "ca"), "--logfile", filepath.Join(dir, "setup.log")}, more...)
	mustRun(t, nil, named(t, "swtpm_setup"), args...)
}

// serveTCP runs a vTPM that tpm2-tss reaches, started up.
func serveTCP(t *testing.T, dir string, more ...string) *vtpm {
	t.Helper()
	return serveTCPBy(t, named(t, "swtpm"), dir, more...)
}

// serveTCPBy is serveTCP with another program that takes swtpm's options.
func serveTCPBy(t *testing.T, program, dir string, more ...string) *vtpm {
	t.Helper()
	port := freePorts(t)
	args := append([]string{"socket", "--tpm2", "--tpmstate", "dir=" + dir, "--server", fmt.Sprintf("type=tcp,port=%d", port),
		"--ctrl", fmt.Sprintf("type=tcp,port=%d", port+1), "--flags", "not-need-init,startup-clear"}, more...)
	v := start(t, program, dir, args)
	v.port = port
	v.waitFor(t, "tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
	return v
}

// serveUnix runs a vTPM that waits for QEMU.
func serveUnix(t *testing.T, dir string, more ...string) *vtpm {
	t.Helper()
	return serveUnixBy(t, named(t, "swtpm"), dir, more...)
}

func serveUnixBy(t *testing.T, program, dir string, more ...string) *vtpm {
	t.Helper()
	sock := filepath.Join(shortDir(t), "ctrl")
	args := append([]string{"socket", "--tpm2", "--tpmstate", "dir=" + dir, "--ctrl", "type=unixio,path=" + sock + ",mode=0600"}, more...)
	v := start(t, program, dir, args)
	v.control = sock
	v.waitFor(t, "unix", sock)
	return v
}

func start(t *testing.T, program, dir string, args []string) *vtpm {
	t.Helper()
	v := &vtpm{dir: dir, log: &lockedBuffer{}}
	v.cmd = exec.Command(program, args...)
	v.cmd.Stderr = v.log
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		v.stop()
		if t.Failed() {
			t.Logf("the vTPM's log:\n%s", v.log)
		}
	})
	return v
}

// stop ends the vTPM in order.
func (v *vtpm) stop() {
	v.cmd.Process.Signal(syscall.SIGTERM)
	v.cmd.Wait()
}

// kill ends it as a crash would.
func (v *vtpm) kill() {
	v.cmd.Process.Kill()
	v.cmd.Wait()
}

func (v *vtpm) waitFor(t *testing.T, network, addr string) {
	t.Helper()
	for range 500 {
		c, err := net.Dial(network, addr)
		if err == nil {
			c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the vTPM does not listen on %s:\n%s", addr, v.log)
}

// tcti is the environment in which tpm2-tools reach the vTPM.
func (v *vtpm) tcti() []string {
	return []string{fmt.Sprintf("TPM2TOOLS_TCTI=swtpm:host=127.0.0.1,port=%d", v.port)}
}

// freePorts finds two TCP ports in a row.
func freePorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		a, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := a.Addr().(*net.TCPAddr).Port
		b, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		a.Close()
		if err != nil {
			continue
		}
		b.Close()
		return port
	}
	t.Fatal(errors.New("no two free ports in a row"))
	return 0
}
