package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
	"github.com/vouchsafe/vouchsafe/internal/seal"
	"github.com/vouchsafe/vouchsafe/internal/store"
)

// rotateAuthority gives the intermediate of a purpose a new key, signed by the
// root CA, whose key the recovery key opens. The service must not run: it would
// go on signing with the old one.
func rotateAuthority(ctx context.Context, dir, purpose, recoveryFile string) (cert *x509.Certificate, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("rotating ca/%s of %s: %w", purpose, dir, err)
		}
	}()
	if !slices.Contains(ca.Purposes(), ca.Purpose(purpose)) {
		return nil, usageError{fmt.Errorf("there is no purpose %q; there are %v", purpose, ca.Purposes())}
	}
	file, err := readService(dir)
	if err != nil {
		return nil, err
	}
	unlock, err := lockRoot(dir, false)
	if err != nil {
		return nil, withHint(err, "stop the server first")
	}
	defer unlock()
	if unfinishedRoot(dir) {
		return nil, withHint(errors.New("a rotation of the root key is unfinished"), "vouchsafe key rotate root --state %s", dir)
	}
	recovery, err := seal.ReadKeyFile(recoveryFile)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(dir, fileRootCA))
	if err != nil {
		return nil, err
	}
	rootSigner, err := ca.OpenOffline(recovery, text)
	if err != nil {
		return nil, withHint(err, "is it the right recovery key?")
	}
	root, err := parseCertificate([]byte(file.RootCA))
	if err != nil {
		return nil, err
	}
	roots, err := openRootKeys(ctx, dir)
	if err != nil {
		return nil, err
	}
	signer, err := openAuditSigner(dir, file, roots)
	if err != nil {
		return nil, err
	}
	log, err := audit.Open(filepath.Join(dir, dirAudit), signer, audit.Options{})
	if err != nil {
		return nil, err
	}
	defer log.Close()
	st, err := openStore(ctx, dir, time.Now)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	key, err := st.Key(ctx, "", "ca/"+purpose)
	if err != nil {
		return nil, err
	}
	authorities, err := st.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	inUse := func(version uint32) bool { // as long as its certificate lasts, it signs lists of what it issued
		return slices.ContainsFunc(authorities, func(a store.Authority) bool {
			c, err := x509.ParseCertificate(a.DER)
			return string(a.Purpose) == purpose && a.KeyVersion == version && (err != nil || now.Before(c.NotAfter))
		})
	}
	rotated, _, err := roots.ring().Rotate(key, now, inUse)
	if errors.Is(err, keyring.ErrVersionInUse) {
		return nil, withHint(err, "four authorities of one purpose are alive: wait until the oldest has expired")
	}
	if err != nil {
		return nil, err
	}
	opened, err := roots.ring().Open(rotated)
	if err != nil {
		return nil, err
	}
	private, err := opened.Signer(0)
	if err != nil {
		return nil, err
	}
	intent, err := log.Begin(ctx, audit.Event{Actor: "service", Action: "key.rotated", Object: key.Name})
	if err != nil {
		return nil, err
	}
	der, err := ca.NewIntermediate(root, rootSigner, ca.Purpose(purpose), private.Public(), now)
	if err == nil {
		err = st.SaveAuthority(ctx, store.Authority{Purpose: ca.Purpose(purpose), DER: der, Key: rotated.ID, KeyVersion: rotated.Primary}, rotated)
	}
	if err != nil {
		intent.Failed(ctx, err)
		return nil, err
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	_, err = intent.Done(ctx, map[string]string{"version": fmt.Sprint(rotated.Primary), "serial": ca.SerialText(cert)})
	return cert, err
}
