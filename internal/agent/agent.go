// Package agent is the guest's side of an admission: it collects the evidence of
// its TPM, sends it over one TLS connection, and uses what comes back: the
// certificate for a key that stays in the TPM, and the two shares of the disk key.
//
// It decides nothing about trust: that is the service's, and the TPM's. It runs
// in an initramfs, so it links neither stores nor CAs, waits only as long as it
// is told, and keeps nothing but what is in the TPM.
//
// Begin with [Agent.Attest], then unlock.go and luks.go.
package agent

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"

	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/attester"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// Config is what an agent needs to know.
type Config struct {
	attester.Service // the client certificate is of kind guest, or the VM's identity
	TPM              *client.Client
	// EventLog reads the firmware's event log; IMALog Linux's list, nil: none.
	EventLog, IMALog func() ([]byte, error)
	// Seen gets the request before it is sent; for demonstrations. It may be nil.
	Seen func(admission.Request)
}

// Agent speaks for one VM.
type Agent struct {
	Config
	Tenant, VM string // from the client certificate
}

// New makes an agent; who it speaks for is in its client certificate.
func New(c Config) (*Agent, error) {
	n, err := c.Self()
	if err != nil {
		return nil, err
	}
	if n.Kind != "guest" && n.Kind != "vm" {
		return nil, fmt.Errorf("the client certificate is of kind %q; an agent needs guest or vm", n.Kind)
	}
	return &Agent{Config: c, Tenant: n.Tenant, VM: n.Name}, nil
}

// Admission is what the service gave, with the keys in the TPM that it is for.
type Admission struct {
	admission.Admitted
	Chain    []*x509.Certificate // the identity first
	Identity *client.Key         // its private key; stays loaded
	boot     *client.Key         // of the null hierarchy; nil without a disk
	AK       tpm2.TPMTPublic
	TPM      *client.Client
	Request  admission.Request // what was sent
	Signed   []byte            // the qualifying data: what the TPM signed
}

// Attest proves this VM to the service. With a disk it asks for the server's
// share of that disk's key.
func (a *Agent) Attest(ctx context.Context, disk string) (*Admission, error) {
	adm, err := a.attest(ctx, disk)
	if err != nil {
		return nil, fmt.Errorf("attesting %s: %w", a.VM, err)
	}
	return adm, nil
}

func (a *Agent) attest(ctx context.Context, disk string) (_ *Admission, err error) {
	log, err := a.EventLog()
	if err != nil {
		return nil, fmt.Errorf("reading the event log: %w", err)
	}
	// 1. One connection: what the TPM signs is bound to it.
	conn, err := a.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()

	// 2. The AK, and the proof that it is in the TPM that was recorded at birth.
	proof, err := attester.New(a.TPM)
	if err != nil {
		return nil, err
	}
	defer proof.Close()
	path := "/v1/vms/" + url.PathEscape(a.VM)
	var ch admission.Challenge
	if err := conn.Call(ctx, "POST", path+"/challenge", proof.Ask(), &ch); err != nil {
		return nil, err
	}
	if err := proof.Answer(&ch); err != nil {
		return nil, err
	}

	// 3. The keys that go with it, certified by the AK.
	out := &Admission{AK: proof.AK(), TPM: a.TPM}
	defer func() {
		if err != nil {
			out.Close()
		}
	}()
	if out.Identity, err = a.TPM.CreatePrimary(client.Hierarchy(tpm2.RHOwner, nil), client.TLSTemplate(client.P384)); err != nil {
		return nil, fmt.Errorf("making the identity key: %w", err)
	}
	keys := []*client.Key{out.Identity}
	if disk != "" {
		if out.boot, err = a.TPM.CreatePrimary(client.Hierarchy(tpm2.RHNull, nil), client.SRKTemplate(client.P256)); err != nil {
			return nil, fmt.Errorf("making this boot's key: %w", err)
		}
		keys = append(keys, out.boot)
	}

	// 4. The quote, after everything else: it signs the newest state.
	binding := attest.Binding{Nonce: ch.Nonce, Tenant: a.Tenant, VM: a.VM, Purpose: admission.Purpose, Exporter: conn.Exporter}
	if out.Signed, err = proof.Sign(binding, keys, a.pcrs()); err != nil {
		return nil, err
	}
	req := admission.Request{Nonce: ch.Nonce, Disk: disk, Items: append(proof.Items, attest.Item{Type: attest.TCGEventLog, Data: log})}
	if a.IMALog != nil {
		list, err := a.IMALog()
		if err != nil {
			return nil, fmt.Errorf("reading the IMA list: %w", err)
		}
		req.Items = append(req.Items, attest.Item{Type: attest.IMALog, Data: list})
	}
	shares, err := a.localShares()
	if err != nil {
		return nil, err
	}
	for _, k := range shares {
		req.LocalPolicies = append(req.LocalPolicies, k.Public.AuthPolicy)
	}
	tickets, err := a.tickets()
	if err != nil {
		return nil, err
	}
	req.Tickets = len(tickets)
	if a.Seen != nil {
		a.Seen(req)
	}

	// 5. The verdict.
	out.Request = req
	if err := conn.Call(ctx, "POST", path+"/admission", req, &out.Admitted); err != nil {
		var r *attester.Refused
		if errors.As(err, &r) && r.Code == "VM_REVOKED" {
			err = errors.Join(err, a.EraseOffline())
		}
		return nil, err
	}
	if out.Offline == nil {
		if err := a.EraseOffline(); err != nil {
			return nil, fmt.Errorf("forgetting how to open disks without the service: %w", err)
		}
	}
	if out.Chain, err = certificates(out.Certificate); err != nil {
		return nil, err
	}
	return out, a.checkIdentity(out)
}

// checkIdentity makes sure that the certificate is for our key and below the root that we pin.
func (a *Agent) checkIdentity(out *Admission) error {
	public, err := client.PublicKey(&out.Identity.Public)
	if err != nil {
		return err
	}
	if k, ok := out.Chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(public) {
		return errors.New("the service's certificate is for another key than ours")
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(a.Root)
	for _, c := range out.Chain[1:] {
		between.AddCert(c)
	}
	_, err = out.Chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err
}

// Close unloads what the admission left in the TPM.
func (adm *Admission) Close() {
	for _, k := range []*client.Key{adm.Identity, adm.boot} {
		if k != nil {
			adm.TPM.Flush(k.Handle)
		}
	}
	adm.Identity, adm.boot = nil, nil
}

// TLS is the identity for crypto/tls: each handshake signs inside the TPM.
func (adm *Admission) TLS() (tls.Certificate, error) {
	private, err := adm.TPM.Private(adm.Identity, nil)
	if err != nil {
		return tls.Certificate{}, err
	}
	c := tls.Certificate{PrivateKey: private, Leaf: adm.Chain[0]}
	for _, x := range adm.Chain {
		c.Certificate = append(c.Certificate, x.Raw)
	}
	return c, nil
}

func (a *Agent) pcrs() []int {
	pcrs := attest.BootPCRs() // ascending
	if a.IMALog == nil {
		return pcrs
	}
	var out []int
	for _, p := range pcrs {
		if p > 10 && len(out) > 0 && out[len(out)-1] < 10 {
			out = append(out, 10)
		}
		out = append(out, p)
	}
	return out
}

func certificates(text string) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for rest := []byte(text); len(out) < 4; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading the certificate: %w", err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("reading the certificate: there is none")
	}
	return out, nil
}
