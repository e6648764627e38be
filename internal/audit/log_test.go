package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/vouchsafe/vouchsafe/internal/secret"
)

func testRoot() secret.Bytes { return secret.New(bytes.Repeat([]byte{3}, 32)) }

func signer(t testing.TB) *Signer {
	t.Helper()
	s, err := NewSigner(testRoot(), "vouchsafe.test/audit")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t testing.TB, dir string, o Options) *Log {
	t.Helper()
	l, err := Open(dir, signer(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func event(i int) Event {
	return Event{Tenant: "default", Actor: "spiffe://vouchsafe.test/default/operator/alice", Action: "vm.born",
		Object: fmt.Sprintf("vm%d", i), Phase: Fact, Detail: map[string]string{"reason": "<test> & more"}}
}

func write(t testing.TB, l *Log, from, n int) Receipt {
	t.Helper()
	var r Receipt
	var err error
	for i := from; i < from+n; i++ {
		if r, err = l.Append(t.Context(), event(i)); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// TestIntentThenOutcome writes both, reads them back from disk, and goes on
// after closing.
func TestIntentThenOutcome(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{})
	p, err := l.Begin(t.Context(), event(0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Done(t.Context(), map[string]string{"serial": "4f"}); err != nil {
		t.Fatal(err)
	}
	if p, err = l.Begin(t.Context(), event(1)); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Failed(gone, errors.New(strings.Repeat("x", 10000))); err != nil {
		t.Fatalf("the outcome was lost with its caller: %v", err)
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), event(2)); err == nil {
		t.Error("a closed log took a record")
	}
	l = open(t, dir, Options{})
	write(t, l, 2, 1)
	var got []Record
	r, err := Verify(dir, signer(t).VerifierKey(), []Outside{{"now", l.Checkpoint()}}, func(r Record) { got = append(got, r) })
	if err != nil || len(r.Findings) > 0 || r.Records != 5 || r.Outside != 1 {
		t.Fatalf("verify: %+v, %v", r, err)
	}
	for i, want := range []Phase{Intent, Done, Intent, Failed, Fact} {
		if got[i].Phase != want {
			t.Errorf("record %d is %s, want %s", i, got[i].Phase, want)
		}
	}
	if got[1].Ref == nil || *got[1].Ref != 0 || got[3].Ref == nil || *got[3].Ref != 2 {
		t.Error("outcomes do not name their intents")
	}
}

func TestOneProcessHoldsIt(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, Options{})
	if _, err := Open(dir, signer(t), Options{}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("opened twice: %v", err)
	}
}

// counted counts what reaches the disk, and may fail.
type counted struct {
	segmentFile
	syncs    *atomic.Int64
	writeErr func() error
	syncErr  func() error
}

func (c counted) Sync() error {
	c.syncs.Add(1)
	if c.syncErr != nil {
		if err := c.syncErr(); err != nil {
			return err
		}
	}
	return c.segmentFile.Sync()
}

func (c counted) WriteAt(b []byte, off int64) (int, error) {
	if c.writeErr != nil {
		if err := c.writeErr(); err != nil {
			n, _ := c.segmentFile.WriteAt(b[:len(b)/2], off) // a half-done write
			return n, err
		}
	}
	return c.segmentFile.WriteAt(b, off)
}

// TestGroupCommit: many callers, few fsyncs; every caller's checkpoint covers its record.
func TestGroupCommit(t *testing.T) {
	var syncs atomic.Int64
	dir := t.TempDir()
	l := open(t, dir, Options{testOnlyFile: func(f *os.File) segmentFile { return counted{segmentFile: slow{f}, syncs: &syncs} }})
	var wg sync.WaitGroup
	const callers, each = 64, 10
	for i := range callers {
		wg.Go(func() {
			for j := range each {
				r, err := l.Append(t.Context(), event(i*each+j))
				if err != nil {
					t.Error(err)
					return
				}
				if c, err := ParseCheckpoint(r.Checkpoint, signer(t).VerifierKey()); err != nil || c.Size <= r.N {
					t.Errorf("record %d: checkpoint over %d, %v", r.N, c.Size, err)
				}
			}
		})
	}
	wg.Wait()
	if l.Size() != callers*each {
		t.Errorf("%d records, want %d", l.Size(), callers*each)
	}
	if n := syncs.Load(); n > callers*each/4 {
		t.Errorf("%d fsyncs for %d records", n, callers*each)
	}
}

// slow syncs like a disk does.
type slow struct{ *os.File }

func (s slow) Sync() error { time.Sleep(2 * time.Millisecond); return s.File.Sync() }

// TestSegments fills more than two, so that hashes come from the file, and
// makes that file anew when it is gone.
func TestSegments(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{})
	big := event(0)
	big.Detail = map[string]string{"pad": strings.Repeat("p", 30<<10)}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 40 {
				if _, err := l.Append(t.Context(), big); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	signed := l.Checkpoint()
	l.Close()
	firsts, err := segments(dir)
	if err != nil || len(firsts) < 3 {
		t.Fatalf("segments %v, %v", firsts, err)
	}
	for _, lose := range []string{"", "hashes", "reserve", "checkpoint"} {
		if lose != "" {
			if err := os.Remove(filepath.Join(dir, lose)); err != nil {
				t.Fatal(err)
			}
		}
		l = open(t, dir, Options{})
		write(t, l, 0, 1)
		c, err := ParseCheckpoint(l.Checkpoint(), signer(t).VerifierKey())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int64{0, firsts[1] - 1, firsts[1], c.Size - 1} {
			var leaf tlog.Hash
			if _, err := Verify(dir, signer(t).VerifierKey(), nil, func(r Record) {
				if r.N == n {
					data, _ := r.encode()
					leaf = tlog.RecordHash(data)
				}
			}); err != nil {
				t.Fatal(err)
			}
			proof, err := l.Prove(n, c.Size)
			if err == nil {
				err = tlog.CheckRecord(proof, c.Size, c.Root, n, leaf)
			}
			if err != nil {
				t.Errorf("without %q: proof of record %d: %v", lose, n, err)
			}
		}
		l.Close()
	}
	r, err := Verify(dir, signer(t).VerifierKey(), []Outside{{"old", signed}}, nil)
	if err != nil || len(r.Findings) > 0 || r.Outside != 1 {
		t.Errorf("verify: %+v, %v", r, err)
	}
}

// TestClockBack: the log's time never goes back, also over a restart.
func TestClockBack(t *testing.T) {
	dir := t.TempDir()
	noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	clock := noon
	now := func() time.Time { return clock }
	l := open(t, dir, Options{Now: now})
	write(t, l, 0, 1)
	l.Close()
	clock = noon.Add(-24 * time.Hour)
	l = open(t, dir, Options{Now: now})
	if !l.Last().Equal(noon) {
		t.Errorf("the high-water mark is %v after a restart", l.Last())
	}
	r := write(t, l, 1, 1)
	if !r.Time.Equal(noon) {
		t.Errorf("a record at %v, after one at %v", r.Time, noon)
	}
	clock = noon.Add(time.Second)
	if r = write(t, l, 2, 1); !r.Time.Equal(clock) {
		t.Errorf("a record at %v, the clock says %v", r.Time, clock)
	}
	rep, err := Verify(dir, signer(t).VerifierKey(), nil, nil)
	if err != nil || len(rep.Findings) != 1 || rep.Findings[0].Code != "AUDIT_CLOCK_BACK" {
		t.Errorf("verify: %+v, %v", rep.Findings, err)
	}
}

// TestFullDisk: intents are refused, what is under way is still recorded, and
// the log goes on when there is room again.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	var syncs atomic.Int64
	full := false
	l := open(t, dir, Options{testOnlyFile: func(f *os.File) segmentFile {
		return counted{segmentFile: f, syncs: &syncs, writeErr: func() error {
			// Room appears when the reserve is given back, as on a real disk.
			if _, err := os.Stat(filepath.Join(dir, "reserve")); full && err == nil {
				return &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
			}
			return nil
		}}
	}})
	p, err := l.Begin(t.Context(), event(0))
	if err != nil {
		t.Fatal(err)
	}
	full = true
	if _, err := l.Begin(t.Context(), event(1)); !errors.Is(err, ErrFull) {
		t.Errorf("an intent on a full disk: %v", err)
	}
	if _, err := p.Done(t.Context(), nil); err != nil {
		t.Errorf("an outcome on a full disk: %v", err)
	}
	full = false
	if _, err := l.Begin(t.Context(), event(2)); err != nil {
		t.Errorf("an intent when there is room again: %v", err)
	}
	if l.Err() != nil {
		t.Errorf("the log says %v", l.Err())
	}
	l.Close()
	if r, err := Verify(dir, signer(t).VerifierKey(), nil, nil); err != nil || len(r.Findings) > 0 || r.Records != 3 {
		t.Errorf("verify: %+v, %v", r, err)
	}
}

// TestFaultsFailClosed: after an error that leaves the disk in doubt nothing is
// acknowledged any more, and what was acknowledged before is there.
func TestFaultsFailClosed(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(c *counted, on *atomic.Bool)
	}{
		{"write", func(c *counted, on *atomic.Bool) {
			c.writeErr = func() error {
				if on.Load() {
					return syscall.EIO
				}
				return nil
			}
		}},
		{"fsync", func(c *counted, on *atomic.Bool) {
			c.syncErr = func() error {
				if on.Load() {
					return syscall.EIO
				}
				return nil
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			var syncs atomic.Int64
			var on atomic.Bool
			l := open(t, dir, Options{testOnlyFile: func(f *os.File) segmentFile {
				c := counted{segmentFile: f, syncs: &syncs}
				tt.make(&c, &on)
				return c
			}})
			write(t, l, 0, 3)
			on.Store(true)
			if _, err := l.Begin(t.Context(), event(3)); !errors.Is(err, ErrBroken) {
				t.Errorf("got %v", err)
			}
			on.Store(false)
			if _, err := l.Append(t.Context(), event(4)); !errors.Is(err, ErrBroken) {
				t.Errorf("the log went on: %v", err)
			}
			if !errors.Is(l.Err(), ErrBroken) || l.Size() != 3 {
				t.Errorf("the log says %v, %d records", l.Err(), l.Size())
			}
			l.Close()
			l = open(t, dir, Options{})
			if l.Size() < 3 {
				t.Errorf("%d records after opening again", l.Size())
			}
		})
	}
}

func TestRecordTooLong(t *testing.T) {
	l := open(t, t.TempDir(), Options{})
	e := event(0)
	e.Object = strings.Repeat("x", maxRecord)
	if _, err := l.Append(t.Context(), e); err == nil {
		t.Error("an oversized record was taken")
	}
	write(t, l, 1, 1)
}

func FuzzParseRecord(f *testing.F) {
	r := Record{N: 1, Time: time.Date(2026, 1, 1, 0, 0, 0, 5, time.UTC), Event: event(1)}
	data, _ := r.encode()
	f.Add(data)
	f.Add([]byte(`{"n":0}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := ParseRecord(data); err == nil {
			if again, err := r.encode(); err != nil || !bytes.Equal(again, data) {
				t.Fatalf("reads %q, writes %q (%v)", data, again, err)
			}
		}
	})
}

// FuzzEvent: whatever a caller reports, with whatever a stranger sent in it, the
// record of it can be read again, or is not written.
func FuzzEvent(f *testing.F) {
	f.Add("web1", "because")
	f.Add("a\xff", "\xed\xa0\x80")
	f.Add("\u2028<&>\x00", "\ufffd")
	f.Fuzz(func(t *testing.T, object, why string) {
		r := Record{Event: Event{Action: "vm.admitted", Object: object, Phase: Refused, Detail: map[string]string{"why": why, why: object}}}
		data, err := r.encode()
		if err != nil {
			return
		}
		if _, err := ParseRecord(data); err != nil {
			t.Fatalf("%q was written: %v", data, err)
		}
	})
}

func FuzzParseCheckpoint(f *testing.F) {
	s := signer(f)
	signed, _ := s.sign(Checkpoint{s.origin, 7, tlog.Hash{1}})
	f.Add(signed)
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := ParseCheckpoint(data, s.verifier); err == nil && !strings.HasPrefix(string(data), c.text()) {
			t.Fatalf("reads %q as %q", data, c.text())
		}
	})
}

// FuzzSegment opens and verifies a log whose last segment is anything at all.
func FuzzSegment(f *testing.F) {
	dir := f.TempDir()
	l := open(f, dir, Options{})
	write(f, l, 0, 2)
	l.Close()
	data, err := os.ReadFile(filepath.Join(dir, segmentName(0)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:len(data)-3])
	f.Add([]byte(segmentMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, segmentName(0)), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(dir, signer(t).VerifierKey(), nil, nil); err != nil {
			t.Fatalf("verify gives up: %v", err)
		}
		l, err := Open(dir, signer(t), Options{})
		if err != nil {
			return
		}
		write(t, l, 9, 1)
		l.Close()
		r, err := Verify(dir, signer(t).VerifierKey(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range r.Findings {
			if f.Code != "AUDIT_CLOCK_BACK" {
				t.Fatalf("after opening and writing: %+v", f)
			}
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	l := open(b, b.TempDir(), Options{})
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := l.Append(b.Context(), event(1)); err != nil {
				b.Error(err)
			}
		}
	})
}
