package store

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/hosting"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
)

var (
	_ enroll.Records = (*Store)(nil)
	_ enroll.Disks   = (*Store)(nil)
	_ enroll.Repeats = (*Store)(nil)
	_ enroll.Orders  = (*Store)(nil)
)

const vmColumns = `tenant, name, id, host, state, ek_public, ek_serial, state_secret, generation, pending, resets, writes, created, revoked, reason`

func scanVM(r scanner) (v enroll.VM, err error) {
	var id string
	var created, revoked int64
	if err = r.Scan(&v.Tenant, &v.Name, &id, &v.Host, &v.State, &v.EKPublic, &v.EKSerial, &v.StateSecret, &v.Generation, &v.Pending, &v.Resets, &v.Writes, &created, &revoked, &v.Reason); err != nil {
		return v, err
	}
	v.Created, v.Revoked = fromMillis(created), fromMillis(revoked)
	v.ID, err = keyring.ParseID(id)
	return v, err
}

// Birth implements enroll.Records.
func (s *Store) Birth(ctx context.Context, v enroll.VM, disks []enroll.Disk, once enroll.Once) error {
	return s.write(ctx, func(t *tx) error {
		if err := t.once(v.Tenant, once, v.Name); err != nil {
			return err
		}
		var other string
		if err := plain(t.row(`SELECT name FROM vm WHERE ek_public = $1`, notNil(v.EKPublic)).Scan(&other)); err == nil {
			return enroll.Refusal{Code: "EK_KNOWN", Why: "a VM with this endorsement key is on record already"}
		} else if err != ErrNotFound {
			return err
		}
		if _, err := t.exec(`INSERT INTO vm (`+vmColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
			v.Tenant, v.Name, v.ID.String(), v.Host, string(v.State), notNil(v.EKPublic), v.EKSerial, notNil(v.StateSecret), v.Generation, v.Pending, v.Resets, v.Writes, millis(v.Created), millis(v.Revoked), v.Reason); err != nil {
			return err
		}
		for _, d := range disks {
			if _, err := t.exec(`INSERT INTO disk (tenant, vm, name, share, volume_key_digest, created) VALUES ($1, $2, $3, $4, x'', $5)`,
				v.Tenant, v.Name, d.Name, d.Share, millis(d.Created)); err != nil {
				return err
			}
		}
		if _, err := t.exec(`DELETE FROM vm_order WHERE tenant = $1 AND vm = $2`, v.Tenant, v.Name); err != nil {
			return err
		}
		return t.changed(v.Tenant, "vm", v.Name, "born")
	})
}

// VM implements enroll.Records.
func (s *Store) VM(ctx context.Context, tenant, name string) (enroll.VM, error) {
	v, err := scanVM(s.read.QueryRowContext(ctx, `SELECT `+vmColumns+` FROM vm WHERE tenant = $1 AND name = $2`, tenant, name))
	return v, plain(err)
}

// Standing implements enroll.Records: both at one moment.
func (s *Store) Standing(ctx context.Context, tenant, name string) (st enroll.Standing, err error) {
	r, err := s.reading.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return st, plain(err)
	}
	defer r.Rollback()
	if st.VM, err = scanVM(r.QueryRowContext(ctx, `SELECT `+vmColumns+` FROM vm WHERE tenant = $1 AND name = $2`, tenant, name)); err != nil {
		return st, plain(err)
	}
	l, err := scanLease(r.QueryRowContext(ctx, `SELECT `+leaseColumns+` FROM lease WHERE tenant = $1 AND vm = $2`, tenant, name))
	if plain(err) == ErrNotFound {
		return st, nil
	}
	st.Lease = &l
	return st, plain(err)
}

// VMByEK reads the VM of an endorsement key, whichever tenant's it is.
func (s *Store) VMByEK(ctx context.Context, ekPublic []byte) (enroll.VM, error) {
	v, err := scanVM(s.read.QueryRowContext(ctx, `SELECT `+vmColumns+` FROM vm WHERE ek_public = $1`, ekPublic))
	return v, plain(err)
}

// HasEKOfLength says whether any VM has an endorsement key of so many bytes.
func (s *Store) HasEKOfLength(ctx context.Context, n int) (some bool, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM vm WHERE length(ek_public) = $1)`, n).Scan(&some)
	return some, err
}

// VMs lists a tenant's VMs behind a name, in the order of names.
func (s *Store) VMs(ctx context.Context, tenant, after string, limit int) ([]enroll.VM, error) {
	return list(ctx, s.read, scanVM, `SELECT `+vmColumns+` FROM vm WHERE tenant = $1 AND name > $2 ORDER BY name LIMIT $3`, tenant, after, limit)
}

// AllVMs calls see with every VM of every tenant.
func (s *Store) AllVMs(ctx context.Context, see func(enroll.VM) error) error {
	rows, err := s.read.QueryContext(ctx, `SELECT `+vmColumns+` FROM vm ORDER BY tenant, name`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		v, err := scanVM(rows)
		if err == nil {
			err = see(v)
		}
		if err != nil {
			return err
		}
	}
	return rows.Err()
}

// UpdateVM implements enroll.Records.
func (s *Store) UpdateVM(ctx context.Context, tenant, name string, change func(*enroll.Standing) error) error {
	return s.write(ctx, func(t *tx) error {
		v, err := scanVM(t.row(`SELECT `+vmColumns+` FROM vm WHERE tenant = $1 AND name = $2`, tenant, name))
		if err != nil {
			return err
		}
		st := enroll.Standing{VM: v}
		l, err := scanLease(t.row(`SELECT `+leaseColumns+` FROM lease WHERE tenant = $1 AND vm = $2`, tenant, name))
		if err == nil {
			st.Lease = &l
		} else if plain(err) != ErrNotFound {
			return err
		}
		if err := change(&st); err != nil {
			return err
		}
		n := st.VM
		if n.Tenant != v.Tenant || n.Name != v.Name || n.ID != v.ID || !bytes.Equal(n.EKPublic, v.EKPublic) {
			return fmt.Errorf("internal error: %s changed who it is", v.Name)
		}
		if _, err := t.exec(`UPDATE vm SET host = $3, state = $4, ek_serial = $5, generation = $6, pending = $7, revoked = $8, reason = $9, resets = $10, writes = $11 WHERE tenant = $1 AND name = $2`,
			tenant, name, n.Host, string(n.State), n.EKSerial, n.Generation, n.Pending, millis(n.Revoked), n.Reason, n.Resets, n.Writes); err != nil {
			return err
		}
		if st.Lease == nil {
			if _, err := t.exec(`DELETE FROM lease WHERE tenant = $1 AND vm = $2`, tenant, name); err != nil {
				return err
			}
		} else if l := *st.Lease; true {
			if _, err := t.exec(`INSERT INTO lease (`+leaseColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7)
				ON CONFLICT (tenant, vm) DO UPDATE SET id = excluded.id, host = excluded.host, generation = excluded.generation,
					issued = excluded.issued, expires = excluded.expires`,
				tenant, name, l.ID.String(), l.Host, l.Generation, millis(l.Issued), millis(l.Expires)); err != nil {
				return err
			}
		}
		return t.changed(tenant, "vm", name, "updated")
	})
}

// Written implements enroll.Records. It is no line in the change feed: with every
// second in which a guest writes there would be one.
func (s *Store) Written(ctx context.Context, tenant, host string, states []hosting.Written) error {
	return s.write(ctx, func(t *tx) error {
		for _, w := range states {
			if _, err := t.exec(`UPDATE vm SET writes = $5 WHERE tenant = $1 AND name = $3 AND writes < $5
				AND EXISTS (SELECT 1 FROM lease WHERE tenant = $1 AND vm = $3 AND host = $2 AND id = $4)`,
				tenant, host, w.VM, w.Lease, w.Writes); err != nil {
				return err
			}
		}
		return nil
	})
}

const leaseColumns = `tenant, vm, id, host, generation, issued, expires`

func scanLease(r scanner) (l enroll.Lease, err error) {
	var id string
	var issued, expires int64
	if err = r.Scan(&l.Tenant, &l.VM, &id, &l.Host, &l.Generation, &issued, &expires); err != nil {
		return l, err
	}
	l.Issued, l.Expires = fromMillis(issued), fromMillis(expires)
	l.ID, err = keyring.ParseID(id)
	return l, err
}

const diskColumns = `tenant, vm, name, share, volume_key_digest, created`

func scanDisk(r scanner) (d enroll.Disk, err error) {
	var created int64
	err = r.Scan(&d.Tenant, &d.VM, &d.Name, &d.Share, &d.VolumeKeyDigest, &created)
	d.Created = fromMillis(created)
	return d, err
}

// Disk implements enroll.Disks.
func (s *Store) Disk(ctx context.Context, tenant, vm, name string) (enroll.Disk, error) {
	d, err := scanDisk(s.read.QueryRowContext(ctx, `SELECT `+diskColumns+` FROM disk WHERE tenant = $1 AND vm = $2 AND name = $3`, tenant, vm, name))
	return d, plain(err)
}

// Disks lists the disks of a VM.
func (s *Store) Disks(ctx context.Context, tenant, vm string) ([]enroll.Disk, error) {
	return list(ctx, s.read, scanDisk, `SELECT `+diskColumns+` FROM disk WHERE tenant = $1 AND vm = $2 ORDER BY name`, tenant, vm)
}

// RecordVolumeKey implements enroll.Disks. The digest is written once: another
// one afterwards means another disk.
func (s *Store) RecordVolumeKey(ctx context.Context, tenant, vm, name string, digest []byte) error {
	return s.write(ctx, func(t *tx) error {
		d, err := scanDisk(t.row(`SELECT `+diskColumns+` FROM disk WHERE tenant = $1 AND vm = $2 AND name = $3`, tenant, vm, name))
		if err != nil {
			return err
		}
		if len(d.VolumeKeyDigest) > 0 {
			if bytes.Equal(d.VolumeKeyDigest, digest) {
				return nil
			}
			return enroll.Refusal{Code: "DISK_SWAPPED", Why: "disk " + name + " of " + vm + " has another volume key than the one on record"}
		}
		if _, err := t.exec(`UPDATE disk SET volume_key_digest = $4 WHERE tenant = $1 AND vm = $2 AND name = $3`, tenant, vm, name, digest); err != nil {
			return err
		}
		return t.changed(tenant, "disk", vm+"/"+name, "formatted")
	})
}

const orderColumns = `tenant, vm, host, endorse, disks, actor, created`

func scanOrder(r scanner) (o enroll.Order, err error) {
	var disks string
	var created int64
	if err = r.Scan(&o.Tenant, &o.VM, &o.Host, &o.Endorse, &disks, &o.Actor, &created); err != nil {
		return o, err
	}
	o.Disks, o.Created = strings.Fields(disks), fromMillis(created)
	return o, nil
}

// SaveOrder implements enroll.Orders. Names of disks are words, so a space parts them.
func (s *Store) SaveOrder(ctx context.Context, o enroll.Order, once enroll.Once) error {
	return s.write(ctx, func(t *tx) error {
		if err := t.once(o.Tenant, once, o.VM); err != nil {
			return err
		}
		n, err := t.exec(`INSERT INTO vm_order (`+orderColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
			o.Tenant, o.VM, o.Host, o.Endorse, strings.Join(o.Disks, " "), o.Actor, millis(o.Created))
		if err == nil && n == 0 {
			err = enroll.ErrExists
		}
		if err != nil {
			return err
		}
		return t.changed(o.Tenant, "vm", o.VM, "ordered")
	})
}

// Order implements enroll.Orders.
func (s *Store) Order(ctx context.Context, tenant, vm string) (enroll.Order, error) {
	o, err := scanOrder(s.read.QueryRowContext(ctx, `SELECT `+orderColumns+` FROM vm_order WHERE tenant = $1 AND vm = $2`, tenant, vm))
	return o, plain(err)
}

// Orders lists a tenant's open orders; host narrows them, unless it is empty.
func (s *Store) Orders(ctx context.Context, tenant, host string) ([]enroll.Order, error) {
	return list(ctx, s.read, scanOrder, `SELECT `+orderColumns+` FROM vm_order WHERE tenant = $1 AND (host = $2 OR $2 = '') ORDER BY vm`, tenant, host)
}

// DropOrder ends an order that nobody wants any more.
func (s *Store) DropOrder(ctx context.Context, tenant, vm string) error {
	return s.write(ctx, func(t *tx) error {
		n, err := t.exec(`DELETE FROM vm_order WHERE tenant = $1 AND vm = $2`, tenant, vm)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		if err != nil {
			return err
		}
		return t.changed(tenant, "vm", vm, "order dropped")
	})
}

// once claims an idempotency key for what it makes.
func (t *tx) once(tenant string, o enroll.Once, object string) error {
	if o.Key == "" {
		return nil
	}
	_, err := t.exec(`INSERT INTO idempotency (tenant, key, digest, object, created) VALUES ($1, $2, $3, $4, $5)`, tenant, o.Key, o.Digest, object, millis(t.now))
	return err
}

// Repeated implements enroll.Repeats.
func (s *Store) Repeated(ctx context.Context, tenant string, o enroll.Once) (string, error) {
	if o.Key == "" {
		return "", nil
	}
	var digest []byte
	var object string
	err := plain(s.read.QueryRowContext(ctx, `SELECT digest, object FROM idempotency WHERE tenant = $1 AND key = $2`, tenant, o.Key).Scan(&digest, &object))
	switch {
	case err == ErrNotFound:
		return "", nil
	case err == nil && !bytes.Equal(digest, o.Digest):
		return "", enroll.ErrOtherRequest
	}
	return object, err
}

// notNil: a nil slice would be written as NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
