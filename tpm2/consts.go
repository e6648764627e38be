package tpm2

// AlgID is a TPM_ALG_ID (Part 2, 6.3).
type AlgID uint16

const (
	AlgError        AlgID = 0x0000
	AlgRSA          AlgID = 0x0001
	AlgSHA1         AlgID = 0x0004
	AlgHMAC         AlgID = 0x0005
	AlgAES          AlgID = 0x0006
	AlgMGF1         AlgID = 0x0007
	AlgKeyedHash    AlgID = 0x0008
	AlgXOR          AlgID = 0x000a
	AlgSHA256       AlgID = 0x000b
	AlgSHA384       AlgID = 0x000c
	AlgSHA512       AlgID = 0x000d
	AlgNull         AlgID = 0x0010
	AlgSM3256       AlgID = 0x0012
	AlgRSASSA       AlgID = 0x0014
	AlgRSAES        AlgID = 0x0015
	AlgRSAPSS       AlgID = 0x0016
	AlgOAEP         AlgID = 0x0017
	AlgECDSA        AlgID = 0x0018
	AlgECDH         AlgID = 0x0019
	AlgECDAA        AlgID = 0x001a
	AlgECMQV        AlgID = 0x001d
	AlgKDF1SP80056A AlgID = 0x0020
	AlgKDF2         AlgID = 0x0021
	AlgKDF1SP800108 AlgID = 0x0022
	AlgECC          AlgID = 0x0023
	AlgSymCipher    AlgID = 0x0025
	AlgSHA3256      AlgID = 0x0027
	AlgSHA3384      AlgID = 0x0028
	AlgSHA3512      AlgID = 0x0029
	AlgCTR          AlgID = 0x0040
	AlgOFB          AlgID = 0x0041
	AlgCBC          AlgID = 0x0042
	AlgCFB          AlgID = 0x0043
	AlgECB          AlgID = 0x0044
	AlgMLKEM        AlgID = 0x00a0
	AlgMLDSA        AlgID = 0x00a1
)

// DigestSize is the size in octets of a digest of hash algorithm a, or 0 when a is none we know.
func (a AlgID) DigestSize() int {
	switch a {
	case AlgSHA1:
		return 20
	case AlgSHA256, AlgSM3256, AlgSHA3256:
		return 32
	case AlgSHA384, AlgSHA3384:
		return 48
	case AlgSHA512, AlgSHA3512:
		return 64
	}
	return 0
}

// ECCCurve is a TPM_ECC_CURVE (Part 2, 6.4).
type ECCCurve uint16

const (
	ECCNone     ECCCurve = 0x0000
	ECCNISTP256 ECCCurve = 0x0003
	ECCNISTP384 ECCCurve = 0x0004
	ECCNISTP521 ECCCurve = 0x0005
)

// MLKEMParms is a TPMI_MLKEM_PARMS parameter set (Part 2, 11.2.6.1). ML-KEM-512 is absent.
type MLKEMParms uint16

const (
	MLKEM768  MLKEMParms = 2
	MLKEM1024 MLKEMParms = 3
)

// MLDSAParms is a TPMI_MLDSA_PARMS parameter set (Part 2, 11.2.7.1).
type MLDSAParms uint16

const (
	MLDSA44 MLDSAParms = 1
	MLDSA65 MLDSAParms = 2
	MLDSA87 MLDSAParms = 3
)

// CC is a TPM_CC command code (Part 2, 6.5).
type CC uint32

// ST is a TPM_ST structure tag (Part 2, 6.9).
type ST uint16

const (
	STRspCommand         ST = 0x00c4
	STNull               ST = 0x8000
	STNoSessions         ST = 0x8001
	STSessions           ST = 0x8002
	STAttestNV           ST = 0x8014
	STAttestCommandAudit ST = 0x8015
	STAttestSessionAudit ST = 0x8016
	STAttestCertify      ST = 0x8017
	STAttestQuote        ST = 0x8018
	STAttestTime         ST = 0x8019
	STAttestCreation     ST = 0x801a
	STAttestNVDigest     ST = 0x801c
	STCreation           ST = 0x8021
	STVerified           ST = 0x8022
	STAuthSecret         ST = 0x8023
	STHashCheck          ST = 0x8024
	STAuthSigned         ST = 0x8025
	STMessageVerified    ST = 0x8026
	STDigestVerified     ST = 0x8027
)

// SU is a TPM_SU startup type (Part 2, 6.10).
type SU uint16

const (
	SUClear SU = 0
	SUState SU = 1
)

// SE is a TPM_SE session type (Part 2, 6.11).
type SE uint8

const (
	SEHMAC   SE = 0
	SEPolicy SE = 1
	SETrial  SE = 3
)

// CAP is a TPM_CAP capability area (Part 2, 6.12).
type CAP uint32

const (
	CapAlgs          CAP = 0
	CapHandles       CAP = 1
	CapCommands      CAP = 2
	CapPPCommands    CAP = 3
	CapAuditCommands CAP = 4
	CapPCRs          CAP = 5
	CapTPMProperties CAP = 6
	CapPCRProperties CAP = 7
	CapECCCurves     CAP = 8
	CapAuthPolicies  CAP = 9
)

// PT is a TPM_PT property (Part 2, 6.13).
type PT uint32

const (
	PTFamilyIndicator   PT = 0x100
	PTLevel             PT = 0x101
	PTRevision          PT = 0x102
	PTErrata            PT = 0x103
	PTYear              PT = 0x104
	PTManufacturer      PT = 0x105
	PTVendorString1     PT = 0x106
	PTVendorString2     PT = 0x107
	PTVendorString3     PT = 0x108
	PTVendorString4     PT = 0x109
	PTVendorTPMType     PT = 0x10a
	PTFirmwareVersion1  PT = 0x10b
	PTFirmwareVersion2  PT = 0x10c
	PTInputBuffer       PT = 0x10d
	PTHRTransientMin    PT = 0x10e
	PTHRPersistentMin   PT = 0x10f
	PTHRLoadedMin       PT = 0x110
	PTActiveSessionsMax PT = 0x111
	PTPCRCount          PT = 0x112
	PTPCRSelectMin      PT = 0x113
	PTContextGapMax     PT = 0x114
	PTNVCountersMax     PT = 0x116
	PTNVIndexMax        PT = 0x117
	PTMemory            PT = 0x118
	PTClockUpdate       PT = 0x119
	PTContextHash       PT = 0x11a
	PTContextSym        PT = 0x11b
	PTContextSymSize    PT = 0x11c
	PTOrderlyCount      PT = 0x11d
	PTMaxCommandSize    PT = 0x11e
	PTMaxResponseSize   PT = 0x11f
	PTMaxDigest         PT = 0x120
	PTMaxObjectContext  PT = 0x121
	PTMaxSessionContext PT = 0x122
	PTPSFamilyIndicator PT = 0x123
	PTPSLevel           PT = 0x124
	PTPSRevision        PT = 0x125
	PTPSDayOfYear       PT = 0x126
	PTPSYear            PT = 0x127
	PTSplitMax          PT = 0x128
	PTTotalCommands     PT = 0x129
	PTLibraryCommands   PT = 0x12a
	PTVendorCommands    PT = 0x12b
	PTNVBufferMax       PT = 0x12c
	PTModes             PT = 0x12d
	PTMaxCapBuffer      PT = 0x12e
	PTFirmwareSVN       PT = 0x12f
	PTFirmwareMaxSVN    PT = 0x130
	PTMLParameterSets   PT = 0x131
	PTPermanent         PT = 0x200
	PTStartupClear      PT = 0x201
	PTHRNVIndex         PT = 0x202
	PTHRLoaded          PT = 0x203
	PTHRLoadedAvail     PT = 0x204
	PTHRActive          PT = 0x205
	PTHRActiveAvail     PT = 0x206
	PTHRTransientAvail  PT = 0x207
	PTHRPersistent      PT = 0x208
	PTHRPersistentAvail PT = 0x209
	PTNVCounters        PT = 0x20a
	PTNVCountersAvail   PT = 0x20b
	PTAlgorithmSet      PT = 0x20c
	PTLoadedCurves      PT = 0x20d
	PTLockoutCounter    PT = 0x20e
	PTMaxAuthFail       PT = 0x20f
	PTLockoutInterval   PT = 0x210
	PTLockoutRecovery   PT = 0x211
	PTNVWriteRecovery   PT = 0x212
	PTAuditCounter0     PT = 0x213
	PTAuditCounter1     PT = 0x214
)

// PTPCR is a TPM_PT_PCR property (Part 2, 6.14).
type PTPCR uint32

const (
	PTPCRSave        PTPCR = 0x00
	PTPCRExtendL0    PTPCR = 0x01
	PTPCRResetL0     PTPCR = 0x02
	PTPCRExtendL1    PTPCR = 0x03
	PTPCRResetL1     PTPCR = 0x04
	PTPCRExtendL2    PTPCR = 0x05
	PTPCRResetL2     PTPCR = 0x06
	PTPCRExtendL3    PTPCR = 0x07
	PTPCRResetL3     PTPCR = 0x08
	PTPCRExtendL4    PTPCR = 0x09
	PTPCRResetL4     PTPCR = 0x0a
	PTPCRNoIncrement PTPCR = 0x11
	PTPCRDRTMReset   PTPCR = 0x12
	PTPCRPolicy      PTPCR = 0x13
	PTPCRAuth        PTPCR = 0x14
)

// EO is a TPM_EO arithmetic operand (Part 2, 6.8).
type EO uint16

const (
	EOEq EO = iota
	EONeq
	EOSignedGT
	EOUnsignedGT
	EOSignedLT
	EOUnsignedLT
	EOSignedGE
	EOUnsignedGE
	EOSignedLE
	EOUnsignedLE
	EOBitSet
	EOBitClear
)

// ClockAdjust is a TPM_CLOCK_ADJUST (Part 2, 6.7), a signed octet on the wire.
type ClockAdjust uint8

const (
	ClockCoarseSlower ClockAdjust = 0xfd
	ClockMediumSlower ClockAdjust = 0xfe
	ClockFineSlower   ClockAdjust = 0xff
	ClockNoChange     ClockAdjust = 0
	ClockFineFaster   ClockAdjust = 1
	ClockMediumFaster ClockAdjust = 2
	ClockCoarseFaster ClockAdjust = 3
)

// Generated is TPM_GENERATED, which begins every structure a TPM signs (Part 2, 6.2).
type Generated uint32

// GeneratedValue is TPM_GENERATED_VALUE.
const GeneratedValue Generated = 0xff544347

// YesNo is a TPMI_YES_NO.
type YesNo uint8

const (
	No  YesNo = 0
	Yes YesNo = 1
)

// Bool makes a YesNo of b.
func Bool(b bool) YesNo {
	if b {
		return Yes
	}
	return No
}
