package differential

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var (
	commands = flag.Int("commands", 0, "how many commands the generator makes: 10,000 when 0, 200,000 when VOUCHSAFE_LONG is set")
	seed     = flag.Uint64("seed", 1, "the first seed")
)

// sequenceLength is how many steps one pair of TPMs is led through before it is
// made anew: long enough for keys, sessions and indices to meet, short enough
// that a difference is soon cut down.
const sequenceLength = 150

// generated runs one generated sequence and returns its steps.
func generated(p *Pair, seed uint64) ([]Step, Result, error) {
	g := newGenerator(seed)
	r := Result{Codes: map[string]map[uint32]int{}}
	var steps []Step
	for len(steps) < sequenceLength {
		st := g.Next()
		steps = append(steps, st)
		o, err := p.Step(st)
		if err != nil {
			return steps, r, fmt.Errorf("seed %d, step %d: %w", seed, len(steps), err)
		}
		g.Observe(st, o)
		r.Commands = p.Commands
		if !st.Power && !st.Suspend && !o.Left {
			if r.Codes[st.Command] == nil {
				r.Codes[st.Command] = map[uint32]int{}
			}
			r.Codes[st.Command][o.RC]++
		}
		if len(o.Diffs) > 0 {
			r.At, r.Diffs = append(r.At, len(steps)-1), append(r.Diffs, o.Diffs[0])
		}
		if o.Diverged {
			r.Stopped = true
			break
		}
	}
	return steps, r, nil
}

// TestGenerated runs generated sequences; a seed repeats its sequence.
func TestGenerated(t *testing.T) {
	neighbours(t)
	rows := table(t)
	want := *commands
	if want == 0 {
		want = 10_000
		if os.Getenv("VOUCHSAFE_LONG") != "" {
			want = 200_000
		}
	}
	seen := coverage{}
	told := map[string]int{}
	sequences, stopped := 0, 0
	for s, n := *seed, 0; n < want; s++ {
		p, end, err := fresh(rows)
		if err != nil {
			t.Fatal(err)
		}
		steps, r, err := generated(p, s)
		end()
		if err != nil {
			t.Error(err)
		}
		seen.add(r)
		n += r.Commands
		sequences++
		if r.Stopped {
			stopped++
		}
		for j, at := range r.At {
			d := r.Diffs[j]
			key := d.Command + d.What
			if d.What == "rc" {
				key = d.String()
			}
			if told[key]++; told[key] == 1 {
				report(t, fmt.Sprintf("seed-%d-%d", s, at+1), steps, at, d, rows)
			}
		}
	}
	ok, failed := 0, 0
	for _, codes := range seen {
		for rc, n := range codes {
			if rc == 0 {
				ok += n
			} else {
				failed += n
			}
		}
	}
	logOpen(t, rows)
	t.Logf("%d sequences, of which %d ended early at an accepted or reported difference; %d commands succeeded, %d failed; %s", sequences, stopped, ok, failed, seen)
}

// TestGeneratorRepeats checks that a seed makes the same sequence twice.
func TestGeneratorRepeats(t *testing.T) {
	write := func() string {
		g := newGenerator(7)
		var b strings.Builder
		for range 300 {
			s := g.Next()
			g.Observe(s, Outcome{})
			fmt.Fprintln(&b, s)
			again, err := parseStep(s.String())
			if err != nil || again.String() != s.String() {
				t.Fatalf("%s does not read back: %v", s, err)
			}
		}
		return b.String()
	}
	if first, second := write(), write(); first != second {
		t.Error("two runs of the generator differ")
	}
}
