//lint:file-ignore SA1019 the verifier of an ECDAA signature adds points, which nothing else offers

package engine

import (
	"bytes"
	"crypto/elliptic"
	"encoding/hex"
	"math/big"
	"os/exec"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

func anonymousKey(curve tpm2.ECCCurve) tpm2.TPMTPublic {
	pub := eccSigning(curve, tpm2.AlgSHA256)
	pub.Parameters.ECCDetail.Scheme = tpm2.TPMTECCScheme{Scheme: tpm2.AlgECDAA,
		Details: tpm2.TPMUAsymScheme{ECDAA: tpm2.TPMSSchemeECDAA{HashAlg: tpm2.AlgSHA256}}}
	return pub
}

func ecdaa(count uint16) tpm2.TPMTSigScheme {
	return tpm2.TPMTSigScheme{Scheme: tpm2.AlgECDAA,
		Details: tpm2.TPMUSigScheme{ECDAA: tpm2.TPMSSchemeECDAA{HashAlg: tpm2.AlgSHA256, Count: count}}}
}

func signECDAA(key tpm2.Handle, count uint16) *tpm2.Sign {
	c := signCommand(key, 32)
	c.InScheme = ecdaa(count)
	return c
}

// affine is a point of a response on its curve.
type affine struct{ x, y *big.Int }

func pointAt(p tpm2.TPMSECCPoint) affine {
	return affine{new(big.Int).SetBytes(p.X), new(big.Int).SetBytes(p.Y)}
}

// keeps verifies that a signature keeps a promise: [s]B = [r]B + [T]([d]B) with
// T = H(k || P), which is the signature's equation times any base point B.
func keeps(curve elliptic.Curve, sig *tpm2.TPMTSignature, p []byte, base, promise, key affine) bool {
	if sig.SigAlg != tpm2.AlgECDAA || sig.Signature.ECC.Hash != tpm2.AlgSHA256 {
		return false
	}
	t := new(big.Int).SetBytes(crypt.Digest(tpm2.AlgSHA256, sig.Signature.ECC.SignatureR, p))
	t.Mod(t, curve.Params().N)
	x, y := curve.ScalarMult(key.x, key.y, t.Bytes())
	x, y = curve.Add(x, y, promise.x, promise.y)
	wantX, wantY := curve.ScalarMult(base.x, base.y, sig.Signature.ECC.SignatureS)
	return x.Cmp(wantX) == 0 && y.Cmp(wantY) == 0
}

// testECDAA is the same for this TPM and for libtpms.
func testECDAA(t *testing.T, b *bench, id tpm2.ECCCurve) {
	curve := curveOf(id)
	g := affine{curve.Params().Gx, curve.Params().Gy}
	key := b.primary(tpm2.RHOwner, anonymousKey(id))
	q := pointAt(key.OutPublic.Unique.ECC)
	digest := make([]byte, 32)

	// On the generator.
	var c tpm2.CommitResponse
	b.ok(&tpm2.Commit{SignHandle: key.ObjectHandle}, &c)
	if len(c.K.X)+len(c.K.Y)+len(c.L.X)+len(c.L.Y) != 0 {
		t.Errorf("K and L without a base point: %x, %x", c.K, c.L)
	}
	var s tpm2.SignResponse
	b.ok(signECDAA(key.ObjectHandle, c.Counter), &s)
	if !keeps(curve, &s.Signature, digest, g, pointAt(c.E), q) {
		t.Error("the signature does not keep the promise on the generator")
	}
	b.refused(tpm2.RCValue, signECDAA(key.ObjectHandle, c.Counter)) // one promise, one signature

	// On a point, and on a base name's point. Both come from one number.
	var other tpm2.ECDHKeyGenResponse
	b.ok(&tpm2.ECDHKeyGen{KeyHandle: key.ObjectHandle}, &other)
	name, y2, base := baseName(t, curve)
	b.ok(&tpm2.Commit{SignHandle: key.ObjectHandle, P1: other.PubPoint, S2: name, Y2: y2}, &c)
	b.ok(signECDAA(key.ObjectHandle, c.Counter), &s)
	if !keeps(curve, &s.Signature, digest, base, pointAt(c.L), pointAt(c.K)) {
		t.Error("the signature does not keep the promise on the base name's point")
	}
	x, y := curve.ScalarMult(pointAt(other.PubPoint).x, pointAt(other.PubPoint).y, s.Signature.Signature.ECC.SignatureS)
	if e := pointAt(c.E); e.x.Cmp(x) == 0 && e.y.Cmp(y) == 0 {
		t.Error("the promise is the signature itself")
	}

	// What it attests says neither whose key it is nor what the caller adds, but signs both.
	b.ok(&tpm2.Commit{SignHandle: key.ObjectHandle}, &c)
	var a tpm2.CertifyResponse
	b.ok(&tpm2.Certify{ObjectHandle: key.ObjectHandle, SignHandle: key.ObjectHandle, QualifyingData: []byte("nonce"), InScheme: ecdaa(c.Counter)}, &a)
	var said tpm2.TPMSAttest
	if err := tpm2.Unmarshal(a.CertifyInfo, &said); err != nil {
		t.Fatal(err)
	}
	if len(said.QualifiedSigner)+len(said.ExtraData)+len(said.Attested.Certify.QualifiedName) != 0 {
		t.Errorf("the attestation tells on its signer: %+v", said)
	}
	p := crypt.Digest(tpm2.AlgSHA256, []byte("nonce"), crypt.Digest(tpm2.AlgSHA256, a.CertifyInfo))
	if !keeps(curve, &a.Signature, p, g, pointAt(c.E), q) {
		t.Error("the attestation's signature is not over what was asked")
	}
}

// baseName finds a name whose digest is the x of a point.
func baseName(t *testing.T, curve elliptic.Curve) (name, y2 []byte, p affine) {
	params := curve.Params()
	for i := range 64 {
		name = []byte{'b', byte(i)}
		x := new(big.Int).SetBytes(crypt.Digest(tpm2.AlgSHA256, name))
		x.Mod(x, params.P)
		y := new(big.Int).Exp(x, big.NewInt(3), params.P)
		y.Sub(y, new(big.Int).Mul(x, big.NewInt(3))).Add(y, params.B).Mod(y, params.P)
		if y.ModSqrt(y, params.P) != nil {
			return name, y.Bytes(), affine{x, y}
		}
	}
	t.Fatal("no name's digest is on the curve")
	return nil, nil, affine{}
}

func TestECDAA(t *testing.T) {
	for _, id := range []tpm2.ECCCurve{tpm2.ECCNISTP256, tpm2.ECCNISTP384, tpm2.ECCNISTP521} {
		testECDAA(t, newBench(t), id)
	}
}

func TestECDAAOfLibtpms(t *testing.T) {
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Skip("swtpm is absent: apt-get install swtpm")
	}
	b := &bench{t: t, other: newSwtpm(t)}
	b.ok(&tpm2.Startup{StartupType: tpm2.SUClear}, nil)
	testECDAA(t, b, tpm2.ECCNISTP256)
}

// A promise goes with a TPM Reset and is kept through everything else.
func TestCommitmentsAndPower(t *testing.T) {
	b := newBench(t)
	key := b.primary(tpm2.RHOwner, anonymousKey(tpm2.ECCNISTP256))
	var first, second tpm2.CommitResponse
	b.ok(&tpm2.Commit{SignHandle: key.ObjectHandle}, &first)
	b.ok(&tpm2.Commit{SignHandle: key.ObjectHandle}, &second)
	if first.Counter != 0 || second.Counter != 1 || bytes.Equal(first.E.X, second.E.X) {
		t.Errorf("counters %d and %d", first.Counter, second.Counter)
	}
	b.ok(&tpm2.EvictControl{Auth: tpm2.RHOwner, ObjectHandle: key.ObjectHandle, PersistentHandle: 0x81000001}, nil)
	b.ok(&tpm2.Shutdown{ShutdownType: tpm2.SUState}, nil)
	b.powerCycle(tpm2.SUState)
	var s tpm2.SignResponse
	b.ok(signECDAA(0x81000001, first.Counter), &s)
	g := elliptic.P256().Params()
	if !keeps(elliptic.P256(), &s.Signature, make([]byte, 32), affine{g.Gx, g.Gy}, pointAt(first.E), pointAt(key.OutPublic.Unique.ECC)) {
		t.Error("after TPM Resume the promise is another")
	}
	b.powerCycle(tpm2.SUClear)
	b.refused(tpm2.RCValue, signECDAA(0x81000001, second.Counter))
	var again tpm2.CommitResponse
	b.ok(&tpm2.Commit{SignHandle: 0x81000001}, &again)
	if again.Counter != 0 || bytes.Equal(again.E.X, first.E.X) {
		t.Error("the first promise after TPM Reset is the one from before it")
	}

	// There is room for a number of them; the one after takes the place of the oldest.
	for range maxCommits {
		b.ok(&tpm2.ECEphemeral{CurveID: tpm2.ECCNISTP256}, nil)
	}
	b.refused(tpm2.RCValue, signECDAA(0x81000001, again.Counter))
}

// A promise is one key's: its number with another key is another secret.
func TestCommitmentIsOfOneKey(t *testing.T) {
	b := newBench(t)
	one := b.primary(tpm2.RHOwner, anonymousKey(tpm2.ECCNISTP256))
	two := b.primary(tpm2.RHEndorsement, anonymousKey(tpm2.ECCNISTP256))
	var c tpm2.CommitResponse
	b.ok(&tpm2.Commit{SignHandle: one.ObjectHandle}, &c)
	var s tpm2.SignResponse
	b.ok(signECDAA(two.ObjectHandle, c.Counter), &s)
	g := elliptic.P256().Params()
	if keeps(elliptic.P256(), &s.Signature, make([]byte, 32), affine{g.Gx, g.Gy}, pointAt(c.E), pointAt(two.OutPublic.Unique.ECC)) {
		t.Error("two keys sign with one secret number: either key follows from the other")
	}
}

// The commands of version 185 take the counter as the signature's context (Part 2, 11.3.8).
func TestECDAAContext(t *testing.T) {
	b := newBench(t)
	key := b.primary(tpm2.RHOwner, anonymousKey(tpm2.ECCNISTP256))
	g := elliptic.P256().Params()
	digest := crypt.Digest(tpm2.AlgSHA256, []byte("message"))
	noTicket := tpm2.TPMTTkHashCheck{Tag: tpm2.STHashCheck, Hierarchy: tpm2.RHNull}
	verify := func(what string, c *tpm2.CommitResponse, sig *tpm2.TPMTSignature) {
		t.Helper()
		if !keeps(elliptic.P256(), sig, digest, affine{g.Gx, g.Gy}, pointAt(c.E), pointAt(key.OutPublic.Unique.ECC)) {
			t.Errorf("%s: the signature does not keep the promise", what)
		}
	}
	var c tpm2.CommitResponse
	b.ok(&tpm2.Commit{SignHandle: key.ObjectHandle}, &c)
	var d tpm2.SignDigestResponse
	sign := &tpm2.SignDigest{KeyHandle: key.ObjectHandle, Digest: digest, Validation: noTicket}
	b.refused(tpm2.RCSize.Param(1), sign)
	sign.Context = []byte{0, byte(c.Counter)}
	b.ok(sign, &d)
	verify("SignDigest", &c, &d.Signature)

	b.ok(&tpm2.Commit{SignHandle: key.ObjectHandle}, &c)
	start := &tpm2.SignSequenceStart{KeyHandle: key.ObjectHandle}
	b.refused(tpm2.RCSize.Param(2), start)
	start.Context = []byte{0, byte(c.Counter)}
	var seq tpm2.SignSequenceStartResponse
	b.ok(start, &seq)
	var e tpm2.SignSequenceCompleteResponse
	b.ok(&tpm2.SignSequenceComplete{SequenceHandle: seq.SequenceHandle, KeyHandle: key.ObjectHandle, Buffer: []byte("message")}, &e)
	verify("SignSequenceComplete", &c, &e.Signature)

	b.refused(tpm2.RCScheme.Handle(1), &tpm2.VerifySequenceStart{KeyHandle: key.ObjectHandle, Context: []byte{0, 0}})
}

// s = r + td modulo the order, by hand: P-256, r = 2, d = n-1, t = 3 is n-1.
func TestSchnorr(t *testing.T) {
	n := elliptic.P256().Params().N
	scalar := func(v int64) []byte { return new(big.Int).Mod(big.NewInt(v), n).FillBytes(make([]byte, 32)) }
	for _, tt := range []struct{ r, d, t, want int64 }{{2, -1, 3, -1}, {5, 7, 11, 82}, {-1, 1, 1, 0}, {1, -2, 0, 1}} {
		r, d := scalar(tt.r), scalar(tt.d)
		got := schnorr(elliptic.P256(), r, d, big.NewInt(tt.t))
		want := scalar(tt.want)
		if tt.want == 0 {
			want = nil
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d + %d*%d: got %s, want %s", tt.r, tt.t, tt.d, hex.EncodeToString(got), hex.EncodeToString(want))
		}
		if !bytes.Equal(r, make([]byte, 32)) || !bytes.Equal(d, make([]byte, 32)) {
			t.Error("the secrets are still there")
		}
	}
}
