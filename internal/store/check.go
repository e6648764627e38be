package store

import (
	"context"
	"database/sql"
	"fmt"
	"os"
)

// Change is one line of the change feed.
type Change struct {
	Tenant       string
	Rev          int64
	Kind, ID, Op string
}

// Changes lists what changed for a tenant after a revision, in the order of commits.
func (s *Store) Changes(ctx context.Context, tenant string, after int64, limit int) ([]Change, error) {
	return list(ctx, s.read, func(r scanner) (c Change, err error) {
		err = r.Scan(&c.Tenant, &c.Rev, &c.Kind, &c.ID, &c.Op)
		return c, err
	}, `SELECT tenant, rev, kind, id, op FROM change WHERE tenant = $1 AND rev > $2 ORDER BY rev LIMIT $3`, tenant, after, limit)
}

// Check examines the store from inside: pages, indexes, references, and that
// the revision stands where the changes end. It returns complaints.
func (s *Store) Check(ctx context.Context) ([]string, error) {
	text := func(r scanner) (string, error) {
		var line string
		return line, r.Scan(&line)
	}
	lines, err := list(ctx, s.read, text, `PRAGMA integrity_check(20)`)
	if err != nil {
		return nil, fmt.Errorf("checking the store: %w", err)
	}
	var bad []string
	for _, l := range lines {
		if l != "ok" {
			bad = append(bad, l)
		}
	}
	refs, err := list(ctx, s.read, func(r scanner) (string, error) {
		var table, parent string
		var row sql.NullInt64
		var fk int
		err := r.Scan(&table, &row, &parent, &fk)
		return fmt.Sprintf("row %d of %s points to nothing in %s", row.Int64, table, parent), err
	}, `PRAGMA foreign_key_check`)
	if err != nil {
		return nil, fmt.Errorf("checking the store: %w", err)
	}
	bad = append(bad, refs...)
	for _, q := range []struct{ what, query string }{
		{"the revision is not the newest change's", `SELECT COUNT(*) FROM revision WHERE tenant = '' AND rev <> (SELECT COALESCE(MAX(rev), 0) FROM change)`},
		{"keys whose primary version is missing", `SELECT COUNT(*) FROM key k WHERE NOT EXISTS (SELECT 1 FROM key_version v WHERE v.tenant = k.tenant AND v.key_id = k.id AND v.n = k.primary_version)`},
		{"certificates issued whose bytes are missing", `SELECT COUNT(*) FROM certificate c WHERE c.state = 'issued' AND NOT EXISTS (SELECT 1 FROM certificate_der d WHERE d.serial = c.serial)`},
		{"bytes of certificates that are not on record", `SELECT COUNT(*) FROM certificate_der d WHERE NOT EXISTS (SELECT 1 FROM certificate c WHERE c.serial = d.serial)`},
		{"VMs whose endorsement certificate is not on record", `SELECT COUNT(*) FROM vm v WHERE v.ek_serial <> '' AND NOT EXISTS (SELECT 1 FROM certificate c WHERE c.serial = v.ek_serial)`},
	} {
		var n int
		if err := s.read.QueryRowContext(ctx, q.query).Scan(&n); err != nil {
			return nil, fmt.Errorf("checking the store: %w", err)
		}
		if n > 0 {
			bad = append(bad, fmt.Sprintf("%s (%d)", q.what, n))
		}
	}
	return bad, nil
}

// UnfinishedRevocations lists revoked VMs, by tenant and name, that still have a
// good certificate: the service stopped between the two.
func (s *Store) UnfinishedRevocations(ctx context.Context) ([][2]string, error) {
	return list(ctx, s.read, func(r scanner) (vm [2]string, err error) {
		err = r.Scan(&vm[0], &vm[1])
		return vm, err
	}, `SELECT v.tenant, v.name FROM vm v WHERE v.state = 'revoked' AND EXISTS (
			SELECT 1 FROM certificate c WHERE c.tenant = v.tenant AND c.state = 'issued' AND c.not_after > $1
			AND (c.serial = v.ek_serial OR c.profile = 'vm-identity' AND c.subject GLOB 'spiffe://*/' || v.tenant || '/vm/' || v.name))
		ORDER BY v.tenant, v.name`, millis(s.now()))
}

// UnfinishedHostRevocations lists revoked hosts, by tenant and name, that still have a
// good certificate, or VMs that have one by them. They are revoked in one
// transaction: somebody wrote past it.
func (s *Store) UnfinishedHostRevocations(ctx context.Context) ([][2]string, error) {
	return list(ctx, s.read, func(r scanner) (host [2]string, err error) {
		err = r.Scan(&host[0], &host[1])
		return host, err
	}, `SELECT h.tenant, h.name FROM host h WHERE h.revoked > 0 AND EXISTS (
			SELECT 1 FROM certificate c WHERE c.tenant = h.tenant AND c.state = 'issued' AND c.not_after > $1 AND (
				c.profile = 'agent' AND c.subject GLOB 'spiffe://*/' || h.tenant || '/agent/' || h.name
				OR c.profile = 'vm-identity' AND EXISTS (SELECT 1 FROM vm v WHERE v.tenant = h.tenant AND v.host = h.name AND c.subject GLOB 'spiffe://*/' || v.tenant || '/vm/' || v.name)))
		ORDER BY h.tenant, h.name`, millis(s.now()))
}

// Snapshot writes a consistent copy of the store into a new file, while
// writers go on.
func (s *Store) Snapshot(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", dsn(s.path))
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, `VACUUM INTO $1`, path); err != nil {
		return fmt.Errorf("copying the store: %w", plain(err))
	}
	return os.Chmod(path, 0o600)
}

// SchemaVersion returns the version of the schema.
func (s *Store) SchemaVersion(ctx context.Context) (int, error) { return schemaVersion(ctx, s.reading) }
