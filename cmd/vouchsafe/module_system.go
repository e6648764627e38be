package main

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/vouchsafe/vouchsafe/modsig"
)

// openNonblock keeps a FIFO among the files from holding us up.
const openNonblock = syscall.O_NONBLOCK

// runningRelease is the running kernel's.
func runningRelease() string {
	b, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(string(b))
}

// runningMode is what the running kernel does with a module it cannot verify.
func runningMode() modsig.Mode {
	enforce, _ := os.ReadFile("/sys/module/module/parameters/sig_enforce")
	lockdown, _ := os.ReadFile("/sys/kernel/security/lockdown")
	locked := strings.Contains(string(lockdown), "[integrity]") || strings.Contains(string(lockdown), "[confidentiality]")
	switch {
	case strings.HasPrefix(string(enforce), "Y") && locked:
		return modsig.Lockdown
	case strings.HasPrefix(string(enforce), "Y"):
		return modsig.Enforce
	case locked:
		return modsig.Integrity
	}
	return modsig.Off
}

// enrolledKeys are the certificates that firmware and shim hand to the kernels
// of this machine: shim's MokListRT with its vendor certificate, and the
// firmware's db, which Debian's kernels ask last.
func enrolledKeys() (out []*x509.Certificate) {
	const vars = "/sys/firmware/efi/efivars/"
	for _, name := range []string{
		vars + "MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23",
		vars + "db-d719b2cb-3d3a-4596-a3bc-dad00e67656f",
	} {
		b, err := readBounded(name, 4<<20)
		if err != nil || len(b) < 4 {
			continue // no EFI, or nothing enrolled
		}
		// efivarfs puts the variable's attributes in front.
		certs, err := modsig.ParseSignatureList(b[4:])
		if err != nil {
			continue
		}
		out = append(out, certs...)
	}
	return out
}

func isModuleName(path string) bool {
	base := filepath.Base(path)
	for _, ext := range []string{".ko", ".ko.xz", ".ko.gz", ".ko.zst"} {
		if strings.HasSuffix(base, ext) {
			return true
		}
	}
	return false
}
