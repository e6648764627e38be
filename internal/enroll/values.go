package enroll

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/hosting"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
)

// State is how far a VM has come in its life.
type State string

const (
	StateBorn     State = "born"     // it has a vTPM and a disk key, and proved nothing yet
	StateAdmitted State = "admitted" // it proved itself at least once
	StateRevoked  State = "revoked"  // for good: it gets no key, no certificate, no lease
)

// Tier is how much is known about the host that runs a vTPM.
type Tier string

const (
	TierUnattested   Tier = "unattested"   // we took its word
	TierTPM          Tier = "tpm-attested" // its own TPM vouched for what it booted
	TierConfidential Tier = "confidential" // reserved: hardware keeps the host out
)

// VM is what the service remembers of a VM.
type VM struct {
	Tenant string
	Name   string
	ID     keyring.ID // opaque; stands in the endorsement certificate
	Host   string
	State  State
	// EKPublic is the endorsement key recorded at birth, as a SubjectPublicKeyInfo.
	// A chain to our CA is not enough: the key must be this one.
	EKPublic []byte
	EKSerial string // of its certificate
	// StateSecret is what the state keys of all generations derive from, wrapped.
	StateSecret []byte
	// Generation is the newest generation of the vTPM's state that a host
	// confirmed; an older file is a roll-back. Pending is one that was handed
	// out and not yet confirmed, or 0.
	Generation, Pending int64
	// Resets are the TPM Resets that the vTPM ever had, as its host counted them.
	Resets int64
	// Writes is how often the vTPM's state was written, as its host said last. Of
	// the same generation, a file that was written less often is a roll-back.
	Writes  int64
	Created time.Time
	Revoked time.Time
	Reason  string
}

// Disk is the server's part of a disk key.
type Disk struct {
	Tenant, VM, Name string
	Share            []byte // the server share, wrapped
	// VolumeKeyDigest is recorded when the disk is formatted; the agent compares
	// it before anything on the disk runs. Empty: not formatted yet.
	VolumeKeyDigest []byte
	Created         time.Time
}

// Host is a hypervisor that may carry vTPMs. What it is worth at a moment is
// not on record: [Enroller.Tier].
type Host struct {
	Tenant, Name string
	ID           keyring.ID
	// AcceptedUnattested: an operator said that keys may go there all the same.
	AcceptedUnattested bool
	EK                 []byte // of the host's TPM, as a SubjectPublicKeyInfo; empty when it has none
	EKBond             []byte // a wrapped secret that opens only beside this EK; see [CheckHost]
	Created            time.Time
	Revoked            time.Time // zero: it was not
	Reason             string
}

// HostGone is what went with the trust in a host.
type HostGone struct {
	VMs          []string // that belong on it, and get nothing more there
	Certificates int      // of it and of them, revoked
}

// Lease is leave to run a vTPM: one host, one generation, for a while.
type Lease struct {
	Tenant, VM string
	ID         keyring.ID
	Host       string
	Generation int64
	Issued     time.Time
	Expires    time.Time
}

// Standing is a VM with its lease, as they stand together.
type Standing struct {
	VM    VM
	Lease *Lease // nil: nobody has one
}

// Once makes a repeated request do its work once.
type Once struct {
	Key    string // the caller's; empty: none
	Digest []byte // of the request: the same key with another request is refused
}

// Records is what the service remembers of VMs and hosts. Each call is one
// transaction and durable when it returns.
type Records interface {
	// Birth also ends the order for this VM, if there is one.
	Birth(ctx context.Context, vm VM, disks []Disk, once Once) error
	VM(ctx context.Context, tenant, name string) (VM, error)
	Standing(ctx context.Context, tenant, name string) (Standing, error)
	// UpdateVM runs change on what stands and writes what it leaves, all in one
	// transaction. When change returns an error, nothing is written.
	UpdateVM(ctx context.Context, tenant, name string, change func(*Standing) error) error
	// Written raises [VM.Writes], never lowers it, of those whose lease is the one
	// that is named and the host's; others are left out.
	Written(ctx context.Context, tenant, host string, states []hosting.Written) error
	// Revoke revokes a certificate that nobody is to have.
	Revoke(ctx context.Context, tenant, serial string, reason ca.Reason) error
}

// Disks are the disk keys' server shares.
type Disks interface {
	Disk(ctx context.Context, tenant, vm, name string) (Disk, error)
	RecordVolumeKey(ctx context.Context, tenant, vm, name string, digest []byte) error
}

// Hosts are the hypervisors.
type Hosts interface {
	Host(ctx context.Context, tenant, name string) (Host, error)
	// SaveHost writes a host, new or changed, unless it was revoked.
	SaveHost(ctx context.Context, h Host) error
	// RevokeHost also revokes what certificates the host and the VMs on it have;
	// subject is how they name one of a kind.
	RevokeHost(ctx context.Context, tenant, name, reason string, subject func(kind, name string) string) (HostGone, error)
	// ReinstateHost leaves of a revoked host its name.
	ReinstateHost(ctx context.Context, tenant, name string) (Host, error)
	// VMsOn are the VMs that belong on a host, in the order of their names.
	VMsOn(ctx context.Context, tenant, host string) ([]VM, error)
}

// Order is a VM that somebody asked for and whose vTPM its host has yet to make.
type Order struct {
	Tenant, VM, Host string
	Endorse          bool
	Disks            []string
	Actor            string // who asked
	Created          time.Time
}

// Orders wait for their hosts.
type Orders interface {
	SaveOrder(ctx context.Context, o Order, once Once) error
	Order(ctx context.Context, tenant, vm string) (Order, error)
}

// Repeats knows what an idempotency key already did.
type Repeats interface {
	// Repeated returns the name of what once made, or "".
	Repeated(ctx context.Context, tenant string, once Once) (string, error)
}

// Issuer signs certificates in two recorded steps.
type Issuer interface {
	Issue(ctx context.Context, p ca.Profile, req ca.Request) (*x509.Certificate, error)
	// Chain returns what goes with a certificate of a purpose.
	Chain(p ca.Purpose) ([]*x509.Certificate, error)
}

// Log records intents and outcomes.
type Log interface {
	Begin(ctx context.Context, e audit.Event) (*audit.Pending, error)
	Append(ctx context.Context, e audit.Event) (audit.Receipt, error)
}

var (
	// ErrNotFound, ErrExists: what a store says, in words that faces know.
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("it exists already")
	// ErrOtherRequest means that an idempotency key came back with another request.
	ErrOtherRequest = errors.New("the idempotency key belongs to another request")
)

// Refusal is a no with its reason: a code that scripts can match, and words.
type Refusal struct {
	Code string // UPPER_SNAKE, as in docs/findings
	Why  string
}

func (r Refusal) Error() string { return r.Why + " (" + r.Code + ")" }

// Codes of requests that cannot be, whoever asks and whatever stands.
const (
	NameInvalid    = "NAME_INVALID"
	KeyUnfit       = "KEY_UNFIT"
	RequestInvalid = "REQUEST_INVALID"
)

// Coded is err as a refusal with a code; nil stays nil.
func Coded(code string, err error) error {
	if err == nil {
		return nil
	}
	return Refusal{code, err.Error()}
}
