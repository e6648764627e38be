package swtpm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestDataFramings(t *testing.T) {
	cmd := command(20)
	prefixed := func(locality uint8, cmd []byte) []byte {
		b := append(u32(mssimSendCommand), locality)
		return append(binary.BigEndian.AppendUint32(b, uint32(len(cmd))), cmd...)
	}
	wrapped := func(r []byte) []byte { return append(append(u32(uint32(len(r))), r...), zero...) }
	for _, tc := range []struct {
		name         string
		request      []byte
		answer       []byte
		closesBehind bool
	}{
		{"raw", cmd, echo(0, cmd), false},
		{"raw, two in one write", append(bytes.Clone(cmd), cmd...), append(echo(0, cmd), echo(0, cmd)...), false},
		{"the largest", command(usualBuffer), echo(0, command(usualBuffer)), false},
		{"larger than was agreed on", command(usualBuffer + 1), refusal(rcCommandSize), false},
		{"a tag that is none of TPM 2.0's", append([]byte{0x00, 0xC1}, cmd[2:]...), echo(0, append([]byte{0x00, 0xC1}, cmd[2:]...)), false},
		{"a size below the header", unhex(t, "8001 00000009 0000017b"), refusal(rcCommandSize), true},
		{"a size beyond the buffer", unhex(t, "8001 00002001 0000017b"), refusal(rcCommandSize), true},
		{"the largest size there is", unhex(t, "8001 ffffffff 0000017b"), refusal(rcCommandSize), true},
		{"prefixed", prefixed(3, cmd), wrapped(echo(3, cmd)), false},
		{"prefixed, no such locality", prefixed(9, cmd), wrapped(refusal(rcLocality)), false},
		{"prefixed, too large", append(append(u32(mssimSendCommand), 0), u32(0xFFFFFFFF)...), wrapped(refusal(rcCommandSize)), true},
		{"mssim handshake", u32(mssimRemoteHandshake, 1), u32(1, 1, 0), false},
		{"mssim hash", append(u32(mssimHashStart, mssimHashData, 2), append([]byte("ab"), u32(mssimHashEnd)...)...), u32(0, 0, 0), false},
		{"mssim end of session", u32(mssimSessionEnd), nil, true},
		{"mssim, no such word", u32(63), u32(1), true},
	} {
		for _, network := range []string{"unix", "tcp", "unix" + dedicated, "tcp" + dedicated} {
			t.Run(tc.name+" over "+network, func(t *testing.T) {
				p := serve(t, network, nil)
				p.dev.PowerOn(Peer{}, false)
				c := p.dial(t, p.data)
				send(t, c, tc.request)
				if got := receive(t, c, len(tc.answer)); !bytes.Equal(got, tc.answer) {
					t.Fatalf("got  %x\nwant %x", got, tc.answer)
				}
				if tc.closesBehind {
					if n, err := c.Read(make([]byte, 1)); err == nil {
						t.Errorf("the connection goes on: %d bytes", n)
					}
					return
				}
				send(t, c, cmd)
				if got := receive(t, c, len(echo(0, cmd))); !bytes.Equal(got, echo(0, cmd)) {
					t.Errorf("afterwards: got %x", got)
				}
			})
		}
	}
}

// TestPartialReads sends one command a byte at a time (swtpm's test of that name).
func TestPartialReads(t *testing.T) {
	bothWays(t, "unix", func(t *testing.T, network string) {
		p := serve(t, network, nil)
		p.dev.PowerOn(Peer{}, false)
		c := p.dial(t, p.data)
		for _, b := range command(30) {
			send(t, c, []byte{b})
		}
		if got := receive(t, c, len(echo(0, command(30)))); !bytes.Equal(got, echo(0, command(30))) {
			t.Errorf("got %x", got)
		}
	})
}

func TestCommandsObeyTheBufferSize(t *testing.T) {
	p := serve(t, "unix", nil)
	c := p.client(t)
	if size, _, _, err := c.BufferSize(3968); err != nil || size != 3968 {
		t.Fatalf("SET_BUFFERSIZE: %d, %v", size, err)
	}
	if err := c.Init(false); err != nil {
		t.Fatal(err)
	}
	d := p.dial(t, p.data)
	send(t, d, command(3969))
	if got := receive(t, d, tpmHeader); !bytes.Equal(got, refusal(rcCommandSize)) {
		t.Errorf("one byte more: got %x", got)
	}
	send(t, d, command(3968))
	receive(t, d, tpmHeader+1+3968)
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	for want, got := range map[uint32]uint32{1: minBuffer, 8192: 8192, 1 << 20: maxCommand} {
		size, least, most, err := c.BufferSize(want)
		p.dev.mu.Lock()
		told := p.dev.buffer
		p.dev.mu.Unlock()
		if err != nil || size != got || least != minBuffer || most != maxCommand || told != got {
			t.Errorf("SET_BUFFERSIZE %d: %d of %d to %d, the device has %d, %v", want, size, least, most, told, err)
		}
	}
	c.BufferSize(maxCommand)
	if err := c.Init(false); err != nil {
		t.Fatal(err)
	}
	send(t, d, command(maxCommand))
	receive(t, d, tpmHeader+1+maxCommand)
}

// TestOneDataClientAtATime lets a second client wait until the first has gone.
func TestOneDataClientAtATime(t *testing.T) {
	bothWays(t, "unix", func(t *testing.T, network string) {
		p := serve(t, network, nil)
		p.dev.PowerOn(Peer{}, false)
		first, second := p.dial(t, p.data), p.dial(t, p.data)
		send(t, first, command(12))
		receive(t, first, len(echo(0, command(12))))
		send(t, second, command(12))
		second.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, err := second.Read(make([]byte, 1)); err == nil {
			t.Fatalf("the second client was answered beside the first: %d bytes", n)
		}
		first.Close()
		second.SetReadDeadline(time.Now().Add(5 * time.Second))
		if got := receive(t, second, len(echo(0, command(12)))); !bytes.Equal(got, echo(0, command(12))) {
			t.Errorf("got %x", got)
		}
	})
}

func TestTerminate(t *testing.T) {
	bothWays(t, "unix", func(t *testing.T, network string) {
		p := serve(t, network, func(s *Server) { s.StopOnDataClose = true })
		p.dial(t, p.data).Close()
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
			t.Error("Serve goes on after the data connection has gone")
		}
	})
}

// TestMssimPlatform is what tpm2-tss' mssim TCTI does when it opens.
func TestMssimPlatform(t *testing.T) {
	bothWays(t, "tcp", func(t *testing.T, network string) {
		p := serve(t, network, nil)
		data, platform := p.dial(t, p.data), p.dial(t, p.control)
		for _, word := range []uint32{mssimPowerOn, mssimNVOn} {
			send(t, platform, u32(word))
			if got := receive(t, platform, 4); !bytes.Equal(got, zero) {
				t.Fatalf("word %d: got %x", word, got)
			}
		}
		if !p.dev.Running() {
			t.Fatal("POWER_ON did not power on")
		}
		send(t, data, append(append(u32(mssimSendCommand), 0), append(u32(12), command(12)...)...))
		receive(t, data, 4+len(echo(0, command(12)))+4)
		send(t, platform, u32(mssimCancelOn))
		receive(t, platform, 4)
		if p.dev.canceled != 1 {
			t.Error("CANCEL_ON did not arrive")
		}
		send(t, platform, u32(mssimPowerOff))
		receive(t, platform, 4)
		if p.dev.Running() {
			t.Error("POWER_OFF did not power off")
		}
		// And swtpm's own client on the same port still gets its eight bytes, at once.
		data.Close()
		if caps, err := p.client(t).Capabilities(); err != nil || caps != capabilities {
			t.Errorf("GET_CAPABILITY over TCP: %x, %v", caps, err)
		}
	})
}

func FuzzData(f *testing.F) {
	for _, seed := range []string{
		"80010000000c0000014400008001", "0000000800000000" + "0a80010000000a00000181", "0000000f00000001", "000000050000000600000001610000000700000014",
		"8001ffffffff0000017b", "00c100000009", "000000080000000000",
	} {
		b, _ := hex.DecodeString(seed)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		client, server := net.Pipe()
		dev := newFakeTPM()
		dev.on = true
		s := &Server{Device: dev, stopped: make(chan struct{}), slot: make(chan struct{}, 1), conns: map[net.Conn]bool{}}
		s.bufferSize.Store(maxCommand)
		done := make(chan struct{})
		go func() { defer close(done); s.serveData(server, func() {}); server.Close() }()
		go func() {
			client.SetWriteDeadline(time.Now().Add(time.Second))
			client.Write(request)
			client.Close()
		}()
		answer, err := io.ReadAll(client)
		if len(answer) > 32*len(request)+64 {
			t.Errorf("%d bytes of request, %d of answer (%v)", len(request), len(answer), err)
		}
		<-done
	})
}

// What QEMU writes to a data channel that it handed over are the guest's bytes,
// from the first: they are a command, and never a frame or a signal.
func TestGuestCannotFrame(t *testing.T) {
	for _, tc := range []struct {
		name  string
		bytes []byte
	}{
		{"a locality of its choice", append(append(u32(mssimSendCommand), 4), append(u32(20), command(20)...)...)},
		{"a dynamic launch", append(u32(mssimHashStart, mssimHashData, 2), append([]byte("ab"), u32(mssimHashEnd)...)...)},
		{"the end of the server", u32(mssimStop, 0, 0)},
		{"the end of the session", u32(mssimSessionEnd, 0, 0)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := serve(t, "unix"+dedicated, nil)
			p.dev.PowerOn(Peer{}, false)
			fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			control := p.client(t)
			if err := control.SetDataFD(fds[1]); err != nil {
				t.Fatal(err)
			}
			syscall.Close(fds[1])
			mine := os.NewFile(uintptr(fds[0]), "data")
			data, err := net.FileConn(mine)
			mine.Close()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { data.Close() })
			send(t, data, tc.bytes)
			if got := receive(t, data, tpmHeader); !bytes.Equal(got, refusal(rcCommandSize)) {
				t.Errorf("got %x, want %x", got, refusal(rcCommandSize))
			}
			cmd := command(20)
			send(t, data, cmd) // and the guest's next command is answered
			if got := receive(t, data, len(echo(0, cmd))); !bytes.Equal(got, echo(0, cmd)) {
				t.Errorf("afterwards: got %x", got)
			}
			p.dev.mu.Lock()
			defer p.dev.mu.Unlock()
			if len(p.dev.hashed) > 0 {
				t.Errorf("hashed %q", p.dev.hashed)
			}
		})
	}
}
