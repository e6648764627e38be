package engine

import "github.com/vouchsafe/vouchsafe/tpm2"

// The limits of this TPM, each with its reason.
const (
	MaxCommandSize = 4096 // what swtpm and every driver use; QEMU's CRB offers 3968
	MaxLargeSize   = 8192 // for a client that can take more: an ML-DSA-87 signature has 4627 octets

	maxTransient  = 16 // tools without a resource manager leave objects behind: more than the usual 3
	maxPersistent = 32 // four EKs, SRK, AKs and room for a guest's own
	maxLoaded     = 64 // loaded sessions: as many as can be active
	maxSessions   = 64 // active sessions, loaded or saved, as libtpms has
	maxAuths      = 3  // sessions in one command (Part 1, 15.6)

	maxBuffer    = 1024     // TPM2B_MAX_BUFFER
	maxNVBuffer  = 1024     // TPM2B_MAX_NV_BUFFER
	maxNVIndexes = 64       // indexes at once
	maxNVBytes   = 64 << 10 // data of all indexes together: bounds what a guest can make the host store
	maxDigest    = 64       // SHA-512

	// A TPM that was taken over from libtpms may come with more. It divides its NV
	// memory as needed: the 66th persistent key is the first that swtpm refuses.
	maxTakenPersistent = 65
	maxTakenIndexes    = 640
	maxSymData         = 128 // MAX_SYM_DATA: what can be sealed

	maxMessage = 8 << 10 // what is kept of a message to verify with ML-DSA: 16 of them still fit into a state

	clockUpdate = 1 << 20 // ms between updates of the stored clock (17.5 minutes): few writes on an idle guest
)

// What the TPM says of itself. The EK certificate says the same (TCG EK
// Credential Profile, 3.1.2): id:56534146 is "VSAF".
const (
	Manufacturer    = 0x56534146 // "VSAF"
	VendorString    = "vouchsafe vTPM"
	FirmwareVersion = uint64(0x0001_0000_0000_0000) // 1.0: major in the top 16 bits, minor in the next
	specLevel       = 0
	specVersion     = 185
	specYear        = 2026
	specDay         = 71 // 12 March
)

// implementsAlg reports whether the algorithm is implemented.
func implementsAlg(a tpm2.AlgID) bool {
	return int(a) < len(algorithms) && algorithms[a] != 0
}

// ClassicalSet is the algorithm set (TPM2_SetAlgorithmSet, TPM_PT_ALGORITHM_SET)
// without the post-quantum algorithms of version 185: some programs refuse a list
// with an algorithm that they do not know. Every other number stands for all.
const ClassicalSet = 1

// implements reports whether the algorithm is in this TPM's set. Objects that
// were there before the set was changed stay.
func (t *TPM) implements(a tpm2.AlgID) bool {
	postQuantum := a == tpm2.AlgMLKEM || a == tpm2.AlgMLDSA
	return implementsAlg(a) && !(postQuantum && t.n().algorithmSet == ClassicalSet)
}

// implementsCurve reports whether the curve is implemented.
func implementsCurve(c tpm2.ECCCurve) bool {
	return c == tpm2.ECCNISTP256 || c == tpm2.ECCNISTP384 || c == tpm2.ECCNISTP521
}

// algorithms are what TPM2_GetCapability reports, by identifier (Part 2, 8.2
// explains the attributes, of which each has some).
var algorithms = [...]tpm2.AlgAttributes{
	tpm2.AlgRSA:          tpm2.AlgAttrAsymmetric | tpm2.AlgAttrObject,
	tpm2.AlgSHA1:         tpm2.AlgAttrHash,
	tpm2.AlgHMAC:         tpm2.AlgAttrHash | tpm2.AlgAttrSigning,
	tpm2.AlgAES:          tpm2.AlgAttrSymmetric,
	tpm2.AlgMGF1:         tpm2.AlgAttrHash | tpm2.AlgAttrMethod,
	tpm2.AlgKeyedHash:    tpm2.AlgAttrHash | tpm2.AlgAttrObject | tpm2.AlgAttrSigning | tpm2.AlgAttrEncrypting,
	tpm2.AlgXOR:          tpm2.AlgAttrHash | tpm2.AlgAttrSymmetric,
	tpm2.AlgSHA256:       tpm2.AlgAttrHash,
	tpm2.AlgSHA384:       tpm2.AlgAttrHash,
	tpm2.AlgSHA512:       tpm2.AlgAttrHash,
	tpm2.AlgRSASSA:       tpm2.AlgAttrAsymmetric | tpm2.AlgAttrSigning,
	tpm2.AlgRSAES:        tpm2.AlgAttrAsymmetric | tpm2.AlgAttrEncrypting,
	tpm2.AlgRSAPSS:       tpm2.AlgAttrAsymmetric | tpm2.AlgAttrSigning,
	tpm2.AlgOAEP:         tpm2.AlgAttrAsymmetric | tpm2.AlgAttrEncrypting,
	tpm2.AlgECDSA:        tpm2.AlgAttrAsymmetric | tpm2.AlgAttrSigning,
	tpm2.AlgECDAA:        tpm2.AlgAttrAsymmetric | tpm2.AlgAttrSigning,
	tpm2.AlgECDH:         tpm2.AlgAttrAsymmetric | tpm2.AlgAttrMethod,
	tpm2.AlgKDF2:         tpm2.AlgAttrHash | tpm2.AlgAttrMethod,
	tpm2.AlgKDF1SP80056A: tpm2.AlgAttrHash | tpm2.AlgAttrMethod,
	tpm2.AlgKDF1SP800108: tpm2.AlgAttrHash | tpm2.AlgAttrMethod,
	tpm2.AlgECC:          tpm2.AlgAttrAsymmetric | tpm2.AlgAttrObject,
	tpm2.AlgSymCipher:    tpm2.AlgAttrObject,
	tpm2.AlgCTR:          tpm2.AlgAttrSymmetric | tpm2.AlgAttrEncrypting,
	tpm2.AlgOFB:          tpm2.AlgAttrSymmetric | tpm2.AlgAttrEncrypting,
	tpm2.AlgCBC:          tpm2.AlgAttrSymmetric | tpm2.AlgAttrEncrypting,
	tpm2.AlgCFB:          tpm2.AlgAttrSymmetric | tpm2.AlgAttrEncrypting,
	tpm2.AlgECB:          tpm2.AlgAttrSymmetric | tpm2.AlgAttrEncrypting,
	tpm2.AlgMLKEM:        tpm2.AlgAttrAsymmetric | tpm2.AlgAttrObject,
	tpm2.AlgMLDSA:        tpm2.AlgAttrAsymmetric | tpm2.AlgAttrObject | tpm2.AlgAttrSigning,
}

// The RSA and AES key sizes that are implemented, in bits.
// RSA-1024 is for keys that others still have: weak, and the guest's own choice.
func implementsRSA(bits uint16) bool { return bits == 1024 || bits == 2048 || bits == 3072 }
func implementsAES(bits uint16) bool { return bits == 128 || bits == 256 }
