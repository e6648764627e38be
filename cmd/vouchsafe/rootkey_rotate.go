package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/durable"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
	"github.com/vouchsafe/vouchsafe/internal/seal"
	"github.com/vouchsafe/vouchsafe/internal/secret"
)

// Replacing the root key, in steps of which each may be cut off and done again:
//
//	begin   1 the audit log's key becomes a secret of its own
//	        2 root.key.next: another key file
//	        3 root.sealed.next.json: another root key, for both key files
//	finish  4 everything is wrapped anew: the store in one transaction, then the files
//	        5 all of it opens under the new root key alone
//	        6 root.sealed.next.json becomes root.sealed.json
//	        7 root.key.next becomes root.key
//	        8 root.sealed.json forgets the old key file
//
// From 3 to 6 there are two root keys, and both open ([openRootKeys]); before 3
// nothing happened. Whoever opens the service next finishes what was begun.

// rotateRoot replaces the root key and the key file of the software tier. The
// service must not run: a secret that it is just wrapping would be lost.
func rotateRoot(ctx context.Context, dir string) (n int, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("replacing the root key of %s: %w", dir, err)
		}
	}()
	file, err := readService(dir)
	if err != nil {
		return 0, err
	}
	unlock, err := lockRoot(dir, false)
	if err != nil {
		return 0, withHint(err, "stop the server, the backup or the check that runs on it")
	}
	defer unlock()
	if _, err := finishRoot(ctx, dir); err != nil {
		return 0, err
	}
	roots, err := openRootKeys(ctx, dir)
	if err != nil {
		return 0, err
	}
	signer, err := openAuditSigner(dir, file, roots)
	if err != nil {
		return 0, err
	}
	log, err := audit.Open(filepath.Join(dir, dirAudit), signer, audit.Options{})
	if err != nil {
		return 0, auditHint(err, dir)
	}
	defer log.Close()
	intent, err := log.Begin(ctx, audit.Event{Actor: "service", Action: "key.rotated", Object: "root"})
	if err != nil {
		return 0, err
	}
	if err = beginRoot(ctx, dir, file, roots.current, time.Now()); err == nil {
		n, err = finishRoot(ctx, dir)
	}
	if err != nil {
		intent.Failed(ctx, err)
		return n, err
	}
	sealed, err := readSealed(filepath.Join(dir, fileSealed))
	if err != nil {
		return n, err
	}
	_, err = intent.Done(ctx, map[string]string{"rewrapped": fmt.Sprint(n), "tier": sealed.Wraps[0].Tier})
	return n, err
}

func beginRoot(ctx context.Context, dir string, file serviceFile, root secret.Bytes, now time.Time) error {
	// 1.
	if !exists(filepath.Join(dir, fileAuditKey)) {
		seed := audit.SignerSeed(root, auditOrigin(file))
		defer seed.Erase()
		if err := durable.WriteFile(filepath.Join(dir, fileAuditKey), keyring.NewRing(root).Wrap("", keyring.ID{}, auditKeyLabel, seed), 0o600); err != nil {
			return err
		}
	}
	// 2.
	oldKey, err := seal.ReadKeyFile(filepath.Join(dir, fileRootKey))
	if err != nil {
		return err
	}
	newKey := secret.Random(seal.RootKeySize)
	defer newKey.Erase()
	if err := seal.WriteKeyFile(filepath.Join(dir, fileRootKeyNext), newKey); err != nil {
		return err
	}
	oldTier, err := seal.NewSoftware(oldKey)
	if err != nil {
		return err
	}
	newTier, err := seal.NewSoftware(newKey)
	if err != nil {
		return err
	}
	// 3.
	next := secret.Random(seal.RootKeySize)
	defer next.Erase()
	sealed, err := seal.Seal(ctx, file.ID, next, now, newTier, oldTier)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, fileSealedNext), sealed.Marshal(), 0o600)
}

// finishRoot does what is left of a rotation, from wherever it was cut off. It
// returns how many keys and VMs of the store it wrapped anew.
func finishRoot(ctx context.Context, dir string) (n int, err error) {
	if exists(filepath.Join(dir, fileSealedNext)) {
		roots, err := openRootKeys(ctx, dir)
		if err != nil {
			return 0, err
		}
		if n, err = rewrapAll(ctx, dir, roots); err != nil { // 4, 5
			return n, err
		}
		if err := renameDurable(filepath.Join(dir, fileSealedNext), filepath.Join(dir, fileSealed)); err != nil { // 6
			return n, err
		}
	}
	sealed, err := readSealed(filepath.Join(dir, fileSealed))
	if err != nil {
		return n, err
	}
	if path := filepath.Join(dir, fileRootKeyNext); exists(path) { // 7
		tier, err := softwareTier(path)
		if err == nil && sealed.Has(tier.Name()) {
			err = renameDurable(path, filepath.Join(dir, fileRootKey))
		} else { // written halfway, or nothing was sealed for it: the rotation had not begun
			err = os.Remove(path)
		}
		if err != nil {
			return n, err
		}
	}
	if len(sealed.Wraps) > 1 { // 8
		tier, err := softwareTier(filepath.Join(dir, fileRootKey))
		if err != nil {
			return n, err
		}
		if kept := sealed.WithoutSoftware(tier.Name()); len(kept.Wraps) < len(sealed.Wraps) {
			return n, durable.WriteFile(filepath.Join(dir, fileSealed), kept.Marshal(), 0o600)
		}
	}
	return n, nil
}

func softwareTier(path string) (*seal.Software, error) {
	key, err := seal.ReadKeyFile(path)
	if err != nil {
		return nil, err
	}
	return seal.NewSoftware(key)
}

// rewrapAll wraps everything anew, and looks whether it opens.
func rewrapAll(ctx context.Context, dir string, roots rootKeys) (n int, err error) {
	st, err := openStore(ctx, dir, time.Now)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	ring := roots.ring()
	if n, err = st.Rewrap(ctx, ring); err != nil {
		return n, err
	}
	alone := keyring.NewRing(roots.current)
	for name, label := range wrappedFiles {
		path := filepath.Join(dir, name)
		wrapped, err := os.ReadFile(path)
		if err != nil {
			return n, err
		}
		again, changed, err := ring.Rewrap("", keyring.ID{}, label, wrapped)
		if err == nil && changed {
			err = durable.WriteFile(path, again, 0o600)
		}
		if err == nil {
			_, err = alone.Unwrap("", keyring.ID{}, label, again)
		}
		if err != nil {
			return n, fmt.Errorf("wrapping %s anew: %w", name, err)
		}
	}
	keys, err := st.Keys(ctx)
	if err != nil {
		return n, err
	}
	for _, k := range keys {
		if _, err := alone.Open(k); err != nil {
			return n, err
		}
	}
	return n, st.AllVMs(ctx, func(v enroll.VM) error {
		disks, err := st.Disks(ctx, v.Tenant, v.Name)
		if err != nil {
			return err
		}
		return errors.Join(enroll.CheckSecrets(alone, v, disks)...)
	})
}

// unfinishedRoot says whether a rotation of the root key was cut off.
func unfinishedRoot(dir string) bool {
	if exists(filepath.Join(dir, fileSealedNext)) || exists(filepath.Join(dir, fileRootKeyNext)) {
		return true
	}
	sealed, err := readSealed(filepath.Join(dir, fileSealed))
	if err != nil || len(sealed.Wraps) < 2 {
		return false
	}
	tier, err := softwareTier(filepath.Join(dir, fileRootKey))
	return err == nil && len(sealed.WithoutSoftware(tier.Name()).Wraps) < len(sealed.Wraps)
}

// renameDurable replaces a file by another, durably.
func renameDurable(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(to))
}
