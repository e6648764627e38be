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
	return d.(*direct), ends[1]
}

// reading starts a Read, and gives it time to wait: within its patience, or beyond.
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
	case <-time.After(5 * time.Second):
		t.Fatal("it goes on waiting")
	}
}

func TestDirectReadEnds(t *testing.T) {
	for name, wait := range map[string]time.Duration{"at once": 0, "later": 10 * recvPatience} {
		t.Run("what comes "+name, func(t *testing.T) {
			d, far := pair(t)
			done := reading(d, wait)
			far.Write([]byte("x"))
			within(t, done, nil)
		})
		t.Run("the peer goes "+name, func(t *testing.T) {
			d, far := pair(t)
			done := reading(d, wait)
			far.Close()
			within(t, done, io.EOF)
		})
		t.Run("closed "+name, func(t *testing.T) {
			d, _ := pair(t)
			done := reading(d, wait)
			d.Close()
			select {
			case err := <-done:
				if err == nil {
					t.Error("a closed connection was read")
				}
			case <-time.After(5 * time.Second):
				t.Fatal("Close does not end a Read")
			}
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

// A goroutine that waits inside its receive holds up neither the collector nor
// another goroutine, even on the only processor there is.
func TestDirectGivesWay(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	d, far := pair(t)
	go func() {
		for b := make([]byte, 16); ; {
			n, err := d.Read(b)
			if err != nil {
				return
			}
			d.Write(b[:n])
		}
	}()
	far.SetDeadline(time.Now().Add(time.Minute)) // a machine may have other work
	for range 100 { // always within its patience
		if _, err := far.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := far.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		runtime.GC()
		if took := time.Since(began); took > 10*time.Second {
			t.Fatalf("a collection took %v", took)
		}
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
	reading(d, 10*recvPatience)
	before := used()
	time.Sleep(500 * time.Millisecond)
	if took := used() - before; took > 50*time.Millisecond {
		t.Errorf("waiting for half a second took %v of a processor", took)
	}
}
