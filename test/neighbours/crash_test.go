package neighbours

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tpmConn speaks raw TPM commands on a data channel.
type tpmConn struct{ net.Conn }

func (v *vtpm) dial(t *testing.T) tpmConn {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", v.port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return tpmConn{c}
}

// ask sends a command in hexadecimal and returns the response code and the rest.
func (c tpmConn) ask(command string) (rc uint32, rest []byte, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(command, " ", ""))
	if err != nil {
		return 0, nil, err
	}
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write(b); err != nil {
		return 0, nil, err
	}
	head := make([]byte, 10)
	if _, err := io.ReadFull(c, head); err != nil {
		return 0, nil, err
	}
	rest = make([]byte, binary.BigEndian.Uint32(head[2:])-10)
	_, err = io.ReadFull(c, rest)
	return binary.BigEndian.Uint32(head[6:]), rest, err
}

const (
	password = "00000009 40000009 0000 00 0000" // one empty password
	// A counter at 0x01500000 that the owner may change and read.
	defineCounter = "8002 00000000 0000012a 40000001 " + password + " 0000 000e 01500000 000b 00020012 0000 0008"
	increment     = "8002 00000000 00000134 40000001 01500000 " + password
	readCounter   = "8002 00000000 0000014e 40000001 01500000 " + password + " 0008 0000"
)

func counterOf(t *testing.T, c tpmConn) uint64 {
	t.Helper()
	rc, rest, err := c.ask(readCounter)
	if err != nil || rc != 0 || len(rest) < 14 {
		t.Fatalf("reading the counter: rc %x, %x, %v", rc, rest, err)
	}
	return binary.BigEndian.Uint64(rest[6:])
}

// TestKill kills the vTPM at random moments while a counter is incremented: no
// increment that was answered is lost, and none that was not asked for appears.
func TestKill(t *testing.T) {
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	dir := shortDir(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("0f", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	seal := []string{"--key", "file=" + key}
	v := serveTCP(t, dir, seal...)
	c := v.dial(t)
	if rc, _, err := c.ask(defineCounter); rc != 0 || err != nil {
		t.Fatalf("defining the counter: %x, %v", rc, err)
	}
	if rc, _, err := c.ask(increment); rc != 0 || err != nil {
		t.Fatalf("incrementing: %x, %v", rc, err)
	}
	answered := counterOf(t, c)
	total := 0
	for round := range rounds {
		timer := time.AfterFunc(time.Duration(rand.IntN(60_000))*time.Microsecond, func() { v.cmd.Process.Kill() })
		asked := answered
		for {
			asked++
			rc, _, err := c.ask(increment)
			if err != nil {
				break // killed
			}
			if rc != 0 {
				t.Fatalf("incrementing: %x", rc)
			}
			answered = asked
			total++
		}
		timer.Stop()
		v.cmd.Wait()
		c.Close()
		v = serveTCP(t, dir, seal...)
		c = v.dial(t)
		got := counterOf(t, c)
		if got < answered || got > asked {
			t.Fatalf("round %d: the counter is %d; %d was answered, %d asked for", round, got, answered, asked)
		}
		answered = got
		if !strings.Contains(v.log.String(), "lost power") {
			t.Errorf("round %d: the power loss was not logged:\n%s", round, v.log)
		}
	}
	t.Logf("%d kills, %d increments answered, none lost", rounds, total)
}

// TestFullDisk fills the file system: NV writes fail with TPM_RC_NV_UNAVAILABLE,
// the rest goes on, and nothing that was answered is lost.
func TestFullDisk(t *testing.T) {
	needRoot(t)
	dir := shortDir(t)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		absent(t, "no tmpfs can be mounted: "+err.Error(), "run on a machine that allows it")
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	v := serveTCP(t, dir)
	c := v.dial(t)
	for _, command := range []string{defineCounter, increment} {
		if rc, _, err := c.ask(command); rc != 0 || err != nil {
			t.Fatalf("%x, %v", rc, err)
		}
	}
	before := counterOf(t, c)
	filler := filepath.Join(dir, "filler")
	for size := 1 << 16; size > 0; size /= 2 { // to the last block
		f, err := os.OpenFile(filler, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		f.Write(make([]byte, size))
		f.Close()
	}
	const nvUnavailable = 0x923
	for range 3 {
		if rc, _, err := c.ask(increment); rc != nvUnavailable || err != nil {
			t.Errorf("incrementing on a full disk: %x, %v; want %x", rc, err, nvUnavailable)
		}
	}
	if rc, _, err := c.ask("8001 00000000 0000017b 0010"); rc != 0 || err != nil {
		t.Errorf("random numbers on a full disk: %x, %v", rc, err)
	}
	if got := counterOf(t, c); got != before {
		t.Errorf("the counter moved to %d, was %d", got, before)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if rc, _, err := c.ask(increment); rc != 0 || err != nil {
		t.Errorf("with room again: %x, %v", rc, err)
	}
	v.kill()
	if got := counterOf(t, serveTCP(t, dir).dial(t)); got != before+1 {
		t.Errorf("after a crash: %d, want %d", got, before+1)
	}
	if n := strings.Count(v.log.String(), "cannot be written"); n != 1 {
		t.Errorf("%d log lines about the full disk, want 1:\n%s", n, v.log)
	}
}
