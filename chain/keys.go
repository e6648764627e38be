package chain

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/md5"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"

	"filippo.io/mldsa"
)

// RFC 9881, Section 2: the algorithm identifiers of ML-DSA.
var mldsaOIDs = []struct {
	oid    asn1.ObjectIdentifier
	params func() mldsa.Parameters
}{
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 17}, mldsa.MLDSA44},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 18}, mldsa.MLDSA65},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 19}, mldsa.MLDSA87},
}

type algorithmIdentifier struct {
	Algorithm  asn1.ObjectIdentifier
	Parameters asn1.RawValue `asn1:"optional"`
}

type subjectPublicKeyInfo struct {
	Algorithm algorithmIdentifier
	PublicKey asn1.BitString
}

// publicKey reads a SubjectPublicKeyInfo; nil when we cannot verify with it.
func publicKey(spki []byte, x *x509.Certificate) any {
	if x != nil && x.PublicKey != nil {
		return x.PublicKey
	}
	if len(spki) == 0 {
		return nil
	}
	if pub, err := x509.ParsePKIXPublicKey(spki); err == nil {
		return pub
	}
	var info subjectPublicKeyInfo
	if rest, err := asn1.Unmarshal(spki, &info); err != nil || len(rest) > 0 {
		return nil
	}
	for _, a := range mldsaOIDs {
		if info.Algorithm.Algorithm.Equal(a.oid) {
			if pub, err := mldsa.NewPublicKey(a.params(), info.PublicKey.Bytes); err == nil {
				return pub
			}
		}
	}
	return nil
}

// rawSPKI stands for a public key that we can compare but not use.
type rawSPKI []byte

// publicOf returns the public half of a private key.
func publicOf(key any) crypto.PublicKey {
	if s, ok := key.(crypto.Signer); ok {
		return s.Public()
	}
	return nil
}

// PublicKeyOf finds the first private or public key in a file, in any dress,
// and returns its public half; nil when there is none that can be read.
func PublicKeyOf(data []byte, password string) crypto.PublicKey {
	f := Read(data, password)
	if len(f.keys) > 0 {
		return f.keys[0]
	}
	for _, it := range f.Items {
		if pub := it.public(); pub != nil {
			return pub
		}
	}
	return nil
}

func (it Item) public() crypto.PublicKey {
	switch it.Kind {
	case KindPrivateKey:
		if pub := publicOf(parsePrivate(it.DER)); pub != nil {
			return pub
		}
		return mldsaPublic(it.DER)
	case KindPublicKey:
		if k, err := x509.ParsePKIXPublicKey(it.DER); err == nil {
			return k
		}
		if k, err := x509.ParsePKCS1PublicKey(it.DER); err == nil {
			return k
		}
		return rawSPKI(it.DER)
	}
	return nil
}

// mldsaPublic reads a PKCS #8 ML-DSA key given as its seed (RFC 9881, Section 6).
func mldsaPublic(der []byte) crypto.PublicKey {
	var p8 struct {
		Version   int
		Algorithm algorithmIdentifier
		Key       []byte
	}
	if _, err := asn1.Unmarshal(der, &p8); err != nil {
		return nil
	}
	for _, a := range mldsaOIDs {
		if !p8.Algorithm.Algorithm.Equal(a.oid) {
			continue
		}
		e, _, ok := nextTLV(p8.Key)
		if ok && e.tag == 0x30 { // both: seed, then expanded
			e, _, ok = nextTLV(e.body)
		}
		if !ok || len(e.body) != 32 {
			return nil
		}
		if k, err := mldsa.NewPrivateKey(a.params(), e.body); err == nil {
			return k.PublicKey()
		}
	}
	return nil
}

// verifies says that parent's key made child's signature. Names do not matter
// here, nor does weakness: MD5 is verified, and complained about elsewhere.
func verifies(parent, child *Cert) bool {
	x := child.X
	return x != nil && verifiesSigned(parent.pub, x.SignatureAlgorithm, x.Raw, x.RawTBSCertificate, x.Signature)
}

// verifiesSigned is the same for whatever is SIGNED: a certificate or a CRL.
func verifiesSigned(key any, algorithm x509.SignatureAlgorithm, raw, tbs, signature []byte) bool {
	if !sameAlgorithm(raw) {
		return false
	}
	switch pub := key.(type) {
	case *mldsa.PublicKey:
		return verifyMLDSA(pub, raw, tbs, signature)
	case *rsa.PublicKey:
		if pub.N.BitLen() > maxRSABits || pub.E < 3 {
			return false
		}
		if h := pkcs1Hash(algorithm); h != 0 && (pub.N.BitLen() < 1024 || h == crypto.MD5 || h == crypto.SHA1) {
			return verifyPKCS1(pub, h, tbs, signature)
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return false
	}
	issuer := &x509.Certificate{PublicKey: key}
	switch key.(type) {
	case *rsa.PublicKey:
		issuer.PublicKeyAlgorithm = x509.RSA
	case *ecdsa.PublicKey:
		issuer.PublicKeyAlgorithm = x509.ECDSA
	case ed25519.PublicKey:
		issuer.PublicKeyAlgorithm = x509.Ed25519
	}
	return issuer.CheckSignature(algorithm, tbs, signature) == nil
}

// sameAlgorithm wants the signature algorithm inside what is signed to be the
// one outside (RFC 5280, Section 4.1.1.2).
func sameAlgorithm(raw []byte) bool {
	outer, _, _ := nextTLV(raw)
	es := elements(outer.body, 3)
	if len(es) < 3 {
		return false
	}
	in := elements(es[0].body, 3)
	for i, e := range in {
		if e.tag == 0x02 && i+1 < len(in) {
			return bytes.Equal(in[i+1].full, es[1].full)
		}
	}
	return false
}

func verifyMLDSA(pub *mldsa.PublicKey, raw, tbs, signature []byte) bool {
	var c struct {
		TBS asn1.RawValue
		Alg algorithmIdentifier
		Sig asn1.BitString
	}
	if _, err := asn1.Unmarshal(raw, &c); err != nil || len(c.Alg.Parameters.FullBytes) > 0 {
		return false
	}
	for _, a := range mldsaOIDs {
		if c.Alg.Algorithm.Equal(a.oid) && pub.Parameters() == a.params() {
			return mldsa.Verify(pub, tbs, signature, nil) == nil
		}
	}
	return false
}

func pkcs1Hash(a x509.SignatureAlgorithm) crypto.Hash {
	switch a {
	case x509.MD5WithRSA:
		return crypto.MD5
	case x509.SHA1WithRSA:
		return crypto.SHA1
	case x509.SHA256WithRSA:
		return crypto.SHA256
	case x509.SHA384WithRSA:
		return crypto.SHA384
	case x509.SHA512WithRSA:
		return crypto.SHA512
	}
	return 0
}

// digestInfo is the DER before the digest in a PKCS #1 v1.5 signature (RFC 8017, Section 9.2, note 1).
var digestInfo = map[crypto.Hash][]byte{
	crypto.MD5:    {0x30, 0x20, 0x30, 0x0c, 0x06, 0x08, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x05, 0x05, 0x00, 0x04, 0x10},
	crypto.SHA1:   {0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14},
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// verifyPKCS1 is RSASSA-PKCS1-v1_5 (RFC 8017, Section 8.2.2) for keys and
// hashes that the standard library refuses: to say "weak", and not "wrong
// issuer", one has to verify first. Nothing is trusted because of it.
func verifyPKCS1(pub *rsa.PublicKey, h crypto.Hash, tbs, sig []byte) bool {
	want := encodedMessage(h, tbs, pub.Size())
	return want != nil && bytes.Equal(recoverPKCS1(pub, sig), want)
}

func recoverPKCS1(pub *rsa.PublicKey, sig []byte) []byte {
	s := new(big.Int).SetBytes(sig)
	if len(sig) != pub.Size() || s.Cmp(pub.N) >= 0 || pub.N.BitLen() > maxRSABits {
		return nil
	}
	m := new(big.Int).Exp(s, big.NewInt(int64(pub.E)), pub.N)
	return m.FillBytes(make([]byte, pub.Size()))
}

func encodedMessage(h crypto.Hash, tbs []byte, size int) []byte {
	var digest []byte
	switch h {
	case crypto.MD5:
		d := md5.Sum(tbs)
		digest = d[:]
	case crypto.SHA1:
		d := sha1.Sum(tbs)
		digest = d[:]
	case crypto.SHA256:
		d := sha256.Sum256(tbs)
		digest = d[:]
	case crypto.SHA384:
		d := sha512.Sum384(tbs)
		digest = d[:]
	case crypto.SHA512:
		d := sha512.Sum512(tbs)
		digest = d[:]
	}
	t := append(bytes.Clone(digestInfo[h]), digest...)
	if size < len(t)+11 {
		return nil
	}
	em := bytes.Repeat([]byte{0xFF}, size)
	em[0], em[1], em[size-len(t)-1] = 0, 1, 0
	copy(em[size-len(t):], t)
	return em
}

// madeBy says that pub made the signature of x although the content does not
// match it any more: an RSA signature that decrypts to good padding.
func madeBy(pub any, x *x509.Certificate) bool {
	k, ok := pub.(*rsa.PublicKey)
	if !ok || pkcs1Hash(x.SignatureAlgorithm) == 0 {
		return false
	}
	em := recoverPKCS1(k, x.Signature)
	return len(em) > 11 && em[0] == 0 && em[1] == 1 && em[2] == 0xFF && em[10] == 0xFF
}

// PrivateKey is a private key found in a file. It never prints.
type PrivateKey struct {
	key any
	der []byte
}

// PrivateKeyOf finds the private key of a certificate in a file, in any dress;
// nil when there is none that can be read.
func PrivateKeyOf(cert *Cert, data []byte, password string) *PrivateKey {
	f := Read(data, password)
	keys := f.privateKeys
	for _, it := range f.Items {
		if it.Kind == KindPrivateKey {
			keys = append(keys, parsePrivate(it.DER))
		}
	}
	for _, k := range keys {
		if pub := publicOf(k); pub == nil || !cert.hasKey(pub) {
			continue
		}
		if der, err := x509.MarshalPKCS8PrivateKey(k); err == nil {
			return &PrivateKey{k, der}
		}
	}
	return nil
}

// parsePrivate reads a key as PKCS #8, RFC 5915 or PKCS #1; nil when it is none.
func parsePrivate(der []byte) any {
	if k, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return k
	}
	if k, err := x509.ParseECPrivateKey(der); err == nil {
		return k
	}
	if k, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return k
	}
	return nil
}

// Key is the key itself.
func (k *PrivateKey) Key() any { return k.key }

// PEM is the key as PKCS #8. The caller keeps it where only its owner reads.
func (k *PrivateKey) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k.der})
}

// Format keeps the key out of logs, whatever the verb.
func (k *PrivateKey) Format(s fmt.State, _ rune) { io.WriteString(s, "[private key]") }

// MarshalJSON keeps the key out of JSON.
func (k *PrivateKey) MarshalJSON() ([]byte, error) { return []byte(`"[private key]"`), nil }
