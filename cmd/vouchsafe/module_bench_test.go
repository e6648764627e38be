package main

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
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

// BenchmarkModuleTree judges a whole tree, the kernel's image included.
func BenchmarkModuleTree(b *testing.B) {
	root, files := benchTree(b)
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
	b.ReportMetric(float64(len(files)*b.N)/b.Elapsed().Seconds(), "modules/s")
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
	b.ReportMetric(float64(len(files)*b.N)/b.Elapsed().Seconds(), "modules/s")
}
