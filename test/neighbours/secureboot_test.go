package neighbours

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// TestSecureBoot boots Debian's signed shim, GRUB and kernel under OVMF with
// Microsoft's keys and Secure Boot. All of them measure into the vTPM, and the
// log replays: PCR 7 to the keys that vouched for what was started.
//
//	OVMF (db: Microsoft) -> shim (Microsoft) -> GRUB (Debian) -> kernel (Debian)
func TestSecureBoot(t *testing.T) {
	need(t, "qemu-system-x86", "qemu-system-x86_64")
	need(t, "dosfstools", "mkfs.vfat")
	need(t, "mtools", "mcopy")
	dir := shortDir(t)
	setup(t, dir, "--pcr-banks", "sha1,sha256,sha384")
	v := serveUnix(t, dir, "--terminate")
	m := startGuest(t, v, boot{tpm: "crb", esp: systemPartition(t)})
	m.waitFor(t, "DONE")
	<-m.done
	log := replay(t, m, []string{"sha1", "sha256", "sha384"})
	for what, pattern := range map[string]string{
		"Secure Boot is on":           `PCRIndex: 7\n  EventType: EV_EFI_VARIABLE_DRIVER_CONFIG\n(?:.*\n){1,20}?.*UnicodeName: SecureBoot\n.*VariableData: "01"\n`,
		"a key vouched for shim":      `PCRIndex: 7\n  EventType: EV_EFI_VARIABLE_AUTHORITY`,
		"shim was started":            `PCRIndex: 4\n  EventType: EV_EFI_BOOT_SERVICES_APPLICATION`,
		"GRUB measured what it reads": `PCRIndex: 9\n  EventType: EV_IPL`,
		"GRUB measured its commands":  `PCRIndex: 8\n  EventType: EV_IPL`,
	} {
		if !regexp.MustCompile(pattern).MatchString(log) {
			t.Errorf("the event log does not show that %s", what)
		}
	}
}

// systemPartition makes an EFI system partition with the signed chain on it.
func systemPartition(t *testing.T) string {
	t.Helper()
	dir, err := loadersOnce()
	if err != nil {
		absent(t, "no signed boot loaders for the guest: "+err.Error(), "apt-get update && apt-get install shim-signed grub-efi-amd64-signed")
	}
	work := t.TempDir()
	config := filepath.Join(work, "grub.cfg")
	text := "set timeout=0\nlinux /vmlinuz " + commandLine + "\ninitrd /initrd\nboot\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(work, "esp.img")
	mustRun(t, nil, "mkfs.vfat", "-C", image, "65536")
	mustRun(t, nil, "mmd", "-i", image, "::/EFI", "::/EFI/BOOT", "::/EFI/debian")
	for _, f := range [][2]string{
		{filepath.Join(dir, "usr/lib/shim/shimx64.efi.signed"), "::/EFI/BOOT/BOOTX64.EFI"},
		{filepath.Join(dir, "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"), "::/EFI/BOOT/grubx64.efi"},
		{config, "::/EFI/debian/grub.cfg"}, // where Debian's GRUB looks
		{kernel(t), "::/vmlinuz"},
		{initrd(t), "::/initrd"},
	} {
		mustRun(t, nil, "mcopy", "-i", image, f[0], f[1])
	}
	return image
}

// loadersOnce finds Debian's signed boot loaders, or fetches them without
// installing them: their packages would look after this machine's own boot.
var loadersOnce = sync.OnceValues(func() (string, error) {
	const shim = "usr/lib/shim/shimx64.efi.signed"
	const grub = "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "vouchsafe-test-loaders")
	complete := func(dir string) bool {
		for _, f := range []string{shim, grub} {
			if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
				return false
			}
		}
		return true
	}
	for _, d := range []string{"/", dir} {
		if complete(d) {
			return d, nil
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	fetch := `set -e; cd "$0"; apt-get -q download shim-signed grub-efi-amd64-signed; for p in *.deb; do dpkg-deb -x "$p" .; done; rm -f *.deb`
	if out, err := exec.Command("sh", "-c", fetch, dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %s", err, strings.TrimSpace(string(out)))
	}
	if !complete(dir) {
		return "", fmt.Errorf("the packages have no %s or %s", shim, grub)
	}
	return dir, nil
})
