package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/secret"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func key(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// hierarchy makes a root and the authority for one purpose.
func hierarchy(t testing.TB, p Purpose) (*x509.Certificate, *Authority) {
	t.Helper()
	rootKey, interKey := key(t, elliptic.P384()), key(t, elliptic.P384())
	rootDER, err := NewRoot("test", rootKey, now)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(rootDER)
	if err != nil {
		t.Fatal(err)
	}
	der, err := NewIntermediate(root, rootKey, p, interKey.Public(), now)
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAuthority(p, der, interKey)
	if err != nil {
		t.Fatal(err)
	}
	return root, a
}

// book records intents, or refuses to.
type book struct {
	intents []Intent
	refuse  error
}

func (b *book) RecordIntent(_ context.Context, in Intent) error {
	if b.refuse != nil {
		return b.refuse
	}
	b.intents = append(b.intents, in)
	return nil
}

func name(kind, n string) *Name {
	return &Name{TrustDomain: "vouchsafe.test", Tenant: "default", Kind: kind, Name: n}
}

func issue(t testing.TB, a *Authority, p Profile, req Request) *x509.Certificate {
	t.Helper()
	prepared, err := a.Prepare(p, req, now)
	if err != nil {
		t.Fatal(err)
	}
	recorded, err := prepared.Record(t.Context(), &book{})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := recorded.Sign()
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestIssue issues one certificate of each profile and verifies it as its
// relying party would.
func TestIssue(t *testing.T) {
	for _, tt := range []struct {
		profile Profile
		kind    string
		dns     []string
		usage   x509.ExtKeyUsage
	}{
		{VMProfile, KindVM, []string{"web1.example.com"}, x509.ExtKeyUsageServerAuth},
		{ServiceProfile, KindService, []string{"localhost"}, x509.ExtKeyUsageServerAuth},
		{OperatorProfile, KindOperator, nil, x509.ExtKeyUsageClientAuth},
		{AgentProfile, KindAgent, nil, x509.ExtKeyUsageClientAuth},
		{ResidenceProfile, KindService, nil, x509.ExtKeyUsageAny},
	} {
		t.Run(tt.profile.Name, func(t *testing.T) {
			root, a := hierarchy(t, tt.profile.Purpose)
			b := &book{}
			prepared, err := a.Prepare(tt.profile, Request{Tenant: "default", PublicKey: key(t, elliptic.P384()).Public(), DNSNames: tt.dns, Name: name(tt.kind, "web1")}, now)
			if err != nil {
				t.Fatal(err)
			}
			recorded, err := prepared.Record(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			cert, err := recorded.Sign()
			if err != nil {
				t.Fatal(err)
			}
			if err := Verify(cert, a.Certificate, root, now, tt.usage); err != nil {
				t.Errorf("verifying: %v", err)
			}
			if got := sha256.Sum256(cert.RawTBSCertificate); len(b.intents) != 1 || b.intents[0].TBS != got || b.intents[0].Serial != SerialText(cert) {
				t.Error("what was recorded is not what was signed")
			}
			if n, err := NameOf(cert); err != nil || n != *name(tt.kind, "web1") {
				t.Errorf("it speaks for %v, %v", n, err)
			}
			if cert.SignatureAlgorithm != x509.ECDSAWithSHA384 {
				t.Errorf("signed with %v", cert.SignatureAlgorithm)
			}
		})
	}
}

// TestNoRecordNoSignature: when the intent cannot be recorded, nothing is signed.
func TestNoRecordNoSignature(t *testing.T) {
	_, a := hierarchy(t, VMIdentity)
	prepared, err := a.Prepare(VMProfile, Request{PublicKey: key(t, elliptic.P384()).Public(), Name: name(KindVM, "web1")}, now)
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk full")
	recorded, err := prepared.Record(t.Context(), &book{refuse: full})
	if !errors.Is(err, full) {
		t.Fatalf("got %v", err)
	}
	if cert, err := recorded.Sign(); err == nil || cert != nil {
		t.Error("it was signed all the same")
	}
}

func TestPrepareRefuses(t *testing.T) {
	_, a := hierarchy(t, VMIdentity)
	good := func() Request {
		return Request{PublicKey: key(t, elliptic.P384()).Public(), Name: name(KindVM, "web1")}
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	edPub, _, _ := ed25519.GenerateKey(rand.Reader)
	for _, tt := range []struct {
		name    string
		profile Profile
		change  func(*Request)
		want    string
	}{
		{"another authority's profile", ServiceProfile, func(*Request) {}, "does not issue it"},
		{"no name", VMProfile, func(r *Request) { r.Name = nil }, "wants the name of one vm"},
		{"another kind of name", VMProfile, func(r *Request) { r.Name = name(KindOperator, "root") }, "wants the name of one vm"},
		{"a name with a slash", VMProfile, func(r *Request) { r.Name = name(KindVM, "a/b") }, "no name"},
		{"a name with a capital", VMProfile, func(r *Request) { r.Name = name(KindVM, "Web1") }, "no name"},
		{"an RSA key", VMProfile, func(r *Request) { r.PublicKey = rsaKey.Public() }, "ECDSA"},
		{"an Ed25519 key", VMProfile, func(r *Request) { r.PublicKey = edPub }, "ECDSA"},
		{"P-224", VMProfile, func(r *Request) { r.PublicKey = key(t, elliptic.P224()).Public() }, "ECDSA"},
		{"no key", VMProfile, func(r *Request) { r.PublicKey = nil }, "ECDSA"},
		{"a year", VMProfile, func(r *Request) { r.Lifetime = 365 * day }, "lifetime"},
		{"a second", VMProfile, func(r *Request) { r.Lifetime = time.Second }, "lifetime"},
		{"negative", VMProfile, func(r *Request) { r.Lifetime = -day }, "lifetime"},
		{"a wildcard", VMProfile, func(r *Request) { r.DNSNames = []string{"*.example.com"} }, "no host name"},
		{"a newline in a name", VMProfile, func(r *Request) { r.DNSNames = []string{"a\nb"} }, "no host name"},
		{"33 names", VMProfile, func(r *Request) { r.DNSNames = strings.Split(strings.Repeat("a ", 32)+"a", " ") }, "more than 32"},
		{"an extension that is not the profile's", VMProfile, func(r *Request) {
			r.Extensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}}
		}, "has no extension"},
		{"an extension twice", VMProfile, func(r *Request) {
			e := pkix.Extension{Id: OIDAdmissionTier, Value: []byte{0x0c, 0}}
			r.Extensions = []pkix.Extension{e, e}
		}, "reading it back"},
		{"a critical extension of ours", VMProfile, func(r *Request) {
			r.Extensions = []pkix.Extension{{Id: OIDAdmissionTier, Critical: true, Value: []byte{0x0c, 0}}}
		}, "critical"},
		{"an extension of 5 KiB", VMProfile, func(r *Request) {
			r.Extensions = []pkix.Extension{{Id: OIDAdmissionTier, Value: make([]byte, 5<<10)}}
		}, "more than 4096"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := good()
			tt.change(&req)
			_, err := a.Prepare(tt.profile, req, now)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	req := good()
	if _, err := a.Prepare(VMProfile, req, a.Certificate.NotAfter.Add(time.Second)); err == nil {
		t.Error("an expired authority issued")
	}
	near := a.Certificate.NotAfter.Add(-time.Hour)
	if p, err := a.Prepare(VMProfile, req, near); err != nil || p.Intent.NotAfter.After(a.Certificate.NotAfter) {
		t.Errorf("a certificate outlives its issuer: %v", err)
	}
}

// TestPurposesDoNotMix: a certificate of one intermediate is nothing to those
// who trust another.
func TestPurposesDoNotMix(t *testing.T) {
	rootKey := key(t, elliptic.P384())
	rootDER, err := NewRoot("test", rootKey, now)
	if err != nil {
		t.Fatal(err)
	}
	root, _ := x509.ParseCertificate(rootDER)
	as := map[Purpose]*Authority{}
	for _, p := range Purposes() {
		k := key(t, elliptic.P384())
		der, err := NewIntermediate(root, rootKey, p, k.Public(), now)
		if err != nil {
			t.Fatal(err)
		}
		if as[p], err = NewAuthority(p, der, k); err != nil {
			t.Fatal(err)
		}
	}
	vm := issue(t, as[VMIdentity], VMProfile, Request{PublicKey: key(t, elliptic.P384()).Public(), Name: name(KindVM, "web1")})
	for _, p := range Purposes() {
		err := Verify(vm, as[p].Certificate, root, now, x509.ExtKeyUsageClientAuth)
		if (err == nil) != (p == VMIdentity) {
			t.Errorf("a VM's certificate where %s is trusted: %v", p, err)
		}
	}
	if _, err := NewAuthority(Operator, as[Operator].Certificate.Raw, key(t, elliptic.P384())); err == nil {
		t.Error("an authority took somebody else's key")
	}
	if _, err := NewAuthority(Operator, vm.Raw, key(t, elliptic.P384())); err == nil {
		t.Error("an end entity became an authority")
	}
}

// TestOpenSSLAgrees gives a chain, and a CRL, to openssl.
func TestOpenSSLAgrees(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("openssl is missing: apt-get install openssl")
		}
		t.Skip("openssl is missing: apt-get install openssl")
	}
	root, a := hierarchy(t, VMIdentity)
	cert := issue(t, a, VMProfile, Request{PublicKey: key(t, elliptic.P384()).Public(), Name: name(KindVM, "web1"), DNSNames: []string{"web1"}, IPs: []net.IP{net.IPv4(10, 0, 0, 1)}})
	dir := t.TempDir()
	write := func(file, kind string, der []byte) string {
		p := filepath.Join(dir, file)
		if err := os.WriteFile(p, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	rootFile, interFile, leaf := write("root", "CERTIFICATE", root.Raw), write("inter", "CERTIFICATE", a.Certificate.Raw), write("leaf", "CERTIFICATE", cert.Raw)
	at := now.Add(time.Hour).Unix()
	verify := func(more ...string) (string, error) {
		args := append([]string{"verify", "-x509_strict", "-attime", strconv.FormatInt(at, 10), "-CAfile", rootFile, "-untrusted", interFile}, more...)
		out, err := exec.Command(openssl, append(args, leaf)...).CombinedOutput()
		return string(out), err
	}
	if out, err := verify("-purpose", "sslserver"); err != nil {
		t.Errorf("openssl verify: %v\n%s", err, out)
	}
	empty, err := a.CRL(1, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := verify("-crl_check", "-CRLfile", write("crl1", "X509 CRL", empty)); err != nil {
		t.Errorf("openssl verify with an empty CRL: %v\n%s", err, out)
	}
	full, err := a.CRL(2, []Revocation{{SerialText(cert), now, KeyCompromise}}, now)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := verify("-crl_check", "-CRLfile", write("crl2", "X509 CRL", full)); err == nil || !strings.Contains(out, "revoked") {
		t.Errorf("openssl takes a revoked certificate: %v\n%s", err, out)
	}
}

func TestCRL(t *testing.T) {
	_, a := hierarchy(t, VMIdentity)
	der, err := a.CRL(7, []Revocation{{"4fab", now, PrivilegeWithdrawn}, {"01", now, Unspecified}}, now)
	if err != nil {
		t.Fatal(err)
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := crl.CheckSignatureFrom(a.Certificate); err != nil {
		t.Error(err)
	}
	if crl.Number.Int64() != 7 || len(crl.RevokedCertificateEntries) != 2 || crl.RevokedCertificateEntries[0].ReasonCode != 9 {
		t.Errorf("got number %v, %d entries", crl.Number, len(crl.RevokedCertificateEntries))
	}
	for _, bad := range []string{"", "0", "-1", "xyz"} {
		if _, err := a.CRL(8, []Revocation{{Serial: bad, At: now}}, now); err == nil {
			t.Errorf("serial %q was taken", bad)
		}
	}
	for r := range reasons {
		if got, err := ParseReason(r.String()); err != nil || got != r {
			t.Errorf("reason %v reads as %v, %v", r, got, err)
		}
	}
	if _, err := ParseReason("hold"); err == nil || !strings.Contains(err.Error(), "superseded") {
		t.Errorf("an unknown reason: %v", err)
	}
}

func TestOfflineKey(t *testing.T) {
	recovery, k := secret.Random(32), key(t, elliptic.P384())
	text, err := SealOffline(recovery, k)
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenOffline(recovery, text)
	if err != nil || !k.Equal(got.(crypto.PrivateKey)) {
		t.Errorf("opening: %v", err)
	}
	if _, err := OpenOffline(secret.Random(32), text); err == nil {
		t.Error("another recovery key opened it")
	}
	if _, err := OpenOffline(recovery, bytes.Replace(text, []byte("OFFLINE"), []byte("PRIVATE"), 2)); err == nil {
		t.Error("another kind of file was taken")
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("spiffe://vouchsafe.test/default/vm/web1")
	f.Add("spiffe://a/b/c/d?e#f")
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseName(s); err == nil && n.String() != s {
			t.Fatalf("%q reads as %q", s, n)
		}
	})
}

func BenchmarkIssue(b *testing.B) {
	_, a := hierarchy(b, VMIdentity)
	req := Request{PublicKey: key(b, elliptic.P384()).Public(), Name: name(KindVM, "web1")}
	for b.Loop() {
		issue(b, a, VMProfile, req)
	}
}
