package enroll_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/derive"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/store"
)

// house is everything around an Enroller: real rooms, and clocks by hand.
type house struct {
	*enroll.Enroller
	t        *testing.T
	dir      string
	store    *store.Store
	log      *audit.Log
	root     *x509.Certificate
	config   enroll.Config
	wall     time.Time
	elapsed  time.Duration
	hostPass []byte // of the host that proved itself last
}

func key(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func spki(t *testing.T) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key(t).Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir(), wall: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	now := func() time.Time { return h.wall }
	var err error
	h.store, err = store.Open(t.Context(), filepath.Join(h.dir, "db"), now)
	must(err)
	t.Cleanup(func() { h.store.Close() })
	rootKey := secret.Random(32)
	signer, err := audit.NewSigner(rootKey, "vouchsafe.test/audit")
	must(err)
	h.log, err = audit.Open(filepath.Join(h.dir, "audit"), signer, audit.Options{Now: now})
	must(err)
	t.Cleanup(func() { h.log.Close() })
	caKey := key(t)
	der, err := ca.NewRoot("test", caKey, h.wall)
	must(err)
	h.root, err = x509.ParseCertificate(der)
	must(err)
	var as []*ca.Authority
	for _, p := range ca.Purposes() {
		k := key(t)
		der, err := ca.NewIntermediate(h.root, caKey, p, k.Public(), h.wall)
		must(err)
		a, err := ca.NewAuthority(p, der, k)
		must(err)
		as = append(as, a)
	}
	office, err := ca.NewOffice(h.root, h.store, now, as...)
	must(err)
	rk := key(t)
	rc, err := office.Issue(t.Context(), ca.ResidenceProfile, ca.Request{PublicKey: rk.Public(), Name: &ca.Name{TrustDomain: "vouchsafe.test", Tenant: "service", Kind: ca.KindService, Name: "residence"}})
	must(err)
	chain, err := office.Chain(ca.Residence)
	must(err)
	h.config = enroll.Config{
		TrustDomain: "vouchsafe.test", Records: h.store, Disks: h.store, Hosts: h.store, Repeats: h.store, Orders: h.store,
		Issuer: office, Log: h.log, Ring: keyring.NewRing(rootKey),
		Residence: func(context.Context) (enroll.Signer, error) {
			return enroll.Signer{Key: rk, Chain: append([]*x509.Certificate{rc}, chain...)}, nil
		},
		Clock: enroll.Clock{Wall: now, Elapsed: func() time.Duration { return h.elapsed }},
	}
	h.restart()
	for _, host := range []enroll.Host{
		{Tenant: "default", Name: "h1", AcceptedUnattested: true, ID: keyring.ID{1}},
		{Tenant: "default", Name: "h2", AcceptedUnattested: true, ID: keyring.ID{2}},
		{Tenant: "default", Name: "bare", ID: keyring.ID{3}},
		{Tenant: "default", Name: "trusted", AcceptedUnattested: true, ID: keyring.ID{4}},
	} {
		must(h.store.SaveHost(t.Context(), host))
	}
	return h
}

func (h *house) restart() { h.Enroller = enroll.New(h.config) }

func (h *house) pass(d time.Duration) { h.wall, h.elapsed = h.wall.Add(d), h.elapsed+d }

func (h *house) born(name, host string) enroll.Born {
	h.t.Helper()
	b, err := h.Born(h.t.Context(), enroll.Birth{Tenant: "default", Name: name, Host: host, EKPublic: spki(h.t), Actor: "test"})
	if err != nil {
		h.t.Fatal(err)
	}
	return b
}

func (h *house) lend(host string, generation int64) (enroll.Granted, error) {
	return h.Lend(h.t.Context(), enroll.Ask{Tenant: "default", VM: "web1", Host: host, Generation: generation, Pass: h.hostPass, Actor: "test"})
}

// wants checks that err refuses with a code; "" wants no error.
func (h *house) wants(what string, err error, code string) {
	h.t.Helper()
	var r enroll.Refusal
	errors.As(err, &r)
	if r.Code != code || (err == nil) != (code == "") {
		h.t.Errorf("%s: got %v, want %q", what, err, code)
	}
}

func TestBorn(t *testing.T) {
	h := newHouse(t)
	b := h.born("web1", "h1")
	if _, err := h.Born(t.Context(), enroll.Birth{Tenant: "default", Name: "web1", Host: "h1", EKPublic: spki(t)}); !errors.Is(err, enroll.ErrExists) {
		t.Errorf("born twice: %v", err)
	}
	for name, change := range map[string]func(*enroll.Birth){
		"no name":      func(b *enroll.Birth) { b.Name = "" },
		"a path":       func(b *enroll.Birth) { b.Name = "../x" },
		"a capital":    func(b *enroll.Birth) { b.Name = "Web" },
		"no host":      func(b *enroll.Birth) { b.Host = "nowhere" },
		"no key":       func(b *enroll.Birth) { b.EKPublic = nil },
		"no real key":  func(b *enroll.Birth) { b.EKPublic = []byte("x") },
		"disks double": func(b *enroll.Birth) { b.Disks = []string{"a", "a"} },
		"many disks":   func(b *enroll.Birth) { b.Disks = strings.Split(strings.Repeat("d ", 17)+"d", " ") },
	} {
		req := enroll.Birth{Tenant: "default", Name: "web2", Host: "h1", EKPublic: spki(t)}
		change(&req)
		if _, err := h.Born(t.Context(), req); err == nil {
			t.Errorf("%s: born", name)
		}
	}
	d, err := h.store.Disk(t.Context(), "default", "web1", "root")
	if err != nil || bytes.Contains(d.Share, make([]byte, 8)) {
		t.Errorf("the disk's share: %v", err)
	}
	if b.Checkpoint == nil || b.VM.State != enroll.StateBorn {
		t.Errorf("got %+v", b)
	}
}

// TestBornOnce: a request that is repeated with its key is done once.
func TestBornOnce(t *testing.T) {
	h := newHouse(t)
	req := enroll.Birth{Tenant: "default", Name: "web1", Host: "h1", EKPublic: spki(t), Once: enroll.Once{Key: "k", Digest: []byte("d")}}
	first, err := h.Born(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	again, err := h.Born(t.Context(), req)
	if err != nil || !again.Repeated || again.VM.ID != first.VM.ID {
		t.Errorf("again: %+v, %v", again, err)
	}
	req.Once.Digest = []byte("other")
	if _, err := h.Born(t.Context(), req); !errors.Is(err, enroll.ErrOtherRequest) {
		t.Errorf("another request under the same key: %v", err)
	}
}

// TestLease is one vTPM's generations, told in order.
func TestLease(t *testing.T) {
	h := newHouse(t)
	h.born("web1", "h1")
	// The first start: there is no state yet.
	g1, err := h.lend("h1", 0)
	h.wants("first lease", err, "")
	if g1.OpenKey.Len() != 0 || g1.SealKey.Len() != 32 || g1.Lease.Generation != 1 {
		t.Fatalf("got %+v", g1.Lease)
	}
	r, err := enroll.ParseResidence(g1.Residence, h.root, h.wall)
	if err != nil || r.Tier != enroll.TierUnattested || r.Generation != 1 || strings.Contains(fmt.Sprint(r), "h1") {
		t.Errorf("residence %+v, %v", r, err)
	}
	if _, err := enroll.ParseResidence(g1.Residence, h.root, h.wall.Add(10*time.Minute)); err == nil {
		t.Error("an old residence statement is taken")
	}
	// The host stops before it wrote anything: it may ask again.
	g1, err = h.lend("h1", 0)
	h.wants("asking again", err, "")
	h.wants("confirming", h.Confirm(t.Context(), "default", "web1", g1.Lease.ID, 1), "")
	// From here on, state of generation 0 is a roll-back.
	_, err = h.lend("h1", 0)
	h.wants("an old copy", err, "STATE_ROLLED_BACK")
	_, err = h.lend("h1", 5)
	h.wants("a copy from nowhere", err, "STATE_AHEAD")
	g2, err := h.lend("h1", 1)
	h.wants("the next start", err, "")
	if !g2.OpenKey.Equal(g1.SealKey) || g2.SealKey.Equal(g1.SealKey) {
		t.Error("the keys of the generations do not fit together")
	}
	// The old lease is fenced.
	_, err = h.Renew(t.Context(), "default", "web1", g1.Lease.ID, nil)
	h.wants("renewing the old lease", err, "LEASE_GONE")
	// The state was written at generation 2 and the confirmation got lost.
	g3, err := h.lend("h1", 2)
	h.wants("a lost confirmation", err, "")
	if g3.Lease.Generation != 3 {
		t.Errorf("generation %d, want 3", g3.Lease.Generation)
	}
	_, err = h.lend("h1", 1)
	h.wants("the copy before", err, "STATE_ROLLED_BACK")
	// Another host.
	_, err = h.lend("h2", 2)
	h.wants("another host", err, "VM_ELSEWHERE")
	// Time passes.
	h.pass(4 * time.Minute)
	_, err = h.Renew(t.Context(), "default", "web1", g3.Lease.ID, nil)
	h.wants("renewing in time", err, "")
	h.pass(6 * time.Minute)
	_, err = h.Renew(t.Context(), "default", "web1", g3.Lease.ID, nil)
	h.wants("renewing too late", err, "LEASE_EXPIRED")
	// Revoked.
	if subject, _, err := h.Revoke(t.Context(), "default", "web1", "stolen", "test"); err != nil || subject != "spiffe://vouchsafe.test/default/vm/web1" {
		t.Errorf("revoking: %q, %v", subject, err)
	}
	_, err = h.lend("h1", 2)
	h.wants("a lease for a revoked VM", err, "VM_REVOKED")
}

// TestOneLivingCopy: as long as a lease may be in use, no other host gets one,
// whatever the wall clock says, and also after a restart.
func TestOneLivingCopy(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(h *house)
		code string
	}{
		{"at once", func(h *house) {}, "LEASE_ELSEWHERE"},
		{"the clock jumps a day ahead", func(h *house) { h.wall = h.wall.Add(24 * time.Hour) }, "LEASE_ELSEWHERE"},
		{"the clock jumps a day back", func(h *house) { h.wall = h.wall.Add(-24 * time.Hour) }, "LEASE_ELSEWHERE"},
		{"after a restart", func(h *house) { h.pass(4 * time.Minute); h.restart(); h.pass(4 * time.Minute) }, "LEASE_ELSEWHERE"},
		{"after a restart and a jump", func(h *house) { h.restart(); h.wall = h.wall.Add(24 * time.Hour) }, "LEASE_ELSEWHERE"},
		{"a second before its end", func(h *house) { h.pass(enroll.LeaseTime - time.Second) }, "LEASE_ELSEWHERE"},
		{"at its end", func(h *house) { h.pass(enroll.LeaseTime) }, ""},
		{"at its end, the clock a day back", func(h *house) { h.pass(enroll.LeaseTime); h.wall = h.wall.Add(-24 * time.Hour) }, ""},
		{"its time after a restart", func(h *house) { h.restart(); h.pass(enroll.LeaseTime) }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouse(t)
			h.born("web1", "h1")
			g, err := h.lend("h1", 0)
			h.wants("first", err, "")
			h.wants("confirm", h.Confirm(t.Context(), "default", "web1", g.Lease.ID, 1), "")
			// The VM is to run on h2 from now on.
			if err := h.store.UpdateVM(t.Context(), "default", "web1", func(s *enroll.Standing) error { s.VM.Host = "h2"; return nil }); err != nil {
				t.Fatal(err)
			}
			tt.do(h)
			_, err = h.lend("h2", 1)
			h.wants("the other host", err, tt.code)
		})
	}
	t.Run("given back", func(t *testing.T) {
		h := newHouse(t)
		h.born("web1", "h1")
		g, err := h.lend("h1", 0)
		h.wants("first", err, "")
		h.wants("confirm", h.Confirm(t.Context(), "default", "web1", g.Lease.ID, 1), "")
		h.wants("give back", h.Return(t.Context(), "default", "web1", g.Lease.ID), "")
		h.wants("give back again", h.Return(t.Context(), "default", "web1", g.Lease.ID), "LEASE_GONE")
		h.store.UpdateVM(t.Context(), "default", "web1", func(s *enroll.Standing) error { s.VM.Host = "h2"; return nil })
		_, err = h.lend("h2", 1)
		h.wants("the other host", err, "")
	})
}

// meddler is a store in which somebody else comes first, right after a change
// was written and before the one who asked for it goes on.
type meddler struct {
	enroll.Records
	after func()
}

func (m *meddler) UpdateVM(ctx context.Context, tenant, name string, change func(*enroll.Standing) error) error {
	err := m.Records.UpdateVM(ctx, tenant, name, change)
	if f := m.after; f != nil {
		m.after = nil
		f()
	}
	return err
}

// TestLeaseRace: the moment between writing a lease and answering belongs to nobody else.
func TestLeaseRace(t *testing.T) {
	h := newHouse(t)
	m := &meddler{Records: h.store}
	h.config.Records = m
	h.restart()
	h.born("web1", "h1")
	h.pass(time.Hour) // leases from before the start are long over
	move := func(host string) {
		if err := h.store.UpdateVM(t.Context(), "default", "web1", func(s *enroll.Standing) error { s.VM.Host = host; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	m.after = func() {
		move("h2")
		_, err := h.lend("h2", 0)
		h.wants("right after h1's lease was written", err, "LEASE_ELSEWHERE")
		move("h1")
	}
	g, err := h.lend("h1", 0)
	h.wants("h1", err, "")
	// h1 gives back; h2 takes it before h1 heard that it is done.
	m.after = func() {
		move("h2")
		_, err := h.lend("h2", 0)
		h.wants("right after it was given back", err, "")
	}
	h.wants("giving back", h.Return(t.Context(), "default", "web1", g.Lease.ID), "")
	move("h1")
	_, err = h.lend("h1", 0)
	h.wants("h2 has it", err, "LEASE_ELSEWHERE")
}

func TestUnattestedHost(t *testing.T) {
	h := newHouse(t)
	h.config.LocalHost = "trusted"
	h.restart()
	h.born("web1", "bare")
	_, err := h.lend("bare", 0)
	h.wants("a host that proved nothing", err, "HOST_UNATTESTED")
	h.store.UpdateVM(t.Context(), "default", "web1", func(s *enroll.Standing) error { s.VM.Host = "trusted"; return nil })
	for _, tt := range []struct {
		anchor enroll.Anchor
		want   string
	}{
		{enroll.Anchor{}, "HOST_UNATTESTED ROLLBACK_UNANCHORED"},
		{enroll.Anchor{File: "/here/checkpoint"}, "HOST_UNATTESTED ROLLBACK_UNANCHORED"},
		{enroll.Anchor{File: "/nfs/checkpoint", Apart: true}, "HOST_UNATTESTED ROLLBACK_ANCHORED"},
	} {
		h.config.Anchor = tt.anchor
		h.restart()
		g, err := h.lend("trusted", 0)
		h.wants("one that was accepted", err, "")
		var codes []string
		for _, f := range g.Findings {
			codes = append(codes, f.Code)
		}
		if got := strings.Join(codes, " "); got != tt.want {
			t.Errorf("%+v: findings %q, want %q", tt.anchor, got, tt.want)
		}
	}
}

// judge is an Appraiser that says what the test wants.
type judge struct {
	a       enroll.Appraisal
	err     error
	between func()
}

func (j *judge) Appraise(context.Context, enroll.VM, enroll.Evidence) (enroll.Appraisal, error) {
	if j.between != nil {
		j.between()
	}
	return j.a, j.err
}

func TestAdmit(t *testing.T) {
	h := newHouse(t)
	h.born("web1", "h1")
	var share []byte
	idKey := key(t)
	good := enroll.Appraisal{Affirming: true, IdentityKey: idKey.Public(), Result: []byte("{}"),
		SealShare: func(s []byte) ([]byte, error) { share = bytes.Clone(s); return []byte("sealed"), nil }}
	j := &judge{a: good}
	h.config.Appraiser = j
	h.restart()
	evidence := func() enroll.Evidence {
		return enroll.Evidence{Tenant: "default", VM: "web1", Nonce: h.Nonce("default", "web1", enroll.PurposeAdmit), Disk: "root", DNSNames: []string{"web1.example.com"}}
	}
	ev := evidence()
	out, err := h.Admit(t.Context(), ev)
	h.wants("good evidence", err, "")
	if string(out.Share) != "sealed" || len(share) != derive.ShareSize || out.Checkpoint == nil {
		t.Errorf("got %+v", out)
	}
	if err := ca.Verify(out.Certificate, out.Chain[0], h.root, h.wall, x509.ExtKeyUsageServerAuth); err != nil {
		t.Error(err)
	}
	if !strings.Contains(string(out.Certificate.Raw), "unattested") {
		t.Error("the certificate does not say the tier")
	}
	_, err = h.Admit(t.Context(), ev)
	h.wants("a replay", err, "NONCE_USED")

	for _, tt := range []struct {
		name   string
		change func(*enroll.Evidence)
		code   string
	}{
		{"a nonce for another VM", func(e *enroll.Evidence) { e.Nonce = h.Nonce("default", "web2", enroll.PurposeAdmit) }, "NONCE_FOREIGN"},
		{"a nonce for another tenant", func(e *enroll.Evidence) { e.Nonce = h.Nonce("other", "web1", enroll.PurposeAdmit) }, "NONCE_FOREIGN"},
		{"a nonce for another purpose", func(e *enroll.Evidence) { e.Nonce = h.Nonce("default", "web1", "renew") }, "NONCE_FOREIGN"},
		{"a nonce of an earlier run", func(e *enroll.Evidence) { h.restart() }, "NONCE_FOREIGN"},
		{"no nonce", func(e *enroll.Evidence) { e.Nonce = nil }, "NONCE_FOREIGN"},
		{"an old nonce", func(e *enroll.Evidence) { h.pass(enroll.NonceLife + time.Second) }, "NONCE_STALE"},
		{"an old nonce, the clock set back", func(e *enroll.Evidence) {
			h.pass(enroll.NonceLife + time.Second)
			h.wall = h.wall.Add(-24 * time.Hour)
		}, "NONCE_STALE"},
		{"megabytes", func(e *enroll.Evidence) { e.Items = []enroll.Item{{Value: make([]byte, 3<<20)}} }, "EVIDENCE_TOO_LARGE"},
		{"a tampered boot", func(e *enroll.Evidence) {
			j.a = enroll.Appraisal{Code: "EVENT_LOG_MISMATCH", Why: "PCR 4 does not replay"}
		}, "EVENT_LOG_MISMATCH"},
		{"revoked while it was judged", func(e *enroll.Evidence) {
			j.between = func() { h.Revoke(t.Context(), "default", "web1", "late", "test") }
		}, "VM_REVOKED"},
		{"revoked", func(e *enroll.Evidence) {}, "VM_REVOKED"},
	} {
		j.a, j.between = good, nil
		ev := evidence()
		tt.change(&ev)
		out, err := h.Admit(t.Context(), ev)
		h.wants(tt.name, err, tt.code)
		if tt.code != "" && (out.Certificate != nil || out.Share != nil) {
			t.Errorf("%s: something was given out", tt.name)
		}
	}
}

// TestNoLogNoBirth: when the log takes no intent, nothing happens.
func TestNoLogNoBirth(t *testing.T) {
	h := newHouse(t)
	h.log.Close()
	if _, err := h.Born(t.Context(), enroll.Birth{Tenant: "default", Name: "web1", Host: "h1", EKPublic: spki(t)}); err == nil {
		t.Error("born without a record")
	}
	if _, err := h.store.VM(t.Context(), "default", "web1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the VM is there: %v", err)
	}
	if _, _, err := h.Revoke(t.Context(), "default", "web1", "", ""); err == nil {
		t.Error("revoked without a record")
	}
}
