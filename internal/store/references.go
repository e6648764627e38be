package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
	"github.com/vouchsafe/vouchsafe/internal/verifier"
)

var (
	_ verifier.Records  = (*Store)(nil)
	_ verifier.KeyStore = (*Store)(nil)
)

const referenceColumns = `tenant, subject, version, statement, signature, approval, key_version, created`

func scanReference(r scanner) (ref verifier.Reference, err error) {
	var approval []byte
	var created int64
	if err = r.Scan(&ref.Tenant, &ref.Subject, &ref.Version, &ref.Signed.Statement, &ref.Signed.Signature, &approval, &ref.KeyVersion, &created); err != nil {
		return ref, err
	}
	ref.Created = fromMillis(created)
	if err := json.Unmarshal(approval, &ref.Signed.Approved); err != nil {
		return ref, fmt.Errorf("reading the approval of version %d of %s: %w", ref.Version, ref.Subject, err)
	}
	return ref, nil
}

// References implements verifier.Records: the approved sets of a subject that were
// not withdrawn, in the order of their versions.
func (s *Store) References(ctx context.Context, tenant, subject string) ([]verifier.Reference, error) {
	refs, err := list(ctx, s.read, scanReference, `SELECT `+referenceColumns+` FROM reference WHERE tenant = $1 AND subject = $2 AND withdrawn = 0 ORDER BY version`, tenant, subject)
	if err != nil || len(refs) == 0 {
		return refs, err
	}
	type older struct {
		version  uint64
		key      uint32
		approval []byte
	}
	olds, err := list(ctx, s.read, func(r scanner) (o older, err error) {
		return o, r.Scan(&o.version, &o.key, &o.approval)
	}, `SELECT version, key_version, approval FROM approval WHERE tenant = $1 AND subject = $2`, tenant, subject)
	if err != nil {
		return nil, err
	}
	for _, o := range olds {
		for i := range refs {
			if refs[i].Version != o.version {
				continue
			}
			var a attest.Approval
			if err := json.Unmarshal(o.approval, &a); err != nil {
				return nil, fmt.Errorf("reading the approval of version %d of %s: %w", o.version, subject, err)
			}
			if refs[i].Older == nil {
				refs[i].Older = map[uint32]attest.Approval{}
			}
			refs[i].Older[o.key] = a
		}
	}
	return refs, nil
}

// TenantReferences are the approved sets of all subjects of a tenant, without what
// is there for older versions of the policy key.
func (s *Store) TenantReferences(ctx context.Context, tenant string) ([]verifier.Reference, error) {
	return list(ctx, s.read, scanReference, `SELECT `+referenceColumns+` FROM reference WHERE tenant = $1 AND withdrawn = 0 ORDER BY subject, version`, tenant)
}

// SaveReference implements verifier.Records. A version is written once.
func (s *Store) SaveReference(ctx context.Context, ref verifier.Reference) error {
	approval, err := json.Marshal(ref.Signed.Approved)
	if err != nil {
		return err
	}
	return s.write(ctx, func(t *tx) error {
		if _, err := t.exec(`INSERT INTO reference (`+referenceColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			ref.Tenant, ref.Subject, int64(ref.Version), ref.Signed.Statement, ref.Signed.Signature, approval, ref.KeyVersion, millis(ref.Created)); err != nil {
			return err
		}
		for key, a := range ref.Older {
			if err := t.saveApproval(ref, key, a); err != nil {
				return err
			}
		}
		return t.changed(ref.Tenant, "policy", ref.Subject, "approved")
	})
}

func (t *tx) saveApproval(ref verifier.Reference, key uint32, a attest.Approval) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO approval (tenant, subject, version, key_version, approval) VALUES ($1, $2, $3, $4, $5)`, ref.Tenant, ref.Subject, int64(ref.Version), key, text)
	return err
}

// RotatePolicyKey implements verifier.Records: the key and everything that it
// signed, in one transaction.
func (s *Store) RotatePolicyKey(ctx context.Context, k keyring.Key, refs []verifier.Reference, lists []verifier.ModuleList) error {
	return s.write(ctx, func(t *tx) error {
		if err := t.saveKey(k); err != nil {
			return err
		}
		for _, ref := range refs {
			approval, err := json.Marshal(ref.Signed.Approved)
			if err != nil {
				return err
			}
			if _, err := t.exec(`INSERT INTO approval (tenant, subject, version, key_version, approval)
				SELECT tenant, subject, version, key_version, approval FROM reference WHERE tenant = $1 AND subject = $2 AND version = $3`, ref.Tenant, ref.Subject, int64(ref.Version)); err != nil {
				return err
			}
			if _, err := t.exec(`UPDATE reference SET signature = $4, approval = $5, key_version = $6 WHERE tenant = $1 AND subject = $2 AND version = $3`,
				ref.Tenant, ref.Subject, int64(ref.Version), ref.Signed.Signature, approval, ref.KeyVersion); err != nil {
				return err
			}
		}
		for _, l := range lists {
			if _, err := t.exec(`UPDATE module_list SET signature = $4 WHERE tenant = $1 AND vm = $2 AND version = $3`, l.Tenant, l.VM, int64(l.Version), l.Signed.Signature); err != nil {
				return err
			}
		}
		_, err := t.exec(`DELETE FROM approval WHERE tenant = $1 AND key_version < $2`, k.Tenant, k.Versions[0].N)
		return err
	})
}

// Seals implements verifier.Records: how many VMs have their local share sealed
// under each version of the policy key. -1 are those who never told.
func (s *Store) Seals(ctx context.Context, tenant string) (map[int64]int, error) {
	out := map[int64]int{}
	_, err := list(ctx, s.read, func(r scanner) (struct{}, error) {
		var version int64
		var n int
		err := r.Scan(&version, &n)
		out[version] = n
		return struct{}{}, err
	}, `SELECT COALESCE(a.seal_version, -1), COUNT(*) FROM vm v LEFT JOIN appraisal a ON a.tenant = v.tenant AND a.subject = v.name
		WHERE v.tenant = $1 AND v.state = 'admitted' GROUP BY 1`, tenant)
	return out, err
}

// WithdrawReference ends the approval of one version. The newest may be
// withdrawn as well: the subject then stays out.
func (s *Store) WithdrawReference(ctx context.Context, tenant, subject string, version uint64) error {
	return s.write(ctx, func(t *tx) error {
		n, err := t.exec(`UPDATE reference SET withdrawn = $4 WHERE tenant = $1 AND subject = $2 AND version = $3 AND withdrawn = 0`, tenant, subject, int64(version), millis(t.now))
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrNotFound
		}
		return t.changed(tenant, "policy", subject, "withdrawn")
	})
}

// LastVersion is the highest version of a subject's reference values that ever was.
func (s *Store) LastVersion(ctx context.Context, tenant, subject string) (last uint64, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT COALESCE(MAX(version), 0) FROM reference WHERE tenant = $1 AND subject = $2`, tenant, subject).Scan(&last)
	return last, plain(err)
}

// SaveResult implements verifier.Records: the newest replaces the one before.
func (s *Store) SaveResult(ctx context.Context, o verifier.Outcome) error {
	return s.write(ctx, func(t *tx) error {
		if _, err := t.exec(`INSERT INTO appraisal (tenant, subject, at, status, code, result, token, seal_version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT (tenant, subject) DO UPDATE SET at = excluded.at, status = excluded.status, code = excluded.code, result = excluded.result, token = excluded.token,
				seal_version = CASE WHEN excluded.seal_version < 0 THEN seal_version ELSE excluded.seal_version END`,
			o.Tenant, o.Subject, millis(o.At), o.Status, o.Code, o.Result, o.Token, o.Sealed); err != nil {
			return err
		}
		return t.changed(o.Tenant, "appraisal", o.Subject, o.Status)
	})
}

// Result reads the last appraisal of a subject.
func (s *Store) Result(ctx context.Context, tenant, subject string) (verifier.Outcome, error) {
	o := verifier.Outcome{Tenant: tenant, Subject: subject}
	var at int64
	err := s.read.QueryRowContext(ctx, `SELECT at, status, code, result, token, seal_version FROM appraisal WHERE tenant = $1 AND subject = $2`, tenant, subject).Scan(&at, &o.Status, &o.Code, &o.Result, &o.Token, &o.Sealed)
	o.At = fromMillis(at)
	return o, plain(err)
}
