package store

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
)

// Authority is an intermediate as it is stored. The newest one of a purpose signs.
type Authority struct {
	Purpose    ca.Purpose
	DER        []byte
	Key        keyring.ID
	KeyVersion uint32
}

// SaveAuthority writes an intermediate together with its key. Intermediates whose
// version the key no longer has are gone.
func (s *Store) SaveAuthority(ctx context.Context, a Authority, k keyring.Key) error {
	cert, err := x509.ParseCertificate(a.DER)
	if err != nil {
		return err
	}
	return s.write(ctx, func(t *tx) error {
		if _, err := t.exec(`DELETE FROM authority WHERE tenant = '' AND key_id = $1 AND key_version < $2`, k.ID.String(), k.Versions[0].N); err != nil {
			return err
		}
		if err := t.saveKey(k); err != nil {
			return err
		}
		if _, err := t.exec(`INSERT INTO authority (tenant, purpose, serial, der, key_id, key_version, created) VALUES ('', $1, $2, $3, $4, $5, $6)`,
			string(a.Purpose), ca.SerialText(cert), a.DER, a.Key.String(), a.KeyVersion, millis(t.now)); err != nil {
			return err
		}
		return t.changed("", "authority", string(a.Purpose), "saved")
	})
}

// Authorities reads all intermediates, the newest of each purpose first.
func (s *Store) Authorities(ctx context.Context) ([]Authority, error) {
	return list(ctx, s.read, func(r scanner) (a Authority, err error) {
		var purpose, key string
		if err = r.Scan(&purpose, &a.DER, &key, &a.KeyVersion); err != nil {
			return a, err
		}
		a.Purpose = ca.Purpose(purpose)
		a.Key, err = keyring.ParseID(key)
		return a, err
	}, `SELECT purpose, der, key_id, key_version FROM authority WHERE tenant = '' ORDER BY purpose, key_version DESC, created DESC`)
}

// RecordIntent implements ca.Recorder.
func (s *Store) RecordIntent(ctx context.Context, in ca.Intent) error {
	return s.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO certificate (tenant, serial, purpose, profile, subject, not_before, not_after, tbs, spki, state, recorded)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'intended', $10)`,
			in.Tenant, in.Serial, string(in.Purpose), in.Profile, in.Subject, millis(in.NotBefore), millis(in.NotAfter), in.TBS[:], in.SPKI[:], millis(t.now))
		return err
	})
}

// RecordIssued implements ca.Registry.
func (s *Store) RecordIssued(ctx context.Context, cert *x509.Certificate) error {
	serial := ca.SerialText(cert)
	return s.write(ctx, func(t *tx) error {
		var tenant string
		if err := t.row(`UPDATE certificate SET state = 'issued' WHERE serial = $1 AND state = 'intended' RETURNING tenant`, serial).Scan(&tenant); err != nil {
			return fmt.Errorf("certificate %s has no intent on record: %w", serial, err)
		}
		if _, err := t.exec(`INSERT INTO certificate_der (tenant, serial, der) VALUES ($1, $2, $3)`, tenant, serial, cert.Raw); err != nil {
			return err
		}
		return t.changed(tenant, "certificate", serial, "issued")
	})
}

// Certificate is a certificate as it is stored.
type Certificate struct {
	Tenant, Serial      string
	Purpose             ca.Purpose
	Profile, Subject    string
	NotBefore, NotAfter time.Time
	State               string // intended, issued, revoked
	Recorded, Revoked   time.Time
	Reason              ca.Reason
}

const certificateColumns = `tenant, serial, purpose, profile, subject, not_before, not_after, state, recorded, revoked, reason`

func scanCertificate(r scanner) (c Certificate, err error) {
	var purpose string
	var nb, na, recorded, revoked int64
	err = r.Scan(&c.Tenant, &c.Serial, &purpose, &c.Profile, &c.Subject, &nb, &na, &c.State, &recorded, &revoked, &c.Reason)
	c.Purpose, c.NotBefore, c.NotAfter, c.Recorded, c.Revoked = ca.Purpose(purpose), fromMillis(nb), fromMillis(na), fromMillis(recorded), fromMillis(revoked)
	return c, err
}

// Certificate reads what is known about a serial number, with the certificate
// itself when it was signed.
func (s *Store) Certificate(ctx context.Context, serial string) (Certificate, []byte, error) {
	c, err := scanCertificate(s.read.QueryRowContext(ctx, `SELECT `+certificateColumns+` FROM certificate WHERE serial = $1`, serial))
	if err != nil || c.State == "intended" {
		return c, nil, plain(err)
	}
	var der []byte
	err = s.read.QueryRowContext(ctx, `SELECT der FROM certificate_der WHERE serial = $1`, serial).Scan(&der)
	return c, der, plain(err)
}

// Certificates lists a tenant's certificates behind a serial number, in its order.
func (s *Store) Certificates(ctx context.Context, tenant, after string, limit int) ([]Certificate, error) {
	return list(ctx, s.read, scanCertificate, `SELECT `+certificateColumns+` FROM certificate WHERE tenant = $1 AND serial > $2 ORDER BY serial LIMIT $3`, tenant, after, limit)
}

// Revoke marks a certificate as revoked; a second time changes nothing.
func (s *Store) Revoke(ctx context.Context, tenant, serial string, reason ca.Reason) error {
	return s.write(ctx, func(t *tx) error {
		var state string
		if err := t.row(`SELECT state FROM certificate WHERE tenant = $1 AND serial = $2`, tenant, serial).Scan(&state); err != nil {
			return err
		}
		if state == "revoked" {
			return nil
		}
		return t.revoke(tenant, serial, reason)
	})
}

// RevokeSubject revokes every certificate of a subject that is still good, and
// returns their serial numbers.
func (s *Store) RevokeSubject(ctx context.Context, tenant, subject string, reason ca.Reason) ([]string, error) {
	var serials []string
	err := s.write(ctx, func(t *tx) (err error) {
		serials, err = t.revokeSubject(tenant, subject, reason)
		return err
	})
	return serials, err
}

func (t *tx) revokeSubject(tenant, subject string, reason ca.Reason) ([]string, error) {
	serials, err := list(t.ctx, t.conn, func(r scanner) (serial string, err error) { return serial, r.Scan(&serial) },
		`SELECT serial FROM certificate WHERE tenant = $1 AND subject = $2 AND state <> 'revoked' AND not_after > $3`, tenant, subject, millis(t.now))
	if err != nil {
		return nil, err // half a list would pass for all of it
	}
	for _, serial := range serials {
		if err := t.revoke(tenant, serial, reason); err != nil {
			return nil, err
		}
	}
	return serials, nil
}

func (t *tx) revoke(tenant, serial string, reason ca.Reason) error {
	if _, err := t.exec(`UPDATE certificate SET state = 'revoked', revoked = $3, reason = $4 WHERE tenant = $1 AND serial = $2`,
		tenant, serial, millis(t.now), int(reason)); err != nil {
		return err
	}
	return t.changed(tenant, "certificate", serial, "revoked")
}

// Revoked lists what a CRL of a purpose must name: all tenants', until the
// certificate has expired (RFC 5280, Section 3.3).
func (s *Store) Revoked(ctx context.Context, p ca.Purpose) ([]ca.Revocation, error) {
	return list(ctx, s.read, func(r scanner) (v ca.Revocation, err error) {
		var at int64
		err = r.Scan(&v.Serial, &at, &v.Reason)
		v.At = fromMillis(at)
		return v, err
	}, `SELECT serial, revoked, reason FROM certificate WHERE purpose = $1 AND state = 'revoked' AND not_after > $2 ORDER BY revoked, serial`,
		string(p), millis(s.now().Add(-ca.CRLLifetime)))
}

// NextCRL returns the number that the next CRL of a purpose gets. Numbers are
// used once, even when signing then fails.
func (s *Store) NextCRL(ctx context.Context, p ca.Purpose) (number int64, err error) {
	err = s.write(ctx, func(t *tx) error {
		if err := t.row(`SELECT COALESCE(MAX(number), 0) + 1 FROM crl WHERE tenant = '' AND purpose = $1`, string(p)).Scan(&number); err != nil {
			return err
		}
		_, err := t.exec(`INSERT INTO crl (tenant, purpose, number, der, this_update, next_update) VALUES ('', $1, $2, x'', 0, 0)`, string(p), number)
		return err
	})
	return number, err
}

// SaveCRL writes a signed CRL; only the newest ones are kept.
func (s *Store) SaveCRL(ctx context.Context, p ca.Purpose, number int64, der []byte, thisUpdate, nextUpdate time.Time) error {
	return s.write(ctx, func(t *tx) error {
		if _, err := t.exec(`UPDATE crl SET der = $3, this_update = $4, next_update = $5 WHERE tenant = '' AND purpose = $1 AND number = $2`,
			string(p), number, der, millis(thisUpdate), millis(nextUpdate)); err != nil {
			return err
		}
		if _, err := t.exec(`DELETE FROM crl WHERE tenant = '' AND purpose = $1 AND number < $2`, string(p), number-3); err != nil {
			return err
		}
		return t.changed("", "crl", string(p), "signed")
	})
}

// CRL reads the newest CRL of a purpose.
func (s *Store) CRL(ctx context.Context, p ca.Purpose) ([]byte, error) {
	var der []byte
	err := s.read.QueryRowContext(ctx, `SELECT der FROM crl WHERE tenant = '' AND purpose = $1 AND this_update > 0 ORDER BY number DESC LIMIT 1`, string(p)).Scan(&der)
	return der, plain(err)
}
