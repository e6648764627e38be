package client_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// testProvisioning is what a manufacturer and a first owner do.
func testProvisioning(t *testing.T, c *client.Client) {
	platform := client.Hierarchy(tpm2.RHPlatform, nil)
	ca := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))(t)
	for name, kind := range map[string]client.EK{"RSA": client.EKRSA2048, "P-256": client.EKP256, "P-384": client.EKHighP384} {
		t.Run(name, func(t *testing.T) {
			ek := must(c.CreatePrimary(endorsement(), client.EKTemplate(kind)))(t)
			defer c.Flush(ek.Handle)
			template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "EK"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
			der := must(x509.CreateCertificate(rand.Reader, template, template, must(client.PublicKey(&ek.Public))(t), ca))(t)
			if _, err := c.ReadCertificate(kind.CertificateIndex()); !errors.Is(err, tpm2.RCHandle) {
				t.Errorf("no certificate yet: %v", err)
			}
			for range 2 { // again, over itself
				if err := c.StoreCertificate(platform, kind.CertificateIndex(), der); err != nil {
					t.Fatal(err)
				}
			}
			if cert := must(c.ReadCertificate(kind.CertificateIndex()))(t); !bytes.Equal(cert.Raw, der) {
				t.Error("another certificate came back")
			}
			i := must(c.NVIndex(kind.CertificateIndex(), nil))(t)
			if err := c.NVUndefine(owner(), i); !errors.Is(err, tpm2.RCNVAuthorization) {
				t.Errorf("the Owner removes it: %v", err)
			}
		})
	}
	ek := must(c.CreatePrimary(endorsement(), client.EKTemplate(client.EKP256)))(t)
	s := must(c.StartSession(client.SessionConfig{Salt: ek}))(t)
	c.Flush(ek.Handle)
	o := must(c.ChangeAuth(s.Auth(owner(), tpm2.SessionDecrypt), client.Secret([]byte("owner"))))(t)
	lock := must(c.ChangeAuth(s.Auth(client.Hierarchy(tpm2.RHLockout, nil), tpm2.SessionDecrypt), client.Secret([]byte("lock"))))(t)
	if _, err := c.CreatePrimary(owner(), client.SRKTemplate(client.P256)); !errors.Is(err, tpm2.RCBadAuth) {
		t.Errorf("the old authValue: %v", err)
	}
	srk := must(c.CreatePrimary(s.Auth(o), client.SRKTemplate(client.P256)))(t)
	must(c.Persist(s.Auth(o), srk, client.SRKHandle))(t)
	c.Flush(srk.Handle)
	if err := c.ResetLockout(s.Auth(lock)); err != nil {
		t.Error(err)
	}
	must(c.ReadClock(s.Extra(tpm2.SessionAudit)))(t)
	if err := c.Clear(s.Auth(lock)); err != nil {
		t.Error(err)
	}
	if _, err := c.Key(client.SRKHandle, nil); err == nil {
		t.Error("Clear left the SRK")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if ok, err := c.AllocateBanks(platform, tpm2.AlgSHA256, tpm2.AlgSHA384); err != nil || !ok {
		t.Errorf("AllocateBanks: %v, %v", ok, err)
	}
}

// testApproved opens what is sealed to "whatever the vendor signs", with a
// policy that was signed later.
func testApproved(t *testing.T, c *client.Client) {
	for _, hash := range []tpm2.AlgID{tpm2.AlgSHA256, tpm2.AlgSHA384} {
		vendor := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
		area := must(client.PublicArea(vendor.Public(), tpm2.SignEncrypt|tpm2.UserWithAuth))(t)
		area.NameAlg = hash
		ref := []byte("kernel")
		policy := must(client.NewPolicy(tpm2.AlgSHA256))(t).Authorize(must(client.ObjectName(area))(t), ref).Digest()
		srk := must(c.CreatePrimary(owner(), client.SRKTemplate(client.P256)))(t)
		item := must(c.Load(srk, must(c.Seal(srk, []byte("key"), policy, nil))(t), nil))(t)
		c.Flush(srk.Handle)

		sel := client.Select(tpm2.AlgSHA256, 7)
		pcrs := must(must(c.ReadPCRs(sel))(t).Digest(tpm2.AlgSHA256, sel))(t)
		approved := must(client.NewPolicy(tpm2.AlgSHA256))(t).PCR(sel, pcrs).Digest()
		sig := must(client.SignPolicy(vendor, area, approved, ref))(t)
		s := must(c.StartSession(client.SessionConfig{Type: tpm2.SEPolicy}))(t)
		if err := s.PolicyPCR(sel, nil); err != nil {
			t.Fatal(err)
		}
		if err := s.PolicyAuthorize(area, []byte("another"), sig); err == nil {
			t.Error("a signature for another purpose passes")
		}
		if err := s.PolicyAuthorize(area, ref, sig); err != nil {
			t.Fatal(err)
		}
		if got := must(c.Unseal(s.Auth(item.Entity).Once()))(t); string(got) != "key" {
			t.Errorf("got %q", got)
		}
		c.Flush(item.Handle)
	}
}

// testConcurrency uses one client and one session from many goroutines.
func testConcurrency(t *testing.T, c *client.Client) {
	o := owner()
	s := must(c.StartSession(client.SessionConfig{Bind: &o}))(t)
	defer s.Close()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if _, err := c.GetRandom(40, s.Extra(tpm2.SessionEncrypt)); err != nil {
					t.Error(err)
				}
				s.NonceTPM()
			}
		})
	}
	wg.Wait()
}
