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
type direct struct {
	net.Conn // closes it, and keeps the deadlines
	raw      syscall.RawConn
	tcp      bool

	// Of the one goroutine that reads and writes.
	streak int       // commands since one was long in coming
	turn   time.Time // when it last came from Go's poller
	keep   bool      // the processor, for this read
	parked bool      // this read has been to Go's poller

	// Of the call in progress, for receive and send.
	p             []byte
	n             int
	errno         syscall.Errno
	receive, send func(fd uintptr) bool // made once: a method value takes memory
}

// newDirect makes conn a direct one; it returns conn itself, and false, where that cannot be.
func newDirect(conn net.Conn) (net.Conn, bool) {
	s, ok := conn.(syscall.Conn)
	if !ok || strings.Contains(os.Getenv("GODEBUG"), "asyncpreemptoff=1") { // then nothing would end the poll
		return conn, false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return conn, false
	}
	d := &direct{Conn: conn, raw: raw}
	_, d.tcp = conn.(*net.TCPConn)
	d.receive, d.send = d.tryReceive, d.trySend
	return d, true
}

// Read waits for something to read, until the deadline.
func (d *direct) Read(p []byte) (int, error) {
	began := time.Now()
	d.keep, d.parked = d.streak >= quickStreak && began.Sub(d.turn) < patience, false
	d.p = p
	for d.errno = unix.EINTR; d.errno == unix.EINTR; {
		if err := d.raw.Read(d.receive); err != nil {
			return 0, err
		}
	}
	d.streak++
	if d.parked {
		d.turn = time.Now()
		if d.turn.Sub(began) >= patience {
			d.streak = 0
		}
	}
	switch {
	case d.errno != 0:
		return 0, d.errno
	case d.n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return d.n, nil
}

// tryReceive is false when there was nothing to read for the time it may wait.
func (d *direct) tryReceive(fd uintptr) bool {
	if d.keep {
		ready, errno := rawPoll(fd)
		d.keep = ready > 0 && errno == 0
	}
	d.n, d.errno = rawSocketCall(unix.SYS_RECVFROM, fd, d.p, unix.MSG_DONTWAIT)
	if d.errno == unix.EAGAIN {
		d.parked = true
		return false
	}
	return true
}

// Write sends all of p, until the deadline.
func (d *direct) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		d.p = p[sent:]
		if err := d.raw.Write(d.send); err != nil {
			return sent, err
		}
		switch d.errno {
		case 0:
			sent += d.n
		case unix.EINTR:
		default:
			return sent, d.errno
		}
	}
	return sent, nil
}

// trySend is false when there is no room.
func (d *direct) trySend(fd uintptr) bool {
	d.n, d.errno = rawSocketCall(unix.SYS_SENDTO, fd, d.p, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	return d.errno != unix.EAGAIN
}

// rawPoll waits for input, or for a signal, without telling the scheduler.
func rawPoll(fd uintptr) (int, syscall.Errno) {
	poll := unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	n, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, 0, 0, 0, 0)
	return int(n), errno
}

// rawSocketCall is recvfrom or sendto without telling the scheduler; neither waits.
func rawSocketCall(call, fd uintptr, p []byte, flags uintptr) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
	return int(n), errno
}

// quickAck is for [stream.quickAck].
func (d *direct) quickAck() {
	if d.tcp {
		d.raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
	}
}
