package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestInitramfs: the same tree gives the same bytes, and cpio reads them.
func TestInitramfs(t *testing.T) {
	p, err := findGuest(guestOptions{})
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	agent := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(agent, []byte("an agent"), 0o700); err != nil {
		t.Fatal(err)
	}
	var archives [2][]byte
	for i := range archives {
		tree, err := guestTree(p, agent)
		if err != nil {
			t.Fatal(err)
		}
		archives[i] = tree.cpio()
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Fatal("the same files gave another initramfs")
	}
	cmd := exec.Command("cpio", "--list", "--quiet")
	cmd.Stdin = bytes.NewReader(archives[0])
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("cpio: %v", err)
	}
	listed := "\n" + string(out)
	for _, want := range []string{"init", "bin/busybox", "bin/vouchsafe-agent", "modules/dm_crypt.ko", "modules/dm_mod.ko", "modules/ecb.ko", "dev/console"} {
		if !strings.Contains(listed, "\n"+want+"\n") {
			t.Errorf("there is no %s in it:\n%s", want, out)
		}
	}
}
