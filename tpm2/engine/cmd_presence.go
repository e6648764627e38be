package engine

import (
	"slices"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// PhysicalPresence asserts physical presence, or takes the assertion back. Who
// is present at a virtual machine is for the platform to say; it begins as nobody.
func (t *TPM) PhysicalPresence(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.present = on
}

// checkPresence: some commands want physical presence with the platform's authorization (Part 3, 26.2).
func (t *TPM) checkPresence(c *call, a *auth) tpm2.RC {
	if a.entity != tpm2.RHPlatform || t.present {
		return tpm2.RCSuccess
	}
	if _, ok := slices.BinarySearch(t.n().ppCommands, c.info.Code); ok {
		return tpm2.RCPP
	}
	return tpm2.RCSuccess
}

// presenceCan reports whether physical presence can be made a requirement of
// the command: those with +{PP} at a handle in Part 3 (4.2.5).
func presenceCan(cc tpm2.CC) bool {
	e := command(cc)
	if e == nil || cc == tpm2.CCSetAlgorithmSet {
		return false
	}
	return slices.ContainsFunc(e.info.Handles, func(h tpm2.HandleInfo) bool {
		switch h.Type {
		case tpm2.TPMIRhPlatform, tpm2.TPMIRhProvision, tpm2.TPMIRhClear, tpm2.TPMIRhHierarchy, tpm2.TPMIRhBaseHierarchy,
			tpm2.TPMIRhHierarchyAuth, tpm2.TPMIRhHierarchyPolicy, tpm2.TPMIDhParent:
			return h.Role != tpm2.RoleNone
		}
		return false
	})
}

// ppCommands is TPM2_PP_Commands (Part 3, 26.2), which wants physical presence itself, always.
func (t *TPM) ppCommands(_ *call, in *tpm2.PPCommands, _ *tpm2.PPCommandsResponse) tpm2.RC {
	list := slices.Clone(t.n().ppCommands)
	for _, cc := range in.SetList {
		if i, ok := slices.BinarySearch(list, cc); !ok && presenceCan(cc) {
			list = slices.Insert(list, i, cc)
		}
	}
	for _, cc := range in.ClearList {
		if i, ok := slices.BinarySearch(list, cc); ok && cc != tpm2.CCPPCommands {
			list = slices.Delete(list, i, i+1)
		}
	}
	t.w().ppCommands = list
	return tpm2.RCSuccess
}

// setAlgorithmSet is TPM2_SetAlgorithmSet (Part 3, 26.3). What a set means is the
// vendor's to say: see [ClassicalSet]; other numbers are only remembered.
func (t *TPM) setAlgorithmSet(_ *call, in *tpm2.SetAlgorithmSet, _ *tpm2.SetAlgorithmSetResponse) tpm2.RC {
	t.w().algorithmSet = in.AlgorithmSet
	return tpm2.RCSuccess
}
