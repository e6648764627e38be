package enroll_test

import (
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/statement"
)

// TestForgedResidence: a VM's certificate leads to the same root, and its key
// may sign; what it says about where it lives counts for nothing.
func TestForgedResidence(t *testing.T) {
	h := newHouse(t)
	k := key(t)
	cert, err := h.config.Issuer.Issue(t.Context(), ca.VMProfile, ca.Request{PublicKey: k.Public(), Name: &ca.Name{TrustDomain: "vouchsafe.test", Tenant: "default", Kind: ca.KindVM, Name: "residence"}})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := h.config.Issuer.Chain(ca.VMIdentity)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := statement.Sign(enroll.ResidenceType, []byte(`{"tier":"confidential","iat":1,"exp":99999999999}`), k, append(chain[:0:0], cert, chain[0])...)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := statement.Verify(enroll.ResidenceType, signed, h.root, h.wall); err != nil {
		t.Fatalf("the test does not do what it says: %v", err)
	}
	if r, err := enroll.ParseResidence(signed, h.root, h.wall); err == nil {
		t.Errorf("a VM's own word counts: %+v", r)
	}
}
