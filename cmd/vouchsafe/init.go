package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/backup"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/durable"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
	"github.com/vouchsafe/vouchsafe/internal/seal"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/store"
)

// initOptions are what a new service can choose.
type initOptions struct {
	trustDomain string
	operator    string
	recovery    string // where the recovery key goes; empty: into the state directory
}

func newInitCommand(a *app) *cobra.Command {
	var state string
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Create a service: root key, certificate authorities, first operator",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := stateDir(state)
			if err != nil {
				return err
			}
			file, recovery, err := createService(cmd.Context(), dir, o)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]string{"id": file.ID, "state": dir, "trust_domain": file.TrustDomain, "recovery_key": recovery, "audit_key": file.AuditKey})
			}
			fmt.Fprintf(a.err, a.say("service %s created in %s\n", "服务 %s 已创建于 %s\n"), file.ID, dir)
			fmt.Fprintf(a.err, a.say("recovery key: %s\n  Take it off this machine, and keep two copies: it alone opens backups and the root CA.\n",
				"恢复密钥：%s\n  请将其移出本机并保存两份：只有它能打开备份和根 CA。\n"), recovery)
			fmt.Fprintf(a.err, a.say("next: vouchsafe server --state %s\n", "下一步：vouchsafe server --state %s\n"), dir)
			return nil
		},
	}
	stateFlag(cmd, &state)
	cmd.Flags().StringVar(&o.trustDomain, "trust-domain", "vouchsafe.internal", "trust domain of the names in certificates; it cannot be changed later")
	cmd.Flags().StringVar(&o.operator, "operator", "admin", "name of the first operator")
	cmd.Flags().StringVar(&o.recovery, "recovery", "", "where to write the recovery key (default recovery.key in the state directory)")
	return cmd
}

// check calls bad usage what no service can be made with, before there is one.
func (o *initOptions) check() error {
	if err := ca.CheckWord(o.operator); err != nil {
		return usageError{fmt.Errorf("--operator: %w", err)}
	}
	if _, err := ca.ParseName("spiffe://" + o.trustDomain + "/" + defaultTenant + "/" + ca.KindOperator + "/" + o.operator); err != nil {
		return usageError{fmt.Errorf("--trust-domain: %w", err)}
	}
	if o.recovery == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Dir(o.recovery)); err != nil {
		return fmt.Errorf("writing the recovery key: %w", err)
	}
	if exists(o.recovery) {
		return fmt.Errorf("writing the recovery key: %w", &fs.PathError{Op: "open", Path: o.recovery, Err: syscall.EEXIST})
	}
	return nil
}

// createService makes a service in an empty directory. service.json is written
// last, so an unfinished one is never taken for whole.
func createService(ctx context.Context, dir string, o initOptions) (serviceFile, string, error) {
	fail := func(err error) (serviceFile, string, error) {
		return serviceFile{}, "", fmt.Errorf("creating a service in %s: %w", dir, err)
	}
	if err := o.check(); err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fail(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fail(err)
	}
	if len(entries) > 0 {
		return fail(withHint(errors.New("the directory is not empty"), "choose another one with --state DIR"))
	}
	if o.recovery == "" {
		o.recovery = filepath.Join(dir, fileRecovery)
	}
	now := time.Now()
	id := make([]byte, 8)
	rand.Read(id)
	file := serviceFile{Format: serviceFormat, ID: hex.EncodeToString(id), TrustDomain: o.trustDomain, Created: now.UTC().Truncate(time.Second)}

	// 1. The recovery key, first: it may go to a place where it cannot be written.
	// Then the root key, wrapped by the one tier that every machine has.
	rootKey, tierKey, recovery := secret.Random(seal.RootKeySize), secret.Random(seal.RootKeySize), secret.Random(seal.RootKeySize)
	if err := seal.WriteKeyFile(o.recovery, recovery); err != nil {
		return fail(err)
	}
	if err := seal.WriteKeyFile(filepath.Join(dir, fileRootKey), tierKey); err != nil {
		return fail(err)
	}
	tier, err := seal.NewSoftware(tierKey)
	if err != nil {
		return fail(err)
	}
	sealed, err := seal.Seal(ctx, file.ID, rootKey, now, tier)
	if err != nil {
		return fail(err)
	}
	if err := durable.WriteFile(filepath.Join(dir, fileSealed), sealed.Marshal(), 0o600); err != nil {
		return fail(err)
	}
	ring := keyring.NewRing(rootKey)

	// 2. What the service keeps of the recovery key.
	recipient, err := backup.NewRecipient(recovery)
	if err != nil {
		return fail(err)
	}
	file.BackupPublic = recipient.Public
	if err := durable.WriteFile(filepath.Join(dir, fileBackupMAC), ring.Wrap("", keyring.ID{}, backupMACLabel, recipient.MAC), 0o600); err != nil {
		return fail(err)
	}

	// 3. Store and audit log; from here on everything is on record.
	st, err := store.Open(ctx, filepath.Join(dir, fileStore), time.Now)
	if err != nil {
		return fail(err)
	}
	defer st.Close()
	signer, err := audit.NewSigner(rootKey, auditOrigin(file))
	if err != nil {
		return fail(err)
	}
	file.AuditKey = signer.VerifierKey()
	log, err := audit.Open(filepath.Join(dir, dirAudit), signer, audit.Options{})
	if err != nil {
		return fail(err)
	}
	defer log.Close()
	intent, err := log.Begin(ctx, audit.Event{Actor: "service", Action: "service.created", Object: file.ID})
	if err != nil {
		return fail(err)
	}

	// 4. The root CA, whose key only the recovery key opens from now on, and its intermediates.
	root, err := createAuthorities(ctx, dir, file, st, ring, recovery, now)
	if err != nil {
		return fail(err)
	}
	file.RootCA = api.PEM(root)

	// 5. The first operator.
	office, err := openOffice(ctx, root, st, ring, time.Now)
	if err != nil {
		return fail(err)
	}
	if err := writeCredential(ctx, office, file, filepath.Join(dir, dirOperator), o.operator); err != nil {
		return fail(err)
	}
	if _, err := intent.Done(ctx, map[string]string{"operator": o.operator}); err != nil {
		return fail(err)
	}

	// 6. Done.
	data, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return fail(err)
	}
	if err := durable.WriteFile(filepath.Join(dir, fileService), append(data, '\n'), 0o600); err != nil {
		return fail(err)
	}
	return file, o.recovery, nil
}

func createAuthorities(ctx context.Context, dir string, file serviceFile, st *store.Store, ring *keyring.Ring, recovery secret.Bytes, now time.Time) (*x509.Certificate, error) {
	rootKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := ca.NewRoot(file.TrustDomain, rootKey, now)
	if err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	text, err := ca.SealOffline(recovery, rootKey)
	if err != nil {
		return nil, err
	}
	if err := durable.WriteFile(filepath.Join(dir, fileRootCA), text, 0o600); err != nil {
		return nil, err
	}
	for _, p := range ca.Purposes() {
		k, err := ring.Create("", "ca/"+string(p), keyring.Identity, keyring.Policy{}, now)
		if err != nil {
			return nil, err
		}
		opened, err := ring.Open(k)
		if err != nil {
			return nil, err
		}
		signer, err := opened.Signer(0)
		if err != nil {
			return nil, err
		}
		der, err := ca.NewIntermediate(root, rootKey, p, signer.Public(), now)
		if err != nil {
			return nil, err
		}
		if err := st.SaveAuthority(ctx, store.Authority{Purpose: p, DER: der, Key: k.ID, KeyVersion: k.Primary}, k); err != nil {
			return nil, err
		}
	}
	return root, nil
}

// writeCredential issues an operator's certificate and writes it with its key
// and what it takes to recognise the service.
func writeCredential(ctx context.Context, office *ca.Office, file serviceFile, dir, operator string) error {
	key, err := ecdsa.GenerateKey(connectionCurve, rand.Reader)
	if err != nil {
		return err
	}
	name := ca.Name{TrustDomain: file.TrustDomain, Tenant: defaultTenant, Kind: ca.KindOperator, Name: operator}
	cert, err := office.Issue(ctx, ca.OperatorProfile, ca.Request{Tenant: defaultTenant, PublicKey: key.Public(), Name: &name})
	if err != nil {
		return err
	}
	chain, err := office.Chain(ca.Operator)
	if err != nil {
		return err
	}
	return saveCredential(dir, key, api.PEM(append([]*x509.Certificate{cert}, chain...)...), api.PEM(office.Root))
}

// defaultTenant is where everything is that names no other tenant.
const defaultTenant = "default"
