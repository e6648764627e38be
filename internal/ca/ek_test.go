package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"slices"
	"testing"
	"time"
)

var (
	ekNow = time.Date(2026, 11, 21, 20, 20, 8, 0, time.UTC)
	vTPM  = TPM{"id:00001014", "swtpm", "id:20191023", "2.0", 0, 164}
)

func testKeys(t *testing.T) (rsaKey, eccKey crypto.PublicKey) {
	t.Helper()
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return r.Public(), e.Public()
}

// TestEKCertificate compares each extension with those that swtpm_localca
// 0.7.1 made for the same TPM, byte for byte.
func TestEKCertificate(t *testing.T) {
	issuer, err := NewLocalCA("a local CA", ekNow)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, eccKey := testKeys(t)
	const (
		altName       = "3046a444304231163014060567810502010c0b69643a30303030313031343110300e060567810502020c05737774706d31163014060567810502030c0b69643a3230313931303233"
		specification = "3019301706056781050210310e300c0c03322e30020100020200a4"
		ekPurpose     = "30070605678105" + "0801"
	)
	for _, tc := range []struct {
		name     string
		key      crypto.PublicKey
		subject  string
		critical bool
		usage    string
	}{
		{"RSA", rsaKey, "web1:1234", false, "03020520"},
		{"ECC", eccKey, "web1:1234", false, "03020308"},
		{"no subject", rsaKey, "", true, "03020520"},
	} {
		der, err := issuer.IssueEK(EK{tc.key, tc.subject}, vTPM, ekNow)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.CheckSignatureFrom(issuer.Certificate); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if c.Subject.CommonName != tc.subject || !c.NotAfter.Equal(noExpiry) || c.Version != 3 || len(der) > 2048 {
			t.Errorf("%s: subject %q, not after %v, version %d, %d bytes", tc.name, c.Subject, c.NotAfter, c.Version, len(der))
		}
		want := map[string]struct {
			critical bool
			value    string
		}{
			"2.5.29.17": {tc.critical, altName},
			"2.5.29.9":  {false, specification},
			"2.5.29.37": {false, ekPurpose},
			"2.5.29.15": {true, tc.usage},
			"2.5.29.19": {true, "3000"},
		}
		for id, w := range want {
			i := slices.IndexFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.String() == id })
			if i < 0 {
				t.Errorf("%s: extension %s is absent", tc.name, id)
				continue
			}
			if e := c.Extensions[i]; e.Critical != w.critical || hex.EncodeToString(e.Value) != w.value {
				t.Errorf("%s: extension %s: critical %v, %x; want %v, %s", tc.name, id, e.Critical, e.Value, w.critical, w.value)
			}
		}
		if len(c.AuthorityKeyId) == 0 {
			t.Errorf("%s: no authority key identifier", tc.name)
		}
	}
}

func TestPlatformCertificate(t *testing.T) {
	issuer, err := NewLocalCA("a local CA", ekNow)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, _ := testKeys(t)
	der, err := issuer.IssuePlatform(EK{rsaKey, "web1"}, Platform{"vouchsafe", "QEMU", "7.2"}, ekNow)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.UnknownExtKeyUsage) != 1 || c.UnknownExtKeyUsage[0].String() != "2.23.133.8.2" {
		t.Errorf("extended key usage: %v", c.UnknownExtKeyUsage)
	}
	if _, err := issuer.IssuePlatform(EK{rsaKey, "web1"}, Platform{}, ekNow); err == nil {
		t.Error("a platform without a name was accepted")
	}
}

func TestEKThatIsNone(t *testing.T) {
	issuer, err := NewLocalCA("a local CA", ekNow)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := issuer.IssueEK(EK{Public: "a string"}, vTPM, ekNow); err == nil {
		t.Error("no key was accepted")
	}
}
