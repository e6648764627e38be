package api

import (
	"context"
	"fmt"

	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/audit"
)

// AllowedModules is a list of kernel modules that a VM may load.
type AllowedModules struct {
	Note       string                 `json:"note,omitempty" maxLength:"200" doc:"for people: which kernel they are of"`
	Modules    []attest.AllowedModule `json:"modules" maxItems:"8192"`
	Signers    [][]byte               `json:"signers,omitempty" maxItems:"16" doc:"certificates in DER whose modules may load; needs the IMA template ima-modsig"`
	OtherFiles bool                   `json:"other_files,omitempty" doc:"the guest measures other files as well: only names that end as a module's count"`
}

// ModuleList is such a list in force.
type ModuleList struct {
	Version   uint64 `json:"version"`
	NotBefore string `json:"not_before"`
	AllowedModules
}

func (s *server) modules() {
	type allowing struct {
		Named
		body[AllowedModules]
	}
	operation(s, "POST", "/v1/vms/{name}/policy/modules", "allow-modules", "Put a list of allowed kernel modules in force", operators, func(ctx context.Context, in *allowing) (*body[ModuleList], error) {
		who := caller(ctx)
		if _, err := s.Store.VM(ctx, who.Tenant, in.Name); err != nil {
			return nil, fmt.Errorf("VM %s: %w", in.Name, err)
		}
		intent, err := s.Audit.Begin(ctx, audit.Event{Tenant: who.Tenant, Actor: who.String(), Action: "modules.allowed", Object: in.Name,
			Detail: map[string]string{"modules": fmt.Sprint(len(in.Body.Modules)), "signers": fmt.Sprint(len(in.Body.Signers))}})
		if err != nil {
			return nil, err
		}
		l, err := s.Verifier.AllowModules(ctx, who.Tenant, in.Name, attest.ModuleList{Note: in.Body.Note, Modules: in.Body.Modules, Signers: in.Body.Signers, OtherFiles: in.Body.OtherFiles})
		if err != nil {
			intent.Failed(ctx, err)
			return nil, err
		}
		_, err = intent.Done(ctx, map[string]string{"version": fmt.Sprint(l.Version)})
		return answer(moduleListOut(l)), err
	})
	operation(s, "GET", "/v1/vms/{name}/policy/modules", "get-modules", "The lists of allowed kernel modules in force", operators, func(ctx context.Context, in *Named) (*body[[]ModuleList], error) {
		tenant := caller(ctx).Tenant
		if _, err := s.Store.VM(ctx, tenant, in.Name); err != nil {
			return nil, fmt.Errorf("VM %s: %w", in.Name, err)
		}
		lists, err := s.Verifier.Modules(ctx, tenant, in.Name)
		out := make([]ModuleList, 0, len(lists))
		for _, l := range lists {
			out = append(out, moduleListOut(l))
		}
		return answer(out), err
	})
	operation(s, "DELETE", "/v1/vms/{name}/policy/modules/{version}", "withdraw-modules", "Withdraw one list; without the last one all modules may load", operators, func(ctx context.Context, in *VersionPath) (*none, error) {
		who := caller(ctx)
		intent, err := s.Audit.Begin(ctx, audit.Event{Tenant: who.Tenant, Actor: who.String(), Action: "modules.withdrawn", Object: in.Name, Detail: map[string]string{"version": fmt.Sprint(in.Version)}})
		if err != nil {
			return nil, err
		}
		if err := s.Store.WithdrawModuleList(ctx, who.Tenant, in.Name, in.Version); err != nil {
			intent.Failed(ctx, err)
			return nil, fmt.Errorf("withdrawing version %d of the module lists of %s: %w", in.Version, in.Name, err)
		}
		_, err = intent.Done(ctx, nil)
		return &none{}, err
	})
}

func moduleListOut(l attest.ModuleList) ModuleList {
	return ModuleList{l.Version, stamp(l.NotBefore), AllowedModules{l.Note, l.Modules, l.Signers, l.OtherFiles}}
}
