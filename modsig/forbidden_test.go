package modsig_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/modvariants"
	"github.com/vouchsafe/vouchsafe/modsig"
)

// dbxEntry makes an EFI signature list of one entry; kind as UEFI stores it.
func dbxEntry(kind string, data []byte) []byte {
	b := append([]byte(kind), make([]byte, 12+16)...)
	binary.LittleEndian.PutUint32(b[16:], uint32(28+16+len(data)))
	binary.LittleEndian.PutUint32(b[24:], uint32(16+len(data)))
	return append(b, data...)
}

const (
	kindX509    = "\xa1\x59\xc0\xa5\xe4\x94\xa7\x4a\x87\xb5\xab\x15\x5c\x2b\xf0\x72"
	kindSHA256  = "\x26\x16\xc4\xc1\x4c\x50\x92\x40\xac\xa9\x41\xf9\x36\x93\x43\x28"
	kindX509SHA = "\x92\xa4\xd2\x3b\xc0\x96\x79\x40\xb4\x20\xfc\xf9\x8e\xf1\x03\xed"
)

// TestForbidden: what test/modules asked of real kernels, and what kernels with
// CONFIG_SYSTEM_REVOCATION_LIST say they do.
func TestForbidden(t *testing.T) {
	f := fixtures(t)
	leaf, err := modsig.NewLeaf("leaf", f.keys.Leaf.Key.Public(), f.keys.CA.Cert, f.keys.CA.Key, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	content := modsig.Split(f.genuine).Content
	sign := func(p variants.Pair, embed ...*x509.Certificate) []byte {
		t.Helper()
		b, err := modsig.Sign(content, p.Key, p.Cert, modsig.SignOptions{Embed: embed})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	byLeaf, byRSA := sign(variants.Pair{Key: f.keys.Leaf.Key, Cert: leaf}, leaf), sign(f.keys.RSA)
	tbs := func(c *x509.Certificate) []byte { s := sha256.Sum256(c.RawTBSCertificate); return s[:] }
	file := func(b []byte) []byte { s := sha256.Sum256(b); return s[:] }
	timed := func(b []byte) []byte { return append(bytes.Clone(b), make([]byte, 16)...) }
	for _, c := range []struct {
		name       string
		module     []byte
		dbx        []byte
		revocation bool
		verdict    modsig.Verdict
		codes      string
		errno      string
		message    string
	}{
		{"nothing", byLeaf, nil, true, modsig.Valid, "", "", ""},
		{"another file", byLeaf, dbxEntry(kindSHA256, file(byRSA)), true, modsig.Valid, "", "", ""},
		{"the file", byLeaf, dbxEntry(kindSHA256, file(byLeaf)), false, modsig.RuledOut, "MODULE_HASH_FORBIDDEN", "EKEYREJECTED", "is blacklisted"},
		{"the content", byLeaf, dbxEntry(kindSHA256, file(content)), false, modsig.Valid, "", "", ""},
		{"the file, unsigned", content, dbxEntry(kindSHA256, file(content)), false, modsig.Unsigned, "MODULE_UNSIGNED", "EKEYREJECTED", "unsigned"},
		{"embedded, by bare hash", byLeaf, dbxEntry(kindX509SHA, tbs(leaf)), false, modsig.RuledOut, "MODULE_CERTIFICATE_FORBIDDEN", "EKEYREJECTED", "X.509: Cert"},
		{"embedded, by hash and time", byLeaf, dbxEntry(kindX509SHA, timed(tbs(leaf))), true, modsig.Valid, "MODULE_CERTIFICATE_REVOKED", "", ""},
		{"embedded, whole", byLeaf, dbxEntry(kindX509, leaf.Raw), false, modsig.Valid, "MODULE_CERTIFICATE_REVOKED", "", ""},
		{"embedded, whole, and the kernel looks", byLeaf, dbxEntry(kindX509, leaf.Raw), true, modsig.RuledOut, "MODULE_CERTIFICATE_FORBIDDEN", "EKEYREJECTED", ""},
		{"its CA, and the kernel looks", byLeaf, dbxEntry(kindX509, f.keys.CA.Cert.Raw), true, modsig.RuledOut, "MODULE_CERTIFICATE_FORBIDDEN", "EKEYREJECTED", ""},
		{"enrolled, by bare hash", byRSA, dbxEntry(kindX509SHA, tbs(f.keys.RSA.Cert)), false, modsig.RuledOut, "MODULE_CERTIFICATE_FORBIDDEN", "EKEYREJECTED", "unavailable key"},
		{"enrolled, whole", byRSA, dbxEntry(kindX509, f.keys.RSA.Cert.Raw), false, modsig.Valid, "MODULE_CERTIFICATE_REVOKED", "", ""},
		{"built in, by bare hash", f.genuine, dbxEntry(kindX509SHA, tbs(variants.Certificates(f.build)[0])), false, modsig.Valid, "MODULE_CERTIFICATE_REVOKED", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			forbidden, err := modsig.ParseForbidden(c.dbx)
			if err != nil {
				t.Fatal(err)
			}
			features := oldFeatures
			features.Revocation = c.revocation
			k := f.kernel(features, true)
			k.Forbid(forbidden)
			r := modsig.Check(c.module, k, modsig.Options{})
			o := r.Predict(modsig.Lockdown)
			codes := ""
			for _, f := range r.Findings {
				codes += f.Code
			}
			if r.Verdict != c.verdict || codes != c.codes || o.Errno != c.errno || !bytes.Contains([]byte(o.Message), []byte(c.message)) {
				t.Errorf("%s, %q, %q %q", r.Verdict, codes, o.Errno, o.Message)
			}
		})
	}
	if _, err := modsig.ParseForbidden([]byte{1, 2, 3}); err == nil {
		t.Error("what is no signature database was accepted")
	}
}

func FuzzParseForbidden(f *testing.F) {
	f.Add(dbxEntry(kindSHA256, make([]byte, 32)))
	f.Add(dbxEntry(kindX509SHA, make([]byte, 48)))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = modsig.ParseForbidden(b, b) })
}
