// Package host is the hypervisor's side: it carries vTPMs. It makes those that
// the service orders of it, runs each under a lease while something like QEMU is
// connected, and proves this machine by its own TPM: one quote for all vTPMs.
//
// It decides nothing about trust. What it does is to obey: a vTPM whose lease
// ran out, was taken away or belongs to a revoked VM stops, whatever its guest
// is doing, because another host may be running it by then.
//
// Begin with [Host.Run]; state.go is a vTPM's directory, carry.go its life under
// leases, writes.go what it tells of it, prove.go this machine's evidence. docs/formats/lease.md has the order
// of things, and what each crash leaves behind.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/attester"
	"github.com/vouchsafe/vouchsafe/internal/hosting"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

const (
	// poll is how often the service is asked for work: how long a new VM waits.
	poll = time.Second
	// watch is how often leases are looked at that may have run out.
	watch = time.Second
	// pause is between two tries of what failed.
	pause = 5 * time.Second
	// makers is how many vTPMs are begun at a time: more would wait for the disk.
	makers = 8
	// renewals: a lease is renewed when a third of its time is over, so that two
	// more tries are left.
	renewals = 3
)

// Config is what a host works with.
type Config struct {
	// Service is whom to speak to, and as whom: the client certificate is of kind
	// agent, with this host's name. It is asked anew for each connection, since the
	// certificate is renewed from time to time.
	Service func(context.Context) (attester.Service, error)
	// Dir has a directory for each vTPM, and Sockets a socket, NAME.sock.
	Dir, Sockets string
	// SocketGroup may use the sockets, besides their owner; -1: nobody.
	SocketGroup int
	// TPM is this machine's own; nil: it proves nothing about itself.
	TPM *client.Client
	// EventLog reads this machine's measured-boot log; with a TPM it is needed.
	EventLog func() ([]byte, error)
	Log      *slog.Logger
}

// Host carries vTPMs. Make it with New, and call Run once.
type Host struct {
	Config
	Tenant, Name string

	line line
	kick chan struct{} // asks for a round before its time

	tries tries // by VM: making and carrying it

	proving sync.Mutex // one quote at a time; guards proved
	proved  proved
	passed  atomic.Pointer[[]byte]
	quotes  atomic.Int64 // that the service took

	mu      sync.Mutex
	carried map[string]*carrier // by VM
	said    map[string]string   // the last complaint about each thing, so that it is said once
}

// New makes a host; who it is, is in its client certificate.
func New(ctx context.Context, c Config) (*Host, error) {
	s, err := c.Service(ctx)
	if err != nil {
		return nil, err
	}
	self, err := s.Self()
	if err != nil {
		return nil, err
	}
	if self.Kind != "agent" {
		return nil, fmt.Errorf("the client certificate is of kind %q; a host needs agent", self.Kind)
	}
	return &Host{Config: c, Tenant: self.Tenant, Name: self.Name, line: newLine(c.Service),
		kick: make(chan struct{}, 1), carried: map[string]*carrier{}, said: map[string]string{}}, nil
}

// Run carries vTPMs until ctx ends; then it stops them and gives their leases back.
func (h *Host) Run(ctx context.Context) error {
	sockets := os.FileMode(0o700)
	if h.SocketGroup >= 0 {
		sockets = 0o711 // whoever may use a socket must reach it
	}
	if err := errors.Join(os.MkdirAll(h.Dir, 0o700), os.MkdirAll(h.Sockets, sockets)); err != nil {
		return err
	}
	unlock, err := lock(h.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	var wg sync.WaitGroup
	wg.Go(func() { h.rounds(ctx) })
	wg.Go(func() { h.watch(ctx) })
	wg.Go(func() { h.telling(ctx) })
	err = h.work(ctx, &wg)
	wg.Wait()
	h.line.close()
	return err
}

// FileLock is held in Dir while a host runs. No VM has such a name.
const FileLock = ".lock"

// ErrHeld means that another process carries the vTPMs in this directory.
var ErrHeld = errors.New("another process carries the vTPMs in it")

// lock keeps a second host away: it would take the sockets from the first, which
// would not notice, and no VM could start any more when the second ends.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, FileLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("using %s: %w", dir, ErrHeld)
	}
	return func() { f.Close() }, nil
}

// work asks for work and does it.
func (h *Host) work(ctx context.Context, wg *sync.WaitGroup) error {
	for {
		next := poll
		if err := h.once(ctx, wg); ctx.Err() != nil {
			return nil
		} else if err != nil {
			h.complain("work", "asking the service for work", err)
			next = pause
		} else {
			h.fine("work")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(next):
		}
	}
}

func (h *Host) once(ctx context.Context, wg *sync.WaitGroup) error {
	var w hosting.Work
	if err := h.line.call(ctx, "GET", "/v1/hosts/"+url.PathEscape(h.Name)+"/work", nil, &w); err != nil {
		return err
	}
	if h.tries.ask(elapsed()) {
		if err := h.trust(ctx); err != nil {
			return err
		}
	}
	// What is ordered is made and then carried; several at a time.
	var todo []string
	for _, o := range w.Orders {
		todo = append(todo, o.VM)
	}
	for _, v := range w.VTPMs {
		h.mu.Lock()
		c := h.carried[v.VM]
		h.mu.Unlock()
		switch {
		case v.Revoked && c != nil:
			c.stop("the VM was revoked")
		case !v.Revoked && c == nil:
			todo = append(todo, v.VM)
		}
	}
	ordered := len(w.Orders)
	var several sync.WaitGroup
	slots := make(chan struct{}, makers)
	for i, vm := range todo {
		if !h.tries.due(vm, elapsed()) {
			continue
		}
		slots <- struct{}{}
		several.Go(func() {
			defer func() { <-slots }()
			if err := h.begin(ctx, wg, vm, i < ordered); err == nil {
				h.tries.worked(vm)
			} else {
				h.tries.failed(vm, elapsed(), wantsTrust(err))
			}
		})
	}
	several.Wait()
	return nil
}

// begin makes a vTPM, if it is ordered, and carries it.
func (h *Host) begin(ctx context.Context, wg *sync.WaitGroup, vm string, make bool) error {
	if make {
		if err := h.manufacture(vm); err != nil {
			h.complain("make "+vm, "making the vTPM of "+vm, err)
			return err
		}
		h.fine("make " + vm)
	}
	if err := h.carry(ctx, wg, vm); err != nil {
		h.complain("carry "+vm, "carrying "+vm, err)
		return err
	}
	h.fine("carry " + vm)
	return nil
}

// unproved is a refused proof of this host.
type unproved struct{ error }

func (e unproved) Unwrap() error { return e.error }

// wantsTrust says whether an error is about this host and not about one vTPM.
func wantsTrust(err error) bool {
	var u unproved
	var r *attester.Refused
	return errors.As(err, &u) || errors.As(err, &r) && (r.Code == "HOST_UNATTESTED" || r.Code == "HOST_QUOTE_STALE")
}

// trust looks whether this host is accepted by now. A lease that is refused is a
// record in the audit log; this question is none.
func (h *Host) trust(ctx context.Context) error {
	var me struct {
		Accepted bool   `json:"accept_unattested"`
		Tier     string `json:"tier"`
	}
	if err := h.line.call(ctx, "GET", "/v1/hosts/"+url.PathEscape(h.Name), nil, &me); err != nil {
		return err
	}
	if me.Accepted || me.Tier != string(attest.Unattested) {
		h.tries.trusted()
	}
	return nil
}

// rounds proves this machine and renews all leases, again and again.
func (h *Host) rounds(ctx context.Context) {
	every := 5 * time.Minute / renewals // until the service said how long a lease lasts
	for {
		if seconds := h.round(ctx); seconds > 0 {
			every = time.Duration(seconds) * time.Second / renewals
		}
		select {
		case <-ctx.Done():
			return
		case <-h.kick:
		case <-time.After(min(every, h.retry(every))):
		}
	}
}

// retry is short when something did not work.
func (h *Host) retry(every time.Duration) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.said) > 0 {
		return pause
	}
	return every
}

// round is one of them. It returns how long a renewed lease lasts, 0 when none was.
func (h *Host) round(ctx context.Context) (seconds int) {
	if err := h.prove(ctx); err != nil {
		h.complain("prove", "proving this host", err)
	} else {
		h.fine("prove")
	}
	for _, c := range h.running() {
		if n := c.renew(ctx); n > 0 {
			seconds = n
		}
	}
	return seconds
}

// soon asks for a round now.
func (h *Host) soon() {
	select {
	case h.kick <- struct{}{}:
	default: // one is asked for already
	}
}

// watch stops what runs beyond its lease.
func (h *Host) watch(ctx context.Context) {
	every(ctx, watch, func() {
		for _, c := range h.running() {
			c.expire()
		}
	})
}

// every does something again and again, until ctx ends.
func every(ctx context.Context, d time.Duration, do func()) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			do()
		}
	}
}

func (h *Host) running() []*carrier {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*carrier
	for _, c := range h.carried {
		out = append(out, c)
	}
	return out
}

// complain logs an error, unless it is the one that was logged last.
func (h *Host) complain(about, doing string, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	h.mu.Lock()
	again := h.said[about] == err.Error()
	h.said[about] = err.Error()
	h.mu.Unlock()
	if again {
		return
	}
	attrs := []any{"error", err}
	var r *attester.Refused
	if errors.As(err, &r) {
		if r.Code != "" {
			attrs = append(attrs, "code", r.Code)
		}
		if r.Hint != "" {
			attrs = append(attrs, "hint", r.Hint)
		}
	}
	h.Log.Error(doing, attrs...)
}

// fine says that what was complained about works again.
func (h *Host) fine(about string) {
	h.mu.Lock()
	_, said := h.said[about]
	delete(h.said, about)
	h.mu.Unlock()
	if said {
		h.Log.Info("works again", "what", about)
	}
}

// elapsed is a clock that nobody sets and that goes on while the machine
// sleeps: a lease runs out in the service's time, not in this machine's.
func elapsed() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("internal error: CLOCK_BOOTTIME: " + err.Error()) // Linux has it since 2.6.39
	}
	return time.Duration(ts.Nano())
}

// lines is how many requests are under way to the service at once; many VMs
// that start together wait for its disk, and it writes for all of them in one go.
const lines = 32

// line is a few connections to the service, each for one request after the other.
type line struct {
	service func(context.Context) (attester.Service, error)
	idle    chan *attester.Connection // nil: one that is not open
}

func newLine(service func(context.Context) (attester.Service, error)) line {
	l := line{service, make(chan *attester.Connection, lines)}
	for range lines {
		l.idle <- nil
	}
	return l
}

// call sends a request that may come twice: when the connection was lost, it is
// sent again over a new one.
func (l *line) call(ctx context.Context, method, path string, in, out any) error {
	conn := <-l.idle
	defer func() { l.idle <- conn }()
	fresh := conn == nil
	for {
		if conn == nil {
			s, err := l.service(ctx)
			if err != nil {
				return err
			}
			c, err := s.Connect(ctx)
			if err != nil {
				return err
			}
			conn = c
		}
		err := conn.Call(ctx, method, path, in, out)
		var r *attester.Refused
		if err == nil || errors.As(err, &r) {
			return err
		}
		conn.Close()
		conn = nil
		if fresh || ctx.Err() != nil {
			return err
		}
		fresh = true
	}
}

func (l *line) close() {
	for range lines {
		if c := <-l.idle; c != nil {
			c.Close()
		}
	}
}

// state is the directory of a vTPM. The service names it, and must not be able to
// name any other on this machine.
func (h *Host) state(vm string) (*State, error) {
	if filepath.Base(vm) != vm || strings.HasPrefix(vm, ".") {
		return nil, fmt.Errorf("%.70q is no name of a VM", vm)
	}
	return OpenState(filepath.Join(h.Dir, vm), h.Log.With("vm", vm))
}
