package chain

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"testing"
)

// TestJKS: what we write reads back, key and chain; keytool's word on it is in test/chain.
func TestJKS(t *testing.T) {
	for _, alg := range []string{"p256", "rsa", "ed25519"} {
		p := newPKI(t, "Java "+alg, "www.java.test", alg, 1)
		o := p.options("www.java.test")
		good := []byte(pemOf(p.ders()...))
		r := Check("x", good, o)
		der, err := x509.MarshalPKCS8PrivateKey(p.leaf.key)
		if err != nil {
			t.Fatal(err)
		}
		key := PrivateKeyOf(r.Repair.Certs()[0], pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), "")
		if key == nil {
			t.Fatal("the key is not found")
		}
		store := EncodeJKS("web", key, r.Repair.Certs(), "changeit", [20]byte{1, 2, 3}, testNow)
		o.Password = "changeit"
		o.Key = nil
		back := Check("x", store, o)
		if got := back.Codes(); !slices.Equal(got, []string{"JKS"}) {
			t.Errorf("%s: %v", alg, got)
		}
		if got := PrivateKeyOf(back.Repair.Certs()[0], store, "changeit"); got == nil || !bytes.Equal(got.PEM(), key.PEM()) {
			t.Errorf("%s: another key, or none", alg)
		}
		if PrivateKeyOf(back.Repair.Certs()[0], store, "changeit2") != nil {
			t.Errorf("%s: a wrong password opens the key", alg)
		}
		store[len(store)-1] ^= 1
		if jksOpens(store, "changeit") {
			t.Errorf("%s: a changed keystore is called whole", alg)
		}
	}
}
