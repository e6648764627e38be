package ca

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// Registry keeps what was intended and what was issued.
type Registry interface {
	Recorder
	// RecordIssued keeps a signed certificate whose intent is on record.
	RecordIssued(ctx context.Context, cert *x509.Certificate) error
}

// Office is all authorities of a service, and the registry they write to. It
// is safe for concurrent use.
type Office struct {
	Root        *x509.Certificate
	authorities map[Purpose][]*Authority // the one that signs first, then those before it
	registry    Registry
	now         func() time.Time
}

// NewOffice joins authorities; each must chain to root. The first of a purpose
// signs. Those before it sign no certificates any more, only lists of what they
// had issued and was revoked.
func NewOffice(root *x509.Certificate, registry Registry, now func() time.Time, authorities ...*Authority) (*Office, error) {
	o := &Office{Root: root, authorities: map[Purpose][]*Authority{}, registry: registry, now: now}
	for _, a := range authorities {
		if err := a.Certificate.CheckSignatureFrom(root); err != nil {
			return nil, fmt.Errorf("opening the %s authority: %w", a.Purpose, err)
		}
		o.authorities[a.Purpose] = append(o.authorities[a.Purpose], a)
	}
	return o, nil
}

// Authority returns the one that signs for a purpose.
func (o *Office) Authority(p Purpose) (*Authority, error) {
	if as := o.authorities[p]; len(as) > 0 {
		return as[0], nil
	}
	return nil, fmt.Errorf("this service has no %s authority", p)
}

// Authorities are all of a purpose, the one that signs first.
func (o *Office) Authorities(p Purpose) []*Authority { return slices.Clone(o.authorities[p]) }

// Speaks says whether intermediate is, or was, this service's for a purpose.
func (o *Office) Speaks(p Purpose, intermediate *x509.Certificate) bool {
	return slices.ContainsFunc(o.authorities[p], func(a *Authority) bool { return a.Certificate.Equal(intermediate) })
}

// Issue goes through all steps: prepare, record the intent, sign, record the
// certificate. When the last one fails the certificate is not given out; the
// record then shows an intent without a certificate.
func (o *Office) Issue(ctx context.Context, p Profile, req Request) (*x509.Certificate, error) {
	a, err := o.Authority(p.Purpose)
	if err != nil {
		return nil, err
	}
	prepared, err := a.Prepare(p, req, o.now())
	if err != nil {
		return nil, err
	}
	recorded, err := prepared.Record(ctx, o.registry)
	if err != nil {
		return nil, err
	}
	cert, err := recorded.Sign()
	if err != nil {
		return nil, err
	}
	if err := o.registry.RecordIssued(ctx, cert); err != nil {
		return nil, fmt.Errorf("recording certificate %s: %w", SerialText(cert), err)
	}
	return cert, nil
}

// Chain returns what goes with a certificate of a purpose: its intermediate.
// The root is left out: whoever verifies has it, or has no reason to believe it.
func (o *Office) Chain(p Purpose) ([]*x509.Certificate, error) {
	a, err := o.Authority(p)
	if err != nil {
		return nil, err
	}
	return []*x509.Certificate{a.Certificate}, nil
}
