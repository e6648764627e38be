package pkcs11

import "fmt"

// Error is a CKR_ code of the library (PKCS#11, 11.1).
type Error uint64

// Codes that a caller may want to tell apart.
const (
	PINIncorrect    Error = 0xA0
	PINLocked       Error = 0xA4
	PINExpired      Error = 0xA3
	UserNotLoggedIn Error = 0x101
)

var names = map[Error]string{
	0x01: "CANCEL", 0x02: "HOST_MEMORY", 0x03: "SLOT_ID_INVALID", 0x05: "GENERAL_ERROR", 0x06: "FUNCTION_FAILED", 0x07: "ARGUMENTS_BAD",
	0x20: "DATA_INVALID", 0x21: "DATA_LEN_RANGE", 0x30: "DEVICE_ERROR", 0x31: "DEVICE_MEMORY", 0x32: "DEVICE_REMOVED", 0x54: "FUNCTION_NOT_SUPPORTED",
	0x60: "KEY_HANDLE_INVALID", 0x62: "KEY_SIZE_RANGE", 0x63: "KEY_TYPE_INCONSISTENT", 0x68: "KEY_FUNCTION_NOT_PERMITTED",
	0x70: "MECHANISM_INVALID", 0x71: "MECHANISM_PARAM_INVALID", 0xA0: "PIN_INCORRECT", 0xA1: "PIN_INVALID", 0xA2: "PIN_LEN_RANGE",
	0xA3: "PIN_EXPIRED", 0xA4: "PIN_LOCKED", 0xB3: "SESSION_HANDLE_INVALID", 0xE0: "TOKEN_NOT_PRESENT", 0xE1: "TOKEN_NOT_RECOGNIZED",
	0x100: "USER_ALREADY_LOGGED_IN", 0x101: "USER_NOT_LOGGED_IN", 0x102: "USER_PIN_NOT_INITIALIZED", 0x150: "BUFFER_TOO_SMALL", 0x190: "CRYPTOKI_NOT_INITIALIZED",
}

func (e Error) Error() string {
	if n := names[e]; n != "" {
		return "CKR_" + n
	}
	return fmt.Sprintf("CKR_ code 0x%X", uint64(e))
}
