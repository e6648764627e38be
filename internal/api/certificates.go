package api

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/store"
)

// Certificate is a certificate as operators see it.
type Certificate struct {
	Serial    string `json:"serial"`
	Purpose   string `json:"purpose"`
	Profile   string `json:"profile"`
	Subject   string `json:"subject"`
	NotBefore string `json:"not_before"`
	NotAfter  string `json:"not_after"`
	State     string `json:"state" enum:"intended,issued,revoked"`
	Revoked   string `json:"revoked,omitempty"`
	Reason    string `json:"reason,omitempty"`
	PEM       string `json:"pem,omitempty"`
}

func certificateOut(c store.Certificate) Certificate {
	out := Certificate{Serial: c.Serial, Purpose: string(c.Purpose), Profile: c.Profile, Subject: c.Subject,
		NotBefore: stamp(c.NotBefore), NotAfter: stamp(c.NotAfter), State: c.State, Revoked: stamp(c.Revoked)}
	if c.State == "revoked" {
		out.Reason = c.Reason.String()
	}
	return out
}

// NewCredential asks for a client certificate of the API.
type NewCredential struct {
	Kind string `json:"kind" enum:"operator,agent,guest" doc:"agent: a host; guest: a VM that has no identity yet, by its name"`
	Name string `json:"name" maxLength:"63"`
	CSR  string `json:"csr" maxLength:"8192" doc:"CERTIFICATE REQUEST in PEM; only its key is used, and that it is yours"`
}

// RenewCredential asks for a new certificate of the caller's own kind and name.
type RenewCredential struct {
	CSR string `json:"csr" maxLength:"8192" doc:"CERTIFICATE REQUEST in PEM; only its key is used, and that it is yours"`
}

// Credential is a client certificate with its chain.
type Credential struct {
	PEM    string `json:"pem" doc:"the certificate, then its intermediate"`
	RootCA string `json:"root_ca"`
}

// RevokeCertificate says why a certificate is revoked.
type RevokeCertificate struct {
	Reason string `json:"reason,omitempty" maxLength:"40" doc:"as RFC 5280 names them: key-compromise, superseded, …"`
}

// SerialPath is a path with a serial number. (Embedded types are exported: huma
// sees no parameters in others.)
type SerialPath struct {
	Serial string `path:"serial" maxLength:"40"`
}

// CRL is a signed list of revoked certificates.
type CRL struct {
	PEM string `json:"pem"`
}

func (s *server) certificates() {
	type page struct {
		After string `query:"after" maxLength:"40" doc:"the serial number seen last"`
		Limit int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
	}
	operation(s, "GET", "/v1/certificates", "list-certificates", "Certificates in the order of their serial numbers", operators, func(ctx context.Context, in *page) (*body[[]Certificate], error) {
		cs, err := s.Store.Certificates(ctx, caller(ctx).Tenant, in.After, in.Limit)
		out := make([]Certificate, 0, len(cs))
		for _, c := range cs {
			out = append(out, certificateOut(c))
		}
		return answer(out), err
	})
	operation(s, "GET", "/v1/certificates/{serial}", "get-certificate", "One certificate", operators, func(ctx context.Context, in *SerialPath) (*body[Certificate], error) {
		c, der, err := s.Store.Certificate(ctx, in.Serial)
		if err == nil && c.Tenant != caller(ctx).Tenant {
			err = store.ErrNotFound
		}
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", in.Serial, err)
		}
		out := certificateOut(c)
		if der != nil {
			out.PEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		}
		return answer(out), err
	})
	type revoke struct {
		SerialPath
		Body RevokeCertificate
	}
	operation(s, "POST", "/v1/certificates/{serial}/revoke", "revoke-certificate", "Revoke a certificate, for good", operators, func(ctx context.Context, in *revoke) (*body[Certificate], error) {
		reason, err := ca.ParseReason(in.Body.Reason)
		if err != nil {
			return nil, enroll.Coded(enroll.RequestInvalid, err)
		}
		tenant := caller(ctx).Tenant
		intent, err := s.Audit.Begin(ctx, audit.Event{Tenant: tenant, Actor: caller(ctx).String(), Action: "certificate.revoked", Object: in.Serial, Detail: map[string]string{"reason": reason.String()}})
		if err != nil {
			return nil, err
		}
		if err := s.Store.Revoke(ctx, tenant, in.Serial, reason); err != nil {
			intent.Failed(ctx, err)
			return nil, fmt.Errorf("revoking certificate %s: %w", in.Serial, err)
		}
		if _, err := intent.Done(ctx, nil); err != nil {
			return nil, err
		}
		c, _, err := s.Store.Certificate(ctx, in.Serial)
		return answer(certificateOut(c)), err
	})
	operation(s, "POST", "/v1/credentials", "make-credential", "Issue a client certificate for the API", operators, func(ctx context.Context, in *body[NewCredential]) (*body[Credential], error) {
		return s.credential(ctx, in.Body)
	})
	operation(s, "POST", "/v1/credentials/renew", "renew-credential", "Issue the caller's client certificate anew, before it ends", hosts, func(ctx context.Context, in *body[RenewCredential]) (*body[Credential], error) {
		return s.credential(ctx, NewCredential{Kind: caller(ctx).Kind, Name: caller(ctx).Name, CSR: in.Body.CSR})
	})
	type purpose struct {
		Purpose string `path:"purpose" enum:"vtpm-ek,vm-identity,service-tls,operator,residence"`
	}
	operation(s, "GET", "/v1/crls/{purpose}", "get-crl", "Fresh CRLs of one purpose: of the intermediate that signs, then of those before it", everyone, func(ctx context.Context, in *purpose) (*body[CRL], error) {
		ders, err := s.crl(ctx, ca.Purpose(in.Purpose))
		out := CRL{}
		for _, der := range ders {
			out.PEM += string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
		}
		return answer(out), err
	})
}

func (s *server) credential(ctx context.Context, in NewCredential) (*body[Credential], error) {
	profile := ca.OperatorProfile
	switch in.Kind {
	case ca.KindAgent:
		profile = ca.AgentProfile
	case ca.KindGuest:
		profile = ca.GuestProfile
	}
	block, rest := pem.Decode([]byte(in.CSR))
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(rest) > 0 {
		return nil, enroll.Refusal{Code: enroll.KeyUnfit, Why: "csr is not one CERTIFICATE REQUEST in PEM"}
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err == nil {
		err = profile.Keys(csr.PublicKey)
	}
	if err != nil {
		return nil, enroll.Coded(enroll.KeyUnfit, fmt.Errorf("reading csr: %w", err))
	}
	if err := enroll.Coded(enroll.NameInvalid, ca.CheckWord(in.Name)); err != nil {
		return nil, err
	}
	who := caller(ctx)
	if in.Kind == ca.KindGuest { // the VM may come later; one that was revoked never comes back
		if vm, err := s.Store.VM(ctx, who.Tenant, in.Name); err == nil && vm.State == enroll.StateRevoked {
			return nil, enroll.Refusal{Code: "VM_REVOKED", Why: in.Name + " was revoked"}
		}
	}
	if err := s.lostHost(ctx, in); err != nil {
		return nil, err
	}
	if err := s.Enroll.Spend(enroll.Keys, who.Tenant, who.String()); err != nil {
		return nil, err
	}
	name := ca.Name{TrustDomain: s.TrustDomain, Tenant: who.Tenant, Kind: in.Kind, Name: in.Name}
	intent, err := s.Audit.Begin(ctx, audit.Event{Tenant: who.Tenant, Actor: who.String(), Action: "credential.issued", Object: name.String()})
	if err != nil {
		return nil, err
	}
	cert, err := s.Office.Issue(ctx, profile, ca.Request{Tenant: who.Tenant, PublicKey: csr.PublicKey, Name: &name})
	if err != nil {
		intent.Failed(ctx, err)
		return nil, err
	}
	if err := s.lostHost(ctx, in); err != nil { // meanwhile
		err = errors.Join(err, s.Store.Revoke(context.WithoutCancel(ctx), who.Tenant, ca.SerialText(cert), ca.PrivilegeWithdrawn))
		intent.Failed(ctx, err)
		return nil, err
	}
	if _, err := intent.Done(ctx, map[string]string{"serial": ca.SerialText(cert)}); err != nil {
		return nil, err
	}
	chain, err := s.Office.Chain(profile.Purpose)
	if err != nil {
		return nil, err
	}
	return answer(Credential{PEM(append([]*x509.Certificate{cert}, chain...)...), PEM(s.Office.Root)}), nil
}

// lostHost refuses a credential for a host that was revoked. The host may come later.
func (s *server) lostHost(ctx context.Context, in NewCredential) error {
	if in.Kind != ca.KindAgent {
		return nil
	}
	h, err := s.Store.Host(ctx, caller(ctx).Tenant, in.Name)
	if errors.Is(err, enroll.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return h.WasRevoked()
}

// crlFresh: a list is signed anew when something was revoked since, or when it
// is this old; otherwise the one on record is as good.
const crlFresh = ca.CRLLifetime / 7

// crl returns a list by each intermediate of a purpose: a reader wants the one
// that is signed by whoever issued the certificate. All of them name everything
// that was revoked, and share their numbers.
func (s *server) crl(ctx context.Context, p ca.Purpose) ([][]byte, error) {
	revoked, err := s.Store.Revoked(ctx, p)
	if err != nil {
		return nil, err
	}
	authorities := s.Office.Authorities(p)
	if len(authorities) == 0 {
		return nil, fmt.Errorf("this service has no %s authority", p)
	}
	if stored, err := s.Store.CRL(ctx, p); err == nil {
		if ders := s.freshCRLs(stored, revoked, authorities); ders != nil {
			return ders, nil
		}
	}
	intent, err := s.Audit.Begin(ctx, audit.Event{Actor: caller(ctx).String(), Action: "crl.signed", Object: string(p)})
	if err != nil {
		return nil, err
	}
	number, err := s.Store.NextCRL(ctx, p)
	if err != nil {
		intent.Failed(ctx, err)
		return nil, err
	}
	now := s.Now()
	var ders [][]byte
	for _, a := range authorities {
		var der []byte
		if der, err = a.CRL(number, revoked, now); err != nil {
			break
		}
		ders = append(ders, der)
	}
	if err == nil {
		err = s.Store.SaveCRL(ctx, p, number, bytes.Join(ders, nil), now, now.Add(ca.CRLLifetime))
	}
	if err != nil {
		intent.Failed(ctx, err)
		return nil, err
	}
	_, err = intent.Done(ctx, map[string]string{"number": fmt.Sprint(number), "entries": fmt.Sprint(len(revoked))})
	return ders, err
}

func sameRevoked(e x509.RevocationListEntry, r ca.Revocation) bool {
	return fmt.Sprintf("%x", e.SerialNumber) == r.Serial
}

// freshCRLs takes lists on record apart, if they are as good as new ones: one of
// each authority, with the same entries, and not old.
func (s *server) freshCRLs(stored []byte, revoked []ca.Revocation, authorities []*ca.Authority) (ders [][]byte) {
	for rest := stored; len(rest) > 0; {
		var one asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &one); err != nil {
			return nil
		}
		old, err := x509.ParseRevocationList(one.FullBytes)
		if err != nil || !slices.EqualFunc(old.RevokedCertificateEntries, revoked, sameRevoked) || len(ders) == len(authorities) || old.CheckSignatureFrom(authorities[len(ders)].Certificate) != nil {
			return nil
		}
		if age := s.Now().Sub(old.ThisUpdate); age < 0 || age >= crlFresh {
			return nil
		}
		ders = append(ders, one.FullBytes)
	}
	if len(ders) != len(authorities) {
		return nil
	}
	return ders
}
