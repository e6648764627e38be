package enroll_test

import (
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/hosting"
)

// TestRevokeHost: each step of a VM's life that rests on its host is refused, also one
// that had begun; another host does not run the VM before the old lease is over.
func TestRevokeHost(t *testing.T) {
	h := newHouse(t)
	h.born("web1", "h1")
	g, err := h.lend("h1", 0)
	h.wants("lease", err, "")
	h.wants("confirm", h.Confirm(t.Context(), "default", "web1", g.Lease.ID, 1), "")
	revoke := func() error {
		_, _, err := h.RevokeHost(t.Context(), "default", "h1", "test", "test")
		return err
	}
	k := key(t)
	h.config.Appraiser = appraiserFunc(func(enroll.Evidence) enroll.Appraisal { // in the middle of an admission
		h.wants("revoke", revoke(), "")
		return enroll.Appraisal{Affirming: true, IdentityKey: k.Public(), SealShare: func(s []byte) ([]byte, error) { return s, nil }}
	})
	h.restart()
	admit := func() error {
		_, err := h.Admit(t.Context(), enroll.Evidence{Tenant: "default", VM: "web1", Nonce: h.Nonce("default", "web1", enroll.PurposeAdmit), Disk: "root"})
		return err
	}
	h.wants("admitting meanwhile", admit(), "HOST_REVOKED")
	if revoked, err := h.store.Revoked(t.Context(), ca.VMIdentity); err != nil || len(revoked) != 1 {
		t.Errorf("the identity that nobody got: %v, %v", revoked, err)
	}
	h.wants("again", revoke(), "")
	h.wants("admitting", admit(), "HOST_REVOKED")
	_, err = h.Renew(t.Context(), "default", "web1", g.Lease.ID, nil)
	h.wants("renewing", err, "HOST_REVOKED")
	_, err = h.lend("h1", 1)
	h.wants("a new lease", err, "HOST_REVOKED")
	h.wants("proving itself", h.attest("h1", hosting.Carried{VM: "web1", Generation: 1}), "HOST_REVOKED")
	_, err = h.EnrollTPM(t.Context(), "default", "h1", spki(t), "test", "test")
	h.wants("another TPM", err, "HOST_REVOKED")
	h.wants("accepted again", h.store.SaveHost(t.Context(), enroll.Host{Tenant: "default", Name: "h1", AcceptedUnattested: true}), "HOST_REVOKED")
	_, err = h.Born(t.Context(), enroll.Birth{Tenant: "default", Name: "web2", Host: "h1", EKPublic: spki(t)})
	h.wants("a VM there", err, "HOST_REVOKED")
	if st, err := h.store.Standing(t.Context(), "default", "web1"); err != nil || st.Lease == nil || st.Lease.ID != g.Lease.ID {
		t.Errorf("until it ran out the old host may run it: %+v, %v", st.Lease, err)
	}

	_, _, err = h.ReinstateHost(t.Context(), "default", "h1", "test", "test")
	h.wants("reinstating", err, "")
	_, _, err = h.ReinstateHost(t.Context(), "default", "h1", "test", "test")
	h.wants("twice", err, "HOST_NOT_REVOKED")
	_, err = h.lend("h1", 1)
	h.wants("that it was accepted counts no longer", err, "HOST_UNATTESTED")
}
