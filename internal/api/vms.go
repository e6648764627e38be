package api

import (
	"context"
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

// VM is a VM as operators see it.
type VM struct {
	Name       string `json:"name"`
	ID         string `json:"id"`
	Host       string `json:"host"`
	State      string `json:"state" enum:"ordered,born,admitted,revoked"`
	EKDigest   string `json:"ek_digest,omitempty" doc:"SHA-256 of the endorsement key's SubjectPublicKeyInfo"`
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
	EKPublic string   `json:"ek_public,omitempty" maxLength:"4096" doc:"endorsement key of its vTPM, PUBLIC KEY in PEM; none: the host makes the vTPM"`
	Endorse  bool     `json:"endorse,omitempty" doc:"issue an endorsement certificate: the vTPM is of vouchsafe's own make. Always so when the host makes it"`
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
		request, err := json.Marshal(in.Body)
		if err != nil {
			return nil, err
		}
		digest := sha256.Sum256([]byte(derive.Info("", "create-vm", caller(ctx).String(), string(request))))
		birth := enroll.Birth{Tenant: caller(ctx).Tenant, Name: in.Body.Name, Host: in.Body.Host, Endorse: in.Body.Endorse, Disks: in.Body.Disks,
			Actor: caller(ctx).String(), Once: enroll.Once{Key: in.Key, Digest: digest[:]}}
		if in.Body.EKPublic == "" {
			birth.Endorse = true
			o, err := s.Enroll.Order(ctx, birth)
			return answer(orderOut(o)), err
		}
		if birth.EKPublic, err = publicKey(in.Body.EKPublic); err != nil {
			return nil, err
		}
		b, err := s.Enroll.Born(ctx, birth)
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
		if in.After == "" && err == nil { // what is only ordered comes first, with the first page
			var orders []enroll.Order
			orders, err = s.Store.Orders(ctx, caller(ctx).Tenant, "")
			for _, o := range orders {
				out = append(out, orderOut(o))
			}
		}
		for _, v := range vms {
			out = append(out, vmOut(v))
		}
		return answer(out), err
	})
	operation(s, "GET", "/v1/vms/{name}", "get-vm", "One VM", operators, func(ctx context.Context, in *Named) (*body[VM], error) {
		v, err := s.Store.VM(ctx, caller(ctx).Tenant, in.Name)
		if errors.Is(err, enroll.ErrNotFound) {
			if o, err := s.Store.Order(ctx, caller(ctx).Tenant, in.Name); err == nil {
				return answer(orderOut(o)), nil
			}
		}
		if err != nil {
			return nil, fmt.Errorf("VM %s: %w", in.Name, err)
		}
		return answer(vmOut(v)), nil
	})
	operation(s, "DELETE", "/v1/vms/{name}/order", "drop-order", "Drop the order of a VM whose vTPM was not made yet", operators, func(ctx context.Context, in *Named) (*none, error) {
		who := caller(ctx)
		intent, err := s.Audit.Begin(ctx, audit.Event{Tenant: who.Tenant, Actor: who.String(), Action: "vm.order-dropped", Object: in.Name})
		if err != nil {
			return nil, err
		}
		if err := s.Store.DropOrder(ctx, who.Tenant, in.Name); err != nil {
			intent.Failed(ctx, err)
			return nil, fmt.Errorf("the order of %s: %w", in.Name, err)
		}
		_, err = intent.Done(ctx, nil)
		return &none{}, err
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

func orderOut(o enroll.Order) VM {
	return VM{Name: o.VM, Host: o.Host, State: string(enroll.StateOrdered), Created: stamp(o.Created)}
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
		return nil, enroll.Refusal{Code: enroll.KeyUnfit, Why: "ek_public is not one PUBLIC KEY in PEM"}
	}
	if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
		return nil, enroll.Coded(enroll.KeyUnfit, fmt.Errorf("reading ek_public: %w", err))
	}
	return block.Bytes, nil
}

func keyID(s string) (keyring.ID, error) {
	id, err := keyring.ParseID(s)
	return id, enroll.Coded(enroll.RequestInvalid, err)
}
