// Package verifier is the Verifier of RFC 9334 as the service runs it: it stands
// between enroll, which asks whether a VM may be admitted, and attest, which
// compares evidence with reference values. It adds what needs the service: the
// challenge that ties an AK to the endorsement key recorded at birth, the
// tenant's policy key, the reference values on record, and the last result.
//
// It decides nothing about admission and hands out nothing; it stores nothing
// itself. The AK is proved anew for every admission, so none is kept.
//
// Begin with [Verifier.Challenge] and [Verifier.Appraise]; policy.go approves boots.
package verifier

import (
	"context"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/derive"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// Records is what the verifier reads and writes; internal/store has it.
type Records interface {
	References(ctx context.Context, tenant, vm string) ([]Reference, error)
	SaveReference(ctx context.Context, r Reference) error
	// LastVersion is the highest version that ever was, withdrawn ones included.
	LastVersion(ctx context.Context, tenant, vm string) (uint64, error)
	SaveResult(ctx context.Context, r Outcome) error
}

// Reference is one approved set of PCR values of a VM.
type Reference struct {
	Tenant, VM string
	Version    uint64
	Signed     attest.SignedStatement
	Created    time.Time
}

// Outcome is the last appraisal of a VM.
type Outcome struct {
	Tenant, VM string
	At         time.Time
	Status     string // affirming, warning, contraindicated
	Code       string // the gravest finding, or ""
	Result     []byte // EAR
}

// Config is what a Verifier works with; all fields are needed.
type Config struct {
	Records Records
	Hosts   enroll.Hosts
	Keys    *PolicyKeys
	Now     func() time.Time
	Build   string // of this program, for the results
}

// Verifier appraises. It is safe for concurrent use.
type Verifier struct {
	Config
	mac   secret.Bytes
	boots waiting
}

var _ enroll.Appraiser = (*Verifier)(nil)

// New makes a Verifier. Challenges of one before it are void.
func New(c Config) *Verifier { return &Verifier{Config: c, mac: secret.Random(32)} }

// Challenge encrypts a secret to the endorsement key recorded at birth, for the
// given AK alone. It needs no memory: the secret is a MAC over the nonce.
func (v *Verifier) Challenge(vm enroll.VM, nonce, ak []byte) (admission.Challenge, error) {
	fail := func(err error) (admission.Challenge, error) {
		return admission.Challenge{}, fmt.Errorf("challenging %s: %w", vm.Name, err)
	}
	key, err := attest.NewKey(ak)
	if err != nil {
		return fail(enroll.Refusal{Code: "AK_UNFIT", Why: err.Error()})
	}
	ek, kind, err := endorsementArea(vm.EKPublic)
	if err != nil {
		return fail(err)
	}
	c, err := client.MakeCredential(ek, key.Name(), v.secret(vm, nonce, key))
	if err != nil {
		return fail(err)
	}
	return admission.Challenge{Nonce: nonce, EK: kind, Blob: c.Blob, Secret: c.Secret, Seconds: int(enroll.NonceLife / time.Second)}, nil
}

func (v *Verifier) secret(vm enroll.VM, nonce []byte, ak *attest.Key) []byte {
	m := hmac.New(sha256.New, v.mac.Reveal())
	m.Write([]byte(derive.Info("", "challenge", vm.Tenant, vm.Name, vm.ID.String(), string(nonce), string(ak.Name())))) // lengths before parts
	return m.Sum(nil)
}

// endorsementArea is the public area of the recorded endorsement key. The
// template is the profile's for that kind of key, never the caller's: a key
// with other attributes would answer for objects that are not in its TPM.
func endorsementArea(spki []byte) (*tpm2.TPMTPublic, string, error) {
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, "", fmt.Errorf("reading the recorded endorsement key: %w", err)
	}
	template, kind := client.EKRSA2048, ""
	switch k := public.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() == 2048 {
			kind = "RSA-2048"
		}
	case *ecdsa.PublicKey:
		switch k.Curve.Params().BitSize {
		case 256:
			template, kind = client.EKP256, "P-256"
		case 384:
			template, kind = client.EKHighP384, "P-384"
		}
	}
	if kind == "" {
		return nil, "", errors.New("the recorded endorsement key is none of RSA-2048, P-256 and P-384")
	}
	area := client.EKTemplate(template)
	key, err := client.PublicArea(public, 0)
	if err != nil {
		return nil, "", err
	}
	area.Unique = key.Unique
	return &area, kind, nil
}

// Appraise implements enroll.Appraiser.
func (v *Verifier) Appraise(ctx context.Context, vm enroll.VM, e enroll.Evidence) (enroll.Appraisal, error) {
	// 1. The AK is in the TPM with the endorsement key recorded at birth, now.
	ak, activated, ev := split(e.Items)
	key, err := attest.NewKey(ak)
	if err != nil {
		return enroll.Appraisal{}, enroll.Refusal{Code: "AK_UNFIT", Why: err.Error()}
	}
	if !hmac.Equal(activated, v.secret(vm, e.Nonce, key)) {
		return enroll.Appraisal{}, enroll.Refusal{Code: "AK_NOT_PROVED", Why: "the attestation key was not shown to be in the vTPM recorded at birth: the challenge came back wrong"}
	}
	// 2. What it must have signed.
	names, err := certifiedNames(ev)
	if err != nil {
		return enroll.Appraisal{}, enroll.Refusal{Code: "EVIDENCE_MALFORMED", Why: err.Error()}
	}
	host, err := v.Hosts.Host(ctx, vm.Tenant, vm.Host)
	if err != nil {
		return enroll.Appraisal{}, err
	}
	binding := attest.Binding{Nonce: e.Nonce, Tenant: vm.Tenant, VM: vm.Name, Purpose: admission.Purpose,
		AKName: key.Name(), Certified: names, Exporter: e.Exporter}
	exp := attest.Expected{Subject: vm.Name, Tenant: vm.Tenant, Policy: vm.Name, Key: key, Qualifying: binding.Digest(),
		Tier: attest.Tier(host.Tier), Now: v.Now(), Unlogged: []int{attest.UnlockPCR}}
	// 3. What is approved.
	refs, err := v.references(ctx, vm.Tenant, vm.Name)
	if err != nil {
		return enroll.Appraisal{}, err
	}
	// 4. The verdict.
	res := attest.Appraise(ev, exp, refs)
	a := enroll.Appraisal{Affirming: res.Status != attest.Contraindicated}
	a.Code, a.Why = gravest(res.Findings)
	if a.Result, err = res.EAR(v.Build); err != nil {
		return a, err
	}
	out := Outcome{Tenant: vm.Tenant, VM: vm.Name, At: v.Now(), Status: string(res.Status), Code: a.Code, Result: a.Result}
	if err := v.Records.SaveResult(ctx, out); err != nil {
		return a, err
	}
	if !a.Affirming {
		// A boot that is only not approved may become a golden one.
		if res.Quoted != nil && (a.Code == "REFERENCE_MISSING" || a.Code == "BOOT_DIFFERS") {
			v.boots.keep(vm.Tenant, vm.Name, ev, exp)
		}
		return a, nil
	}
	// 5. The keys that go with it.
	return v.grant(ctx, vm, res, refs, a)
}

func (v *Verifier) grant(ctx context.Context, vm enroll.VM, res *attest.Result, refs []*attest.ReferenceValues, a enroll.Appraisal) (enroll.Appraisal, error) {
	var approval attest.Approval
	for _, r := range refs {
		if r.Statement().Version == res.Reference.Version {
			approval = r.Approved()
		}
	}
	policyKey, err := v.Keys.Public(ctx, vm.Tenant)
	if err != nil {
		return a, err
	}
	if a.Unlock, err = json.Marshal(admission.Unlock{PolicyKey: policyKey, Approval: &approval}); err != nil {
		return a, err
	}
	var boot *tpm2.TPMTPublic
	for _, c := range res.Certified {
		var p tpm2.TPMTPublic
		if err := tpm2.Unmarshal(c.Public, &p); err != nil {
			return a, err
		}
		switch {
		case p.ObjectAttributes.Has(tpm2.SignEncrypt) && !p.ObjectAttributes.Has(tpm2.Restricted):
			if a.IdentityKey, err = client.PublicKey(&p); err != nil {
				return a, err
			}
		case c.Primary == tpm2.RHNull && p.ObjectAttributes.Has(tpm2.Restricted|tpm2.Decrypt):
			boot = &p
		}
	}
	if a.IdentityKey == nil {
		return a, enroll.Refusal{Code: "IDENTITY_KEY_MISSING", Why: "the evidence certifies no signing key for the identity"}
	}
	a.SealShare = func(share []byte) ([]byte, error) {
		if boot == nil {
			return nil, enroll.Refusal{Code: "SHARE_KEY_MISSING", Why: "the evidence certifies no storage key of the null hierarchy to encrypt to"}
		}
		d, err := client.WrapSecretForImport(boot, client.NewObject{Public: client.SealTemplate(tpm2.AlgSHA256, approval.ApprovedPolicy), Data: share})
		if err != nil {
			return nil, err
		}
		return json.Marshal(admission.Share{Public: tpm2.Marshal(&d.Public), Duplicate: d.Blob, Seed: d.Seed})
	}
	return a, nil
}

// split takes the two items out that say whose key signs.
func split(items []enroll.Item) (ak, activated []byte, ev attest.Evidence) {
	for _, it := range items {
		switch t := attest.ItemType(it.Type); t {
		case admission.AttestationKey:
			ak = it.Value
		case admission.ActivatedCredential:
			activated = it.Value
		default:
			ev = append(ev, attest.Item{Type: t, Data: it.Value})
		}
	}
	return ak, activated, ev
}

func certifiedNames(ev attest.Evidence) ([][]byte, error) {
	var names [][]byte
	for _, it := range ev {
		if it.Type != attest.TPMCertify {
			continue
		}
		if len(names) == attest.MaxCertified || len(it.Data) > attest.MaxQuote {
			return nil, errors.New("too many or too long certified keys")
		}
		d := tpm2.NewDecoder(it.Data)
		public := d.Buf(1024)
		if err := d.Err(); err != nil {
			return nil, fmt.Errorf("reading a certified key: %w", err)
		}
		name, err := attest.Name(public)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}

// maxNamed is how many findings a refusal names; the result has them all.
const maxNamed = 3

// gravest is the finding to name first: the first of the gravest ones.
func gravest(fs []finding.Finding) (code, why string) {
	worst, n := finding.Worst(fs), 0
	for _, f := range fs {
		if f.Severity != worst {
			continue
		}
		switch n++; {
		case n == 1:
			code, why = f.Code, f.Evidence
		case n <= maxNamed:
			why += "; " + f.Code + ": " + f.Evidence
		}
	}
	if n > maxNamed {
		why += fmt.Sprintf("; and %d more", n-maxNamed)
	}
	return code, why
}
