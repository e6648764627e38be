package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The guest's first boot in TestDebianInitramfs: it formats the disk and puts a root file
// system on it, which is busybox and an /sbin/init that says what it finds.
const installRoot = `
tell vouchsafe-agent unlock --device /dev/vda --format || off shut
mke2fs -q /dev/mapper/root >/run/mke2fs 2>&1 && mount /dev/mapper/root /root || off "FAILED mke2fs"
mkdir -p /root/bin /root/sbin /root/dev /root/proc /root/sys /root/run /root/tmp
cp /bin/busybox /root/bin/
cat >/root/sbin/init <<'EOF'
#!/bin/busybox sh
echo >/dev/ttyS1 # the firmware leaves half a line there
echo "guest: root $(busybox sed -n 's,^/dev/mapper/\([a-z]*\) / .*,\1,p' /proc/mounts)" >/dev/ttyS1
busybox sync
busybox poweroff -f
busybox sleep 60
EOF
chmod 755 /root/sbin/init
off installed
`

// TestDebianInitramfs boots Debian's own initramfs, made by mkinitramfs with deploy's hook and
// script, from a root file system on the VM's encrypted disk. The new initramfs is proposed
// before the reboot; with another command line the root stays shut.
func TestDebianInitramfs(t *testing.T) {
	if os.Getenv("VOUCHSAFE_GUEST") == "" {
		t.Skip("VOUCHSAFE_GUEST is not set: this boots three guests, a minute or two without KVM")
	}
	absent := func(err any, apt string) {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("%v: apt-get install --no-install-recommends %s", err, apt)
	}
	parts, err := findGuest(guestOptions{})
	if err != nil {
		absent(err, "qemu-system-x86 ovmf linux-image-cloud-amd64 busybox-static cryptsetup-bin")
	}
	mkinitramfs := findProgram("mkinitramfs", "/usr/sbin/mkinitramfs")
	if mkinitramfs == "" {
		absent("mkinitramfs is not installed", "initramfs-tools")
	}
	d, err := newDemo(t.Context(), &app{out: io.Discard, err: io.Discard, langFlag: "en"}, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	g, err := newGuestDemo(d, parts, "")
	if err != nil {
		t.Fatal(err)
	}
	begin, _, ok := strings.Cut(string(guestInit), "# The first boot enrols")
	if !ok {
		t.Fatal("demo_guest_init.sh is another one than this test thinks")
	}
	g.content["init"] = treeFile{0o755, []byte(begin + installRoot)}
	g.initrd = g.content.pack()
	if _, err := g.bornWithCredential(); err != nil {
		t.Fatal(err)
	}

	// 1. Installed under a golden boot.
	if g.running, err = g.start(guestBoot{name: "install", initrd: g.initrd, cmdline: g.cmdline, disk: g.rootDisk}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.up(); err != nil {
		t.Fatal(err)
	}
	if _, err := g.approved(); err != nil {
		t.Fatal(err)
	}
	if _, err := g.running.wait(t.Context(), "installed"); err != nil {
		t.Fatal(err)
	}
	if err := g.running.stop(); err != nil {
		t.Fatal(err)
	}

	// 2. Debian's initramfs, approved before its first boot.
	image := debianInitramfs(t, mkinitramfs, parts.version, filepath.Join(g.dir, "vouchsafe-agent"))
	initrd, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	const cmdline = "console=ttyS0 quiet panic=-1 rootdelay=5 root=/dev/mapper/root ip=dhcp"
	var p struct{ Approved bool }
	if err := g.cli(&p, "policy", "propose", demoVM, "--kernel", parts.kernel, "--initrd", image, "--cmdline", cmdline, "--memory", guestMemory, "--approve"); err != nil || !p.Approved {
		t.Fatal(p, err)
	}
	boot := func(name, cmdline string) (string, error) {
		t.Helper()
		m, err := g.start(guestBoot{name: name, initrd: initrd, cmdline: cmdline, disk: g.rootDisk})
		if err != nil {
			t.Fatal(err)
		}
		from, err := m.wait(t.Context(), "root")
		if err == nil && from != "root" {
			t.Errorf("%s: the root file system is on %q", name, from)
		}
		console, _ := os.ReadFile(m.console)
		if stop := m.stop(); stop != nil {
			t.Error(stop)
		}
		t.Logf("%s: %d bytes of initramfs; the console:\n%s", name, len(initrd), console)
		return string(console), err
	}
	console, err := boot("debian", cmdline)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"web1 is admitted", "/dev/vda is open as /dev/mapper/root"} {
		if !strings.Contains(console, want) {
			t.Errorf("the console does not say %q", want)
		}
	}

	// 3. Another command line: refused, locked, and no root.
	console, err = boot("tampered", cmdline+" break=bottom")
	if err == nil {
		t.Error("the root file system was mounted after another command line")
	}
	for _, want := range []string{"BOOT_DIFFERS", "no disk opens any more until the next boot"} {
		if !strings.Contains(console, want) {
			t.Errorf("the console does not say %q", want)
		}
	}
}

// debianInitramfs makes an image as a package's hook would, in a directory of its own.
func debianInitramfs(t *testing.T, mkinitramfs, version, agent string) string {
	t.Helper()
	dir := t.TempDir()
	conf, given, out := filepath.Join(dir, "conf"), filepath.Join(dir, "given"), filepath.Join(dir, "initrd")
	if text, err := exec.Command("sh", "-c", `cp -a /etc/initramfs-tools "$0" && cp -r "$1"/* "$0" && mkdir "$2"`, conf, "../../deploy/initramfs-tools", given).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if err := os.WriteFile(filepath.Join(given, "unlock.conf"), []byte("device=/dev/vda\nwait=30s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(conf, "hooks", "vouchsafe-modules")) // it has a test of its own
	cmd := exec.CommandContext(t.Context(), mkinitramfs, "-d", conf, "-o", out, version)
	cmd.Env = append(os.Environ(), "VOUCHSAFE_AGENT="+agent, "VOUCHSAFE_GIVEN="+given, "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mkinitramfs: %v\n%s", err, text)
	}
	return out
}
