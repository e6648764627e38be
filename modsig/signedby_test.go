package modsig_test

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/modvariants"
	"github.com/vouchsafe/vouchsafe/modsig"
)

// TestSignedBy: the signer itself, or a CA through an embedded leaf, and nobody else.
func TestSignedBy(t *testing.T) {
	k, err := variants.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	content := []byte("content")
	sum := sha256.Sum256(content)
	for _, tt := range []struct {
		name  string
		by    variants.Pair
		o     modsig.SignOptions
		certs []*x509.Certificate
		want  *x509.Certificate
	}{
		{"itself", k.RSA, modsig.SignOptions{}, []*x509.Certificate{k.P256.Cert, k.RSA.Cert}, k.RSA.Cert},
		{"by key identifier", k.RSA, modsig.SignOptions{ByKeyID: true}, []*x509.Certificate{k.RSA.Cert}, k.RSA.Cert},
		{"ECDSA", k.P384, modsig.SignOptions{}, []*x509.Certificate{k.P384.Cert}, k.P384.Cert},
		{"leaf, embedded", k.Leaf, modsig.SignOptions{Embed: []*x509.Certificate{k.Leaf.Cert}}, []*x509.Certificate{k.CA.Cert}, k.CA.Cert},
		{"leaf, not embedded", k.Leaf, modsig.SignOptions{}, []*x509.Certificate{k.CA.Cert}, nil},
		{"another", k.Unknown, modsig.SignOptions{}, []*x509.Certificate{k.RSA.Cert}, nil},
		{"an impostor of the CA's name", k.Impostor, modsig.SignOptions{Embed: []*x509.Certificate{k.Impostor.Cert}}, []*x509.Certificate{k.CA.Cert}, nil},
		{"nobody allowed", k.RSA, modsig.SignOptions{}, nil, nil},
	} {
		signed, err := modsig.Sign(content, tt.by.Key, tt.by.Cert, tt.o)
		if err != nil {
			t.Fatal(tt.name, err)
		}
		m, err := modsig.ParseCMS(modsig.Split(signed).Signature)
		if err != nil {
			t.Fatal(tt.name, err)
		}
		if got := m.SignedBy(crypto.SHA256, sum[:], tt.certs); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
		if m.SignedBy(crypto.SHA256, make([]byte, 32), tt.certs) != nil || m.SignedBy(crypto.SHA1, sum[:20], tt.certs) != nil || m.SignedBy(0, nil, tt.certs) != nil {
			t.Errorf("%s: another digest is signed, too", tt.name)
		}
	}
}
