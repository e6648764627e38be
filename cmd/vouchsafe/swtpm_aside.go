package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A host may have VMs that only swtpm serves: with a TPM 1.2, or with state in
// one file. Where the package has put swtpm aside, what asks for that goes to
// it, so that the host goes on with all of its VMs.

// asideDir is where the package leaves swtpm's programs (deploy/deb/preinst).
const asideDir = "/usr/bin"

// aside is the program of a name of swtpm's that was put aside, or "".
func aside(dir, name string) string {
	path := filepath.Join(dir, name+".distrib")
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return ""
	}
	return path
}

// swtpmName is the program of swtpm's that args call, or "".
func swtpmName(args []string) string {
	if len(args) == 0 {
		return ""
	}
	name := strings.TrimPrefix(filepath.Base(args[0]), "vouchsafe-")
	if !slices.Contains([]string{"swtpm", "swtpm_setup", "swtpm_ioctl"}, name) {
		return ""
	}
	return name
}

// onlySwtpm is the program that was put aside, when the command line asks for
// what this one does not do; else "".
func onlySwtpm(args []string, dir string) string {
	name := swtpmName(args)
	if name == "" || name == "swtpm_ioctl" { // which speaks the same protocol to both
		return ""
	}
	words := args[1:]
	state, tpm2, file := false, false, false
	for i, word := range words {
		option, value, _ := strings.Cut(word, "=")
		switch option {
		case "--help", "-h", "-?", "--version", "-v", "--print-capabilities", "--print-capabilites", "--create-config-files":
			return ""
		case "--tpm2":
			tpm2 = true
		case "--tpmstate", "--tpm-state":
			if !strings.Contains(word, "=") && i+1 < len(words) {
				value = words[i+1]
			}
			state = true
			file = file || strings.HasPrefix(value, "file://") || strings.Contains(value, "backend-uri=file://")
		}
	}
	device := name == "swtpm" && len(words) > 0 && (words[0] == "chardev" || words[0] == "cuse")
	if device || file || state && !tpm2 {
		return aside(dir, name)
	}
	return ""
}

// withAside adds to what this program can do what the one that was put aside
// does in its place, as that says itself.
func withAside(ctx context.Context, name string, features []string) []string {
	path := aside(asideDir, name)
	if path == "" || swtpmName(os.Args) != name { // by our own name we speak of ourselves
		return features
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	words := []string{"--print-capabilities"}
	if name == "swtpm" {
		words = []string{"socket", "--print-capabilities"}
	}
	out, err := exec.CommandContext(ctx, path, words...).Output()
	var theirs capabilityList
	if err != nil || json.Unmarshal(out, &theirs) != nil {
		return features
	}
	for _, f := range []string{"tpm-1.2", "nvram-backend-file"} {
		if slices.Contains(theirs.Features, f) {
			features = append(features, f)
		}
	}
	return features
}
