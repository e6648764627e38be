package api

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
)

// A guest's first contact. It comes with a client certificate of kind guest,
// which the operator made for this VM's name and gave to it by fw_cfg or in the
// initramfs. That is worth nothing by itself: it may ask to be appraised as this
// one VM, and the vTPM whose endorsement key was recorded at birth must then
// prove the rest. A one-time token was not chosen: it would be a second kind of
// credential with a life of its own, lost when an answer is lost, and the EK
// already says which VM it is. The certificate bounds who can make this service
// work, names the caller in the audit log, and can be revoked. Afterwards the
// VM comes with its identity, whose key is in the vTPM.
var (
	guests   = []string{ca.KindGuest, ca.KindVM}
	admitted = []string{ca.KindVM}
)

// itself wants the caller to be the VM that the path names.
func itself(ctx context.Context, vm string) error {
	if c := caller(ctx); c.Name != vm {
		return &Problem{Status: http.StatusForbidden, Title: "Forbidden", Code: "OTHER_VM", Detail: "the certificate is of " + c.Name + ", which cannot speak for " + vm,
			Hint: "use the credential that was made for this VM"}
	}
	return nil
}

type connectionKey struct{}

// exporter is bound to the TLS connection of the request (RFC 9266): evidence
// that was made for one connection is worth nothing on another.
func exporter(ctx context.Context) ([]byte, error) {
	state, ok := ctx.Value(connectionKey{}).(*tls.ConnectionState)
	if !ok {
		return nil, errors.New("internal error: a request without a connection")
	}
	return state.ExportKeyingMaterial(attest.ExporterLabel, nil, 32)
}

func (s *server) admission() {
	type challenge struct {
		Named
		body[admission.AskChallenge]
	}
	operation(s, "POST", "/v1/vms/{name}/challenge", "challenge", "A nonce, and a challenge for the TPM that holds the AK", guests, func(ctx context.Context, in *challenge) (*body[admission.Challenge], error) {
		if err := itself(ctx, in.Name); err != nil {
			return nil, err
		}
		vm, err := s.Store.VM(ctx, caller(ctx).Tenant, in.Name)
		if err != nil {
			return nil, fmt.Errorf("VM %s: %w", in.Name, err)
		}
		c, err := s.Verifier.Challenge(vm, s.Enroll.Nonce(vm.Tenant, vm.Name, enroll.PurposeAdmit), in.Body.AK)
		return answer(c), err
	})
	type request struct {
		Named
		body[admission.Request]
	}
	operation(s, "POST", "/v1/vms/{name}/admission", "admit", "Prove a VM; get its certificate and its share of a disk key", guests, func(ctx context.Context, in *request) (*body[admission.Admitted], error) {
		if err := itself(ctx, in.Name); err != nil {
			return nil, err
		}
		return s.admit(ctx, in.Name, in.Body)
	})
	type volumeKey struct {
		Named
		Disk string `path:"disk" maxLength:"63"`
		body[admission.VolumeKey]
	}
	operation(s, "POST", "/v1/vms/{name}/disks/{disk}/volume-key", "record-volume-key", "Record the digest of a volume key, once, after formatting", admitted, func(ctx context.Context, in *volumeKey) (*none, error) {
		if err := itself(ctx, in.Name); err != nil {
			return nil, err
		}
		if len(in.Body.Digest) != sha256.Size {
			return nil, enroll.Refusal{Code: enroll.RequestInvalid, Why: fmt.Sprintf("a digest of %d bytes; want SHA-256", len(in.Body.Digest))}
		}
		who := caller(ctx)
		intent, err := s.Audit.Begin(ctx, audit.Event{Tenant: who.Tenant, Actor: who.String(), Action: "disk.formatted", Object: in.Name + "/" + in.Disk,
			Detail: map[string]string{"volume-key": fmt.Sprintf("%x", in.Body.Digest)}})
		if err != nil {
			return nil, err
		}
		if err := s.Store.RecordVolumeKey(ctx, who.Tenant, in.Name, in.Disk, in.Body.Digest); err != nil {
			intent.Failed(ctx, err)
			return nil, fmt.Errorf("recording the volume key of %s/%s: %w", in.Name, in.Disk, err)
		}
		_, err = intent.Done(ctx, nil)
		return &none{}, err
	})
}

// hostNames are those in a VM's certificate. It does not choose how it is called:
// the certificate names it alone, and without a host name when its name is none.
func hostNames(vm string) []string {
	if ca.CheckHostName(vm) != nil {
		return nil
	}
	return []string{vm}
}

func (s *server) admit(ctx context.Context, name string, r admission.Request) (*body[admission.Admitted], error) {
	ekm, err := exporter(ctx)
	if err != nil {
		return nil, err
	}
	ev := enroll.Evidence{Tenant: caller(ctx).Tenant, VM: name, Nonce: r.Nonce, Exporter: ekm, Disk: r.Disk, Sealed: r.LocalPolicies, Tickets: r.Tickets, Actor: caller(ctx).String()}
	ev.DNSNames = hostNames(name)
	for _, it := range r.Items {
		ev.Items = append(ev.Items, enroll.Item{Type: string(it.Type), Value: it.Data})
	}
	a, err := s.Enroll.Admit(ctx, ev)
	if err != nil {
		return nil, err
	}
	out := admission.Admitted{Certificate: PEM(a.Certificate) + PEM(a.Chain...), Tier: string(a.Tier), VolumeKey: a.Disk.VolumeKeyDigest,
		Result: a.Result, Token: a.Token, Checkpoint: string(a.Checkpoint)}
	if err := json.Unmarshal(a.Unlock, &out.Unlock); err != nil {
		return nil, err
	}
	if a.Offline.Boots > 0 {
		out.Offline = &admission.Offline{Boots: uint32(a.Offline.Boots), Seconds: int64(a.Offline.For / time.Second)}
	}
	if a.Share != nil {
		out.Share = new(admission.Share)
		if err := json.Unmarshal(a.Share, out.Share); err != nil {
			return nil, err
		}
	}
	return answer(out), nil
}
