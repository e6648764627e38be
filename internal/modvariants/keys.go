package variants

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"time"
)

// Pair is a key and its certificate.
type Pair struct {
	Key  crypto.Signer
	Cert *x509.Certificate
}

// Keys are all the keys that the variants need, made anew in each run.
type Keys struct {
	RSA, Unknown, Expired, P256, P384, Ed25519                       Pair
	CA, Leaf, LeafEC, LeafNoAKI, LeafSHA512, Intermediate, LeafBelow Pair
	Impostor                                                         Pair
}

// Enrolled are the certificates that a machine owner would enrol.
func (k *Keys) Enrolled() []*x509.Certificate {
	return []*x509.Certificate{k.RSA.Cert, k.Expired.Cert, k.P256.Cert, k.P384.Cert, k.CA.Cert}
}

type spec struct {
	name    string
	key     crypto.Signer
	issuer  *Pair
	ca      bool
	until   time.Time
	sigAlg  x509.SignatureAlgorithm
	serial  *big.Int
	keepAKI bool
}

func (s spec) pair() (Pair, error) {
	now := time.Now()
	if s.until.IsZero() {
		s.until = now.AddDate(1, 0, 0)
	}
	if s.serial == nil {
		s.serial, _ = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	}
	t := &x509.Certificate{
		SerialNumber: s.serial, Subject: pkix.Name{CommonName: s.name},
		NotBefore: s.until.AddDate(-2, 0, 0), NotAfter: s.until,
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, IsCA: s.ca,
		SignatureAlgorithm: s.sigAlg,
	}
	if s.ca {
		t.KeyUsage |= x509.KeyUsageCertSign
	}
	spki, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		return Pair{}, err
	}
	h := crypto.SHA1.New()
	h.Write(spki)
	t.SubjectKeyId = h.Sum(nil)
	parent, signer := t, s.key
	if s.issuer != nil {
		parent, signer = s.issuer.Cert, s.issuer.Key
	}
	if s.issuer != nil && !s.keepAKI {
		p := *parent // without a subject key identifier the leaf gets no authority key identifier
		p.SubjectKeyId = nil
		parent = &p
	}
	if s.issuer == nil {
		t.AuthorityKeyId = t.SubjectKeyId
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, s.key.Public(), signer)
	if err != nil {
		return Pair{}, err
	}
	c, err := x509.ParseCertificate(der)
	return Pair{s.key, c}, err
}

// NewKeys makes all keys: about a second, most of it for RSA.
func NewKeys() (*Keys, error) {
	k := &Keys{}
	var err error
	newRSA := func() crypto.Signer {
		key, e := rsa.GenerateKey(rand.Reader, 2048)
		if e != nil {
			err = e
		}
		return key
	}
	newEC := func(c elliptic.Curve) crypto.Signer {
		key, e := ecdsa.GenerateKey(c, rand.Reader)
		if e != nil {
			err = e
		}
		return key
	}
	_, ed, e := ed25519.GenerateKey(rand.Reader)
	if e != nil {
		return nil, e
	}
	make := func(to *Pair, s spec) {
		if err == nil {
			*to, err = s.pair()
		}
	}
	make(&k.RSA, spec{name: "our RSA key", key: newRSA()})
	make(&k.Unknown, spec{name: "a key nobody enrolled", key: newRSA()})
	make(&k.Expired, spec{name: "our expired key", key: newRSA(), until: time.Now().AddDate(0, -1, 0)})
	make(&k.P256, spec{name: "our P-256 key", key: newEC(elliptic.P256())})
	make(&k.P384, spec{name: "our P-384 key", key: newEC(elliptic.P384())})
	make(&k.Ed25519, spec{name: "our Ed25519 key", key: ed})
	make(&k.CA, spec{name: "our module CA", key: newRSA(), ca: true})
	make(&k.Leaf, spec{name: "leaf", key: newRSA(), issuer: &k.CA, keepAKI: true})
	make(&k.LeafEC, spec{name: "leaf P-384", key: newEC(elliptic.P384()), issuer: &k.CA, keepAKI: true})
	make(&k.LeafNoAKI, spec{name: "leaf without AKI", key: newRSA(), issuer: &k.CA})
	make(&k.LeafSHA512, spec{name: "leaf signed with sha512", key: newRSA(), issuer: &k.CA, keepAKI: true, sigAlg: x509.SHA512WithRSA})
	make(&k.Intermediate, spec{name: "our intermediate", key: newRSA(), issuer: &k.CA, ca: true, keepAKI: true})
	make(&k.LeafBelow, spec{name: "leaf below the intermediate", key: newRSA(), issuer: &k.Intermediate, keepAKI: true})
	make(&k.Impostor, spec{name: "our RSA key", key: newRSA(), serial: k.RSA.serial()})
	return k, err
}

func (p Pair) serial() *big.Int {
	if p.Cert == nil {
		return nil
	}
	return p.Cert.SerialNumber
}
