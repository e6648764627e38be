package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vouchsafe/vouchsafe/test/internal/tpmsock"
)

type options struct {
	servers  [][]string // command lines of one or two servers
	only     *regexp.Regexp
	budget   time.Duration
	max, min int
	rounds   int
	many     int
	markdown bool
	pin      bool
	pause    time.Duration // before each run of an operation
}

// running are the servers started and not yet stopped, for an interrupt.
var running struct {
	sync.Mutex
	procs map[*tpmsock.Process]string // and their directories
}

func start(argv []string) (*bench, error) {
	dir, err := os.MkdirTemp("", "vouchsafe-bench-")
	if err != nil {
		return nil, err
	}
	p, err := tpmsock.Start(dir, argv...)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	running.Lock()
	if running.procs == nil {
		running.procs = map[*tpmsock.Process]string{}
	}
	running.procs[p] = dir
	running.Unlock()
	return connect(p)
}

func stopAll() {
	running.Lock()
	defer running.Unlock()
	for p, dir := range running.procs {
		p.Stop()
		os.RemoveAll(dir)
	}
	running.procs = nil
}

// A sample is one operation on one server in one round.
type sample struct {
	n, commands int
	p50, p95    time.Duration
	cpu         time.Duration // of the server, per operation
	err         error
}

// A row is one operation with a sample for each server.
type row struct {
	op      string
	samples []sample
}

func (o *options) run() error {
	if o.many > 0 {
		return o.aggregate()
	}
	rounds := make([][]row, 0, o.rounds)
	for range o.rounds {
		r, err := o.round()
		stopAll()
		if err != nil {
			return err
		}
		rounds = append(rounds, r)
	}
	rows := medians(rounds)
	o.report(rows)
	var failed error
	for _, r := range rows {
		for i, s := range r.samples {
			if s.err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s on %s: %w", r.op, o.servers[i][0], s.err))
			}
		}
	}
	return failed
}

// round starts every server anew and runs each operation on one and the other in turn.
func (o *options) round() ([]row, error) {
	var targets []*bench
	for _, argv := range o.servers {
		b, err := start(argv)
		if err != nil {
			return nil, err
		}
		targets = append(targets, b)
	}
	if o.pin { // now that the servers have counted the processors
		all, first, err := processors()
		if err != nil {
			return nil, err
		}
		for _, pid := range append(pids(targets), os.Getpid()) {
			if err := place(pid, &first); err != nil {
				return nil, err
			}
		}
		defer place(os.Getpid(), &all)
	}
	var rows []row
	for _, op := range ops() {
		if !o.only.MatchString(op.name) {
			continue
		}
		runs := make([]*one, len(targets))
		for i, b := range targets {
			runs[i] = begin(b, op)
			runs[i].step() // warm up
			runs[i].forget()
		}
		end := time.Now().Add(o.budget * time.Duration(len(runs)))
		for n := 0; n < o.max && (n < o.min || time.Now().Before(end)); n++ {
			for i := range runs {
				time.Sleep(o.pause)
				runs[(i+n)%len(runs)].step()
			}
		}
		r := row{op: op.name}
		for _, x := range runs {
			r.samples = append(r.samples, x.end())
		}
		rows = append(rows, r)
		fmt.Fprintf(os.Stderr, "%-45s %s\n", op.name, r.short())
	}
	return rows, nil
}

func pids(bs []*bench) (out []int) {
	for _, b := range bs {
		out = append(out, b.pid)
	}
	return out
}

// one is an operation being run on one server.
type one struct {
	b     *bench
	steps steps
	wire  []time.Duration
	cpu   time.Duration
	cpu0  time.Duration // where the loop began, for operations without a step before
	cmds  int
	err   error
}

func begin(b *bench, op op) *one {
	x := &one{b: b}
	x.steps, x.err = op.prepare(b)
	return x
}

func (x *one) forget() {
	x.wire, x.cpu = nil, 0
	x.cpu0 = tpmsock.CPU(x.b.pid)
}

// step runs the operation once. An operation with a step before it is measured
// on its own; others over the whole loop, which is finer than the kernel's
// accounting of one small command.
func (x *one) step() {
	if x.err != nil {
		return
	}
	apart := x.steps.before != nil
	var c0 time.Duration
	if apart {
		x.steps.before()
		c0 = tpmsock.CPU(x.b.pid)
	}
	x.b.wire, x.b.commands = 0, 0
	if x.err = x.steps.run(); x.err != nil {
		return
	}
	x.wire = append(x.wire, x.b.wire)
	x.cmds = x.b.commands
	if apart {
		if x.b.wire < 200*time.Microsecond { // let the server get back to waiting
			time.Sleep(20 * time.Microsecond)
		}
		x.cpu += tpmsock.CPU(x.b.pid) - c0
	}
}

func (x *one) end() sample {
	if x.err == nil && x.steps.before == nil {
		time.Sleep(time.Millisecond)
		x.cpu = tpmsock.CPU(x.b.pid) - x.cpu0
	}
	if x.steps.after != nil {
		x.steps.after()
	}
	n := len(x.wire)
	if x.err != nil || n == 0 {
		return sample{err: x.err}
	}
	slices.Sort(x.wire)
	return sample{n: n, commands: x.cmds, p50: x.wire[n/2], p95: x.wire[n*95/100], cpu: x.cpu / time.Duration(n)}
}

// medians takes the median of each figure over the rounds.
func medians(rounds [][]row) []row {
	out := slices.Clone(rounds[0])
	for i := range out {
		out[i].samples = slices.Clone(out[i].samples)
		for j := range out[i].samples {
			var p50, p95, cpu []time.Duration
			n := 0
			for _, r := range rounds {
				s := r[i].samples[j]
				if s.err != nil {
					out[i].samples[j].err = s.err
					continue
				}
				n += s.n
				p50, p95, cpu = append(p50, s.p50), append(p95, s.p95), append(cpu, s.cpu)
			}
			if s := &out[i].samples[j]; len(p50) > 0 {
				s.n, s.p50, s.p95, s.cpu = n, median(p50), median(p95), median(cpu)
			}
		}
	}
	return out
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func ratio(b, a time.Duration) float64 {
	if a == 0 {
		return math.NaN()
	}
	return float64(b) / float64(a)
}

// aggregate keeps several instances of each server busy for the budget, one
// server program at a time, and counts what they did.
func (o *options) aggregate() error {
	rate := map[string][]float64{}
	for s, argv := range o.servers {
		var bs []*bench
		for range o.many {
			b, err := start(argv)
			if err != nil {
				return err
			}
			bs = append(bs, b)
		}
		for _, op := range ops() {
			if !o.only.MatchString(op.name) {
				continue
			}
			r, err := busy(bs, op, o.budget)
			if err != nil {
				return fmt.Errorf("%s on %s: %w", op.name, argv[0], err)
			}
			for len(rate[op.name]) < s {
				rate[op.name] = append(rate[op.name], math.NaN())
			}
			rate[op.name] = append(rate[op.name], r)
			fmt.Fprintf(os.Stderr, "%-45s %s x%d: %.0f/s\n", op.name, argv[0], o.many, r)
		}
		stopAll()
	}
	o.reportRates(rate)
	return nil
}

func busy(bs []*bench, op op, budget time.Duration) (float64, error) {
	runs := make([]*one, len(bs))
	for i, b := range bs {
		if runs[i] = begin(b, op); runs[i].err != nil {
			return 0, runs[i].err
		}
	}
	var count atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for _, x := range runs {
		wg.Go(func() {
			for time.Since(began) < budget && x.err == nil {
				if x.steps.before != nil {
					x.steps.before()
				}
				if x.err = x.steps.run(); x.err == nil {
					count.Add(1)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	var errs error
	for _, x := range runs {
		if x.steps.after != nil {
			x.steps.after()
		}
		errs = errors.Join(errs, x.err)
	}
	return float64(count.Load()) / took.Seconds(), errs
}
