package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/vouchsafe/vouchsafe/eventlog"
)

// Statement is reference values before they are signed: one set of PCR values
// that a boot may have. A VM has a policy by name; each approved set of it is a
// statement of its own, so that a new kernel is approved before the reboot and
// the old one stays good until it is withdrawn. docs/formats/reference-values.md
// has the bytes.
type Statement struct {
	Format    string           `json:"format"` // StatementFormat
	Tenant    string           `json:"tenant"`
	Policy    string           `json:"policy"`  // the name that VMs refer to
	Version   uint64           `json:"version"` // of this set within the policy, from 1, never used twice
	NotBefore time.Time        `json:"notBefore"`
	Note      string           `json:"note,omitempty"` // for people: "kernel 6.1.192-2"
	Bank      string           `json:"bank"`           // "sha256"
	PCRs      []PCRValue       `json:"pcrs"`           // ascending
	Events    []ReferenceEvent `json:"events,omitempty"`
}

// StatementFormat is the only format there is.
const StatementFormat = "vouchsafe reference values 1"

// PCRValue is the value one PCR must have.
type PCRValue struct {
	PCR   int `json:"pcr"`
	Value Hex `json:"value"`
}

// ReferenceEvent is an event of the golden boot. It decides nothing: it names
// the first difference when the PCR values differ.
type ReferenceEvent struct {
	PCR    uint32 `json:"pcr"`
	Type   string `json:"type"`
	Digest Hex    `json:"digest"`
	Text   string `json:"text,omitempty"`
}

// Hex is bytes, written in hexadecimal in JSON.
type Hex []byte

// MarshalText writes lower-case hexadecimal.
func (h Hex) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

// UnmarshalText reads what MarshalText writes, and nothing else: a signed
// statement has one form.
func (h *Hex) UnmarshalText(b []byte) error {
	v, err := hex.DecodeString(string(b))
	if err != nil || hex.EncodeToString(v) != string(b) {
		return errors.New("not lower-case hexadecimal")
	}
	*h = v
	return nil
}

// BootPCRs are the PCRs that firmware, boot loader and kernel fill before any
// program of the guest runs: 0 to 7, with GRUB or the EFI stub 8 and 9, with shim
// 14. A unified kernel image uses 11 and 12 as well, and systemd goes on extending
// 11 later: a policy for such VMs names 12, and 11 only if nothing does.
func BootPCRs() []int { return []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14} }

// NewStatement takes the values of pcrs, and the events that led to them, from
// a log: the log of a golden boot that was itself appraised, or a predicted one.
func NewStatement(tenant, policy string, version uint64, notBefore time.Time, log *eventlog.Log, bank eventlog.Alg, pcrs []int) (*Statement, error) {
	if bank == eventlog.SHA1 {
		return nil, errors.New("making reference values: SHA-1 has collisions; use the SHA-256 bank")
	}
	b, err := log.Replay(bank)
	if err != nil {
		return nil, fmt.Errorf("making reference values: %w", err)
	}
	s := &Statement{
		Format: StatementFormat, Tenant: tenant, Policy: policy, Version: version,
		NotBefore: notBefore.UTC().Truncate(time.Second), Bank: bank.String(),
	}
	pcrs = slices.Clone(pcrs)
	slices.Sort(pcrs)
	for _, pcr := range pcrs {
		if pcr < 0 || pcr > eventlog.MaxPCR {
			return nil, fmt.Errorf("making reference values: PCR %d; a PC has 0 to %d", pcr, eventlog.MaxPCR)
		}
		s.PCRs = append(s.PCRs, PCRValue{pcr, b.PCR[pcr]})
	}
	for i := range log.Events {
		e := &log.Events[i]
		if e.Extends() && slices.Contains(pcrs, int(e.PCR)) && len(s.Events) < MaxReferenceEvents {
			s.Events = append(s.Events, ReferenceEvent{e.PCR, e.Type.String(), e.Digest(bank), e.Text()})
		}
	}
	return s, s.check()
}

// check refuses statements that cannot mean anything, or mean too much.
func (s *Statement) check() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("reading reference values: "+format, args...)
	}
	bank, err := eventlog.ParseAlg(s.Bank)
	switch {
	case s.Format != StatementFormat:
		return fail("format %.64q; want %q", s.Format, StatementFormat)
	case s.Tenant == "" || s.Policy == "":
		return fail("tenant and policy must be named")
	case s.Version == 0:
		return fail("versions begin with 1")
	case err != nil || bank == eventlog.SHA1:
		return fail("bank %.16q; want sha256, sha384 or sha512", s.Bank)
	case len(s.PCRs) == 0:
		return fail("no PCR is named: every boot would fit")
	case len(s.Events) > MaxReferenceEvents:
		return fail("%d events; the limit is %d", len(s.Events), MaxReferenceEvents)
	}
	for i, p := range s.PCRs {
		if p.PCR < 0 || p.PCR > eventlog.MaxPCR || len(p.Value) != bank.Size() || i > 0 && p.PCR <= s.PCRs[i-1].PCR {
			return fail("PCR %d is out of range or order, or its value is not of %v", p.PCR, bank)
		}
	}
	return nil
}

// SignedStatement is reference values as they are stored and sent.
type SignedStatement struct {
	Statement []byte   `json:"statement"` // JSON of a Statement, kept byte for byte
	Signature []byte   `json:"signature"` // ECDSA, ASN.1, over SHA-384 of a label and the statement
	Approved  Approval `json:"approved"`  // the same set for the TPM itself
}

// statementLabel keeps a signature over a statement from being one over
// anything else, an approved policy digest for the TPM included.
const statementLabel = "vouchsafe reference values\x00"

// Sign signs the statement with the tenant's policy key, once for the service
// and once for the TPM ([Approval]). The key is ECDSA on P-256 or P-384.
func (s *Statement) Sign(key crypto.Signer, ref []byte) (*SignedStatement, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("signing reference values: %w", err)
	}
	sig, err := key.Sign(rand.Reader, statementDigest(raw), crypto.SHA384)
	if err != nil {
		return nil, fmt.Errorf("signing reference values: %w", err)
	}
	approved, err := s.approve(key, ref)
	if err != nil {
		return nil, err
	}
	return &SignedStatement{Statement: raw, Signature: sig, Approved: *approved}, nil
}

func statementDigest(raw []byte) []byte {
	h := crypto.SHA384.New()
	h.Write([]byte(statementLabel))
	h.Write(raw)
	return h.Sum(nil)
}

// ReferenceValues is a statement whose signature was verified; [Verify] is the
// only door, so that nothing unsigned can be compared with. Verify once and keep it.
type ReferenceValues struct {
	statement Statement
	bank      eventlog.Alg
	approved  Approval
}

// Statement returns what was signed.
func (r *ReferenceValues) Statement() Statement { return r.statement }

// Approved returns the approval for the TPM.
func (r *ReferenceValues) Approved() Approval { return r.approved }

// Verify checks a signed statement under the tenant's policy key.
func Verify(signed *SignedStatement, key *ecdsa.PublicKey) (*ReferenceValues, error) {
	if len(signed.Statement) > MaxStatement {
		return nil, fmt.Errorf("verifying reference values: %d bytes; the limit is %d", len(signed.Statement), MaxStatement)
	}
	if !ecdsa.VerifyASN1(key, statementDigest(signed.Statement), signed.Signature) {
		return nil, errors.New("verifying reference values: the signature is not by the tenant's policy key")
	}
	return ReadVerified(signed)
}

// ReadVerified reads a statement that [Verify] has accepted before, byte for byte
// with its signature, under the same key. That it has is the caller's word.
func ReadVerified(signed *SignedStatement) (*ReferenceValues, error) {
	d := json.NewDecoder(bytes.NewReader(signed.Statement))
	d.DisallowUnknownFields() // what we do not understand, we must not approve
	r := &ReferenceValues{approved: signed.Approved}
	if err := d.Decode(&r.statement); err != nil {
		return nil, fmt.Errorf("verifying reference values: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("verifying reference values: something follows the statement")
	}
	if err := r.statement.check(); err != nil {
		return nil, err
	}
	r.bank, _ = eventlog.ParseAlg(r.statement.Bank)
	// The approval is not signed together with the statement, and the server's share
	// is sealed as it says.
	selection, digest, err := r.statement.policyPCR()
	if err != nil || !bytes.Equal(r.approved.Selection, selection) || !bytes.Equal(r.approved.ApprovedPolicy, digest) {
		return nil, fmt.Errorf("verifying reference values: the approval beside version %d approves something else", r.statement.Version)
	}
	return r, nil
}
