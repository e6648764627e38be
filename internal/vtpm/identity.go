package vtpm

import (
	"fmt"

	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
	"github.com/vouchsafe/vouchsafe/tpm2/engine"
)

// specRevision is TPM_PT_REVISION of the engine; a test compares them.
const specRevision = 185

// Identity names the TPM as its EK certificate does (TCG EK Credential
// Profile, 3.1.2) and as GET_INFO reports it.
func Identity() swtpm.Identity {
	return swtpm.Identity{
		Manufacturer: fmt.Sprintf("id:%08X", uint32(engine.Manufacturer)),
		Model:        engine.VendorString,
		Version:      fmt.Sprintf("id:%08X", uint32(engine.FirmwareVersion>>32)),
		Family:       "2.0",
		Level:        0,
		Revision:     specRevision,
	}
}

// Identity is [Identity]: all our TPMs are of one make.
func (i *Instance) Identity() swtpm.Identity { return Identity() }
