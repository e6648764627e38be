package chain

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"filippo.io/mldsa"
)

// The small PKIs that tests build: now is in the middle of every validity.
var testNow = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

type ca struct {
	cert *x509.Certificate
	key  crypto.Signer
}

var rsaKeys = sync.OnceValue(func() []*rsa.PrivateKey {
	var out []*rsa.PrivateKey
	for range 3 {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		out = append(out, k)
	}
	return out
})

// newKey makes a key; RSA keys come from a few, for they are slow to make.
func newKey(t testing.TB, alg string) crypto.Signer {
	t.Helper()
	var k crypto.Signer
	var err error
	switch alg {
	case "p256":
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		k, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ed25519":
		_, k, err = ed25519.GenerateKey(rand.Reader)
	case "rsa", "rsa0":
		k = rsaKeys()[0]
	case "rsa1":
		k = rsaKeys()[1]
	case "rsa2":
		k = rsaKeys()[2]
	default:
		t.Fatalf("no algorithm %q", alg)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var serials = struct {
	sync.Mutex
	n int64
}{n: 1 << 40}

// issue signs a certificate; edit changes the template first.
func issue(t testing.TB, parent *ca, cn string, key crypto.Signer, isCA bool, edit func(*x509.Certificate)) *ca {
	t.Helper()
	serials.Lock()
	serials.n++
	n := serials.n
	serials.Unlock()
	id := sha1.Sum(mustSPKI(t, key.Public()))
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(n), Subject: pkix.Name{CommonName: cn, Organization: []string{"Example PKI"}},
		NotBefore: testNow.AddDate(0, -3, 0), NotAfter: testNow.AddDate(0, 9, 0),
		SubjectKeyId: id[:], BasicConstraintsValid: true,
	}
	if isCA {
		tmpl.IsCA = true
		tmpl.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		tmpl.NotBefore, tmpl.NotAfter = testNow.AddDate(-2, 0, 0), testNow.AddDate(8, 0, 0)
	} else {
		tmpl.KeyUsage = x509.KeyUsageDigitalSignature
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if ip := net.ParseIP(cn); ip != nil {
			tmpl.IPAddresses = []net.IP{ip}
		} else {
			tmpl.DNSNames = []string{cn}
		}
	}
	if edit != nil {
		edit(tmpl)
	}
	if parent == nil {
		parent = &ca{tmpl, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent.cert, key.Public(), parent.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &ca{c, key}
}

func mustSPKI(t testing.TB, pub crypto.PublicKey) []byte {
	t.Helper()
	b, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pki is one hierarchy: root, intermediates from the top down, leaf.
type pki struct {
	name string
	root *ca
	mids []*ca // mids[len-1] issued the leaf
	leaf *ca
}

func newPKI(t testing.TB, name, host, alg string, depth int) *pki {
	t.Helper()
	algs := []string{alg, alg, alg, alg, alg, alg}
	switch alg {
	case "mixed":
		algs = []string{"p384", "rsa0", "p256", "ed25519", "rsa1", "p256"}
	case "rsa":
		algs = []string{"rsa0", "rsa1", "rsa2", "rsa0", "rsa1", "rsa2"}
	}
	p := &pki{name: name}
	p.root = issue(t, nil, name+" Root", newKey(t, algs[0]), true, nil)
	at := p.root
	for i := range depth {
		at = issue(t, at, name+" CA "+string(rune('A'+i)), newKey(t, algs[(i+1)%6]), true, nil)
		p.mids = append(p.mids, at)
	}
	p.leaf = issue(t, at, host, newKey(t, algs[(depth+1)%6]), false, nil)
	return p
}

// ders is the good file: leaf first, then intermediates.
func (p *pki) ders() [][]byte {
	out := [][]byte{p.leaf.cert.Raw}
	for i := len(p.mids) - 1; i >= 0; i-- {
		out = append(out, p.mids[i].cert.Raw)
	}
	return out
}

func (p *pki) issuer() *ca {
	if len(p.mids) == 0 {
		return p.root
	}
	return p.mids[len(p.mids)-1]
}

func (p *pki) roots() *Store { return NewRoots([]*Cert{ParseCert(p.root.cert.Raw)}) }

func (p *pki) pool(more ...*ca) *Store {
	var certs []*Cert
	for _, m := range p.mids {
		certs = append(certs, ParseCert(m.cert.Raw))
	}
	for _, m := range more {
		certs = append(certs, ParseCert(m.cert.Raw))
	}
	return NewPool(certs)
}

func (p *pki) options(host string) Options {
	return Options{Name: host, Time: testNow, Roots: p.roots(), Pool: p.pool(), Key: p.leaf.key.Public()}
}

// issueMLDSA signs with ML-DSA, which crypto/x509 of Go 1.26 cannot: the TBS is
// built by hand from a certificate of another algorithm.
func issueMLDSA(t testing.TB, parent *mldsa.PrivateKey, parentName pkix.Name, cn string, pub *mldsa.PublicKey, isCA bool) []byte {
	t.Helper()
	alg := asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 17}
	stand := issue(t, nil, cn, newKey(t, "p256"), isCA, func(c *x509.Certificate) { c.SubjectKeyId = nil })
	var tbs struct {
		Version    int `asn1:"explicit,tag:0"`
		Serial     *big.Int
		Alg        algorithmIdentifier
		Issuer     asn1.RawValue
		Validity   asn1.RawValue
		Subject    asn1.RawValue
		SPKI       subjectPublicKeyInfo
		Extensions asn1.RawValue `asn1:"optional,explicit,tag:3"`
	}
	if _, err := asn1.Unmarshal(stand.cert.RawTBSCertificate, &tbs); err != nil {
		t.Fatal(err)
	}
	tbs.Alg = algorithmIdentifier{Algorithm: alg}
	tbs.SPKI.Algorithm = algorithmIdentifier{Algorithm: alg}
	tbs.SPKI.PublicKey = asn1.BitString{Bytes: pub.Bytes(), BitLength: 8 * len(pub.Bytes())}
	issuer, err := asn1.Marshal(parentName.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	tbs.Issuer = asn1.RawValue{FullBytes: issuer}
	raw, err := asn1.Marshal(tbs)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := parent.Sign(rand.Reader, raw, crypto.Hash(0))
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		TBS asn1.RawValue
		Alg algorithmIdentifier
		Sig asn1.BitString
	}{asn1.RawValue{FullBytes: raw}, algorithmIdentifier{Algorithm: alg}, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}
