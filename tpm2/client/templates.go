package client

import (
	"encoding/hex"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// KeyKind is an algorithm with its parameters, for the templates below.
type KeyKind int

const (
	RSA2048 KeyKind = iota
	P256
	P384
)

// hash is the one that matches the kind's strength.
func (k KeyKind) hash() tpm2.AlgID {
	if k == P384 {
		return tpm2.AlgSHA384
	}
	return tpm2.AlgSHA256
}

// EK is a template of the TCG EK Credential Profile, version 2.6, annex B.
type EK int

const (
	EKRSA2048     EK = iota // L-1, certificate at 0x01c00002
	EKP256                  // L-2, certificate at 0x01c0000a
	EKHighRSA2048           // H-1, certificate at 0x01c00012
	EKHighP256              // H-2, certificate at 0x01c00014
	EKHighP384              // H-3, certificate at 0x01c00016
)

// CertificateIndex is the NV index of the EK's certificate.
func (e EK) CertificateIndex() tpm2.Handle {
	switch e {
	case EKP256:
		return 0x01c0000a
	case EKHighRSA2048:
		return 0x01c00012
	case EKHighP256:
		return 0x01c00014
	case EKHighP384:
		return 0x01c00016
	}
	return 0x01c00002
}

// The policies of the profile. PolicyA is PolicySecret(TPM_RH_ENDORSEMENT);
// PolicyB is PolicyOR(PolicyA, PolicyC), and PolicyC is PolicyAuthorizeNV of the
// index that the profile reserves for the hash algorithm.
var (
	policyA256 = unhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
	policyC256 = unhex("3767e2edd43ff45a3a7e1eaefcef78643dca964632e7aad82c673a30d8633fde")
	policyB256 = unhex("ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0")

	policyA384 = unhex("8bbf2266537c171cb56e403c4dc1d4b64f432611dc386e6f532050c3278c930e143e8bb1133824ccb431053871c6db53")
	policyC384 = unhex("d6032ce61f2fb3c240eb3cf6a33237ef2b6a16f4293c22b455e261cffd217ad5b4947c2d73e63005eed2dc2b3593d165")
	policyB384 = unhex("b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12")
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return b
}

// EKTemplate is the public area from which [Client.CreatePrimary] in the
// endorsement hierarchy makes the EK.
func EKTemplate(e EK) tpm2.TPMTPublic {
	attrs := tpm2.FixedTPM | tpm2.FixedParent | tpm2.SensitiveDataOrigin | tpm2.AdminWithPolicy | tpm2.Restricted | tpm2.Decrypt
	switch e {
	case EKP256:
		return storage(P256, attrs, policyA256, true)
	case EKHighRSA2048:
		return storage(RSA2048, attrs|tpm2.UserWithAuth, policyB256, false)
	case EKHighP256:
		return storage(P256, attrs|tpm2.UserWithAuth, policyB256, false)
	case EKHighP384:
		return storage(P384, attrs|tpm2.UserWithAuth, policyB384, false)
	}
	return storage(RSA2048, attrs, policyA256, true)
}

// SRKHandle is where provisioning leaves the SRK (TCG Provisioning Guidance, 7.8).
const SRKHandle tpm2.Handle = 0x81000001

// SRKTemplate is the storage root key of the TCG Provisioning Guidance, 7.5.1:
// as the low-range EK template, but used with its (empty) authValue, without
// lockout protection, in the Owner hierarchy.
func SRKTemplate(k KeyKind) tpm2.TPMTPublic {
	return storage(k, tpm2.FixedTPM|tpm2.FixedParent|tpm2.SensitiveDataOrigin|tpm2.UserWithAuth|tpm2.NoDA|tpm2.Restricted|tpm2.Decrypt, nil, true)
}

// storage is a restricted decryption key; with zeros, its unique field is filled
// with them in its full size, as the low-range templates want.
func storage(k KeyKind, attrs tpm2.ObjectAttributes, policy []byte, zeros bool) tpm2.TPMTPublic {
	bits := uint16(128)
	if k == P384 {
		bits = 256
	}
	return asymmetric(k, attrs, policy, AESObject(bits), tpm2.AlgNull, zeros)
}

// AESObject is AES with a key of that many bits in CFB mode, for objects.
func AESObject(bits uint16) tpm2.TPMTSymDefObject {
	return tpm2.TPMTSymDefObject{Algorithm: tpm2.AlgAES, KeyBits: tpm2.TPMUSymObjectBits{AES: bits}, Mode: tpm2.TPMUSymObjectMode{AES: tpm2.AlgCFB}}
}

// AKTemplate is an attestation key: it signs only what the TPM has made. RSA
// keys sign with RSASSA, the others with ECDSA.
func AKTemplate(k KeyKind) tpm2.TPMTPublic {
	t := SigningTemplate(k)
	t.ObjectAttributes |= tpm2.Restricted
	return t
}

// SigningTemplate is a key that signs any digest: RSASSA or ECDSA, with SHA-256,
// or SHA-384 for P-384. It stays in this TPM and is used with its authValue.
func SigningTemplate(k KeyKind) tpm2.TPMTPublic {
	scheme := tpm2.AlgECDSA
	if k == RSA2048 {
		scheme = tpm2.AlgRSASSA
	}
	return asymmetric(k, tpm2.FixedTPM|tpm2.FixedParent|tpm2.SensitiveDataOrigin|tpm2.UserWithAuth|tpm2.SignEncrypt,
		nil, tpm2.TPMTSymDefObject{Algorithm: tpm2.AlgNull}, scheme, false)
}

// TLSTemplate is a key for crypto/tls and its kin: it signs with the scheme and
// hash that are asked for each time, so that RSA keys can do both RSASSA and RSAPSS.
func TLSTemplate(k KeyKind) tpm2.TPMTPublic {
	t := SigningTemplate(k)
	if k == RSA2048 {
		t.Parameters.RSADetail.Scheme = tpm2.TPMTRSAScheme{Scheme: tpm2.AlgNull}
	} else {
		t.Parameters.ECCDetail.Scheme = tpm2.TPMTECCScheme{Scheme: tpm2.AlgNull}
	}
	return t
}

// DecryptTemplate is a key that decrypts (RSA) or agrees on a secret (ECDH).
func DecryptTemplate(k KeyKind) tpm2.TPMTPublic {
	return asymmetric(k, tpm2.FixedTPM|tpm2.FixedParent|tpm2.SensitiveDataOrigin|tpm2.UserWithAuth|tpm2.Decrypt,
		nil, tpm2.TPMTSymDefObject{Algorithm: tpm2.AlgNull}, tpm2.AlgNull, false)
}

func asymmetric(k KeyKind, attrs tpm2.ObjectAttributes, policy []byte, sym tpm2.TPMTSymDefObject, scheme tpm2.AlgID, zeros bool) tpm2.TPMTPublic {
	t := tpm2.TPMTPublic{NameAlg: k.hash(), ObjectAttributes: attrs, AuthPolicy: policy}
	var details tpm2.TPMUAsymScheme
	if scheme != tpm2.AlgNull {
		details.Any.HashAlg = k.hash()
	}
	if k == RSA2048 {
		t.Type = tpm2.AlgRSA
		t.Parameters.RSADetail = tpm2.TPMSRSAParms{Symmetric: sym, Scheme: tpm2.TPMTRSAScheme{Scheme: scheme, Details: details}, KeyBits: 2048}
		if zeros {
			t.Unique.RSA = make([]byte, 256)
		}
		return t
	}
	id, n := tpm2.ECCNISTP256, 32
	if k == P384 {
		id, n = tpm2.ECCNISTP384, 48
	}
	t.Type = tpm2.AlgECC
	t.Parameters.ECCDetail = tpm2.TPMSECCParms{Symmetric: sym, Scheme: tpm2.TPMTECCScheme{Scheme: scheme, Details: details}, CurveID: id, KDF: tpm2.TPMTKDFScheme{Scheme: tpm2.AlgNull}}
	if zeros {
		t.Unique.ECC = tpm2.TPMSECCPoint{X: make([]byte, n), Y: make([]byte, n)}
	}
	return t
}

// SealTemplate is a data object that holds what is sealed. Without a policy it
// opens with its authValue, with one by the policy alone.
func SealTemplate(hash tpm2.AlgID, policy []byte) tpm2.TPMTPublic {
	attrs := tpm2.FixedTPM | tpm2.FixedParent
	if policy == nil {
		attrs |= tpm2.UserWithAuth
	} else {
		attrs |= tpm2.AdminWithPolicy | tpm2.NoDA
	}
	return tpm2.TPMTPublic{
		Type: tpm2.AlgKeyedHash, NameAlg: hash, ObjectAttributes: attrs, AuthPolicy: policy,
		Parameters: tpm2.TPMUPublicParms{KeyedHashDetail: tpm2.TPMSKeyedHashParms{Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.AlgNull}}},
	}
}
