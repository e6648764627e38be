package swtpm

import (
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// direct is a data channel that waits for the next command by itself while
// commands come quickly. A small TPM command takes a few microseconds; handing
// a goroutine to Go's poller and back costs several times that.
//
// After quickStreak commands in a row its thread polls the socket by a system
// call that the scheduler does not know of: its processor stays with it. Nothing
// else is held up by that. The runtime's signal to a goroutine that it wants to
// stop (for the garbage collector, or because it has run for 10 ms) ends the poll
// with EINTR, and the goroutine goes on in Go's poller; the signal is sent again
// until it has. So the poll needs no timer of its own, which would cost a
// fourteenth of a small command. And whatever comes, once in patience it waits in
// Go's poller, where the runtime does what else is due; it gives its turn up
// before the runtime's monitor would take it away, which wakes other threads and
// has the kernel move this one away from its client.
//
// When commands come now and then it waits in Go's poller only: a processor that
// is kept, also within an ordinary system call, has the monitor look after it
// every 20 us at first, and that is a millisecond of work for each command. An
// idle vTPM costs nothing.
//
// It polls, then receives; it never waits in the receive. A sleeping receive is
// woken when the peer takes the answer as well, to find nothing and sleep again.
//
// It is for a process with one vTPM, where there is nothing better to do with a
// processor; hence [Server.Dedicated].
//
// Waiting in Go's poller it does not use Conn.Read either: that makes an ordinary
// system call first, which has the monitor look every 20 us again.
type direct struct {
	net.Conn // closes it, and keeps the deadlines
	raw      syscall.RawConn
	fd       int // of the same socket, and of the one goroutine that reads and writes
	tcp      bool

	start  time.Time
	streak int           // commands since one was long in coming
	turn   time.Duration // when it last came from Go's poller

	// Of the Read in progress, for receive.
	p       []byte
	n       int
	errno   syscall.Errno
	receive func(fd uintptr) bool // made once: a method value takes memory
}

// newDirect makes conn a direct one, which its user must release; false where that cannot be.
func newDirect(conn net.Conn) (*direct, bool) {
	s, ok := conn.(syscall.Conn)
	if !ok || strings.Contains(os.Getenv("GODEBUG"), "asyncpreemptoff=1") { // then nothing would end the poll
		return nil, false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, false
	}
	d := &direct{Conn: conn, raw: raw, start: time.Now()}
	d.receive = d.tryReceive
	_, d.tcp = conn.(*net.TCPConn)
	if raw.Control(func(fd uintptr) { d.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }) != nil || err != nil {
		return nil, false
	}
	return d, true
}

// release gives the descriptor back. Close may come from anywhere and at any
// time, and so leaves it alone.
func (d *direct) release() { unix.Close(d.fd) }

// now is the time since start, which costs half of what time.Now does.
func (d *direct) now() time.Duration { return time.Since(d.start) }

// Read waits for something to read, until the deadline.
func (d *direct) Read(p []byte) (int, error) {
	began := d.now()
	if d.streak >= quickStreak && began-d.turn < patience && rawPoll(d.fd) {
		if n, errno := rawSocketCall(unix.SYS_RECVFROM, d.fd, p, unix.MSG_DONTWAIT); errno == 0 && n > 0 {
			d.streak++
			return n, nil
		}
	}
	d.p = p
	err := d.raw.Read(d.receive)
	d.p = nil
	d.streak++
	d.turn = d.now()
	if d.turn-began >= patience {
		d.streak = 0
	}
	switch {
	case err != nil:
		return 0, err
	case d.errno != 0:
		return 0, d.errno
	case d.n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return d.n, nil
}

// tryReceive is false when there is nothing to read yet.
func (d *direct) tryReceive(fd uintptr) bool {
	d.n, d.errno = rawSocketCall(unix.SYS_RECVFROM, int(fd), d.p, unix.MSG_DONTWAIT)
	return d.errno != unix.EAGAIN
}

// send sends what there is room for and reports how much; Write does the rest.
func (d *direct) send(p []byte) int {
	n, errno := rawSocketCall(unix.SYS_SENDTO, d.fd, p, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	if errno != 0 {
		return 0
	}
	return n
}

// rawPoll waits for input, or for a signal, without telling the scheduler, and
// reports whether there is input.
func rawPoll(fd int) bool {
	poll := unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	n, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, 0, 0, 0, 0)
	return errno == 0 && n > 0
}

// rawSocketCall is recvfrom or sendto without telling the scheduler; neither waits.
func rawSocketCall(call uintptr, fd int, p []byte, flags uintptr) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
	return int(n), errno
}

// quickAck is for [stream.quickAck].
func (d *direct) quickAck() {
	if d.tcp {
		unix.SetsockoptInt(d.fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	}
}
