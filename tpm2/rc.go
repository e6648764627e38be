package tpm2

import "fmt"

// RC is a TPM_RC response code (Part 2, 6.6). It is an error, except RCSuccess,
// which must not be used as one.
type RC uint32

// RCSuccess is TPM_RC_SUCCESS.
const RCSuccess RC = 0

const (
	// Format-zero codes: about the command or the TPM as a whole.
	RCInitialize      RC = 0x100
	RCFailure         RC = 0x101
	RCSequence        RC = 0x103
	RCPrivate         RC = 0x10b
	RCHMAC            RC = 0x119
	RCDisabled        RC = 0x120
	RCExclusive       RC = 0x121
	RCAuthType        RC = 0x124
	RCAuthMissing     RC = 0x125
	RCPolicy          RC = 0x126
	RCPCR             RC = 0x127
	RCPCRChanged      RC = 0x128
	RCUpgrade         RC = 0x12d
	RCTooManyContexts RC = 0x12e
	RCAuthUnavailable RC = 0x12f
	RCReboot          RC = 0x130
	RCUnbalanced      RC = 0x131
	RCCommandSize     RC = 0x142
	RCCommandCode     RC = 0x143
	RCAuthSize        RC = 0x144
	RCAuthContext     RC = 0x145
	RCNVRange         RC = 0x146
	RCNVSize          RC = 0x147
	RCNVLocked        RC = 0x148
	RCNVAuthorization RC = 0x149
	RCNVUninitialized RC = 0x14a
	RCNVSpace         RC = 0x14b
	RCNVDefined       RC = 0x14c
	RCBadContext      RC = 0x150
	RCCpHash          RC = 0x151
	RCParent          RC = 0x152
	RCNeedsTest       RC = 0x153
	RCNoResult        RC = 0x154
	RCSensitive       RC = 0x155
	RCReadOnly        RC = 0x156
)

const (
	// Format-one codes: about a parameter, a handle or a session, whose number
	// is added by [RC.Param], [RC.Handle] or [RC.Session].
	RCAsymmetric       RC = 0x081
	RCAttributes       RC = 0x082
	RCHash             RC = 0x083
	RCValue            RC = 0x084
	RCHierarchy        RC = 0x085
	RCKeySize          RC = 0x087
	RCMGF              RC = 0x088
	RCMode             RC = 0x089
	RCType             RC = 0x08a
	RCHandle           RC = 0x08b
	RCKDF              RC = 0x08c
	RCRange            RC = 0x08d
	RCAuthFail         RC = 0x08e
	RCNonce            RC = 0x08f
	RCPP               RC = 0x090
	RCScheme           RC = 0x092
	RCSize             RC = 0x095
	RCSymmetric        RC = 0x096
	RCTag              RC = 0x097
	RCSelector         RC = 0x098
	RCInsufficient     RC = 0x09a
	RCSignature        RC = 0x09b
	RCKey              RC = 0x09c
	RCPolicyFail       RC = 0x09d
	RCIntegrity        RC = 0x09f
	RCTicket           RC = 0x0a0
	RCReservedBits     RC = 0x0a1
	RCBadAuth          RC = 0x0a2
	RCExpired          RC = 0x0a3
	RCPolicyCC         RC = 0x0a4
	RCBinding          RC = 0x0a5
	RCCurve            RC = 0x0a6
	RCECCPoint         RC = 0x0a7
	RCFWLimited        RC = 0x0a8
	RCSVNLimited       RC = 0x0a9
	RCParms            RC = 0x0aa
	RCExtMu            RC = 0x0ab
	RCOneShotSignature RC = 0x0ac
	RCSignContextKey   RC = 0x0ad
	RCChannel          RC = 0x0b0
	RCChannelKey       RC = 0x0b1
)

const (
	// Warnings: the command may succeed later.
	RCContextGap     RC = 0x901
	RCObjectMemory   RC = 0x902
	RCSessionMemory  RC = 0x903
	RCMemory         RC = 0x904
	RCSessionHandles RC = 0x905
	RCObjectHandles  RC = 0x906
	RCLocality       RC = 0x907
	RCYielded        RC = 0x908
	RCCanceled       RC = 0x909
	RCTesting        RC = 0x90a
	RCReferenceH0    RC = 0x910
	RCReferenceS0    RC = 0x918
	RCNVRate         RC = 0x920
	RCLockout        RC = 0x921
	RCRetry          RC = 0x922
	RCNVUnavailable  RC = 0x923
)

// RCBadTag is TPM_RC_BAD_TAG, which has the value of TPM 1.2's TPM_BADTAG.
const RCBadTag RC = 0x01e

var rcNames = map[RC]string{
	RCInitialize:       "TPM_RC_INITIALIZE",
	RCFailure:          "TPM_RC_FAILURE",
	RCSequence:         "TPM_RC_SEQUENCE",
	RCPrivate:          "TPM_RC_PRIVATE",
	RCHMAC:             "TPM_RC_HMAC",
	RCDisabled:         "TPM_RC_DISABLED",
	RCExclusive:        "TPM_RC_EXCLUSIVE",
	RCAuthType:         "TPM_RC_AUTH_TYPE",
	RCAuthMissing:      "TPM_RC_AUTH_MISSING",
	RCPolicy:           "TPM_RC_POLICY",
	RCPCR:              "TPM_RC_PCR",
	RCPCRChanged:       "TPM_RC_PCR_CHANGED",
	RCUpgrade:          "TPM_RC_UPGRADE",
	RCTooManyContexts:  "TPM_RC_TOO_MANY_CONTEXTS",
	RCAuthUnavailable:  "TPM_RC_AUTH_UNAVAILABLE",
	RCReboot:           "TPM_RC_REBOOT",
	RCUnbalanced:       "TPM_RC_UNBALANCED",
	RCCommandSize:      "TPM_RC_COMMAND_SIZE",
	RCCommandCode:      "TPM_RC_COMMAND_CODE",
	RCAuthSize:         "TPM_RC_AUTHSIZE",
	RCAuthContext:      "TPM_RC_AUTH_CONTEXT",
	RCNVRange:          "TPM_RC_NV_RANGE",
	RCNVSize:           "TPM_RC_NV_SIZE",
	RCNVLocked:         "TPM_RC_NV_LOCKED",
	RCNVAuthorization:  "TPM_RC_NV_AUTHORIZATION",
	RCNVUninitialized:  "TPM_RC_NV_UNINITIALIZED",
	RCNVSpace:          "TPM_RC_NV_SPACE",
	RCNVDefined:        "TPM_RC_NV_DEFINED",
	RCBadContext:       "TPM_RC_BAD_CONTEXT",
	RCCpHash:           "TPM_RC_CPHASH",
	RCParent:           "TPM_RC_PARENT",
	RCNeedsTest:        "TPM_RC_NEEDS_TEST",
	RCNoResult:         "TPM_RC_NO_RESULT",
	RCSensitive:        "TPM_RC_SENSITIVE",
	RCReadOnly:         "TPM_RC_READ_ONLY",
	RCAsymmetric:       "TPM_RC_ASYMMETRIC",
	RCAttributes:       "TPM_RC_ATTRIBUTES",
	RCHash:             "TPM_RC_HASH",
	RCValue:            "TPM_RC_VALUE",
	RCHierarchy:        "TPM_RC_HIERARCHY",
	RCKeySize:          "TPM_RC_KEY_SIZE",
	RCMGF:              "TPM_RC_MGF",
	RCMode:             "TPM_RC_MODE",
	RCType:             "TPM_RC_TYPE",
	RCHandle:           "TPM_RC_HANDLE",
	RCKDF:              "TPM_RC_KDF",
	RCRange:            "TPM_RC_RANGE",
	RCAuthFail:         "TPM_RC_AUTH_FAIL",
	RCNonce:            "TPM_RC_NONCE",
	RCPP:               "TPM_RC_PP",
	RCScheme:           "TPM_RC_SCHEME",
	RCSize:             "TPM_RC_SIZE",
	RCSymmetric:        "TPM_RC_SYMMETRIC",
	RCTag:              "TPM_RC_TAG",
	RCSelector:         "TPM_RC_SELECTOR",
	RCInsufficient:     "TPM_RC_INSUFFICIENT",
	RCSignature:        "TPM_RC_SIGNATURE",
	RCKey:              "TPM_RC_KEY",
	RCPolicyFail:       "TPM_RC_POLICY_FAIL",
	RCIntegrity:        "TPM_RC_INTEGRITY",
	RCTicket:           "TPM_RC_TICKET",
	RCReservedBits:     "TPM_RC_RESERVED_BITS",
	RCBadAuth:          "TPM_RC_BAD_AUTH",
	RCExpired:          "TPM_RC_EXPIRED",
	RCPolicyCC:         "TPM_RC_POLICY_CC",
	RCBinding:          "TPM_RC_BINDING",
	RCCurve:            "TPM_RC_CURVE",
	RCECCPoint:         "TPM_RC_ECC_POINT",
	RCFWLimited:        "TPM_RC_FW_LIMITED",
	RCSVNLimited:       "TPM_RC_SVN_LIMITED",
	RCParms:            "TPM_RC_PARMS",
	RCExtMu:            "TPM_RC_EXT_MU",
	RCOneShotSignature: "TPM_RC_ONE_SHOT_SIGNATURE",
	RCSignContextKey:   "TPM_RC_SIGN_CONTEXT_KEY",
	RCChannel:          "TPM_RC_CHANNEL",
	RCChannelKey:       "TPM_RC_CHANNEL_KEY",
	RCContextGap:       "TPM_RC_CONTEXT_GAP",
	RCObjectMemory:     "TPM_RC_OBJECT_MEMORY",
	RCSessionMemory:    "TPM_RC_SESSION_MEMORY",
	RCMemory:           "TPM_RC_MEMORY",
	RCSessionHandles:   "TPM_RC_SESSION_HANDLES",
	RCObjectHandles:    "TPM_RC_OBJECT_HANDLES",
	RCLocality:         "TPM_RC_LOCALITY",
	RCYielded:          "TPM_RC_YIELDED",
	RCCanceled:         "TPM_RC_CANCELED",
	RCTesting:          "TPM_RC_TESTING",
	RCReferenceH0:      "TPM_RC_REFERENCE_H0",
	RCReferenceS0:      "TPM_RC_REFERENCE_S0",
	RCNVRate:           "TPM_RC_NV_RATE",
	RCLockout:          "TPM_RC_LOCKOUT",
	RCRetry:            "TPM_RC_RETRY",
	RCNVUnavailable:    "TPM_RC_NV_UNAVAILABLE",
	RCBadTag:           "TPM_RC_BAD_TAG",
}

// IsFormatOne reports whether the code has room for a parameter, handle or session number.
func (rc RC) IsFormatOne() bool { return rc&0x080 != 0 }

// IsWarning reports whether the same command may succeed later.
func (rc RC) IsWarning() bool { return rc&0x980 == 0x900 }

// Param adds the number of the parameter at fault, counted from 1 (Part 2, 6.6.2).
func (rc RC) Param(n int) RC { return rc.locate(0x040 | RC(n)<<8) }

// Handle adds the number of the handle at fault, counted from 1.
func (rc RC) Handle(n int) RC { return rc.locate(RC(n) << 8) }

// Session adds the number of the session at fault, counted from 1.
func (rc RC) Session(n int) RC { return rc.locate(RC(n+8) << 8) }

func (rc RC) locate(where RC) RC {
	if !rc.IsFormatOne() || rc&0xf40 != 0 { // nowhere to put it, or known already
		return rc
	}
	return rc | where
}

// Base is the code without parameter, handle or session number, to compare with the constants.
func (rc RC) Base() RC {
	switch {
	case rc.IsFormatOne():
		return rc &^ 0xf40
	case rc >= RCReferenceH0 && rc <= RCReferenceH0+6:
		return RCReferenceH0
	case rc >= RCReferenceS0 && rc <= RCReferenceS0+6:
		return RCReferenceS0
	}
	return rc
}

// Error names the code and what it is about, as in "TPM_RC_AUTH_FAIL for session 1 (0x98e)".
func (rc RC) Error() string {
	base := rc.Base()
	name, ok := rcNames[base]
	if !ok {
		return fmt.Sprintf("TPM response code 0x%03x", uint32(rc))
	}
	n := int(rc >> 8 & 0xf)
	switch {
	case base == RCReferenceH0 || base == RCReferenceS0:
		return fmt.Sprintf("%s+%d (0x%03x)", name, rc-base, uint32(rc))
	case !rc.IsFormatOne() || rc == base:
		return fmt.Sprintf("%s (0x%03x)", name, uint32(rc))
	case rc&0x040 != 0:
		return fmt.Sprintf("%s for parameter %d (0x%03x)", name, n, uint32(rc))
	case n > 8:
		return fmt.Sprintf("%s for session %d (0x%03x)", name, n-8, uint32(rc))
	}
	return fmt.Sprintf("%s for handle %d (0x%03x)", name, n, uint32(rc))
}
