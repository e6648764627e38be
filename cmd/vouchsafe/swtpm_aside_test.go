package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What only swtpm does goes to the swtpm that was put aside, where there is one.
func TestOnlySwtpm(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"swtpm", "swtpm_setup", "swtpm_ioctl"} {
		if err := os.WriteFile(filepath.Join(dir, name+".distrib"), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for line, theirs := range map[string]bool{
		"swtpm socket --tpmstate dir=/d --ctrl type=unixio,path=s":                        true,
		"/usr/bin/swtpm socket --tpm2 --tpmstate dir=/d":                                  false,
		"vouchsafe-swtpm socket --tpmstate backend-uri=dir:///d --tpm2":                   false,
		"swtpm socket --tpm2 --tpmstate backend-uri=file:///d/state,mode=0600 --server x": true,
		"swtpm socket --tpm2 --tpmstate=backend-uri=file:///d/state":                      true,
		"swtpm chardev --tpm2 --vtpm-proxy":                                               true,
		"swtpm socket --print-capabilities":                                               false,
		"swtpm socket --tpmstate dir=/d --version":                                        false,
		"swtpm socket": false,
		"swtpm":        false,
		"swtpm_setup --tpm2 --tpmstate /d --create-ek-cert": false,
		"swtpm_setup --tpmstate /d --createek":              true,
		"swtpm_setup --tpm2 --tpm-state file:///dev/x":      true,
		"swtpm_setup --print-capabilities":                  false,
		"swtpm_ioctl --unix s -i":                           false,
		"vouchsafe vtpm serve --tpmstate dir=/d":            false,
		"swtpm socket --tpm2 --tpmstate dir=/file://d":      false,
		"": false,
	} {
		args := strings.Fields(line)
		want := ""
		if theirs {
			want = filepath.Join(dir, swtpmName(args)+".distrib")
		}
		if got := onlySwtpm(args, dir); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
		if got := onlySwtpm(args, t.TempDir()); got != "" {
			t.Errorf("%q, without swtpm: %q", line, got)
		}
	}
}
