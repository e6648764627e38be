package modsig_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/modvariants"
	"github.com/vouchsafe/vouchsafe/modsig"
)

// FuzzCMS: what is accepted is written again as the same bytes.
func FuzzCMS(f *testing.F) {
	for _, file := range fixtures(f).files {
		f.Add(modsig.Split(file).Signature)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := modsig.ParseCMS(b)
		if err != nil {
			return
		}
		again, err := m.Marshal()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("reading and writing gives other bytes: %v\n %x\n %x", err, b, again)
		}
	})
}

// FuzzCheck: any file has a verdict, and one that loads cleanly is signed.
func FuzzCheck(f *testing.F) {
	fix := fixtures(f)
	for _, file := range fix.files {
		f.Add(file)
	}
	k := fix.kernel(newFeatures, true)
	now := time.Now()
	f.Fuzz(func(t *testing.T, b []byte) {
		r := modsig.Check(b, k, modsig.Options{Name: "x", Now: now})
		for _, m := range modsig.Modes {
			o := r.Predict(m)
			if o.Loads == (o.Errno != "") {
				t.Errorf("%s: loads %t with errno %q", m, o.Loads, o.Errno)
			}
			if m != modsig.Off && o.Loads && !modsig.Split(b).Signed {
				t.Errorf("%s: an unsigned file loads", m)
			}
		}
		if (r.Verdict == modsig.Valid) != (r.Predict(modsig.Enforce).Loads) && r.Verdict != modsig.WrongKernel {
			t.Errorf("%s, and the kernel: %+v", r.Verdict, r.Predict(modsig.Enforce))
		}
	})
}

func FuzzReadELF(f *testing.F) {
	f.Add(variants.ELF("dummy", "6.1 SMP "))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = modsig.ReadELF(b) })
}

// FuzzReadImage: time and memory stay bounded whatever the payload claims.
func FuzzReadImage(f *testing.F) {
	for _, c := range []string{"gzip", "xz", "lz4", "zstd", ""} {
		b, err := variants.Image("6.1", c, variants.Certificates(fixtures(f).build))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 1<<20 {
			_, _ = modsig.ReadImage(b)
		}
	})
}

func FuzzDecompress(f *testing.F) {
	for _, c := range []modsig.Compression{modsig.Gzip, modsig.XZ, modsig.Zstd} {
		b, err := modsig.Compress(fixtures(f).genuine, c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 1<<16 {
			_, _ = modsig.Decompress(b, nil)
		}
	})
}

func FuzzSignatureList(f *testing.F) {
	f.Add(signatureList(fixtures(f).keys.CA.Cert.Raw))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = modsig.ParseSignatureList(b) })
}
