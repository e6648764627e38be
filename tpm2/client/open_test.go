package client

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

func TestDeviceErrors(t *testing.T) {
	for _, tt := range []struct {
		path string
		err  error
		want string
	}{
		{"/dev/tpm0", fs.ErrNotExist, "shows no TPM"},
		{"/dev/tpm0", syscall.ENOENT, "shows no TPM"},
		{"/dev/tpm0", syscall.EACCES, "usermod -aG tss"},
		{"/dev/tpm0", syscall.EBUSY, "/dev/tpmrm0 can be shared"},
		{"/dev/tpmrm0", syscall.EBUSY, "fuser -v /dev/tpm0"},
		{"/dev/tpm0", syscall.ENODEV, "its TPM is not"},
	} {
		err := deviceError(tt.path, tt.err)
		if !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s, %v: %v", tt.path, tt.err, err)
		}
	}
	if err := deviceError("/dev/tpm0", syscall.EIO); err != syscall.EIO {
		t.Errorf("got %v", err)
	}
}
