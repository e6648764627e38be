package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
	variants "github.com/vouchsafe/vouchsafe/internal/modvariants"
	"github.com/vouchsafe/vouchsafe/modsig"
)

// buildKeys are made once for all scripts.
var buildKeys = sync.OnceValues(variants.NewKeys)

// mkKernel DIR RELEASE makes what a kernel package installs: an image with a
// build key, its configuration, and under lib/modules every variant of a
// module that the key has signed, by its name.
func mkKernel(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mkkernel DIR RELEASE")
	}
	root, release := ts.MkAbs(args[0]), args[1]
	keys, err := buildKeys()
	ts.Check(err)
	image, err := variants.Image(release, "zstd", []*x509.Certificate{keys.Build.Cert})
	ts.Check(err)
	write := func(name string, b []byte) {
		path := filepath.Join(root, name)
		ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
		ts.Check(os.WriteFile(path, b, 0o644))
	}
	write("boot/vmlinuz-"+release, image)
	write("boot/config-"+release, []byte("CONFIG_CRYPTO_SHA1=y\nCONFIG_CRYPTO_SHA256=y\nCONFIG_MODVERSIONS=y\n"))
	content := variants.ELF("dummy", release+" SMP preempt mod_unload modversions ")
	genuine, err := modsig.Sign(content, keys.Build.Key, keys.Build.Cert, modsig.SignOptions{})
	ts.Check(err)
	write("lib/modules/"+release+"/kernel/dummy.ko", genuine)
	files, err := variants.Make(genuine, nil, keys)
	ts.Check(err)
	for _, f := range files {
		_, name, _ := strings.Cut(f.Name, "-")
		write("variants/"+name+".ko", f.Data)
	}
	for name, c := range map[string]modsig.Compression{"xz": modsig.XZ, "gz": modsig.Gzip, "zst": modsig.Zstd} {
		b, err := modsig.Compress(genuine, c)
		ts.Check(err)
		write("stored/dummy.ko."+name, b)
	}
}

// mkKey NAME writes a self-signed key for modules to NAME.key and NAME.crt.
func mkKey(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mkkey NAME")
	}
	keys, err := buildKeys()
	ts.Check(err)
	der, err := x509.MarshalPKCS8PrivateKey(keys.RSA.Key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: keys.RSA.Cert.Raw}), 0o644))
}

// mkDBX FILE MODULE writes a firmware's dbx that forbids the module, as efivarfs shows it.
func mkDBX(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mkdbx FILE MODULE")
	}
	module, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	sum := sha256.Sum256(module)
	b := []byte{0x27, 0, 0, 0} // the variable's attributes
	b = append(b, 0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28)
	for _, n := range []uint32{28 + 16 + 32, 0, 16 + 32} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	b = append(append(b, make([]byte, 16)...), sum[:]...)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o644))
}
