package engine

import (
	"bytes"
	"crypto"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/sha3"
	"hash"

	"filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// ML-KEM and ML-DSA objects (Part 1, 46 and 47; FIPS 203, FIPS 204). Their
// private keys are seeds; the rest is computed when it is needed.

const (
	mlkemSeed = 64 // d || z
	mldsaSeed = 32 // xi
	muSize    = 64 // the message representative of ML-DSA
)

// mldsaParams are the parameters of a set; the decoder lets no other through.
func mldsaParams(p tpm2.MLDSAParms) mldsa.Parameters {
	switch p {
	case tpm2.MLDSA44:
		return mldsa.MLDSA44()
	case tpm2.MLDSA65:
		return mldsa.MLDSA65()
	}
	return mldsa.MLDSA87()
}

// mlkemPrivate makes a decapsulation key of its seed.
func mlkemPrivate(p tpm2.MLKEMParms, seed []byte) (crypto.Decapsulator, error) {
	if p == tpm2.MLKEM768 {
		return mlkem.NewDecapsulationKey768(seed)
	}
	return mlkem.NewDecapsulationKey1024(seed)
}

// mlkemPublic reads an encapsulation key.
func mlkemPublic(p *tpm2.TPMTPublic) (crypto.Encapsulator, tpm2.RC) {
	var k crypto.Encapsulator
	var err error
	if p.Parameters.MLKEMDetail.ParameterSet == tpm2.MLKEM768 {
		k, err = mlkem.NewEncapsulationKey768(p.Unique.MLKEM)
	} else {
		k, err = mlkem.NewEncapsulationKey1024(p.Unique.MLKEM)
	}
	if err != nil {
		return nil, tpm2.RCKey
	}
	return k, tpm2.RCSuccess
}

// mldsaPublic reads a verification key.
func mldsaPublic(p *tpm2.TPMTPublic) (*mldsa.PublicKey, tpm2.RC) {
	k, err := mldsa.NewPublicKey(mldsaParams(p.Parameters.MLDSADetail.ParameterSet), p.Unique.MLDSA)
	if err != nil {
		return nil, tpm2.RCKey
	}
	return k, tpm2.RCSuccess
}

// mlkemKey is the private key of an ML-KEM object.
func (o *object) mlkemKey() (crypto.Decapsulator, tpm2.RC) {
	if o.key.mlkem == nil {
		k, err := mlkemPrivate(o.pub.Parameters.MLKEMDetail.ParameterSet, o.sens.Sensitive.MLKEM)
		if err != nil {
			return nil, tpm2.RCKeySize
		}
		o.key.mlkem = k
	}
	return o.key.mlkem, tpm2.RCSuccess
}

// mldsaKey is the private key of an ML-DSA object.
func (o *object) mldsaKey() (*mldsa.PrivateKey, tpm2.RC) {
	if o.key.mldsa == nil {
		k, err := mldsa.NewPrivateKey(mldsaParams(o.pub.Parameters.MLDSADetail.ParameterSet), o.sens.Sensitive.MLDSA)
		if err != nil {
			return nil, tpm2.RCKeySize
		}
		o.key.mldsa = k
	}
	return o.key.mldsa, tpm2.RCSuccess
}

// generatePQ is generate for these two types.
func generatePQ(pub *tpm2.TPMTPublic, s *tpm2.TPMTSensitive, from deriver) tpm2.RC {
	if pub.Type == tpm2.AlgMLDSA {
		s.Sensitive.MLDSA = take(from("MLDSA"), mldsaSeed)
		k, err := mldsa.NewPrivateKey(mldsaParams(pub.Parameters.MLDSADetail.ParameterSet), s.Sensitive.MLDSA)
		if err != nil {
			return tpm2.RCNoResult
		}
		pub.Unique = tpm2.TPMUPublicID{MLDSA: k.PublicKey().Bytes()}
		return tpm2.RCSuccess
	}
	s.Sensitive.MLKEM = take(from("MLKEM"), mlkemSeed)
	k, err := mlkemPrivate(pub.Parameters.MLKEMDetail.ParameterSet, s.Sensitive.MLKEM)
	if err != nil {
		return tpm2.RCNoResult
	}
	pub.Unique = tpm2.TPMUPublicID{MLKEM: k.Encapsulator().Bytes()}
	return tpm2.RCSuccess
}

// checkSchemesPQ verifies that the key is for what it can do: ML-DSA signs,
// ML-KEM decrypts (Part 2, 12.2.3.9, Table 233).
func checkSchemesPQ(pub *tpm2.TPMTPublic, parent *object) tpm2.RC {
	a := pub.ObjectAttributes
	if pub.Type == tpm2.AlgMLDSA {
		if a.Has(tpm2.Decrypt) || !a.Has(tpm2.SignEncrypt) {
			return tpm2.RCAttributes
		}
		return tpm2.RCSuccess
	}
	sym := &pub.Parameters.MLKEMDetail.Symmetric
	switch {
	case a.Has(tpm2.SignEncrypt) || !a.Has(tpm2.Decrypt):
		return tpm2.RCAttributes
	case a.Has(tpm2.Restricted):
		return checkStorage(pub, sym, parent)
	case sym.Algorithm != tpm2.AlgNull:
		return tpm2.RCSymmetric
	}
	return tpm2.RCSuccess
}

// checkBindingPQ verifies that the seed gives the public key.
func checkBindingPQ(o *object) tpm2.RC {
	if o.pub.Type == tpm2.AlgMLDSA {
		k, rc := o.mldsaKey()
		if rc == tpm2.RCSuccess && !bytes.Equal(k.PublicKey().Bytes(), o.pub.Unique.MLDSA) {
			return tpm2.RCBinding
		}
		return rc
	}
	k, rc := o.mlkemKey()
	if rc == tpm2.RCSuccess && !bytes.Equal(k.Encapsulator().Bytes(), o.pub.Unique.MLKEM) {
		return tpm2.RCBinding
	}
	return rc
}

// labeled makes the secret of a protocol from a shared one (Part 1, 47.4).
func (o *object) labeled(shared []byte, label string, ciphertext []byte) []byte {
	alg := o.pub.NameAlg
	return crypt.KDFa(alg, shared, label, ciphertext, o.pub.Unique.MLKEM, 8*alg.DigestSize())
}

func (o *object) decapsulateLabeled(label string, ciphertext []byte) ([]byte, tpm2.RC) {
	k, rc := o.mlkemKey()
	if rc != tpm2.RCSuccess {
		return nil, rc
	}
	shared, err := k.Decapsulate(ciphertext)
	if err != nil {
		return nil, tpm2.RCSize
	}
	return o.labeled(shared, label, ciphertext), tpm2.RCSuccess
}

func (o *object) encapsulateLabeled(label string) (secret, ciphertext []byte, rc tpm2.RC) {
	k, rc := mlkemPublic(&o.pub)
	if rc != tpm2.RCSuccess {
		return nil, nil, rc
	}
	shared, ciphertext := k.Encapsulate()
	return o.labeled(shared, label, ciphertext), ciphertext, tpm2.RCSuccess
}

// encapsulate is TPM2_Encapsulate (Part 3, 14.10).
func (t *TPM) encapsulate(_ *call, in *tpm2.Encapsulate, out *tpm2.EncapsulateResponse) tpm2.RC {
	o := t.object(in.KeyHandle)
	if o.pub.Type != tpm2.AlgMLKEM {
		return tpm2.RCKey.Handle(1)
	}
	k, rc := mlkemPublic(&o.pub)
	if rc != tpm2.RCSuccess {
		return rc.Handle(1)
	}
	out.SharedSecret, out.Ciphertext = k.Encapsulate()
	return tpm2.RCSuccess
}

// decapsulate is TPM2_Decapsulate (Part 3, 14.11). A ciphertext of the right
// size always gives a secret; a wrong one gives a secret nobody else has.
func (t *TPM) decapsulate(_ *call, in *tpm2.Decapsulate, out *tpm2.DecapsulateResponse) tpm2.RC {
	o := t.object(in.KeyHandle)
	switch {
	case o.pub.Type != tpm2.AlgMLKEM:
		return tpm2.RCKey.Handle(1)
	case o.pub.ObjectAttributes.Has(tpm2.Restricted), !o.pub.ObjectAttributes.Has(tpm2.Decrypt):
		return tpm2.RCAttributes.Handle(1)
	}
	k, rc := o.mlkemKey()
	if rc != tpm2.RCSuccess {
		return rc.Handle(1)
	}
	var err error
	if out.SharedSecret, err = k.Decapsulate(in.Ciphertext); err != nil {
		return tpm2.RCSize.Param(1)
	}
	return tpm2.RCSuccess
}

// mu is the message representative of ML-DSA as a hash: SHAKE256 over the digest
// of the public key, the context and the message (FIPS 204, Algorithms 2 and 7).
type mu struct{ *sha3.SHAKE }

func (mu) Size() int { return muSize }

// Sum leaves the state as it is, as every hash does.
func (m mu) Sum(b []byte) []byte {
	state, err := m.MarshalBinary()
	if err != nil {
		panic("internal error: " + err.Error())
	}
	c := sha3.NewSHAKE256()
	if err := c.UnmarshalBinary(state); err != nil {
		panic("internal error: " + err.Error())
	}
	out := make([]byte, muSize)
	c.Read(out)
	return append(b, out...)
}

// newSum starts a hash for a sequence.
func newSum(alg tpm2.AlgID) hash.Hash {
	if alg == tpm2.AlgMLDSA {
		return mu{sha3.NewSHAKE256()}
	}
	return crypt.New(alg)
}

// startMu starts the message representative for a key and a context of at most 255 octets.
func startMu(public, context []byte) mu {
	tr := sha3.SumSHAKE256(public, 64)
	m := mu{sha3.NewSHAKE256()}
	m.Write(tr)
	m.Write([]byte{0, byte(len(context))})
	m.Write(context)
	return m
}

// signMu signs a message representative.
func (o *object) signMu(m []byte) (sig tpm2.TPMTSignature, rc tpm2.RC) {
	k, rc := o.mldsaKey()
	if rc != tpm2.RCSuccess {
		return sig, rc
	}
	b, err := k.Sign(rand.Reader, m, mldsacrypto.MLDSAMu)
	if err != nil {
		return sig, tpm2.RCScheme
	}
	sig.SigAlg, sig.Signature.MLDSA = tpm2.AlgMLDSA, b
	return sig, tpm2.RCSuccess
}

// verifyMessage checks an ML-DSA signature over a message.
func (o *object) verifyMessage(sig *tpm2.TPMTSignature, message, context []byte) tpm2.RC {
	k, rc := mldsaPublic(&o.pub)
	if rc != tpm2.RCSuccess {
		return rc
	}
	if mldsa.Verify(k, message, sig.Signature.MLDSA, &mldsa.Options{Context: string(context)}) != nil {
		return tpm2.RCSignature
	}
	return tpm2.RCSuccess
}

// signStructure signs what the TPM says itself: its digest, or with ML-DSA the whole.
func (t *TPM) signStructure(o *object, scheme *tpm2.TPMTSigScheme, blob []byte) (tpm2.TPMTSignature, tpm2.RC) {
	if scheme.Scheme == tpm2.AlgMLDSA {
		m := startMu(o.pub.Unique.MLDSA, nil)
		m.Write(blob)
		return o.signMu(m.Sum(nil))
	}
	return t.signDigest(o, scheme, crypt.Digest(scheme.Details.Any.HashAlg, blob))
}

// schemeHash is the hash that an attestation is made with: the scheme's, and for
// one without a hash that of the key's Name. Without a key it is that of the
// scheme which was asked for, and there must be one (Part 3, 18.4.1 and 31.16.1).
func schemeHash(o *object, scheme, asked *tpm2.TPMTSigScheme) (tpm2.AlgID, tpm2.RC) {
	if o == nil {
		alg := settled(*asked).Details.Any.HashAlg
		if asked.Scheme == tpm2.AlgNull || crypt.Hash(alg) == 0 {
			return 0, tpm2.RCScheme.Param(2)
		}
		return alg, tpm2.RCSuccess
	}
	switch {
	case scheme.Scheme != tpm2.AlgMLDSA:
		return scheme.Details.Any.HashAlg, tpm2.RCSuccess
	case o.pub.NameAlg != tpm2.AlgNull:
		return o.pub.NameAlg, tpm2.RCSuccess
	}
	return tpm2.AlgSHA256, tpm2.RCSuccess
}
