package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The guest's first boot in TestDistributionInitramfs: it formats the disk and puts a root file
// system on it, which is busybox and an /sbin/init that says what it finds.
const installRoot = `
tell vouchsafe-agent unlock --device /dev/vda --format || off shut
mke2fs -q /dev/mapper/root >/run/mke2fs 2>&1 && mount /dev/mapper/root /root || off "FAILED mke2fs"
mkdir -p /root/bin /root/sbin /root/etc /root/usr /root/dev /root/proc /root/sys /root/run /root/tmp
cp /bin/busybox /root/bin/
echo ID=test >/root/etc/os-release # without it systemd does not switch to it
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

// TestDistributionInitramfs boots what initramfs-tools and dracut make with deploy's hooks, from a
// root file system on the VM's encrypted disk. The new initramfs is proposed before the
// reboot; with another command line the root stays shut.
func TestDistributionInitramfs(t *testing.T) {
	if os.Getenv("VOUCHSAFE_GUEST") == "" {
		t.Skip("VOUCHSAFE_GUEST is not set: this boots guests, a minute or two without KVM")
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

	// 2. The distribution's initramfs, approved before its first boot.
	for _, tool := range []struct {
		name, apt, network string
		make               func(t *testing.T, g *guestDemo, out string)
		long               bool
	}{
		{"mkinitramfs", "initramfs-tools", "ip=dhcp", mkinitramfs, false},
		{"dracut", "dracut-network", "rd.neednet=1 ip=dhcp rd.emergency=reboot rd.shell=0 rd.retry=20", dracut, true}, // a minute to make, and half a minute of retries
	} {
		t.Run(tool.name, func(t *testing.T) {
			if tool.long && os.Getenv("VOUCHSAFE_LONG") == "" {
				t.Skip("VOUCHSAFE_LONG is not set")
			}
			if findProgram(tool.name, "/usr/sbin/"+tool.name) == "" {
				absent(tool.name+" is not installed", tool.apt)
			}
			image := filepath.Join(t.TempDir(), "initrd")
			tool.make(t, g, image)
			initrd, err := os.ReadFile(image)
			if err != nil {
				t.Fatal(err)
			}
			cmdline := "console=ttyS0 quiet panic=-1 rootdelay=5 root=/dev/mapper/root " + tool.network
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
			says := func(console string, want ...string) {
				t.Helper()
				for _, w := range want {
					if !strings.Contains(console, w) {
						t.Errorf("the console does not say %q", w)
					}
				}
			}
			console, err := boot(tool.name, cmdline)
			if err != nil {
				t.Fatal(err)
			}
			says(console, "web1 is admitted", "/dev/vda is open as /dev/mapper/root")
			// The kernel measured what udev had it load; the service knows each.
			var shown strings.Builder
			run(t.Context(), []string{"vouchsafe", "attest", "show", demoVM, "--state", filepath.Join(g.dir, "service")}, nil, &shown, io.Discard)
			for _, name := range []string{"/virtio_net.ko", "/dm-crypt.ko"} {
				if !strings.Contains(shown.String(), name) {
					t.Errorf("%s is not among the modules that the service knows:\n%s", name, shown.String())
				}
			}

			// 3. Another command line: refused, locked, and no root.
			console, err = boot(tool.name+"-tampered", cmdline+" init=/bin/sh")
			if err == nil {
				t.Error("the root file system was mounted after another command line")
			}
			says(console, "BOOT_DIFFERS", "no disk opens any more until the next boot")
		})
	}
}

// mkinitramfs makes an image in a configuration directory of its own, with our hook and scripts.
func mkinitramfs(t *testing.T, g *guestDemo, out string) {
	conf := filepath.Join(t.TempDir(), "conf")
	// Our hook for modules has a test of its own.
	shell(t, g, `cp -a /etc/initramfs-tools "$conf" && cp -r ../../deploy/initramfs-tools/* "$conf" && rm -f "$conf/hooks/vouchsafe-modules" &&
		mkinitramfs -d "$conf" -o "$out" "$version"`, "conf="+conf, "out="+out)
}

// dracut makes an image with a copy of dracut's modules and ours beside them.
func dracut(t *testing.T, g *guestDemo, out string) {
	base := filepath.Join(t.TempDir(), "base")
	shell(t, g, `cp -a /usr/lib/dracut "$dracutbasedir" && cp -r ../../deploy/dracut/90vouchsafe-agent "$dracutbasedir/modules.d/" &&
		dracut --force --no-hostonly --no-hostonly-cmdline --add vouchsafe-agent --kver "$version" "$out"`, "dracutbasedir="+base, "out="+out)
}

func shell(t *testing.T, g *guestDemo, script string, env ...string) {
	t.Helper()
	given := t.TempDir()
	if err := os.WriteFile(filepath.Join(given, "unlock.conf"), []byte("device=/dev/vda\nwait=30s\nima=yes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.Env = append(os.Environ(), append(env, "version="+g.parts.version, "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin",
		"VOUCHSAFE_AGENT="+filepath.Join(g.dir, "vouchsafe-agent"), "VOUCHSAFE_GIVEN="+given)...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
}
