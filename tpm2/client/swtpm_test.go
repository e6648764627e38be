package client_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// absent skips a test for the want of a neighbour, or fails it where all
// neighbours must be there.
func absent(t testing.TB, program, pkg string) {
	t.Helper()
	msg := program + " is not installed: apt-get install " + pkg
	if os.Getenv("CI") == "true" {
		t.Fatal(msg)
	}
	t.Skip(msg)
}

// need is the path of a program, or the end of the test.
func need(t testing.TB, program, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		absent(t, program, pkg)
	}
	return path
}

// swtpm starts a fresh TPM of Debian's and returns the path of its data channel.
func swtpm(t testing.TB) string {
	t.Helper()
	bin := need(t, "swtpm", "swtpm")
	dir, err := os.MkdirTemp("", "swtpm") // the path of a unix socket has 108 octets, t.TempDir may be longer
	if err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(dir, "sock")
	cmd := exec.Command(bin, "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--server", "type=unixio,path="+sock, "--flags", "not-need-init,startup-clear")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		os.RemoveAll(dir)
	})
	for range 500 {
		if _, err := os.Stat(sock); err == nil {
			return sock
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("swtpm made no socket within 5 s")
	return ""
}

// openSwtpm connects to a fresh swtpm.
func openSwtpm(t testing.TB) *client.Client {
	t.Helper()
	sock := swtpm(t)
	for range 100 {
		conn, err := net.Dial("unix", sock)
		if err == nil {
			c := client.New(conn)
			t.Cleanup(func() {
				if err := c.Close(); err != nil {
					t.Errorf("closing: %v", err)
				}
			})
			return c
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("swtpm takes no connection")
	return nil
}
