package enroll_test

import (
	"context"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/enroll"
)

// forger is a store to which somebody wrote past the service.
type forger struct {
	enroll.Records
	ek []byte
}

func (f *forger) Standing(ctx context.Context, tenant, name string) (enroll.Standing, error) {
	s, err := f.Records.Standing(ctx, tenant, name)
	if f.ek != nil {
		s.VM.EKPublic = f.ek
	}
	return s, err
}

// TestForgedRecord: another vTPM's endorsement key in a VM's record admits nobody.
func TestForgedRecord(t *testing.T) {
	h := newHouse(t)
	f := &forger{Records: h.store}
	h.config.Records = f
	h.restart()
	h.born("web1", "h1")
	admit := func() error {
		_, err := h.Admit(t.Context(), enroll.Evidence{Tenant: "default", VM: "web1", Nonce: h.Nonce("default", "web1", enroll.PurposeAdmit)})
		return err
	}
	f.ek = spki(t)
	h.wants("forged", admit(), "RECORD_CHANGED")
	f.ek = nil
	if err := admit(); err == nil || err.Error() != "admitting web1: this service appraises no evidence" {
		t.Errorf("as it was: %v", err)
	}
}
