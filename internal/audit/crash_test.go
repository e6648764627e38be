package audit

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain becomes the writer that TestKill kills, when it is asked to.
func TestMain(m *testing.M) {
	if dir := os.Getenv("VOUCHSAFE_TEST_AUDIT_WRITER"); dir != "" {
		writeUntilKilled(dir)
	}
	os.Exit(m.Run())
}

// writeUntilKilled prints the number of every record that was acknowledged.
func writeUntilKilled(dir string) {
	s, err := NewSigner(testRoot(), "vouchsafe.test/audit")
	if err == nil {
		var l *Log
		if l, err = Open(dir, s, Options{}); err == nil {
			var mu sync.Mutex
			for i := range 4 {
				go func() {
					for j := 0; ; j++ {
						r, err := l.Append(context.Background(), event(i*1_000_000+j))
						if err != nil {
							fmt.Println("error:", err)
							os.Exit(1)
						}
						mu.Lock()
						fmt.Println(r.N)
						mu.Unlock()
					}
				}()
			}
			select {}
		}
	}
	fmt.Println("error:", err)
	os.Exit(1)
}

// TestKill kills a writer with SIGKILL at random moments, again and again over
// the same log: nothing acknowledged is lost, and the log still verifies.
func TestKill(t *testing.T) {
	cycles := 10
	if os.Getenv("VOUCHSAFE_LONG") != "" {
		cycles = 200
	}
	dir := t.TempDir()
	var acked int64 = -1
	for cycle := range cycles {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "VOUCHSAFE_TEST_AUDIT_WRITER="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(20+rand.IntN(80))*time.Millisecond, func() { cmd.Process.Kill() })
		for lines := bufio.NewScanner(out); lines.Scan(); {
			n, err := strconv.ParseInt(lines.Text(), 10, 64)
			if err != nil {
				if strings.HasPrefix(lines.Text(), "error") {
					t.Fatalf("cycle %d: %s", cycle, lines.Text())
				}
				continue // its last line was cut short
			}
			acked = max(acked, n)
		}
		cmd.Wait()
		r, err := Verify(dir, signer(t).VerifierKey(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range r.Findings {
			if f.Code != "AUDIT_UNFINISHED" {
				t.Fatalf("cycle %d: %s: %s: %s", cycle, f.Code, f.Subject, f.Evidence)
			}
		}
		if r.Records <= acked {
			t.Fatalf("cycle %d: record %d was acknowledged, the log has %d", cycle, acked, r.Records)
		}
	}
	if acked < int64(cycles) {
		t.Errorf("only %d records were written: the test kills too early", acked+1)
	}
	t.Logf("%d kills, %d records acknowledged, none lost", cycles, acked+1)
}

// TestRealFullDisk fills a small file system of its own.
func TestRealFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mounting a small tmpfs needs root: %v", err)
	}
	defer syscall.Unmount(dir, 0)
	l := open(t, dir, Options{})
	p, err := l.Begin(t.Context(), event(0))
	if err != nil {
		t.Fatal(err)
	}
	hog, err := os.Create(dir + "/hog")
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = hog.Write(make([]byte, 4096))
	}
	var refused bool
	for i := range 200 { // the page that was begun still takes a few
		if _, err := l.Begin(t.Context(), event(i)); err != nil {
			refused = true
			break
		}
	}
	if !refused {
		t.Error("a full disk takes intents")
	}
	if _, err := p.Done(t.Context(), nil); err != nil {
		t.Errorf("an outcome: %v", err)
	}
	for i := range 100 {
		if _, err := l.Append(t.Context(), Event{Action: "vm.admit", Object: fmt.Sprint(i), Phase: Refused}); err != nil {
			t.Fatalf("refusal %d: %v", i, err)
		}
	}
	if _, err := l.Prove(0, l.Size()); err != nil {
		t.Errorf("reading on a full disk: %v", err)
	}
	hog.Truncate(0)
	if _, err := l.Begin(t.Context(), event(1)); err != nil {
		t.Errorf("an intent when there is room again: %v", err)
	}
	hog.Close()
	l.Close()
	if r, err := Verify(dir, signer(t).VerifierKey(), nil, nil); err != nil || len(r.Findings) > 0 {
		t.Errorf("verify: %+v, %v", r.Findings, err)
	}
}
