// Package tpmsock reaches a TPM behind a socket, for the tests that compare
// ours with others: the raw data channel, the part of swtpm's control channel
// that a test needs, and the starting and stopping of Debian's swtpm. It is a
// client only and knows no TPM command but the header's size field.
//
// Begin with [Start], which runs a fresh swtpm, or [Dial], which takes the
// address of any TPM.
package tpmsock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// maxResponse bounds what a peer may answer: twice the largest response of any TPM known here.
const maxResponse = 16384

// patience is how long a TPM may think about one command. RSA keys take swtpm
// up to a second on a busy machine.
const patience = 60 * time.Second

// A Conn is the data channel of a TPM: one command, one response.
type Conn struct {
	c   net.Conn
	f   io.ReadWriteCloser
	buf [maxResponse]byte
}

// Dial opens unix:PATH, tcp:HOST:PORT or dev:PATH.
func Dial(addr string) (*Conn, error) {
	kind, where, ok := strings.Cut(addr, ":")
	switch {
	case ok && (kind == "unix" || kind == "tcp"):
		c, err := dial(kind, where)
		if err != nil {
			return nil, err
		}
		return &Conn{c: c, f: c}, nil
	case ok && kind == "dev":
		f, err := os.OpenFile(where, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		return &Conn{f: f}, nil
	}
	return nil, fmt.Errorf("address %q: want unix:PATH, tcp:HOST:PORT or dev:PATH", addr)
}

// dial tries again for a second: swtpm's sockets have room for one waiting
// connection, and one just closed may still take it.
func dial(kind, where string) (net.Conn, error) {
	for wait := 100 * time.Microsecond; ; wait *= 2 {
		c, err := net.Dial(kind, where)
		if err == nil || !errors.Is(err, syscall.EAGAIN) || wait > time.Second {
			return c, err
		}
		time.Sleep(wait)
	}
}

// Send sends one command and returns a copy of the response. It has the
// signature that go-tpm wants of a transport.
func (c *Conn) Send(cmd []byte) ([]byte, error) {
	if c.c != nil {
		c.c.SetDeadline(time.Now().Add(patience))
	}
	if _, err := c.f.Write(cmd); err != nil {
		return nil, fmt.Errorf("sending %d octets: %w", len(cmd), err)
	}
	n, err := io.ReadAtLeast(c.f, c.buf[:], 10)
	if err != nil {
		return nil, fmt.Errorf("reading a response header: %w", err)
	}
	want := int(binary.BigEndian.Uint32(c.buf[2:]))
	if want < 10 || want > len(c.buf) {
		return nil, fmt.Errorf("response says it has %d octets", want)
	}
	if n < want {
		if _, err := io.ReadFull(c.f, c.buf[n:want]); err != nil {
			return nil, fmt.Errorf("reading a response of %d octets: %w", want, err)
		}
	}
	return append([]byte(nil), c.buf[:want]...), nil
}

// Close closes the channel; the TPM keeps its state.
func (c *Conn) Close() error { return c.f.Close() }
