package tpm2

// ObjectAttributes is TPMA_OBJECT (Part 2, 8.3). The bits for firmware- and
// SVN-limited objects count as reserved: no such hierarchy is known here.
type ObjectAttributes uint32

const (
	FixedTPM             ObjectAttributes = 1 << 1
	STClear              ObjectAttributes = 1 << 2
	FixedParent          ObjectAttributes = 1 << 4
	SensitiveDataOrigin  ObjectAttributes = 1 << 5
	UserWithAuth         ObjectAttributes = 1 << 6
	AdminWithPolicy      ObjectAttributes = 1 << 7
	NoDA                 ObjectAttributes = 1 << 10
	EncryptedDuplication ObjectAttributes = 1 << 11
	Restricted           ObjectAttributes = 1 << 16
	Decrypt              ObjectAttributes = 1 << 17
	SignEncrypt          ObjectAttributes = 1 << 18
	X509Sign             ObjectAttributes = 1 << 19
)

// Has reports whether all bits of want are SET.
func (a ObjectAttributes) Has(want ObjectAttributes) bool { return a&want == want }

// SessionAttributes is TPMA_SESSION (Part 2, 8.4).
type SessionAttributes uint8

const (
	ContinueSession SessionAttributes = 1 << 0
	AuditExclusive  SessionAttributes = 1 << 1
	AuditReset      SessionAttributes = 1 << 2
	SessionDecrypt  SessionAttributes = 1 << 5 // the first command parameter is encrypted
	SessionEncrypt  SessionAttributes = 1 << 6 // the first response parameter is encrypted
	SessionAudit    SessionAttributes = 1 << 7
)

// Has reports whether all bits of want are SET.
func (a SessionAttributes) Has(want SessionAttributes) bool { return a&want == want }

// Locality is TPMA_LOCALITY (Part 2, 8.5): a bit for each of localities 0 to 4.
type Locality uint8

// NVAttributes is TPMA_NV (Part 2, 13.4).
type NVAttributes uint32

const (
	NVPPWrite        NVAttributes = 1 << 0
	NVOwnerWrite     NVAttributes = 1 << 1
	NVAuthWrite      NVAttributes = 1 << 2
	NVPolicyWrite    NVAttributes = 1 << 3
	NVPolicyDelete   NVAttributes = 1 << 10
	NVWriteLocked    NVAttributes = 1 << 11
	NVWriteAll       NVAttributes = 1 << 12
	NVWriteDefine    NVAttributes = 1 << 13
	NVWriteSTClear   NVAttributes = 1 << 14
	NVGlobalLock     NVAttributes = 1 << 15
	NVPPRead         NVAttributes = 1 << 16
	NVOwnerRead      NVAttributes = 1 << 17
	NVAuthRead       NVAttributes = 1 << 18
	NVPolicyRead     NVAttributes = 1 << 19
	NVNoDA           NVAttributes = 1 << 25
	NVOrderly        NVAttributes = 1 << 26
	NVClearSTClear   NVAttributes = 1 << 27
	NVReadLocked     NVAttributes = 1 << 28
	NVWritten        NVAttributes = 1 << 29
	NVPlatformCreate NVAttributes = 1 << 30
	NVReadSTClear    NVAttributes = 1 << 31
)

// Has reports whether all bits of want are SET.
func (a NVAttributes) Has(want NVAttributes) bool { return a&want == want }

// NVType is TPM_NT, the kind of an NV index (Part 2, 13.2).
type NVType uint8

const (
	NTOrdinary NVType = 0
	NTCounter  NVType = 1
	NTBits     NVType = 2
	NTExtend   NVType = 4
	NTPinFail  NVType = 8
	NTPinPass  NVType = 9
)

// Type is the kind of index that the attributes describe.
func (a NVAttributes) Type() NVType { return NVType(a >> 4 & 0xf) }

// With returns the attributes with their type set to t.
func (a NVAttributes) With(t NVType) NVAttributes { return a&^0xf0 | NVAttributes(t)<<4 }

// CCAttributes is TPMA_CC (Part 2, 8.9).
type CCAttributes uint32

// AlgAttributes is TPMA_ALGORITHM (Part 2, 8.2).
type AlgAttributes uint32

const (
	AlgAttrAsymmetric AlgAttributes = 1 << 0
	AlgAttrSymmetric  AlgAttributes = 1 << 1
	AlgAttrHash       AlgAttributes = 1 << 2
	AlgAttrObject     AlgAttributes = 1 << 3
	AlgAttrSigning    AlgAttributes = 1 << 8
	AlgAttrEncrypting AlgAttributes = 1 << 9
	AlgAttrMethod     AlgAttributes = 1 << 10
)
