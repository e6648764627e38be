package store

import (
	"context"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/ca"
)

// What the store does not keep for ever. VMs stay, also revoked ones, and so do
// approvals that were withdrawn; the audit log is another place, and keeps all.

// Limits of what is remembered, and why.
const (
	// idempotencyAge is how long a repeated request is recognised.
	idempotencyAge = 7 * 24 * time.Hour
	// maxChanges: each renewal of a lease is a change. A thousand VMs fill these in a
	// day, with 100 MB; without a limit they would fill the disk.
	maxChanges = 1 << 20
	// forgetAtOnce: other writers wait for so many.
	forgetAtOnce = 10_000
	// certificatesAtOnce: the same; each stands in five places of its own, so that
	// in a large store 50 are 200 pages to write.
	certificatesAtOnce = 50
	// sweepStep is how far, in the time of their ends, one sweep may go beyond the one
	// before it. A clock that is years ahead for a night must not take away what is
	// good again in the morning.
	sweepStep = 6 * time.Hour
)

// Forget drops idempotency keys that are too old to come back, and the oldest changes.
func (s *Store) Forget(ctx context.Context) error {
	err := s.write(ctx, func(t *tx) error {
		_, err := t.exec(`DELETE FROM idempotency WHERE created < $1`, millis(t.now.Add(-idempotencyAge)))
		return err
	})
	if err != nil {
		return err
	}
	return s.forgetChanges(ctx, maxChanges)
}

// forgetChanges keeps so many of the newest ones. Revisions have no gaps.
func (s *Store) forgetChanges(ctx context.Context, keep int64) error {
	for n := int64(1); n > 0; {
		err := s.write(ctx, func(t *tx) (err error) {
			n, err = t.exec(`DELETE FROM change WHERE rev <= (SELECT rev - $1 FROM revision WHERE tenant = '') AND rev < (SELECT MIN(rev) + $2 FROM change)`, keep, int64(forgetAtOnce))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ended are the certificates that may be forgotten: an endorsement certificate
// lasts as long as its VM's record.
const ended = ` FROM certificate WHERE not_after < $1 AND purpose <> '` + string(ca.VTPMEK) + `'`

// Ended counts the certificates that a sweep would forget now, of those that ended
// before a time, and says how far it would go. The time must leave those on record
// that a CRL still names: [ca.CRLLifetime] beyond their end.
func (s *Store) Ended(ctx context.Context, before time.Time) (until time.Time, n int, err error) {
	var last int64
	err = s.read.QueryRowContext(ctx, `SELECT until FROM forgotten WHERE tenant = ''`).Scan(&last)
	if plain(err) == ErrNotFound { // the first sweep begins at the oldest
		err = s.read.QueryRowContext(ctx, `SELECT COALESCE(MIN(not_after), $1)`+ended, millis(before)).Scan(&last)
	}
	if err != nil {
		return until, 0, plain(err)
	}
	until = before
	if most := fromMillis(last).Add(sweepStep); until.After(most) {
		until = most
	}
	err = s.read.QueryRowContext(ctx, `SELECT COUNT(*)`+ended, millis(until)).Scan(&n)
	return until, n, plain(err)
}

// ForgetEnded removes the certificates that ended before a time that Ended named,
// a few in each transaction. Cut off, the next sweep goes on.
func (s *Store) ForgetEnded(ctx context.Context, until time.Time) (n int64, err error) {
	const oldest = ` WHERE serial IN (SELECT serial` + ended + ` ORDER BY not_after, serial LIMIT $2)`
	for gone := int64(certificatesAtOnce); gone == certificatesAtOnce; n += gone {
		err := s.write(ctx, func(t *tx) error {
			if _, err := t.exec(`DELETE FROM certificate_der`+oldest, millis(until), certificatesAtOnce); err != nil {
				return err
			}
			some, err := t.exec(`DELETE FROM certificate`+oldest, millis(until), certificatesAtOnce)
			if gone = some; err != nil || gone == certificatesAtOnce {
				return err
			}
			_, err = t.exec(`INSERT INTO forgotten (tenant, until) VALUES ('', $1) ON CONFLICT (tenant) DO UPDATE SET until = excluded.until`, millis(until))
			return err
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
