package store

import (
	"context"

	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
)

// rewrapPage is how many VMs are in memory at once.
const rewrapPage = 500

// Rewrap wraps every secret of the store anew under the ring's root key, all in
// one transaction: after a crash all of it was done or nothing. It returns how
// many keys and VMs were under an older root key.
//
// Then the file is written anew: pages that SQLite freed still hold what the
// older root key opens.
func (s *Store) Rewrap(ctx context.Context, ring *keyring.Ring) (n int, err error) {
	err = s.write(ctx, func(t *tx) error {
		n = 0
		ks, err := keys(t.ctx, t.conn)
		if err != nil {
			return err
		}
		for _, k := range ks {
			k, changed, err := ring.RewrapKey(k)
			if err != nil {
				return err
			}
			if !changed {
				continue
			}
			n++
			for _, v := range k.Versions {
				if _, err := t.exec(`UPDATE key_version SET wrapped = $4 WHERE tenant = $1 AND key_id = $2 AND n = $3`, k.Tenant, k.ID.String(), v.N, v.Wrapped); err != nil {
					return err
				}
			}
		}
		hosts, err := list(t.ctx, t.conn, scanHost, `SELECT `+hostColumns+` FROM host`)
		if err != nil {
			return err
		}
		for _, h := range hosts {
			h, changed, err := enroll.RewrapHost(ring, h)
			if err != nil {
				return err
			}
			if !changed {
				continue
			}
			n++
			if _, err := t.exec(`UPDATE host SET ek_bond = $3 WHERE tenant = $1 AND name = $2`, h.Tenant, h.Name, h.EKBond); err != nil {
				return err
			}
		}
		for tenant, name := "", ""; ; {
			vms, err := list(t.ctx, t.conn, scanVM, `SELECT `+vmColumns+` FROM vm WHERE (tenant, name) > ($1, $2) ORDER BY tenant, name LIMIT $3`, tenant, name, rewrapPage)
			if err != nil {
				return err
			}
			for _, v := range vms {
				tenant, name = v.Tenant, v.Name
				changed, err := t.rewrapVM(ring, v)
				if err != nil {
					return err
				}
				if changed {
					n++
				}
			}
			if len(vms) < rewrapPage {
				return nil
			}
		}
	})
	if err != nil {
		return 0, err
	}
	return n, s.compact(ctx)
}

func (t *tx) rewrapVM(ring *keyring.Ring, v enroll.VM) (bool, error) {
	disks, err := list(t.ctx, t.conn, scanDisk, `SELECT `+diskColumns+` FROM disk WHERE tenant = $1 AND vm = $2 ORDER BY name`, v.Tenant, v.Name)
	if err != nil {
		return false, err
	}
	v, disks, changed, err := enroll.RewrapSecrets(ring, v, disks)
	if err != nil || !changed {
		return false, err
	}
	if _, err := t.exec(`UPDATE vm SET state_secret = $3 WHERE tenant = $1 AND name = $2`, v.Tenant, v.Name, v.StateSecret); err != nil {
		return false, err
	}
	for _, d := range disks {
		if _, err := t.exec(`UPDATE disk SET share = $4 WHERE tenant = $1 AND vm = $2 AND name = $3`, d.Tenant, d.VM, d.Name, d.Share); err != nil {
			return false, err
		}
	}
	return true, nil
}

// compact writes the file anew without its free pages, and empties the log that
// SQLite writes ahead.
func (s *Store) compact(ctx context.Context) error {
	conn, err := s.reading.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, q := range []string{`PRAGMA query_only = 0`, `VACUUM`, `PRAGMA wal_checkpoint(TRUNCATE)`, `PRAGMA query_only = 1`} {
		if _, err := conn.ExecContext(ctx, q); err != nil {
			return plain(err)
		}
	}
	return nil
}
