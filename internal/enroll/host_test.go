package enroll_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/hosting"
)

// hostJudge says of every host what it is told to; package verifier's tests have real ones.
type hostJudge struct {
	a      enroll.HostAppraisal
	covers []byte
}

func (j *hostJudge) AppraiseHost(_ context.Context, _ enroll.Host, _ enroll.HostEvidence, covers []byte) (enroll.HostAppraisal, error) {
	j.covers = covers
	return j.a, nil
}

func (h *house) attest(host string, carried ...hosting.Carried) error {
	st, err := h.AttestHost(h.t.Context(), enroll.HostEvidence{Tenant: "default", Host: host, Nonce: h.Nonce("default", host, enroll.PurposeHost), Carried: carried})
	if err == nil {
		h.hostPass = st.Pass
	}
	return err
}

// attested is a house whose host "bare" has a TPM, with web1 born on it.
func attested(t *testing.T) (*house, *hostJudge, enroll.Born) {
	h := newHouse(t)
	j := &hostJudge{a: enroll.HostAppraisal{Affirming: true, Measured: enroll.Measured{Policy: 7, PCRs: []byte("pcrs")}, Result: []byte("{}")}}
	h.config.HostAppraiser = j
	h.restart()
	b := h.bornWithEK("web1", "bare")
	h.wants("no TPM on record", h.attest("bare"), "HOST_TPM_UNKNOWN")
	_, err := h.EnrollTPM(t.Context(), "default", "bare", spki(t), "test", "test")
	h.wants("enrolling", err, "")
	_, err = h.EnrollTPM(t.Context(), "default", "bare", spki(t), "test", "test")
	h.wants("another TPM", err, "HOST_TPM_OTHER")
	return h, j, b
}

// bornWithEK is a VM whose endorsement key is of a kind that TPMs have.
func (h *house) bornWithEK(name, host string) enroll.Born {
	h.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		h.t.Fatal(err)
	}
	b, err := h.Born(h.t.Context(), enroll.Birth{Tenant: "default", Name: name, Host: host, EKPublic: der, Actor: "test"})
	if err != nil {
		h.t.Fatal(err)
	}
	return b
}

// TestHostQuote: keys go to a host with a TPM only while its quote is fresh and
// covers the vTPM in the generation on record.
func TestHostQuote(t *testing.T) {
	h, j, b := attested(t)
	_, err := h.lend("bare", 0)
	h.wants("before it proved anything", err, "HOST_QUOTE_STALE")
	h.wants("without a vTPM", h.attest("bare"), "")
	g, err := h.lend("bare", 0)
	h.wants("a new vTPM", err, "")
	h.wants("confirm", h.Confirm(t.Context(), "default", "web1", g.Lease.ID, 1), "")
	_, err = h.Renew(t.Context(), "default", "web1", g.Lease.ID, nil)
	h.wants("not in the quote", err, "VTPM_NOT_QUOTED")

	h.wants("with it", h.attest("bare", hosting.Carried{VM: "web1", Generation: 1}), "")
	r, err := h.Renew(t.Context(), "default", "web1", g.Lease.ID, nil)
	h.wants("in the quote", err, "")
	st, err := enroll.ParseResidence(r.Residence, h.root, h.wall)
	if err != nil || st.Tier != enroll.TierTPM || st.Measured == nil || st.Measured.Policy != 7 || st.Carried == nil {
		t.Fatalf("residence %+v, %v", st, err)
	}
	// The statement's proof holds against the root that the TPM signed.
	name, err := admission.EKName(b.VM.EKPublic)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Carried.Check(attest.Carried{EKName: name, Generation: 1}); err != nil || string(st.Carried.Root) != string(j.covers) {
		t.Errorf("the proof: %v", err)
	}
	if st.Carried.Check(attest.Carried{EKName: name, Generation: 2}) == nil {
		t.Error("the proof is good for another generation")
	}

	// An old copy of the state, honestly listed.
	h.wants("confirm", h.Return(t.Context(), "default", "web1", g.Lease.ID), "")
	g, err = h.lend("bare", 1)
	h.wants("next start", err, "")
	h.wants("confirm", h.Confirm(t.Context(), "default", "web1", g.Lease.ID, 2), "")
	_, err = h.Renew(t.Context(), "default", "web1", g.Lease.ID, nil)
	h.wants("the quote covers the one before", err, "VTPM_NOT_QUOTED")

	// It goes stale, on either clock's terms only by the monotonic one.
	h.wants("again", h.attest("bare", hosting.Carried{VM: "web1", Generation: 2}), "")
	h.wall = h.wall.Add(24 * time.Hour)
	_, err = h.Renew(t.Context(), "default", "web1", g.Lease.ID, nil)
	h.wants("a clock that jumps ahead ends nothing", err, "")
	h.pass(enroll.HostLife - time.Second)
	_, err = h.Renew(t.Context(), "default", "web1", g.Lease.ID, nil)
	h.wants("in time", err, "")
	h.pass(time.Second)
	_, err = h.Renew(t.Context(), "default", "web1", g.Lease.ID, nil)
	h.wants("too late", err, "HOST_QUOTE_STALE")

	// A boot that is not approved ends at once what an earlier one was worth.
	h.wants("again", h.attest("bare", hosting.Carried{VM: "web1", Generation: 2}), "")
	j.a.Affirming, j.a.Code = false, "BOOT_DIFFERS"
	h.wants("another boot", h.attest("bare", hosting.Carried{VM: "web1", Generation: 2}), "BOOT_DIFFERS")
	_, err = h.Renew(t.Context(), "default", "web1", g.Lease.ID, nil)
	h.wants("after another boot", err, "HOST_QUOTE_STALE")
	// A restart remembers nothing of it.
	j.a.Affirming = true
	h.wants("approved", h.attest("bare", hosting.Carried{VM: "web1", Generation: 2}), "")
	h.restart()
	_, err = h.Renew(t.Context(), "default", "web1", g.Lease.ID, nil)
	h.wants("after a restart", err, "HOST_QUOTE_STALE")
}

// TestHostList: what a host may say of its vTPMs.
func TestHostList(t *testing.T) {
	h, _, _ := attested(t)
	h.bornWithEK("web2", "h1")
	h.wants("another host's", h.attest("bare", hosting.Carried{VM: "web2", Generation: 1}), "VM_ELSEWHERE")
	h.wants("nobody's", h.attest("bare", hosting.Carried{VM: "web9", Generation: 1}), "VM_ELSEWHERE")
	h.wants("twice", h.attest("bare", hosting.Carried{VM: "web1", Generation: 1}, hosting.Carried{VM: "web1", Generation: 2}), "CARRIED_TWICE")
	h.wants("a VM's nonce", func() error {
		_, err := h.AttestHost(t.Context(), enroll.HostEvidence{Tenant: "default", Host: "bare", Nonce: h.Nonce("default", "bare", enroll.PurposeAdmit)})
		return err
	}(), "NONCE_FOREIGN")
	h.wants("too many", h.attest("bare", make([]hosting.Carried, hosting.MaxCarried+1)...), "EVIDENCE_TOO_LARGE")
}

// TestForgedHost: another TPM in a host's record vouches for nobody.
func TestForgedHost(t *testing.T) {
	h, _, _ := attested(t)
	h.wants("as it was enrolled", h.attest("bare"), "")
	record, err := h.store.Host(t.Context(), "default", "bare")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(h.dir, "db")) // past the store, which exchanges no TPM
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`UPDATE host SET ek = $1 WHERE name = 'bare'`, spki(t)); err != nil {
		t.Fatal(err)
	}
	h.wants("forged", h.attest("bare"), "RECORD_CHANGED")
	// Nor the record of a host in another's place.
	other := record
	other.Name = "h1"
	if err := h.store.SaveHost(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	h.wants("in another's place", h.attest("h1"), "RECORD_CHANGED")
}

// TestAcceptedAndEnrolled: that a host was accepted without proof ends when it has a TPM.
func TestAcceptedAndEnrolled(t *testing.T) {
	h, _, _ := attested(t)
	h.bornWithEK("web3", "trusted")
	lend := func() error {
		_, err := h.Lend(t.Context(), enroll.Ask{Tenant: "default", VM: "web3", Host: "trusted"})
		return err
	}
	h.wants("accepted", lend(), "")
	_, err := h.EnrollTPM(t.Context(), "default", "trusted", spki(t), "test", "test")
	h.wants("enrolling", err, "")
	h.wants("accepted before it had a TPM", lend(), "HOST_QUOTE_STALE")
}

// TestOrder: a VM is born by its host's answer, once.
func TestOrder(t *testing.T) {
	h := newHouse(t)
	order := func(once enroll.Once) error {
		_, err := h.Order(t.Context(), enroll.Birth{Tenant: "default", Name: "web1", Host: "h1", Endorse: false, Disks: []string{"root", "data"}, Actor: "test", Once: once})
		return err
	}
	digest := sha256.Sum256(nil)
	once := enroll.Once{Key: "k", Digest: digest[:]}
	h.wants("order", order(once), "")
	h.wants("the same again", order(once), "")
	if err := order(enroll.Once{}); err == nil {
		t.Error("ordered twice")
	}
	ek := spki(t)
	fulfil := func(host string, ek []byte) error {
		_, err := h.Fulfil(t.Context(), "default", host, "web1", ek, "test")
		return err
	}
	h.wants("another host", fulfil("h2", ek), "VM_ELSEWHERE")
	h.wants("its host", fulfil("h1", ek), "")
	h.wants("its host, again", fulfil("h1", ek), "")
	if err := fulfil("h1", spki(t)); err == nil {
		t.Error("another vTPM took its place")
	}
	if err := fulfil("h2", ek); err == nil {
		t.Error("another host says it made it")
	}
	if disks, err := h.store.Disks(t.Context(), "default", "web1"); err != nil || len(disks) != 2 {
		t.Errorf("%d disks, %v", len(disks), err)
	}
	if left, err := h.store.Orders(t.Context(), "default", "h1"); err != nil || len(left) != 0 {
		t.Errorf("orders left: %v, %v", left, err)
	}
	h.wants("ordered before, born meanwhile", order(once), "")
}

// TestCounters: the verdict knows what the host counted under the lease of now.
func TestCounters(t *testing.T) {
	h := newHouse(t)
	var seen []*hosting.Counters
	h.config.Appraiser = appraiserFunc(func(e enroll.Evidence) enroll.Appraisal {
		seen = append(seen, e.Counters)
		return enroll.Appraisal{Code: "NO", Why: "no"}
	})
	h.restart()
	h.born("web1", "h1")
	admit := func() {
		_, err := h.Admit(t.Context(), enroll.Evidence{Tenant: "default", VM: "web1", Nonce: h.Nonce("default", "web1", enroll.PurposeAdmit)})
		h.wants("admit", err, "NO")
	}
	admit() // it never had a lease
	g, err := h.lend("h1", 0)
	h.wants("lease", err, "")
	h.wants("confirm", h.Confirm(t.Context(), "default", "web1", g.Lease.ID, 1), "")
	admit() // nobody counted
	_, err = h.Renew(t.Context(), "default", "web1", g.Lease.ID, &hosting.Counters{Reset: 5, Restart: 1})
	h.wants("renew", err, "")
	admit()
	_, err = h.Renew(t.Context(), "default", "web1", g.Lease.ID, nil)
	h.wants("renew", err, "")
	admit() // it says nothing new
	_, err = h.Renew(t.Context(), "default", "web1", g.Lease.ID, &hosting.Counters{Reset: 6, Ever: 9})
	h.wants("renew", err, "")
	g, err = h.lend("h1", 1)
	h.wants("lease", err, "")
	h.wants("confirm", h.Confirm(t.Context(), "default", "web1", g.Lease.ID, 2), "")
	admit() // of another lease
	_, err = h.Renew(t.Context(), "default", "web1", g.Lease.ID, &hosting.Counters{Reset: 6, Ever: 8})
	h.wants("state of a snapshot", err, "STATE_ROLLED_BACK")
	_, err = h.Renew(t.Context(), "default", "web1", g.Lease.ID, &hosting.Counters{Reset: 0, Ever: 9})
	h.wants("after TPM2_Clear", err, "")
	h.wants("return", h.Return(t.Context(), "default", "web1", g.Lease.ID), "")
	_, err = h.Admit(t.Context(), enroll.Evidence{Tenant: "default", VM: "web1", Nonce: h.Nonce("default", "web1", enroll.PurposeAdmit)})
	h.wants("without a lease", err, "LEASE_EXPIRED")
	for i, want := range []uint32{0, 0, 5, 5, 0} {
		if got := seen[i]; (want == 0) != (got == nil) || got != nil && got.Reset != want {
			t.Errorf("admission %d knows of %v, want %d", i, got, want)
		}
	}
}

type appraiserFunc func(enroll.Evidence) enroll.Appraisal

func (f appraiserFunc) Appraise(_ context.Context, _ enroll.VM, e enroll.Evidence) (enroll.Appraisal, error) {
	return f(e), nil
}

// TestStolenCredential: a copy of a host's disk has its credential and its VMs'
// states, and gets no key for them while the host itself is trusted.
func TestStolenCredential(t *testing.T) {
	h, _, _ := attested(t)
	lend := func(pass []byte) error {
		_, err := h.Lend(t.Context(), enroll.Ask{Tenant: "default", VM: "web1", Host: "bare", Pass: pass})
		return err
	}
	h.wants("the host proves itself", h.attest("bare"), "")
	first := h.hostPass
	h.wants("the host", lend(first), "")
	h.wants("the thief", lend(nil), "HOST_QUOTE_STALE")
	h.wants("the thief guesses", lend(make([]byte, len(first))), "HOST_QUOTE_STALE")
	// The host proves itself again and again, while its requests are on their way.
	for range 3 {
		h.wants("again", h.attest("bare"), "")
	}
	h.wants("with what it had before", lend(first), "")
	h.pass(enroll.HostLife - time.Second)
	h.wants("again", h.attest("bare"), "")
	h.pass(time.Second)
	h.wants("again", h.attest("bare"), "")
	if bytes.Equal(h.hostPass, first) {
		t.Error("a pass is good for ever")
	}
	h.wants("with the one before", lend(first), "")
	h.wants("with the new one", lend(h.hostPass), "")
	h.pass(enroll.HostLife - time.Second)
	h.wants("again", h.attest("bare"), "")
	h.pass(time.Second)
	h.wants("again", h.attest("bare"), "")
	h.wants("with the one before the last", lend(first), "HOST_QUOTE_STALE")
}
