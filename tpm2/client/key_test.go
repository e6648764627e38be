package client_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// testKeys uses keys in the TPM as Go's keys.
func testKeys(t *testing.T, c *client.Client) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			key, _, err := c.CreatePrimaryObject(owner(), client.NewObject{Public: client.TLSTemplate(kind), Auth: client.Secret([]byte("k"))})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Flush(key.Handle)
			p := must(c.Private(key, func() (client.Auth, error) {
				s, err := c.StartSession(client.SessionConfig{Bind: &key.Entity})
				if err != nil {
					return nil, err
				}
				return s.Auth(key.Entity).Once(), nil
			}))(t)
			digest := sha256.Sum256([]byte("message"))
			switch pub := p.Public().(type) {
			case *ecdsa.PublicKey:
				if !ecdsa.VerifyASN1(pub, digest[:], must(p.Sign(nil, digest[:], crypto.SHA256))(t)) {
					t.Error("the signature is wrong")
				}
			case *rsa.PublicKey:
				if err := rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], must(p.Sign(nil, digest[:], crypto.SHA256))(t)); err != nil {
					t.Error(err)
				}
				pss := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto, Hash: crypto.SHA256}
				if err := rsa.VerifyPSS(pub, crypto.SHA256, digest[:], must(p.Sign(nil, digest[:], pss))(t), pss); err != nil {
					t.Error(err)
				}
			}
			if _, err := p.Sign(nil, digest[:20], crypto.SHA256); err == nil {
				t.Error("a short digest is signed")
			}
			if _, err := p.Sign(nil, []byte("message"), crypto.Hash(0)); err == nil {
				t.Error("a message is signed")
			}
			if kind == client.RSA2048 {
				handshake(t, p, tls.VersionTLS12)
				handshake(t, p, tls.VersionTLS13)
			} else {
				handshake(t, p, tls.VersionTLS13)
			}
		})
	}
	t.Run("decrypt", func(t *testing.T) {
		key := must(c.CreatePrimary(owner(), client.DecryptTemplate(client.RSA2048)))(t)
		defer c.Flush(key.Handle)
		p := must(c.Private(key, nil))(t)
		pub := p.Public().(*rsa.PublicKey)
		label := []byte("label\x00")
		oaep := must(rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, []byte("secret"), label))(t)
		if got := must(p.Decrypt(nil, oaep, &rsa.OAEPOptions{Hash: crypto.SHA256, Label: label}))(t); string(got) != "secret" {
			t.Errorf("OAEP: got %q", got)
		}
	})
	t.Run("ECDH", func(t *testing.T) {
		for _, kind := range []client.KeyKind{client.P256, client.P384} {
			key := must(c.CreatePrimary(owner(), client.DecryptTemplate(kind)))(t)
			defer c.Flush(key.Handle)
			p := must(c.Private(key, nil))(t)
			own := must(p.Public().(*ecdsa.PublicKey).ECDH())(t)
			peer := must(own.Curve().GenerateKey(rand.Reader))(t)
			if got := must(p.ECDH(peer.PublicKey()))(t); !bytes.Equal(got, must(peer.ECDH(own))(t)) {
				t.Error("the secrets differ")
			}
			x := must(ecdh.X25519().GenerateKey(rand.Reader))(t)
			if _, err := p.ECDH(x.PublicKey()); err == nil {
				t.Error("a peer on another curve passes")
			}
		}
	})
}

// handshake speaks TLS between a server whose key is in the TPM and a client.
func handshake(t *testing.T, key crypto.Signer, version uint16) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "vm"}, DNSNames: []string{"vm"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(t)
	cert := must(x509.ParseCertificate(der))(t)
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	a, b := net.Pipe()
	server := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: version, MaxVersion: version})
	peer := tls.Client(b, &tls.Config{RootCAs: roots, ServerName: "vm", MinVersion: version, MaxVersion: version})
	done := make(chan error, 1)
	go func() {
		_, err := server.Write([]byte("hello"))
		server.Close()
		done <- err
	}()
	got, err := io.ReadAll(peer)
	if serr := <-done; serr != nil || err != nil || string(got) != "hello" {
		t.Errorf("TLS 0x%x: %q, client %v, server %v", version, got, err, serr)
	}
}

// testImport gives keys and data of ours to the TPM.
func testImport(t *testing.T, c *client.Client) {
	keys := []crypto.Signer{
		must(rsa.GenerateKey(rand.Reader, 2048))(t),
		must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t),
		must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))(t),
	}
	for name, parent := range map[string]client.KeyKind{"under RSA-2048": client.RSA2048, "under P-256": client.P256, "under P-384": client.P384} {
		t.Run(name, func(t *testing.T) {
			srk := must(c.CreatePrimary(owner(), client.SRKTemplate(parent)))(t)
			defer c.Flush(srk.Handle)
			auth := client.Secret([]byte("imported"))
			load := func(d *client.Duplicate) *client.Key {
				t.Helper()
				b := must(c.Import(srk, d))(t)
				return must(c.Load(srk, b, auth))(t)
			}
			digest := sha256.Sum256([]byte("message"))
			for _, key := range keys {
				area := must(client.PublicArea(key.Public(), tpm2.SignEncrypt|tpm2.UserWithAuth))(t)
				d := must(client.WrapForImport(&srk.Public, key, client.NewObject{Public: *area, Auth: auth}))(t)
				k := load(d)
				p := must(c.Private(k, nil))(t)
				if !p.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
					t.Errorf("%T: another public key came out", key)
				}
				if _, err := p.Sign(nil, digest[:], crypto.SHA256); err != nil {
					t.Errorf("%T: %v", key, err)
				}
				c.Flush(k.Handle)
			}

			sel := client.Select(tpm2.AlgSHA256, 16)
			if err := c.ResetPCR(16); err != nil {
				t.Fatal(err)
			}
			pcrs := must(must(c.ReadPCRs(sel))(t).Digest(tpm2.AlgSHA256, sel))(t)
			policy := must(client.NewPolicy(tpm2.AlgSHA256))(t).PCR(sel, pcrs).Digest()
			d := must(client.WrapSecretForImport(&srk.Public, client.NewObject{Public: client.SealTemplate(tpm2.AlgSHA256, policy), Data: []byte("from outside"), Auth: auth}))(t)
			item := load(d)
			defer c.Flush(item.Handle)
			s := must(c.StartSession(client.SessionConfig{Type: tpm2.SEPolicy}))(t)
			defer s.Close()
			if err := s.PolicyPCR(sel, nil); err != nil {
				t.Fatal(err)
			}
			if got := must(c.Unseal(s.Auth(item.Entity, tpm2.SessionEncrypt)))(t); string(got) != "from outside" {
				t.Errorf("got %q", got)
			}
		})
	}
	t.Run("duplicate", func(t *testing.T) {
		from := must(c.CreatePrimary(owner(), client.SRKTemplate(client.P256)))(t)
		defer c.Flush(from.Handle)
		to := must(c.CreatePrimary(owner(), client.SRKTemplate(client.RSA2048)))(t)
		defer c.Flush(to.Handle)
		template := client.SigningTemplate(client.P256)
		template.ObjectAttributes &^= tpm2.FixedTPM | tpm2.FixedParent
		template.AuthPolicy = must(client.NewPolicy(tpm2.AlgSHA256))(t).DuplicationSelect(nil, to.Name).Digest()
		b, _, err := c.Create(from, client.NewObject{Public: template})
		if err != nil {
			t.Fatal(err)
		}
		k := must(c.Load(from, b, nil))(t)
		s := must(c.StartSession(client.SessionConfig{Type: tpm2.SEPolicy}))(t)
		defer s.Close()
		if err := s.PolicyDuplicationSelect(k.Name, to.Name, false); err != nil {
			t.Fatal(err)
		}
		d, err := c.Duplicate(s.Auth(k.Entity), &k.Public, to)
		c.Flush(k.Handle)
		if err != nil {
			t.Fatal(err)
		}
		moved := must(c.Import(to, d))(t)
		k = must(c.Load(to, moved, nil))(t)
		c.Flush(k.Handle)
	})
}

// testContexts saves objects of every size, and loads them again.
func testContexts(t *testing.T, c *client.Client) {
	for name, template := range map[string]tpm2.TPMTPublic{
		"EK RSA-2048": client.EKTemplate(client.EKRSA2048), "EK P-384": client.EKTemplate(client.EKHighP384),
		"AK RSA-2048": client.AKTemplate(client.RSA2048), "key P-256": client.SigningTemplate(client.P256),
	} {
		key := must(c.CreatePrimary(endorsement(), template))(t)
		saved := must(c.SaveContext(key.Handle))(t)
		c.Flush(key.Handle)
		var again tpm2.TPMSContext
		if err := tpm2.Unmarshal(tpm2.Marshal(saved), &again); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		h := must(c.LoadContext(&again))(t)
		if got := must(c.Key(h, nil))(t); !bytes.Equal(got.Name, key.Name) {
			t.Errorf("%s: another object came back", name)
		}
		c.Flush(h)
		again.ContextBlob[len(again.ContextBlob)/2] ^= 1
		if _, err := c.LoadContext(&again); !errors.Is(err, tpm2.RCIntegrity) {
			t.Errorf("%s: a changed context: %v", name, err)
		}
	}
	s := must(c.StartSession(client.SessionConfig{Type: tpm2.SEPolicy}))(t)
	defer s.Close()
	if err := s.PolicyCommandCode(tpm2.CCUnseal); err != nil {
		t.Fatal(err)
	}
	before := must(s.PolicyDigest())(t)
	saved := must(c.SaveContext(s.Handle()))(t)
	if _, err := s.PolicyDigest(); err == nil {
		t.Error("a saved session is still loaded")
	}
	if h := must(c.LoadContext(saved))(t); h != s.Handle() {
		t.Errorf("the session came back as %v", h)
	}
	if got := must(s.PolicyDigest())(t); !bytes.Equal(got, before) {
		t.Error("the session lost its policy")
	}
	if _, err := c.LoadContext(saved); err == nil {
		t.Error("a session's context is loaded twice")
	}
}

// testPersistence keeps a key across handles.
func testPersistence(t *testing.T, c *client.Client) {
	srk := must(c.CreatePrimary(owner(), client.SRKTemplate(client.P256)))(t)
	defer c.Flush(srk.Handle)
	s := must(c.StartSession(client.SessionConfig{Salt: srk}))(t)
	defer s.Close()
	p := must(c.Persist(s.Auth(owner()), srk, client.SRKHandle))(t)
	if got := must(c.Key(client.SRKHandle, nil))(t); !bytes.Equal(got.Name, srk.Name) || p.Handle != client.SRKHandle {
		t.Error("another key is there")
	}
	if h := must(c.Handles(tpm2.HTPersistent))(t); len(h) != 1 || h[0] != client.SRKHandle {
		t.Errorf("persistent handles: %v", h)
	}
	if err := c.Evict(s.Auth(owner()), client.SRKHandle); err != nil {
		t.Error(err)
	}
}
