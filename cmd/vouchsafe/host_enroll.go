package main

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/attester"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/durable"
	"github.com/vouchsafe/vouchsafe/internal/host"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// enrolling is how a host is enrolled.
type enrolling struct {
	client  clientFlags
	host    hostOptions
	roots   string
	approve bool
	note    string
	out     string
}

func newHostEnrollCommand(a *app) *cobra.Command {
	var e enrolling
	cmd := &cobra.Command{
		Use:   "enroll NAME",
		Short: "On the host, as an operator: record its TPM, make its credential, let it prove itself",
		Long: `Run this on the host, with an operator's credential. It makes the host known, records the
endorsement key of its TPM, makes the credential for "vouchsafe host run", and has the host prove
itself once. Nobody approved its boot yet: look at what is measured, then approve it with
--approve, or later with "vouchsafe policy enroll --host NAME".

Why should the service believe that this TPM is that host's? With --ek-roots because the TPM's
manufacturer says so, in the endorsement certificate; without, on your word. The record keeps which.`,
		Example: `  vouchsafe host enroll rack1-7 --server https://control:8443 --credential operator --ek-roots tpm-roots.pem --approve`,
		Args:    exactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return e.run(cmd.Context(), a, args[0]) },
	}
	e.client.add(cmd)
	e.host.tpmFlags(cmd)
	cmd.Flags().StringVar(&e.roots, "ek-roots", "", "PEM file with the TPM manufacturer's certificates: root, and intermediates")
	cmd.Flags().BoolVar(&e.approve, "approve", false, "approve the boot that this host is in")
	cmd.Flags().StringVar(&e.note, "note", "", "with --approve, for people: what this boot is")
	cmd.Flags().StringVarP(&e.out, "out", "o", "", "directory for the host's credential (default host in the state directory)")
	return cmd
}

func (e *enrolling) run(ctx context.Context, a *app, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	c, err := e.client.open()
	if err != nil {
		return err
	}
	dir, err := stateDir(e.client.state)
	if err != nil {
		return err
	}
	if e.out == "" {
		e.out = filepath.Join(dir, dirHost)
	}
	if e.host.tpm == "" {
		e.host.tpm = defaultTPM
	}
	// 1. The TPM, and why it is believed.
	tpm, err := client.Open(e.host.tpm)
	if err != nil {
		return noTPM(err)
	}
	defer tpm.Close()
	log := func() ([]byte, error) { return os.ReadFile(e.host.eventLog) }
	if _, err := log(); err != nil { // before anything is on record
		return withHint(fmt.Errorf("reading this machine's event log: %w", err), "--event-log FILE; the kernel has it in %s", defaultEventLog)
	}
	spki, trust, err := e.endorsementKey(tpm)
	if err != nil {
		return err
	}
	// 2. The host on record. One that is known keeps what was accepted of it.
	path := "/v1/hosts/" + url.PathEscape(name)
	var h api.Host
	if err := c.call(ctx, "GET", path, nil, &h); err != nil {
		if err := c.call(ctx, "POST", "/v1/hosts", api.NewHost{Name: name}, &h); err != nil {
			return err
		}
	}
	ek := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
	if err := c.call(ctx, "POST", path+"/tpm", api.HostTPM{EKPublic: ek, Trust: trust}, &h); err != nil {
		return err
	}
	// 3. Its credential.
	if err := e.credential(ctx, c, name); err != nil {
		return err
	}
	cred, err := openHostCredential(e.out, c.url)
	if err != nil {
		return err
	}
	// 4. Once, without vTPMs.
	s, err := cred.service(ctx)
	if err != nil {
		return err
	}
	prove := func() error {
		_, err := host.Prove(ctx, s, tpm, log, nil)
		return err
	}
	err = prove()
	var r *attester.Refused
	if errors.As(err, &r) && (r.Code == "REFERENCE_MISSING" || r.Code == "BOOT_DIFFERS") && e.approve {
		var p api.Policy
		if err := c.call(ctx, "POST", path+"/policy/enroll", api.EnrollPolicy{Note: e.note}, &p); err != nil {
			return err
		}
		if err := a.showPolicy(p); err != nil {
			return err
		}
		err = prove()
	}
	if errors.As(err, &r) {
		hint := r.Hint
		switch {
		case r.Code == "REFERENCE_MISSING":
			hint = "vouchsafe policy enroll --host " + name
		case hint == "": // the appraisal has a remedy for each of its findings
			hint = "vouchsafe attest show --host " + name
		}
		return withHint(fmt.Errorf("%s is known, and did not prove itself: %w", name, err), "%s", hint)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(a.err, a.say("%s proved itself; its TPM is believed because %s\nnow, on this host: vouchsafe host run --credential %s\n",
		"%s 已证明自身；其 TPM 可信的依据：%s\n接下来在该宿主机上：vouchsafe host run --credential %s\n"), name, a.words(trust), e.out)
	if err := c.call(ctx, "GET", path, nil, &h); err != nil {
		return err
	}
	return a.showHosts([]api.Host{h})
}

// credential makes the host's, unless it has a good one of this name.
func (e *enrolling) credential(ctx context.Context, c *apiClient, name string) error {
	if text, err := os.ReadFile(filepath.Join(e.out, credentialCert)); err == nil {
		old, err := parseCertificate(text)
		if err != nil {
			return err
		}
		if n, err := ca.NameOf(old); err != nil || n.Kind != ca.KindAgent || n.Name != name {
			return withHint(fmt.Errorf("%s has the credential of %s", e.out, n), "-o DIR: another directory")
		}
		var on api.Certificate // one that was revoked, with the host or alone, is of no use
		if err := c.call(ctx, "GET", "/v1/certificates/"+ca.SerialText(old), nil, &on); err != nil && !notFound(err) {
			return err
		} else if err == nil && on.State == "issued" && time.Now().Before(old.NotAfter) {
			return nil
		}
	}
	key, got, err := askCredential(ctx, c, ca.KindAgent, name)
	if err != nil {
		return err
	}
	if err := saveCredential(e.out, key, got.PEM, got.RootCA); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(e.out, filepath.Base(fileURL)), []byte(c.url+"\n"), 0o644)
}

// endorsementKey is the key of this TPM by which it is known: one with a
// certificate below the given roots, or the one on P-256 on the operator's word.
func (e *enrolling) endorsementKey(tpm *client.Client) (spki []byte, trust string, err error) {
	if e.roots == "" {
		key, err := tpm.CreatePrimary(client.Hierarchy(tpm2.RHEndorsement, nil), client.EKTemplate(client.EKP256))
		if err != nil {
			return nil, "", fmt.Errorf("making the endorsement key: %w", err)
		}
		defer tpm.Flush(key.Handle)
		public, err := client.PublicKey(&key.Public)
		if err != nil {
			return nil, "", err
		}
		spki, err = x509.MarshalPKIXPublicKey(public)
		return spki, "an operator said so", err
	}
	text, err := os.ReadFile(e.roots)
	if err != nil {
		return nil, "", err
	}
	var tried []error
	for _, kind := range []client.EK{client.EKP256, client.EKRSA2048} {
		cert, err := tpm.ReadCertificate(kind.CertificateIndex())
		if err == nil {
			err = verifyEK(cert, text)
		}
		if err != nil {
			tried = append(tried, fmt.Errorf("the certificate at %v: %w", kind.CertificateIndex(), err))
			continue
		}
		spki, err := x509.MarshalPKIXPublicKey(cert.PublicKey)
		return spki, fmt.Sprintf("its endorsement certificate was issued by %s", cert.Issuer), err
	}
	return nil, "", withHint(errors.Join(tried...), "the TPM manufacturer publishes its CA's certificates; without --ek-roots the TPM is believed on your word")
}

// verifyEK checks an endorsement certificate. Its subject alternative name is
// the TPM's make, in a form that crypto/x509 does not know, and critical when
// there is no subject (TCG EK Credential Profile, 3.2).
func verifyEK(cert *x509.Certificate, roots []byte) error {
	pool, between := x509.NewCertPool(), x509.NewCertPool()
	n := 0
	for rest := roots; ; n++ {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return fmt.Errorf("reading the roots: %w", err)
		}
		if c.CheckSignatureFrom(c) == nil {
			pool.AddCert(c)
		} else {
			between.AddCert(c)
		}
	}
	if n == 0 {
		return errors.New("there is no certificate among the roots")
	}
	san := asn1.ObjectIdentifier{2, 5, 29, 17}
	cert.UnhandledCriticalExtensions = slices.DeleteFunc(cert.UnhandledCriticalExtensions, func(id asn1.ObjectIdentifier) bool { return id.Equal(san) })
	_, err := cert.Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

func newHostShowCommand(a *app) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show one host: what it is worth now, and how its evidence was last appraised",
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.open()
			if err != nil {
				return err
			}
			path := "/v1/hosts/" + url.PathEscape(args[0])
			var h api.Host
			if err := c.call(cmd.Context(), "GET", path, nil, &h); err != nil {
				return err
			}
			var at api.Attestation
			if h.HasTPM {
				if err := c.call(cmd.Context(), "GET", path+"/attestation", nil, &at); err != nil {
					return err
				}
			}
			if a.json {
				return a.printJSON(struct {
					api.Host
					Attestation *json.RawMessage `json:"attestation,omitempty"`
				}{h, rawOrNil(at.Result)})
			}
			if err := a.showHosts([]api.Host{h}); err != nil || at.Result == nil {
				return err
			}
			return a.showAttestation(at)
		},
	}
	f.add(cmd)
	return cmd
}

func rawOrNil(b json.RawMessage) *json.RawMessage {
	if b == nil {
		return nil
	}
	return &b
}
