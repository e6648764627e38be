package main

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/modsig"
)

// benchTree is an unpacked kernel package: VOUCHSAFE_TREE names it.
func benchTree(b *testing.B) (root string, files []string) {
	root = os.Getenv("VOUCHSAFE_TREE")
	if root == "" {
		b.Skip("VOUCHSAFE_TREE is not set: apt-get download linux-image-6.1.0-56-amd64, dpkg-deb -x, and name the directory")
	}
	files, err := moduleFiles([]string{filepath.Join(root, "lib/modules")})
	if err != nil {
		b.Fatal(err)
	}
	return root, files
}

// use is processor time since a moment: on a machine with other work it says
// more than the clock.
type use struct {
	who   int
	start time.Duration
}

func startUse(who int) use { return use{who, processorTime(who)} }

func processorTime(who int) time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(who, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func (u use) report(b *testing.B, modules int) {
	n := float64(modules * b.N)
	b.ReportMetric(n/b.Elapsed().Seconds(), "modules/s")
	b.ReportMetric(float64((processorTime(u.who)-u.start).Microseconds())/n, "cpu-µs/module")
}

// BenchmarkModuleTree judges a whole tree, the kernel's image included.
func BenchmarkModuleTree(b *testing.B) {
	root, files := benchTree(b)
	used := startUse(syscall.RUSAGE_SELF)
	for b.Loop() {
		j := &judging{mode: modsig.Lockdown, now: time.Now(), kernels: &moduleKernels{root: root, seen: map[string]*moduleKernel{}}}
		if err := j.judgeAll(b.Context(), files, func(r moduleResult) error {
			if !r.clean {
				b.Errorf("%s: %s", r.File, r.Verdict)
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	used.report(b, len(files))
}

// BenchmarkModuleFloor is the least that must be done for the same tree: read
// each file, hash it, verify one RSA signature of the build key's length.
func BenchmarkModuleFloor(b *testing.B) {
	root, files := benchTree(b)
	images, _ := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	im, err := readImage(images[0])
	if err != nil {
		b.Fatal(err)
	}
	key := im.Builtin[0].PublicKey.(*rsa.PublicKey)
	used := startUse(syscall.RUSAGE_SELF)
	for b.Loop() {
		var next atomic.Int64
		var wg sync.WaitGroup
		for range runtime.GOMAXPROCS(0) {
			wg.Go(func() {
				var buf []byte
				for {
					i := int(next.Add(1)) - 1
					if i >= len(files) {
						return
					}
					file, err := readInto(buf, files[i], modsig.MaxModule)
					if err != nil {
						b.Error(err)
						return
					}
					buf = file
					a := modsig.Split(file)
					sum := sha256.Sum256(a.Content)
					if rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], a.Signature[len(a.Signature)-key.Size():]) != nil {
						b.Error(files[i])
					}
				}
			})
		}
		wg.Wait()
	}
	used.report(b, len(files))
}

// BenchmarkModuleOpenSSL asks openssl about fifty of the same modules, one
// process a file, as a script would.
func BenchmarkModuleOpenSSL(b *testing.B) {
	root, files := benchTree(b)
	images, _ := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	im, err := readImage(images[0])
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	cert := filepath.Join(dir, "cert.pem")
	if err := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: im.Builtin[0].Raw}), 0o600); err != nil {
		b.Fatal(err)
	}
	const sample = 50
	for i := range sample {
		file, err := readBounded(files[i*len(files)/sample], modsig.MaxModule)
		if err != nil {
			b.Fatal(err)
		}
		a := modsig.Split(file)
		for name, data := range map[string][]byte{"sig": a.Signature, "body": a.Content} {
			if err := os.WriteFile(fmt.Sprintf("%s/%s%d", dir, name, i), data, 0o600); err != nil {
				b.Fatal(err)
			}
		}
	}
	used := startUse(syscall.RUSAGE_CHILDREN)
	for b.Loop() {
		for i := range sample {
			if err := exec.Command("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", fmt.Sprintf("%s/sig%d", dir, i),
				"-content", fmt.Sprintf("%s/body%d", dir, i), "-certfile", cert, "-noverify", "-out", os.DevNull).Run(); err != nil {
				b.Fatal(err)
			}
		}
	}
	used.report(b, sample)
}
