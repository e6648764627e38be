package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestTwoAgents: two agents of one VM that renew at the same moment leave a whole
// identity at any time.
func TestTwoAgents(t *testing.T) {
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	adm := func(n int) *Admission {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: make([]string, n)}
		for i := range template.DNSNames {
			template.DNSNames[i] = "a.example"
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return &Admission{Chain: []*x509.Certificate{c, c}}
	}
	var wg sync.WaitGroup
	for _, a := range []*Admission{adm(1), adm(200)} {
		wg.Go(func() {
			for range 300 {
				if err := SaveIdentity(dir, a); err != nil {
					t.Errorf("saving it: %v", err)
					return
				}
				text, err := os.ReadFile(filepath.Join(dir, FileIdentity))
				if err == nil {
					_, err = certificates(string(text))
				}
				if err != nil {
					t.Errorf("reading it meanwhile: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
