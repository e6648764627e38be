package engine

import (
	"crypto/ecdh"
	"crypto/elliptic"
	"math/big"

	"filippo.io/bigmod"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// Split signing (Part 1, 44.2 and 44.3.3): TPM2_Commit promises a random number,
// and an ECDAA signature keeps the promise. The TPM's part of ECDAA is a Schnorr
// signature on any curve; the pairing that makes it anonymous is the verifier's,
// and on the curves here there is none: what remains is what tools and
// two-phase protocols use.

// commitPoint is TPM2_Commit (Part 3, 19.2; Part 1, 44.2.3).
func (t *TPM) commitPoint(_ *call, in *tpm2.Commit, out *tpm2.CommitResponse) tpm2.RC {
	o := t.object(in.SignHandle)
	switch {
	case o.pub.Type != tpm2.AlgECC:
		return tpm2.RCKey.Handle(1)
	case o.pub.Parameters.ECCDetail.Scheme.Scheme != tpm2.AlgECDAA:
		return tpm2.RCScheme.Handle(1)
	case (len(in.S2) == 0) != (len(in.Y2) == 0):
		return tpm2.RCSize.Param(3)
	}
	c := o.pub.Parameters.ECCDetail.CurveID
	var base, p1 *ecdh.PublicKey
	var rc tpm2.RC
	if len(in.S2) != 0 {
		if base, rc = basePoint(o, in.S2, in.Y2); rc != tpm2.RCSuccess {
			return rc.Param(2)
		}
	}
	if len(in.P1.X) != 0 || len(in.P1.Y) != 0 {
		if p1, rc = ecPoint(c, &in.P1); rc != tpm2.RCSuccess {
			return rc.Param(1)
		}
	}
	k, rc := o.ecdhKey()
	if rc != tpm2.RCSuccess {
		return rc
	}
	x := &t.ram.reset.commits
	promise, rc := x.key(c, x.count, o.name)
	if rc != tpm2.RCSuccess {
		return rc
	}
	d, r := k.Bytes(), promise.Bytes()
	defer clear(d)
	defer clear(r)
	if base != nil {
		out.K, out.L = multiply(c, base, d), multiply(c, base, r)
	}
	switch {
	case p1 != nil:
		out.E = multiply(c, p1, r)
	case base == nil:
		out.E = pointOf(promise.PublicKey().Bytes())
	}
	out.Counter = x.give()
	return tpm2.RCSuccess
}

// basePoint makes the point of a base name: x is its digest (Part 1, 44.2.3, steps 3 and 4).
func basePoint(o *object, s2, y2 []byte) (*ecdh.PublicKey, tpm2.RC) {
	if crypt.Hash(o.pub.NameAlg) == 0 { // loaded without a Name
		return nil, tpm2.RCHash
	}
	c := o.pub.Parameters.ECCDetail.CurveID
	x2 := new(big.Int).SetBytes(crypt.Digest(o.pub.NameAlg, s2))
	return ecPoint(c, &tpm2.TPMSECCPoint{X: x2.Mod(x2, curveOf(c).Params().P).Bytes(), Y: y2})
}

// signECDAA signs P with the number that was promised for a counter, and uses
// it up (Part 1, 44.3.3.3). The scalars are secret: constant-time arithmetic.
func (t *TPM) signECDAA(o *object, scheme *tpm2.TPMSSchemeECDAA, p []byte) (sig tpm2.TPMTSignature, rc tpm2.RC) {
	x := &t.ram.reset.commits
	n, rc := x.find(scheme.Count)
	if rc != tpm2.RCSuccess {
		return sig, rc
	}
	c := o.pub.Parameters.ECCDetail.CurveID
	k, rc := o.ecdhKey()
	if rc != tpm2.RCSuccess {
		return sig, rc
	}
	promise, rc := x.key(c, n, o.name)
	if rc != tpm2.RCSuccess {
		return sig, rc
	}
	order := curveOf(c).Params().N
	nonce := deriveECC(order, keyStream(t.rng.bytes(32))).FillBytes(make([]byte, coordinateSize(c))) // it goes out with the signature
	sum := new(big.Int).SetBytes(crypt.Digest(scheme.HashAlg, nonce, p))
	s := schnorr(curveOf(c), promise.Bytes(), k.Bytes(), sum.Mod(sum, order))
	if s == nil {
		return sig, tpm2.RCNoResult
	}
	// A promise that TPM2_Startup(STATE) brings back would be kept twice, for two
	// messages: that gives the key away.
	if rc := t.noLongerOrderly(); rc != tpm2.RCSuccess {
		return sig, rc
	}
	x.spend(n)
	sig.SigAlg = tpm2.AlgECDAA
	sig.Signature.ECC = tpm2.TPMSSignatureECC{Hash: scheme.HashAlg, SignatureR: nonce, SignatureS: s}
	return sig, tpm2.RCSuccess
}

// schnorr is r + td modulo the order of the curve; nil when that is 0. It
// erases r and d.
func schnorr(curve elliptic.Curve, r, d []byte, t *big.Int) []byte {
	defer clear(r)
	defer clear(d)
	order := curve.Params().N
	m, err := bigmod.NewModulus(order.Bytes())
	if err != nil {
		panic("internal error: " + err.Error())
	}
	scalar := func(b []byte) *bigmod.Nat {
		n, err := bigmod.NewNat().SetBytes(b, m)
		if err != nil {
			panic("internal error: " + err.Error()) // keys are below the order
		}
		return n
	}
	s := scalar(t.FillBytes(make([]byte, len(d)))).Mul(scalar(d), m).Add(scalar(r), m)
	if s.IsZero() == 1 {
		return nil
	}
	return s.Bytes(m)
}
