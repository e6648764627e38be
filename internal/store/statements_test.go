package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/enroll"
)

// TestStatementsUnderFire: readers that give up in the middle, jobs that fail,
// another process that holds the lock too long or changes the schema. None of it
// may give somebody else a wrong answer, or an error that is not his.
func TestStatementsUnderFire(t *testing.T) {
	path := temp(t)
	s := open(t, path)
	for i := range 200 {
		birth(t, s, fmt.Sprint("vm", i))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var reads, writes, wrong atomic.Int64
	loop := func(do func()) {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					do()
				}
			}
		})
	}
	for range 4 {
		loop(func() { // gives up
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(300))*time.Microsecond)
			s.VMs(ctx, "default", "", 500)
			cancel()
		})
		loop(func() {
			name := fmt.Sprint("vm", rand.IntN(200))
			v, err := s.VM(t.Context(), "default", name)
			if err != nil || v.Name != name {
				if wrong.Add(1) < 5 {
					t.Errorf("reading %s: %s, %v", name, v.Name, err)
				}
			}
			reads.Add(1)
		})
		loop(func() {
			name := fmt.Sprint("vm", rand.IntN(200))
			st, err := s.Standing(t.Context(), "default", name)
			if err != nil || st.VM.Name != name {
				if wrong.Add(1) < 5 {
					t.Errorf("reading where %s stands: %s, %v", name, st.VM.Name, err)
				}
			}
		})
	}
	no := errors.New("no")
	var want [8]int64
	for i := range 8 {
		name := fmt.Sprint("vm", i)
		loop(func() {
			fails := rand.IntN(3) == 0
			err := s.UpdateVM(t.Context(), "default", name, func(st *enroll.Standing) error {
				st.VM.Resets++
				if fails {
					return no
				}
				return nil
			})
			switch {
			case err == nil:
				want[i]++
			case !errors.Is(err, no) && code(err)&0xff != 5: // SQLITE_BUSY
				if wrong.Add(1) < 5 {
					t.Errorf("writing %s: %v", name, err)
				}
			}
			writes.Add(1)
		})
	}
	other, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for i, q := range []string{`CREATE TABLE more (tenant TEXT)`, `ALTER TABLE vm ADD COLUMN more TEXT NOT NULL DEFAULT ''`, `DROP TABLE more`, `VACUUM`} {
		time.Sleep(100 * time.Millisecond)
		if _, err := other.ExecContext(t.Context(), q); err != nil && code(err)&0xff != 5 {
			t.Errorf("%d: %v", i, err)
		}
	}
	held, err := other.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := held.ExecContext(t.Context(), `BEGIN IMMEDIATE`); err != nil {
		t.Fatal(err)
	}
	if os.Getenv("VOUCHSAFE_LONG") != "" {
		time.Sleep(5500 * time.Millisecond) // longer than anybody waits
	}
	if _, err := held.ExecContext(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	held.Close()
	time.Sleep(200 * time.Millisecond)
	close(stop)
	wg.Wait()
	for i, n := range want {
		v, err := s.VM(t.Context(), "default", fmt.Sprint("vm", i))
		if err != nil || v.Resets != n {
			t.Errorf("vm%d: %d, want %d, %v", i, v.Resets, n, err)
		}
	}
	if bad, err := s.Check(t.Context()); err != nil || len(bad) > 0 {
		t.Errorf("%v, %v", bad, err)
	}
	t.Logf("%d reads, %d writes", reads.Load(), writes.Load())
}

// TestDeadlineWithoutConnection: who has a deadline keeps it when all connections
// are taken, also when nobody asked this before.
func TestDeadlineWithoutConnection(t *testing.T) {
	s := open(t, temp(t))
	birth(t, s, "web1")
	for range readers {
		conn, err := s.reading.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	done := make(chan error, 2)
	for range 2 { // the second one waits for the first
		go func() { _, err := s.VM(ctx, "default", "web1"); done <- err }()
	}
	for range 2 {
		select {
		case err := <-done:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("it waits for ever")
		}
	}
}
