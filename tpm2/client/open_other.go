//go:build !linux

package client

import (
	"errors"
	"io"
)

func openDevice(string) (io.ReadWriteCloser, error) {
	return nil, errors.New("TPM devices are opened on Linux only; use tcp: or unix:")
}
