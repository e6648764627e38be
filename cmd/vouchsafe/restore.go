package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/backup"
	"github.com/vouchsafe/vouchsafe/internal/durable"
	"github.com/vouchsafe/vouchsafe/internal/seal"
)

func newRestoreCommand(a *app) *cobra.Command {
	var state, recovery string
	var checkpoints []string
	cmd := &cobra.Command{
		Use:   "restore FILE --recovery KEYFILE",
		Short: "Open a backup into a new state directory, and check all of it first",
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := stateDir(state)
			if err != nil {
				return err
			}
			if recovery == "" {
				return usageError{errors.New("--recovery KEYFILE is missing: the recovery key that init wrote")}
			}
			outside, err := readCheckpoints(checkpoints)
			if err != nil {
				return err
			}
			file, fs, err := restoreService(cmd.Context(), args[0], recovery, dir, outside)
			a.printFindings(fs)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]string{"id": file.ID, "state": dir})
			}
			fmt.Fprintf(a.err, a.say("service %s restored to %s and checked\n", "服务 %s 已恢复到 %s 并通过检查\n"), file.ID, dir)
			fmt.Fprintln(a.err, a.say("Make sure that the old one never runs again: two services with one identity would give out two copies of every vTPM.",
				"请确保旧服务不再运行：两个相同身份的服务会使每个 vTPM 出现两份副本。"))
			return nil
		},
	}
	stateFlag(cmd, &state)
	cmd.Flags().StringVar(&recovery, "recovery", "", "file with the recovery key")
	cmd.Flags().StringSliceVar(&checkpoints, "checkpoint", nil, "audit checkpoint that was kept elsewhere: an older backup than that is refused; may be repeated")
	return cmd
}

// restoreDir is where a backup is opened, beside the place that it is for.
const restoreDir = ".vouchsafe-restore-*"

// fileRestoring is service.json before step 4.
const fileRestoring = fileService + ".restoring"

// inClear are the files of a backup that no other key protects. Until all of it was
// examined they are in memory only: a restore that is killed leaves a directory of
// sealed things that nobody looks for.
var inClear = []string{fileRootKey, fileRootKeyNext, dirOperator + "/" + credentialKey}

// maxInClear: key files have less than 1 KiB.
const maxInClear = 16 << 10

// restoreService opens a backup beside dir, examines it as check does, and only
// then puts it in place:
//
//	1  all files but those in clear go into a directory of their own; it is examined
//	2  that directory takes its name, with service.json still called otherwise
//	3  the files in clear are written
//	4  service.json gets its name: with it, the service exists
//
// Killed before 2 it leaves nothing that opens anything; between 2 and 4 a directory
// that no command takes for a service.
func restoreService(ctx context.Context, from, recoveryFile, dir string, outside []audit.Outside) (file serviceFile, fs []finding.Finding, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("restoring %s: %w", from, err)
		}
	}()
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		if exists(filepath.Join(dir, fileRestoring)) {
			return file, nil, withHint(fmt.Errorf("%s is not empty", dir), "a restore was cut off there: rm -r %s, then again", dir)
		}
		return file, nil, withHint(fmt.Errorf("%s is not empty", dir), "choose a new directory: --state DIR")
	}
	recovery, err := seal.ReadKeyFile(recoveryFile)
	if errors.Is(err, seal.ErrKeyFileOpen) {
		return file, nil, withHint(err, "chmod 600 %s, and find out who could read it", recoveryFile)
	}
	if err != nil {
		return file, nil, err
	}
	f, err := os.Open(from)
	if err != nil {
		return file, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return file, nil, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return file, nil, err
	}
	if err := dropCutOff(filepath.Dir(dir)); err != nil {
		return file, nil, err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), restoreDir)
	if err != nil {
		return file, nil, err
	}
	defer os.RemoveAll(tmp)
	held, err := holdDir(tmp)
	if err != nil {
		return file, nil, err
	}
	defer held.Close()

	// 1. Opened and examined.
	keys := map[string][]byte{}
	defer func() {
		for _, k := range keys {
			clear(k)
		}
	}()
	err = backup.Open(f, info.Size(), recovery, func(name string, size int64, content io.Reader) error {
		if !slices.Contains(inClear, name) {
			return restoreFile(filepath.Join(tmp, filepath.FromSlash(name)), size, content)
		}
		if size > maxInClear {
			return fmt.Errorf("%s has %d bytes, over the limit of %d", name, size, maxInClear)
		}
		keys[name] = make([]byte, size)
		_, err := io.ReadFull(content, keys[name])
		return err
	})
	if errors.Is(err, backup.ErrNotOurs) {
		return file, nil, withHint(err, "is it the right recovery key, and the whole file?")
	}
	if err != nil {
		return file, nil, err
	}
	if file, err = readService(tmp); err != nil {
		return file, nil, err
	}
	e := newExaminer(tmp)
	e.place, e.inMemory = dir, keys
	fs, err = e.examine(ctx, outside)
	if err != nil {
		return file, fs, err
	}
	if finding.Worst(fs) == finding.Error {
		return file, fs, withHint(errors.New("what is in the backup does not hold; nothing was put in place"),
			"take a newer backup; where AUDIT_CUT is all, this one is older than the checkpoint: docs/runbooks/restore.md says when to go on without --checkpoint")
	}
	return file, fs, putInPlace(tmp, dir, keys)
}

// putInPlace is steps 2 to 4 of restoreService.
func putInPlace(tmp, dir string, keys map[string][]byte) error {
	if err := renameDurable(filepath.Join(tmp, fileService), filepath.Join(tmp, fileRestoring)); err != nil {
		return err
	}
	os.Remove(dir) // empty, or not there
	if err := os.Rename(tmp, dir); err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(dir, 0o700), durable.SyncDir(filepath.Dir(dir))); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		if err := durable.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), keys[name], 0o600); err != nil {
			return err
		}
	}
	return renameDurable(filepath.Join(dir, fileRestoring), filepath.Join(dir, fileService))
}

// holdDir keeps others from taking a directory for one that was left behind.
func holdDir(path string) (*os.File, error) {
	d, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// dropCutOff removes what restores left that were killed.
func dropCutOff(parent string) error {
	left, err := filepath.Glob(filepath.Join(parent, restoreDir))
	if err != nil {
		return err
	}
	for _, path := range left {
		d, err := holdDir(path)
		if err != nil {
			continue // it is at work, or somebody else's
		}
		err = errors.Join(os.RemoveAll(path), d.Close())
		if err != nil {
			return err
		}
	}
	return nil
}

func restoreFile(path string, size int64, content io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, content, size)
	return errors.Join(err, f.Sync(), f.Close())
}
