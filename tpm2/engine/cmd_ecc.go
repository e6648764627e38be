package engine

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// commits are the ephemeral keys given out by TPM2_EC_Ephemeral and TPM2_Commit
// and not used yet (Part 1, 44.2): each comes from one secret and its number, so
// that a bit for each is all there is to keep.
type commits struct {
	secret []byte
	count  uint64
	open   uint64 // bit n: the last number that is n modulo 64 is unused
}

func (x *commits) walk(c *coder) {
	c.bytes(&x.secret, proofSize)
	c.u64(&x.count)
	c.u64(&x.open)
}

// maxCommits is how many there can be at once: TPM_PT_SPLIT_MAX.
const maxCommits = 64

// key is the ephemeral key of a number on a curve. For a commitment it is that
// of one signing key, by its Name, as well (Part 1, 44.2.2).
func (x *commits) key(curve tpm2.ECCCurve, n uint64, name []byte) (*ecdh.PrivateKey, tpm2.RC) {
	use := append([]byte{byte(curve >> 8), byte(curve)}, name...)
	stream := keyStream(crypt.KDFa(tpm2.AlgSHA512, x.secret, "EPHEMERAL", be(n), use, 256))
	d := deriveECC(curveOf(curve).Params().N, stream).FillBytes(make([]byte, coordinateSize(curve)))
	defer clear(d)
	k, err := ecdhCurve(curve).NewPrivateKey(d)
	if err != nil {
		return nil, tpm2.RCNoResult
	}
	return k, tpm2.RCSuccess
}

// give hands the next number out.
func (x *commits) give() (counter uint16) {
	counter = uint16(x.count)
	x.open |= 1 << (x.count % maxCommits)
	x.count++
	return counter
}

// find finds the number that a counter stands for, if it is still to be used (Part 1, 44.2.5).
func (x *commits) find(counter uint16) (n uint64, rc tpm2.RC) {
	back := uint64(uint16(x.count) - counter) // how long ago it was given out
	if back == 0 || back > maxCommits || back > x.count {
		return 0, tpm2.RCValue
	}
	n = x.count - back
	if x.open&(1<<(n%maxCommits)) == 0 {
		return 0, tpm2.RCValue
	}
	return n, tpm2.RCSuccess
}

// spend uses a number up.
func (x *commits) spend(n uint64) { x.open &^= 1 << (n % maxCommits) }

// ecEphemeral is TPM2_EC_Ephemeral (Part 3, 19.3).
func (t *TPM) ecEphemeral(_ *call, in *tpm2.ECEphemeral, out *tpm2.ECEphemeralResponse) tpm2.RC {
	x := &t.ram.reset.commits
	k, rc := x.key(in.CurveID, x.count, nil)
	if rc != tpm2.RCSuccess {
		return rc
	}
	out.Q, out.Counter = pointOf(k.PublicKey().Bytes()), x.give()
	return tpm2.RCSuccess
}

// zGen2Phase is TPM2_ZGen_2Phase (Part 3, 14.7), for ECDH.
func (t *TPM) zGen2Phase(_ *call, in *tpm2.ZGen2Phase, out *tpm2.ZGen2PhaseResponse) tpm2.RC {
	o := t.object(in.KeyA)
	own := o.pub.Parameters.ECCDetail.Scheme.Scheme
	switch {
	case o.pub.Type != tpm2.AlgECC:
		return tpm2.RCKey.Handle(1)
	case o.pub.ObjectAttributes.Has(tpm2.Restricted), !o.pub.ObjectAttributes.Has(tpm2.Decrypt):
		return tpm2.RCAttributes.Handle(1)
	case own != tpm2.AlgNull && own != in.InScheme:
		return tpm2.RCScheme.Param(3)
	}
	c := o.pub.Parameters.ECCDetail.CurveID
	static, rc := ecPoint(c, &in.InQsB)
	if rc != tpm2.RCSuccess {
		return rc.Param(1)
	}
	eph, rc := ecPoint(c, &in.InQeB)
	if rc != tpm2.RCSuccess {
		return rc.Param(2)
	}
	ks, rc := o.ecdhKey()
	if rc != tpm2.RCSuccess {
		return rc
	}
	x := &t.ram.reset.commits
	n, rc := x.find(in.Counter)
	if rc != tpm2.RCSuccess {
		return rc.Param(4)
	}
	ke, rc := x.key(c, n, nil)
	if rc != tpm2.RCSuccess {
		return rc
	}
	x.spend(n)
	out.OutZ1, out.OutZ2 = multiply(c, static, ks.Bytes()), multiply(c, eph, ke.Bytes())
	return tpm2.RCSuccess
}

// eccCipher is what encryption and decryption share (Part 1, 45.2.4): a key
// stream of KDF2 over the shared point, and a digest around the plain text.
type eccCipher struct {
	alg  tpm2.AlgID
	x, y []byte // the shared point
}

// kdfScheme settles the KDF, which no key here has of its own; there is KDF2 only.
func kdfScheme(o *object, in *tpm2.TPMTKDFScheme) (tpm2.AlgID, tpm2.RC) {
	switch {
	case o.pub.Type != tpm2.AlgECC:
		return 0, tpm2.RCKey.Handle(1)
	case in.Scheme != tpm2.AlgKDF2:
		return 0, tpm2.RCScheme
	}
	return in.Details.Any.HashAlg, tpm2.RCSuccess
}

// xor combines data with the key stream (IEEE Std 1363a-2004, KDF2).
func (x *eccCipher) xor(data []byte) []byte {
	var counter [4]byte
	stream := make([]byte, 0, len(data)+maxDigest)
	for i := uint32(1); len(stream) < len(data); i++ {
		binary.BigEndian.PutUint32(counter[:], i)
		stream = append(stream, crypt.Digest(x.alg, x.x, x.y, counter[:])...)
	}
	out := stream[:len(data)]
	for i := range out {
		out[i] ^= data[i]
	}
	return out
}

func (x *eccCipher) integrity(plain []byte) []byte { return crypt.Digest(x.alg, x.x, plain, x.y) }

// eccEncrypt is TPM2_ECC_Encrypt (Part 3, 14.8).
func (t *TPM) eccEncrypt(_ *call, in *tpm2.ECCEncrypt, out *tpm2.ECCEncryptResponse) tpm2.RC {
	o := t.object(in.KeyHandle)
	alg, rc := kdfScheme(o, &in.InScheme)
	if rc != tpm2.RCSuccess {
		return rc.Param(2)
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
	shared := multiply(c, pub, eph.Bytes())
	x := eccCipher{alg, shared.X, shared.Y}
	out.C1, out.C2, out.C3 = pointOf(eph.PublicKey().Bytes()), x.xor(in.PlainText), x.integrity(in.PlainText)
	return tpm2.RCSuccess
}

// eccDecrypt is TPM2_ECC_Decrypt (Part 3, 14.9).
func (t *TPM) eccDecrypt(_ *call, in *tpm2.ECCDecrypt, out *tpm2.ECCDecryptResponse) tpm2.RC {
	o := t.object(in.KeyHandle)
	alg, rc := kdfScheme(o, &in.InScheme)
	switch {
	case rc != tpm2.RCSuccess:
		return rc.Param(4)
	case o.pub.ObjectAttributes.Has(tpm2.Restricted), !o.pub.ObjectAttributes.Has(tpm2.Decrypt):
		return tpm2.RCAttributes.Handle(1)
	}
	c := o.pub.Parameters.ECCDetail.CurveID
	p, rc := ecPoint(c, &in.C1)
	if rc != tpm2.RCSuccess {
		return rc.Param(1)
	}
	k, rc := o.ecdhKey()
	if rc != tpm2.RCSuccess {
		return rc
	}
	shared := multiply(c, p, k.Bytes())
	x := eccCipher{alg, shared.X, shared.Y}
	plain := x.xor(in.C2)
	if !bytesEqual(x.integrity(plain), in.C3) {
		return tpm2.RCValue.Param(3)
	}
	out.PlainText = plain
	return tpm2.RCSuccess
}
