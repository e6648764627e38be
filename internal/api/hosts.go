package api

import (
	"context"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/hosting"
)

// Host is a hypervisor.
type Host struct {
	Name             string `json:"name"`
	ID               string `json:"id"`
	Tier             string `json:"tier" enum:"unattested,tpm-attested,confidential" doc:"what it has proved within the last minutes"`
	AcceptUnattested bool   `json:"accept_unattested"`
	HasTPM           bool   `json:"has_tpm" doc:"its TPM is on record; what it is worth is then what it proves"`
	Created          string `json:"created"`
	Revoked          string `json:"revoked,omitempty" doc:"when trust in it was ended"`
	Reason           string `json:"reason,omitempty"`
}

// HostChange says why trust in a host is ended, or begun anew.
type HostChange struct {
	Reason string `json:"reason" maxLength:"500"`
}

// RevokedHost is what went with the trust in a host.
type RevokedHost struct {
	Host
	VMs          []string `json:"vms" doc:"those that belong on it: nothing is given to them until the host is reinstated"`
	Certificates int      `json:"certificates" doc:"how many of it and of them were revoked"`
	Checkpoint   string   `json:"checkpoint" doc:"audit checkpoint over it"`
}

// HostTPM is the TPM by which a host proves itself.
type HostTPM struct {
	EKPublic string `json:"ek_public" maxLength:"4096" doc:"endorsement key, PUBLIC KEY in PEM"`
	Trust    string `json:"trust,omitempty" maxLength:"300" doc:"for the record: why this key is believed to be that host's"`
}

// NewHost asks for a host to be known. It proved nothing yet.
type NewHost struct {
	Name             string `json:"name" maxLength:"63"`
	AcceptUnattested bool   `json:"accept_unattested,omitempty" doc:"keys may go there although it proved nothing"`
}

func (s *server) hosts() {
	operation(s, "POST", "/v1/hosts", "add-host", "Make a host known, or change what is accepted of it", operators, func(ctx context.Context, in *body[NewHost]) (*body[Host], error) {
		if err := enroll.Coded(enroll.NameInvalid, ca.CheckWord(in.Body.Name)); err != nil {
			return nil, err
		}
		tenant := caller(ctx).Tenant
		h, err := s.Store.Host(ctx, tenant, in.Body.Name)
		if errors.Is(err, enroll.ErrNotFound) {
			h = enroll.Host{Tenant: tenant, Name: in.Body.Name, Created: s.Now()}
			rand.Read(h.ID[:])
		} else if err != nil {
			return nil, err
		}
		h.AcceptedUnattested = in.Body.AcceptUnattested
		intent, err := s.Audit.Begin(ctx, audit.Event{Tenant: tenant, Actor: caller(ctx).String(), Action: "host.saved", Object: h.Name,
			Detail: map[string]string{"accept-unattested": fmt.Sprint(h.AcceptedUnattested)}})
		if err != nil {
			return nil, err
		}
		if err := s.Store.SaveHost(ctx, h); err != nil {
			intent.Failed(ctx, err)
			return nil, err
		}
		_, err = intent.Done(ctx, nil)
		return answer(s.hostOut(h)), err
	})
	operation(s, "GET", "/v1/hosts", "list-hosts", "All hosts", operators, func(ctx context.Context, _ *none) (*body[[]Host], error) {
		hosts, err := s.Store.Hosts(ctx, caller(ctx).Tenant)
		out := make([]Host, 0, len(hosts))
		for _, h := range hosts {
			out = append(out, s.hostOut(h))
		}
		return answer(out), err
	})
	type change struct {
		Named
		Body HostChange
	}
	operation(s, "POST", "/v1/hosts/{name}/revoke", "revoke-host", "End all trust in a host: its credential, its leases, its word for its VMs", operators, func(ctx context.Context, in *change) (*body[RevokedHost], error) {
		gone, receipt, err := s.Enroll.RevokeHost(ctx, caller(ctx).Tenant, in.Name, in.Body.Reason, caller(ctx).String())
		if err != nil {
			return nil, err
		}
		h, err := s.Store.Host(ctx, caller(ctx).Tenant, in.Name)
		return answer(RevokedHost{s.hostOut(h), append([]string{}, gone.VMs...), gone.Certificates, string(receipt.Checkpoint)}), err
	})
	operation(s, "POST", "/v1/hosts/{name}/reinstate", "reinstate-host", "Begin anew with a revoked host: nothing of before counts", operators, func(ctx context.Context, in *change) (*body[Host], error) {
		h, _, err := s.Enroll.ReinstateHost(ctx, caller(ctx).Tenant, in.Name, in.Body.Reason, caller(ctx).String())
		return answer(s.hostOut(h)), err
	})
	type enrolling struct {
		Named
		Body HostTPM
	}
	operation(s, "POST", "/v1/hosts/{name}/tpm", "enroll-host-tpm", "Record the TPM by which a host proves itself", operators, func(ctx context.Context, in *enrolling) (*body[Host], error) {
		ek, err := publicKey(in.Body.EKPublic)
		if err != nil {
			return nil, err
		}
		h, err := s.Enroll.EnrollTPM(ctx, caller(ctx).Tenant, in.Name, ek, in.Body.Trust, caller(ctx).String())
		return answer(s.hostOut(h)), err
	})
	operation(s, "GET", "/v1/hosts/{name}", "get-host", "One host", agents, func(ctx context.Context, in *Named) (*body[Host], error) {
		h, err := s.host(ctx, in.Name)
		return answer(s.hostOut(h)), err
	})
	type challenge struct {
		Named
		body[admission.AskChallenge]
	}
	operation(s, "POST", "/v1/hosts/{name}/challenge", "challenge-host", "A nonce, and a challenge for the host's TPM", hosts, func(ctx context.Context, in *challenge) (*body[admission.Challenge], error) {
		h, err := s.host(ctx, in.Name)
		if err != nil {
			return nil, err
		}
		c, err := s.Verifier.ChallengeHost(h, s.Enroll.Nonce(h.Tenant, h.Name, enroll.PurposeHost), in.Body.AK)
		return answer(c), err
	})
	type evidence struct {
		Named
		body[hosting.Evidence]
	}
	operation(s, "POST", "/v1/hosts/{name}/evidence", "attest-host", "Prove a host, and which vTPMs it carries", hosts, func(ctx context.Context, in *evidence) (*body[hosting.Attested], error) {
		if err := sameHost(ctx, in.Name); err != nil {
			return nil, err
		}
		ekm, err := exporter(ctx)
		if err != nil {
			return nil, err
		}
		ev := enroll.HostEvidence{Tenant: caller(ctx).Tenant, Host: in.Name, Nonce: in.Body.Nonce, Exporter: ekm, Carried: in.Body.Carried, Actor: caller(ctx).String()}
		for _, it := range in.Body.Items {
			ev.Items = append(ev.Items, enroll.Item{Type: string(it.Type), Value: it.Data})
		}
		st, err := s.Enroll.AttestHost(ctx, ev)
		return answer(hosting.Attested{Tier: string(st.Tier), Seconds: int(st.For / time.Second), Pass: st.Pass, Result: st.Result}), err
	})
	operation(s, "GET", "/v1/hosts/{name}/work", "get-work", "What a host has to do", hosts, func(ctx context.Context, in *Named) (*body[hosting.Work], error) {
		h, err := s.host(ctx, in.Name)
		if err != nil {
			return nil, err
		}
		orders, err := s.Store.Orders(ctx, h.Tenant, h.Name)
		if err != nil {
			return nil, err
		}
		vms, err := s.Store.VMsOn(ctx, h.Tenant, h.Name)
		w := hosting.Work{Orders: []hosting.Order{}, VTPMs: []hosting.VTPM{}}
		for _, o := range orders {
			w.Orders = append(w.Orders, hosting.Order{VM: o.VM})
		}
		for _, v := range vms {
			w.VTPMs = append(w.VTPMs, hosting.VTPM{VM: v.Name, Generation: v.Generation, Revoked: v.State == enroll.StateRevoked})
		}
		return answer(w), err
	})
	type writes struct {
		Named
		Body hosting.Writes
	}
	operation(s, "POST", "/v1/hosts/{name}/writes", "tell-writes", "Say how often the states in use were written", hosts, func(ctx context.Context, in *writes) (*none, error) {
		h, err := s.host(ctx, in.Name)
		if err != nil {
			return nil, err
		}
		return &none{}, s.Enroll.Written(ctx, h.Tenant, h.Name, in.Body.States)
	})
	type birth struct {
		Named
		body[hosting.Birth]
	}
	operation(s, "POST", "/v1/vms/{name}/birth", "fulfil-order", "The vTPM that was ordered is made", hosts, func(ctx context.Context, in *birth) (*body[hosting.Born], error) {
		ek, err := publicKey(in.Body.EKPublic)
		if err != nil {
			return nil, err
		}
		b, err := s.Enroll.Fulfil(ctx, caller(ctx).Tenant, caller(ctx).Name, in.Name, ek, caller(ctx).String())
		if err != nil {
			return nil, err
		}
		out := hosting.Born{ID: b.VM.ID.String()}
		if b.VM.EKSerial != "" {
			_, der, err := s.Store.Certificate(ctx, b.VM.EKSerial)
			if err != nil {
				return nil, err
			}
			out.EKCertificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		}
		return answer(out), nil
	})
}

// sameHost wants the caller to be the host that it speaks of, or an operator.
func sameHost(ctx context.Context, host string) error {
	if c := caller(ctx); c.Kind == ca.KindAgent && c.Name != host {
		return &Problem{Status: http.StatusForbidden, Title: "Forbidden", Code: "OTHER_HOST", Detail: "the certificate is of host " + c.Name + ", which cannot speak for " + host,
			Hint: "use the credential that was made for this host"}
	}
	return nil
}

// host is the one that the path names, if the caller may speak for it.
func (s *server) host(ctx context.Context, name string) (enroll.Host, error) {
	if err := sameHost(ctx, name); err != nil {
		return enroll.Host{}, err
	}
	h, err := s.Store.Host(ctx, caller(ctx).Tenant, name)
	if err != nil {
		return h, fmt.Errorf("host %s: %w", name, err)
	}
	if caller(ctx).Kind == ca.KindAgent { // whatever its certificate says
		return h, h.WasRevoked()
	}
	return h, nil
}

func (s *server) hostOut(h enroll.Host) Host {
	return Host{h.Name, h.ID.String(), string(s.Enroll.Tier(h)), h.AcceptedUnattested, len(h.EK) > 0, stamp(h.Created), stamp(h.Revoked), h.Reason}
}
