package engine

import (
	"bytes"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

type template = tpm2.TPMTPublic

func signP256() template { return eccSigning(tpm2.ECCNISTP256, tpm2.AlgSHA256) }

func hmacKey() template { return goldenTemplates()["hmac-sha256"] }

func symStorage() template { return goldenTemplates()["symmetric-aes128"] }

// derivation is a derivation parent.
func derivation() template {
	pub := hmacKey()
	pub.ObjectAttributes = storageAttributes
	pub.Parameters.KeyedHashDetail.Scheme = tpm2.TPMTKeyedHashScheme{Scheme: tpm2.AlgXOR,
		Details: tpm2.TPMUSchemeKeyedHash{XOR: tpm2.TPMSSchemeXOR{HashAlg: tpm2.AlgSHA256, KDF: tpm2.AlgKDF1SP800108}}}
	return pub
}

// made is the rule of a primary object from a changed template.
func made(base func() template, data string, change func(*template)) func(*bench) tpm2.RC {
	return func(b *bench) tpm2.RC {
		pub := base()
		change(&pub)
		return b.do(&tpm2.CreatePrimary{PrimaryHandle: tpm2.RHOwner, InPublic: pub, InSensitive: tpm2.TPMSSensitiveCreate{Data: []byte(data)}}, nil)
	}
}

// below is the rule of a child of the SRK from a changed template.
func below(base func() template, data string, change func(*template)) func(*bench) tpm2.RC {
	return func(b *bench) tpm2.RC {
		srk := b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle
		pub := base()
		change(&pub)
		return b.do(&tpm2.Create{ParentHandle: srk, InPublic: pub, InSensitive: tpm2.TPMSSensitiveCreate{Data: []byte(data)}}, nil)
	}
}

// belowMovable is the rule of a child of a parent that can itself be duplicated.
func belowMovable(base func() template, change func(*template)) func(*bench) tpm2.RC {
	return func(b *bench) tpm2.RC {
		srk := b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle
		p := eccStorage()
		p.ObjectAttributes &^= tpm2.FixedTPM | tpm2.FixedParent
		parent := b.child(srk, p, nil, nil)
		pub := base()
		change(&pub)
		return b.do(&tpm2.Create{ParentHandle: parent, InPublic: pub}, nil)
	}
}

func set(a tpm2.ObjectAttributes) func(*template) {
	return func(p *template) { p.ObjectAttributes |= a }
}
func drop(a tpm2.ObjectAttributes) func(*template) {
	return func(p *template) { p.ObjectAttributes &^= a }
}
func same(*template) {}

// scheme gives an ECC key another scheme.
func eccScheme(s tpm2.AlgID) func(*template) {
	return func(p *template) {
		p.Parameters.ECCDetail.Scheme = tpm2.TPMTECCScheme{Scheme: s, Details: tpm2.TPMUAsymScheme{Any: tpm2.TPMSSchemeHash{HashAlg: tpm2.AlgSHA256}}}
	}
}

func rsaScheme(s tpm2.AlgID) func(*template) {
	return func(p *template) {
		p.Parameters.RSADetail.Scheme = tpm2.TPMTRSAScheme{Scheme: s, Details: tpm2.TPMUAsymScheme{Any: tpm2.TPMSSchemeHash{HashAlg: tpm2.AlgSHA256}}}
	}
}

func hashScheme(s tpm2.AlgID) func(*template) {
	return func(p *template) {
		p.Parameters.KeyedHashDetail.Scheme = tpm2.TPMTKeyedHashScheme{Scheme: s}
		p.Parameters.KeyedHashDetail.Scheme.Details.HMAC.HashAlg = tpm2.AlgSHA256
		p.Parameters.KeyedHashDetail.Scheme.Details.XOR = tpm2.TPMSSchemeXOR{HashAlg: tpm2.AlgSHA256, KDF: tpm2.AlgKDF1SP800108}
	}
}

func all(changes ...func(*template)) func(*template) {
	return func(p *template) {
		for _, c := range changes {
			c(p)
		}
	}
}

var templateRules = []rule{
	// attributes
	{name: "fixedTPM without fixedParent", cite: "Part 2, 8.3.3.2", want: tpm2.RCAttributes.Param(2), run: made(eccStorage, "", drop(tpm2.FixedParent))},
	{name: "fixedParent without fixedTPM in a primary", cite: "Part 2, 8.3.3.4", want: tpm2.RCAttributes.Param(2), run: made(eccStorage, "", drop(tpm2.FixedTPM))},
	{name: "fixedTPM below a movable parent", cite: "Part 2, 8.3.3.2", want: tpm2.RCAttributes.Param(2), run: belowMovable(signP256, same)},
	{name: "fixedParent below a movable parent", cite: "Part 2, 8.3.3.4", want: tpm2.RCSuccess, run: belowMovable(signP256, drop(tpm2.FixedTPM))},
	{name: "encryptedDuplication with fixedTPM", cite: "Part 2, 8.3.3.10", want: tpm2.RCAttributes.Param(2), run: made(eccStorage, "", set(tpm2.EncryptedDuplication))},
	{name: "encryptedDuplication unlike the parent's", cite: "Part 2, 8.3.3.10", want: tpm2.RCAttributes.Param(2),
		run: belowMovable(signP256, all(drop(tpm2.FixedTPM|tpm2.FixedParent), set(tpm2.EncryptedDuplication)))},
	{name: "encryptedDuplication of a movable child", cite: "Part 2, 8.3.3.10", want: tpm2.RCSuccess,
		run: below(signP256, "", all(drop(tpm2.FixedTPM|tpm2.FixedParent), set(tpm2.EncryptedDuplication)))},
	{name: "restricted to two things", cite: "Part 2, 8.3.3.11", want: tpm2.RCAttributes.Param(2), run: made(eccStorage, "", set(tpm2.SignEncrypt))},
	{name: "restricted to nothing", cite: "Part 2, 8.3.3.11", want: tpm2.RCAttributes.Param(2), run: made(eccStorage, "", drop(tpm2.Decrypt))},
	{name: "asymmetric key for nothing", cite: "Part 1, 24.2", want: tpm2.RCAttributes.Param(2), run: made(signP256, "", drop(tpm2.SignEncrypt))},
	{name: "symmetric key for nothing", cite: "Part 1, 24.2", want: tpm2.RCAttributes.Param(2), run: made(symStorage, "", drop(tpm2.Decrypt|tpm2.Restricted))},
	{name: "x509sign without sign", cite: "Part 2, 8.3.3.14", want: tpm2.RCAttributes.Param(2), run: made(eccStorage, "", set(tpm2.X509Sign)),
		libtpms: tpm2.RCSuccess, because: "it does not look"},
	{name: "reserved attribute", cite: "Part 2, 8.3", want: tpm2.RCReservedBits.Param(2), run: made(eccStorage, "", set(1))},
	{name: "x509sign of a keyed hash", cite: "Part 2, 8.3.3.15", want: tpm2.RCAttributes.Param(2), run: made(hmacKey, "", set(tpm2.X509Sign)),
		libtpms: tpm2.RCSuccess, because: "it does not look"},
	{name: "restricted symmetric key from outside", cite: "Part 2, 8.3.3.11", want: tpm2.RCAttributes.Param(2), run: made(symStorage, "0123456789abcdef", drop(tpm2.SensitiveDataOrigin))},
	{name: "asymmetric key from outside", cite: "Part 3, 12.1.1; Part 2, 8.3.3.5", want: tpm2.RCAttributes.Param(2), run: made(eccStorage, "", drop(tpm2.SensitiveDataOrigin))},
	{name: "asymmetric primary with data", cite: "Part 1, 24.3.3", want: tpm2.RCSuccess, run: made(eccStorage, "data", same)},
	{name: "asymmetric key with data", cite: "Part 3, 12.1.1", want: tpm2.RCAttributes.Param(2), run: below(signP256, "data", same)},
	{name: "sealed object without data", cite: "Part 3, 12.1.1", want: tpm2.RCAttributes.Param(2), run: made(sealed, "", same)},
	{name: "sealed object of the TPM's own data", cite: "Part 3, 12.1.1", want: tpm2.RCAttributes.Param(2), run: made(sealed, "", set(tpm2.SensitiveDataOrigin))},
	{name: "symmetric key with origin and data", cite: "Part 3, 12.1.1", want: tpm2.RCAttributes.Param(2), run: made(symStorage, "0123456789abcdef", same),
		libtpms: tpm2.RCSuccess, because: "for a primary it mixes the data into the derivation"},
	{name: "symmetric key without origin and data", cite: "Part 3, 12.1.1", want: tpm2.RCAttributes.Param(2), run: made(symStorage, "", drop(tpm2.SensitiveDataOrigin))},
	{name: "symmetric key of the wrong size", cite: "Part 3, 12.1.1", want: tpm2.RCKeySize.Param(1), run: made(symStorage, "0123456789abcde", drop(tpm2.SensitiveDataOrigin|tpm2.Restricted)),
		libtpms: tpm2.RCKeySize, because: "it does not say which parameter"},
	{name: "HMAC key longer than a block", cite: "Part 3, 12.1.1; Part 2, 11.1.15", want: tpm2.RCSize.Param(1),
		run:     made(hmacKey, string(make([]byte, 65)), drop(tpm2.SensitiveDataOrigin)),
		libtpms: tpm2.RCSize, because: "it does not say which parameter"},
	// authorization
	{name: "policy of the wrong size", cite: "Part 2, 12.2.4", want: tpm2.RCSize.Param(2), run: made(eccStorage, "", func(p *template) { p.AuthPolicy = make([]byte, 20) })},
	{name: "nameAlg NULL", cite: "Part 3, 12.1.2; Part 2, 12.2.4", want: tpm2.RCHash.Param(2), run: made(eccStorage, "", func(p *template) { p.NameAlg = tpm2.AlgNull })},
	{name: "authValue over nameAlg", cite: "Part 3, 12.1.1", want: tpm2.RCSize.Param(1), run: always(&tpm2.CreatePrimary{PrimaryHandle: tpm2.RHOwner, InPublic: eccStorage(),
		InSensitive: tpm2.TPMSSensitiveCreate{UserAuth: bytes.Repeat([]byte{1}, 33)}})},
	// schemes
	{name: "storage key with a scheme", cite: "Part 2, 12.2.3.5", want: tpm2.RCScheme.Param(2), run: made(eccStorage, "", eccScheme(tpm2.AlgECDH))},
	{name: "restricted signing key without a scheme", cite: "Part 1, 24.5.4", want: tpm2.RCScheme.Param(2), run: made(signP256, "", all(set(tpm2.Restricted), eccScheme(tpm2.AlgNull)))},
	{name: "signing key with a scheme for secrets", cite: "Part 2, 12.2.3.6", want: tpm2.RCScheme.Param(2), run: made(signP256, "", eccScheme(tpm2.AlgECDH))},
	{name: "decryption key with a scheme to sign", cite: "Part 2, 12.2.3.6", want: tpm2.RCScheme.Param(2), run: made(signP256, "", all(drop(tpm2.SignEncrypt), set(tpm2.Decrypt)))},
	{name: "key for both with a scheme", cite: "Part 1, 24.5.4", want: tpm2.RCScheme.Param(2), run: made(signP256, "", set(tpm2.Decrypt))},
	{name: "RSA signing key with OAEP", cite: "Part 2, 12.2.3.5", want: tpm2.RCScheme.Param(2), run: made(rsaStorage, "", all(drop(tpm2.Decrypt|tpm2.Restricted), set(tpm2.SignEncrypt), noCipher, rsaScheme(tpm2.AlgOAEP)))},
	{name: "RSA decryption key with RSAPSS", cite: "Part 2, 12.2.3.5", want: tpm2.RCScheme.Param(2), run: made(rsaStorage, "", all(drop(tpm2.Restricted), noCipher, rsaScheme(tpm2.AlgRSAPSS)))},
	{name: "RSA storage key with OAEP", cite: "Part 2, 12.2.3.5", want: tpm2.RCScheme.Param(2), run: made(rsaStorage, "", rsaScheme(tpm2.AlgOAEP))},
	{name: "RSA scheme for ECC", cite: "Part 2, 11.2.5.6", want: tpm2.RCScheme.Param(2), run: made(signP256, "", eccScheme(tpm2.AlgRSASSA))},
	{name: "ECC scheme for RSA", cite: "Part 2, 11.2.4.2", want: tpm2.RCValue.Param(2), run: made(rsaStorage, "", rsaScheme(tpm2.AlgECDSA))},
	{name: "key with a KDF", cite: "Part 2, 12.2.3.6", want: tpm2.RCKDF.Param(2),
		run: made(eccStorage, "", func(p *template) {
			p.Parameters.ECCDetail.KDF = tpm2.TPMTKDFScheme{Scheme: tpm2.AlgKDF1SP80056A, Details: tpm2.TPMUKDFScheme{Any: tpm2.TPMSSchemeHash{HashAlg: tpm2.AlgSHA256}}}
		})},
	{name: "sealed object with a scheme", cite: "Part 1, 24.5.3", want: tpm2.RCScheme.Param(2), run: made(sealed, "data", hashScheme(tpm2.AlgHMAC))},
	{name: "HMAC key with XOR", cite: "Part 1, 24.5.3", want: tpm2.RCScheme.Param(2), run: made(hmacKey, "", hashScheme(tpm2.AlgXOR))},
	{name: "restricted HMAC key without a scheme", cite: "Part 1, 24.5.3", want: tpm2.RCScheme.Param(2), run: made(hmacKey, "", all(set(tpm2.Restricted), hashScheme(tpm2.AlgNull)))},
	{name: "derivation parent with HMAC", cite: "Part 1, 24.5.3", want: tpm2.RCScheme.Param(2), run: made(derivation, "", hashScheme(tpm2.AlgHMAC))},
	{name: "derivation parent without a KDF", cite: "Part 1, 25", want: tpm2.RCScheme.Param(2),
		run: made(derivation, "", func(p *template) { p.Parameters.KeyedHashDetail.Scheme.Details.XOR.KDF = tpm2.AlgNull })},
	{name: "derivation parent", cite: "Part 1, 25", want: tpm2.RCSuccess, run: made(derivation, "", same)},
	// symmetric algorithm
	{name: "storage key without a cipher", cite: "Part 1, 22.4", want: tpm2.RCSymmetric.Param(2), run: made(eccStorage, "", noCipher)},
	{name: "storage key not in CFB", cite: "Part 1, 22.4", want: tpm2.RCSymmetric.Param(2), run: made(eccStorage, "", func(p *template) { p.Parameters.ECCDetail.Symmetric.Mode.AES = tpm2.AlgCBC }),
		libtpms: tpm2.RCSuccess, because: "it takes any mode and then uses CFB"},
	{name: "signing key with a cipher", cite: "Part 2, 12.2.3.6", want: tpm2.RCSymmetric.Param(2), run: made(signP256, "", func(p *template) { p.Parameters.ECCDetail.Symmetric = aes128 })},
	{name: "AES-192", cite: "Part 2, 11.1.3", want: tpm2.RCValue.Param(2), run: made(eccStorage, "", func(p *template) { p.Parameters.ECCDetail.Symmetric.KeyBits.AES = 192 })},
	{name: "AES-129", cite: "Part 2, 11.1.3", want: tpm2.RCValue.Param(2), run: made(eccStorage, "", func(p *template) { p.Parameters.ECCDetail.Symmetric.KeyBits.AES = 129 })},
	{name: "child storage key of another hash", cite: "Part 1, 22.4", want: tpm2.RCHash.Param(2), run: below(eccStorage, "", func(p *template) { p.NameAlg = tpm2.AlgSHA384 })},
	{name: "child storage key of another cipher", cite: "Part 1, 22.4", want: tpm2.RCSymmetric.Param(2),
		run: below(eccStorage, "", func(p *template) { p.Parameters.ECCDetail.Symmetric.KeyBits.AES = 256 })},
	{name: "movable child storage key of another hash", cite: "Part 1, 22.4", want: tpm2.RCSuccess,
		run: below(eccStorage, "", all(drop(tpm2.FixedTPM|tpm2.FixedParent), func(p *template) { p.NameAlg = tpm2.AlgSHA384 }))},
	// sizes
	{name: "RSA-1536", cite: "Part 2, 11.2.4.7", want: tpm2.RCValue.Param(2), run: made(rsaStorage, "", func(p *template) { p.Parameters.RSADetail.KeyBits = 1536 })},
	{name: "RSA exponent 3", cite: "Part 2, 12.2.3.5", want: tpm2.RCRange.Param(2), run: made(rsaStorage, "", func(p *template) { p.Parameters.RSADetail.Exponent = 3 }),
		libtpms: tpm2.RCRange, because: "it does not say which parameter"},
	{name: "curve that is not implemented", cite: "Part 2, 11.2.5.3", want: tpm2.RCCurve.Param(2), run: made(eccStorage, "", func(p *template) { p.Parameters.ECCDetail.CurveID = 0x99 })},
	{name: "unknown type", cite: "Part 2, 12.2.2", want: tpm2.RCType.Param(2), run: always(&tpm2.CreatePrimary{PrimaryHandle: tpm2.RHOwner, InPublic: template{Type: 0x1234, NameAlg: tpm2.AlgSHA256}})},
	{name: "unique over its limit", cite: "Part 2, 12.2.3.2", want: tpm2.RCSize.Param(2), run: made(eccStorage, "", func(p *template) { p.Unique.ECC.X = make([]byte, 129) })},
}

func noCipher(p *template) {
	p.Parameters.RSADetail.Symmetric, p.Parameters.ECCDetail.Symmetric = noSym, noSym
}

// loaded is the rule of loading a child of the SRK, changed on the way.
func loaded(base func() template, data string, change func(*tpm2.Load)) func(*bench) tpm2.RC {
	return func(b *bench) tpm2.RC {
		srk := b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle
		var c tpm2.CreateResponse
		b.ok(&tpm2.Create{ParentHandle: srk, InPublic: base(), InSensitive: tpm2.TPMSSensitiveCreate{Data: []byte(data)}}, &c)
		l := &tpm2.Load{ParentHandle: srk, InPrivate: c.OutPrivate, InPublic: c.OutPublic}
		change(l)
		return b.do(l, nil)
	}
}

// external is the rule of a public area loaded on its own.
func external(base func() template, h tpm2.Handle, change func(*template)) func(*bench) tpm2.RC {
	return func(b *bench) tpm2.RC {
		pub := b.primary(tpm2.RHOwner, base()).OutPublic
		change(&pub)
		return b.do(&tpm2.LoadExternal{InPublic: pub, Hierarchy: h}, nil)
	}
}

var symData = tpm2.TPMTSensitive{SensitiveType: tpm2.AlgKeyedHash, Sensitive: tpm2.TPMUSensitiveComposite{Bits: []byte("data")}}

// outside is a sealed object made elsewhere, whose nameAlg is NULL so that nothing ties it down.
func outside(change func(*tpm2.LoadExternal)) func(*bench) tpm2.RC {
	return func(b *bench) tpm2.RC {
		pub := sealed()
		pub.NameAlg, pub.ObjectAttributes = tpm2.AlgNull, tpm2.UserWithAuth
		s := symData
		c := &tpm2.LoadExternal{InPrivate: &s, InPublic: pub, Hierarchy: tpm2.RHNull}
		change(c)
		return b.do(c, nil)
	}
}

var objectRules = []rule{
	{name: "load without a private area", cite: "Part 3, 12.2.2", want: tpm2.RCSize.Param(1), run: loaded(signP256, "", func(l *tpm2.Load) { l.InPrivate = nil })},
	{name: "load a changed private area", cite: "Part 3, 12.2.2", want: tpm2.RCIntegrity.Param(1), run: loaded(signP256, "", func(l *tpm2.Load) { l.InPrivate[40] ^= 1 })},
	{name: "load with another public area", cite: "Part 3, 12.2.2", want: tpm2.RCIntegrity.Param(1), run: loaded(sealed, "data", func(l *tpm2.Load) { l.InPublic.ObjectAttributes |= tpm2.NoDA })},
	{name: "create below a signing key", cite: "Part 3, 12.1.2", want: tpm2.RCType.Handle(1), run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.Create{ParentHandle: b.primary(tpm2.RHOwner, signP256()).ObjectHandle, InPublic: signP256()}, nil)
	}},
	{name: "create below data", cite: "Part 3, 12.1.2", want: tpm2.RCType.Handle(1), run: func(b *bench) tpm2.RC {
		srk := b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle
		return b.do(&tpm2.Create{ParentHandle: b.child(srk, sealed(), nil, []byte("x")), InPublic: signP256()}, nil)
	}},
	{name: "public area alone", cite: "Part 3, 12.3.1", want: tpm2.RCSuccess, run: external(signP256, tpm2.RHOwner, same)},
	{name: "public area of no point", cite: "Part 3, 12.3.2", want: tpm2.RCECCPoint.Param(2), run: external(signP256, tpm2.RHOwner, func(p *template) { p.Unique.ECC.X[0] ^= 1 })},
	{name: "public RSA area of the wrong size", cite: "Part 3, 12.3.2", want: tpm2.RCKey.Param(2), run: external(rsaStorage, tpm2.RHOwner, func(p *template) { p.Unique.RSA = p.Unique.RSA[1:] })},
	{name: "external with a private area in a hierarchy", cite: "Part 3, 12.3.1", want: tpm2.RCHierarchy.Param(3), run: outside(func(c *tpm2.LoadExternal) { c.Hierarchy = tpm2.RHOwner })},
	{name: "external with a private area", cite: "Part 3, 12.3.1", want: tpm2.RCSuccess, run: outside(func(*tpm2.LoadExternal) {})},
	{name: "external fixedTPM", cite: "Part 3, 12.3.1", want: tpm2.RCAttributes.Param(2), run: outside(func(c *tpm2.LoadExternal) { c.InPublic.ObjectAttributes |= tpm2.FixedTPM })},
	{name: "external restricted", cite: "Part 3, 12.3.1", want: tpm2.RCAttributes.Param(2),
		run: outside(func(c *tpm2.LoadExternal) { c.InPublic.ObjectAttributes |= tpm2.Restricted | tpm2.SignEncrypt })},
	{name: "external of two types", cite: "Part 3, 12.3.2", want: tpm2.RCType.Param(1), run: outside(func(c *tpm2.LoadExternal) {
		c.InPrivate = &tpm2.TPMTSensitive{SensitiveType: tpm2.AlgSymCipher, Sensitive: tpm2.TPMUSensitiveComposite{Sym: make([]byte, 16)}}
	})},
	{name: "external that does not belong together", cite: "Part 3, 12.3.2", want: tpm2.RCBinding.Param(1), run: outside(func(c *tpm2.LoadExternal) {
		c.InPublic.NameAlg, c.InPublic.Unique.KeyedHash = tpm2.AlgSHA256, make([]byte, 32)
		c.InPrivate.SeedValue = make([]byte, 32)
	}), libtpms: tpm2.RCBinding, because: "it does not say which parameter"},
	{name: "external without the seed that hides it", cite: "Part 3, 12.3.2; Part 1, 24.6.2", want: tpm2.RCKeySize.Param(1), run: outside(func(c *tpm2.LoadExternal) {
		c.InPublic.NameAlg, c.InPublic.Unique.KeyedHash = tpm2.AlgSHA256, make([]byte, 32)
	})},
	{name: "sign with a key for certificates", cite: "Part 2, 8.3.3.15", want: tpm2.RCAttributes.Handle(1), run: func(b *bench) tpm2.RC {
		pub := signP256()
		pub.ObjectAttributes |= tpm2.X509Sign
		return b.do(signCommand(b.primary(tpm2.RHOwner, pub).ObjectHandle, 32), nil)
	}},
	{name: "HMAC with a key that does not sign", cite: "Part 3, 15.5.1", want: tpm2.RCKey.Handle(1), run: func(b *bench) tpm2.RC {
		pub := derivation()
		pub.ObjectAttributes &^= tpm2.Restricted
		return b.do(&tpm2.HMAC{Handle: b.primary(tpm2.RHOwner, pub).ObjectHandle, HashAlg: tpm2.AlgSHA256}, nil)
	}},
	{name: "HMAC sequence with a key that does not sign", cite: "Part 3, 17.2.1", want: tpm2.RCKey.Handle(1), run: func(b *bench) tpm2.RC {
		pub := derivation()
		pub.ObjectAttributes &^= tpm2.Restricted
		return b.do(&tpm2.HMACStart{Handle: b.primary(tpm2.RHOwner, pub).ObjectHandle, HashAlg: tpm2.AlgSHA256}, nil)
	}},
	{name: "persist a child of a key with stClear", cite: "Part 3, 28.5.1", want: tpm2.RCAttributes.Handle(2), run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.EvictControl{Auth: tpm2.RHOwner, ObjectHandle: b.belowClear(), PersistentHandle: 0x81000001}, nil)
	}},
	{name: "context of a child of a key with stClear after a restart", cite: "Part 2, 14.5", want: tpm2.RCIntegrity.Param(1), run: func(b *bench) tpm2.RC {
		var c tpm2.ContextSaveResponse
		b.ok(&tpm2.ContextSave{SaveHandle: b.belowClear()}, &c)
		if c.Context.SavedHandle != tpm2.SavedTransientClear {
			b.t.Errorf("savedHandle %v", c.Context.SavedHandle)
		}
		b.ok(&tpm2.ContextLoad{Context: c.Context}, nil)
		b.ok(&tpm2.Shutdown{ShutdownType: tpm2.SUState}, nil)
		b.powerCycle(tpm2.SUClear)
		return b.do(&tpm2.ContextLoad{Context: c.Context}, nil)
	}},
	{name: "evict the platform's as owner", cite: "Part 3, 28.5.1", want: tpm2.RCHierarchy.Handle(2), run: func(b *bench) tpm2.RC {
		b.ok(&tpm2.EvictControl{Auth: tpm2.RHPlatform, ObjectHandle: b.primary(tpm2.RHPlatform, eccStorage()).ObjectHandle, PersistentHandle: 0x81800001}, nil)
		return b.do(&tpm2.EvictControl{Auth: tpm2.RHOwner, ObjectHandle: 0x81800001, PersistentHandle: 0x81800001}, nil)
	}},
	{name: "persist an object of stClear", cite: "Part 3, 28.5.1", want: tpm2.RCAttributes.Handle(2), run: func(b *bench) tpm2.RC {
		pub := eccStorage()
		pub.ObjectAttributes |= tpm2.STClear
		return b.do(&tpm2.EvictControl{Auth: tpm2.RHOwner, ObjectHandle: b.primary(tpm2.RHOwner, pub).ObjectHandle, PersistentHandle: 0x81000001}, nil)
	}},
	{name: "external with nameAlg NULL and a policy", cite: "Part 3, 12.3.2", want: tpm2.RCSize.Param(2), run: outside(func(c *tpm2.LoadExternal) { c.InPublic.AuthPolicy = make([]byte, 32) }),
		libtpms: tpm2.RCSuccess, because: "it does not look"},
	{name: "unseal a key", cite: "Part 3, 12.7.2", want: tpm2.RCType.Handle(1), run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.Unseal{ItemHandle: b.primary(tpm2.RHOwner, signP256()).ObjectHandle}, nil)
	}},
	{name: "unseal an HMAC key", cite: "Part 3, 12.7.2", want: tpm2.RCAttributes.Handle(1), run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.Unseal{ItemHandle: b.primary(tpm2.RHOwner, hmacKey()).ObjectHandle}, nil)
	}},
	{name: "read a sequence", cite: "Part 3, 12.4.2", want: tpm2.RCSequence, run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.ReadPublic{ObjectHandle: b.sequence(tpm2.AlgSHA256)}, nil)
	}},
	{name: "update no sequence", cite: "Part 3, 17.4.2", want: tpm2.RCMode.Handle(1), run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.SequenceUpdate{SequenceHandle: b.primary(tpm2.RHOwner, signP256()).ObjectHandle}, nil)
	}, libtpms: tpm2.RCMode.Param(1), because: "it counts the handle as a parameter"},
	{name: "complete an event as a hash", cite: "Part 3, 17.5.2", want: tpm2.RCMode.Handle(1), run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.SequenceComplete{SequenceHandle: b.sequence(tpm2.AlgNull), Hierarchy: tpm2.RHNull}, nil)
	}},
	{name: "complete a hash as an event", cite: "Part 3, 17.6.2", want: tpm2.RCMode.Handle(2), run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.EventSequenceComplete{PCRHandle: 16, SequenceHandle: b.sequence(tpm2.AlgSHA256)}, nil)
	}},
	{name: "duplicate a fixed object", cite: "Part 3, 13.1.2", want: tpm2.RCAuthType, run: func(b *bench) tpm2.RC {
		key := b.primary(tpm2.RHOwner, signP256()).ObjectHandle
		return b.do(&tpm2.Duplicate{ObjectHandle: key, NewParentHandle: tpm2.RHNull, SymmetricAlg: noSym}, nil)
	}},
	{name: "import a fixed object", cite: "Part 3, 13.3.2", want: tpm2.RCAttributes.Param(2), run: func(b *bench) tpm2.RC {
		srk := b.primary(tpm2.RHOwner, eccStorage())
		return b.do(&tpm2.Import{ParentHandle: srk.ObjectHandle, ObjectPublic: srk.OutPublic, Duplicate: []byte{1}, SymmetricAlg: noSym}, nil)
	}},
	{name: "change the authValue below another parent", cite: "Part 3, 12.8.2", want: tpm2.RCType.Handle(2), run: func(b *bench) tpm2.RC {
		srk := b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle
		other := b.primary(tpm2.RHEndorsement, eccStorage()).ObjectHandle
		return b.do(&tpm2.ObjectChangeAuth{ObjectHandle: b.child(srk, signP256(), nil, nil), ParentHandle: other}, nil)
	}},
	{name: "sign with a storage key", cite: "Part 3, 20.5.2", want: tpm2.RCKey.Handle(1), run: func(b *bench) tpm2.RC {
		return b.do(signCommand(b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle, 32), nil)
	}},
	{name: "sign a digest of the wrong size", cite: "Part 3, 20.5.2", want: tpm2.RCSize.Param(1), run: func(b *bench) tpm2.RC {
		return b.do(signCommand(b.primary(tpm2.RHOwner, signP256()).ObjectHandle, 20), nil)
	}},
	{name: "sign with a scheme the key does not have", cite: "Part 3, 20.5.2", want: tpm2.RCScheme.Param(2), run: func(b *bench) tpm2.RC {
		c := signCommand(b.primary(tpm2.RHOwner, signP256()).ObjectHandle, 48)
		c.InScheme = tpm2.TPMTSigScheme{Scheme: tpm2.AlgECDSA, Details: tpm2.TPMUSigScheme{Any: tpm2.TPMSSchemeHash{HashAlg: tpm2.AlgSHA384}}}
		return b.do(c, nil)
	}},
	{name: "restricted key without a ticket", cite: "Part 3, 20.5.1", want: tpm2.RCTicket.Param(3), run: func(b *bench) tpm2.RC {
		pub := signP256()
		pub.ObjectAttributes |= tpm2.Restricted
		return b.do(signCommand(b.primary(tpm2.RHOwner, pub).ObjectHandle, 32), nil)
	}},
	{name: "restricted key quotes with any key", cite: "Part 3, 18.1", want: tpm2.RCKey.Handle(1), run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.Quote{SignHandle: b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull}}, nil)
	}},
	{name: "verify with a storage key", cite: "Part 3, 20.1.2", want: tpm2.RCAttributes.Handle(1), run: func(b *bench) tpm2.RC {
		sig := tpm2.TPMTSignature{SigAlg: tpm2.AlgECDSA, Signature: tpm2.TPMUSignature{ECC: tpm2.TPMSSignatureECC{Hash: tpm2.AlgSHA256}}}
		return b.do(&tpm2.VerifySignature{KeyHandle: b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle, Digest: make([]byte, 32), Signature: sig}, nil)
	}},
	{name: "make a credential for a signing key", cite: "Part 3, 12.6.2", want: tpm2.RCType.Handle(1), run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.MakeCredential{Handle: b.primary(tpm2.RHOwner, signP256()).ObjectHandle}, nil)
	}},
	{name: "make a credential that is too long", cite: "Part 3, 12.6.2", want: tpm2.RCSize.Param(1), run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.MakeCredential{Handle: b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle, Credential: make([]byte, 33)}, nil)
	}},
	{name: "ECDH with a signing key", cite: "Part 3, 14.4.1", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.ECDHKeyGen{KeyHandle: b.primary(tpm2.RHOwner, signP256()).ObjectHandle}, nil)
	}},
	{name: "ECDH with a storage key", cite: "Part 3, 14.5.2", want: tpm2.RCAttributes.Handle(1), run: func(b *bench) tpm2.RC {
		srk := b.primary(tpm2.RHOwner, eccStorage())
		return b.do(&tpm2.ECDHZGen{KeyHandle: srk.ObjectHandle, InPoint: srk.OutPublic.Unique.ECC}, nil)
	}},
	{name: "commit with an RSA key", cite: "Part 3, 19.2.1", want: tpm2.RCKey.Handle(1), run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.Commit{SignHandle: b.primary(tpm2.RHOwner, rsaStorage()).ObjectHandle}, nil)
	}},
	{name: "commit with a key that is not anonymous", cite: "Part 3, 19.2.1", want: tpm2.RCScheme.Handle(1), run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.Commit{SignHandle: b.primary(tpm2.RHOwner, signP256()).ObjectHandle}, nil)
	}},
	{name: "commit to a base name without y", cite: "Part 3, 19.2.1", want: tpm2.RCSize.Param(3), run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.Commit{SignHandle: b.primary(tpm2.RHOwner, anonymousKey(tpm2.ECCNISTP256)).ObjectHandle, S2: []byte("a")}, nil)
	}},
	{name: "commit to y without a base name", cite: "Part 3, 19.2.1", want: tpm2.RCSize.Param(3), run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.Commit{SignHandle: b.primary(tpm2.RHOwner, anonymousKey(tpm2.ECCNISTP256)).ObjectHandle, Y2: []byte{1}}, nil)
	}},
	{name: "commit to a base name that is no point", cite: "Part 1, 44.2.3", want: tpm2.RCECCPoint.Param(2), run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.Commit{SignHandle: b.primary(tpm2.RHOwner, anonymousKey(tpm2.ECCNISTP256)).ObjectHandle, S2: []byte("a"), Y2: []byte{1}}, nil)
	}},
	{name: "commit to a point off the curve", cite: "Part 1, 44.2.3", want: tpm2.RCECCPoint.Param(1), run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.Commit{SignHandle: b.primary(tpm2.RHOwner, anonymousKey(tpm2.ECCNISTP256)).ObjectHandle, P1: tpm2.TPMSECCPoint{X: []byte{1}, Y: []byte{1}}}, nil)
	}},
	{name: "sign with an anonymous key and no promise", cite: "Part 3, 20.5.1", want: tpm2.RCScheme.Param(2), run: func(b *bench) tpm2.RC {
		return b.do(signCommand(b.primary(tpm2.RHOwner, anonymousKey(tpm2.ECCNISTP256)).ObjectHandle, 32), nil)
	}},
	{name: "sign with a promise never made", cite: "Part 1, 44.2.5", want: tpm2.RCValue, run: func(b *bench) tpm2.RC {
		return b.do(signECDAA(b.primary(tpm2.RHOwner, anonymousKey(tpm2.ECCNISTP256)).ObjectHandle, 0), nil)
	}},
	{name: "sign twice with one promise", cite: "Part 1, 44.2.5", want: tpm2.RCValue, run: func(b *bench) tpm2.RC {
		key := b.primary(tpm2.RHOwner, anonymousKey(tpm2.ECCNISTP256)).ObjectHandle
		b.ok(&tpm2.Commit{SignHandle: key}, nil)
		b.ok(signECDAA(key, 0), nil)
		return b.do(signECDAA(key, 0), nil)
	}},
	{name: "verify an anonymous signature", cite: "Part 1, 44.3.3.1", want: tpm2.RCScheme.Param(2), run: func(b *bench) tpm2.RC {
		sig := tpm2.TPMTSignature{SigAlg: tpm2.AlgECDAA, Signature: tpm2.TPMUSignature{ECC: tpm2.TPMSSignatureECC{Hash: tpm2.AlgSHA256}}}
		return b.do(&tpm2.VerifySignature{KeyHandle: b.primary(tpm2.RHOwner, anonymousKey(tpm2.ECCNISTP256)).ObjectHandle, Digest: make([]byte, 32), Signature: sig}, nil)
	}},
	{name: "a decryption key with an anonymous scheme", cite: "Part 2, 12.2.3.6", want: tpm2.RCScheme.Param(2), run: func(b *bench) tpm2.RC {
		pub := anonymousKey(tpm2.ECCNISTP256)
		pub.ObjectAttributes = pub.ObjectAttributes&^tpm2.SignEncrypt | tpm2.Decrypt
		return b.do(&tpm2.CreatePrimary{PrimaryHandle: tpm2.RHOwner, InPublic: pub}, nil)
	}},
	{name: "persist an object of the NULL hierarchy", cite: "Part 3, 28.5.2", want: tpm2.RCAttributes.Handle(2), run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.EvictControl{Auth: tpm2.RHOwner, ObjectHandle: b.primary(tpm2.RHNull, eccStorage()).ObjectHandle, PersistentHandle: 0x81000001}, nil)
	}},
	{name: "persist where the platform does", cite: "Part 3, 28.5.1", want: tpm2.RCRange.Param(1), run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.EvictControl{Auth: tpm2.RHOwner, ObjectHandle: b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle, PersistentHandle: 0x81800001}, nil)
	}},
	{name: "persist twice in one place", cite: "Part 3, 28.5.2", want: tpm2.RCNVDefined, run: func(b *bench) tpm2.RC {
		c := &tpm2.EvictControl{Auth: tpm2.RHOwner, ObjectHandle: b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle, PersistentHandle: 0x81000001}
		b.ok(c, nil)
		return b.do(c, nil)
	}},
	{name: "evict another handle", cite: "Part 3, 28.5.2", want: tpm2.RCHandle.Handle(2), run: func(b *bench) tpm2.RC {
		b.ok(&tpm2.EvictControl{Auth: tpm2.RHOwner, ObjectHandle: b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle, PersistentHandle: 0x81000001}, nil)
		return b.do(&tpm2.EvictControl{Auth: tpm2.RHOwner, ObjectHandle: 0x81000001, PersistentHandle: 0x81000002}, nil)
	}},
	{name: "persist a public area", cite: "Part 3, 28.5.2", want: tpm2.RCAttributes.Handle(2), run: func(b *bench) tpm2.RC {
		var l tpm2.LoadExternalResponse
		b.ok(&tpm2.LoadExternal{InPublic: b.primary(tpm2.RHOwner, signP256()).OutPublic, Hierarchy: tpm2.RHOwner}, &l)
		return b.do(&tpm2.EvictControl{Auth: tpm2.RHOwner, ObjectHandle: l.ObjectHandle, PersistentHandle: 0x81000001}, nil)
	}},
}

func signCommand(key tpm2.Handle, n int) *tpm2.Sign {
	return &tpm2.Sign{KeyHandle: key, Digest: make([]byte, n), InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull},
		Validation: tpm2.TPMTTkHashCheck{Tag: tpm2.STHashCheck, Hierarchy: tpm2.RHNull}}
}

// sequence starts a hash sequence, or an event for TPM_ALG_NULL.
func (b *bench) sequence(alg tpm2.AlgID) tpm2.Handle {
	b.t.Helper()
	var s tpm2.HashSequenceStartResponse
	b.ok(&tpm2.HashSequenceStart{HashAlg: alg}, &s)
	return s.SequenceHandle
}

// belowClear makes a child without stClear below a parent that has it.
func (b *bench) belowClear() tpm2.Handle {
	b.t.Helper()
	pub := eccStorage()
	pub.ObjectAttributes |= tpm2.STClear
	return b.child(b.primary(tpm2.RHOwner, pub).ObjectHandle, signP256(), nil, nil)
}
