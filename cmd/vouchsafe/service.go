package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
	"github.com/vouchsafe/vouchsafe/internal/modkeys"
	"github.com/vouchsafe/vouchsafe/internal/store"
	"github.com/vouchsafe/vouchsafe/internal/verifier"
	"github.com/vouchsafe/vouchsafe/internal/vtpm"
)

// service is a control plane, opened: all rooms, wired by hand.
type service struct {
	dir    string
	file   serviceFile
	unlock func() error // of the root key
	root   *x509.Certificate
	ring   *keyring.Ring
	store  *store.Store
	audit  *audit.Log
	office *ca.Office
	enroll *enroll.Enroller
	// verifier judges evidence.
	verifier *verifier.Verifier
	now      func() time.Time
	// residence signs residence statements.
	residence *renewed
}

// serviceOptions are what a run of the service can choose.
type serviceOptions struct {
	localHost      string // the host this control plane runs on, if it carries vTPMs itself
	acceptLocal    bool   // it may have keys although it proved nothing
	ownTPM         string // this machine's TPM; empty: where Linux has it, none: do not look
	pushCheckpoint string // a file that gets audit checkpoints, best on another machine
	log            *slog.Logger
}

// openService opens the service in dir.
func openService(ctx context.Context, dir string, o serviceOptions) (*service, error) {
	file, err := readService(dir)
	if err != nil {
		return nil, err
	}
	s := &service{dir: dir, file: file, now: time.Now}
	if o.log == nil {
		o.log = slog.New(slog.DiscardHandler)
	}
	if err := s.open(ctx, o); err != nil {
		s.close()
		var p *fs.PathError
		if errors.As(err, &p) && errors.Is(err, fs.ErrNotExist) && filepath.Dir(p.Path) == filepath.Clean(dir) { // a file of ours has gone
			err = withHint(err, "vouchsafe check --state %s", dir)
		}
		return nil, fmt.Errorf("opening the service in %s: %w", dir, err)
	}
	return s, nil
}

func (s *service) open(ctx context.Context, o serviceOptions) error {
	if err := s.openRoot(ctx); err != nil {
		return err
	}
	roots, err := openRootKeys(ctx, s.dir)
	if err != nil {
		return err
	}
	s.ring = roots.ring()
	if s.root, err = parseCertificate([]byte(s.file.RootCA)); err != nil {
		return fmt.Errorf("reading the root certificate: %w", err)
	}
	if s.store, err = openStore(ctx, s.dir, s.now); err != nil {
		return err
	}
	signer, err := openAuditSigner(s.dir, s.file, roots)
	if err != nil {
		return err
	}
	options := audit.Options{Now: s.now}
	var anchor enroll.Anchor
	if o.pushCheckpoint != "" {
		p := &pushed{path: o.pushCheckpoint, verifier: s.file.AuditKey, log: o.log}
		if err := p.notSetBack(s.dir); err != nil {
			return err
		}
		options.OnCheckpoint, anchor = p.push, enroll.Anchor{File: p.path, Apart: p.apart(s.dir)}
	}
	if s.audit, err = audit.Open(filepath.Join(s.dir, dirAudit), signer, options); err != nil {
		return auditHint(err, s.dir)
	}
	if s.office, err = openOffice(ctx, s.root, s.store, s.ring, s.now); err != nil {
		return err
	}
	s.residence = &renewed{office: s.office, profile: ca.ResidenceProfile, curve: elliptic.P384(), now: s.now,
		name: ca.Name{TrustDomain: s.file.TrustDomain, Tenant: "service", Kind: ca.KindService, Name: "residence"}}
	results := &renewed{office: s.office, profile: ca.ResidenceProfile, curve: elliptic.P384(), now: s.now,
		name: ca.Name{TrustDomain: s.file.TrustDomain, Tenant: "service", Kind: ca.KindService, Name: verifier.SignerName}}
	s.verifier = verifier.New(verifier.Config{Records: s.store, Keys: &verifier.PolicyKeys{Store: s.store, Ring: s.ring, Now: s.now}, Now: s.now, Build: version,
		Issuer: s.file.TrustDomain, Results: results.signer})
	own, err := openOwnTPM(o.ownTPM)
	if err != nil {
		return err
	}
	var isOwn func([]byte) (bool, error)
	if own != nil {
		isOwn = own.Has
		if err := s.refuseOwnVM(ctx, own); err != nil {
			return err
		}
	}
	s.enroll = enroll.New(enroll.Config{
		IsOwn:       isOwn,
		TrustDomain: s.file.TrustDomain, Records: s.store, Disks: s.store, Hosts: s.store, Repeats: s.store, Orders: s.store, Leaves: s.store,
		Issuer: s.office, Log: s.audit, Ring: s.ring, LocalHost: o.localHost, Anchor: anchor,
		Residence: s.residence.signer, Endorser: endorser{s.office}, Appraiser: s.verifier, HostAppraiser: s.verifier,
	})
	return nil
}

// openStore opens the store of a service that was made. One that has gone is not
// begun anew: the empty one would hide what was lost.
func openStore(ctx context.Context, dir string, now func() time.Time) (*store.Store, error) {
	path := filepath.Join(dir, fileStore)
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	st, err := store.Open(ctx, path, now)
	return st, withHint(err, "vouchsafe check --state %s", dir)
}

// auditHint says what to do about an audit log that does not open.
func auditHint(err error, dir string) error {
	if errors.Is(err, audit.ErrHeld) {
		return withHint(err, "a service runs on this state directory: use or stop that one (fuser -v %s), or give another: --state DIR", filepath.Join(dir, dirAudit, "lock"))
	}
	return withHint(err, "vouchsafe audit verify --state %s", dir)
}

// openRoot finishes a rotation of the root key that was cut off, and keeps the
// next one away.
func (s *service) openRoot(ctx context.Context) error {
	if unfinishedRoot(s.dir) {
		unlock, err := lockRoot(s.dir, false)
		if err != nil {
			return err
		}
		_, err = finishRoot(ctx, s.dir)
		if err = errors.Join(err, unlock()); err != nil {
			return fmt.Errorf("finishing the rotation of the root key: %w", err)
		}
	}
	var err error
	s.unlock, err = lockRoot(s.dir, true)
	return err
}

// endorser issues the endorsement certificates of vTPMs that our engine runs.
type endorser struct{ office *ca.Office }

// Endorse implements enroll.Endorser. The subject is the VM's opaque id: no
// name, and nothing about its host.
func (e endorser) Endorse(ctx context.Context, tenant string, id keyring.ID, ekPublic []byte) (*x509.Certificate, error) {
	pub, err := x509.ParsePKIXPublicKey(ekPublic)
	if err != nil {
		return nil, err
	}
	extensions, err := ca.EKExtensions(ca.TPM(vtpm.Identity()), false)
	if err != nil {
		return nil, err
	}
	return e.office.Issue(ctx, ca.EKProfile, ca.Request{Tenant: tenant, PublicKey: pub, Subject: pkix.Name{CommonName: id.String()}, Extensions: extensions})
}

func (s *service) close() error {
	var errs []error
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.audit != nil { // after the store: what that did is on record
		errs = append(errs, s.audit.Close())
	}
	if s.unlock != nil {
		errs = append(errs, s.unlock())
	}
	return errors.Join(errs...)
}

// openOffice opens every authority of the store; the newest of a purpose signs,
// and what those before it issued is believed until it ends.
func openOffice(ctx context.Context, root *x509.Certificate, st *store.Store, ring *keyring.Ring, now func() time.Time) (*ca.Office, error) {
	stored, err := st.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	var as []*ca.Authority
	for _, a := range stored { // the newest of a purpose first
		k, err := st.KeyByID(ctx, "", a.Key)
		if err != nil {
			return nil, fmt.Errorf("the %s authority's key: %w", a.Purpose, err)
		}
		opened, err := ring.Open(k)
		if err != nil {
			return nil, fmt.Errorf("the %s authority's key: %w", a.Purpose, err)
		}
		signer, err := opened.Signer(a.KeyVersion)
		if err != nil {
			return nil, err
		}
		authority, err := ca.NewAuthority(a.Purpose, a.DER, signer)
		if err != nil {
			return nil, err
		}
		as = append(as, authority)
	}
	return ca.NewOffice(root, st, now, as...)
}

func auditOrigin(f serviceFile) string { return f.TrustDomain + "/audit/" + f.ID }

// handler is the API of this service.
func (s *service) handler() api.Backend {
	return api.Backend{ServiceID: s.file.ID, TrustDomain: s.file.TrustDomain, Version: version, Enroll: s.enroll, Verifier: s.verifier,
		Store: s.store, Office: s.office, Audit: s.audit, ModKeys: s.modKeys(), AuditKey: s.file.AuditKey, Now: s.now,
		RootKey: func() (tiers []string, since time.Time, err error) {
			sealed, err := readSealed(filepath.Join(s.dir, fileSealed))
			for _, w := range sealed.Wraps {
				tiers = append(tiers, w.Tier)
			}
			return tiers, sealed.Created, err
		}}
}

// modKeys are the keys for kernel modules.
func (s *service) modKeys() *modkeys.Keys {
	return &modkeys.Keys{Records: s.store, Ring: s.ring, Log: s.audit, Now: s.now}
}

// renewed is a certificate of the service's own whose key lives in memory only.
// It is issued when first asked for, and anew when a third of its life is left.
type renewed struct {
	office  *ca.Office
	profile ca.Profile
	curve   elliptic.Curve
	tenant  string // "": the service itself
	name    ca.Name
	dns     []string
	ips     []net.IP
	now     func() time.Time

	mu   sync.Mutex
	cert *tls.Certificate
}

func (r *renewed) get(ctx context.Context) (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if r.cert != nil {
		leaf := r.cert.Leaf
		left, life := leaf.NotAfter.Sub(now), leaf.NotAfter.Sub(leaf.NotBefore)
		if left > life/3 && !now.Before(leaf.NotBefore) {
			return r.cert, nil
		}
	}
	key, err := ecdsa.GenerateKey(r.curve, rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := r.office.Issue(ctx, r.profile, ca.Request{Tenant: r.tenant, PublicKey: key.Public(), Name: &r.name, DNSNames: r.dns, IPs: r.ips})
	if err != nil {
		if r.cert != nil && now.Before(r.cert.Leaf.NotAfter) {
			return r.cert, nil // the old one is still good: a full disk must not end TLS
		}
		return nil, err
	}
	chain, err := r.office.Chain(r.profile.Purpose)
	if err != nil {
		return nil, err
	}
	r.cert = &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
	for _, c := range chain {
		r.cert.Certificate = append(r.cert.Certificate, c.Raw)
	}
	return r.cert, nil
}

func (r *renewed) signer(ctx context.Context) (enroll.Signer, error) {
	c, err := r.get(ctx)
	if err != nil {
		return enroll.Signer{}, err
	}
	chain, err := r.office.Chain(r.profile.Purpose)
	if err != nil {
		return enroll.Signer{}, err
	}
	return enroll.Signer{Key: c.PrivateKey.(crypto.Signer), Chain: append([]*x509.Certificate{c.Leaf}, chain...)}, nil
}

func parseCertificate(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("there is no certificate in it")
	}
	return x509.ParseCertificate(block.Bytes)
}
