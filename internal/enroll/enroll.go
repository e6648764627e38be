// Package enroll is the life of a VM, step by step; start reading here.
//
//	Order    somebody asks for it, and its host makes a vTPM
//	Born     it gets a name, an endorsement certificate, a disk key
//	Lend     a host gets leave to run its vTPM: one copy, one generation
//	Admit    it proves itself, and gets its identity and its share of the disk key
//	Revoke   it loses trust, for good
//
// Every step is one call into one room and returns a value; what cannot be
// undone is recorded first. The package decides; it stores nothing itself, and
// the small interfaces it asks for are in values.go.
//
// It is not for judging evidence, which is package attest's, nor for HTTP.
package enroll

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/derive"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
	"github.com/vouchsafe/vouchsafe/internal/secret"
)

// Config is what an Enroller works with. All fields without a note are needed.
type Config struct {
	TrustDomain string // of the names in certificates
	Records     Records
	Disks       Disks
	Hosts       Hosts
	Repeats     Repeats
	Orders      Orders
	Leaves      Leaves // nil: no disk opens without the service
	Issuer      Issuer
	Log         Log
	Ring        *keyring.Ring
	// Residence returns who signs residence statements now: its certificate is
	// renewed from time to time.
	Residence func(ctx context.Context) (Signer, error)
	// Endorser issues endorsement certificates; nil: none can be asked for.
	Endorser Endorser
	// Appraiser judges evidence; nil: nothing is admitted.
	Appraiser Appraiser
	// HostAppraiser judges hosts; nil: each is what its operator accepted.
	HostAppraiser HostAppraiser
	// IsOwn says whether an endorsement key is of the machine that the service runs
	// on; nil: it cannot tell.
	IsOwn func(ekPublic []byte) (bool, error)
	// LocalHost is the host that this control plane itself runs on, or "".
	LocalHost string
	// Anchor is what would tell, outside this machine, that it was set back.
	Anchor Anchor
	// Clock; the zero value is this machine's.
	Clock Clock
}

// Anchor is a file with the newest checkpoint of the audit log, which has every
// lease's generation. The service does not start with an older log than that.
type Anchor struct {
	File  string // empty: there is none
	Apart bool   // it lies on another file system than the record
}

// Endorser issues the endorsement certificate of a vTPM: static, opaque, and
// saying that it is virtual (ca, ek.go).
type Endorser interface {
	Endorse(ctx context.Context, tenant string, id keyring.ID, ekPublic []byte) (*x509.Certificate, error)
}

// Enroller leads VMs through their life. It is safe for concurrent use.
type Enroller struct {
	Config
	nonces *nonces
	alive  *deadlines
	budget *budgets
	hosts  *hostStandings
	powers *powers
	shown  *showns
}

// New makes an Enroller. A restart forgets which leases are still alive, so it
// takes all of them for alive until their whole time has passed again.
func New(c Config) *Enroller {
	c.Clock = c.Clock.orMachine()
	return &Enroller{Config: c, nonces: newNonces(secret.Random(32), c.Clock), alive: newDeadlines(c.Clock), budget: newBudgets(c.Clock),
		hosts: newHostStandings(c.Clock), powers: newPowers(), shown: newShowns(c.Clock)}
}

// Clock is the two clocks of a machine: what it shows, which may jump, and how
// much time has passed, which may not.
type Clock struct {
	Wall    func() time.Time
	Elapsed func() time.Duration
}

func (c Clock) orMachine() Clock {
	start := time.Now()
	if c.Wall == nil {
		c.Wall = time.Now
	}
	if c.Elapsed == nil {
		c.Elapsed = func() time.Duration { return time.Since(start) } // monotonic
	}
	return c
}

// Birth asks for a VM.
type Birth struct {
	Tenant, Name, Host string
	EKPublic           []byte // SubjectPublicKeyInfo of the vTPM's endorsement key
	// Endorse asks for an endorsement certificate, which says of which make the
	// vTPM is: only for one that this service's own program made.
	Endorse bool
	Disks   []string // names; none: one, called root
	Actor   string   // who asks, for the record
	Once    Once
}

// Born is what comes of it.
type Born struct {
	VM          VM
	Certificate *x509.Certificate // the endorsement certificate, or nil
	Checkpoint  []byte            // of the audit log, over the birth
	Repeated    bool              // the same request had done it before
}

// maxDisks: each disk is a secret to keep and a round trip at boot.
const maxDisks = 16

// Born makes a VM known.
func (e *Enroller) Born(ctx context.Context, b Birth) (Born, error) {
	fail := func(err error) (Born, error) { return Born{}, fmt.Errorf("making %s: %w", b.Name, err) }

	// 1. Is this a VM at all, and is it new?
	if len(b.Disks) == 0 {
		b.Disks = []string{"root"}
	}
	if err := b.check(); err != nil {
		return fail(err)
	}
	if err := e.notOwn(b.Name, b.EKPublic); err != nil {
		return fail(err)
	}
	if name, err := e.Repeats.Repeated(ctx, b.Tenant, b.Once); err != nil {
		return fail(err)
	} else if name != "" {
		vm, err := e.Records.VM(ctx, b.Tenant, name)
		return Born{VM: vm, Repeated: true}, err
	}
	if _, err := e.Records.VM(ctx, b.Tenant, b.Name); err == nil {
		return fail(ErrExists)
	} else if !errors.Is(err, ErrNotFound) {
		return fail(err)
	}
	if err := e.lost(ctx, b.Tenant, b.Host); err != nil {
		return fail(err)
	}
	if err := e.budget.spend(Keys, b.Tenant, b.Actor); err != nil {
		return fail(err)
	}

	// 2. Record the intent.
	intent, err := e.Log.Begin(ctx, audit.Event{Tenant: b.Tenant, Actor: b.Actor, Action: "vm.born", Object: b.Name,
		Detail: map[string]string{"host": b.Host}})
	if err != nil {
		return fail(err)
	}
	out, err := e.born(ctx, b)
	if err != nil {
		intent.Failed(ctx, err)
		return fail(err)
	}

	// 6. Record the outcome; the checkpoint is the caller's proof of it.
	receipt, err := intent.Done(ctx, map[string]string{"id": out.VM.ID.String(), "ek-certificate": out.VM.EKSerial})
	if err != nil {
		return fail(err)
	}
	out.Checkpoint = receipt.Checkpoint
	return out, nil
}

func (e *Enroller) born(ctx context.Context, b Birth) (Born, error) {
	now := e.Clock.Wall()
	out := Born{VM: VM{Tenant: b.Tenant, Name: b.Name, Host: b.Host, State: StateBorn, EKPublic: b.EKPublic, Created: now}}
	rand.Read(out.VM.ID[:])

	// 3. The endorsement certificate: it says virtual, and nothing of where.
	if b.Endorse {
		if e.Endorser == nil {
			return out, errors.New("this service issues no endorsement certificates")
		}
		cert, err := e.Endorser.Endorse(ctx, b.Tenant, out.VM.ID, b.EKPublic)
		if err != nil {
			return out, err
		}
		out.Certificate, out.VM.EKSerial = cert, ca.SerialText(cert)
	}

	// 4. The secrets: what state keys derive from, and the server's share of each disk key.
	state := secret.Random(32)
	defer state.Erase()
	out.VM.StateSecret = e.Ring.Wrap(b.Tenant, out.VM.ID, stateSecretLabel(b.EKPublic), state)
	var disks []Disk
	for _, name := range b.Disks {
		share := secret.Random(derive.ShareSize)
		disks = append(disks, Disk{Tenant: b.Tenant, VM: b.Name, Name: name, Created: now,
			Share: e.Ring.Wrap(b.Tenant, out.VM.ID, diskShareLabel(name), share)})
		share.Erase()
	}

	// 5. All of it in one transaction.
	return out, e.Records.Birth(ctx, out.VM, disks, b.Once)
}

// docs/formats/keyring.md lists these.
//
// The state secret is bound to the endorsement key: whoever can write to the
// store cannot put the key of another vTPM into a VM's record.
func stateSecretLabel(ekPublic []byte) string {
	sum := sha256.Sum256(ekPublic)
	return "state secret of " + hex.EncodeToString(sum[:])
}

// checkRecord makes sure that a VM's endorsement key is the one of its birth.
func (e *Enroller) checkRecord(vm VM) error {
	s, err := e.Ring.Unwrap(vm.Tenant, vm.ID, stateSecretLabel(vm.EKPublic), vm.StateSecret)
	s.Erase()
	if err != nil {
		return Refusal{"RECORD_CHANGED", "the record of " + vm.Name + " is not as the service wrote it: its endorsement key is another one than at birth"}
	}
	return nil
}

// notOwn refuses a VM that this service itself runs in.
func (e *Enroller) notOwn(vm string, ekPublic []byte) error {
	if e.IsOwn == nil {
		return nil
	}
	own, err := e.IsOwn(ekPublic)
	if err != nil {
		return fmt.Errorf("asking this machine's TPM who it is: %w", err)
	}
	if own {
		return SelfDependency(vm)
	}
	return nil
}

// SelfDependency is why a control plane does nothing for the VM that it runs in.
func SelfDependency(vm string) Refusal {
	return Refusal{"SELF_DEPENDENCY", "this service runs inside " + vm + ", whose TPM is this machine's: it would depend on a VM that it admits"}
}

func diskShareLabel(disk string) string { return "disk share " + disk }

func (b Birth) check() error {
	if err := b.checkWords(); err != nil {
		return err
	}
	return checkEK(b.EKPublic)
}

func (b Birth) checkWords() error {
	words := append([]string{b.Tenant, b.Name, b.Host}, b.Disks...)
	for _, w := range words {
		if err := ca.CheckWord(w); err != nil {
			return Coded(NameInvalid, err)
		}
	}
	if len(b.Disks) > maxDisks {
		return Refusal{RequestInvalid, fmt.Sprintf("%d disks, more than %d", len(b.Disks), maxDisks)}
	}
	for i, d := range b.Disks {
		for _, other := range b.Disks[:i] {
			if d == other {
				return Refusal{RequestInvalid, "two disks are called " + d}
			}
		}
	}
	return nil
}

func checkEK(spki []byte) error {
	if len(spki) > 2048 {
		return Refusal{KeyUnfit, fmt.Sprintf("an endorsement key of %d bytes", len(spki))}
	}
	pub, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return Coded(KeyUnfit, fmt.Errorf("reading the endorsement key: %w", err))
	}
	return Coded(KeyUnfit, ca.RSAOrECC(pub))
}

// Revoke ends all trust in a VM: no lease, no certificate, no share of a disk
// key from now on. Its certificates are revoked by the caller with the subject
// that is returned. A second time changes nothing.
func (e *Enroller) Revoke(ctx context.Context, tenant, name, reason, actor string) (subject string, receipt audit.Receipt, err error) {
	fail := func(err error) (string, audit.Receipt, error) {
		return "", audit.Receipt{}, fmt.Errorf("revoking %s: %w", name, err)
	}
	if len(reason) > 500 {
		return fail(Refusal{RequestInvalid, "the reason is longer than 500 letters"})
	}
	intent, err := e.Log.Begin(ctx, audit.Event{Tenant: tenant, Actor: actor, Action: "vm.revoked", Object: name, Detail: map[string]string{"reason": reason}})
	if err != nil {
		return fail(err)
	}
	err = e.Records.UpdateVM(ctx, tenant, name, func(s *Standing) error {
		if s.VM.State != StateRevoked {
			s.VM.State, s.VM.Revoked, s.VM.Reason = StateRevoked, e.Clock.Wall(), reason
		}
		s.Lease = nil
		return nil
	})
	if err != nil {
		intent.Failed(ctx, err)
		return fail(err)
	}
	receipt, err = intent.Done(ctx, nil)
	if err != nil {
		return fail(err)
	}
	return e.subject(tenant, name).String(), receipt, nil
}

func (e *Enroller) subject(tenant, name string) ca.Name {
	return ca.Name{TrustDomain: e.TrustDomain, Tenant: tenant, Kind: ca.KindVM, Name: name}
}

// refuse records that something was asked for and denied. That the record
// could not be written makes no yes of a no.
func (e *Enroller) refuse(ctx context.Context, tenant, actor, action, object string, why error) error {
	detail := map[string]string{"why": why.Error()}
	var r Refusal
	if errors.As(why, &r) {
		detail["code"] = r.Code
	}
	_, err := e.Log.Append(context.WithoutCancel(ctx), audit.Event{Tenant: tenant, Actor: actor, Action: action, Object: object, Phase: audit.Refused, Detail: detail})
	return errors.Join(why, err)
}

// CheckSecrets opens what is kept of a VM and complains about what does not open.
func CheckSecrets(ring *keyring.Ring, vm VM, disks []Disk) []error {
	var bad []error
	check := func(what string, wrapped []byte) {
		s, err := ring.Unwrap(vm.Tenant, vm.ID, what, wrapped)
		if err != nil {
			bad = append(bad, fmt.Errorf("opening the %s: %w", what, err))
		}
		s.Erase()
	}
	check(stateSecretLabel(vm.EKPublic), vm.StateSecret)
	for _, d := range disks {
		check(diskShareLabel(d.Name), d.Share)
	}
	return bad
}

// RewrapSecrets wraps what is kept of a VM anew under the ring's root key. It
// says whether anything was under an older one.
func RewrapSecrets(ring *keyring.Ring, vm VM, disks []Disk) (VM, []Disk, bool, error) {
	any := false
	again := func(what string, wrapped []byte) ([]byte, error) {
		out, changed, err := ring.Rewrap(vm.Tenant, vm.ID, what, wrapped)
		any = any || changed
		if err != nil {
			err = fmt.Errorf("wrapping the %s of %s anew: %w", what, vm.Name, err)
		}
		return out, err
	}
	var err error
	if vm.StateSecret, err = again(stateSecretLabel(vm.EKPublic), vm.StateSecret); err != nil {
		return vm, nil, false, err
	}
	out := make([]Disk, len(disks))
	for i, d := range disks {
		if d.Share, err = again(diskShareLabel(d.Name), d.Share); err != nil {
			return vm, nil, false, err
		}
		out[i] = d
	}
	return vm, out, any, nil
}
