package verifier

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/statement"
)

// ResultType is the JOSE type of a signed result: an EAT as a JWT (RFC 9711,
// Section 6 with RFC 9782).
const ResultType = "eat+jwt"

// SignerName is who signs results, in the names of this service's certificates.
const SignerName = "verifier"

// signResult makes the token that a relying party verifies without the service.
func (v *Verifier) signResult(ctx context.Context, claims []byte) (string, error) {
	signer, err := v.Results(ctx)
	if err != nil {
		return "", fmt.Errorf("signing the result: %w", err)
	}
	signed, err := statement.Sign(ResultType, claims, signer.Key, signer.Chain...)
	if err != nil {
		return "", err
	}
	return statement.Compact(signed)
}

// Result is what a signed result says, as far as a relying party needs it first.
type Result struct {
	Issuer  string
	Subject string // spiffe://…/vm/NAME, or …/host/NAME
	At      time.Time
	Status  string // affirming, warning, contraindicated
	Claims  []byte // all of it: JSON
}

// VerifyResult checks a signed result against the service's root, without the
// service. The signer's certificate must have been good when the result was
// made; how old a result may be is the caller's to say.
func VerifyResult(token string, root *x509.Certificate, now time.Time) (Result, error) {
	fail := func(err error) (Result, error) {
		return Result{}, fmt.Errorf("verifying an attestation result: %w", err)
	}
	signed, err := statement.Expand(token)
	if err != nil {
		return fail(err)
	}
	var claims struct {
		Issuer   string `json:"iss"`
		Subject  string `json:"sub"`
		IssuedAt int64  `json:"iat"`
		Submods  map[string]struct {
			Status string `json:"ear_status"`
		} `json:"submods"`
	}
	payload, err := statement.Payload(signed)
	if err != nil {
		return fail(err)
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return fail(fmt.Errorf("reading its claims: %w", err))
	}
	r := Result{Issuer: claims.Issuer, Subject: claims.Subject, At: time.Unix(claims.IssuedAt, 0).UTC(), Claims: payload, Status: claims.Submods["vtpm"].Status}
	_, signer, err := statement.Verify(ResultType, signed, root, r.At)
	if err != nil {
		return fail(err)
	}
	// Every certificate of the service chains to its root, those of VMs too.
	name, err := ca.NameOf(signer)
	if err != nil {
		return fail(err)
	}
	if name.Kind != ca.KindService || name.Name != SignerName || name.TrustDomain != r.Issuer {
		return fail(fmt.Errorf("it is signed by %s, which is not this service's verifier", name))
	}
	if r.Status == "" {
		return fail(errors.New("it has no result about a vTPM"))
	}
	if r.At.After(now.Add(time.Minute)) {
		return fail(fmt.Errorf("it is from %s, which is not yet", r.At.Format(time.RFC3339)))
	}
	return r, nil
}
