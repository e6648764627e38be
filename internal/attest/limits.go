package attest

import "github.com/vouchsafe/vouchsafe/eventlog"

// Limits for evidence from strangers and for our own statements.
const (
	// MaxItems is the most items of evidence: one of each type that exists
	// and some that do not exist yet.
	MaxItems = 16
	// MaxItem is the longest item: an IMA list.
	MaxItem = eventlog.MaxIMASize
	// MaxEvidence is the longest evidence on the wire: an IMA list and an event
	// log in base64, and the small things beside them.
	MaxEvidence = (eventlog.MaxIMASize+eventlog.MaxSize)/3*4 + 64<<10
	// MaxQuote is the longest quote item. A TPMS_ATTEST of a quote has at most
	// 400 bytes, a signature by RSA-4096 has 518.
	MaxQuote = 2048
	// MaxCertified is the most certified keys in one evidence: the identity key,
	// the key for the disk share, and room for two more.
	MaxCertified = 4
	// MaxStatement is the longest statement of reference values: 1,024 events
	// of a golden boot with their text.
	MaxStatement = 1 << 20
	// MaxReferenceEvents is how many events of a golden boot a statement keeps,
	// to name the first that differs. The PCR values decide, whatever their number.
	MaxReferenceEvents = 1024
	// MaxReferences is how many approved sets one appraisal looks at.
	MaxReferences = 64
	// MaxAllowedModules is the most modules on one list: Debian's largest kernel has 4,023.
	MaxAllowedModules = 8192
	// MaxModuleSigners is the most signers on one list.
	MaxModuleSigners = 16
	// MaxModuleLists is how many lists one appraisal looks at.
	MaxModuleLists = 64
	// MaxLoadedModules is how many loaded modules a Result names: a few hundred
	// are loaded on a machine with all kinds of hardware.
	MaxLoadedModules = 2048
	// MaxLoadedNames is how long their names are together, in bytes: the guest made
	// them up, and the Result is signed, stored and sent.
	MaxLoadedNames = 128 << 10
	// maxRefusedModules is how many refused modules a Result explains one by one.
	maxRefusedModules = 16
	// maxBroken is how many broken events one Result names.
	maxBroken = 4
)
