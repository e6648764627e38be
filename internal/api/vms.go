package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/derive"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
)

// Host is a hypervisor.
type Host struct {
	Name             string `json:"name"`
	ID               string `json:"id"`
	Tier             string `json:"tier" enum:"unattested,tpm-attested,confidential"`
	AcceptUnattested bool   `json:"accept_unattested"`
	Created          string `json:"created"`
}

// NewHost asks for a host to be known. It proved nothing yet.
type NewHost struct {
	Name             string `json:"name" maxLength:"63"`
	AcceptUnattested bool   `json:"accept_unattested,omitempty" doc:"keys may go there although it proved nothing"`
}

func (s *server) hosts() {
	operation(s, "POST", "/v1/hosts", "add-host", "Make a host known, or change what is accepted of it", operators, func(ctx context.Context, in *body[NewHost]) (*body[Host], error) {
		if err := ca.CheckWord(in.Body.Name); err != nil {
			return nil, err
		}
		tenant := caller(ctx).Tenant
		h, err := s.Store.Host(ctx, tenant, in.Body.Name)
		if errors.Is(err, enroll.ErrNotFound) {
			h = enroll.Host{Tenant: tenant, Name: in.Body.Name, Tier: enroll.TierUnattested, Created: s.Now()}
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
		return answer(hostOut(h)), err
	})
	operation(s, "GET", "/v1/hosts", "list-hosts", "All hosts", operators, func(ctx context.Context, _ *none) (*body[[]Host], error) {
		hosts, err := s.Store.Hosts(ctx, caller(ctx).Tenant)
		out := make([]Host, 0, len(hosts))
		for _, h := range hosts {
			out = append(out, hostOut(h))
		}
		return answer(out), err
	})
}

func hostOut(h enroll.Host) Host {
	return Host{h.Name, h.ID.String(), string(h.Tier), h.AcceptedUnattested, stamp(h.Created)}
}

// VM is a VM as operators see it.
type VM struct {
	Name       string `json:"name"`
	ID         string `json:"id"`
	Host       string `json:"host"`
	State      string `json:"state" enum:"born,admitted,revoked"`
	EKDigest   string `json:"ek_digest" doc:"SHA-256 of the endorsement key's SubjectPublicKeyInfo"`
	EKSerial   string `json:"ek_certificate,omitempty"`
	Generation int64  `json:"generation"`
	Created    string `json:"created"`
	Revoked    string `json:"revoked,omitempty"`
	Reason     string `json:"reason,omitempty"`
	Checkpoint string `json:"checkpoint,omitempty" doc:"audit checkpoint over what was just done"`
}

// NewVM asks for a VM.
type NewVM struct {
	Name     string   `json:"name" maxLength:"63"`
	Host     string   `json:"host" maxLength:"63"`
	EKPublic string   `json:"ek_public" maxLength:"4096" doc:"endorsement key of its vTPM, PUBLIC KEY in PEM"`
	Endorse  bool     `json:"endorse,omitempty" doc:"issue an endorsement certificate: the vTPM is of vouchsafe's own make"`
	Disks    []string `json:"disks,omitempty" maxItems:"16" doc:"names of its disks; none: one, called root"`
}

// RevokeVM says why a VM is revoked.
type RevokeVM struct {
	Reason string `json:"reason" maxLength:"500"`
}

// AskNonce says what a nonce is for.
type AskNonce struct {
	Purpose string `json:"purpose" enum:"admit"`
}

// Nonce is to be quoted over, once.
type Nonce struct {
	Nonce   []byte `json:"nonce"`
	Seconds int    `json:"seconds" doc:"how long it is good for"`
}

// Named is a path with a VM's name.
type Named struct {
	Name string `path:"name" maxLength:"63"`
}

func (s *server) vms() {
	type create struct {
		Key string `header:"Idempotency-Key" maxLength:"200" doc:"repeat a request with its key and it is done once"`
		body[NewVM]
	}
	operation(s, "POST", "/v1/vms", "create-vm", "Make a VM known: endorsement, disk key, record", operators, func(ctx context.Context, in *create) (*body[VM], error) {
		ek, err := publicKey(in.Body.EKPublic)
		if err != nil {
			return nil, err
		}
		request, err := json.Marshal(in.Body)
		if err != nil {
			return nil, err
		}
		digest := sha256.Sum256([]byte(derive.Info("", "create-vm", caller(ctx).String(), string(request))))
		b, err := s.Enroll.Born(ctx, enroll.Birth{
			Tenant: caller(ctx).Tenant, Name: in.Body.Name, Host: in.Body.Host, EKPublic: ek, Endorse: in.Body.Endorse, Disks: in.Body.Disks,
			Actor: caller(ctx).String(), Once: enroll.Once{Key: in.Key, Digest: digest[:]},
		})
		if err != nil {
			return nil, err
		}
		out := vmOut(b.VM)
		out.Checkpoint = string(b.Checkpoint)
		return answer(out), nil
	})
	type page struct {
		After string `query:"after" maxLength:"63" doc:"the name seen last"`
		Limit int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
	}
	operation(s, "GET", "/v1/vms", "list-vms", "VMs in the order of their names", operators, func(ctx context.Context, in *page) (*body[[]VM], error) {
		vms, err := s.Store.VMs(ctx, caller(ctx).Tenant, in.After, in.Limit)
		out := make([]VM, 0, len(vms))
		for _, v := range vms {
			out = append(out, vmOut(v))
		}
		return answer(out), err
	})
	operation(s, "GET", "/v1/vms/{name}", "get-vm", "One VM", operators, func(ctx context.Context, in *Named) (*body[VM], error) {
		v, err := s.Store.VM(ctx, caller(ctx).Tenant, in.Name)
		if err != nil {
			return nil, fmt.Errorf("VM %s: %w", in.Name, err)
		}
		return answer(vmOut(v)), nil
	})
	type revoke struct {
		Named
		Body RevokeVM
	}
	operation(s, "POST", "/v1/vms/{name}/revoke", "revoke-vm", "End all trust in a VM, for good", operators, func(ctx context.Context, in *revoke) (*body[VM], error) {
		tenant := caller(ctx).Tenant
		subject, receipt, err := s.Enroll.Revoke(ctx, tenant, in.Name, in.Body.Reason, caller(ctx).String())
		if err != nil {
			return nil, err
		}
		if _, err := s.Store.RevokeSubject(ctx, tenant, subject, ca.PrivilegeWithdrawn); err != nil {
			return nil, err
		}
		v, err := s.Store.VM(ctx, tenant, in.Name)
		if err == nil && v.EKSerial != "" {
			err = s.Store.Revoke(ctx, tenant, v.EKSerial, ca.CessationOfOperation)
		}
		out := vmOut(v)
		out.Checkpoint = string(receipt.Checkpoint)
		return answer(out), err
	})
	type nonce struct {
		Named
		Body AskNonce
	}
	operation(s, "POST", "/v1/vms/{name}/nonce", "make-nonce", "A nonce to quote over, good for one use", agents, func(ctx context.Context, in *nonce) (*body[Nonce], error) {
		return answer(Nonce{s.Enroll.Nonce(caller(ctx).Tenant, in.Name, in.Body.Purpose), int(enroll.NonceLife / time.Second)}), nil
	})
}

func vmOut(v enroll.VM) VM {
	return VM{Name: v.Name, ID: v.ID.String(), Host: v.Host, State: string(v.State), EKDigest: fmt.Sprintf("%x", sha256.Sum256(v.EKPublic)), EKSerial: v.EKSerial,
		Generation: v.Generation, Created: stamp(v.Created), Revoked: stamp(v.Revoked), Reason: v.Reason}
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// publicKey reads one PUBLIC KEY from PEM, and nothing else beside it.
func publicKey(text string) ([]byte, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" || len(rest) > 0 {
		return nil, errors.New("ek_public is not one PUBLIC KEY in PEM")
	}
	if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
		return nil, fmt.Errorf("reading ek_public: %w", err)
	}
	return block.Bytes, nil
}

func keyID(s string) (keyring.ID, error) { return keyring.ParseID(s) }
