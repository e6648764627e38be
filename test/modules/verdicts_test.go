// Package modules_test asks real kernels in QEMU what they do with every
// variant of a module, and compares with what modsig predicted.
//
// A short run needs no kernel. The long one:
//
//	mkdir -p /tmp/kernels && cd /tmp/kernels
//	apt-get download linux-image-6.1.0-56-cloud-amd64 linux-image-6.12.117+deb12-cloud-amd64 shim-signed grub-efi-amd64-signed
//	for d in *.deb; do dpkg-deb -x $d ${d%%_*}; done
//	VOUCHSAFE_KERNELS=/tmp/kernels go test ./test/modules/ -run Kernel -v -timeout 30m
package modules_test

import (
	"crypto/x509"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/modvariants"
	"github.com/vouchsafe/vouchsafe/modsig"
	"github.com/vouchsafe/vouchsafe/test/modules/guest"
)

// aKernel is one unpacked kernel package.
type aKernel struct {
	release, image string
	builtin        []*x509.Certificate
	features       modsig.Features
	genuine        []byte // dummy.ko, decompressed
	stored         []byte // as the package has it
}

func kernels(t *testing.T) []aKernel {
	t.Helper()
	root := os.Getenv("VOUCHSAFE_KERNELS")
	if root == "" {
		t.Skip("VOUCHSAFE_KERNELS is not set: apt-get download linux-image-cloud-amd64, unpack it with dpkg-deb -x, and name the directory")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("no QEMU: apt-get install qemu-system-x86 ovmf mtools dosfstools")
	}
	var out []aKernel
	images, _ := filepath.Glob(filepath.Join(root, "*/boot/vmlinuz-*"))
	for _, image := range images {
		k := aKernel{image: image, release: strings.TrimPrefix(filepath.Base(image), "vmlinuz-")}
		im, err := modsig.ReadImage(read(t, image))
		if err != nil {
			t.Fatalf("%s: %v", image, err)
		}
		k.builtin = im.Builtin
		dir := filepath.Dir(filepath.Dir(image))
		k.features = modsig.ParseConfig(read(t, filepath.Join(dir, "boot/config-"+k.release)))
		k.stored = read(t, find(t, filepath.Join(dir, "lib/modules"), "dummy.ko"))
		if k.genuine, err = modsig.Decompress(k.stored, nil); err != nil {
			t.Fatal(err)
		}
		out = append(out, k)
	}
	return out
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func find(t *testing.T, root, prefix string) (found string) {
	t.Helper()
	_ = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), prefix) {
			found = p
			return fs.SkipAll
		}
		return nil
	})
	if found == "" {
		t.Fatalf("no %s under %s", prefix, root)
	}
	return found
}

// TestKernelAgrees is the proof of the table of verdicts: for every kernel,
// mode and variant, errno, taint and log line are as predicted.
func TestKernelAgrees(t *testing.T) {
	all := kernels(t)
	keys, err := variants.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range all {
		if !strings.Contains(k.release, "cloud") && os.Getenv("VOUCHSAFE_ALL_KERNELS") == "" {
			continue // the same code as the cloud kernel, and slower to boot
		}
		files, err := variants.Make(k.genuine, nil, keys)
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range all {
			if other.release != k.release {
				files = append(files, variants.File{Name: fmt.Sprintf("%02d-other-%s", len(files)+1, other.release), Data: other.genuine})
			}
		}
		for _, m := range []struct {
			mode modsig.Mode
			mok  bool
		}{{modsig.Off, false}, {modsig.Enforce, false}, {modsig.Integrity, false}, {modsig.Lockdown, false}, {modsig.Lockdown, true}} {
			name := fmt.Sprintf("%s/%s", k.release, m.mode)
			if m.mok {
				name += "+MOK"
			}
			t.Run(name, func(t *testing.T) { compare(t, k, m.mode, m.mok, files, keys) })
		}
	}
}

func compare(t *testing.T, k aKernel, mode modsig.Mode, mok bool, files []variants.File, keys *variants.Keys) {
	machine := guest.Machine{Kernel: k.image, Limit: 5 * time.Minute}
	var enrolled []*x509.Certificate
	switch mode {
	case modsig.Enforce:
		machine.Append = "module.sig_enforce=1"
	case modsig.Integrity:
		machine.Append = "lockdown=integrity"
	case modsig.Lockdown:
		machine.SecBoot = secureBoot(t)
		if mok {
			enrolled = keys.Enrolled()
			for _, c := range enrolled {
				machine.SecBoot.MOK = append(machine.SecBoot.MOK, c.Raw)
			}
		}
	}
	var in []guest.File
	for _, f := range files {
		in = append(in, guest.File{Name: f.Name + ".ko", Data: f.Data})
	}
	start := time.Now()
	answers, facts, err := guest.Run(t.Context(), t.TempDir(), machine, in)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d modules in %.1f s; sig_enforce=%s lockdown=%q", len(answers), time.Since(start).Seconds(), facts["sig_enforce"], facts["lockdown"])
	if len(answers) != len(files) {
		t.Fatalf("%d answers for %d files", len(answers), len(files))
	}
	kernel := modsig.NewKernel(k.release, k.features, k.builtin, enrolled)
	if e, err := modsig.ReadELF(k.genuine); err == nil {
		kernel.Learn(e)
	}
	var boot variants.Boot
	for i, f := range files {
		r := modsig.Check(f.Data, kernel, modsig.Options{Name: f.Name, Now: time.Now()})
		want := r.Predict(mode)
		got := variants.Answer{Errno: answers[i].Errno, Taint: answers[i].Taint, Log: variants.Normal(answers[i].Log)}
		if ok, log := boot.Agrees(want, got); !ok {
			t.Errorf("%s (%s):\n kernel    %+v\n predicted %+v with log %q", f.Name, r.Verdict, got, want, log)
		}
		record(t, k.release, mode, mok, f.Name, got)
	}
}

// record appends the kernel's answer to the file that VOUCHSAFE_RECORD names:
// how modsig/testdata/verdicts.tsv is made.
func record(t *testing.T, release string, mode modsig.Mode, mok bool, name string, a variants.Answer) {
	t.Helper()
	path := os.Getenv("VOUCHSAFE_RECORD")
	if path == "" || strings.Contains(name, "-other-") {
		return
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, name, _ = strings.Cut(name, "-")
	if _, err := fmt.Fprintf(f, "%s\t%s\t%t\t%s\t%s\t%s\t%s\n", release, mode, mok, name, a.Errno, a.Taint, strings.Join(a.Log, " | ")); err != nil {
		t.Fatal(err)
	}
}

func secureBoot(t *testing.T) *guest.SecureBoot {
	t.Helper()
	root := os.Getenv("VOUCHSAFE_KERNELS")
	s := &guest.SecureBoot{
		Shim: filepath.Join(root, "shim-signed/usr/lib/shim/shimx64.efi.signed"),
		GRUB: filepath.Join(root, "grub-efi-amd64-signed/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"),
	}
	for _, p := range []string{s.Shim, s.GRUB, "/usr/share/OVMF/OVMF_CODE_4M.ms.fd"} {
		if _, err := os.Stat(p); err != nil {
			t.Skipf("%v: apt-get install ovmf mtools dosfstools; apt-get download shim-signed grub-efi-amd64-signed, unpacked beside the kernels", err)
		}
	}
	for _, tool := range []string{"mkfs.vfat", "mcopy"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s: apt-get install mtools dosfstools", tool)
		}
	}
	return s
}

// TestKernelTakesOurXZ: a module that we have compressed is decompressed by
// the kernel itself, where it can.
func TestKernelTakesOurXZ(t *testing.T) {
	for _, k := range kernels(t) {
		if modsig.CompressionOf(k.stored) != modsig.XZ {
			continue // a kernel whose modules are not in xz does not decompress
		}
		ours, err := modsig.Compress(k.genuine, modsig.XZ)
		if err != nil {
			t.Fatal(err)
		}
		answers, _, err := guest.Run(t.Context(), t.TempDir(), guest.Machine{Kernel: k.image, Limit: 5 * time.Minute},
			[]guest.File{{Name: "1-theirs.ko.xz", Data: k.stored}, {Name: "2-ours.ko.xz", Data: ours}, {Name: "3-cut.ko.xz", Data: ours[:len(ours)-9]}})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"", "", "EINVAL"} {
			if answers[i].Errno != want {
				t.Errorf("%s on %s: errno %q, want %q; %q", answers[i].File, k.release, answers[i].Errno, want, answers[i].Log)
			}
		}
	}
}
