package swtpm

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeTPM answers every command with rc 0, its locality and the command itself.
type fakeTPM struct {
	mu       sync.Mutex
	on       bool
	inits    []Peer
	deleted  []bool
	blobs    map[BlobKind][]byte
	sealed   map[BlobKind]bool
	hashed   []byte
	resets   []uint8
	retries  []uint32
	canceled int
	buffer   uint32
	block    chan struct{} // when set, Execute waits for it or for Cancel
}

func newFakeTPM() *fakeTPM {
	return &fakeTPM{blobs: map[BlobKind][]byte{}, sealed: map[BlobKind]bool{}}
}

func (d *fakeTPM) PowerOn(by Peer, deleteVolatile bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.on = true
	d.inits, d.deleted = append(d.inits, by), append(d.deleted, deleteVolatile)
	return nil
}
func (d *fakeTPM) PowerOff() error { d.mu.Lock(); defer d.mu.Unlock(); d.on = false; return nil }
func (d *fakeTPM) Running() bool   { d.mu.Lock(); defer d.mu.Unlock(); return d.on }
func (d *fakeTPM) Execute(locality uint8, cmd, dst []byte) []byte {
	d.mu.Lock()
	block := d.block
	d.mu.Unlock()
	if block != nil {
		<-block
	}
	dst = binary.BigEndian.AppendUint16(dst, tagNoSessions)
	dst = binary.BigEndian.AppendUint32(dst, uint32(tpmHeader+1+len(cmd)))
	dst = append(dst, 0, 0, 0, 0, locality)
	return append(dst, cmd...)
}
func (d *fakeTPM) Cancel() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.canceled++
	if d.block != nil {
		close(d.block)
		d.block = nil
	}
}
func (d *fakeTPM) Established() bool { return true }
func (d *fakeTPM) ResetEstablished(l uint8) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.resets = append(d.resets, l)
	return l == 3 || l == 4
}
func (d *fakeTPM) HashStart() { d.hash("<") }
func (d *fakeTPM) HashData(b []byte) {
	d.hash(string(b))
}
func (d *fakeTPM) HashEnd() { d.hash(">") }
func (d *fakeTPM) hash(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hashed = append(d.hashed, s...)
}
func (d *fakeTPM) StoreVolatile() error { return nil }
func (d *fakeTPM) Blob(kind BlobKind, plain bool) ([]byte, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, ok := d.blobs[kind]
	if !ok {
		return nil, false, NonFatal
	}
	return b, d.sealed[kind], nil
}
func (d *fakeTPM) SetBlob(kind BlobKind, data []byte, sealed bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.blobs[kind], d.sealed[kind] = bytes.Clone(data), sealed
	return nil
}
func (d *fakeTPM) SetBufferSize(n uint32) { d.mu.Lock(); defer d.mu.Unlock(); d.buffer = n }
func (d *fakeTPM) LockStorage(retries uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.retries = append(d.retries, retries)
	return nil
}
func (d *fakeTPM) Keys() (bool, bool) { return true, false }
func (d *fakeTPM) Identity() Identity {
	return Identity{"id:00001014", "swtpm", "id:20191023", "2.0", 0, 164}
}

// ports is a running server and the two sockets it listens on.
type ports struct {
	dev           *fakeTPM
	data, control string
	network       string
	done          chan struct{} // closed when Serve has returned
}

// dedicated behind the name of a network has the server read its data channels directly.
const dedicated = " dedicated"

// serve runs a server over unix or tcp sockets until the test ends.
func serve(t *testing.T, network string, with func(*Server)) *ports {
	t.Helper()
	network, direct := strings.CutSuffix(network, dedicated)
	p := &ports{dev: newFakeTPM(), network: network, done: make(chan struct{})}
	listen := func(name string) net.Listener {
		addr := "127.0.0.1:0"
		if network == "unix" {
			addr = filepath.Join(t.TempDir(), name)
		}
		l, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	s := &Server{Device: p.dev, Data: listen("d"), Control: listen("c"), Dedicated: direct}
	p.data, p.control = s.Data.Addr().String(), s.Control.Addr().String()
	if with != nil {
		with(s)
	}
	go func() {
		defer close(p.done)
		if err := s.Serve(t.Context()); err != nil {
			t.Errorf("Serve: %v", err)
		}
	}()
	t.Cleanup(func() {
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
			t.Error("Serve does not end")
		}
	})
	return p
}

// bothWays runs a test of the data channel with and without Go's poller.
func bothWays(t *testing.T, network string, test func(t *testing.T, network string)) {
	t.Helper()
	for _, n := range []string{network, network + dedicated} {
		t.Run(n, func(t *testing.T) { test(t, n) })
	}
}

func (p *ports) dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial(p.network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(15 * time.Second))
	return c
}

func (p *ports) client(t *testing.T) *Client {
	t.Helper()
	return &Client{Conn: p.dial(t, p.control), Timeout: 10 * time.Second}
}

func send(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c net.Conn, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatalf("reading %d bytes of answer: %v", n, err)
	}
	return b
}

// command is a well-formed TPM command of n bytes.
func command(n int) []byte {
	b := binary.BigEndian.AppendUint16(nil, tagNoSessions)
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	b = binary.BigEndian.AppendUint32(b, 0x17B)
	return append(b, bytes.Repeat([]byte{0x5A}, n-len(b))...)
}

// echo is what fakeTPM answers to cmd.
func echo(locality uint8, cmd []byte) []byte { return newFakeTPM().Execute(locality, cmd, nil) }
