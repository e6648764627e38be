package modules_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/modsig"
)

// stage is the shell that puts our hooks into a system of its own: a mount
// namespace in which a kernel package looks installed.
//
//	/etc, /usr/lib  overlays, with our files on top
//	/lib/modules    a copy of some modules, which the test may spoil
//	/boot           the package's own
const stage = `set -e
mkdir -p /lib/modules /boot
mount -t tmpfs tmpfs /mnt
for d in etc usr/lib; do
	mkdir -p /mnt/$d.up /mnt/$d.work
	mount -t overlay overlay -o lowerdir=/$d,upperdir=/mnt/$d.up,workdir=/mnt/$d.work /$d
done
mkdir -p /lib/modules
mount --bind $MODULES /lib/modules
mount --bind $PACKAGE/boot /boot
mkdir -p /usr/lib/vouchsafe /etc/vouchsafe
cp $DEPLOY/vouchsafe-check-modules /usr/lib/vouchsafe/check-modules
cp $DEPLOY/modules.conf /etc/vouchsafe/modules.conf
[ -z "$ON_FINDING" ] || echo "ON_FINDING=$ON_FINDING" >> /etc/vouchsafe/modules.conf
if [ -d /etc/initramfs-tools ]; then mkdir -p /etc/initramfs-tools/hooks; cp $DEPLOY/initramfs-tools/hooks/* /etc/initramfs-tools/hooks/; fi
if [ -d /usr/lib/dracut ]; then cp -r $DEPLOY/dracut/* /usr/lib/dracut/modules.d/; fi
depmod $RELEASE
`

// TestInitramfsHooks builds images with initramfs-tools and dracut, from a
// kernel package whose modules are whole, and then with one that is not.
func TestInitramfsHooks(t *testing.T) {
	root := os.Getenv("VOUCHSAFE_KERNELS")
	if root == "" {
		t.Skip("VOUCHSAFE_KERNELS is not set: see verdicts_test.go")
	}
	if os.Getuid() != 0 {
		t.Skip("mount namespaces need root")
	}
	images, _ := filepath.Glob(filepath.Join(root, "*/boot/vmlinuz-*cloud*"))
	if len(images) == 0 {
		t.Skip("no cloud kernel: apt-get download linux-image-6.1.0-56-cloud-amd64")
	}
	image := images[len(images)-1]
	pkg, release := filepath.Dir(filepath.Dir(image)), strings.TrimPrefix(filepath.Base(image), "vmlinuz-")
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(bin, "vouchsafe"), "./cmd/vouchsafe")
	build.Dir = "../.." // the program is of another module
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	deploy, err := filepath.Abs("../../deploy")
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range []struct{ name, apt, build string }{
		{"mkinitramfs", "initramfs-tools-core", "mkinitramfs -o $OUT $RELEASE"},
		{"dracut", "dracut-core", "dracut --force --no-hostonly --kver $RELEASE --modules 'base kernel-modules vouchsafe-modules' $OUT"},
	} {
		t.Run(tool.name, func(t *testing.T) {
			if _, err := exec.LookPath(tool.name); err != nil {
				t.Skipf("no %s: apt-get install --no-install-recommends %s", tool.name, tool.apt)
			}
			modules := t.TempDir()
			if out, err := exec.Command("cp", "-a", filepath.Join(pkg, "lib/modules", release), modules).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			out := filepath.Join(t.TempDir(), "initrd")
			run := func(onFinding string) (string, error) {
				os.Remove(out)
				cmd := exec.CommandContext(t.Context(), "unshare", "-m", "sh", "-c", stage+tool.build)
				cmd.Env = append(os.Environ(), "PACKAGE="+pkg, "MODULES="+modules, "DEPLOY="+deploy, "RELEASE="+release,
					"OUT="+out, "ON_FINDING="+onFinding, "LC_ALL=C.UTF-8", "VOUCHSAFE="+filepath.Join(bin, "vouchsafe"))
				b, err := cmd.CombinedOutput()
				return string(b), err
			}
			if said, err := run(""); err != nil || !exists(out) {
				t.Fatalf("whole modules: %v\n%s", err, said)
			} else if !strings.Contains(said, "modules load cleanly") {
				t.Fatalf("the hook did not run:\n%s", said)
			}
			spoilt := find(t, modules, "virtio_blk.ko")
			spoil(t, spoilt)
			said, err := run("")
			if err == nil || !strings.Contains(said, "virtio_blk.ko") || !strings.Contains(said, "bad-signature") {
				t.Errorf("a spoilt module: %v\n%s", err, said)
			}
			if said, err = run("warn"); err != nil || !exists(out) || !strings.Contains(said, "vouchsafe: warning:") {
				t.Errorf("ON_FINDING=warn: %v\n%s", err, said)
			}
		})
	}
}

func exists(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Size() > 0
}

// spoil flips a bit in the module's description.
func spoil(t *testing.T, path string) {
	t.Helper()
	stored := read(t, path)
	file, err := modsig.Decompress(stored, nil)
	if err != nil {
		t.Fatal(err)
	}
	i := strings.Index(string(file), "description=")
	file[i+13] ^= 1
	if stored, err = modsig.Compress(file, modsig.CompressionOf(stored)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, stored, 0o644); err != nil {
		t.Fatal(err)
	}
}
