package store

import (
	"context"

	"github.com/vouchsafe/vouchsafe/internal/verifier"
)

const moduleListColumns = `tenant, vm, version, list, signature, created`

func scanModuleList(r scanner) (l verifier.ModuleList, err error) {
	var created int64
	err = r.Scan(&l.Tenant, &l.VM, &l.Version, &l.Signed.List, &l.Signed.Signature, &created)
	l.Created = fromMillis(created)
	return l, err
}

// ModuleLists implements verifier.Records: a VM's lists that were not withdrawn,
// in the order of their versions.
func (s *Store) ModuleLists(ctx context.Context, tenant, vm string) ([]verifier.ModuleList, error) {
	return list(ctx, s.read, scanModuleList, `SELECT `+moduleListColumns+` FROM module_list WHERE tenant = $1 AND vm = $2 AND withdrawn = 0 ORDER BY version`, tenant, vm)
}

// TenantModuleLists implements verifier.Records.
func (s *Store) TenantModuleLists(ctx context.Context, tenant string) ([]verifier.ModuleList, error) {
	return list(ctx, s.read, scanModuleList, `SELECT `+moduleListColumns+` FROM module_list WHERE tenant = $1 AND withdrawn = 0 ORDER BY vm, version`, tenant)
}

// SaveModuleList implements verifier.Records. A version is written once.
func (s *Store) SaveModuleList(ctx context.Context, l verifier.ModuleList) error {
	return s.write(ctx, func(t *tx) error {
		if _, err := t.exec(`INSERT INTO module_list (`+moduleListColumns+`) VALUES ($1, $2, $3, $4, $5, $6)`,
			l.Tenant, l.VM, int64(l.Version), l.Signed.List, l.Signed.Signature, millis(l.Created)); err != nil {
			return err
		}
		return t.changed(l.Tenant, "policy", l.VM, "modules-allowed")
	})
}

// WithdrawModuleList ends one version. Without the last one the VM's kernel may
// load what it likes: an empty list allows nothing.
func (s *Store) WithdrawModuleList(ctx context.Context, tenant, vm string, version uint64) error {
	return s.write(ctx, func(t *tx) error {
		n, err := t.exec(`UPDATE module_list SET withdrawn = $4 WHERE tenant = $1 AND vm = $2 AND version = $3 AND withdrawn = 0`, tenant, vm, int64(version), millis(t.now))
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrNotFound
		}
		return t.changed(tenant, "policy", vm, "modules-withdrawn")
	})
}

// LastModuleList implements verifier.Records: the highest version that ever was.
func (s *Store) LastModuleList(ctx context.Context, tenant, vm string) (last uint64, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT COALESCE(MAX(version), 0) FROM module_list WHERE tenant = $1 AND vm = $2`, tenant, vm).Scan(&last)
	return last, plain(err)
}
