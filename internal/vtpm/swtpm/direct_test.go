package swtpm

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// pair is a direct connection and the other end of it.
func pair(t *testing.T) (*direct, net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "end")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	d, ok := newDirect(ends[0])
	if !ok {
		t.Fatal("a unix socket is not read directly")
	}
	t.Cleanup(func() { d.Close(); ends[1].Close() })
	return d, ends[1]
}

// busy is a direct connection to which commands have come quickly, so that it keeps its processor.
func busy(d *direct) *direct {
	d.streak, d.turn = quickStreak, d.now()
	return d
}

// reading starts a Read, and gives it time to wait: in its own poll when d is
// busy, or beyond.
func reading(d *direct, wait time.Duration) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := d.Read(make([]byte, 16))
		done <- err
	}()
	time.Sleep(wait)
	return done
}

func within(t *testing.T, done <-chan error, want error) {
	t.Helper()
	select {
	case err := <-done:
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	case <-time.After(time.Minute):
		t.Fatal("it goes on waiting")
	}
}

func TestDirectReadEnds(t *testing.T) {
	idle := func(d *direct) *direct { return d }
	for _, c := range []struct {
		name  string
		state func(*direct) *direct
		wait  time.Duration
	}{{"at once", idle, 0}, {"later", idle, patience}, {"at once, when busy", busy, 0}, {"soon, when busy", busy, patience / 5}, {"later, when busy", busy, 10 * patience}} {
		t.Run("what comes "+c.name, func(t *testing.T) {
			d, far := pair(t)
			done := reading(c.state(d), c.wait)
			far.Write([]byte("x"))
			within(t, done, nil)
		})
		t.Run("the peer goes "+c.name, func(t *testing.T) {
			d, far := pair(t)
			done := reading(c.state(d), c.wait)
			far.Close()
			within(t, done, io.EOF)
		})
		t.Run("closed "+c.name, func(t *testing.T) {
			d, _ := pair(t)
			done := reading(c.state(d), c.wait)
			d.Close()
			within(t, done, net.ErrClosed)
			if _, err := d.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		})
	}
}

func TestDirectDeadlines(t *testing.T) {
	d, far := pair(t)
	d.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	within(t, reading(d, 0), os.ErrDeadlineExceeded)
	d.SetReadDeadline(time.Time{})

	// A peer that does not read holds a write up only until the deadline.
	d.SetWriteDeadline(time.Now().Add(30 * time.Millisecond))
	big := bytes.Repeat([]byte("vouchsafe"), 1<<17)
	n, err := d.Write(big)
	if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 {
		t.Fatalf("wrote %d octets to nobody: %v", n, err)
	}
	// And one that reads gets all of it, in order.
	d.SetWriteDeadline(time.Now().Add(5 * time.Second))
	done := make(chan error, 1)
	go func() { _, err := d.Write(big[n:]); done <- err }()
	got := make([]byte, len(big))
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, big) {
		t.Errorf("what was read is not what was written (%v)", err)
	}
	within(t, done, nil)
}

// answer sends back what comes, until the connection ends.
func answer(c net.Conn) {
	for b := make([]byte, 16); ; {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		c.Write(b[:n])
	}
}

func ask(t *testing.T, far net.Conn) {
	t.Helper()
	if _, err := far.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := far.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// A goroutine that polls by itself holds up neither the collector nor another
// connection, even on the only processor there is.
func TestDirectGivesWay(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	d, far := pair(t)
	go answer(d)
	other, farOther := pair(t)
	go answer(other.Conn)
	for _, c := range []net.Conn{far, farOther} {
		c.SetDeadline(time.Now().Add(time.Minute)) // a machine may have other work
	}
	for range 100 { // always within patience
		ask(t, far)
		began := time.Now()
		runtime.GC()
		ask(t, farOther)
		if took := time.Since(began); took > 10*time.Second {
			t.Fatalf("a collection and an answer took %v", took)
		}
	}
}

// A busy channel takes no memory for a command.
func TestDirectAllocations(t *testing.T) {
	d, far := pair(t)
	busy(d)
	b := make([]byte, 16)
	x := []byte("x")
	if n := testing.AllocsPerRun(100, func() {
		far.Write(x)
		if _, err := d.Read(b); err != nil {
			t.Fatal(err)
		}
		d.send(x)
		far.Read(b)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// An idle channel costs nothing.
func TestDirectIdle(t *testing.T) {
	used := func() time.Duration {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			t.Fatal(err)
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	d, _ := pair(t)
	reading(busy(d), 10*patience)
	before := used()
	time.Sleep(500 * time.Millisecond)
	if took := used() - before; took > 50*time.Millisecond {
		t.Errorf("waiting for half a second took %v of a processor", took)
	}
}
