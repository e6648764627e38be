package api

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
)

// Bounds of what guests' requests hold in memory at once, and why. A body is
// there about six times while it is read: as it came, as JSON twice, and decoded.
const (
	// smallBody: a request with an event log has 20 to 200 KiB.
	smallBody = 256 << 10
	// smallRoom and largeRoom: 64 small bodies and 4 large ones (IMA lists) are
	// 200 MiB at the worst. More would not be faster: appraising is for two cores.
	smallRoom, largeRoom = 64, 4
	// perGuest: an agent asks one thing after the other.
	perGuest = 2
	// roomWait is how long a request waits outside, where it costs a connection only.
	roomWait = 10 * time.Second
)

// rooms let guests' requests in, before anything of their bodies is read.
type rooms struct {
	small, large chan struct{}

	mu     sync.Mutex
	guests map[ca.Name]int // inside or waiting
}

func newRooms() *rooms {
	return &rooms{small: make(chan struct{}, smallRoom), large: make(chan struct{}, largeRoom), guests: map[ca.Name]int{}}
}

// enter waits for a place for a body of that length; -1 is any length.
func (r *rooms) enter(ctx context.Context, who ca.Name, length int64) (leave func(), err error) {
	if who.Kind != ca.KindGuest && who.Kind != ca.KindVM {
		return func() {}, nil
	}
	who.Kind = "" // one VM, whichever certificate it comes with
	r.mu.Lock()
	if r.guests[who] >= perGuest {
		r.mu.Unlock()
		return nil, enroll.Refusal{Code: "BUDGET_SPENT", Why: who.Name + " asks for too many things at once"}
	}
	r.guests[who]++
	r.mu.Unlock()
	out := func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.guests[who]--; r.guests[who] == 0 {
			delete(r.guests, who)
		}
	}
	room := r.small
	if length < 0 || length > smallBody {
		room = r.large
	}
	ctx, cancel := context.WithTimeout(ctx, roomWait)
	defer cancel()
	select {
	case room <- struct{}{}:
		return func() { <-room; out() }, nil
	case <-ctx.Done():
		out()
		return nil, &Problem{Status: http.StatusServiceUnavailable, Title: "Service Unavailable", Code: "BUSY", Detail: "too many guests prove themselves at once", Hint: "try again in a second"}
	}
}
