package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"

	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/durable"
)

// Names inside a credential's directory.
const (
	credentialKey  = "key.pem"
	credentialCert = "cert.pem"
	credentialCA   = "ca.pem"
)

// connectionCurve is for keys that do nothing but authenticate a TLS connection
// now. They are as strong as the attestation keys beneath every admission (128
// bits), and Go verifies one ten times as fast as P-384: a thousand guests that
// boot at once wait for that. What is signed to last is signed with P-384.
var connectionCurve = elliptic.P256()

// checkName calls a name that no VM, host or operator can have bad usage, before
// anything is asked for.
func checkName(name string) error {
	if err := ca.CheckWord(name); err != nil {
		return usageError{err}
	}
	return nil
}

// askCredential makes a key here and has the service certify it for a name.
func askCredential(ctx context.Context, c *apiClient, kind, name string) (*ecdsa.PrivateKey, api.Credential, error) {
	var got api.Credential
	key, err := ecdsa.GenerateKey(connectionCurve, rand.Reader)
	if err != nil {
		return nil, got, err
	}
	csr, err := requestFor(key)
	if err != nil {
		return nil, got, err
	}
	return key, got, c.call(ctx, "POST", "/v1/credentials", api.NewCredential{Kind: kind, Name: name, CSR: csr}, &got)
}

// requestFor is a CERTIFICATE REQUEST that says nothing but whose key it is.
func requestFor(key crypto.Signer) (string, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), err
}

// keyPair is a credential for crypto/tls: the key, and a chain in PEM.
func keyPair(key crypto.Signer, chain string) (tls.Certificate, error) {
	out := tls.Certificate{PrivateKey: key}
	for rest := []byte(chain); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		out.Certificate = append(out.Certificate, b.Bytes)
	}
	if len(out.Certificate) == 0 {
		return out, errors.New("the credential has no certificate")
	}
	var err error
	out.Leaf, err = x509.ParseCertificate(out.Certificate[0])
	return out, err
}

func saveCredential(dir string, key *ecdsa.PrivateKey, cert, root string) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	defer clear(der)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{
		{credentialKey, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})},
		{credentialCert, []byte(cert)},
		{credentialCA, []byte(root)},
	} {
		if err := durable.WriteFile(filepath.Join(dir, f.name), f.data, 0o600); err != nil {
			return err
		}
	}
	return nil
}
