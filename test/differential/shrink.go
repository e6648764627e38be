package differential

import (
	"fmt"
	"slices"
)

// maxTrials bounds how many times a sequence is run to make it shorter.
const maxTrials = 120

// Shrink cuts steps out of a sequence as long as what is left still shows a
// difference in the same command and field. run runs a sequence on two fresh TPMs.
func Shrink(steps []Step, want Difference, run func([]Step) (Result, error)) []Step {
	trials := 0
	shows := func(s []Step) bool {
		if trials++; trials > maxTrials {
			return false
		}
		r, err := run(s)
		return err == nil && slices.ContainsFunc(r.Diffs, func(d Difference) bool { return d.Command == want.Command && d.What == want.What })
	}
	for size := len(steps) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(steps); {
			shorter := append(append([]Step(nil), steps[:at]...), steps[at+size:]...)
			if len(shorter) > 0 && shows(shorter) {
				steps = shorter
			} else {
				at += size
			}
		}
	}
	return steps
}

// A Result is what a sequence came to.
type Result struct {
	Commands int
	At       []int                     // the steps that differ
	Diffs    []Difference              // the first difference of each of them
	Stopped  bool                      // the last of them succeeded on one side only: what follows says nothing
	Codes    map[string]map[uint32]int // response codes by command
}

// Run leads a pair through a sequence, until a command succeeds on one side only.
func Run(p *Pair, steps []Step) (Result, error) {
	r := Result{Codes: map[string]map[uint32]int{}}
	for i, st := range steps {
		o, err := p.Step(st)
		if err != nil {
			return r, fmt.Errorf("step %d: %w", i+1, err)
		}
		r.Commands = p.Commands
		if !st.Power && !st.Suspend && !o.Left {
			if r.Codes[st.Command] == nil {
				r.Codes[st.Command] = map[uint32]int{}
			}
			r.Codes[st.Command][o.RC]++
		}
		if len(o.Diffs) > 0 {
			r.At, r.Diffs = append(r.At, i), append(r.Diffs, o.Diffs[0])
		}
		if o.Diverged {
			r.Stopped = true
			return r, nil
		}
	}
	return r, nil
}
