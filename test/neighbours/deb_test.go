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
	var builds [2]map[string][]byte
	for i := range builds {
		builds[i] = map[string][]byte{}
		for _, deb := range strings.Fields(mustRun(t, []string{"SOURCE_DATE_EPOCH=1790000000"}, "../../deploy/deb/build", work)) {
			content, err := os.ReadFile(deb)
			if err != nil {
				t.Fatal(err)
			}
			name, _, _ := strings.Cut(filepath.Base(deb), "_")
			builds[i][name+".deb"] = content
		}
	}
	root := overlay(t)
	for _, name := range []string{"vouchsafe.deb", "vouchsafe-agent.deb"} {
		if len(builds[0][name]) == 0 || string(builds[0][name]) != string(builds[1][name]) {
			t.Errorf("two builds of %s from the same source differ, or there is none", name)
		}
		if err := os.WriteFile(filepath.Join(root, name), builds[0][name], 0o644); err != nil {
			t.Fatal(err)
		}
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
  /usr/share/initramfs-tools /usr/lib/dracut \
  /var/lib/vouchsafe /var/lib/swtpm-localca 2>/dev/null | sort; }
had=; [ -e /usr/bin/swtpm ] && had=$(sha256sum </usr/bin/swtpm)
rm -rf /var/lib/vouchsafe /etc/vouchsafe
list >/tmp/before
# A guest: the agent alone, which needs nothing of its host's program.
dpkg --no-triggers -i /vouchsafe-agent.deb
[ -z "$(command -v vouchsafe)" ]
[ "$(stat -c %a /etc/vouchsafe)" = 700 ]
rc=0; vouchsafe-agent status 2>/tmp/said || rc=$?
[ $rc = 1 ]
grep -q '^hint: an operator makes' /tmp/said
man -w vouchsafe-agent >/dev/null 2>&1 || [ -s /usr/share/man/man1/vouchsafe-agent.1.gz ]
zgrep -q 'unlock: the block device' /usr/share/man/man1/vouchsafe-agent.1.gz
for hook in hooks/vouchsafe-agent scripts/init-top/00-vouchsafe-ima scripts/init-premount/vouchsafe-agent scripts/panic/vouchsafe-agent; do
  sh -n /usr/share/initramfs-tools/$hook
  [ -x /usr/share/initramfs-tools/$hook ]
  [ -z "$(/usr/share/initramfs-tools/$hook prereqs)" ]
done
bash -n /usr/lib/dracut/modules.d/90vouchsafe-agent/module-setup.sh
! command -v systemd-analyze >/dev/null || systemd-analyze verify /lib/systemd/system/vouchsafe-agent-renew.timer
# Without a disk to open it adds nothing to an image; with one, itself.
if [ -e /usr/share/initramfs-tools/hook-functions ]; then
  image() { rm -rf /tmp/image; mkdir -p /tmp/image; DESTDIR=/tmp/image verbose=n MODULESDIR=/tmp/image/lib/modules version=none __MODULES_TO_ADD=/tmp/mods /usr/share/initramfs-tools/hooks/vouchsafe-agent; }
  image
  [ ! -e /tmp/image/usr/bin/vouchsafe-agent ]
  if [ -x /sbin/cryptsetup ]; then
    cp /usr/share/doc/vouchsafe-agent/examples/unlock.conf /etc/vouchsafe/
    image
    [ -x /tmp/image/usr/bin/vouchsafe-agent ]
    [ -e /tmp/image/etc/vouchsafe/unlock.conf ]
  fi
fi
echo secret >/etc/vouchsafe/key.pem
dpkg --no-triggers --purge vouchsafe-agent
list >/tmp/after
diff /tmp/before /tmp/after
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
  # A VM with a TPM 1.2, or with state in a file, goes on under swtpm.
  swtpm socket --print-capabilities | grep -q '"tpm-1.2"'
  swtpm_setup --print-capabilities | grep -q '"tpm-1.2"'
  mkdir /tmp/old
  for state in "--tpmstate dir=/tmp/old" "--tpm2 --tpmstate backend-uri=file:///tmp/old/state"; do
    swtpm socket $state --server type=unixio,path=/tmp/old/s --flags not-need-init --daemon --pid file=/tmp/old/pid
    [ "$(readlink /proc/$(cat /tmp/old/pid)/exe)" = /usr/bin/swtpm.distrib ]
    kill "$(cat /tmp/old/pid)"
  done
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
