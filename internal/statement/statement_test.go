package statement

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// pair makes a root, and a signer below it.
func pair(t testing.TB, usage x509.KeyUsage) (root, leaf *x509.Certificate, key *ecdsa.PrivateKey) {
	t.Helper()
	make := func(tmpl, parent *x509.Certificate, pub, priv *ecdsa.PrivateKey) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub.Public(), priv)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	rootKey, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	key, _ = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	root = make(tmpl, tmpl, rootKey, rootKey)
	leaf = make(&x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: usage}, root, key, rootKey)
	return root, leaf, key
}

func TestSignVerify(t *testing.T) {
	root, leaf, key := pair(t, x509.KeyUsageDigitalSignature)
	signed, err := Sign("residence", []byte(`{"host":"h1"}`), key, leaf)
	if err != nil {
		t.Fatal(err)
	}
	payload, by, err := Verify("residence", signed, root, now)
	if err != nil || string(payload) != `{"host":"h1"}` || !by.Equal(leaf) {
		t.Fatalf("got %q, %v", payload, err)
	}
	otherRoot, _, _ := pair(t, x509.KeyUsageDigitalSignature)
	badRoot, badLeaf, badKey := pair(t, x509.KeyUsageKeyAgreement)
	bad, err := Sign("residence", nil, badKey, badLeaf)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, typ string
		signed    []byte
		root      *x509.Certificate
		at        time.Time
		want      string
	}{
		{"another type", "policy", signed, root, now, "its type is"},
		{"another root", "residence", signed, otherRoot, now, "unknown authority"},
		{"too late", "residence", signed, root, now.Add(2 * time.Hour), "expired"},
		{"not a signer", "residence", bad, badRoot, now, "not one of a P-384 signer"},
		{"payload changed", "residence", change(t, signed, "payload"), root, now, "does not hold"},
		{"signature changed", "residence", change(t, signed, "signature"), root, now, "hold"},
		{"header changed", "residence", change(t, signed, "protected"), root, now, ""},
		{"unknown member", "residence", bytes.Replace(signed, []byte("{"), []byte(`{"header":{},`), 1), root, now, "unknown field"},
		{"something behind it", "residence", append(bytes.Clone(signed), '1'), root, now, "something follows"},
		{"oversized", "residence", make([]byte, maxSize+1), root, now, "more than"},
		{"empty", "residence", nil, root, now, "JSON"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := Verify(tt.typ, tt.signed, tt.root, tt.at); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := Sign("residence", nil, badKey, leaf); err == nil {
		t.Error("signed with a key that is not the certificate's")
	}
}

// change changes one letter in a member.
func change(t *testing.T, signed []byte, member string) []byte {
	t.Helper()
	i := bytes.Index(signed, []byte(`"`+member+`":"`))
	if i < 0 {
		t.Fatal("no member " + member)
	}
	out := bytes.Clone(signed)
	at := i + len(member) + 4 + 5
	if out[at] == 'A' {
		out[at] = 'B'
	} else {
		out[at] = 'A'
	}
	return out
}

func FuzzVerify(f *testing.F) {
	root, leaf, key := pair(f, x509.KeyUsageDigitalSignature)
	signed, err := Sign("residence", []byte(`{}`), key, leaf)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add([]byte(`{"payload":"","protected":"","signature":""}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if payload, _, err := Verify("residence", data, root, now); err == nil && string(payload) != `{}` {
			t.Fatal("a forgery verifies")
		}
	})
}
