package enroll_test

import (
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
)

// TestRevokedMeanwhile: a VM that is revoked while it is being admitted has no
// good certificate afterwards, not even one that nobody got.
func TestRevokedMeanwhile(t *testing.T) {
	h := newHouse(t)
	h.born("web1", "h1")
	j := &judge{a: enroll.Appraisal{Affirming: true, IdentityKey: key(t).Public(), SealShare: func(s []byte) ([]byte, error) { return s, nil }}}
	j.between = func() {
		subject, _, err := h.Revoke(t.Context(), "default", "web1", "stolen", "test")
		if err != nil {
			t.Error(err)
		}
		if _, err := h.store.RevokeSubject(t.Context(), "default", subject, ca.PrivilegeWithdrawn); err != nil {
			t.Error(err)
		}
	}
	h.config.Appraiser = j
	h.restart()
	_, err := h.Admit(t.Context(), enroll.Evidence{Tenant: "default", VM: "web1", Nonce: h.Nonce("default", "web1", enroll.PurposeAdmit)})
	h.wants("revoked meanwhile", err, "VM_REVOKED")
	if left, err := h.store.UnfinishedRevocations(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("a good certificate is left of %v, %v", left, err)
	}
}
