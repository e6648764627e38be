package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// Client is one connection to one TPM. It may be used by several goroutines:
// commands go out one at a time.
type Client struct {
	mu       sync.Mutex // guards all below, and the state of the sessions
	rw       io.ReadWriter
	broken   error // why nothing more can be said on rw
	sessions map[tpm2.Handle]*Session

	// Scratch space for one command, reused for the next.
	out, par []byte
	in       [maxResponse]byte
	enc      tpm2.Encoder
	handles  []tpm2.Handle
	auths    []authorization
	names    [][]byte
}

// New speaks to a TPM over rw: one Write is one command, and what is read next
// is its response. If rw is an io.Closer, [Client.Close] closes it.
func New(rw io.ReadWriter) *Client {
	return &Client{rw: rw, sessions: map[tpm2.Handle]*Session{}}
}

// Close flushes the sessions that are still open and closes the connection.
func (c *Client) Close() error {
	c.mu.Lock()
	open := make([]*Session, 0, len(c.sessions))
	for _, s := range c.sessions {
		open = append(open, s)
	}
	broken := c.broken
	c.mu.Unlock()
	var errs []error
	if broken == nil {
		for _, s := range open {
			errs = append(errs, s.Close())
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(c.broken, errClosed) {
		return nil
	}
	c.broken = errClosed
	if cl, ok := c.rw.(io.Closer); ok {
		errs = append(errs, cl.Close())
	}
	return errors.Join(errs...)
}

var errClosed = errors.New("the connection to the TPM was closed")

// Transmit sends one command as it is and returns the response as it is, after
// checking its header; busy TPMs are asked again. It is for tools that pass on
// what others wrote; sessions of this Client do not notice.
func (c *Client) Transmit(command []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(command) < headerSize || len(command) > maxCommand || int(binary.BigEndian.Uint32(command[2:])) != len(command) {
		return nil, fmt.Errorf("sending a command: %d octets that do not begin with their size", len(command))
	}
	r, err := c.transmit(command)
	if err != nil {
		return nil, fmt.Errorf("command 0x%x: %w", binary.BigEndian.Uint32(command[6:]), err)
	}
	return append([]byte(nil), r...), nil
}

// transmit exchanges one command for its response, which lies in c.in.
func (c *Client) transmit(command []byte) ([]byte, error) {
	wait := retryFirst
	for start := time.Now(); ; {
		r, err := c.exchange(command)
		if err != nil {
			return nil, err
		}
		switch tpm2.RC(binary.BigEndian.Uint32(r[6:])) {
		case tpm2.RCRetry, tpm2.RCYielded, tpm2.RCTesting:
			// Part 3, 4.4: the command was not executed and may be sent again as it is.
			if time.Since(start)+wait <= retryFor {
				time.Sleep(wait)
				wait = min(2*wait, retryMost)
				continue
			}
		}
		return r, nil
	}
}

// exchange writes a command and reads a whole response. After an error the two
// sides are out of step for good.
func (c *Client) exchange(command []byte) ([]byte, error) {
	if c.broken != nil {
		return nil, c.broken
	}
	r, err := c.writeRead(command)
	if err != nil {
		c.broken = fmt.Errorf("%w (the connection is of no more use; open it again)", err)
		return nil, err
	}
	return r, nil
}

func (c *Client) writeRead(command []byte) ([]byte, error) {
	if d, ok := c.rw.(interface{ SetDeadline(time.Time) error }); ok {
		if err := d.SetDeadline(time.Now().Add(commandFor)); err != nil {
			return nil, fmt.Errorf("sending the command: %w", err)
		}
	}
	if n, err := c.rw.Write(command); err != nil {
		return nil, fmt.Errorf("sending the command: %w", err)
	} else if n != len(command) {
		return nil, fmt.Errorf("sending the command: %w", io.ErrShortWrite)
	}
	// A device gives a response in one read and drops what the buffer has no
	// room for; a socket gives it in pieces.
	got, want, empty := 0, headerSize, 0
	for got < want {
		n, err := c.rw.Read(c.in[got:])
		if n < 0 || n > len(c.in)-got {
			return nil, fmt.Errorf("reading the response: %w", io.ErrNoProgress)
		}
		got += n
		if got >= headerSize {
			size := binary.BigEndian.Uint32(c.in[2:])
			if size < headerSize || size > maxResponse || got > int(size) {
				return nil, fmt.Errorf("%w: %d octets came, its size says %d, the most is %d", ErrResponse, got, size, maxResponse)
			}
			want = int(size)
		}
		if got >= want {
			break
		}
		if err == nil && n == 0 {
			if empty++; empty > maxEmptyReads {
				err = io.ErrNoProgress
			}
		}
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("reading the response after %d octets: %w", got, err)
		}
	}
	return c.in[:got], nil
}

// Direct is a TPM in the same process as an io.ReadWriter: a function from a
// command to its response.
func Direct(execute func(command []byte) (response []byte)) io.ReadWriter {
	return &direct{execute: execute}
}

type direct struct {
	execute func([]byte) []byte
	rest    []byte
}

func (d *direct) Write(command []byte) (int, error) {
	d.rest = d.execute(command)
	return len(command), nil
}

func (d *direct) Read(p []byte) (int, error) {
	if len(d.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}
