package modsig

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"
)

// TestHostileImage: a kernel full of heads of certificates ends early.
func TestHostileImage(t *testing.T) {
	head := append([]byte{0x30, 0x82, 0xff, 0x00, 0x30, 0x82, 0xfe, 0xf0}, certificateMark...)
	start := time.Now()
	_, _, err := scanCertificates(strings.NewReader(strings.Repeat(string(head), 1<<20)))
	if err == nil {
		t.Error("accepted")
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
}

// TestHostileKey: a certificate with a modulus of 65,536 bits in a signature
// is not computed with.
func TestHostileKey(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	long := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 65535), E: 65537}
	long.N.Add(long.N, big.NewInt(1))
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, long, key)
	if err != nil {
		t.Skip("the certificate cannot be made: ", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Skip("the certificate cannot be read: ", err)
	}
	sha256OID, _ := oidOf(allFeatures.Hashes[2])
	m := &SignedData{Version: 1, ContentType: oidData, Certificates: [][]byte{der},
		DigestAlgorithms: []Algorithm{{OID: sha256OID}},
		Signers: []SignerInfo{{Version: 1, Issuer: c.RawIssuer, Serial: c.SerialNumber, DigestAlgorithm: Algorithm{OID: sha256OID},
			SignatureAlgorithm: Algorithm{oidRSA, null}, Signature: make([]byte, 8192)}}}
	cms, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	file, err := Append([]byte("content"), cms)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	r := Check(file, NewKernel("6.1.0", allFeatures, nil, []*x509.Certificate{c}), Options{})
	if r.Verdict == Valid || time.Since(start) > 5*time.Second {
		t.Errorf("%s after %v", r.Verdict, time.Since(start))
	}
}

// TestDeepMessage: nesting is bounded.
func TestDeepMessage(t *testing.T) {
	if _, ok := toDER(bytes.Repeat([]byte{0x30, 0x80}, 1<<16)); ok {
		t.Error("accepted")
	}
}
