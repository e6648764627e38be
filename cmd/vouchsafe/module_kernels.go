package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/vouchsafe/vouchsafe/modsig"
)

// moduleKernels finds the kernel that a module is for, and reads each image once.
type moduleKernels struct {
	root     string // where /boot and /lib/modules are
	enrolled []*x509.Certificate
	given    []*moduleKernel // --kernel

	forbidden *modsig.Forbidden

	mu   sync.Mutex // guards seen
	seen map[string]*moduleKernel
}

// moduleKernel is one kernel, or the lack of its image. The fields are set when
// ready is closed.
type moduleKernel struct {
	ready chan struct{}
	judge *modsig.Kernel
	image string // path; empty when there is none
	err   error  // why the image cannot be used
}

// find returns the kernel of that release, which may still be being read:
// wait for ready. near is a module's path: an
// unpacked package or a staged initramfs brings its own /boot.
func (ks *moduleKernels) find(release, near string) *moduleKernel {
	for _, k := range ks.given {
		if k.judge.Release == release {
			return k
		}
	}
	if len(ks.given) == 1 {
		return ks.given[0] // the person asked about this kernel: "built for another" is the answer
	}
	// This system's own kernel comes first: whoever brings a module must not
	// bring the kernel to judge it by, too, unless there is no other.
	roots, key := []string{ks.root}, release
	if r, _, ok := splitModulesPath(near); ok && filepath.Clean(r) != filepath.Clean(ks.root) {
		roots, key = append(roots, r), release+"\x00"+r
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	k := ks.seen[key]
	if k == nil {
		k = &moduleKernel{ready: make(chan struct{})}
		ks.seen[key] = k
		// Whoever asked waits for ready, always.
		go func() {
			defer close(k.ready)
			k.load(release, roots, ks.enrolled)
			k.judge.Forbid(ks.forbidden)
		}()
	}
	return k
}

// others are the kernels given, to recognise a genuine module of another.
func (ks *moduleKernels) others() (out []*modsig.Kernel) {
	for _, k := range ks.given {
		out = append(out, k.judge)
	}
	return out
}

func (k *moduleKernel) load(release string, roots []string, enrolled []*x509.Certificate) {
	if release != "" && release == filepath.Base(release) {
		for _, root := range roots {
			for _, name := range []string{"boot/vmlinuz-" + release, "lib/modules/" + release + "/vmlinuz", "usr/lib/modules/" + release + "/vmlinuz"} {
				path := filepath.Join(root, name)
				if _, err := os.Stat(path); err == nil {
					k.read(path, release, enrolled)
					return
				}
			}
		}
	}
	k.err = fs.ErrNotExist
	k.judge = modsig.NewKernel(release, modsig.AssumeFeatures(nil), nil, enrolled)
}

// read takes everything from an image and from what lies beside it.
func (k *moduleKernel) read(path, release string, enrolled []*x509.Certificate) {
	k.image = path
	im, err := readImage(path)
	if err != nil {
		k.err = err
		k.judge = modsig.NewKernel(release, modsig.AssumeFeatures(nil), nil, enrolled)
		return
	}
	if release == "" {
		release = im.Release
	}
	features := modsig.AssumeFeatures(im.Builtin)
	dir := filepath.Dir(path)
	for _, name := range []string{filepath.Join(dir, "config-"+release), filepath.Join(dir, "config")} {
		if b, err := readBounded(name, 1<<20); err == nil {
			features = modsig.ParseConfig(b)
			break
		}
	}
	k.judge = modsig.NewKernel(release, features, im.Builtin, enrolled)
	for _, modules := range []string{filepath.Join(dir, "../lib/modules", release, "kernel"), filepath.Join(dir, "kernel")} {
		if own := someModules(modules); len(own) > 0 {
			for _, e := range own {
				k.judge.Learn(e)
			}
			break
		}
	}
}

func readImage(path string) (*modsig.Image, error) {
	b, err := readBounded(path, maxImageFile)
	if err != nil {
		return nil, err
	}
	return modsig.ReadImage(b)
}

// maxImageFile bounds a kernel image on disk: Debian's have 8 to 14 MB.
const maxImageFile = 512 << 20

// ownModules is how many of a kernel's modules are read to know the versions of its
// symbols. Of 3,870 modules of Debian's other 6.12 that the cloud kernel refuses for
// a symbol, 32 of its own tell 3,757; the 123 first of every directory told fewer.
const ownModules = 32

// someModules returns what modules from all over dir say of their kernel.
func someModules(dir string) (own []modsig.ELFInfo) {
	var paths []string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && isModuleName(path) {
			paths = append(paths, path)
		}
		return nil
	})
	for i := range min(ownModules, len(paths)) {
		file, err := readBounded(paths[i*len(paths)/min(ownModules, len(paths))], modsig.MaxModule)
		if err == nil {
			file, err = modsig.Decompress(file, nil)
		}
		if err != nil {
			continue
		}
		if e, err := modsig.ReadELF(modsig.Split(file).Content); err == nil && e.HasLayoutCRC {
			own = append(own, e)
		}
	}
	return own
}

// splitModulesPath cuts …/lib/modules/RELEASE/… into what stands before lib and the release.
func splitModulesPath(path string) (root, release string, ok bool) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", "", false
	}
	before, after, ok := strings.Cut(abs, "/lib/modules/")
	if !ok {
		return "", "", false
	}
	release, _, _ = strings.Cut(after, "/")
	before = strings.TrimSuffix(before, "/usr")
	if before == "" {
		before = "/"
	}
	return before, release, release != ""
}

// readBounded reads a regular file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	return readInto(nil, path, limit)
}

// readInto is readBounded over a buffer that is used again.
func readInto(buf []byte, path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|openNonblock, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case st.Size() > limit:
		return nil, fmt.Errorf("%s has %d bytes, over the limit of %d", path, st.Size(), limit)
	}
	b := bytes.NewBuffer(buf[:0])
	b.Grow(int(st.Size()) + bytes.MinRead)
	if _, err := b.ReadFrom(&boundedReader{f, limit + 1}); err != nil {
		return nil, err
	}
	if int64(b.Len()) > limit {
		return nil, fmt.Errorf("%s grew over the limit of %d bytes while it was read", path, limit)
	}
	return b.Bytes(), nil
}

type boundedReader struct {
	f    *os.File
	left int64
}

func (r *boundedReader) Read(p []byte) (int, error) {
	n, err := r.f.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if r.left <= 0 && err == nil {
		err = fmt.Errorf("over the limit")
	}
	return n, err
}

// readCertificates reads PEM or DER.
func readCertificates(path string) ([]*x509.Certificate, error) {
	b, err := readBounded(path, 1<<20)
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	if !bytes.Contains(b, []byte("-----BEGIN ")) {
		c, err := x509.ParseCertificate(b)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", path, err)
		}
		return append(out, c), nil
	}
	for len(b) > 0 {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", path, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("reading %s: no certificate in it", path)
	}
	return out, nil
}
