package tpm2

import "fmt"

// Handle is a TPM_HANDLE (Part 2, 7.1).
type Handle uint32

// Permanent handles (Part 2, 7.4).
const (
	RHOwner       Handle = 0x40000001
	RHNull        Handle = 0x40000007
	RSPW          Handle = 0x40000009
	RHLockout     Handle = 0x4000000a
	RHEndorsement Handle = 0x4000000b
	RHPlatform    Handle = 0x4000000c
	RHPlatformNV  Handle = 0x4000000d
)

// HandleSpace is a TPM_HT, the top octet of a handle (Part 2, 7.2).
type HandleSpace uint8

const (
	HTPCR           HandleSpace = 0x00
	HTNVIndex       HandleSpace = 0x01
	HTHMACSession   HandleSpace = 0x02
	HTPolicySession HandleSpace = 0x03
	HTPermanent     HandleSpace = 0x40
	HTTransient     HandleSpace = 0x80
	HTPersistent    HandleSpace = 0x81
)

// The first handle of each space, and what the specification reserves in them (Part 2, 7.5).
const (
	HMACSessionFirst   Handle = 0x02000000
	PolicySessionFirst Handle = 0x03000000
	TransientFirst     Handle = 0x80000000
	PersistentFirst    Handle = 0x81000000
	PlatformPersistent Handle = 0x81800000
	NVIndexFirst       Handle = 0x01000000
)

// Saved context handles for objects (Part 2, 14.6.2, Table 261).
const (
	SavedTransient      Handle = 0x80000000 // an ordinary object
	SavedSequence       Handle = 0x80000001 // a sequence object
	SavedTransientClear Handle = 0x80000002 // an object with stClear
)

// PCRCount is the number of PCRs of a PC Client TPM, and so the size of the handle space for them.
const PCRCount = 24

// Space is the handle's kind.
func (h Handle) Space() HandleSpace { return HandleSpace(h >> 24) }

func (h Handle) String() string { return fmt.Sprintf("0x%08x", uint32(h)) }

// HandleType is an interface type over handles (Part 2, 9): which handles a
// command takes at one place. Allows says whether h is in range; whether
// something is there is another question.
type HandleType int

// Allows reports whether a handle of this type may have the value h; null allows the type's null value.
func (t HandleType) Allows(h Handle, null bool) bool {
	if h == RHNull && t.nullable() {
		return null || t.nullIsOrdinary()
	}
	switch t {
	case TPMIDhObject:
		return h.Space() == HTTransient || h.Space() == HTPersistent
	case TPMIDhParent:
		return h.Space() == HTTransient || h.Space() == HTPersistent || hierarchy(h)
	case TPMIDhPersistent:
		return h.Space() == HTPersistent
	case TPMIDhEntity:
		switch h.Space() {
		case HTTransient, HTPersistent, HTNVIndex:
			return true
		case HTPCR:
			return h < PCRCount
		}
		return hierarchy(h) || h == RHLockout
	case TPMIDhPCR:
		return h < PCRCount
	case TPMIDhContext:
		return h.Space() == HTHMACSession || h.Space() == HTPolicySession || h.Space() == HTTransient
	case TPMIDhSaved:
		return h.Space() == HTHMACSession || h.Space() == HTPolicySession || h >= SavedTransient && h <= SavedTransientClear
	case TPMIShHMAC:
		return h.Space() == HTHMACSession
	case TPMIShPolicy:
		return h.Space() == HTPolicySession
	case TPMIRhHierarchy:
		return hierarchy(h)
	case TPMIRhEnables:
		return hierarchy(h) || h == RHPlatformNV
	case TPMIRhHierarchyAuth, TPMIRhHierarchyPolicy:
		return hierarchy(h) || h == RHLockout
	case TPMIRhBaseHierarchy:
		return hierarchy(h)
	case TPMIRhPlatform:
		return h == RHPlatform
	case TPMIRhEndorsement:
		return h == RHEndorsement
	case TPMIRhProvision:
		return h == RHOwner || h == RHPlatform
	case TPMIRhClear:
		return h == RHLockout || h == RHPlatform
	case TPMIRhNVAuth:
		return h == RHOwner || h == RHPlatform || h.Space() == HTNVIndex
	case TPMIRhLockout:
		return h == RHLockout
	case TPMIRhNVIndex, TPMIRhNVDefinedIndex, TPMIRhNVLegacyIndex:
		return h.Space() == HTNVIndex
	}
	return false
}

// hierarchy reports whether h is the Owner, Endorsement or Platform hierarchy.
func hierarchy(h Handle) bool { return h == RHOwner || h == RHEndorsement || h == RHPlatform }

// nullable reports whether TPM_RH_NULL can be a value of the type at all.
func (t HandleType) nullable() bool {
	switch t {
	case TPMIDhObject, TPMIDhEntity, TPMIDhPCR, TPMIRhEnables, TPMIRhEndorsement, TPMIRhHierarchyAuth:
		return true
	}
	return t.nullIsOrdinary()
}

// nullIsOrdinary reports whether TPM_RH_NULL is one of the type's plain values:
// the NULL hierarchy is a hierarchy like the others (Part 2, 9.4, 9.15).
func (t HandleType) nullIsOrdinary() bool { return t == TPMIRhHierarchy || t == TPMIDhParent }
