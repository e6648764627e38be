package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchsafe/vouchsafe/internal/backup"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
)

func newBackupCommand(a *app) *cobra.Command {
	var state, out string
	cmd := &cobra.Command{
		Use:   "backup -o FILE",
		Short: "Seal the whole service into one file; only the recovery key opens it",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := stateDir(state)
			if err != nil {
				return err
			}
			if out == "" {
				return usageError{errors.New("-o FILE is missing")}
			}
			// Before the store is copied.
			if exists(out) {
				return withHint(fmt.Errorf("%s is there already", out), "choose another name, or move it away: mv %s %s.old", out, out)
			}
			n, err := backupService(cmd.Context(), dir, out)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]any{"file": out, "bytes": n})
			}
			fmt.Fprintf(a.err, a.say("backup of %s in %s (%d bytes); rehearse: vouchsafe restore %s --recovery KEY --state NEWDIR\n",
				"%s 的备份已写入 %s（%d 字节）；请演练恢复：vouchsafe restore %s --recovery KEY --state NEWDIR\n"), dir, out, n, out)
			return nil
		},
	}
	stateFlag(cmd, &state)
	cmd.Flags().StringVarP(&out, "out", "o", "", "new file for the backup")
	return cmd
}

// backupFiles are the files beside store and audit log. The recovery key is not
// among them: a key inside what it opens would be of no use, and of great danger.
var backupFiles = []string{fileRootKey, fileSealed, fileRootCA, fileBackupMAC,
	dirOperator + "/" + credentialKey, dirOperator + "/" + credentialCert, dirOperator + "/" + credentialCA, fileService}

// maybeFiles are there since, or only while, the root key is replaced.
var maybeFiles = []string{fileAuditKey, fileRootKeyNext, fileSealedNext}

// backupService writes a backup while the service may be running. The audit log
// is read after the store was copied: it says at least as much as the store knows.
func backupService(ctx context.Context, dir, out string) (size int64, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("backing up %s: %w", dir, err)
		}
	}()
	file, err := readService(dir)
	if err != nil {
		return 0, err
	}
	unlock, err := lockRoot(dir, true)
	if err != nil {
		return 0, err
	}
	defer unlock()
	roots, err := openRootKeys(ctx, dir)
	if err != nil {
		return 0, err
	}
	wrapped, err := os.ReadFile(filepath.Join(dir, fileBackupMAC))
	if err != nil {
		return 0, err
	}
	mac, err := roots.ring().Unwrap("", keyring.ID{}, backupMACLabel, wrapped)
	if err != nil {
		return 0, fmt.Errorf("opening %s: %w", fileBackupMAC, err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(out), ".vouchsafe-backup-*")
	if err != nil {
		return 0, withHint(err, "name a file in a directory that is there: ls -ld %s", filepath.Dir(out))
	}
	defer os.RemoveAll(tmp)
	st, err := openStore(ctx, dir, time.Now)
	if err != nil {
		return 0, err
	}
	err = st.Snapshot(ctx, filepath.Join(tmp, fileStore))
	if err = errors.Join(err, st.Close()); err != nil {
		return 0, err
	}
	names := slices.Clone(backupFiles)
	for _, name := range maybeFiles {
		if exists(filepath.Join(dir, name)) {
			names = append(names, name)
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, dirAudit))
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".seg") {
			names = append(names, dirAudit+"/"+e.Name())
		}
	}
	names = append(names, fileStore)

	f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	var open *os.File
	next := func() (backup.File, error) {
		if open != nil {
			open.Close()
			open = nil
		}
		if len(names) == 0 {
			return backup.File{}, io.EOF
		}
		name := names[0]
		names = names[1:]
		from := dir
		if name == fileStore {
			from = tmp
		}
		var err error
		if open, err = os.Open(filepath.Join(from, filepath.FromSlash(name))); err != nil {
			return backup.File{}, err
		}
		info, err := open.Stat()
		if err != nil {
			return backup.File{}, err
		}
		return backup.File{Name: name, Size: info.Size(), Content: open}, nil
	}
	err = backup.Recipient{Public: file.BackupPublic, MAC: mac}.Seal(f, time.Now(), next)
	if open != nil {
		open.Close()
	}
	if err == nil {
		size, err = f.Seek(0, io.SeekCurrent)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(out)
		return 0, err
	}
	return size, nil
}
