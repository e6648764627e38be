package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/vouchsafe/vouchsafe/internal/verifier"
)

var (
	_ verifier.Records  = (*Store)(nil)
	_ verifier.KeyStore = (*Store)(nil)
)

// References implements verifier.Records: the approved sets of a subject that were
// not withdrawn, in the order of their versions.
func (s *Store) References(ctx context.Context, tenant, subject string) ([]verifier.Reference, error) {
	return list(ctx, s.reading, func(r scanner) (ref verifier.Reference, err error) {
		var approval []byte
		var created int64
		if err = r.Scan(&ref.Tenant, &ref.Subject, &ref.Version, &ref.Signed.Statement, &ref.Signed.Signature, &approval, &created); err != nil {
			return ref, err
		}
		ref.Created = fromMillis(created)
		if err := json.Unmarshal(approval, &ref.Signed.Approved); err != nil {
			return ref, fmt.Errorf("reading the approval of version %d of %s: %w", ref.Version, ref.Subject, err)
		}
		return ref, nil
	}, `SELECT tenant, subject, version, statement, signature, approval, created FROM reference WHERE tenant = $1 AND subject = $2 AND withdrawn = 0 ORDER BY version`, tenant, subject)
}

// SaveReference implements verifier.Records. A version is written once.
func (s *Store) SaveReference(ctx context.Context, ref verifier.Reference) error {
	approval, err := json.Marshal(ref.Signed.Approved)
	if err != nil {
		return err
	}
	return s.write(ctx, func(t *tx) error {
		if _, err := t.exec(`INSERT INTO reference (tenant, subject, version, statement, signature, approval, created) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			ref.Tenant, ref.Subject, int64(ref.Version), ref.Signed.Statement, ref.Signed.Signature, approval, millis(ref.Created)); err != nil {
			return err
		}
		return t.changed(ref.Tenant, "policy", ref.Subject, "approved")
	})
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
	err = s.reading.QueryRowContext(ctx, `SELECT COALESCE(MAX(version), 0) FROM reference WHERE tenant = $1 AND subject = $2`, tenant, subject).Scan(&last)
	return last, plain(err)
}

// SaveResult implements verifier.Records: the newest replaces the one before.
func (s *Store) SaveResult(ctx context.Context, o verifier.Outcome) error {
	return s.write(ctx, func(t *tx) error {
		if _, err := t.exec(`INSERT INTO appraisal (tenant, subject, at, status, code, result) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (tenant, subject) DO UPDATE SET at = excluded.at, status = excluded.status, code = excluded.code, result = excluded.result`,
			o.Tenant, o.Subject, millis(o.At), o.Status, o.Code, o.Result); err != nil {
			return err
		}
		return t.changed(o.Tenant, "appraisal", o.Subject, o.Status)
	})
}

// Result reads the last appraisal of a subject.
func (s *Store) Result(ctx context.Context, tenant, subject string) (verifier.Outcome, error) {
	o := verifier.Outcome{Tenant: tenant, Subject: subject}
	var at int64
	err := s.reading.QueryRowContext(ctx, `SELECT at, status, code, result FROM appraisal WHERE tenant = $1 AND subject = $2`, tenant, subject).Scan(&at, &o.Status, &o.Code, &o.Result)
	o.At = fromMillis(at)
	return o, plain(err)
}
