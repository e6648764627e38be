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
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// Limits.
const (
	// maxAnswer: a certificate chain, an appraisal and a share are below 64 KiB.
	maxAnswer = 4 << 20
	// callTime bounds one request.
	callTime = 30 * time.Second
)

// Config is what an agent needs to know.
type Config struct {
	URL    string            // https://HOST:PORT of the service
	Root   *x509.Certificate // the one CA that it believes
	Client tls.Certificate   // of kind guest, or the VM's identity
	TPM    *client.Client
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
	leaf, err := leafOf(c.Client)
	if err != nil {
		return nil, err
	}
	n, err := nameOf(leaf)
	if err != nil {
		return nil, err
	}
	if n.kind != "guest" && n.kind != "vm" {
		return nil, fmt.Errorf("the client certificate is of kind %q; an agent needs guest or vm", n.kind)
	}
	return &Agent{Config: c, Tenant: n.tenant, VM: n.name}, nil
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

// Refused is a no of the service, with its code.
type Refused struct {
	Status             int
	Code, Detail, Hint string
}

func (r *Refused) Error() string { return r.Detail }

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
	conn, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.close()

	// 2. The AK, and the proof that it is in the TPM that was recorded at birth.
	endorsement := client.Hierarchy(tpm2.RHEndorsement, nil)
	ak, err := a.TPM.CreatePrimary(endorsement, client.AKTemplate(client.P256))
	if err != nil {
		return nil, fmt.Errorf("making the attestation key: %w", err)
	}
	defer a.TPM.Flush(ak.Handle)
	var ch admission.Challenge
	if err := conn.call(ctx, "/v1/vms/"+url.PathEscape(a.VM)+"/challenge", admission.AskChallenge{AK: tpm2.Marshal(&ak.Public)}, &ch); err != nil {
		return nil, err
	}
	activated, err := a.activate(ak, &ch)
	if err != nil {
		return nil, fmt.Errorf("answering the challenge: %w", err)
	}

	// 3. The keys that go with it, certified by the AK.
	out := &Admission{AK: ak.Public, TPM: a.TPM}
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
	binding := attest.Binding{Nonce: ch.Nonce, Tenant: a.Tenant, VM: a.VM, Purpose: admission.Purpose, AKName: ak.Name, Exporter: conn.exporter}
	for _, k := range keys {
		binding.Certified = append(binding.Certified, k.Name)
	}
	qualifying := binding.Digest()

	// 4. The quote, after everything else: it signs the newest state.
	req := admission.Request{Nonce: ch.Nonce, Disk: disk, Items: []attest.Item{
		{Type: admission.AttestationKey, Data: tpm2.Marshal(&ak.Public)}, {Type: admission.ActivatedCredential, Data: activated}}}
	for _, k := range keys {
		c, err := a.TPM.Certify(k.Entity, ak.Entity, qualifying)
		if err != nil {
			return nil, fmt.Errorf("certifying a key: %w", err)
		}
		e := tpm2.NewEncoder(nil)
		e.Buf(tpm2.Marshal(&k.Public))
		req.Items = append(req.Items, attest.Item{Type: attest.TPMCertify, Data: append(e.Out(), signed(c)...)})
	}
	quote, values, err := a.quote(ak, qualifying)
	if err != nil {
		return nil, fmt.Errorf("quoting: %w", err)
	}
	req.Items = append(req.Items, attest.Item{Type: attest.TPMQuote, Data: quote}, attest.Item{Type: attest.TPMPCRValues, Data: values},
		attest.Item{Type: attest.TCGEventLog, Data: log})
	if a.IMALog != nil {
		list, err := a.IMALog()
		if err != nil {
			return nil, fmt.Errorf("reading the IMA list: %w", err)
		}
		req.Items = append(req.Items, attest.Item{Type: attest.IMALog, Data: list})
	}
	if a.Seen != nil {
		a.Seen(req)
	}

	// 5. The verdict.
	out.Request, out.Signed = req, qualifying
	if err := conn.call(ctx, "/v1/vms/"+url.PathEscape(a.VM)+"/admission", req, &out.Admitted); err != nil {
		return nil, err
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

// activate proves to the service that ak is in the TPM with the recorded EK.
func (a *Agent) activate(ak *client.Key, ch *admission.Challenge) ([]byte, error) {
	template, ok := map[string]client.EK{"RSA-2048": client.EKRSA2048, "P-256": client.EKP256, "P-384": client.EKHighP384}[ch.EK]
	if !ok {
		return nil, fmt.Errorf("the service wants an endorsement key %.20q", ch.EK)
	}
	endorsement := client.Hierarchy(tpm2.RHEndorsement, nil)
	ek, err := a.TPM.CreatePrimary(endorsement, client.EKTemplate(template))
	if err != nil {
		return nil, err
	}
	defer a.TPM.Flush(ek.Handle)
	session, err := a.TPM.EKSession(ek, endorsement)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	return a.TPM.ActivateCredential(ak.Entity, session.Auth(ek.Entity), &client.Credential{Blob: ch.Blob, Secret: ch.Secret})
}

// quote has the boot's PCRs signed, and returns their values as well. Reading
// and quoting are two commands: when a PCR was extended between them, again.
func (a *Agent) quote(ak *client.Key, qualifying []byte) (quote, concat []byte, err error) {
	sel := client.Select(tpm2.AlgSHA256, a.pcrs()...)
	for range 3 {
		q, err := a.TPM.Quote(ak.Entity, qualifying, sel)
		if err != nil {
			return nil, nil, err
		}
		values, err := a.TPM.ReadPCRs(sel)
		if err != nil {
			return nil, nil, err
		}
		attested, err := client.VerifyQuote(&ak.Public, q.Attest, q.Signature, qualifying)
		if err != nil {
			return nil, nil, err
		}
		if client.CheckPCRs(attested, tpm2.AlgSHA256, values) != nil {
			continue
		}
		for _, pcr := range a.pcrs() {
			concat = append(concat, values[tpm2.AlgSHA256][pcr]...)
		}
		return signed(q), concat, nil
	}
	return nil, nil, errors.New("the PCRs change all the time")
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

// signed is "TPM2B_ATTEST, TPMT_SIGNATURE".
func signed(a *client.Attested) []byte {
	e := tpm2.NewEncoder(nil)
	e.Buf(a.Attest)
	return append(e.Out(), a.Signature...)
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

// connection is one TLS connection, and HTTP over it alone.
type connection struct {
	base     string
	http     *http.Client
	tls      *tls.Conn
	exporter []byte
}

func (a *Agent) connect(ctx context.Context) (*connection, error) {
	u, err := url.Parse(a.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%.100q is no address of a service: https://HOST:PORT", a.URL)
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "443")
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.Root)
	config := &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: pool, ServerName: u.Hostname(), Certificates: []tls.Certificate{a.Client}, NextProtos: []string{"http/1.1"},
		// A VM's certificate chains to the same root: the service has its own kind of name.
		VerifyConnection: func(cs tls.ConnectionState) error {
			n, err := nameOf(cs.PeerCertificates[0])
			if err == nil && n.kind != "service" {
				err = fmt.Errorf("who answers is a %s, not the service", n.kind)
			}
			return err
		},
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	raw, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, fmt.Errorf("connecting to the service at %s: %w", host, err)
	}
	c := &connection{base: "https://" + u.Host, tls: raw.(*tls.Conn)}
	state := c.tls.ConnectionState()
	if c.exporter, err = state.ExportKeyingMaterial(attest.ExporterLabel, nil, 32); err != nil {
		c.tls.Close()
		return nil, err
	}
	used := false
	c.http = &http.Client{Timeout: callTime, Transport: &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		if used {
			return nil, errors.New("the connection was lost, and the evidence was made for it")
		}
		used = true
		return c.tls, nil
	}}}
	return c, nil
}

func (c *connection) close() {
	c.http.CloseIdleConnections()
	c.tls.Close()
}

func (c *connection) call(ctx context.Context, path string, in, out any) error {
	data, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("calling the service: %w", err)
	}
	defer resp.Body.Close()
	if data, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return fmt.Errorf("reading the service's answer: %w", err)
	}
	if resp.StatusCode >= 300 {
		r := &Refused{Status: resp.StatusCode}
		if json.Unmarshal(data, r) != nil || r.Detail == "" {
			r.Detail = "the service answers " + resp.Status
		}
		return r
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}

// Call sends one request over a connection of its own, with the agent's certificate.
func (a *Agent) Call(ctx context.Context, path string, in, out any) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	return c.call(ctx, path, in, out)
}

type spiffe struct{ domain, tenant, kind, name string }

// nameOf reads the SPIFFE ID of a certificate of the service.
func nameOf(c *x509.Certificate) (spiffe, error) {
	if len(c.URIs) != 1 || c.URIs[0].Scheme != "spiffe" {
		return spiffe{}, errors.New("the certificate has no name of this service's kind")
	}
	parts := strings.Split(c.URIs[0].Path, "/")
	if len(parts) != 4 || parts[0] != "" {
		return spiffe{}, errors.New("the certificate has no name of this service's kind")
	}
	return spiffe{c.URIs[0].Host, parts[1], parts[2], parts[3]}, nil
}

func leafOf(c tls.Certificate) (*x509.Certificate, error) {
	if c.Leaf != nil {
		return c.Leaf, nil
	}
	if len(c.Certificate) == 0 {
		return nil, errors.New("there is no client certificate")
	}
	return x509.ParseCertificate(c.Certificate[0])
}
