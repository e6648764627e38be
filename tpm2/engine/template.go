package engine

import (
	"github.com/vouchsafe/vouchsafe/tpm2"
)

// checkParameters verifies that an object of this kind can be here at all: sizes
// and modes that decode and are not implemented (Part 2, 12.2.3).
func checkParameters(typ tpm2.AlgID, p *tpm2.TPMUPublicParms) tpm2.RC {
	symmetric := func(s *tpm2.TPMTSymDefObject) tpm2.RC {
		if s.Algorithm == tpm2.AlgAES && !implementsAES(s.KeyBits.AES) {
			return tpm2.RCValue
		}
		return tpm2.RCSuccess
	}
	switch typ {
	case tpm2.AlgSymCipher:
		return symmetric(&p.SymDetail.Sym)
	case tpm2.AlgRSA:
		switch {
		case symmetric(&p.RSADetail.Symmetric) != tpm2.RCSuccess, !implementsRSA(p.RSADetail.KeyBits):
			return tpm2.RCValue
		case p.RSADetail.Exponent != 0 && p.RSADetail.Exponent != rsaExponent:
			return tpm2.RCRange
		}
	case tpm2.AlgMLDSA:
		if p.MLDSADetail.AllowExternalMu == tpm2.Yes { // Go has no verification of it (Part 2, 12.2.3.6)
			return tpm2.RCExtMu
		}
	case tpm2.AlgMLKEM:
		return symmetric(&p.MLKEMDetail.Symmetric)
	case tpm2.AlgECC:
		if rc := symmetric(&p.ECCDetail.Symmetric); rc != tpm2.RCSuccess {
			return rc
		}
		if p.ECCDetail.KDF.Scheme != tpm2.AlgNull { // (Part 2, 12.2.3.6)
			return tpm2.RCKDF
		}
	}
	return tpm2.RCSuccess
}

// checkCreation verifies a template for an object that is to be made (Part 1,
// 24.2; Part 3, 12.1). parent is nil for a primary; given is how much sensitive
// data the caller supplies.
func checkCreation(pub *tpm2.TPMTPublic, parent *object, given int) tpm2.RC {
	a := pub.ObjectAttributes
	asymmetric := pub.Type != tpm2.AlgKeyedHash && pub.Type != tpm2.AlgSymCipher
	switch origin := a.Has(tpm2.SensitiveDataOrigin); {
	case asymmetric && parent == nil: // data only makes it another key (Part 1, 24.3.3)
		if !origin {
			return tpm2.RCAttributes
		}
	case origin == (given != 0): // the data comes from the caller or from the TPM, and from one of them
		return tpm2.RCAttributes
	case pub.Type == tpm2.AlgKeyedHash && a&(tpm2.SignEncrypt|tpm2.Decrypt) == 0 && origin:
		return tpm2.RCAttributes // a TPM does not think up data to seal
	case pub.Type == tpm2.AlgSymCipher && a.Has(tpm2.Restricted) && a&(tpm2.FixedTPM|tpm2.FixedParent) != 0 && !origin:
		return tpm2.RCAttributes // a storage key that is known outside protects nothing
	case asymmetric && !origin:
		return tpm2.RCAttributes
	}
	return checkPublic(pub, parent)
}

// checkPublic verifies that the attributes, schemes and algorithms of a public
// area go together (Part 1, 22 and 24.5; Part 2, 8.3).
func checkPublic(pub *tpm2.TPMTPublic, parent *object) tpm2.RC {
	if rc := checkParameters(pub.Type, &pub.Parameters); rc != tpm2.RCSuccess {
		return rc
	}
	if n := len(pub.AuthPolicy); n != 0 && n != pub.NameAlg.DigestSize() {
		return tpm2.RCSize
	}
	a := pub.ObjectAttributes
	has := func(x tpm2.ObjectAttributes) bool { return a.Has(x) }
	inFixed := parent == nil || parent.pub.ObjectAttributes.Has(tpm2.FixedTPM)
	switch {
	case inFixed && has(tpm2.FixedTPM) != has(tpm2.FixedParent):
		return tpm2.RCAttributes
	case !inFixed && has(tpm2.FixedTPM):
		return tpm2.RCAttributes
	case has(tpm2.FixedTPM) && has(tpm2.EncryptedDuplication):
		return tpm2.RCAttributes
	case !inFixed && has(tpm2.EncryptedDuplication) != parent.pub.ObjectAttributes.Has(tpm2.EncryptedDuplication):
		return tpm2.RCAttributes
	}
	if has(tpm2.SignEncrypt) == has(tpm2.Decrypt) {
		switch {
		case has(tpm2.Restricted): // restricted to neither, or to two things at once
			return tpm2.RCAttributes
		case !has(tpm2.Decrypt) && pub.Type != tpm2.AlgKeyedHash: // only data does neither
			return tpm2.RCAttributes
		}
	}
	if has(tpm2.X509Sign) && (!has(tpm2.SignEncrypt) || pub.Type == tpm2.AlgKeyedHash || pub.Type == tpm2.AlgSymCipher) { // (Part 2, 8.3.3.15)
		return tpm2.RCAttributes
	}
	if parent != nil && parent.isDerivation() {
		if !has(tpm2.FixedParent) || has(tpm2.FixedTPM) != parent.pub.ObjectAttributes.Has(tpm2.FixedTPM) {
			return tpm2.RCAttributes
		}
	}
	return checkSchemes(pub, parent)
}

// checkSchemes verifies schemes and symmetric algorithm (Part 2, 12.2.3).
func checkSchemes(pub *tpm2.TPMTPublic, parent *object) tpm2.RC {
	a := pub.ObjectAttributes
	sign, decrypt, restricted := a.Has(tpm2.SignEncrypt), a.Has(tpm2.Decrypt), a.Has(tpm2.Restricted)
	switch pub.Type {
	case tpm2.AlgSymCipher:
		sym := &pub.Parameters.SymDetail.Sym
		if sym.Algorithm == tpm2.AlgNull {
			return tpm2.RCSymmetric
		}
		if restricted && decrypt {
			return checkStorage(pub, sym, parent)
		}
		return tpm2.RCSuccess
	case tpm2.AlgMLDSA, tpm2.AlgMLKEM:
		return checkSchemesPQ(pub, parent)
	case tpm2.AlgKeyedHash:
		return checkKeyedHash(pub, sign, decrypt, restricted)
	}

	var sym *tpm2.TPMTSymDefObject
	var scheme tpm2.AlgID
	if pub.Type == tpm2.AlgRSA {
		sym, scheme = &pub.Parameters.RSADetail.Symmetric, pub.Parameters.RSADetail.Scheme.Scheme
	} else {
		sym, scheme = &pub.Parameters.ECCDetail.Symmetric, pub.Parameters.ECCDetail.Scheme.Scheme
	}
	switch {
	case sign && decrypt: // it would be two keys in one
		if scheme != tpm2.AlgNull {
			return tpm2.RCScheme
		}
	case sign:
		if scheme == tpm2.AlgNull && restricted || scheme != tpm2.AlgNull && !isSigning(scheme) {
			return tpm2.RCScheme
		}
	case restricted: // a storage key
		if scheme != tpm2.AlgNull {
			return tpm2.RCScheme
		}
		return checkStorage(pub, sym, parent)
	default:
		if scheme != tpm2.AlgNull && isSigning(scheme) {
			return tpm2.RCScheme
		}
	}
	if sym.Algorithm != tpm2.AlgNull { // it has no children to protect
		return tpm2.RCSymmetric
	}
	return tpm2.RCSuccess
}

// isSigning reports whether an asymmetric scheme signs.
func isSigning(s tpm2.AlgID) bool {
	return s == tpm2.AlgRSASSA || s == tpm2.AlgRSAPSS || s == tpm2.AlgECDSA || s == tpm2.AlgECDAA
}

// checkStorage verifies the symmetric algorithm of a storage key. One that
// cannot leave its parent protects its children as the parent does (Part 1, 22.4).
func checkStorage(pub *tpm2.TPMTPublic, sym *tpm2.TPMTSymDefObject, parent *object) tpm2.RC {
	if sym.Algorithm == tpm2.AlgNull {
		return tpm2.RCSymmetric
	}
	// Children are protected with CFB; a symmetric parent may leave its mode open, and tools do.
	if m := sym.Mode.AES; m != tpm2.AlgCFB && (m != tpm2.AlgNull || pub.Type != tpm2.AlgSymCipher) {
		return tpm2.RCSymmetric
	}
	if parent != nil && pub.ObjectAttributes.Has(tpm2.FixedParent) && !parent.isDerivation() {
		switch {
		case pub.NameAlg != parent.pub.NameAlg:
			return tpm2.RCHash
		case *sym != parent.symmetric():
			return tpm2.RCSymmetric
		}
	}
	return tpm2.RCSuccess
}

// checkKeyedHash verifies the scheme of a keyed hash: data to seal has none, a
// signing key HMAC, a decryption key XOR, and a derivation parent XOR with a KDF (Part 1, 24.5.3).
func checkKeyedHash(pub *tpm2.TPMTPublic, sign, decrypt, restricted bool) tpm2.RC {
	s := &pub.Parameters.KeyedHashDetail.Scheme
	switch {
	case sign == decrypt:
		if s.Scheme != tpm2.AlgNull {
			return tpm2.RCScheme
		}
	case sign:
		if s.Scheme != tpm2.AlgHMAC {
			return tpm2.RCScheme
		}
	case s.Scheme != tpm2.AlgXOR:
		return tpm2.RCScheme
	case restricted && s.Details.XOR.KDF != tpm2.AlgKDF1SP800108:
		return tpm2.RCScheme
	}
	return tpm2.RCSuccess
}

// checkBinding verifies that a sensitive area belongs to a public area (Part 1,
// 23.4, 24.6; Part 3, 12.2 and 12.3).
func checkBinding(o *object) tpm2.RC {
	s, alg := o.sens, o.pub.NameAlg
	switch {
	case s.SensitiveType != o.pub.Type:
		return tpm2.RCType
	case alg != tpm2.AlgNull && len(s.AuthValue) > alg.DigestSize():
		return tpm2.RCSize
	}
	switch o.pub.Type {
	case tpm2.AlgRSA:
		if len(o.pub.Unique.RSA) != int(o.pub.Parameters.RSADetail.KeyBits)/8 {
			return tpm2.RCKey
		}
		if len(s.Sensitive.RSA) != len(o.pub.Unique.RSA)/2 {
			return tpm2.RCKeySize
		}
		_, rc := o.rsaKey()
		return rc
	case tpm2.AlgECC:
		if _, rc := ecPoint(o.pub.Parameters.ECCDetail.CurveID, &o.pub.Unique.ECC); rc != tpm2.RCSuccess {
			return rc
		}
		k, rc := o.ecdhKey()
		if rc != tpm2.RCSuccess {
			return rc
		}
		p := pointOf(k.PublicKey().Bytes())
		if !equalPadded(p.X, o.pub.Unique.ECC.X) || !equalPadded(p.Y, o.pub.Unique.ECC.Y) {
			return tpm2.RCBinding
		}
	case tpm2.AlgMLDSA, tpm2.AlgMLKEM:
		return checkBindingPQ(o)
	case tpm2.AlgSymCipher:
		if len(s.Sensitive.Sym) != int(o.pub.Parameters.SymDetail.Sym.KeyBits.AES)/8 {
			return tpm2.RCKeySize
		}
		fallthrough
	case tpm2.AlgKeyedHash:
		if alg == tpm2.AlgNull {
			return tpm2.RCSuccess
		}
		if len(s.SeedValue) != alg.DigestSize() { // (Part 1, 24.6.2)
			return tpm2.RCKeySize
		}
		unique := uniqueOf(&o.pub)
		if !bytesEqual(symmetricUnique(alg, s), unique) && !((o.isStorage() || o.isDerivation()) && bytesEqual(parentUnique(alg, s), unique)) {
			return tpm2.RCBinding
		}
	}
	return tpm2.RCSuccess
}

// checkPublicKey verifies a public area without its private part.
func checkPublicKey(pub *tpm2.TPMTPublic) tpm2.RC {
	switch pub.Type {
	case tpm2.AlgRSA:
		n := pub.Unique.RSA
		switch {
		case len(n) != int(pub.Parameters.RSADetail.KeyBits)/8:
			return tpm2.RCKey
		case n[0]&0x80 == 0 || n[len(n)-1]&1 == 0:
			return tpm2.RCKey
		}
	case tpm2.AlgECC:
		_, rc := ecPoint(pub.Parameters.ECCDetail.CurveID, &pub.Unique.ECC)
		return rc
	case tpm2.AlgMLDSA:
		_, rc := mldsaPublic(pub)
		return rc
	case tpm2.AlgMLKEM:
		_, rc := mlkemPublic(pub)
		return rc
	default:
		if n := len(uniqueOf(pub)); pub.NameAlg != tpm2.AlgNull && n != pub.NameAlg.DigestSize() {
			return tpm2.RCKey
		}
	}
	return tpm2.RCSuccess
}
