package neighbours

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestDeb builds the Debian package twice (the same bytes), installs it beside
// Debian's swtpm in a copy-on-write view of this machine, uses it under swtpm's
// names, and purges it: nothing is left.
func TestDeb(t *testing.T) {
	need(t, "dpkg dpkg-dev", "dpkg-deb", "dpkg-divert", "update-alternatives")
	needRoot(t)
	work := shortDir(t)
	var packages [2][]byte
	var deb string
	for i := range packages {
		deb = strings.TrimSpace(mustRun(t, []string{"SOURCE_DATE_EPOCH=1790000000"}, "../../deploy/deb/build", work))
		content, err := os.ReadFile(deb)
		if err != nil {
			t.Fatal(err)
		}
		packages[i] = content
	}
	if string(packages[0]) != string(packages[1]) {
		t.Error("two builds of the same source differ")
	}

	root := overlay(t)
	if err := os.WriteFile(filepath.Join(root, "vouchsafe.deb"), packages[0], 0o644); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(root, "deb-test.sh")
	if err := os.WriteFile(script, []byte(debScript), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, []string{"DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"}, "chroot", root, "/bin/sh", "/deb-test.sh")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "nothing is left") {
		t.Errorf("the script did not come to its end:\n%s", out)
	}
}

const debScript = `set -eu
list() { find /etc /usr/bin /usr/lib/vouchsafe /usr/sbin /usr/share/man /usr/share/doc /usr/share/bash-completion /usr/share/zsh /usr/share/fish \
  /var/lib/vouchsafe /var/lib/swtpm-localca 2>/dev/null | sort; }
had=; [ -e /usr/bin/swtpm ] && had=$(sha256sum </usr/bin/swtpm)
rm -rf /var/lib/vouchsafe
list >/tmp/before
dpkg --no-triggers -i /vouchsafe.deb
vouchsafe version
swtpm socket --print-capabilities | grep -q '"tpm-2.0"'
readlink -f /usr/bin/swtpm | grep -q '^/usr/bin/vouchsafe-swtpm$'
readlink -f /usr/bin/swtpm_setup | grep -q '^/usr/bin/vouchsafe-swtpm_setup$'
if [ -n "$had" ]; then
  [ "$(sha256sum </usr/bin/swtpm.distrib)" = "$had" ]
  update-alternatives --set swtpm /usr/bin/swtpm.distrib
  [ "$(sha256sum </usr/bin/swtpm)" = "$had" ]
  update-alternatives --auto swtpm
fi
mkdir /tmp/state
swtpm_setup --tpm2 --tpmstate /tmp/state --vmid x --create-ek-cert --create-platform-cert --lock-nvram
[ -s /var/lib/vouchsafe/local-ca/ca.pem ]
man -w vouchsafe-vtpm-serve >/dev/null 2>&1 || [ -s /usr/share/man/man1/vouchsafe-vtpm-serve.1.gz ]
bash -n /usr/share/bash-completion/completions/vouchsafe
dpkg --no-triggers -i /vouchsafe.deb # an upgrade to itself
dpkg --no-triggers --purge vouchsafe
[ -z "$had" ] || [ "$(sha256sum </usr/bin/swtpm)" = "$had" ]
[ -n "$had" ] || [ ! -e /usr/bin/swtpm ]
dpkg-divert --list | grep vouchsafe && exit 1
list >/tmp/after
diff /tmp/before /tmp/after && echo nothing is left
`

// overlay mounts a view of / whose changes go to a temporary directory.
func overlay(t *testing.T) string {
	t.Helper()
	base := shortDir(t)
	dir := func(name string) string {
		path := filepath.Join(base, name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	changes, root := dir("changes"), dir("root")
	// Overlays do not stack on every file system: the changes live in memory.
	if err := syscall.Mount("tmpfs", changes, "tmpfs", 0, "size=512m"); err != nil {
		absent(t, "no tmpfs can be mounted: "+err.Error(), "run on a machine that allows it")
	}
	t.Cleanup(func() { syscall.Unmount(changes, syscall.MNT_DETACH) })
	dir("changes/upper")
	dir("changes/work")
	options := "lowerdir=/,upperdir=" + changes + "/upper,workdir=" + changes + "/work"
	if err := syscall.Mount("overlay", root, "overlay", 0, options); err != nil {
		absent(t, "no overlay can be mounted: "+err.Error(), "run on a machine that allows it")
	}
	t.Cleanup(func() { syscall.Unmount(root, syscall.MNT_DETACH) })
	for _, name := range []string{"/proc", "/dev", "/tmp"} {
		from, fstype, flags := name, "", uintptr(syscall.MS_BIND)
		if name == "/tmp" {
			from, fstype, flags = "tmpfs", "tmpfs", 0
		}
		if err := syscall.Mount(from, root+name, fstype, flags, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Unmount(root+name, syscall.MNT_DETACH) })
	}
	return root
}
