package client_test

import (
	"bytes"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

var kinds = map[string]client.KeyKind{"RSA-2048": client.RSA2048, "P-256": client.P256, "P-384": client.P384}

// newAK makes an attestation key under a fresh SRK; the SRK is flushed.
func newAK(t testing.TB, c *client.Client, template tpm2.TPMTPublic) *client.Key {
	t.Helper()
	srk := must(c.CreatePrimary(owner(), client.SRKTemplate(client.P256)))(t)
	defer c.Flush(srk.Handle)
	b, _, err := c.Create(srk, client.NewObject{Public: template, Auth: client.Secret([]byte("ak"))})
	if err != nil {
		t.Fatal(err)
	}
	ak := must(c.Load(srk, b, client.Secret([]byte("ak"))))(t)
	t.Cleanup(func() { c.Flush(ak.Handle) })
	return ak
}

// testQuotes quotes with every kind of AK and verifies in software.
func testQuotes(t *testing.T, c *client.Client) {
	sel := append(client.Select(tpm2.AlgSHA256, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 23), client.Select(tpm2.AlgSHA1, 0, 10)...)
	nonce := []byte("a nonce of the verifier")
	templates := map[string]tpm2.TPMTPublic{}
	for name, kind := range kinds {
		templates[name] = client.AKTemplate(kind)
	}
	pss := client.AKTemplate(client.RSA2048)
	pss.Parameters.RSADetail.Scheme.Scheme = tpm2.AlgRSAPSS
	templates["RSA-2048 PSS"] = pss
	for name, template := range templates {
		t.Run(name, func(t *testing.T) {
			ak := newAK(t, c, template)
			_, hash := client.Scheme(&ak.Public)
			q := must(c.Quote(ak, nonce, sel))(t)
			a := must(client.VerifyQuote(&ak.Public, q.Attest, q.Signature, nonce))(t)
			values := must(c.ReadPCRs(sel))(t)
			if err := client.CheckPCRs(a, hash, values); err != nil {
				t.Error(err)
			}
			values[tpm2.AlgSHA256][7][0] ^= 1
			if err := client.CheckPCRs(a, hash, values); err == nil {
				t.Error("other PCR values pass")
			}
			testForgeries(t, ak, q, nonce)

			// The same through a session that proves the AK's authValue.
			s := must(c.StartSession(client.SessionConfig{Bind: &ak.Entity}))(t)
			defer s.Close()
			q = must(c.Quote(s.Auth(ak.Entity, tpm2.SessionEncrypt|tpm2.SessionDecrypt), nonce, sel))(t)
			if _, err := client.VerifyQuote(&ak.Public, q.Attest, q.Signature, nonce); err != nil {
				t.Error(err)
			}

			// It certifies another key, and that is no quote.
			other := must(c.CreatePrimary(client.Hierarchy(tpm2.RHNull, nil), client.DecryptTemplate(client.P256)))(t)
			defer c.Flush(other.Handle)
			cert := must(c.Certify(other, ak, nonce))(t)
			if _, err := client.VerifyCertify(&ak.Public, cert.Attest, cert.Signature, nonce, other.Name); err != nil {
				t.Error(err)
			}
			if _, err := client.VerifyCertify(&ak.Public, cert.Attest, cert.Signature, nonce, ak.Name); err == nil {
				t.Error("a certification of another key passes")
			}
			if _, err := client.VerifyQuote(&ak.Public, cert.Attest, cert.Signature, nonce); err == nil {
				t.Error("a certification passes for a quote")
			}
		})
	}
	t.Run("creation", func(t *testing.T) {
		ak := newAK(t, c, client.AKTemplate(client.P256))
		key, made, err := c.CreatePrimaryObject(owner(), client.NewObject{
			Public: client.SigningTemplate(client.P256), PCRs: sel, OutsideInfo: []byte("info"),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Flush(key.Handle)
		if _, err := c.CertifyCreation(ak, key, made, nonce); err != nil {
			t.Error(err)
		}
	})
}

// testForgeries changes a good quote in every way that must not pass.
func testForgeries(t *testing.T, ak *client.Key, q *client.Attested, nonce []byte) {
	with := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 1
		return b
	}
	unrestricted := ak.Public
	unrestricted.ObjectAttributes &^= tpm2.Restricted
	otherScheme := ak.Public
	otherScheme.Parameters.RSADetail.Scheme.Details.Any.HashAlg = tpm2.AlgSHA512
	otherScheme.Parameters.ECCDetail.Scheme.Details.Any.HashAlg = tpm2.AlgSHA512
	for _, tt := range []struct {
		name               string
		pub                *tpm2.TPMTPublic
		attest, sig, nonce []byte
	}{
		{"another nonce", &ak.Public, q.Attest, q.Signature, []byte("another nonce, as long.")},
		{"no nonce", &ak.Public, q.Attest, q.Signature, nil},
		{"magic", &ak.Public, with(q.Attest, 0), q.Signature, nonce},
		{"last octet", &ak.Public, with(q.Attest, len(q.Attest)-1), q.Signature, nonce},
		{"signature", &ak.Public, q.Attest, with(q.Signature, len(q.Signature)-1), nonce},
		{"signature's algorithm", &ak.Public, q.Attest, with(q.Signature, 1), nonce},
		{"signature's hash", &ak.Public, q.Attest, with(q.Signature, 3), nonce},
		{"cut signature", &ak.Public, q.Attest, q.Signature[:8], nonce},
		{"trailing octet", &ak.Public, append(bytes.Clone(q.Attest), 0), q.Signature, nonce},
		{"not restricted", &unrestricted, q.Attest, q.Signature, nonce},
		{"another scheme", &otherScheme, q.Attest, q.Signature, nonce},
		{"nothing", &ak.Public, nil, nil, nonce},
	} {
		if _, err := client.VerifyQuote(tt.pub, tt.attest, tt.sig, tt.nonce); err == nil {
			t.Errorf("%s: it passes", tt.name)
		}
	}
}

// testCredentials makes credentials in software and in the TPM, and activates both.
func testCredentials(t *testing.T, c *client.Client) {
	secret := []byte("a secret of the server")
	for name, kind := range map[string]client.EK{
		"L-1": client.EKRSA2048, "L-2": client.EKP256, "H-1": client.EKHighRSA2048, "H-2": client.EKHighP256, "H-3": client.EKHighP384,
	} {
		t.Run(name, func(t *testing.T) {
			ak := newAK(t, c, client.AKTemplate(client.P256))
			other := newAK(t, c, client.AKTemplate(client.P256))
			ek := must(c.CreatePrimary(endorsement(), client.EKTemplate(kind)))(t)
			defer c.Flush(ek.Handle)
			cred := must(client.MakeCredential(&ek.Public, ak.Name, secret))(t)
			var made tpm2.MakeCredentialResponse
			if err := c.Execute(&tpm2.MakeCredential{Handle: ek.Handle, Credential: secret, ObjectName: ak.Name}, &made); err != nil {
				t.Fatal(err)
			}
			for _, cred := range []*client.Credential{cred, {Blob: made.CredentialBlob, Secret: made.Secret}} {
				s := must(c.EKSession(ek, endorsement()))(t)
				got := must(c.ActivateCredential(ak, s.Auth(ek.Entity).Once(), cred))(t)
				if !bytes.Equal(got, secret) {
					t.Errorf("got %q", got)
				}
			}
			s := must(c.EKSession(ek, endorsement()))(t)
			defer s.Close()
			if _, err := c.ActivateCredential(other, s.Auth(ek.Entity), cred); err == nil {
				t.Error("another object activates it")
			}
			if _, err := client.MakeCredential(&ek.Public, ak.Name, make([]byte, 65)); err == nil {
				t.Error("a secret of 65 octets passes")
			}
			if _, err := client.MakeCredential(&ak.Public, ak.Name, secret); err == nil {
				t.Error("a credential for a signing key passes")
			}
		})
	}
}
