package store

import (
	"context"
	"crypto/x509"

	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
	"github.com/vouchsafe/vouchsafe/internal/modkeys"
)

var _ modkeys.Records = (*Store)(nil)

// ModuleCertificates implements modkeys.Records.
func (s *Store) ModuleCertificates(ctx context.Context, tenant string) ([]modkeys.Certificate, error) {
	return list(ctx, s.read, func(r scanner) (c modkeys.Certificate, err error) {
		var role, key string
		if err = r.Scan(&c.Tenant, &role, &c.DER, &key, &c.Version); err != nil {
			return c, err
		}
		c.Role = modkeys.Role(role)
		c.Key, err = keyring.ParseID(key)
		return c, err
	}, `SELECT tenant, role, der, key_id, key_version FROM module_certificate WHERE tenant = $1 ORDER BY key_version DESC, created DESC`, tenant)
}

// SaveModuleKeys implements modkeys.Records.
func (s *Store) SaveModuleKeys(ctx context.Context, cs []modkeys.Certificate, ks []keyring.Key) error {
	return s.write(ctx, func(t *tx) error {
		for _, k := range ks {
			if err := t.saveKey(k); err != nil {
				return err
			}
		}
		for _, c := range cs {
			cert, err := x509.ParseCertificate(c.DER)
			if err != nil {
				return err
			}
			if _, err := t.exec(`INSERT INTO module_certificate (tenant, serial, role, der, key_id, key_version, created) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
				c.Tenant, ca.SerialText(cert), string(c.Role), c.DER, c.Key.String(), c.Version, millis(t.now)); err != nil {
				return err
			}
			if err := t.changed(c.Tenant, "module-certificate", ca.SerialText(cert), "saved"); err != nil {
				return err
			}
		}
		return nil
	})
}
