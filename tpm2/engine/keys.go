package engine

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"math/big"

	"filippo.io/mldsa"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// keyCache is an object's private key in the form of Go's packages.
type keyCache struct {
	rsa   *rsa.PrivateKey
	ecdsa *ecdsa.PrivateKey
	ecdh  *ecdh.PrivateKey // the same key: each form computes the public key anew
	mlkem crypto.Decapsulator
	mldsa *mldsa.PrivateKey
}

const rsaExponent = 65537

// curveOf is the Go curve of an ECC object or parameter.
func curveOf(c tpm2.ECCCurve) elliptic.Curve {
	switch c {
	case tpm2.ECCNISTP256:
		return elliptic.P256()
	case tpm2.ECCNISTP384:
		return elliptic.P384()
	}
	return elliptic.P521()
}

func ecdhCurve(c tpm2.ECCCurve) ecdh.Curve {
	switch c {
	case tpm2.ECCNISTP256:
		return ecdh.P256()
	case tpm2.ECCNISTP384:
		return ecdh.P384()
	}
	return ecdh.P521()
}

// coordinateSize is the octets of a coordinate on the curve.
func coordinateSize(c tpm2.ECCCurve) int { return (curveOf(c).Params().BitSize + 7) / 8 }

// leftPad makes b exactly n octets, with zeros in front; nil when it is longer.
func leftPad(b []byte, n int) []byte {
	for len(b) > n && b[0] == 0 {
		b = b[1:]
	}
	if len(b) > n {
		return nil
	}
	return append(make([]byte, n-len(b), n), b...)
}

// ecPoint is the uncompressed form of a point, checked to be on the curve.
func ecPoint(c tpm2.ECCCurve, p *tpm2.TPMSECCPoint) (*ecdh.PublicKey, tpm2.RC) {
	n := coordinateSize(c)
	x, y := leftPad(p.X, n), leftPad(p.Y, n)
	if x == nil || y == nil {
		return nil, tpm2.RCECCPoint
	}
	k, err := ecdhCurve(c).NewPublicKey(append(append([]byte{4}, x...), y...))
	if err != nil {
		return nil, tpm2.RCECCPoint
	}
	return k, tpm2.RCSuccess
}

// pointOf is the reverse of ecPoint.
func pointOf(uncompressed []byte) tpm2.TPMSECCPoint {
	n := (len(uncompressed) - 1) / 2
	return tpm2.TPMSECCPoint{X: uncompressed[1 : 1+n], Y: uncompressed[1+n:]}
}

// ecdsaKey is the private key of an ECC object.
func (o *object) ecdsaKey() (*ecdsa.PrivateKey, tpm2.RC) {
	if o.key.ecdsa == nil {
		c := o.pub.Parameters.ECCDetail.CurveID
		d := leftPad(o.sens.Sensitive.ECC, coordinateSize(c))
		k, err := ecdsa.ParseRawPrivateKey(curveOf(c), d)
		if d == nil || err != nil {
			return nil, tpm2.RCBinding
		}
		o.key.ecdsa = k
	}
	return o.key.ecdsa, tpm2.RCSuccess
}

// ecdhKey is the same for key exchange.
func (o *object) ecdhKey() (*ecdh.PrivateKey, tpm2.RC) {
	if o.key.ecdh == nil {
		c := o.pub.Parameters.ECCDetail.CurveID
		d := leftPad(o.sens.Sensitive.ECC, coordinateSize(c))
		k, err := ecdhCurve(c).NewPrivateKey(d)
		if d == nil || err != nil {
			return nil, tpm2.RCBinding
		}
		o.key.ecdh = k
	}
	return o.key.ecdh, tpm2.RCSuccess
}

// rsaPublic is the public key of an RSA object.
func (o *object) rsaPublic() *rsa.PublicKey {
	return &rsa.PublicKey{N: new(big.Int).SetBytes(o.pub.Unique.RSA), E: rsaExponent}
}

// rsaKey is the private key of an RSA object; the sensitive area holds one prime (Part 1, B.4).
func (o *object) rsaKey() (*rsa.PrivateKey, tpm2.RC) {
	if o.key.rsa == nil {
		n := new(big.Int).SetBytes(o.pub.Unique.RSA)
		p := new(big.Int).SetBytes(o.sens.Sensitive.RSA)
		if p.Sign() == 0 {
			return nil, tpm2.RCBinding
		}
		q, r := new(big.Int).QuoRem(n, p, new(big.Int))
		if r.Sign() != 0 || p.BitLen() != n.BitLen()/2 || q.BitLen() != p.BitLen() {
			return nil, tpm2.RCBinding
		}
		k := rsaFromPrimes(p, q)
		if k == nil {
			return nil, tpm2.RCBinding
		}
		o.key.rsa = k
	}
	return o.key.rsa, tpm2.RCSuccess
}

// rsaFromPrimes completes a private key, or returns nil when the numbers make none.
func rsaFromPrimes(p, q *big.Int) *rsa.PrivateKey {
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	d := new(big.Int).ModInverse(big.NewInt(rsaExponent), phi)
	if d == nil {
		return nil
	}
	k := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: rsaExponent}, D: d, Primes: []*big.Int{p, q}}
	k.Precompute()
	if k.Validate() != nil {
		return nil
	}
	return k
}

// signDigest signs with an asymmetric or HMAC key, the scheme being settled.
func (t *TPM) signDigest(o *object, scheme *tpm2.TPMTSigScheme, digest []byte) (sig tpm2.TPMTSignature, rc tpm2.RC) {
	alg := scheme.Details.Any.HashAlg
	sig.SigAlg = scheme.Scheme
	switch scheme.Scheme {
	case tpm2.AlgRSASSA, tpm2.AlgRSAPSS:
		k, rc := o.rsaKey()
		if rc != tpm2.RCSuccess {
			return sig, rc
		}
		var b []byte
		var err error
		if scheme.Scheme == tpm2.AlgRSASSA {
			b, err = rsa.SignPKCS1v15(rand.Reader, k, crypt.Hash(alg), digest)
		} else { // a salt as long as the digest (FIPS 186-5, 5.4)
			b, err = rsa.SignPSS(rand.Reader, k, crypt.Hash(alg), digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
		if err != nil {
			return sig, tpm2.RCScheme
		}
		sig.Signature.RSA = tpm2.TPMSSignatureRSA{Hash: alg, Sig: b}
	case tpm2.AlgECDSA:
		k, rc := o.ecdsaKey()
		if rc != tpm2.RCSuccess {
			return sig, rc
		}
		der, err := ecdsa.SignASN1(rand.Reader, k, digest)
		if err != nil {
			return sig, tpm2.RCScheme
		}
		var inner cryptobyte.String
		r, s := new(big.Int), new(big.Int)
		in := cryptobyte.String(der)
		if !in.ReadASN1(&inner, asn1.SEQUENCE) || !inner.ReadASN1Integer(r) || !inner.ReadASN1Integer(s) {
			panic("internal error: crypto/ecdsa made no signature")
		}
		n := coordinateSize(o.pub.Parameters.ECCDetail.CurveID)
		sig.Signature.ECC = tpm2.TPMSSignatureECC{Hash: alg, SignatureR: r.FillBytes(make([]byte, n)), SignatureS: s.FillBytes(make([]byte, n))}
	case tpm2.AlgECDAA:
		return t.signECDAA(o, &scheme.Details.ECDAA, digest)
	case tpm2.AlgHMAC:
		sig.Signature.HMAC = tpm2.TPMTHA{HashAlg: alg, Digest: crypt.HMAC(alg, o.sens.Sensitive.Bits, digest)}
	default:
		return sig, tpm2.RCScheme
	}
	return sig, tpm2.RCSuccess
}

// verify checks a signature over a digest; TPM_RC_SIGNATURE when it is not good.
func (o *object) verify(sig *tpm2.TPMTSignature, digest []byte) tpm2.RC {
	switch sig.SigAlg {
	case tpm2.AlgRSASSA, tpm2.AlgRSAPSS:
		if o.pub.Type != tpm2.AlgRSA {
			return tpm2.RCScheme
		}
		s := sig.Signature.RSA
		h := crypt.Hash(s.Hash)
		if len(digest) != h.Size() {
			return tpm2.RCSignature
		}
		var err error
		if sig.SigAlg == tpm2.AlgRSASSA {
			err = rsa.VerifyPKCS1v15(o.rsaPublic(), h, digest, s.Sig)
		} else {
			err = rsa.VerifyPSS(o.rsaPublic(), h, digest, s.Sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto})
		}
		if err != nil {
			return tpm2.RCSignature
		}
	case tpm2.AlgECDSA:
		if o.pub.Type != tpm2.AlgECC {
			return tpm2.RCScheme
		}
		s := sig.Signature.ECC
		curve := o.pub.Parameters.ECCDetail.CurveID
		point, rc := ecPoint(curve, &o.pub.Unique.ECC)
		if rc != tpm2.RCSuccess {
			return tpm2.RCSignature
		}
		pub, err := ecdsa.ParseUncompressedPublicKey(curveOf(curve), point.Bytes())
		if err != nil {
			return tpm2.RCSignature
		}
		if !ecdsa.Verify(pub, digest, new(big.Int).SetBytes(s.SignatureR), new(big.Int).SetBytes(s.SignatureS)) {
			return tpm2.RCSignature
		}
	case tpm2.AlgHMAC:
		// CVE-2025-49133: the signature's hash is checked to be the key's own
		// before anything is computed with it.
		d := o.pub.Parameters.KeyedHashDetail.Scheme
		switch {
		case o.pub.Type != tpm2.AlgKeyedHash:
			return tpm2.RCScheme
		case o.sens == nil:
			return tpm2.RCHandle
		case d.Scheme == tpm2.AlgHMAC && d.Details.HMAC.HashAlg != sig.Signature.HMAC.HashAlg,
			sig.Signature.HMAC.HashAlg == tpm2.AlgNull:
			return tpm2.RCSignature
		}
		want := crypt.HMAC(sig.Signature.HMAC.HashAlg, o.sens.Sensitive.Bits, digest)
		if subtle.ConstantTimeCompare(want, sig.Signature.HMAC.Digest) != 1 {
			return tpm2.RCSignature
		}
	default:
		return tpm2.RCScheme
	}
	return tpm2.RCSuccess
}

// decryptSecret recovers a secret that was encrypted to the object: a session's
// salt, a duplicate's or a credential's seed (Part 1, 43.10, 44.7 and 47.4).
func (o *object) decryptSecret(label string, blob []byte) ([]byte, tpm2.RC) {
	alg := o.pub.NameAlg
	if crypt.Hash(alg) == 0 {
		return nil, tpm2.RCKey
	}
	switch o.pub.Type {
	case tpm2.AlgRSA:
		k, rc := o.rsaKey()
		if rc != tpm2.RCSuccess {
			return nil, rc
		}
		if len(blob) != k.Size() {
			return nil, tpm2.RCSize
		}
		secret, err := rsa.DecryptOAEP(crypt.New(alg), nil, k, blob, append([]byte(label), 0))
		if err != nil || len(secret) > alg.DigestSize() {
			return nil, tpm2.RCValue
		}
		return secret, tpm2.RCSuccess
	case tpm2.AlgECC:
		k, rc := o.ecdhKey()
		if rc != tpm2.RCSuccess {
			return nil, rc
		}
		var p tpm2.TPMSECCPoint
		if err := tpm2.Unmarshal(blob, &p); err != nil {
			return nil, err.(tpm2.RC)
		}
		eph, rc := ecPoint(o.pub.Parameters.ECCDetail.CurveID, &p)
		if rc != tpm2.RCSuccess {
			return nil, rc
		}
		z, err := k.ECDH(eph)
		if err != nil {
			return nil, tpm2.RCECCPoint
		}
		own := pointOf(k.PublicKey().Bytes())
		return crypt.KDFe(alg, z, label, pointOf(eph.Bytes()).X, own.X, 8*alg.DigestSize()), tpm2.RCSuccess
	}
	if o.pub.Type == tpm2.AlgMLKEM {
		return o.decapsulateLabeled(label, blob)
	}
	return nil, tpm2.RCKey
}

// encryptSecret makes a fresh secret and its encryption to the object's public key.
func (t *TPM) encryptSecret(o *object, label string) (secret, blob []byte, rc tpm2.RC) {
	alg := o.pub.NameAlg
	switch o.pub.Type {
	case tpm2.AlgRSA:
		secret = t.rng.bytes(alg.DigestSize())
		blob, err := rsa.EncryptOAEP(crypt.New(alg), rand.Reader, o.rsaPublic(), secret, append([]byte(label), 0))
		if err != nil {
			return nil, nil, tpm2.RCKey
		}
		return secret, blob, tpm2.RCSuccess
	case tpm2.AlgECC:
		c := o.pub.Parameters.ECCDetail.CurveID
		pub, rc := ecPoint(c, &o.pub.Unique.ECC)
		if rc != tpm2.RCSuccess {
			return nil, nil, rc
		}
		eph, err := ecdhCurve(c).GenerateKey(rand.Reader)
		if err != nil {
			return nil, nil, tpm2.RCKey
		}
		z, err := eph.ECDH(pub)
		if err != nil {
			return nil, nil, tpm2.RCECCPoint
		}
		p := pointOf(eph.PublicKey().Bytes())
		secret = crypt.KDFe(alg, z, label, p.X, pointOf(pub.Bytes()).X, 8*alg.DigestSize())
		return secret, tpm2.Marshal(&p), tpm2.RCSuccess
	}
	if o.pub.Type == tpm2.AlgMLKEM {
		return o.encapsulateLabeled(label)
	}
	return nil, nil, tpm2.RCKey
}
