// Package attester is the Attester of RFC 9334, for a guest and for a host
// alike: it has a TPM prove that it is the one on record, and sign what this
// machine booted, bound to one TLS connection to the service.
//
// It appraises nothing, which is package attest's and the service's, and keeps
// nothing. What is done with the answer is the caller's: package agent for a
// guest, package host for a hypervisor.
//
// Begin with [Service.Connect], then [New] and the three steps of an [Attester].
package attester

import (
	"errors"
	"fmt"

	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// Attester makes the evidence of one TPM for one conversation.
type Attester struct {
	Items []attest.Item // the evidence so far

	tpm *client.Client
	ak  *client.Key
}

// New makes the AK. It is a primary key: the same one each time until the
// endorsement seed changes, and nothing needs to be kept.
func New(tpm *client.Client) (*Attester, error) {
	ak, err := tpm.CreatePrimary(client.Hierarchy(tpm2.RHEndorsement, nil), client.AKTemplate(client.P256))
	if err != nil {
		return nil, fmt.Errorf("making the attestation key: %w", err)
	}
	return &Attester{tpm: tpm, ak: ak}, nil
}

// Close unloads the AK.
func (a *Attester) Close() { a.tpm.Flush(a.ak.Handle) }

// AK is the public area of the attestation key.
func (a *Attester) AK() tpm2.TPMTPublic { return a.ak.Public }

// Ask is what a challenge is asked for with.
func (a *Attester) Ask() admission.AskChallenge {
	return admission.AskChallenge{AK: tpm2.Marshal(&a.ak.Public)}
}

// Answer proves that the AK is in the TPM with the endorsement key on record
// (Part 1, 24).
func (a *Attester) Answer(ch *admission.Challenge) error {
	activated, err := a.activate(ch)
	if err != nil {
		return fmt.Errorf("answering the challenge: %w", err)
	}
	a.Items = append(a.Items, attest.Item{Type: admission.AttestationKey, Data: tpm2.Marshal(&a.ak.Public)},
		attest.Item{Type: admission.ActivatedCredential, Data: activated})
	return nil
}

func (a *Attester) activate(ch *admission.Challenge) ([]byte, error) {
	template, ok := admission.Templates[ch.EK]
	if !ok {
		return nil, fmt.Errorf("the service wants an endorsement key %.20q", ch.EK)
	}
	endorsement := client.Hierarchy(tpm2.RHEndorsement, nil)
	ek, err := a.tpm.CreatePrimary(endorsement, client.EKTemplate(template))
	if err != nil {
		return nil, err
	}
	defer a.tpm.Flush(ek.Handle)
	session, err := a.tpm.EKSession(ek, endorsement)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	return a.tpm.ActivateCredential(a.ak.Entity, session.Auth(ek.Entity), &client.Credential{Blob: ch.Blob, Secret: ch.Secret})
}

// Sign has the AK certify keys and then, after everything else, quote the PCRs:
// it signs the newest state. The AK and the keys join what they are bound to;
// the digest of that is what the TPM signed.
func (a *Attester) Sign(b attest.Binding, keys []*client.Key, pcrs []int) (qualifying []byte, err error) {
	b.AKName = a.ak.Name
	for _, k := range keys {
		b.Certified = append(b.Certified, k.Name)
	}
	qualifying = b.Digest()
	for _, k := range keys {
		c, err := a.tpm.Certify(k.Entity, a.ak.Entity, qualifying)
		if err != nil {
			return nil, fmt.Errorf("certifying a key: %w", err)
		}
		e := tpm2.NewEncoder(nil)
		e.Buf(tpm2.Marshal(&k.Public))
		a.Items = append(a.Items, attest.Item{Type: attest.TPMCertify, Data: append(e.Out(), signed(c)...)})
	}
	quote, values, err := a.quote(qualifying, pcrs)
	if err != nil {
		return nil, fmt.Errorf("quoting: %w", err)
	}
	a.Items = append(a.Items, attest.Item{Type: attest.TPMQuote, Data: quote}, attest.Item{Type: attest.TPMPCRValues, Data: values})
	return qualifying, nil
}

// quote has PCRs signed, and returns their values as well. Reading and quoting
// are two commands: when a PCR was extended between them, again.
func (a *Attester) quote(qualifying []byte, pcrs []int) (quote, concat []byte, err error) {
	sel := client.Select(tpm2.AlgSHA256, pcrs...)
	for range 3 {
		q, err := a.tpm.Quote(a.ak.Entity, qualifying, sel)
		if err != nil {
			return nil, nil, err
		}
		values, err := a.tpm.ReadPCRs(sel)
		if err != nil {
			return nil, nil, err
		}
		attested, err := client.VerifyQuote(&a.ak.Public, q.Attest, q.Signature, qualifying)
		if err != nil {
			return nil, nil, err
		}
		if client.CheckPCRs(attested, tpm2.AlgSHA256, values) != nil {
			continue
		}
		for _, pcr := range pcrs {
			concat = append(concat, values[tpm2.AlgSHA256][pcr]...)
		}
		return signed(q), concat, nil
	}
	return nil, nil, errors.New("the PCRs change all the time")
}

// signed is "TPM2B_ATTEST, TPMT_SIGNATURE".
func signed(a *client.Attested) []byte {
	e := tpm2.NewEncoder(nil)
	e.Buf(a.Attest)
	return append(e.Out(), a.Signature...)
}
