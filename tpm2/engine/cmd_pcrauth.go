package engine

import (
	"slices"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// One group of PCRs, those of the dynamic launch's environment, shares an
// authValue and a policy (Part 3, 22.6 and 22.7 leave the grouping to the
// profile; libtpms has the same). All other PCRs are free to use.

// pcrAuthorized reports whether the PCR is one of the group.
func pcrAuthorized(h tpm2.Handle) bool { return h >= 20 && h <= 22 }

// pcrSetAuthPolicy is TPM2_PCR_SetAuthPolicy (Part 3, 22.6).
func (t *TPM) pcrSetAuthPolicy(_ *call, in *tpm2.PCRSetAuthPolicy, _ *tpm2.PCRSetAuthPolicyResponse) tpm2.RC {
	switch {
	case len(in.AuthPolicy) != in.HashAlg.DigestSize():
		return tpm2.RCSize.Param(1)
	case !pcrAuthorized(in.PCRNum):
		return tpm2.RCValue.Param(3)
	}
	t.w().pcrPolicy = authPolicy{in.HashAlg, slices.Clone(in.AuthPolicy)}
	return tpm2.RCSuccess
}

// pcrSetAuthValue is TPM2_PCR_SetAuthValue (Part 3, 22.7).
func (t *TPM) pcrSetAuthValue(_ *call, in *tpm2.PCRSetAuthValue, _ *tpm2.PCRSetAuthValueResponse) tpm2.RC {
	if !pcrAuthorized(in.PCRHandle) {
		return tpm2.RCValue
	}
	t.ram.clear.pcrAuth = slices.Clone(crypt.Trim(in.Auth))
	return tpm2.RCSuccess
}
