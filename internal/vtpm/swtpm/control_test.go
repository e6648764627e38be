package swtpm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestControlBytes fixes the bytes of each request and answer, as tpm_ioctl.h
// has them and as they were seen between QEMU 7.2 and Debian 12's swtpm.
func TestControlBytes(t *testing.T) {
	info := `{"TPMSpecification":{"family":"2.0","level":0,"revision":164},"TPMAttributes":{"manufacturer":"id:00001014","version":"id:20191023","model":"swtpm"}}`
	infoHex := hex.EncodeToString([]byte(info)) + "00"
	for _, tc := range []struct{ name, power, request, answer string }{
		{"GET_CAPABILITY", "off", "00000001", "00000000 0001ffff"},
		{"running only, while off", "off", "00000004", "0000000a"},
		{"STOP while off", "off", "0000000e", "00000000"},
		{"SET_BUFFERSIZE asks", "off", "00000011 00000000", "00000000 00001000 00000af8 00002000"},
		{"SET_BUFFERSIZE for CRB", "off", "00000011 00000f80", "00000000 00000f80 00000af8 00002000"},
		{"SET_BUFFERSIZE below the least", "off", "00000011 00000001", "00000000 00000af8 00000af8 00002000"},
		{"SET_BUFFERSIZE above the most", "off", "00000011 ffffffff", "00000000 00002000 00000af8 00002000"},
		{"INIT with a short body", "off", "00000002 0000", "00000003"},
		{"INIT with a long body", "off", "00000002 00000000 00", "00000003"},
		{"INIT", "off", "00000002 00000000", "00000000"},
		{"SET_BUFFERSIZE while on", "on", "00000011 00000f80", "0000000a 00001000 00000af8 00002000"},
		{"SET_STATEBLOB while on", "on", "0000000d 00000000 00000001 00000001 ff", "0000000a"},
		{"GET_TPMESTABLISHED", "on", "00000004", "00000000 01 000000"},
		{"SET_LOCALITY by QEMU", "on", "00000005 02000000", "00000000"},
		{"SET_LOCALITY by tpm2-tss", "on", "00000005 04", "00000000"},
		{"SET_LOCALITY 5", "on", "00000005 05", "0000003d"},
		{"SET_LOCALITY without a body", "on", "00000005", "00000003"},
		{"RESET_TPMESTABLISHED at 3", "on", "0000000b 03000000", "00000000"},
		{"RESET_TPMESTABLISHED at 0", "on", "0000000b 00", "0000003d"},
		{"HASH_START", "on", "00000006", "00000000"},
		{"HASH_DATA", "on", "00000007 00000003 616263", "00000000"},
		{"HASH_DATA beyond the limit", "on", "00000007 00100000", "00000011"},
		{"HASH_END", "on", "00000008", "00000000"},
		{"CANCEL_TPM_CMD", "on", "00000009", "00000000"},
		{"STORE_VOLATILE", "on", "0000000a", "00000000"},
		{"GET_STATEBLOB absent", "on", "0000000c 00000001 00000003 00000000", "00000800 00000000 00000000 00000000"},
		{"GET_STATEBLOB of no kind", "on", "0000000c 00000001 00000009 00000000", "00000003 00000000 00000000 00000000"},
		{"GET_CONFIG", "off", "0000000f", "00000000 00000001"},
		{"SET_DATAFD without one", "off", "00000010", "00000003"},
		{"GET_INFO", "off", "00000012 0000000000000003 00000000 00000000", "00000000 00000096 00000096 " + infoHex},
		{"GET_INFO at an offset", "off", "00000012 0000000000000000 00000002 00000000", "00000000 00000003 00000001 00"},
		{"GET_INFO beyond the end", "off", "00000012 0000000000000000 00000003 00000000", "00000003 00000000 00000000"},
		{"LOCK_STORAGE", "off", "00000013 0000012c", "00000000"},
		{"no such command", "off", "000000ff", "0000000a"},
		{"half a command", "off", "0000", "00000003"},
	} {
		p := serve(t, "unix", nil)
		if tc.power == "on" {
			p.dev.PowerOn(Peer{}, false)
		}
		c := p.dial(t, p.control)
		want := unhex(t, tc.answer)
		send(t, c, unhex(t, tc.request))
		if got := receive(t, c, len(want)); !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %x\nwant %x", tc.name, got, want)
		}
		// Whatever came, the connection is in step again.
		send(t, c, []byte{0, 0, 0, 1})
		if got := receive(t, c, 8); !bytes.Equal(got, unhex(t, "000000000001ffff")) {
			t.Errorf("%s: afterwards got %x", tc.name, got)
		}
	}
}

// TestStateBlobInPieces sends a blob as QEMU does, header first, and one byte at a time.
func TestStateBlobInPieces(t *testing.T) {
	blob := bytes.Repeat([]byte("state"), 20_000)
	head := append(u32(cmdSetStateBlob, blobEncrypted, uint32(Volatile)), u32(uint32(len(blob)))...)
	for name, pieces := range map[string][][]byte{
		"at once":                 {append(bytes.Clone(head), blob...)},
		"header, then data":       {head, blob},
		"header split in two":     {head[:9], append(bytes.Clone(head[9:]), blob...)},
		"data in many pieces":     append([][]byte{head}, chunks(blob, 7000)...),
		"header a byte at a time": append(chunks(head, 1), blob),
	} {
		t.Run(name, func(t *testing.T) {
			p := serve(t, "unix", nil)
			c := p.dial(t, p.control)
			for _, piece := range pieces {
				send(t, c, piece)
				time.Sleep(time.Millisecond)
			}
			if got := receive(t, c, 4); !bytes.Equal(got, zero) {
				t.Fatalf("SET_STATEBLOB: got %x", got)
			}
			if !bytes.Equal(p.dev.blobs[Volatile], blob) || !p.dev.sealed[Volatile] {
				t.Errorf("the blob arrived changed: %d bytes, sealed %v", len(p.dev.blobs[Volatile]), p.dev.sealed[Volatile])
			}
			p.dev.PowerOn(Peer{}, false)
			got, sealed, err := (&Client{Conn: c}).Blob(Volatile, false)
			if err != nil || !sealed || !bytes.Equal(got, blob) {
				t.Errorf("GET_STATEBLOB: %d bytes, sealed %v, %v", len(got), sealed, err)
			}
		})
	}
}

func chunks(b []byte, n int) (pieces [][]byte) {
	for len(b) > 0 {
		k := min(n, len(b))
		pieces, b = append(pieces, b[:k]), b[k:]
	}
	return pieces
}

// TestStateBlobHeaders are the two faults swtpm had in reading this header.
func TestStateBlobHeaders(t *testing.T) {
	t.Run("a length that is not there (CVE-2022-23645)", func(t *testing.T) {
		p := serve(t, "unix", nil)
		c := p.dial(t, p.control)
		send(t, c, u32(cmdSetStateBlob, 0, uint32(Permanent), 0xFFFFFFFF))
		if got := receive(t, c, 4); !bytes.Equal(got, u32(uint32(Size))) {
			t.Errorf("got %x", got)
		}
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("the connection goes on: %d bytes", n)
		}
	})
	t.Run("a header cut two bytes short (CVE-2026-75900)", func(t *testing.T) {
		p := serve(t, "unix", nil)
		c := p.dial(t, p.control)
		send(t, c, u32(cmdSetStateBlob, 0, uint32(Permanent), 0)[:14])
		if got := receive(t, c, 4); !bytes.Equal(got, u32(uint32(BadParameter))) {
			t.Errorf("got %x", got)
		}
		p.dev.mu.Lock()
		defer p.dev.mu.Unlock()
		if len(p.dev.blobs) != 0 {
			t.Errorf("a blob was set: %x", p.dev.blobs)
		}
	})
}

func TestInitTellsWhoAsked(t *testing.T) {
	p := serve(t, "unix", nil)
	if err := p.client(t).Init(true); err != nil {
		t.Fatal(err)
	}
	got := p.dev.inits[0]
	if !got.Known || got.PID != int32(os.Getpid()) || got.UID != uint32(os.Getuid()) {
		t.Errorf("peer: got %+v", got)
	}
	if !p.dev.deleted[0] {
		t.Error("the flag to delete volatile state was lost")
	}
}

func TestLocalityAndItsLimits(t *testing.T) {
	p := serve(t, "unix", func(s *Server) { s.RejectLocality4, s.AllowSetLocality = true, true })
	c := p.client(t)
	if err := c.Init(false); err != nil {
		t.Fatal(err)
	}
	if err := c.SetLocality(4); !errors.Is(err, BadLocality) {
		t.Errorf("locality 4: got %v", err)
	}
	if err := c.SetLocality(2); err != nil {
		t.Error(err)
	}
	d := p.dial(t, p.data)
	ask := func(cmd, want []byte) {
		t.Helper()
		send(t, d, cmd)
		if got := receive(t, d, len(want)); !bytes.Equal(got, want) {
			t.Errorf("got %x, want %x", got, want)
		}
	}
	ask(command(12), echo(2, command(12)))
	ask(unhex(t, "8001 0000000b 20001000 03"), refusal(0))
	ask(command(12), echo(3, command(12)))
	ask(unhex(t, "8001 0000000b 20001000 04"), refusal(rcLocality))
}

func TestDataFD(t *testing.T) {
	p := serve(t, "unix", nil)
	c := p.client(t)
	pair := func() (mine *os.File, theirs int) {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Close(fds[1]) })
		return os.NewFile(uintptr(fds[0]), "data"), fds[1]
	}
	mine, theirs := pair()
	if err := c.SetDataFD(theirs); err != nil {
		t.Fatal(err)
	}
	syscall.Close(theirs)
	data, err := net.FileConn(mine)
	mine.Close()
	if err != nil {
		t.Fatal(err)
	}
	// QEMU's first question, to a TPM that is off.
	send(t, data, unhex(t, "8001 0000000a 00000181"))
	if got := receive(t, data, 10); !bytes.Equal(got, unhex(t, "8001 0000000a 00000101")) {
		t.Errorf("probe: got %x", got)
	}
	second, theirs2 := pair()
	defer second.Close()
	if err := c.SetDataFD(theirs2); !errors.Is(err, IOError) {
		t.Errorf("a second descriptor: got %v, want %v", err, IOError)
	}
	data.Close()
	for range 100 { // the server notices the end of the first
		if err = c.SetDataFD(theirs2); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Errorf("after the first has gone: %v", err)
	}
	not, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer not.Close()
	if err := c.SetDataFD(int(not.Fd())); !errors.Is(err, BadParameter) {
		t.Errorf("not a socket: got %v, want %v", err, BadParameter)
	}
}

// TestDescriptorsAreNotKept sends descriptors where none belong.
func TestDescriptorsAreNotKept(t *testing.T) {
	p := serve(t, "unix", nil)
	c := p.dial(t, p.control).(*net.UnixConn)
	before := openFDs(t)
	for range 50 {
		if _, _, err := c.WriteMsgUnix(u32(cmdGetCapability), syscall.UnixRights(1, 1, 1), nil); err != nil {
			t.Fatal(err)
		}
		receive(t, c, 8)
	}
	// Nor while one request comes in many pieces, each with its own.
	blob := append(u32(cmdSetStateBlob), u32(0, uint32(Permanent), 200)...)
	for i := range blob {
		if _, _, err := c.WriteMsgUnix(blob[i:i+1], syscall.UnixRights(1, 1, 1), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond)
	if after := openFDs(t); after > before+maxFDs+3 {
		t.Errorf("open descriptors within a request: %d before, %d after", before, after)
	}
	send(t, c, make([]byte, 200))
	receive(t, c, 4)
	send(t, c, u32(cmdGetCapability))
	receive(t, c, 8)
	if after := openFDs(t); after > before+3 {
		t.Errorf("open descriptors: %d before, %d after", before, after)
	}
}

func openFDs(t *testing.T) int {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc: ", err)
	}
	return len(dir)
}

func TestCancelReachesARunningCommand(t *testing.T) {
	p := serve(t, "unix", nil)
	c := p.client(t)
	if err := c.Init(false); err != nil {
		t.Fatal(err)
	}
	p.dev.mu.Lock()
	p.dev.block = make(chan struct{})
	p.dev.mu.Unlock()
	d := p.dial(t, p.data)
	send(t, d, command(12))
	if err := c.Cancel(); err != nil {
		t.Fatal(err)
	}
	// The command may have started after CANCEL: then nothing blocks any more.
	receive(t, d, tpmHeader+1+12)
}

func TestShutdownEndsServe(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		p := serve(t, network, nil)
		c := p.client(t)
		if err := c.Init(false); err != nil {
			t.Fatal(err)
		}
		idle := p.dial(t, p.data)
		if err := c.Shutdown(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
			t.Fatal("Serve goes on after SHUTDOWN")
		}
		if p.dev.Running() {
			t.Error("the TPM is still on")
		}
		if _, err := idle.Read(make([]byte, 1)); err == nil {
			t.Error("a data connection survived")
		}
	}
}

// TestControlUnderNoise keeps one client in step while others send garbage,
// half requests, nothing, and too much.
func TestControlUnderNoise(t *testing.T) {
	p := serve(t, "unix", nil)
	noise := [][]byte{
		nil, {0}, {0, 0}, u32(0xFFFFFFFF), bytes.Repeat([]byte{0xA5}, 100_000),
		u32(cmdSetStateBlob, 0, 1, 400_000), u32(cmdHashData, 4000), u32(cmdGetInfo), u32(cmdSetStateBlob, 0, 1),
	}
	for _, b := range noise {
		c := p.dial(t, p.control)
		if len(b) > 0 {
			c.Write(b)
		}
	}
	c := p.client(t)
	start := time.Now()
	for range 200 {
		if caps, err := c.Capabilities(); err != nil || caps != capabilities {
			t.Fatalf("capabilities: %x, %v", caps, err)
		}
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("200 requests beside noise took %v", d)
	}
}

func FuzzControl(f *testing.F) {
	for _, seed := range []string{
		"00000001", "0000000200000000", "0000000500", "0000000d000000000000000100000001ff", "0000000c000000010000000200000000",
		"00000007000000036162630000", "00000012000000000000000300000000", "0000001100000f80", "0000000d0000000000000001ffffffff",
	} {
		b, _ := hex.DecodeString(seed)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		client, server := net.Pipe()
		dev := newFakeTPM()
		s := &Server{Device: dev, stopped: make(chan struct{}), slot: make(chan struct{}, 1), conns: map[net.Conn]bool{}}
		s.bufferSize.Store(maxCommand)
		done := make(chan struct{})
		go func() { defer close(done); s.serveControl(server); server.Close() }()
		go func() {
			client.SetWriteDeadline(time.Now().Add(time.Second))
			client.Write(request)
			client.Close()
		}()
		answer := make([]byte, 4096)
		for {
			n, err := client.Read(answer)
			if err != nil {
				break
			}
			if n < 4 || binary.BigEndian.Uint32(answer) > uint32(NonFatal) {
				t.Errorf("request %x: answer %x has no result", request, answer[:n])
			}
		}
		<-done
		for kind, b := range dev.blobs {
			if len(b) > len(request) {
				t.Errorf("%v blob of %d bytes from a request of %d", kind, len(b), len(request))
			}
		}
	})
}
