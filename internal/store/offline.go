package store

import (
	"context"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/enroll"
)

var _ enroll.Leaves = (*Store)(nil)

const offlineQuery = `SELECT boots, seconds, allowed, issued, issued_boots, issued_seconds FROM offline WHERE tenant = $1 AND vm = $2`

func scanOffline(r scanner) (o enroll.Offline, err error) {
	var seconds, allowed, issued, issuedSeconds int64
	err = r.Scan(&o.Boots, &seconds, &allowed, &issued, &o.IssuedBoots, &issuedSeconds)
	o.For, o.IssuedFor = time.Duration(seconds)*time.Second, time.Duration(issuedSeconds)*time.Second
	o.Allowed, o.Issued = fromMillis(allowed), fromMillis(issued)
	return o, plain(err)
}

// Offline implements enroll.Leaves.
func (s *Store) Offline(ctx context.Context, tenant, vm string) (enroll.Offline, error) {
	return scanOffline(s.read.QueryRowContext(ctx, offlineQuery, tenant, vm))
}

// UpdateOffline implements enroll.Leaves.
func (s *Store) UpdateOffline(ctx context.Context, tenant, vm string, change func(*enroll.Offline) error) (o enroll.Offline, err error) {
	err = s.write(ctx, func(t *tx) error {
		var name string
		if err := t.row(`SELECT name FROM vm WHERE tenant = $1 AND name = $2`, tenant, vm).Scan(&name); err != nil {
			return err
		}
		if o, err = scanOffline(t.row(offlineQuery, tenant, vm)); err != nil && err != ErrNotFound {
			return err
		}
		if err := change(&o); err != nil {
			return err
		}
		if _, err := t.exec(`INSERT INTO offline (tenant, vm, boots, seconds, allowed, issued, issued_boots, issued_seconds) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT (tenant, vm) DO UPDATE SET boots = excluded.boots, seconds = excluded.seconds, allowed = excluded.allowed,
				issued = excluded.issued, issued_boots = excluded.issued_boots, issued_seconds = excluded.issued_seconds`,
			tenant, vm, o.Boots, int64(o.For/time.Second), millis(o.Allowed), millis(o.Issued), o.IssuedBoots, int64(o.IssuedFor/time.Second)); err != nil {
			return err
		}
		return t.changed(tenant, "offline", vm, "saved")
	})
	return o, err
}
