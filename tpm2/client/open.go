package client

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// Open connects to the TPM at path:
//
//	/dev/tpmrm0      the Linux driver with its resource manager: the one to use
//	/dev/tpm0        the Linux driver alone; only one program may have it open
//	tcp:HOST:PORT    a data channel of swtpm or vouchsafe
//	unix:PATH        the same on a unix socket
//
// The error says what to do about it.
func Open(path string) (*Client, error) {
	rw, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the TPM at %s: %w", path, err)
	}
	return New(rw), nil
}

// dialFor bounds the wait for a peer to accept a connection.
const dialFor = 10 * time.Second

func open(path string) (io.ReadWriteCloser, error) {
	if addr, ok := strings.CutPrefix(path, "tcp:"); ok {
		return dial("tcp", addr)
	}
	if name, ok := strings.CutPrefix(path, "unix:"); ok {
		return dial("unix", name)
	}
	if !strings.HasPrefix(path, "/") {
		return nil, errors.New("that is no TPM: give /dev/tpmrm0, tcp:HOST:PORT or unix:PATH")
	}
	st, err := os.Stat(path)
	if err == nil && st.Mode()&os.ModeSocket != 0 {
		return nil, fmt.Errorf("that is a socket: say unix:%s", path)
	}
	if err == nil && st.Mode()&os.ModeCharDevice == 0 {
		return nil, errors.New("that is not a character device")
	}
	if err == nil {
		var dev io.ReadWriteCloser
		if dev, err = openDevice(path); err == nil {
			return dev, nil
		}
	}
	return nil, deviceError(path, err)
}

// deviceError adds the way out to what the operating system says.
func deviceError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: this machine shows no TPM: enable it in the firmware setup (PTT or fTPM), or give the virtual machine one; dmesg | grep -i tpm tells more", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: run as root, or join the group that owns it: usermod -aG tss USER", err)
	case errors.Is(err, syscall.EBUSY) && !strings.Contains(path, "tpmrm"):
		return fmt.Errorf("%w: another program has it open (fuser -v %s names it); /dev/tpmrm0 can be shared", err, path)
	case errors.Is(err, syscall.EBUSY):
		return fmt.Errorf("%w: another program holds the TPM; fuser -v /dev/tpm0 names it", err)
	case errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
		return fmt.Errorf("%w: the device is there but its TPM is not; dmesg | grep -i tpm tells more", err)
	}
	return err
}

func dial(network, addr string) (io.ReadWriteCloser, error) {
	conn, err := net.DialTimeout(network, addr, dialFor)
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: nothing has made that socket; is the TPM's program running?", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w: nobody listens there; is the TPM's program running? swtpm started with --terminate ends with its first connection", err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w: the socket belongs to another user (ls -l %s)", err, addr)
	}
	return nil, err
}
