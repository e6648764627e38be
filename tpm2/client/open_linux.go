package client

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// device is an open character device. It is not an *os.File: os.OpenFile makes
// a descriptor non-blocking if it can be polled, and a /dev/tpm0 opened so
// returns from a read before the TPM has answered and is busy ever after.
type device struct {
	fd   int
	path string
}

func openDevice(path string) (io.ReadWriteCloser, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		switch err {
		case nil:
			return &device{fd, path}, nil
		case unix.EINTR:
		default:
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

func (d *device) Read(p []byte) (int, error) {
	n, err := retryEINTR(func() (int, error) { return unix.Read(d.fd, p) })
	if n == 0 && err == nil {
		return 0, io.EOF // the driver has no response to give
	}
	return max(n, 0), d.wrap("read", err)
}

func (d *device) Write(p []byte) (int, error) {
	n, err := retryEINTR(func() (int, error) { return unix.Write(d.fd, p) })
	return max(n, 0), d.wrap("write", err)
}

func retryEINTR(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); err != unix.EINTR {
			return n, err
		}
	}
}

func (d *device) wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: d.path, Err: err}
}

func (d *device) Close() error { return d.wrap("close", unix.Close(d.fd)) }
