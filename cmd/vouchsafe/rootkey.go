package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
	"github.com/vouchsafe/vouchsafe/internal/seal"
	"github.com/vouchsafe/vouchsafe/internal/secret"
)

// rootKeys is the root key of a state directory, opened. While a rotation is
// under way there are two.
type rootKeys struct {
	current secret.Bytes
	before  []secret.Bytes
}

func (r rootKeys) ring() *keyring.Ring { return keyring.NewRing(r.current, r.before...) }

// openRootKeys opens the root key with the tiers that this machine has.
func openRootKeys(ctx context.Context, dir string) (rootKeys, error) {
	key, err := seal.ReadKeyFile(filepath.Join(dir, fileRootKey))
	if errors.Is(err, seal.ErrKeyFileOpen) {
		return rootKeys{}, withHint(err, "chmod 600 %s, and find out who could read it", filepath.Join(dir, fileRootKey))
	}
	if err != nil {
		return rootKeys{}, err
	}
	return rootKeysBy(ctx, dir, key)
}

// rootKeysBy opens it with the key of the software tier.
func rootKeysBy(ctx context.Context, dir string, key secret.Bytes) (rootKeys, error) {
	tier, err := seal.NewSoftware(key)
	if err != nil {
		return rootKeys{}, err
	}
	open := func(name string) (secret.Bytes, error) {
		sealed, err := readSealed(filepath.Join(dir, name))
		if err != nil {
			return secret.Bytes{}, err
		}
		root, _, err := sealed.Open(ctx, tier)
		return root, err
	}
	current, err := open(fileSealed)
	if err != nil {
		return rootKeys{}, err
	}
	next, err := open(fileSealedNext)
	if errors.Is(err, os.ErrNotExist) {
		return rootKeys{current: current}, nil
	}
	return rootKeys{next, []secret.Bytes{current}}, err
}

func readSealed(path string) (seal.Sealed, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return seal.Sealed{}, err
	}
	return seal.Parse(data)
}

// openAuditSigner returns who signs the audit log: at first derived from the
// root key, and since the first rotation of that a secret of its own.
func openAuditSigner(dir string, file serviceFile, r rootKeys) (*audit.Signer, error) {
	wrapped, err := os.ReadFile(filepath.Join(dir, fileAuditKey))
	if errors.Is(err, os.ErrNotExist) {
		return audit.NewSigner(r.current, auditOrigin(file))
	}
	if err != nil {
		return nil, err
	}
	seed, err := r.ring().Unwrap("", keyring.ID{}, auditKeyLabel, wrapped)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", fileAuditKey, err)
	}
	defer seed.Erase()
	return audit.SignerFromSeed(seed, auditOrigin(file))
}

// See docs/formats/keyring.md.
const (
	backupMACLabel = "backup mac"
	auditKeyLabel  = "audit key"
)

// wrappedFiles are the secrets that the root key wraps outside the store.
var wrappedFiles = map[string]string{fileBackupMAC: backupMACLabel, fileAuditKey: auditKeyLabel}

// errRootBusy means that somebody else uses the state directory in a way that
// does not go together with this.
var errRootBusy = errors.New("another process uses the root key of this state directory")

// lockRoot keeps the root key from being replaced under a server, a backup or an
// examination (shared), or all of those away while it is replaced (not shared).
func lockRoot(dir string, shared bool) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, fileRootLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_EX
	if shared {
		how = syscall.LOCK_SH
	}
	if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, errRootBusy
	}
	return f.Close, nil
}
