package modules_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/modvariants"
	"github.com/vouchsafe/vouchsafe/modsig"
)

// neighbour finds a program, or skips with the line that installs it; CI has it.
func neighbour(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatalf("no %s: apt-get install %s", name, pkg)
	} else if err != nil {
		t.Skipf("no %s: apt-get install %s", name, pkg)
	}
	return path
}

func writeFile(t *testing.T, dir, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func keyFiles(t *testing.T, dir string, p variants.Pair) (key, cert string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	if err != nil {
		t.Fatal(err)
	}
	key = writeFile(t, dir, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	cert = writeFile(t, dir, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Cert.Raw}))
	return key, cert
}

// opensslVerifies asks openssl cms for its verdict on a module.
func opensslVerifies(t *testing.T, openssl string, file []byte, cert string) bool {
	t.Helper()
	dir := t.TempDir()
	a := modsig.Split(file)
	sig, body := writeFile(t, dir, "sig", a.Signature), writeFile(t, dir, "body", a.Content)
	return exec.Command(openssl, "cms", "-verify", "-binary", "-inform", "DER", "-in", sig, "-content", body,
		"-certfile", cert, "-noverify", "-out", os.DevNull).Run() == nil
}

// TestOpenSSLAgrees on what we sign and on what is damaged, and makes the same
// bytes itself for RSA.
func TestOpenSSLAgrees(t *testing.T) {
	openssl := neighbour(t, "openssl", "openssl")
	keys, err := variants.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	content := variants.ELF("dummy", "6.1.0-0-test SMP ")
	for _, p := range []variants.Pair{keys.RSA, keys.P256, keys.P384} {
		dir := t.TempDir()
		key, cert := keyFiles(t, dir, p)
		body := writeFile(t, dir, "body", content)
		for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			signed, err := modsig.Sign(content, p.Key, p.Cert, modsig.SignOptions{Hash: h})
			if err != nil {
				t.Fatal(err)
			}
			if !opensslVerifies(t, openssl, signed, cert) {
				t.Errorf("%s with %s: openssl refuses what we signed", p.Cert.Subject, modsig.HashName(h))
			}
			bad := bytes.Clone(signed)
			bad[100] ^= 1
			if opensslVerifies(t, openssl, bad, cert) {
				t.Errorf("%s with %s: openssl takes a flipped byte", p.Cert.Subject, modsig.HashName(h))
			}
			if p != keys.RSA {
				continue // ECDSA has a random number in it
			}
			out, err := exec.Command(openssl, "cms", "-sign", "-binary", "-noattr", "-nocerts", "-nosmimecap", "-md", modsig.HashName(h),
				"-in", body, "-signer", cert, "-inkey", key, "-outform", "DER").Output()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out, modsig.Split(signed).Signature) {
				t.Errorf("%s: openssl makes other bytes", modsig.HashName(h))
			}
		}
	}
}

// signFiles finds the kernel's own sign-file: installed, or unpacked beside the kernels.
func signFiles() (out []string) {
	for _, pattern := range []string{"/usr/lib/linux-kbuild-*/scripts/sign-file", os.Getenv("VOUCHSAFE_KERNELS") + "/*/usr/lib/linux-kbuild-*/scripts/sign-file"} {
		found, _ := filepath.Glob(pattern)
		out = append(out, found...)
	}
	return out
}

// TestSignFileSame wants the kernel's sign-file and the command line to make
// the same file from the same arguments.
func TestSignFileSame(t *testing.T) {
	tools := signFiles()
	if len(tools) == 0 {
		t.Skip("no sign-file: apt-get install linux-kbuild-6.1")
	}
	ours := filepath.Join(t.TempDir(), "vouchsafe")
	build := exec.Command("go", "build", "-o", ours, "./cmd/vouchsafe")
	build.Dir = "../.." // the program is of another module
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	keys, err := variants.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	content := variants.ELF("dummy", "6.1.0-0-test SMP ")
	for _, tool := range tools {
		for _, args := range []string{"sha256", "sha384", "sha512", "sha1", "-k sha256", "-p sha256", "-dp sha512"} {
			dir := t.TempDir()
			key, cert := keyFiles(t, dir, keys.RSA)
			run := func(name string, cmd ...string) (module, p7s []byte) {
				path := writeFile(t, dir, name, content)
				cmd = append(append(cmd, strings.Fields(args)...), key, cert, path)
				if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
					t.Fatalf("%s: %v\n%s", strings.Join(cmd, " "), err, out)
				}
				p7s, _ = os.ReadFile(path + ".p7s")
				return read(t, path), p7s
			}
			theirs, theirs7 := run("a.ko", tool)
			got, got7 := run("b.ko", ours, "sign-file")
			if !bytes.Equal(theirs, got) || !bytes.Equal(theirs7, got7) {
				t.Errorf("%s %s: other bytes (%d and %d, .p7s %d and %d)", filepath.Base(filepath.Dir(filepath.Dir(tool))), args, len(theirs), len(got), len(theirs7), len(got7))
			}
		}
	}
}

// TestDistributionTrees verifies every module of every unpacked kernel
// package, asks openssl about every hundredth, and wants no damage unnoticed.
func TestDistributionTrees(t *testing.T) {
	root := os.Getenv("VOUCHSAFE_KERNELS")
	if root == "" {
		t.Skip("VOUCHSAFE_KERNELS is not set: apt-get download linux-image-cloud-amd64 linux-image-amd64, unpack with dpkg-deb -x, and name the directory")
	}
	images, _ := filepath.Glob(filepath.Join(root, "*/boot/vmlinuz-*"))
	for _, image := range images {
		release := strings.TrimPrefix(filepath.Base(image), "vmlinuz-")
		t.Run(release, func(t *testing.T) {
			im, err := modsig.ReadImage(read(t, image))
			if err != nil {
				t.Fatal(err)
			}
			if !im.Anchored || len(im.Builtin) != 1 || im.Release != release {
				t.Fatalf("%d certificates, anchored %t, release %s", len(im.Builtin), im.Anchored, im.Release)
			}
			dir := filepath.Dir(filepath.Dir(image))
			k := modsig.NewKernel(release, modsig.ParseConfig(read(t, filepath.Join(dir, "boot/config-"+release))), im.Builtin, nil)
			cert := writeFile(t, t.TempDir(), "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: im.Builtin[0].Raw}))
			n, asked, agreed, caught := 0, 0, 0, 0
			err = filepath.WalkDir(filepath.Join(dir, "lib/modules"), func(p string, d fs.DirEntry, err error) error {
				if err != nil || !strings.Contains(filepath.Base(p), ".ko") {
					return err
				}
				file, err := modsig.Decompress(read(t, p), nil)
				if err != nil {
					t.Errorf("%s: %v", p, err)
					return nil
				}
				r := modsig.Check(file, k, modsig.Options{Name: p, Now: time.Now()})
				if r.Verdict != modsig.Valid || !r.Clean(modsig.Lockdown) || len(r.Findings) > 0 || r.ELF.Release() != release {
					t.Errorf("%s: %s %v", p, r.Verdict, r.Findings)
				}
				if n++; n%100 != 0 {
					return nil
				}
				bad := bytes.Clone(file)
				bad[n%(len(bad)/2)] ^= 0x10
				if modsig.Check(bad, k, modsig.Options{}).Verdict == modsig.BadSignature {
					caught++
				}
				if openssl, err := exec.LookPath("openssl"); err == nil {
					asked++
					if opensslVerifies(t, openssl, file, cert) {
						agreed++
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d modules valid; openssl agrees on %d of %d; %d of %d damaged ones caught", n, agreed, asked, caught, n/100)
			if agreed != asked || caught != n/100 {
				t.Error("openssl or the damaged ones disagree")
			}
		})
	}
}
