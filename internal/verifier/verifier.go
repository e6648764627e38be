// Package verifier is the Verifier of RFC 9334 as the service runs it: it stands
// between enroll, which asks whether a VM may be admitted, and attest, which
// compares evidence with reference values. It adds what needs the service: the
// challenge that ties an AK to the endorsement key recorded at birth, the
// tenant's policy key, the reference values on record, and the last result.
//
// It decides nothing about admission and hands out nothing; it stores nothing
// itself. The AK is proved anew for every admission, so none is kept.
//
// Begin with [Verifier.Challenge] and [Verifier.Appraise]; policy.go approves
// boots, modules.go the kernel modules that may load.
package verifier

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/derive"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/hosting"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// Records is what the verifier reads and writes; internal/store has it.
type Records interface {
	References(ctx context.Context, tenant, subject string) ([]Reference, error)
	SaveReference(ctx context.Context, r Reference) error
	// TenantReferences are those of all VMs of a tenant.
	TenantReferences(ctx context.Context, tenant string) ([]Reference, error)
	// RotatePolicyKey writes a new version of the key and what it signed anew, as one.
	RotatePolicyKey(ctx context.Context, k keyring.Key, refs []Reference, lists []ModuleList) error
	// TenantModuleLists are those of all VMs of a tenant that were not withdrawn.
	TenantModuleLists(ctx context.Context, tenant string) ([]ModuleList, error)
	// Seals counts the admitted VMs by the version of the policy key that their
	// local share is sealed under; 0 for none, -1 for those who never told.
	Seals(ctx context.Context, tenant string) (map[int64]int, error)
	// LastVersion is the highest version that ever was, withdrawn ones included.
	LastVersion(ctx context.Context, tenant, subject string) (uint64, error)
	SaveResult(ctx context.Context, r Outcome) error

	ModuleLists(ctx context.Context, tenant, vm string) ([]ModuleList, error)
	SaveModuleList(ctx context.Context, l ModuleList) error
	LastModuleList(ctx context.Context, tenant, vm string) (uint64, error)
}

// Reference is one approved set of PCR values of a subject.
type Reference struct {
	Tenant, Subject string
	Version         uint64
	Signed          attest.SignedStatement
	KeyVersion      uint32 // of the policy key that signed it
	// Older has the approval for TPMs that still want an older version of the key.
	Older   map[uint32]attest.Approval
	Created time.Time
}

// Outcome is the last appraisal of a subject.
type Outcome struct {
	Tenant, Subject string
	At              time.Time
	Status          string // affirming, warning, contraindicated
	Code            string // the gravest finding, or ""
	Result          []byte // EAR
	Token           string // the same, signed
	Sealed          int64  // as in Records.Seals; -1 leaves what is on record
}

// Config is what a Verifier works with; all fields are needed.
type Config struct {
	Records Records
	Keys    *PolicyKeys
	Now     func() time.Time
	Build   string // of this program, for the results
	// Issuer is who the results are by, the service's trust domain, and Results
	// who signs them now.
	Issuer  string
	Results func(ctx context.Context) (enroll.Signer, error)
}

// Verifier appraises. It is safe for concurrent use.
type Verifier struct {
	Config
	mac   secret.Bytes
	boots waiting
}

var (
	_ enroll.Appraiser     = (*Verifier)(nil)
	_ enroll.HostAppraiser = (*Verifier)(nil)
)

// New makes a Verifier. Challenges of one before it are void.
func New(c Config) *Verifier { return &Verifier{Config: c, mac: secret.Random(32)} }

// subject is whose evidence it is: a VM, or a host.
type subject struct {
	tenant, name string
	kind         string // as in names of certificates
	policy       string // by which its approved boots are known
	id           string
	ek           []byte // on record
}

func subjectVM(vm enroll.VM) subject {
	return subject{vm.Tenant, vm.Name, ca.KindVM, vm.Name, vm.ID.String(), vm.EKPublic}
}

// HostPolicy is the name by which the approved boots of a host are known. No VM
// has it: their names have no slash.
func HostPolicy(host string) string { return "host/" + host }

func subjectHost(h enroll.Host) subject {
	return subject{h.Tenant, h.Name, ca.KindHost, HostPolicy(h.Name), h.ID.String(), h.EK}
}

// Challenge encrypts a secret to the endorsement key recorded at birth, for the
// given AK alone. It needs no memory: the secret is a MAC over the nonce.
func (v *Verifier) Challenge(vm enroll.VM, nonce, ak []byte) (admission.Challenge, error) {
	return v.challenge(subjectVM(vm), nonce, ak)
}

// ChallengeHost does the same for a host's TPM.
func (v *Verifier) ChallengeHost(h enroll.Host, nonce, ak []byte) (admission.Challenge, error) {
	if len(h.EK) == 0 {
		return admission.Challenge{}, enroll.Refusal{Code: "HOST_TPM_UNKNOWN", Why: "no TPM of host " + h.Name + " is on record"}
	}
	return v.challenge(subjectHost(h), nonce, ak)
}

func (v *Verifier) challenge(s subject, nonce, ak []byte) (admission.Challenge, error) {
	fail := func(err error) (admission.Challenge, error) {
		return admission.Challenge{}, fmt.Errorf("challenging %s: %w", s.policy, err)
	}
	key, err := attest.NewKey(ak)
	if err != nil {
		return fail(enroll.Refusal{Code: "AK_UNFIT", Why: err.Error()})
	}
	ek, kind, err := admission.EndorsementArea(s.ek)
	if err != nil {
		return fail(err)
	}
	c, err := client.MakeCredential(ek, key.Name(), v.secret(s, nonce, key))
	if err != nil {
		return fail(err)
	}
	return admission.Challenge{Nonce: nonce, EK: kind, Blob: c.Blob, Secret: c.Secret, Seconds: int(enroll.NonceLife / time.Second)}, nil
}

func (v *Verifier) secret(s subject, nonce []byte, ak *attest.Key) []byte {
	m := hmac.New(sha256.New, v.mac.Reveal())
	m.Write([]byte(derive.Info("", "challenge", s.tenant, s.policy, s.id, string(nonce), string(ak.Name())))) // lengths before parts
	return m.Sum(nil)
}

// Appraise implements enroll.Appraiser.
func (v *Verifier) Appraise(ctx context.Context, vm enroll.VM, e enroll.Evidence) (enroll.Appraisal, error) {
	exp := attest.Expected{Tier: attest.Tier(e.Tier), Unlogged: []int{attest.UnlockPCR}}
	if c := e.Counters; c != nil {
		exp.Counters = &attest.Counters{Reset: c.Reset, Restart: c.Restart}
	}
	binding := attest.Binding{Nonce: e.Nonce, Purpose: admission.Purpose, Exporter: e.Exporter}
	j, err := v.judge(ctx, subjectVM(vm), e.Items, binding, exp, e.Sealed)
	if err != nil {
		return enroll.Appraisal{}, err
	}
	a := enroll.Appraisal{Affirming: j.affirming, Code: j.code, Why: j.why, Result: j.ear, Token: j.token}
	if !a.Affirming {
		return a, nil
	}
	// 5. The keys that go with it.
	i := slices.IndexFunc(j.stored, func(r Reference) bool { return r.Version == j.res.Reference.Version })
	if a.Unlock, err = j.policy.unlock(&j.stored[i], j.sealed); err != nil {
		return a, err
	}
	return grant(j.res, j.stored[i].Signed.Approved, a)
}

// AppraiseHost implements enroll.HostAppraiser. What a host's system is on
// another host in turn is not asked: there is none below it that we know.
func (v *Verifier) AppraiseHost(ctx context.Context, h enroll.Host, e enroll.HostEvidence, covers []byte) (enroll.HostAppraisal, error) {
	binding := attest.Binding{Nonce: e.Nonce, Purpose: hosting.Purpose, Exporter: e.Exporter, Covers: covers}
	j, err := v.judge(ctx, subjectHost(h), e.Items, binding, attest.Expected{Tier: attest.TPMAttested}, nil)
	if err != nil {
		return enroll.HostAppraisal{}, err
	}
	a := enroll.HostAppraisal{Affirming: j.affirming, Code: j.code, Why: j.why, Result: j.ear}
	if a.Affirming {
		a.Measured = enroll.Measured{Policy: j.res.Reference.Version, PCRs: j.res.Quoted.PCRDigest, Quote: j.res.Quoted.Digest}
	}
	return a, nil
}

// judgement is what appraising came to.
type judgement struct {
	affirming bool
	code, why string
	ear       []byte
	token     string // ear, signed
	res       *attest.Result
	policy    *policyKey
	stored    []Reference // what is approved
	sealed    uint32      // the version of the policy key that a VM's local share is sealed under
}

func (v *Verifier) judge(ctx context.Context, s subject, items []enroll.Item, binding attest.Binding, exp attest.Expected, sealed [][]byte) (judgement, error) {
	var j judgement
	// 1. The AK is in the TPM with the endorsement key on record, now.
	ak, activated, ev := split(items)
	key, err := attest.NewKey(ak)
	if err != nil {
		return j, enroll.Refusal{Code: "AK_UNFIT", Why: err.Error()}
	}
	if !hmac.Equal(activated, v.secret(s, binding.Nonce, key)) {
		return j, enroll.Refusal{Code: "AK_NOT_PROVED", Why: "the attestation key was not shown to be in the TPM on record: the challenge came back wrong"}
	}
	// 2. What it must have signed.
	if binding.Certified, err = certifiedNames(ev); err != nil {
		return j, enroll.Refusal{Code: "EVIDENCE_MALFORMED", Why: err.Error()}
	}
	binding.Tenant, binding.VM, binding.AKName = s.tenant, s.name, key.Name()
	exp.Subject, exp.Tenant, exp.Policy, exp.Key, exp.Qualifying, exp.Now = s.policy, s.tenant, s.policy, key, binding.Digest(), v.Now()
	// 3. What is approved.
	var refs []*attest.ReferenceValues
	if j.policy, j.stored, refs, err = v.stored(ctx, s.tenant, s.policy); err != nil {
		return j, err
	}
	if exp.Modules, err = v.moduleLists(ctx, s.tenant, s.policy); err != nil {
		return j, err
	}
	exp.ModuleSigner = moduleSigner
	// 4. The verdict, signed.
	j.res = attest.Appraise(ev, exp, refs)
	j.affirming = j.res.Status != attest.Contraindicated
	j.code, j.why = gravest(j.res.Findings)
	if j.ear, err = j.res.EAR(v.Build, v.Issuer, ca.Name{TrustDomain: v.Issuer, Tenant: s.tenant, Kind: s.kind, Name: s.name}.String()); err != nil {
		return j, err
	}
	if j.token, err = v.signResult(ctx, j.ear); err != nil {
		return j, err
	}
	out := Outcome{Tenant: s.tenant, Subject: s.policy, At: v.Now(), Status: string(j.res.Status), Code: j.code, Result: j.ear, Token: j.token, Sealed: -1}
	if j.affirming && s.kind == ca.KindVM { // else it is a stranger's word
		if j.sealed, err = j.policy.sealedUnder(s.tenant, s.policy, sealed); err != nil {
			return j, err
		}
		out.Sealed = int64(j.sealed)
	}
	if err := v.Records.SaveResult(ctx, out); err != nil {
		return j, err
	}
	// A boot that is only not approved may become a golden one.
	if !j.affirming && j.res.Quoted != nil && (j.code == "REFERENCE_MISSING" || j.code == "BOOT_DIFFERS") {
		v.boots.keep(s.tenant, s.policy, ev, exp, j.res.Quoted.PCRDigest)
	}
	return j, nil
}

func grant(res *attest.Result, approval attest.Approval, a enroll.Appraisal) (_ enroll.Appraisal, err error) {
	var boot *tpm2.TPMTPublic
	for _, c := range res.Certified {
		var p tpm2.TPMTPublic
		if err := tpm2.Unmarshal(c.Public, &p); err != nil {
			return a, enroll.Coded("EVIDENCE_MALFORMED", err)
		}
		switch {
		case p.ObjectAttributes.Has(tpm2.SignEncrypt) && !p.ObjectAttributes.Has(tpm2.Restricted):
			if a.IdentityKey, err = client.PublicKey(&p); err != nil {
				return a, enroll.Coded("EVIDENCE_MALFORMED", err)
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
