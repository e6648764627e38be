package api

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
)

// Bounds of what requests of guests and hosts hold in memory at once, and why. A
// body is there about six times while it is read: as it came, as JSON twice, and
// decoded.
const (
	// smallBody: a request with an event log has 20 to 200 KiB.
	smallBody = 256 << 10
	// smallRoom and largeRoom: 64 small bodies and 4 large ones (IMA lists) are
	// 200 MiB at the worst. More would not be faster: appraising is for two cores.
	smallRoom, largeRoom = 64, 4
	// perGuest: an agent asks one thing after the other. So does a host that sends
	// its evidence.
	perGuest = 2
	// errand: what a host sends all day, its evidence apart, is below 1 KiB, a request
	// for a new credential below 9, and a hundred counts of writes below 15. It needs
	// no room, but a host has 32 connections, and not hundreds.
	errand, perHost = 16 << 10, 64
	// hostRoom: a host's evidence has an event log and the list of its vTPMs, each
	// below 1 MiB; one appraisal takes milliseconds. 200 MiB at the worst.
	hostRoom = 8
	// roomWait is how long a request waits outside, where it costs a connection only.
	roomWait = 10 * time.Second
)

// rooms let requests of guests and hosts in, before anything of their bodies is read.
type rooms struct {
	small, large, hosts chan struct{}

	mu     sync.Mutex
	inside map[asking]int // or waiting
}

// asking is who asks, and for which room: nil for none.
type asking struct {
	who  ca.Name
	room chan struct{}
}

func newRooms() *rooms {
	return &rooms{small: make(chan struct{}, smallRoom), large: make(chan struct{}, largeRoom), hosts: make(chan struct{}, hostRoom), inside: map[asking]int{}}
}

// enter waits for a place for a body of that length; -1 is any length.
func (r *rooms) enter(ctx context.Context, who ca.Name, length int64) (leave func(), err error) {
	var room chan struct{}
	a, most := asking{who: who}, perGuest
	switch who.Kind {
	case ca.KindGuest, ca.KindVM:
		a.who.Kind = "" // one VM, whichever certificate it comes with
		if room = r.small; length < 0 || length > smallBody {
			room = r.large
		}
	case ca.KindAgent:
		if length >= 0 && length <= errand {
			most = perHost
		} else {
			room, a.room = r.hosts, r.hosts
		}
	default:
		return func() {}, nil
	}
	r.mu.Lock()
	if r.inside[a] >= most {
		r.mu.Unlock()
		return nil, enroll.Refusal{Code: "BUDGET_SPENT", Why: who.Name + " asks for too many things at once"}
	}
	r.inside[a]++
	r.mu.Unlock()
	out := func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.inside[a]--; r.inside[a] == 0 {
			delete(r.inside, a)
		}
	}
	if room == nil {
		return out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, roomWait)
	defer cancel()
	select {
	case room <- struct{}{}:
		return func() { <-room; out() }, nil
	case <-ctx.Done():
		out()
		return nil, &Problem{Status: http.StatusServiceUnavailable, Title: "Service Unavailable", Code: "BUSY", Detail: "too many prove themselves at once", Hint: "try again in a second"}
	}
}
