package host

import (
	"context"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/attester"
	"github.com/vouchsafe/vouchsafe/internal/hosting"
	"github.com/vouchsafe/vouchsafe/internal/vtpm"
	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
	"github.com/vouchsafe/vouchsafe/tpm2"
)

// reportTime is how long a guest's TPM2_Startup waits until the service knows of
// it: without the service the guest starts all the same.
const reportTime = 2 * time.Second

// manufacture makes the vTPM that the service ordered. It is born, with its
// endorsement certificate and its first lease, when it is carried.
func (h *Host) manufacture(vm string) error {
	s, err := h.state(vm)
	if err != nil {
		return err
	}
	// One bank, as swtpm_setup: firmware hashes everything once for each.
	if _, err := s.Manufacture("sha256"); err != nil {
		return err
	}
	h.Log.Info("vTPM made", "vm", vm)
	return nil
}

// endorse tells the service of the vTPM's endorsement key, and puts the
// certificate into the vTPM.
func (h *Host) endorse(ctx context.Context, vm string, s *State, ek []byte) error {
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: ek}))
	var born hosting.Born
	if err := h.line.call(ctx, "POST", "/v1/vms/"+url.PathEscape(vm)+"/birth", hosting.Birth{EKPublic: text}, &born); err != nil {
		return err
	}
	return s.Endorse(born.EKCertificate)
}

// carrier runs one vTPM: a socket, and a lease while somebody is connected.
type carrier struct {
	host  *Host
	vm    string
	meter meter

	count    count
	renewing sync.Mutex // one renewal at a time

	mu      sync.Mutex
	state   *State
	lease   string        // id; empty: it does not run
	until   time.Duration // on elapsed
	running *watched
	cancel  context.CancelFunc // ends the session
}

// carry opens the socket of a vTPM; QEMU connects to it when the VM starts.
func (h *Host) carry(ctx context.Context, wg *sync.WaitGroup, vm string) error {
	s, err := h.state(vm)
	if err != nil {
		return err
	}
	if len(s.EKPublic) == 0 {
		return fmt.Errorf("%s belongs on this host, and its vTPM is not here: %s is empty", vm, filepath.Join(h.Dir, vm))
	}
	c := &carrier{host: h, vm: vm, state: s}
	if s.Unborn() { // no lease has sealed it yet, and maybe nobody knows of it
		if err := h.endorse(ctx, vm, s, s.EKPublic); err != nil {
			return err
		}
		if err := c.first(ctx); err != nil {
			return err
		}
	}
	path := filepath.Join(h.Sockets, vm+".sock")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	if err := h.permit(path); err != nil {
		return errors.Join(err, l.Close())
	}
	h.mu.Lock()
	h.carried[vm] = c
	h.mu.Unlock()
	h.soon() // a quote that covers it
	context.AfterFunc(ctx, func() { l.Close() })
	wg.Go(func() { c.serve(ctx, l) })
	h.Log.Info("carrying", "vm", vm, "socket", path)
	return nil
}

func (h *Host) permit(path string) error {
	if h.SocketGroup < 0 {
		return os.Chmod(path, 0o600)
	}
	return errors.Join(os.Chown(path, -1, h.SocketGroup), os.Chmod(path, 0o660))
}

// first takes a new vTPM under its first lease, and gives that back.
func (c *carrier) first(ctx context.Context) error {
	if err := c.host.cover(ctx, c); err != nil {
		return unproved{err}
	}
	instance, l, _, err := c.take(ctx)
	if err != nil {
		return err
	}
	return errors.Join(instance.Close(), c.giveBack(ctx, l.ID))
}

// serve answers whoever connects, one at a time: there is one vTPM.
func (c *carrier) serve(ctx context.Context, l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return // the listener was closed
		}
		if err := c.session(ctx, conn); err != nil {
			c.host.complain("run "+c.vm, "running the vTPM of "+c.vm, err)
		} else {
			c.host.fine("run " + c.vm)
		}
		conn.Close()
	}
}

// session is one VM's time from its start to its end.
func (c *carrier) session(ctx context.Context, conn net.Conn) error {
	if err := c.host.cover(ctx, c); err != nil { // or there is no lease
		return err
	}
	instance, l, until, err := c.take(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &watched{Instance: instance, meter: &c.meter, over: ctx.Done(), started: func() { c.report(ctx) }, powered: c.host.soon,
		wrote: func(writes uint64) { c.count.set(l.ID, writes) }}
	c.mu.Lock()
	c.lease, c.until, c.running, c.cancel = l.ID, until, w, cancel
	c.mu.Unlock()
	if err := c.host.cover(ctx, c); err != nil { // or there is no admission
		c.host.complain("prove", "proving this host", err)
	}
	c.host.Log.Info("vTPM runs", "vm", c.vm, "generation", l.Generation, "lease", l.ID)
	for _, f := range l.Findings {
		level := slog.LevelWarn
		if f.Severity == finding.Info {
			level = slog.LevelInfo
		}
		c.host.Log.Log(ctx, level, f.Meaning, "vm", c.vm, "code", f.Code, "evidence", f.Evidence, "remedy", f.Remedy)
	}
	s := &swtpm.Server{Device: w, ControlConn: conn, StopOnControlClose: true}
	err = s.Serve(ctx)
	c.mu.Lock()
	c.lease, c.running, c.cancel = "", nil, nil
	c.mu.Unlock()
	err = errors.Join(err, instance.Close())
	c.count.set(l.ID, instance.Generation())
	c.host.Log.Info("vTPM stopped", "vm", c.vm)
	back, end := context.WithTimeout(context.WithoutCancel(ctx), pause)
	defer end()
	e := c.host.tell(back, c) // while the lease is the one on record
	if e == nil {
		e = c.giveBack(back, l.ID)
	}
	if e != nil {
		c.host.Log.Warn("the lease could not be given back; another host has to wait for its end", "vm", c.vm, "error", e)
	}
	return err
}

// take asks for a lease and makes the state one of its generation. The lease
// lasts from before it was asked for.
func (c *carrier) take(ctx context.Context) (_ *vtpm.Instance, l hosting.Lease, until time.Duration, err error) {
	start := elapsed()
	path := c.path()
	// What was written under the lease before, while its service does not know of this one.
	if err := c.host.tell(ctx, c); err != nil {
		return nil, l, 0, err
	}
	writes, err := c.state.Writes()
	if err != nil {
		return nil, l, 0, err
	}
	ask := func() error {
		return c.host.line.call(ctx, "POST", path, hosting.AskLease{Host: c.host.Name, Generation: c.state.At(), Writes: writes, Pass: c.host.pass()}, &l)
	}
	quotes := c.host.quotes.Load()
	if err = ask(); c.host.TPM != nil && forgotten(err) {
		if err = c.host.proveSince(ctx, quotes); err != nil {
			return nil, l, 0, unproved{err}
		}
		start = elapsed()
		err = ask()
	}
	if err != nil {
		return nil, l, 0, err
	}
	instance, err := c.state.Take(l)
	clear(l.OpenKey)
	clear(l.SealKey)
	if err != nil {
		return nil, l, 0, errors.Join(err, c.giveBack(ctx, l.ID))
	}
	c.count.set(l.ID, instance.Generation())
	err = c.host.line.call(ctx, "POST", path+"/"+l.ID+"/confirm", hosting.ConfirmLease{Generation: l.Generation}, nil)
	if err == nil {
		err = c.state.Confirmed()
	}
	if err != nil {
		return nil, l, 0, errors.Join(err, instance.Close())
	}
	return instance, l, start + time.Duration(l.Seconds)*time.Second, nil
}

// forgotten says whether the service does not know what this host believes to have
// proved: it was started anew, or heard other evidence meanwhile.
func forgotten(err error) bool {
	var r *attester.Refused
	return errors.As(err, &r) && (r.Code == "HOST_QUOTE_STALE" || r.Code == "VTPM_NOT_QUOTED")
}

func (c *carrier) path() string { return "/v1/vms/" + url.PathEscape(c.vm) + "/lease" }

func (c *carrier) giveBack(ctx context.Context, lease string) error {
	err := c.host.line.call(ctx, "DELETE", c.path()+"/"+lease, nil, nil)
	var r *attester.Refused
	if errors.As(err, &r) {
		return nil // it is gone already
	}
	return err
}

// renew makes the lease last longer, and says what was counted. A no that is
// about this vTPM stops it at once; without an answer it runs on until its lease ends.
func (c *carrier) renew(ctx context.Context) (seconds int) {
	c.renewing.Lock() // what was counted first is told first
	defer c.renewing.Unlock()
	c.mu.Lock()
	lease, w := c.lease, c.running
	c.mu.Unlock()
	if lease == "" {
		return 0
	}
	start := elapsed()
	var l hosting.Lease
	err := c.host.line.call(ctx, "POST", c.path()+"/"+lease+"/renew", hosting.RenewLease{Counters: w.counters()}, &l)
	var r *attester.Refused
	switch {
	case errors.As(err, &r) && final[r.Code]:
		c.stop(r.Detail)
		return 0
	case err != nil:
		c.host.complain("renew "+c.vm, "renewing the lease of "+c.vm, err)
		return 0
	}
	c.host.fine("renew " + c.vm)
	c.mu.Lock()
	if c.lease == lease {
		c.until = start + time.Duration(l.Seconds)*time.Second
	}
	c.mu.Unlock()
	return l.Seconds
}

// final are the codes after which a vTPM must not run on. That this host is not
// believed at the moment is none: it may prove itself while the lease lasts.
var final = map[string]bool{"VM_REVOKED": true, "HOST_REVOKED": true, "LEASE_GONE": true, "LEASE_EXPIRED": true, "STATE_ROLLED_BACK": true, "NOT_FOUND": true}

// report tells the service at once that the guest has started, before the guest
// hears of it: its evidence will say so.
func (c *carrier) report(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	if c.renew(ctx) == 0 {
		c.host.soon() // the guest does not wait for it; its agent may have to
	}
}

// expire stops the vTPM when its lease ran out.
func (c *carrier) expire() {
	c.mu.Lock()
	over := c.lease != "" && elapsed() >= c.until
	c.mu.Unlock()
	if over {
		c.stop("its lease ran out: another host may run it now")
	}
}

// stop ends the session. QEMU notices that its TPM is gone.
func (c *carrier) stop(why string) {
	c.mu.Lock()
	cancel := c.cancel
	c.mu.Unlock()
	if cancel != nil {
		c.host.Log.Error("stopping the vTPM", "vm", c.vm, "why", why)
		cancel()
	}
}

// longestWait is below what a guest's driver takes for a TPM that is broken: two
// minutes for commands that make keys, in Linux. What is left over waits with the next one.
const longestWait = 10 * time.Second

// watched is a vTPM whose starts are noticed, and whose time is measured.
type watched struct {
	*vtpm.Instance
	meter   *meter
	over    <-chan struct{}     // the session ends
	started func()              // after TPM2_Startup, before the guest has the answer
	powered func()              // after power-on, which may resume a TPM that runs already
	wrote   func(writes uint64) // after each command: how often the state was written
}

// Execute implements swtpm.Device.
func (w *watched) Execute(locality uint8, cmd, dst []byte) []byte {
	start := elapsed()
	out := w.Instance.Execute(locality, cmd, dst)
	w.wrote(w.Generation())
	now := elapsed()
	if wait := w.meter.charge(now, now-start); wait > 0 {
		select {
		case <-w.over:
		case <-time.After(min(wait, longestWait)):
		}
	}
	if len(cmd) >= 10 && tpm2.CC(binary.BigEndian.Uint32(cmd[6:])) == tpm2.CCStartup {
		w.started()
	}
	return out
}

// PowerOn implements swtpm.Device.
func (w *watched) PowerOn(by swtpm.Peer, deleteVolatile bool) error {
	err := w.Instance.PowerOn(by, deleteVolatile)
	if err == nil {
		w.powered()
	}
	return err
}

func (w *watched) counters() *hosting.Counters {
	reset, restart, ever, on := w.Counters()
	if !on {
		return nil
	}
	return &hosting.Counters{Reset: reset, Restart: restart, Ever: int64(ever)}
}
