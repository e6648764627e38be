package client

import (
	"errors"
	"fmt"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// CommandError is a TPM's refusal of a command. errors.As finds the [tpm2.RC]
// in it with its parameter, handle or session number, errors.Is compares
// without: errors.Is(err, tpm2.RCAuthFail).
type CommandError struct {
	Command string // NV_Read for TPM2_NV_Read
	RC      tpm2.RC
	where   string // the name of the handle or parameter at fault, if known
}

func (e *CommandError) Error() string {
	s := "TPM2_" + e.Command + ": " + e.RC.Error()
	if e.where != "" {
		s += ", " + e.where
	}
	if h := e.Hint(); h != "" {
		s += ": " + h
	}
	return s
}

func (e *CommandError) Unwrap() error { return e.RC }

// Is compares the response code without its parameter, handle or session number.
func (e *CommandError) Is(target error) bool {
	rc, ok := target.(tpm2.RC)
	return ok && (rc == e.RC || rc == e.RC.Base())
}

// Hint is what to do about it, for the refusals where that is the same for
// every command; otherwise empty.
func (e *CommandError) Hint() string { return hints[e.RC.Base()] }

var hints = map[tpm2.RC]string{
	tpm2.RCInitialize:     "the TPM has not been started; firmware does it, or TPM2_Startup",
	tpm2.RCFailure:        "the TPM is in failure mode; power it off and on, then read TPM2_GetTestResult",
	tpm2.RCAuthFail:       "the authorization value is wrong; each further try counts towards lockout",
	tpm2.RCBadAuth:        "the authorization value is wrong",
	tpm2.RCLockout:        "too many wrong authorizations; wait for the recovery time, or reset with the lockout authorization (tpm2_dictionarylockout -c)",
	tpm2.RCCommandCode:    "this TPM does not have the command",
	tpm2.RCObjectMemory:   "the TPM has no room for another object; flush one (tpm2_flushcontext -t), or use /dev/tpmrm0",
	tpm2.RCSessionMemory:  "the TPM has no room for another session; flush one (tpm2_flushcontext -l)",
	tpm2.RCSessionHandles: "the TPM has no free session handle; flush a session (tpm2_flushcontext -s)",
	tpm2.RCNVSpace:        "the TPM's NV memory is full; undefine an index (tpm2_nvundefine) or evict a key",
	tpm2.RCNVDefined:      "something is there already; undefine or evict it, or take another handle",
	tpm2.RCNVLocked:       "the index is locked against this; a write lock ends with TPM Reset, unless it is for ever",
	tpm2.RCNVRate:         "the TPM slows down writes to spare its memory; wait and try again",
	tpm2.RCPolicyFail:     "the policy is not fulfilled: a PCR, a secret or the command is not as the policy says",
	tpm2.RCPCRChanged:     "a PCR was extended while the policy session was open; begin the policy again",
	tpm2.RCDisabled:       "the hierarchy, or the command in it, is disabled until TPM Reset",
	tpm2.RCRetry:          "the TPM stayed busy; another program may be keeping it so",
	tpm2.RCTesting:        "the TPM stayed busy testing itself; try again later",
	tpm2.RCYielded:        "the TPM stayed busy; try again later",
}

func newCommandError(info *tpm2.CommandInfo, rc tpm2.RC) *CommandError {
	e := &CommandError{Command: info.Name, RC: rc}
	if rc.IsFormatOne() && rc&0x040 == 0 {
		if n := int(rc >> 8 & 0xf); n >= 1 && n <= len(info.Handles) {
			e.where = info.Handles[n-1].Name
		}
	}
	if n := int(rc - tpm2.RCReferenceH0); rc.Base() == tpm2.RCReferenceH0 && n < len(info.Handles) {
		e.where = "nothing is at " + info.Handles[n].Name
	}
	return e
}

// ErrResponse is in every error about a response that cannot be what the TPM
// meant to say: malformed, out of bounds, or with a wrong HMAC. The command may
// or may not have been executed.
var ErrResponse = errors.New("the response cannot be trusted")

func badResponse(info *tpm2.CommandInfo, format string, args ...any) error {
	return fmt.Errorf("TPM2_%s: %w: %s", info.Name, ErrResponse, fmt.Sprintf(format, args...))
}

// usage is a mistake of the caller, found before anything was sent.
func usage(info *tpm2.CommandInfo, format string, args ...any) error {
	return fmt.Errorf("TPM2_%s: %s; nothing was sent", info.Name, fmt.Sprintf(format, args...))
}
