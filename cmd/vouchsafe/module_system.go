package main

import (
	"crypto/x509"
	"fmt"
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

const (
	efivars  = "/sys/firmware/efi/efivars/"
	imageDB  = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
	shimLock = "605dab50-e046-4300-abb6-3dd810dd8b23"
)

// forbiddenHere is what the firmware and shim of this machine rule out: dbx, and
// MokListX as shim hands it to the kernel.
func forbiddenHere() *modsig.Forbidden {
	var lists [][]byte
	for _, name := range []string{"dbx-" + imageDB, "MokListXRT-" + shimLock} {
		// efivarfs puts the variable's attributes in front.
		if b, err := readBounded(efivars+name, 4<<20); err == nil && len(b) > 4 {
			lists = append(lists, b[4:])
		}
	}
	f, err := modsig.ParseForbidden(lists...)
	if err != nil {
		return nil // the kernel makes nothing of it either
	}
	return f
}

// readForbidden reads --dbx: a signature database, or the variable as efivarfs has it.
func readForbidden(paths []string) (*modsig.Forbidden, error) {
	var lists [][]byte
	for _, path := range paths {
		b, err := readBounded(path, 4<<20)
		if err != nil {
			return nil, fmt.Errorf("reading --dbx: %w", err)
		}
		if _, err := modsig.ParseForbidden(b); err != nil && len(b) > 4 {
			b = b[4:]
		}
		if _, err := modsig.ParseForbidden(b); err != nil {
			return nil, fmt.Errorf("reading --dbx %s: %w", path, err)
		}
		lists = append(lists, b)
	}
	return modsig.ParseForbidden(lists...)
}

// enrolledKeys are the certificates that firmware and shim hand to the kernels
// of this machine: shim's MokListRT with its vendor certificate, and the
// firmware's db, which Debian's kernels ask last.
func enrolledKeys() (out []*x509.Certificate) {
	for _, name := range []string{"MokListRT-" + shimLock, "db-" + imageDB} {
		b, err := readBounded(efivars+name, 4<<20)
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
