package verifier

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/statement"
)

type noRecord struct{}

func (noRecord) RecordIntent(context.Context, ca.Intent) error         { return nil }
func (noRecord) RecordIssued(context.Context, *x509.Certificate) error { return nil }

// TestVerifyResult: what the service's verifier signed holds, and nothing that
// anybody else signed whose certificate leads to the same root.
func TestVerifyResult(t *testing.T) {
	now := time.Now()
	newKey := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	service := func(domain string) (*x509.Certificate, *ca.Office) {
		rootKey := newKey()
		der, err := ca.NewRoot(domain, rootKey, now)
		if err != nil {
			t.Fatal(err)
		}
		root, _ := x509.ParseCertificate(der)
		var as []*ca.Authority
		for _, p := range ca.Purposes() {
			k := newKey()
			der, err := ca.NewIntermediate(root, rootKey, p, k.Public(), now)
			if err != nil {
				t.Fatal(err)
			}
			a, err := ca.NewAuthority(p, der, k)
			if err != nil {
				t.Fatal(err)
			}
			as = append(as, a)
		}
		o, err := ca.NewOffice(root, noRecord{}, func() time.Time { return now }, as...)
		if err != nil {
			t.Fatal(err)
		}
		return root, o
	}
	root, office := service("one.test")
	otherRoot, otherOffice := service("one.test")
	signer := func(o *ca.Office, p ca.Profile, kind, name string) enroll.Signer {
		k := newKey()
		c, err := o.Issue(t.Context(), p, ca.Request{PublicKey: k.Public(), Name: &ca.Name{TrustDomain: "one.test", Tenant: "service", Kind: kind, Name: name}})
		if err != nil {
			t.Fatal(err)
		}
		chain, _ := o.Chain(p.Purpose)
		return enroll.Signer{Key: k, Chain: append([]*x509.Certificate{c}, chain...)}
	}
	claims := `{"iss":"one.test","sub":"spiffe://one.test/default/vm/web1","iat":` + itoa(now.Unix()) + `,"submods":{"vtpm":{"ear_status":"affirming"}}}`
	token := func(s enroll.Signer, typ, payload string) string {
		signed, err := statement.Sign(typ, []byte(payload), s.Key, s.Chain...)
		if err != nil {
			t.Fatal(err)
		}
		text, err := statement.Compact(signed)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	ours := signer(office, ca.ResidenceProfile, ca.KindService, SignerName)
	good := token(ours, ResultType, claims)
	r, err := VerifyResult(good, root, now)
	if err != nil || r.Status != "affirming" || r.Subject != "spiffe://one.test/default/vm/web1" || string(r.Claims) != claims {
		t.Fatalf("%+v, %v", r, err)
	}
	parts := strings.Split(good, ".")
	other := []byte(parts[1])
	other[10] ^= 'a' ^ 'b' // some other letter of the alphabet
	if other[10] < '0' {
		other[10] = 'x'
	}
	changed := parts[0] + "." + string(other) + "." + parts[2]
	for name, text := range map[string]string{
		"signed by a VM":                       token(signer(office, ca.VMProfile, ca.KindVM, "web1"), ResultType, claims),
		"signed by a VM called verifier":       token(signer(office, ca.VMProfile, ca.KindVM, SignerName), ResultType, claims),
		"signed by the residence signer":       token(signer(office, ca.ResidenceProfile, ca.KindService, "residence"), ResultType, claims),
		"signed by an operator":                token(signer(office, ca.OperatorProfile, ca.KindOperator, SignerName), ResultType, claims),
		"signed by another service":            token(signer(otherOffice, ca.ResidenceProfile, ca.KindService, SignerName), ResultType, claims),
		"a statement of another type":          token(ours, enroll.ResidenceType, claims),
		"for another issuer":                   token(ours, ResultType, strings.Replace(claims, `"iss":"one.test"`, `"iss":"two.test"`, 1)),
		"without a status":                     token(ours, ResultType, strings.Replace(claims, "vtpm", "x", 1)),
		"from tomorrow":                        token(ours, ResultType, strings.Replace(claims, itoa(now.Unix()), itoa(now.Add(24*time.Hour).Unix()), 1)),
		"from before the signer's certificate": token(ours, ResultType, strings.Replace(claims, itoa(now.Unix()), itoa(now.Add(-24*time.Hour).Unix()), 1)),
		"changed":                              changed,
		"without a signature":                  parts[0] + "." + parts[1] + ".",
		"two parts":                            parts[0] + "." + parts[1],
		"nothing":                              "",
		"endless":                              strings.Repeat("a", 1<<20),
	} {
		if _, err := VerifyResult(text, root, now); err == nil {
			t.Errorf("%s: it holds", name)
		}
	}
	if _, err := VerifyResult(good, otherRoot, now); err == nil {
		t.Error("it holds under another service's root")
	}
}

// TestLargestResult: what an appraisal may find, the verifier can sign, a relying
// party can read, and a guest gets.
func TestLargestResult(t *testing.T) {
	now := time.Now()
	root, signer := onlySigner(t, now)
	v := New(Config{Issuer: "one.test", Results: func(context.Context) (enroll.Signer, error) { return signer, nil }})
	r := attest.Result{Time: now, Status: attest.Warning, Boot: &attest.Boot{}}
	for left := attest.MaxLoadedNames; len(r.Boot.Modules) < attest.MaxLoadedModules; {
		name := strings.Repeat("<", left/(attest.MaxLoadedModules-len(r.Boot.Modules))) // six letters in JSON
		left -= len(name)
		r.Boot.Modules = append(r.Boot.Modules, attest.LoadedModule{Name: name, Alg: "sha512", Digest: make([]byte, 64)})
	}
	claims, err := r.EAR("test", "one.test", "spiffe://one.test/default/vm/web1")
	if err != nil {
		t.Fatal(err)
	}
	token, err := v.signResult(t.Context(), claims)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := VerifyResult(token, root, now); err != nil || len(got.Claims) != len(claims) {
		t.Errorf("%d bytes of %d: %v", len(got.Claims), len(claims), err)
	}
	if len(token)+len(claims) > 4<<20-64<<10 {
		t.Errorf("%d bytes, more than an agent reads", len(token)+len(claims))
	}
}

// onlySigner is the verifier's signer of a service that has nothing else.
func onlySigner(t *testing.T, now time.Time) (*x509.Certificate, enroll.Signer) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var keys [3]*ecdsa.PrivateKey
	for i := range keys {
		var err error
		keys[i], err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		must(err)
	}
	der, err := ca.NewRoot("one.test", keys[0], now)
	must(err)
	root, err := x509.ParseCertificate(der)
	must(err)
	der, err = ca.NewIntermediate(root, keys[0], ca.Residence, keys[1].Public(), now)
	must(err)
	a, err := ca.NewAuthority(ca.Residence, der, keys[1])
	must(err)
	o, err := ca.NewOffice(root, noRecord{}, func() time.Time { return now }, a)
	must(err)
	c, err := o.Issue(t.Context(), ca.ResidenceProfile, ca.Request{PublicKey: keys[2].Public(), Name: &ca.Name{TrustDomain: "one.test", Tenant: "service", Kind: ca.KindService, Name: SignerName}})
	must(err)
	return root, enroll.Signer{Key: keys[2], Chain: []*x509.Certificate{c, a.Certificate}}
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// FuzzVerifyResult is what a relying party may be handed.
func FuzzVerifyResult(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	der, err := ca.NewRoot("one.test", key, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("eyJhbGciOiJFUzM4NCJ9.e30.AAAA")
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := VerifyResult(text, root, time.Now()); err == nil {
			t.Error("a stranger's token holds")
		}
	})
}
