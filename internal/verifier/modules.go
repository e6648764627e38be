package verifier

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/modsig"
)

// ModuleList is one allow-list of kernel modules of a VM.
type ModuleList struct {
	Tenant, VM string
	Version    uint64
	Signed     attest.SignedModuleList
	Created    time.Time
}

// AllowModules puts a list of modules in force for a VM, beside those that are
// already. The caller fills what the list says; the rest is filled in here.
func (v *Verifier) AllowModules(ctx context.Context, tenant, vm string, l attest.ModuleList) (attest.ModuleList, error) {
	fail := func(err error) (attest.ModuleList, error) {
		return l, fmt.Errorf("allowing modules for %s: %w", vm, err)
	}
	last, err := v.Records.LastModuleList(ctx, tenant, vm)
	if err != nil {
		return fail(err)
	}
	l.Format, l.Tenant, l.Policy, l.Version = attest.ModuleListFormat, tenant, vm, last+1
	l.NotBefore = v.Now().UTC().Truncate(time.Second)
	if current, err := v.moduleLists(ctx, tenant, vm); err != nil {
		return fail(err)
	} else if len(current) >= attest.MaxModuleLists {
		return fail(enroll.Refusal{Code: "MODULE_LISTS_TOO_MANY", Why: fmt.Sprintf("%d lists are in force; withdraw those of kernels that are gone", len(current))})
	}
	v.Keys.approving.RLock()
	defer v.Keys.approving.RUnlock()
	key, err := v.Keys.get(ctx, tenant)
	if err != nil {
		return fail(err)
	}
	signed, err := l.Sign(key.primary())
	if err != nil {
		return fail(enroll.Coded(enroll.RequestInvalid, err))
	}
	if err := v.Records.SaveModuleList(ctx, ModuleList{tenant, vm, l.Version, *signed, v.Now()}); err != nil {
		return fail(err)
	}
	return l, nil
}

// Modules are the lists in force for a VM, in the order of their versions.
func (v *Verifier) Modules(ctx context.Context, tenant, vm string) ([]attest.ModuleList, error) {
	lists, err := v.moduleLists(ctx, tenant, vm)
	var out []attest.ModuleList
	for _, l := range lists {
		out = append(out, l.List())
	}
	return out, err
}

// moduleLists reads the lists and verifies each: what the database says counts
// only under the tenant's policy key.
func (v *Verifier) moduleLists(ctx context.Context, tenant, vm string) ([]*attest.AllowedModules, error) {
	v.Keys.approving.RLock() // not between a rotation and what it signs
	defer v.Keys.approving.RUnlock()
	stored, err := v.Records.ModuleLists(ctx, tenant, vm)
	if err != nil || len(stored) == 0 {
		return nil, err
	}
	key, err := v.Keys.get(ctx, tenant)
	if err != nil {
		return nil, err
	}
	var out []*attest.AllowedModules
	for i := range stored {
		l, err := attest.VerifyModules(&stored[i].Signed, key.primary().Public().(*ecdsa.PublicKey))
		if err != nil {
			return nil, enroll.Coded("RECORD_CHANGED", fmt.Errorf("version %d of the module lists of %s: %w", stored[i].Version, vm, err))
		}
		out = append(out, l)
	}
	return out, nil
}

// resignModules signs the lists of a tenant with the next version of its policy key.
func (v *Verifier) resignModules(ctx context.Context, tenant string, old, next *policyKey) ([]ModuleList, error) {
	lists, err := v.Records.TenantModuleLists(ctx, tenant)
	for i := range lists {
		known, err := attest.VerifyModules(&lists[i].Signed, old.primary().Public().(*ecdsa.PublicKey))
		if err != nil {
			return nil, fmt.Errorf("version %d of the module lists of %s: %w", lists[i].Version, lists[i].VM, err)
		}
		l := known.List()
		signed, err := l.Sign(next.primary())
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(signed.List, lists[i].Signed.List) {
			return nil, fmt.Errorf("version %d of the module lists of %s is not written as this program writes it", lists[i].Version, lists[i].VM)
		}
		lists[i].Signed = *signed
	}
	return lists, err
}

// moduleSigner implements attest.ModuleSigner with the signature that IMA's
// template ima-modsig brings.
func moduleSigner(cms []byte, alg string, digest []byte, certs []*x509.Certificate) (*x509.Certificate, error) {
	m, err := modsig.ParseCMS(cms)
	if err != nil {
		return nil, fmt.Errorf("reading its signature: %w", err)
	}
	if c := m.SignedBy(modsig.HashByName(alg), digest, certs); c != nil {
		return c, nil
	}
	return nil, errors.New("signed by " + m.SignerNames())
}
