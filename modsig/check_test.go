package modsig_test

import (
	"bytes"
	"crypto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/modvariants"
	"github.com/vouchsafe/vouchsafe/modsig"
)

const release = "6.1.0-0-test"

// fixture is a module signed by a stand-in for a build key, and every variant of it.
type fixture struct {
	release string
	keys    *variants.Keys
	build   variants.Pair
	genuine []byte
	files   map[string][]byte
}

var (
	makeKeys = sync.OnceValues(variants.NewKeys)
	made     sync.Map // release -> *fixture
)

func fixtures(t testing.TB) *fixture { return fixturesFor(t, release) }

func fixturesFor(t testing.TB, release string) *fixture {
	t.Helper()
	if f, ok := made.Load(release); ok {
		return f.(*fixture)
	}
	keys, err := makeKeys()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{release: release, keys: keys, build: keys.Build, files: map[string][]byte{}}
	content := variants.ELF("dummy", release+" SMP preempt mod_unload modversions ")
	if f.genuine, err = modsig.Sign(content, f.build.Key, f.build.Cert, modsig.SignOptions{}); err != nil {
		t.Fatal(err)
	}
	other, err := modsig.Sign(variants.ELF("dummy", "6.1.0-1-other SMP "), keys.Unknown.Key, keys.Unknown.Cert, modsig.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	files, err := variants.Make(f.genuine, other, keys)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range files {
		_, name, _ := strings.Cut(v.Name, "-")
		f.files[name] = v.Data
	}
	made.Store(release, f)
	return f
}

// oldFeatures are those of Debian's 6.1, newFeatures of its 6.12.
var (
	oldFeatures = modsig.Features{Hashes: []crypto.Hash{crypto.SHA1, crypto.SHA224, crypto.SHA256}, Versions: true}
	newFeatures = modsig.Features{Hashes: []crypto.Hash{crypto.SHA1, crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512,
		crypto.SHA3_256, crypto.SHA3_384, crypto.SHA3_512}, ECDSA: true, Versions: true}
)

func (f *fixture) kernel(features modsig.Features, enrolled bool) *modsig.Kernel {
	if !enrolled {
		return modsig.NewKernel(f.release, features, variants.Certificates(f.build), nil)
	}
	return modsig.NewKernel(f.release, features, variants.Certificates(f.build), f.keys.Enrolled())
}

func TestVerdicts(t *testing.T) {
	f := fixtures(t)
	for _, c := range []struct {
		file    string
		verdict modsig.Verdict
		codes   string
	}{
		{"genuine", modsig.Valid, ""},
		{"flip-content", modsig.BadSignature, "MODULE_BAD_SIGNATURE"},
		{"flip-signature", modsig.BadSignature, "MODULE_BAD_SIGNATURE"},
		{"truncated-content", modsig.BadSignature, "MODULE_BAD_SIGNATURE"},
		{"flip-asn1", modsig.Malformed, "MODULE_SIGNATURE_MALFORMED"},
		{"siglen-too-big", modsig.Malformed, "MODULE_SIGNATURE_MALFORMED"},
		{"nonzero-params", modsig.Malformed, "MODULE_SIGNATURE_MALFORMED"},
		{"unsigned", modsig.Unsigned, "MODULE_UNSIGNED"},
		{"trailing-byte", modsig.Unsigned, "MODULE_TRAILING_BYTES"},
		{"idtype-pgp", modsig.Unsupported, "MODULE_SIGNATURE_UNSUPPORTED"},
		{"unknown-key", modsig.UnknownKey, "MODULE_UNKNOWN_KEY"},
		{"ours-sha1", modsig.Valid, "MODULE_SHA1"},
		{"ours-sha256", modsig.Valid, ""},
		{"ours-sha512", modsig.Unsupported, "MODULE_SIGNATURE_UNSUPPORTED"},
		{"ours-p256", modsig.UnknownKey, "MODULE_UNKNOWN_KEY"},
		{"ours-p384", modsig.Unsupported, "MODULE_SIGNATURE_UNSUPPORTED"},
		{"ours-expired", modsig.Valid, "MODULE_SIGNER_EXPIRED"},
		{"leaf-plain", modsig.UnknownKey, "MODULE_LEAF_NOT_EMBEDDED"},
		{"leaf-embedded", modsig.Valid, ""},
		{"leaf-embedded-flip", modsig.BadSignature, "MODULE_BAD_SIGNATURE"},
		{"impostor-embedded", modsig.UnknownKey, "MODULE_UNKNOWN_KEY"},
		{"leaf-embedded-cert-sha512", modsig.Unsupported, "MODULE_SIGNATURE_UNSUPPORTED"},
		{"leaf-below-intermediate", modsig.Valid, ""},
		{"leaf-without-intermediate", modsig.UnknownKey, "MODULE_UNKNOWN_KEY"},
		{"leaf-with-ca", modsig.Valid, ""},
		{"cms-trailing-byte", modsig.Valid, "MODULE_SIGNATURE_NOT_DER"},
		{"cms-ber-indefinite", modsig.Valid, "MODULE_SIGNATURE_NOT_DER"},
		{"signed-attributes", modsig.Unsupported, "MODULE_SIGNED_ATTRIBUTES"},
		{"rsa-pss", modsig.Unsupported, "MODULE_SIGNATURE_UNSUPPORTED"},
		{"two-signers-one-known", modsig.Valid, "MODULE_TWO_SIGNERS"},
		{"other-kernel", modsig.WrongKernel, "MODULE_OTHER_KERNEL"},
		{"not-elf", modsig.Malformed, "MODULE_NOT_ELF"},
	} {
		t.Run(c.file, func(t *testing.T) {
			r := modsig.Check(f.files[c.file], f.kernel(oldFeatures, true), modsig.Options{Name: c.file, Now: time.Now()})
			var codes []string
			for _, x := range r.Findings {
				codes = append(codes, x.Code)
			}
			if got := strings.Join(codes, " "); r.Verdict != c.verdict || got != c.codes {
				t.Errorf("got %s [%s], want %s [%s]", r.Verdict, got, c.verdict, c.codes)
			}
		})
	}
}

// TestSignedVerifies signs with every kind of key and hash that the kernel knows.
func TestSignedVerifies(t *testing.T) {
	f := fixtures(t)
	for _, p := range []variants.Pair{f.keys.RSA, f.keys.P256, f.keys.P384} {
		for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			out, err := modsig.Sign(modsig.Split(f.genuine).Content, p.Key, p.Cert, modsig.SignOptions{Hash: h})
			if err != nil {
				t.Fatal(err)
			}
			r := modsig.Check(out, f.kernel(newFeatures, true), modsig.Options{Now: time.Now()})
			if r.Verdict != modsig.Valid || !r.Clean(modsig.Lockdown) {
				t.Errorf("%s with %v: %s %+v", p.Cert.Subject, h, r.Verdict, r.Findings)
			}
		}
	}
}

func TestSignRefuses(t *testing.T) {
	f := fixtures(t)
	for name, err := range map[string]error{
		"Ed25519":           second(modsig.Sign(nil, f.keys.Ed25519.Key, f.keys.Ed25519.Cert, modsig.SignOptions{})),
		"another's key":     second(modsig.Sign(nil, f.keys.RSA.Key, f.keys.Leaf.Cert, modsig.SignOptions{})),
		"MD5":               second(modsig.Sign(nil, f.keys.RSA.Key, f.keys.RSA.Cert, modsig.SignOptions{Hash: crypto.MD5})),
		"ECDSA with SHA3":   second(modsig.Sign(nil, f.keys.P384.Key, f.keys.P384.Cert, modsig.SignOptions{Hash: crypto.SHA3_256})),
		"a giant signature": second(modsig.Append(nil, make([]byte, modsig.MaxSignature+1))),
	} {
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func second(_ []byte, err error) error { return err }

func TestCMSRoundTrip(t *testing.T) {
	for name, file := range fixtures(t).files {
		a := modsig.Split(file)
		m, err := modsig.ParseCMS(a.Signature)
		if err != nil {
			continue
		}
		if again, err := m.Marshal(); err != nil || !bytes.Equal(again, a.Signature) {
			t.Errorf("%s: reading and writing gives other bytes (%v)", name, err)
		}
	}
}
