// Package modkeys keeps the keys that a tenant's kernel modules are signed with:
// a CA for modules alone, whose certificate is enrolled once on every machine, and
// under it one signing key (the leaf) that is replaced every half year. The
// private keys are in the keyring, wrapped under the root key; they leave it in
// no form. Every use is in the audit log before it happens.
//
// This hierarchy does not hang from the service's root: a machine's firmware
// knows nothing above the certificate that its owner enrolled, and what kernels
// verify is mostly RSA.
//
// Begin with [Keys.Init] and [Keys.Sign].
package modkeys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/modsig"
)

// Role is what a certificate is for.
type Role string

const (
	CA   Role = "ca"
	Leaf Role = "leaf"
)

// Certificate is one as it is stored, with the version of the key that it is for.
type Certificate struct {
	Tenant  string
	Role    Role
	DER     []byte
	Key     keyring.ID
	Version uint32
}

// Records is where certificates and keys are; internal/store has it.
type Records interface {
	// ModuleCertificates are all of a tenant, the newest first.
	ModuleCertificates(ctx context.Context, tenant string) ([]Certificate, error)
	// SaveModuleKeys writes certificates and the keys as they are now, in one step.
	SaveModuleKeys(ctx context.Context, cs []Certificate, ks []keyring.Key) error
	KeyByID(ctx context.Context, tenant string, id keyring.ID) (keyring.Key, error)
}

// Keys are the module keys of a service. All fields are needed.
type Keys struct {
	Records Records
	Ring    *keyring.Ring
	Log     *audit.Log
	Now     func() time.Time
}

// State is what a tenant has.
type State struct {
	CA, Leaf *x509.Certificate
	Retired  []*x509.Certificate // former leaves, the newest first

	ca, leaf Certificate
}

// Kinds of keys. Linux 6.1 as Debian builds it has no ECDSA.
var Kinds = []string{"rsa-2048", "rsa-3072", "rsa-4096", "p384"}

// Show says what a tenant has; a Refusal when it has nothing.
func (k *Keys) Show(ctx context.Context, tenant string) (State, error) {
	var s State
	stored, err := k.Records.ModuleCertificates(ctx, tenant)
	if err != nil {
		return s, err
	}
	for _, c := range stored {
		cert, err := x509.ParseCertificate(c.DER)
		if err != nil {
			return s, fmt.Errorf("reading a certificate for modules: %w", err)
		}
		switch {
		case c.Role == CA && s.CA == nil:
			s.CA, s.ca = cert, c
		case c.Role == Leaf && s.Leaf == nil:
			s.Leaf, s.leaf = cert, c
		case c.Role == Leaf:
			s.Retired = append(s.Retired, cert)
		}
	}
	if s.CA == nil || s.Leaf == nil {
		return s, enroll.Refusal{Code: "MODULE_KEYS_MISSING", Why: "there are no keys for modules yet"}
	}
	return s, nil
}

// Init makes the CA, called name, and its first leaf, of a kind.
func (k *Keys) Init(ctx context.Context, tenant, actor, name, kind string) (State, error) {
	fail := func(err error) (State, error) { return State{}, fmt.Errorf("making keys for modules: %w", err) }
	var refusal enroll.Refusal
	if _, err := k.Show(ctx, tenant); err == nil {
		return fail(enroll.Refusal{Code: "MODULE_KEYS_EXIST", Why: "there is a CA for modules already; a new one would have to be enrolled on every machine"})
	} else if !errors.As(err, &refusal) {
		return fail(err)
	}
	if name == "" || len(name) > 64 {
		return fail(enroll.Refusal{Code: enroll.RequestInvalid, Why: "the CA's name has 1 to 64 characters"})
	}
	now := k.Now()
	caKey, caSecret, err := newKey(kind)
	if err != nil {
		return fail(err)
	}
	ca, err := modsig.NewCA(name+" module CA", caKey, now)
	if err != nil {
		return fail(err)
	}
	leaf, leafSecret, err := newLeaf(ca, caKey, kind, now)
	if err != nil {
		return fail(err)
	}
	caRecord, err := k.Ring.Adopt(tenant, "module/ca", keyring.Module, keyring.Policy{}, caSecret, now)
	if err != nil {
		return fail(err)
	}
	leafRecord, err := k.Ring.Adopt(tenant, "module/leaf", keyring.Module, keyring.Policy{}, leafSecret, now)
	if err != nil {
		return fail(err)
	}
	intent, err := k.Log.Begin(ctx, audit.Event{Tenant: tenant, Actor: actor, Action: "module-ca.created", Object: serial(ca),
		Detail: map[string]string{"name": ca.Subject.String(), "leaf": serial(leaf)}})
	if err != nil {
		return fail(err)
	}
	err = k.Records.SaveModuleKeys(ctx, []Certificate{{tenant, CA, ca.Raw, caRecord.ID, caRecord.Primary}, {tenant, Leaf, leaf.Raw, leafRecord.ID, leafRecord.Primary}},
		[]keyring.Key{caRecord, leafRecord})
	if err != nil {
		intent.Failed(ctx, err)
		return fail(err)
	}
	if _, err := intent.Done(ctx, nil); err != nil {
		return fail(err)
	}
	return k.Show(ctx, tenant)
}

// Rotate makes the next leaf, of a kind or, with "", as the one before; with
// ifDue only when less than a third of its time is left. The former private key is destroyed.
func (k *Keys) Rotate(ctx context.Context, tenant, actor, kind string, ifDue bool) (s State, rotated bool, err error) {
	fail := func(err error) (State, bool, error) {
		return State{}, false, fmt.Errorf("rotating the signing key for modules: %w", err)
	}
	if s, err = k.Show(ctx, tenant); err != nil {
		return fail(err)
	}
	now := k.Now()
	if ifDue && now.Before(s.Leaf.NotAfter.Add(-modsig.LeafLifetime/3)) {
		return s, false, nil
	}
	if kind == "" {
		kind = kindOf(s.Leaf.PublicKey)
	}
	caKey, err := k.signer(ctx, s.ca)
	if err != nil {
		return fail(err)
	}
	leaf, leafSecret, err := newLeaf(s.CA, caKey, kind, now)
	if err != nil {
		return fail(err)
	}
	record, err := k.Records.KeyByID(ctx, tenant, s.leaf.Key)
	if err != nil {
		return fail(err)
	}
	if record, err = k.Ring.Supersede(record, leafSecret, now); err != nil {
		return fail(err)
	}
	intent, err := k.Log.Begin(ctx, audit.Event{Tenant: tenant, Actor: actor, Action: "module-key.rotated", Object: serial(leaf),
		Detail: map[string]string{"ca": serial(s.CA), "instead-of": serial(s.Leaf)}})
	if err != nil {
		return fail(err)
	}
	if err := k.Records.SaveModuleKeys(ctx, []Certificate{{tenant, Leaf, leaf.Raw, record.ID, record.Primary}}, []keyring.Key{record}); err != nil {
		intent.Failed(ctx, err)
		return fail(err)
	}
	if _, err := intent.Done(ctx, nil); err != nil {
		return fail(err)
	}
	s, err = k.Show(ctx, tenant)
	return s, true, err
}

// Use is one signature.
type Use struct {
	File   string // as the caller calls it, for the record
	Serial string // of the certificate that will be named as the signer
	Hash   crypto.Hash
	Digest []byte // of the module
}

// maxFile bounds a file's name in the record.
const maxFile = 4096

func (u Use) check() error {
	name := modsig.HashName(u.Hash)
	if u.Hash != crypto.SHA256 && u.Hash != crypto.SHA384 && u.Hash != crypto.SHA512 || len(u.Digest) != u.Hash.Size() {
		return enroll.Refusal{Code: enroll.RequestInvalid, Why: fmt.Sprintf("a digest of %d bytes and hash %q: want sha256, sha384 or sha512", len(u.Digest), name)}
	}
	if u.File == "" || len(u.File) > maxFile || u.Serial == "" || len(u.Serial) > 64 {
		return enroll.Refusal{Code: enroll.RequestInvalid, Why: "file and serial number must be named"}
	}
	return nil
}

// event is the record of u. What is signed is a digest; nobody here saw the module.
func (u Use) event(tenant, actor string) audit.Event {
	return audit.Event{Tenant: tenant, Actor: actor, Action: "module.signed", Object: u.Serial,
		Detail: map[string]string{"file": u.File, "hash": modsig.HashName(u.Hash), "digest": fmt.Sprintf("%x", u.Digest)}}
}

// Sign signs a digest with the leaf, after it is on record.
func (k *Keys) Sign(ctx context.Context, tenant, actor string, u Use) ([]byte, error) {
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("signing %s: %w", u.File, err) }
	if err := u.check(); err != nil {
		return fail(err)
	}
	s, err := k.Show(ctx, tenant)
	if err != nil {
		return fail(err)
	}
	if serial(s.Leaf) != u.Serial {
		return fail(enroll.Refusal{Code: "MODULE_KEY_ROTATED", Why: "the signing key is another one than " + u.Serial + " by now"})
	}
	key, err := k.signer(ctx, s.leaf)
	if err != nil {
		return fail(err)
	}
	intent, err := k.Log.Begin(ctx, u.event(tenant, actor))
	if err != nil {
		return fail(err)
	}
	sig, err := key.Sign(rand.Reader, u.Digest, u.Hash)
	if err != nil {
		intent.Failed(ctx, err)
		return fail(err)
	}
	if _, err := intent.Done(ctx, nil); err != nil {
		return fail(err)
	}
	return sig, nil
}

// Record is for keys that are not here, in a file, a token or a TPM: it writes
// down that one is about to be used.
func (k *Keys) Record(ctx context.Context, tenant, actor string, u Use) error {
	if err := u.check(); err != nil {
		return fmt.Errorf("recording the signature of %s: %w", u.File, err)
	}
	if _, err := k.Log.Begin(ctx, u.event(tenant, actor)); err != nil {
		return fmt.Errorf("recording the signature of %s: %w", u.File, err)
	}
	return nil
}

func (k *Keys) signer(ctx context.Context, c Certificate) (crypto.Signer, error) {
	record, err := k.Records.KeyByID(ctx, c.Tenant, c.Key)
	if err != nil {
		return nil, err
	}
	opened, err := k.Ring.Open(record)
	if err != nil {
		return nil, err
	}
	return opened.Signer(c.Version)
}

func newLeaf(ca *x509.Certificate, caKey crypto.Signer, kind string, now time.Time) (*x509.Certificate, secret.Bytes, error) {
	key, private, err := newKey(kind)
	if err != nil {
		return nil, private, err
	}
	leaf, err := modsig.NewLeaf("module signing key "+now.UTC().Format(time.DateOnly), key.Public(), ca, caKey, now)
	return leaf, private, err
}

func newKey(kind string) (key crypto.Signer, private secret.Bytes, err error) {
	switch kind {
	case "rsa-2048":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "rsa-3072":
		key, err = rsa.GenerateKey(rand.Reader, 3072)
	case "rsa-4096":
		key, err = rsa.GenerateKey(rand.Reader, 4096)
	case "p384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	default:
		return nil, private, enroll.Refusal{Code: enroll.RequestInvalid, Why: fmt.Sprintf("kind %.20q is none of rsa-2048, rsa-3072, rsa-4096, p384", kind)}
	}
	if err != nil {
		return nil, private, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return key, secret.New(der), err
}

func kindOf(public crypto.PublicKey) string {
	if r, ok := public.(*rsa.PublicKey); ok {
		return fmt.Sprintf("rsa-%d", r.N.BitLen())
	}
	return "p384"
}

func serial(c *x509.Certificate) string { return fmt.Sprintf("%x", c.SerialNumber) }
