package swtpm

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// direct is a data channel that its goroutine reads by itself, without Go's
// poller. A small TPM command takes a few microseconds; handing a goroutine
// from the poller to a processor and back costs several times that, in futex
// calls and in the sleeps of the runtime's monitor, which looks every 20 us
// after a system call that does not return.
//
// So for a moment after each command (recvPatience) the thread waits inside the
// receive itself, by a system call that the scheduler does not know of: its
// processor stays with it. Nothing else is held up by that: the runtime's signal
// to a goroutine that it wants to stop (for the garbage collector, or because
// another one is waiting) ends the receive with EINTR, and the goroutine is
// stopped at the next call. When nothing came, it waits in an ordinary poll, and
// an idle vTPM costs nothing.
//
// It is for a process with one vTPM, where there is nothing better to do with a
// processor; hence [Server.Dedicated].
type direct struct {
	fd            int
	local, remote net.Addr
	tcp           bool

	readBy, writeBy time.Time // of the one goroutine that reads and writes

	once   sync.Once
	closed atomic.Bool
	use    sync.RWMutex // held for reading while fd is used, for writing to close it
}

// newDirect takes over a connection; it returns conn itself, and false, where that cannot be.
func newDirect(conn net.Conn) (net.Conn, bool) {
	s, ok := conn.(syscall.Conn)
	if !ok {
		return conn, false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return conn, false
	}
	fd := -1
	raw.Control(func(theirs uintptr) {
		if fd, err = unix.FcntlInt(theirs, unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return
		}
		// A receive that may wait: the patience is the socket's own.
		patience := unix.NsecToTimeval(recvPatience.Nanoseconds())
		if err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err == nil {
			err = unix.SetNonblock(fd, false)
		}
	})
	if fd < 0 || err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return conn, false
	}
	_, tcp := conn.(*net.TCPConn)
	d := &direct{fd: fd, local: conn.LocalAddr(), remote: conn.RemoteAddr(), tcp: tcp}
	conn.Close() // and with it leave Go's poller
	return d, true
}

// Read waits for something to read, until the deadline.
func (d *direct) Read(p []byte) (int, error) {
	d.use.RLock()
	defer d.use.RUnlock()
	for !d.closed.Load() {
		n, errno := rawSocketCall(unix.SYS_RECVFROM, d.fd, p, 0)
		switch errno {
		case 0:
			if n == 0 && len(p) > 0 {
				return 0, io.EOF
			}
			return n, nil
		case unix.EINTR:
		case unix.EAGAIN:
			if err := d.wait(unix.POLLIN, d.readBy); err != nil {
				return 0, err
			}
		default:
			return 0, errno
		}
	}
	return 0, net.ErrClosed
}

// Write sends all of p, until the deadline.
func (d *direct) Write(p []byte) (int, error) {
	d.use.RLock()
	defer d.use.RUnlock()
	sent := 0
	for sent < len(p) {
		if d.closed.Load() {
			return sent, net.ErrClosed
		}
		n, errno := rawSocketCall(unix.SYS_SENDTO, d.fd, p[sent:], unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch errno {
		case 0:
			sent += n
		case unix.EINTR:
		case unix.EAGAIN:
			if err := d.wait(unix.POLLOUT, d.writeBy); err != nil {
				return sent, err
			}
		default:
			return sent, errno
		}
	}
	return sent, nil
}

// rawSocketCall is recvfrom or sendto without telling the scheduler.
func rawSocketCall(call uintptr, fd int, p []byte, flags int) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), uintptr(flags), 0, 0)
	return int(n), errno
}

// wait lets the scheduler have the processor until the socket is ready, or the deadline passed (zero: none).
func (d *direct) wait(events int16, deadline time.Time) error {
	var timeout *unix.Timespec
	if !deadline.IsZero() {
		left := time.Until(deadline)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		ts := unix.NsecToTimespec(left.Nanoseconds())
		timeout = &ts
	}
	n, err := unix.Ppoll([]unix.PollFd{{Fd: int32(d.fd), Events: events}}, timeout, nil)
	switch {
	case errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return err
	case n == 0:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// quickAck is for [stream.quickAck].
func (d *direct) quickAck() {
	if d.tcp {
		unix.SetsockoptInt(d.fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	}
}

// Close may be called by anybody, and ends a Read or Write under way.
func (d *direct) Close() error {
	var err error
	d.once.Do(func() {
		d.closed.Store(true)
		unix.Shutdown(d.fd, unix.SHUT_RDWR)
		d.use.Lock()
		defer d.use.Unlock()
		err = unix.Close(d.fd)
	})
	return err
}

func (d *direct) LocalAddr() net.Addr  { return d.local }
func (d *direct) RemoteAddr() net.Addr { return d.remote }

// SetDeadline, SetReadDeadline and SetWriteDeadline are for the goroutine that
// reads and writes, and count from its next call.
func (d *direct) SetDeadline(t time.Time) error {
	d.readBy, d.writeBy = t, t
	return nil
}

func (d *direct) SetReadDeadline(t time.Time) error {
	d.readBy = t
	return nil
}

func (d *direct) SetWriteDeadline(t time.Time) error {
	d.writeBy = t
	return nil
}
