package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
)

var _ enroll.Hosts = (*Store)(nil)

const hostColumns = `tenant, name, id, accepted_unattested, ek, ek_bond, created, revoked, reason`

func scanHost(r scanner) (h enroll.Host, err error) {
	var id string
	var created, revoked int64
	if err = r.Scan(&h.Tenant, &h.Name, &id, &h.AcceptedUnattested, &h.EK, &h.EKBond, &created, &revoked, &h.Reason); err != nil {
		return h, err
	}
	h.Created, h.Revoked = fromMillis(created), fromMillis(revoked)
	h.ID, err = keyring.ParseID(id)
	return h, err
}

func (t *tx) host(tenant, name string) (enroll.Host, error) {
	return scanHost(t.row(`SELECT `+hostColumns+` FROM host WHERE tenant = $1 AND name = $2`, tenant, name))
}

// SaveHost implements enroll.Hosts. A TPM that was enrolled since the caller read the
// host stays, and is not exchanged; and one that was revoked stays so.
func (s *Store) SaveHost(ctx context.Context, h enroll.Host) error {
	return s.write(ctx, func(t *tx) error {
		old, err := t.host(h.Tenant, h.Name)
		switch {
		case err != nil && plain(err) != ErrNotFound:
			return err
		case err == nil && old.WasRevoked() != nil:
			return old.WasRevoked()
		case len(old.EK) > 0 && len(h.EK) == 0:
			h.EK, h.EKBond = old.EK, old.EKBond
		case len(old.EK) > 0 && !bytes.Equal(old.EK, h.EK):
			return enroll.Refusal{Code: "HOST_TPM_OTHER", Why: "another TPM of this host is on record"}
		}
		if _, err := t.exec(`INSERT INTO host (`+hostColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, '')
			ON CONFLICT (tenant, name) DO UPDATE SET accepted_unattested = excluded.accepted_unattested, ek = excluded.ek, ek_bond = excluded.ek_bond`,
			h.Tenant, h.Name, h.ID.String(), h.AcceptedUnattested, notNil(h.EK), notNil(h.EKBond), millis(h.Created)); err != nil {
			return err
		}
		return t.changed(h.Tenant, "host", h.Name, "saved")
	})
}

// RevokeHost implements enroll.Hosts, all in one transaction. A second time it does
// what may be left, and the first date and reason stay.
func (s *Store) RevokeHost(ctx context.Context, tenant, name, reason string, subject func(kind, name string) string) (gone enroll.HostGone, err error) {
	err = s.write(ctx, func(t *tx) error {
		h, err := t.host(tenant, name)
		if err != nil {
			return err
		}
		if h.Revoked.IsZero() {
			if _, err := t.exec(`UPDATE host SET revoked = $3, reason = $4, accepted_unattested = 0 WHERE tenant = $1 AND name = $2`, tenant, name, millis(t.now), reason); err != nil {
				return err
			}
		}
		word := func(r scanner) (w string, err error) { return w, r.Scan(&w) }
		if gone.VMs, err = list(t.ctx, t.conn, word, `SELECT name FROM vm WHERE tenant = $1 AND host = $2 AND state <> 'revoked' ORDER BY name`, tenant, name); err != nil {
			return err
		}
		serials, err := t.revokeSubject(tenant, subject(ca.KindAgent, name), ca.PrivilegeWithdrawn)
		for _, vm := range gone.VMs {
			if err != nil {
				return err
			}
			var of []string
			of, err = t.revokeSubject(tenant, subject(ca.KindVM, vm), ca.PrivilegeWithdrawn)
			serials = append(serials, of...)
		}
		if err != nil {
			return err
		}
		gone.Certificates = len(serials)
		return t.changed(tenant, "host", name, "revoked")
	})
	return gone, err
}

// ReinstateHost implements enroll.Hosts. It is a new host by the old name: what
// was proved and signed about the former speaks for it no more.
func (s *Store) ReinstateHost(ctx context.Context, tenant, name string) (h enroll.Host, err error) {
	err = s.write(ctx, func(t *tx) error {
		if h, err = t.host(tenant, name); err != nil {
			return err
		}
		if h.Revoked.IsZero() {
			return enroll.Refusal{Code: "HOST_NOT_REVOKED", Why: "host " + name + " was not revoked"}
		}
		rand.Read(h.ID[:])
		h.Revoked, h.Reason, h.EK, h.EKBond, h.AcceptedUnattested = time.Time{}, "", nil, nil, false
		if _, err := t.exec(`UPDATE host SET id = $3, revoked = 0, reason = '', ek = x'', ek_bond = x'', accepted_unattested = 0 WHERE tenant = $1 AND name = $2`, tenant, name, h.ID.String()); err != nil {
			return err
		}
		return t.changed(tenant, "host", name, "reinstated")
	})
	return h, err
}

// Host implements enroll.Hosts.
func (s *Store) Host(ctx context.Context, tenant, name string) (enroll.Host, error) {
	h, err := scanHost(s.read.QueryRowContext(ctx, `SELECT `+hostColumns+` FROM host WHERE tenant = $1 AND name = $2`, tenant, name))
	return h, plain(err)
}

// AllHosts are the hosts of every tenant.
func (s *Store) AllHosts(ctx context.Context) ([]enroll.Host, error) {
	return list(ctx, s.read, scanHost, `SELECT `+hostColumns+` FROM host ORDER BY tenant, name`)
}

// Hosts lists a tenant's hosts.
func (s *Store) Hosts(ctx context.Context, tenant string) ([]enroll.Host, error) {
	return list(ctx, s.read, scanHost, `SELECT `+hostColumns+` FROM host WHERE tenant = $1 ORDER BY name`, tenant)
}

// VMsOn implements enroll.Hosts.
func (s *Store) VMsOn(ctx context.Context, tenant, host string) ([]enroll.VM, error) {
	return list(ctx, s.read, scanVM, `SELECT `+vmColumns+` FROM vm WHERE tenant = $1 AND host = $2 ORDER BY name`, tenant, host)
}
