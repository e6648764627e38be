package main

import "github.com/google/go-tpm/tpm2"

var ownKey = tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true}

func signing() tpm2.TPMAObject {
	a := ownKey
	a.SignEncrypt = true
	return a
}

func eccSigner(curve tpm2.TPMECCCurve, hash tpm2.TPMAlgID, restricted bool) tpm2.TPMTPublic {
	attr := signing()
	attr.Restricted = restricted
	return tpm2.TPMTPublic{Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: attr,
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: curve,
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: hash})}})}
}

func rsaKey(attr tpm2.TPMAObject, scheme tpm2.TPMTRSAScheme) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: attr,
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{Scheme: scheme, KeyBits: 2048})}
}

func rsaSigner() tpm2.TPMTPublic {
	return rsaKey(signing(), tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgNull})
}

func rsaAK() tpm2.TPMTPublic {
	attr := signing()
	attr.Restricted = true
	return rsaKey(attr, tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA,
		Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})})
}

func rsaDecrypter() tpm2.TPMTPublic {
	attr := ownKey
	attr.Decrypt = true
	return rsaKey(attr, tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgNull})
}

func eccDecrypter() tpm2.TPMTPublic {
	attr := ownKey
	attr.Decrypt = true
	return tpm2.TPMTPublic{Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: attr,
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256})}
}

func p384SRK() tpm2.TPMTPublic {
	p := tpm2.ECCSRKTemplate
	p.NameAlg = tpm2.TPMAlgSHA384
	p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP384,
		Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgAES,
			KeyBits: tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(256)),
			Mode:    tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB)}})
	return p
}

func hmacKey() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: signing(),
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{
			Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgHMAC,
				Details: tpm2.NewTPMUSchemeKeyedHash(tpm2.TPMAlgHMAC, &tpm2.TPMSSchemeHMAC{HashAlg: tpm2.TPMAlgSHA256})}})}
}

func aesKey() tpm2.TPMTPublic {
	attr := signing()
	attr.Decrypt = true
	return tpm2.TPMTPublic{Type: tpm2.TPMAlgSymCipher, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: attr,
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgSymCipher, &tpm2.TPMSSymCipherParms{
			Sym: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgAES,
				KeyBits: tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(128)),
				Mode:    tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB)}})}
}

// sealed is a data object, opened by its authValue or, with a policy, by that alone.
func sealed(policy []byte) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, NoDA: true,
			UserWithAuth: policy == nil, AdminWithPolicy: policy != nil},
		AuthPolicy: tpm2.TPM2BDigest{Buffer: policy}}
}

func signScheme(alg, hash tpm2.TPMAlgID) tpm2.TPMTSigScheme {
	return tpm2.TPMTSigScheme{Scheme: alg, Details: tpm2.NewTPMUSigScheme(alg, &tpm2.TPMSSchemeHash{HashAlg: hash})}
}

func oaep() tpm2.TPMTRSADecrypt {
	return tpm2.TPMTRSADecrypt{Scheme: tpm2.TPMAlgOAEP,
		Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgOAEP, &tpm2.TPMSEncSchemeOAEP{HashAlg: tpm2.TPMAlgSHA256})}
}

func sha256PCRs(pcrs ...uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...)}}}
}
