package vtpm

import "github.com/vouchsafe/vouchsafe/tpm2"

// ekTemplate is one EK of the TCG EK Credential Profile for TPM Family 2.0,
// Annex B, with the NV index of its certificate. The templates
// are the default ones, so no template or nonce index is written beside them.
type ekTemplate struct {
	name   string
	index  tpm2.Handle // certificate
	handle tpm2.Handle // persistent key; swtpm_setup's numbers
	public tpm2.TPMTPublic
}

var (
	// PolicyA: PolicySecret(TPM_RH_ENDORSEMENT), SHA-256.
	policyA = mustHex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
	// PolicyB: PolicySecret(TPM_RH_ENDORSEMENT) OR PolicyAuthorizeNV, SHA-384.
	policyB384 = mustHex("b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12")
)

const (
	restrictedDecrypt = tpm2.FixedTPM | tpm2.FixedParent | tpm2.SensitiveDataOrigin | tpm2.Restricted | tpm2.Decrypt
	// lowAttributes: the EK opens with PolicyA only.
	lowAttributes = restrictedDecrypt | tpm2.AdminWithPolicy
	// highAttributes: the EK opens with its empty password as well.
	highAttributes = lowAttributes | tpm2.UserWithAuth
)

var ekTemplates = []ekTemplate{
	{"rsa2048", 0x01c00002, 0x81010001, rsaStorage(lowAttributes, policyA)},                                                            // L-1
	{"secp256r1", 0x01c0000a, 0x8101000a, eccStorage(tpm2.AlgSHA256, lowAttributes, policyA, tpm2.ECCNISTP256, 128, make([]byte, 32))}, // L-2
	{"secp384r1", 0x01c00016, 0x81010016, eccStorage(tpm2.AlgSHA384, highAttributes, policyB384, tpm2.ECCNISTP384, 256, nil)},          // H-3
}

// srkHandle is where every operating system looks for the storage root key
// (TCG TPM v2.0 Provisioning Guidance).
const srkHandle tpm2.Handle = 0x81000001

var srkTemplates = map[string]tpm2.TPMTPublic{
	"rsa2048":   rsaStorage(restrictedDecrypt|tpm2.UserWithAuth|tpm2.NoDA, nil),
	"secp384r1": eccStorage(tpm2.AlgSHA384, restrictedDecrypt|tpm2.UserWithAuth|tpm2.NoDA, nil, tpm2.ECCNISTP384, 256, nil),
}

func rsaStorage(attributes tpm2.ObjectAttributes, policy []byte) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.AlgRSA, NameAlg: tpm2.AlgSHA256, ObjectAttributes: attributes, AuthPolicy: policy,
		Parameters: tpm2.TPMUPublicParms{RSADetail: tpm2.TPMSRSAParms{
			Symmetric: aesCFB(128), Scheme: tpm2.TPMTRSAScheme{Scheme: tpm2.AlgNull}, KeyBits: 2048,
		}},
		Unique: tpm2.TPMUPublicID{RSA: make([]byte, 256)},
	}
}

func eccStorage(name tpm2.AlgID, attributes tpm2.ObjectAttributes, policy []byte, curve tpm2.ECCCurve, bits uint16, unique []byte) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.AlgECC, NameAlg: name, ObjectAttributes: attributes, AuthPolicy: policy,
		Parameters: tpm2.TPMUPublicParms{ECCDetail: tpm2.TPMSECCParms{
			Symmetric: aesCFB(bits), Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.AlgNull}, CurveID: curve, KDF: tpm2.TPMTKDFScheme{Scheme: tpm2.AlgNull},
		}},
		Unique: tpm2.TPMUPublicID{ECC: tpm2.TPMSECCPoint{X: unique, Y: unique}},
	}
}

func aesCFB(bits uint16) tpm2.TPMTSymDefObject {
	return tpm2.TPMTSymDefObject{
		Algorithm: tpm2.AlgAES, KeyBits: tpm2.TPMUSymObjectBits{AES: bits}, Mode: tpm2.TPMUSymObjectMode{AES: tpm2.AlgCFB},
	}
}
