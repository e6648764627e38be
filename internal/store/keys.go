package store

import (
	"context"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/keyring"
)

// SaveKey writes a key as it is now: new, rotated or rolled back. Versions that
// it no longer has are gone for good.
func (s *Store) SaveKey(ctx context.Context, k keyring.Key) error {
	return s.write(ctx, func(t *tx) error { return t.saveKey(k) })
}

func (t *tx) saveKey(k keyring.Key) error {
	id := k.ID.String()
	_, err := t.exec(`INSERT INTO key (tenant, id, name, class, every, primary_version, last_version, since)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (tenant, id) DO UPDATE SET every = excluded.every, primary_version = excluded.primary_version,
			last_version = excluded.last_version, since = excluded.since`,
		k.Tenant, id, k.Name, string(k.Class), int64(k.Policy.Every/time.Second), k.Primary, k.Last, millis(k.Since))
	if err != nil {
		return err
	}
	oldest := k.Last + 1
	for _, v := range k.Versions {
		oldest = min(oldest, v.N)
		if _, err := t.exec(`INSERT INTO key_version (tenant, key_id, n, created, wrapped) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (tenant, key_id, n) DO NOTHING`, k.Tenant, id, v.N, millis(v.Created), v.Wrapped); err != nil {
			return err
		}
	}
	if _, err := t.exec(`DELETE FROM key_version WHERE tenant = $1 AND key_id = $2 AND n < $3`, k.Tenant, id, oldest); err != nil {
		return err
	}
	return t.changed(k.Tenant, "key", id, "saved")
}

const keyColumns = `tenant, id, name, class, every, primary_version, last_version, since`

// Key reads a key by its name.
func (s *Store) Key(ctx context.Context, tenant, name string) (keyring.Key, error) {
	return s.key(ctx, s.read.QueryRowContext(ctx, `SELECT `+keyColumns+` FROM key WHERE tenant = $1 AND name = $2`, tenant, name))
}

// KeyByID reads a key by its id.
func (s *Store) KeyByID(ctx context.Context, tenant string, id keyring.ID) (keyring.Key, error) {
	return s.key(ctx, s.read.QueryRowContext(ctx, `SELECT `+keyColumns+` FROM key WHERE tenant = $1 AND id = $2`, tenant, id.String()))
}

// Keys reads all keys of all tenants, for checking them.
func (s *Store) Keys(ctx context.Context) ([]keyring.Key, error) { return keys(ctx, s.read) }

func keys(ctx context.Context, db querier) ([]keyring.Key, error) {
	ks, err := list(ctx, db, scanKey, `SELECT `+keyColumns+` FROM key ORDER BY tenant, name`)
	for i := range ks {
		if err == nil {
			ks[i], err = versions(ctx, db, ks[i])
		}
	}
	return ks, err
}

func (s *Store) key(ctx context.Context, row scanner) (keyring.Key, error) {
	k, err := scanKey(row)
	if err != nil {
		return k, plain(err)
	}
	return versions(ctx, s.read, k)
}

func versions(ctx context.Context, db querier, k keyring.Key) (keyring.Key, error) {
	var err error
	k.Versions, err = list(ctx, db, func(r scanner) (v keyring.Version, err error) {
		var created int64
		err = r.Scan(&v.N, &created, &v.Wrapped)
		v.Created = fromMillis(created)
		return v, err
	}, `SELECT n, created, wrapped FROM key_version WHERE tenant = $1 AND key_id = $2 ORDER BY n`, k.Tenant, k.ID.String())
	return k, err
}

func scanKey(r scanner) (k keyring.Key, err error) {
	var id, class string
	var every, since int64
	if err = r.Scan(&k.Tenant, &id, &k.Name, &class, &every, &k.Primary, &k.Last, &since); err != nil {
		return k, err
	}
	k.Class, k.Policy.Every, k.Since = keyring.Class(class), time.Duration(every)*time.Second, fromMillis(since)
	k.ID, err = keyring.ParseID(id)
	return k, err
}

// CountSecrets counts what the root key wraps beside keys.
func (s *Store) CountSecrets(ctx context.Context) (vms, disks int, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM vm), (SELECT COUNT(*) FROM disk)`).Scan(&vms, &disks)
	return vms, disks, err
}
