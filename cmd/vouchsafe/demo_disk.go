package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/vouchsafe/vouchsafe/internal/agent"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/xaes"
)

// demoDisk is a disk of the VM: LUKS2 in a file where cryptsetup is installed;
// else a volume key in an envelope, which is as shut but no disk.
type demoDisk interface {
	Format(ctx context.Context, key secret.Bytes) (digest []byte, err error)
	Check(ctx context.Context, key secret.Bytes, want []byte) error
}

// diskSize: 4 MiB of LUKS2 header, and as much of data. The file is sparse.
const diskSize = 8 << 20

func (d *demo) newDisk(name string) (demoDisk, error) {
	path := filepath.Join(d.dir, name)
	if !haveCryptsetup() {
		return envelope(path), nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(diskSize); err != nil {
		f.Close()
		return nil, err
	}
	return agent.LUKS{Device: path, Scratch: d.dir}, f.Close()
}

func haveCryptsetup() bool {
	if _, err := exec.LookPath("cryptsetup"); err == nil {
		return true
	}
	_, err := os.Stat("/usr/sbin/cryptsetup")
	return err == nil
}

type envelope string

func (e envelope) Format(_ context.Context, key secret.Bytes) ([]byte, error) {
	volume := make([]byte, 64)
	rand.Read(volume)
	digest := sha256.Sum256(volume)
	return digest[:], os.WriteFile(string(e), xaes.NewBox(key).Seal(volume, nil), 0o600)
}

func (e envelope) Check(_ context.Context, key secret.Bytes, want []byte) error {
	data, err := os.ReadFile(string(e))
	if err != nil {
		return err
	}
	volume, err := xaes.NewBox(key).Open(data, nil)
	if err != nil {
		return err
	}
	if digest := sha256.Sum256(volume); !bytes.Equal(digest[:], want) {
		return agent.ErrOtherDisk
	}
	return nil
}
