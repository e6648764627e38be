package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/vouchsafe/vouchsafe/eventlog"
	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/verifier"
)

// Policy is one set of reference values.
type Policy struct {
	Version   uint64                  `json:"version"`
	NotBefore string                  `json:"not_before"`
	Note      string                  `json:"note,omitempty"`
	Bank      string                  `json:"bank"`
	PCRs      map[string]string       `json:"pcrs" doc:"value by number"`
	Events    []attest.ReferenceEvent `json:"events,omitempty" doc:"of the boot that it was taken from"`
	Changes   []string                `json:"changes,omitempty" doc:"against the newest set before it"`
	Warnings  []finding.Finding       `json:"warnings,omitempty" doc:"what this boot does not measure"`
	Approved  bool                    `json:"approved"`
}

// EnrollPolicy approves the boot that waits.
type EnrollPolicy struct {
	Note string `json:"note,omitempty" maxLength:"200" doc:"for people: what this boot is"`
	// PCRDigest is of the boot that was looked at.
	PCRDigest string `json:"pcr_digest,omitempty" pattern:"^([0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})?$" doc:"approve this boot and no other: hex, quoted.pcrDigest of the result"`
}

// ProposePolicy is what another kernel, initrd and command line measure.
type ProposePolicy struct {
	Note        string           `json:"note,omitempty" maxLength:"200"`
	Kernel      []MeasuredDigest `json:"kernel" maxItems:"8"`
	CommandLine []MeasuredDigest `json:"command_line" maxItems:"8"`
	Initrd      []MeasuredDigest `json:"initrd,omitempty" maxItems:"8"`
	Approve     bool             `json:"approve,omitempty" doc:"false: only say what would change"`
}

// MeasuredDigest is a digest of one bank.
type MeasuredDigest struct {
	Alg    string `json:"alg" maxLength:"16" doc:"sha256, …"`
	Digest []byte `json:"digest" maxLength:"64"`
}

// Attestation is the last appraisal of a VM.
type Attestation struct {
	At     string          `json:"at"`
	Status string          `json:"status" enum:"affirming,warning,contraindicated"`
	Code   string          `json:"code,omitempty" doc:"the gravest finding"`
	Result json.RawMessage `json:"result" doc:"in the shape of EAR"`
	Token  string          `json:"token,omitempty" doc:"the same, signed: an EAT (JWT, ES384)"`
}

// VersionPath is a path with a version of a VM's policy.
type VersionPath struct {
	Named
	Version uint64 `path:"version" minimum:"1"`
}

// policies are of VMs and of hosts alike.
func (s *server) policies() {
	vm := func(ctx context.Context, name string) (string, error) {
		_, err := s.Store.VM(ctx, caller(ctx).Tenant, name)
		return name, err
	}
	host := func(ctx context.Context, name string) (string, error) {
		_, err := s.Store.Host(ctx, caller(ctx).Tenant, name)
		return verifier.HostPolicy(name), err
	}
	s.policiesOf("VM", "/v1/vms/{name}", "", vm)
	s.policiesOf("host", "/v1/hosts/{name}", "host-", host)
}

// policiesOf registers them for one kind; subject finds whose policy it is.
func (s *server) policiesOf(kind, path, id string, subject func(ctx context.Context, name string) (string, error)) {
	named := func(ctx context.Context, name string) (string, error) {
		of, err := subject(ctx, name)
		if err != nil {
			return "", fmt.Errorf("%s %s: %w", kind, name, err)
		}
		return of, nil
	}
	type enrolling struct {
		Named
		body[EnrollPolicy]
	}
	operation(s, "POST", path+"/policy/enroll", "enroll-"+id+"policy", "Approve the boot that it last showed", operators, func(ctx context.Context, in *enrolling) (*body[Policy], error) {
		of, err := named(ctx, in.Name)
		if err != nil {
			return nil, err
		}
		digest, err := hex.DecodeString(in.Body.PCRDigest)
		if err != nil {
			return nil, enroll.Coded(enroll.RequestInvalid, fmt.Errorf("reading pcr_digest: %w", err))
		}
		return s.approving(ctx, of, func() (verifier.Approved, error) {
			return s.Verifier.Enroll(ctx, caller(ctx).Tenant, of, in.Body.Note, digest)
		})
	})
	type proposing struct {
		Named
		body[ProposePolicy]
	}
	operation(s, "POST", path+"/policy/propose", "propose-"+id+"policy", "Compute the next boot's values, and approve them before the reboot", operators, func(ctx context.Context, in *proposing) (*body[Policy], error) {
		of, err := named(ctx, in.Name)
		if err != nil {
			return nil, err
		}
		m := new(eventlog.Measured)
		for _, part := range []struct {
			to   *[]eventlog.Digest
			from []MeasuredDigest
		}{{&m.Kernel, in.Body.Kernel}, {&m.CommandLine, in.Body.CommandLine}, {&m.Initrd, in.Body.Initrd}} {
			for _, d := range part.from {
				alg, err := eventlog.ParseAlg(d.Alg)
				if err != nil || len(d.Digest) != alg.Size() {
					return nil, enroll.Refusal{Code: enroll.RequestInvalid, Why: fmt.Sprintf("a digest of %d bytes in bank %.16q", len(d.Digest), d.Alg)}
				}
				*part.to = append(*part.to, eventlog.Digest{Alg: alg, Sum: d.Digest})
			}
		}
		propose := func() (verifier.Approved, error) {
			return s.Verifier.Propose(ctx, caller(ctx).Tenant, of, in.Body.Note, m, in.Body.Approve)
		}
		if !in.Body.Approve {
			a, err := propose()
			return answer(policyOut(a)), err
		}
		return s.approving(ctx, of, propose)
	})
	operation(s, "GET", path+"/policy", "get-"+id+"policy", "The approved boots", operators, func(ctx context.Context, in *Named) (*body[[]Policy], error) {
		tenant := caller(ctx).Tenant
		of, err := named(ctx, in.Name)
		if err != nil {
			return nil, err
		}
		statements, err := s.Verifier.Statements(ctx, tenant, of)
		out := make([]Policy, 0, len(statements))
		for _, st := range statements {
			out = append(out, policyOut(verifier.Approved{Statement: st, Saved: true}))
		}
		return answer(out), err
	})
	operation(s, "DELETE", path+"/policy/{version}", "withdraw-"+id+"policy", "Withdraw one approved boot", operators, func(ctx context.Context, in *VersionPath) (*none, error) {
		of, err := named(ctx, in.Name)
		if err != nil {
			return nil, err
		}
		who := caller(ctx)
		intent, err := s.Audit.Begin(ctx, audit.Event{Tenant: who.Tenant, Actor: who.String(), Action: "policy.withdrawn", Object: of, Detail: map[string]string{"version": fmt.Sprint(in.Version)}})
		if err != nil {
			return nil, err
		}
		if err := s.Store.WithdrawReference(ctx, who.Tenant, of, in.Version); err != nil {
			intent.Failed(ctx, err)
			return nil, fmt.Errorf("withdrawing version %d of the policy of %s: %w", in.Version, of, err)
		}
		_, err = intent.Done(ctx, nil)
		return &none{}, err
	})
	operation(s, "GET", path+"/attestation", "get-"+id+"attestation", "The last appraisal", operators, func(ctx context.Context, in *Named) (*body[Attestation], error) {
		of, err := named(ctx, in.Name)
		if err != nil {
			return nil, err
		}
		o, err := s.Store.Result(ctx, caller(ctx).Tenant, of)
		if err != nil {
			return nil, fmt.Errorf("the last appraisal of %s: %w", in.Name, err)
		}
		return answer(Attestation{stamp(o.At), o.Status, o.Code, o.Result, o.Token}), nil
	})
}

// approving records what do approves.
func (s *server) approving(ctx context.Context, subject string, do func() (verifier.Approved, error)) (*body[Policy], error) {
	who := caller(ctx)
	intent, err := s.Audit.Begin(ctx, audit.Event{Tenant: who.Tenant, Actor: who.String(), Action: "policy.approved", Object: subject})
	if err != nil {
		return nil, err
	}
	a, err := do()
	if err != nil {
		intent.Failed(ctx, err)
		return nil, err
	}
	_, err = intent.Done(ctx, map[string]string{"version": fmt.Sprint(a.Statement.Version)})
	return answer(policyOut(a)), err
}

func policyOut(a verifier.Approved) Policy {
	st := a.Statement
	p := Policy{Version: st.Version, NotBefore: stamp(st.NotBefore), Note: st.Note, Bank: st.Bank, PCRs: map[string]string{}, Events: st.Events,
		Changes: a.Changes, Warnings: a.Warnings, Approved: a.Saved}
	for _, v := range st.PCRs {
		p.PCRs[fmt.Sprint(v.PCR)] = fmt.Sprintf("%x", []byte(v.Value))
	}
	return p
}
