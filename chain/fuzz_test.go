package chain

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

func seeds(f *testing.F) {
	p := newPKI(f, "Fuzz", "www.fuzz.test", "p256", 1)
	for _, d := range dresses {
		f.Add(d.f(p.ders(), pemOf(p.ders()...)))
	}
	files, err := filepath.Glob(filepath.Join(corpusDir, "*", "chain.*"))
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		if b, err := os.ReadFile(name); err == nil {
			f.Add(b)
		}
	}
}

// FuzzRead: no input breaks the reader; what it takes for whole certificates
// reads back from canonical PEM as the same certificates and without a note.
func FuzzRead(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		file := Read(data, "")
		var whole []*Cert
		for i, c := range file.Certs {
			if c.Index != i {
				t.Fatalf("certificate %d thinks it is %d", i, c.Index)
			}
			if c.Place.Byte > len(data) || c.Place.Line > len(data)+1 {
				t.Fatalf("place %+v in %d bytes", c.Place, len(data))
			}
			if c.X != nil {
				whole = append(whole, c)
			}
		}
		out := Encode(whole)
		again := Read(out, "")
		if len(whole) > 0 && (len(again.Certs) != len(whole) || len(again.notes) > 0 || len(again.Items) > 0) {
			t.Fatalf("%d certificates become %d, notes %v", len(whole), len(again.Certs), again.notes)
		}
		if !bytes.Equal(Encode(again.Certs), out) {
			t.Fatal("canonical PEM does not read back as itself")
		}
	})
}

// FuzzCheck: no input breaks the diagnosis, and what the fixer writes the
// checker calls clean.
func FuzzCheck(f *testing.F) {
	seeds(f)
	roots, pool := NewRoots(nil), NewPool(nil)
	if b, err := os.ReadFile(filepath.Join(corpusDir, "trust/r1.pem")); err == nil {
		roots = NewRoots(ReadBundle(b))
	}
	if files, err := filepath.Glob(filepath.Join(corpusDir, "pool/*")); err == nil {
		var certs []*Cert
		for _, name := range files {
			if b, err := os.ReadFile(name); err == nil {
				certs = append(certs, ReadBundle(b)...)
			}
		}
		pool = NewPool(certs)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o := Options{Name: "www.corpus.test", Time: testNow, Roots: roots, Pool: pool}
		r := Check("x", data, o)
		if r.Verdict == OK && len(r.file.Certs) == 0 {
			t.Fatal("a file without certificates is called good")
		}
		if len(r.Repair.Chain) == 0 {
			return
		}
		fixed, err := Fix(r, o)
		if err != nil {
			t.Fatalf("a repair is proposed and not to be had: %v after %v", err, r.Codes())
		}
		if again := Check("x", fixed, o); again.Verdict == Error || len(again.Repair.Chain) != len(r.Repair.Chain) {
			t.Fatalf("what was written is called %v", again.Codes())
		}
	})
}

// FuzzPKCS7: whatever comes out of a container is inside it, after toDER.
func FuzzPKCS7(f *testing.F) {
	p := newPKI(f, "Fuzz", "www.fuzz.test", "p256", 1)
	f.Add(pkcs7Of(p.ders(), false))
	f.Add(pkcs7Of(p.ders(), true))
	f.Fuzz(func(t *testing.T, data []byte) {
		certs, _ := certsInPKCS7(data)
		n := 0
		for _, c := range certs {
			n += len(c)
		}
		if n > 2*len(data)+64 {
			t.Fatalf("%d bytes of certificates in %d", n, len(data))
		}
		if der, err := toDER(data); err == nil {
			if again, err := toDER(der); err != nil || !bytes.Equal(again, der) {
				t.Fatalf("DER is not DER: %v", err)
			}
		}
	})
}

func FuzzPKCS12(f *testing.F) {
	p := newPKI(f, "Fuzz", "www.fuzz.test", "p256", 1)
	pfx, err := pkcs12.LegacyRC2.Encode(p.leaf.key, p.leaf.cert, nil, "x")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pfx)
	f.Fuzz(func(_ *testing.T, data []byte) { Read(data, "x") })
}

// FuzzJKS: certificates lie inside the keystore.
func FuzzJKS(f *testing.F) {
	f.Add([]byte("\xFE\xED\xFE\xED\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x02\x00\x01a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05X.509\x00\x00\x00\x03\x30\x01\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if !isJKS(data) {
			return
		}
		n := 0
		for _, e := range entriesInJKS(data) {
			for _, c := range e.certs {
				n += len(c)
			}
			unlockJKS(e.locked, "x")
		}
		if n > len(data) {
			t.Fatalf("%d bytes of certificates in %d", n, len(data))
		}
	})
}

func FuzzConstraints(f *testing.F) {
	f.Add([]byte{0x30, 0x0A, 0xA0, 0x08, 0x30, 0x06, 0x82, 0x04, 't', 'e', 's', 't'}, []byte("www.test"))
	f.Fuzz(func(_ *testing.T, der, name []byte) {
		s, err := parseConstraints(der)
		if err != nil {
			return
		}
		for tag := range 9 {
			s.refuses(generalName{tag, name})
		}
	})
}

// FuzzCRL: no list breaks the check, and what is no list decides nothing.
func FuzzCRL(f *testing.F) {
	p := newPKI(f, "Lists", "www.lists.test", "p256", 1)
	f.Add(crlOf(f, p.issuer(), 5, 0, nil, time.Hour))
	f.Add(crlOf(f, p.issuer(), 7, 5, wrapTLV(0x83, []byte{6, 0x40}), time.Hour))
	file := []byte(pemOf(p.ders()...))
	o := p.options("www.lists.test")
	f.Fuzz(func(t *testing.T, data []byte) {
		o := o
		o.CRLs = [][]byte{data}
		r := Check("x", file, o)
		if _, err := parseCRL(data); err != nil && r.Verdict == OK && !looksLikeText(data) {
			t.Fatal("something that is no list leaves nothing open")
		}
	})
}

// FuzzLenient: a certificate that is read leniently stays the bytes it was.
func FuzzLenient(f *testing.F) {
	p := newPKI(f, "Odd", "www.odd.test", "p256", 1)
	for _, d := range p.ders() {
		f.Add(d)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		if x := parseLenient(data); x != nil && !bytes.Equal(x.Raw, data) {
			t.Fatal("another certificate")
		}
		if !bytes.Equal(before, data) {
			t.Fatal("the input was changed")
		}
	})
}
