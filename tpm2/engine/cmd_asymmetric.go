package engine

import (
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"math/big"

	"filippo.io/bigmod"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// decryptScheme settles the padding: the key's, or the caller's where the key has none (Part 3, 14.2.1).
func decryptScheme(o *object, in *tpm2.TPMTRSADecrypt) (tpm2.AlgID, tpm2.AlgID, tpm2.RC) {
	own := &o.pub.Parameters.RSADetail.Scheme
	switch {
	case own.Scheme == tpm2.AlgNull:
		return in.Scheme, in.Details.Any.HashAlg, tpm2.RCSuccess
	case in.Scheme == tpm2.AlgNull, in.Scheme == own.Scheme && in.Details == own.Details:
		return own.Scheme, own.Details.Any.HashAlg, tpm2.RCSuccess
	}
	return 0, 0, tpm2.RCScheme
}

// checkLabel: an OAEP label ends in a zero octet, which is part of it (Part 1, B.4).
func checkLabel(label []byte) tpm2.RC {
	if n := len(label); n > 0 && label[n-1] != 0 {
		return tpm2.RCValue
	}
	return tpm2.RCSuccess
}

// rsaEncrypt is TPM2_RSA_Encrypt (Part 3, 14.2).
func (t *TPM) rsaEncrypt(_ *call, in *tpm2.RSAEncrypt, out *tpm2.RSAEncryptResponse) tpm2.RC {
	o := t.object(in.KeyHandle)
	switch {
	case o.pub.Type != tpm2.AlgRSA:
		return tpm2.RCKey.Handle(1)
	case !o.pub.ObjectAttributes.Has(tpm2.Decrypt):
		return tpm2.RCAttributes.Handle(1)
	}
	if rc := checkLabel(in.Label); rc != tpm2.RCSuccess {
		return rc.Param(3)
	}
	scheme, alg, rc := decryptScheme(o, &in.InScheme)
	if rc != tpm2.RCSuccess {
		return rc.Param(2)
	}
	k := o.rsaPublic()
	var err error
	switch scheme {
	case tpm2.AlgOAEP:
		out.OutData, err = rsa.EncryptOAEP(crypt.New(alg), rand.Reader, k, in.Message, in.Label)
	case tpm2.AlgRSAES:
		//lint:ignore SA1019 a TPM offers RSAES
		out.OutData, err = rsa.EncryptPKCS1v15(rand.Reader, k, in.Message)
	default: // no padding: the message is the number
		m := new(big.Int).SetBytes(in.Message)
		if m.Cmp(k.N) >= 0 {
			return tpm2.RCValue.Param(1)
		}
		out.OutData = m.Exp(m, big.NewInt(int64(k.E)), k.N).FillBytes(make([]byte, k.Size()))
	}
	if err != nil { // the message is too long
		return tpm2.RCValue.Param(1)
	}
	return tpm2.RCSuccess
}

// rsaDecrypt is TPM2_RSA_Decrypt (Part 3, 14.3).
func (t *TPM) rsaDecrypt(_ *call, in *tpm2.RSADecrypt, out *tpm2.RSADecryptResponse) tpm2.RC {
	o := t.object(in.KeyHandle)
	switch {
	case o.pub.Type != tpm2.AlgRSA:
		return tpm2.RCKey.Handle(1)
	case o.pub.ObjectAttributes.Has(tpm2.Restricted), !o.pub.ObjectAttributes.Has(tpm2.Decrypt):
		return tpm2.RCAttributes.Handle(1)
	}
	if rc := checkLabel(in.Label); rc != tpm2.RCSuccess {
		return rc.Param(3)
	}
	scheme, alg, rc := decryptScheme(o, &in.InScheme)
	if rc != tpm2.RCSuccess {
		return rc.Param(2)
	}
	k, rc := o.rsaKey()
	if rc != tpm2.RCSuccess {
		return rc
	}
	c := new(big.Int).SetBytes(in.CipherText)
	switch {
	case len(in.CipherText) != k.Size():
		return tpm2.RCSize.Param(1)
	case c.Cmp(k.N) >= 0:
		return tpm2.RCValue.Param(1)
	}
	var err error
	switch scheme {
	case tpm2.AlgOAEP:
		out.Message, err = rsa.DecryptOAEP(crypt.New(alg), nil, k, in.CipherText, in.Label)
	case tpm2.AlgRSAES:
		//lint:ignore SA1019 a TPM offers RSAES; who may decrypt here is authorized
		out.Message, err = rsa.DecryptPKCS1v15(nil, k, in.CipherText)
	default:
		out.Message = rawDecrypt(k, in.CipherText)
	}
	if err != nil {
		return tpm2.RCValue.Param(1)
	}
	return tpm2.RCSuccess
}

// rawDecrypt is c^d mod n, c being below n. Go's RSA has no call without padding;
// this is its arithmetic, in constant time.
func rawDecrypt(k *rsa.PrivateKey, c []byte) []byte {
	m, err := bigmod.NewModulus(k.N.Bytes())
	if err != nil {
		panic("internal error: " + err.Error())
	}
	x, err := bigmod.NewNat().SetBytes(c, m)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	d := k.D.FillBytes(make([]byte, k.Size()))
	defer clear(d)
	return bigmod.NewNat().Exp(x, d, m).Bytes(m)
}

// ecdhKeyGen is TPM2_ECDH_KeyGen (Part 3, 14.4).
func (t *TPM) ecdhKeyGen(_ *call, in *tpm2.ECDHKeyGen, out *tpm2.ECDHKeyGenResponse) tpm2.RC {
	o := t.object(in.KeyHandle)
	if o.pub.Type != tpm2.AlgECC { // any use of it: only the public key is needed
		return tpm2.RCKey.Handle(1)
	}
	c := o.pub.Parameters.ECCDetail.CurveID
	pub, rc := ecPoint(c, &o.pub.Unique.ECC)
	if rc != tpm2.RCSuccess {
		return rc.Handle(1)
	}
	eph, err := ecdhCurve(c).GenerateKey(rand.Reader)
	if err != nil {
		return tpm2.RCNoResult
	}
	out.PubPoint = pointOf(eph.PublicKey().Bytes())
	out.ZPoint = multiply(c, pub, eph.Bytes())
	return tpm2.RCSuccess
}

// multiply is d times a point, both coordinates. crypto/ecdh gives x alone, so
// this is the one use of crypto/elliptic's scalar multiplication, which for the
// NIST curves is the same constant-time code.
func multiply(c tpm2.ECCCurve, p *ecdh.PublicKey, d []byte) tpm2.TPMSECCPoint {
	in := pointOf(p.Bytes())
	//lint:ignore SA1019 see above
	x, y := curveOf(c).ScalarMult(new(big.Int).SetBytes(in.X), new(big.Int).SetBytes(in.Y), d)
	//lint:ignore SA1019 see above
	return pointOf(elliptic.Marshal(curveOf(c), x, y))
}

// ecdhZGen is TPM2_ECDH_ZGen (Part 3, 14.5).
func (t *TPM) ecdhZGen(_ *call, in *tpm2.ECDHZGen, out *tpm2.ECDHZGenResponse) tpm2.RC {
	o := t.object(in.KeyHandle)
	switch {
	case o.pub.Type != tpm2.AlgECC:
		return tpm2.RCKey.Handle(1)
	case o.pub.ObjectAttributes.Has(tpm2.Restricted), !o.pub.ObjectAttributes.Has(tpm2.Decrypt):
		return tpm2.RCAttributes.Handle(1)
	case o.pub.Parameters.ECCDetail.Scheme.Scheme != tpm2.AlgECDH && o.pub.Parameters.ECCDetail.Scheme.Scheme != tpm2.AlgNull:
		return tpm2.RCScheme.Handle(1)
	}
	c := o.pub.Parameters.ECCDetail.CurveID
	p, rc := ecPoint(c, &in.InPoint)
	if rc != tpm2.RCSuccess {
		return rc.Param(1)
	}
	k, rc := o.ecdhKey()
	if rc != tpm2.RCSuccess {
		return rc
	}
	d := k.Bytes()
	defer clear(d)
	out.OutPoint = multiply(c, p, d)
	return tpm2.RCSuccess
}

// eccParameters is TPM2_ECC_Parameters (Part 3, 14.6).
func (t *TPM) eccParameters(_ *call, in *tpm2.ECCParameters, out *tpm2.ECCParametersResponse) tpm2.RC {
	p := curveOf(in.CurveID).Params()
	n := coordinateSize(in.CurveID)
	fixed := func(v *big.Int) []byte { return v.FillBytes(make([]byte, n)) }
	a := new(big.Int).Sub(p.P, big.NewInt(3)) // all NIST prime curves have a = -3
	out.Parameters = tpm2.TPMSAlgorithmDetailECC{
		CurveID: in.CurveID, KeySize: uint16(p.BitSize),
		KDF:  tpm2.TPMTKDFScheme{Scheme: tpm2.AlgNull},
		Sign: tpm2.TPMTECCScheme{Scheme: tpm2.AlgNull},
		P:    fixed(p.P), A: fixed(a), B: fixed(p.B), GX: fixed(p.Gx), GY: fixed(p.Gy), N: fixed(p.N), H: []byte{1},
	}
	return tpm2.RCSuccess
}
