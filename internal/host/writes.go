package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/hosting"
	"github.com/vouchsafe/vouchsafe/internal/vtpm"
)

// tell is how often the service is told how often states were written. What it
// was not told of yet can be taken back unnoticed by whoever puts an old copy of
// a file in its place, so this is short; a second in which no state was written
// costs nothing.
//
// It is told afterwards, and the guest's answer does not wait for it: a vTPM works
// on while the service is away. docs/rationale.md has what was not chosen.
const tell = time.Second

// count is how often one vTPM's state was written, as the service has to know. It
// outlives the session: what could not be told at its end is told later, as long
// as nobody has another lease.
type count struct {
	mu           sync.Mutex
	lease        string
	writes, told int64
}

// set is called with what is on the disk for good.
func (n *count) set(lease string, writes uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lease != lease {
		n.lease, n.told = lease, 0
	}
	n.writes = signed(writes)
}

func (n *count) get() (lease string, writes int64, told bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lease, n.writes, n.writes == n.told
}

func (n *count) heard(lease string, writes int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lease == lease {
		n.told = max(n.told, writes)
	}
}

// telling tells the service again and again.
func (h *Host) telling(ctx context.Context) {
	every(ctx, tell, func() {
		if err := h.tell(ctx, h.running()...); err != nil {
			h.complain("writes", "telling the service what was written", err)
		} else {
			h.fine("writes")
		}
	})
}

// tell tells the service of those whose state was written since it was told last.
func (h *Host) tell(ctx context.Context, of ...*carrier) error {
	type one struct {
		hosting.Written
		from *carrier
	}
	var all []one
	for _, c := range of {
		if lease, writes, told := c.count.get(); !told {
			all = append(all, one{hosting.Written{VM: c.vm, Lease: lease, Writes: writes}, c})
		}
	}
	for some := range slices.Chunk(all, hosting.MaxWritten) {
		var w hosting.Writes
		for _, o := range some {
			w.States = append(w.States, o.Written)
		}
		if err := h.line.call(ctx, "POST", "/v1/hosts/"+url.PathEscape(h.Name)+"/writes", w, nil); err != nil {
			return err
		}
		for _, o := range some {
			o.from.count.heard(o.Lease, o.Writes)
		}
	}
	return nil
}

// Writes is how often the state was written, as its file says; 0: there is none yet.
// That this is true shows when the state is opened: see [State.Take].
func (s *State) Writes() (int64, error) {
	n, err := vtpm.Written(s.dir)
	if errors.Is(err, fs.ErrNotExist) && s.At() == 0 {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading how often the state was written: %w", err)
	}
	return signed(n), nil
}

// signed is a count of writes in JSON and in SQL; an honest one is far below.
func signed(n uint64) int64 { return int64(min(n, math.MaxInt64)) }
