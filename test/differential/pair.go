// Package differential runs the same commands on two TPMs, Debian's swtpm and
// ours, and compares response codes and every response field that is not
// random. It is for finding where the engine behaves unlike the TPM that guests
// know; it does not say who is right: that is in accepted.txt, row by row, with
// the clause.
//
// A sequence is text (see [Step]); handles, nonces, blobs and HMACs are symbols
// that are worked out for each side on its own. The sequences in testdata are
// written by hand, those of generate.go by a seed. On a difference the sequence
// is cut down to the shortest that still shows it, and written as a transcript
// that can be replayed:
//
//	go test ./differential -run TestReplay -replay FILE
//
// Begin with [Pair.Step].
package differential

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// A Pair is two TPMs that are led through the same sequence.
type Pair struct {
	theirs, ours *side
	accepted     []*accepted

	taint      map[string]bool // handles, as sequences write them, that differ in more than their number
	gone       map[string]bool // slots whose object or session is no longer in the TPMs
	pcrTainted bool
	Commands   int
	Left       int // steps left out for want of a slot
}

// NewPair begins a sequence on two TPMs that have just got their power.
func NewPair(theirs, ours TPM, rows []*accepted) *Pair {
	return &Pair{theirs: newSide("theirs", theirs), ours: newSide("ours", ours), accepted: rows, taint: map[string]bool{}, gone: map[string]bool{}}
}

// An Outcome is what a step came to.
type Outcome struct {
	RC       uint32 // theirs
	Handle   uint32 // theirs
	Left     bool   // left out
	Diverged bool   // an accepted difference after which the sides are no longer alike
	Diffs    []Difference
	theirs   *answer
}

// Step runs one step on both sides. The error is about the harness or a TPM
// that does not answer, never about a difference.
func (p *Pair) Step(st Step) (Outcome, error) {
	var o Outcome
	if st.Power {
		p.allGone()
		return o, errors.Join(p.theirs.tpm.PowerCycle(), p.ours.tpm.PowerCycle())
	}
	if st.Suspend {
		return o, errors.Join(p.theirs.tpm.Suspend(), p.ours.tpm.Suspend())
	}
	x, err := p.theirs.render(st)
	if err == nil {
		var y *rendered
		if y, err = p.ours.render(st); err == nil {
			return p.both(st, x, y)
		}
	}
	if errors.Is(err, errNoSlot) {
		p.Left++
		return Outcome{Left: true}, nil
	}
	return o, fmt.Errorf("%s: %w", st, err)
}

func (p *Pair) both(st Step, x, y *rendered) (Outcome, error) {
	var o Outcome
	a, err := p.theirs.run(st, x)
	if err != nil {
		return o, fmt.Errorf("%s: %w", st, err)
	}
	b, err := p.ours.run(st, y)
	if err != nil {
		return o, fmt.Errorf("%s: %w", st, err)
	}
	p.Commands++
	tainted := !bytes.Equal(x.params, y.params)
	for _, h := range st.Handles {
		// A handle by its number may be an object made here, with another key there.
		tainted = tainted || p.taint[h] || p.gone[h] || strings.HasPrefix(h, "0x8")
	}
	o = Outcome{RC: a.rc, Handle: a.handle, theirs: a}
	if a.rc != b.rc && b.fault == "" && p.outOfRoom(a, b) {
		if x.info != nil && x.info.ResponseHandle && b.handle != 0 {
			p.ours.aside(tpm2.CCFlushContext, u32(b.handle))
			delete(p.ours.slots, st.Save)
			o.Diverged = y.ends() // a session that ended there goes on here
			return o, nil
		}
		o.Diverged = true
		return o, nil
	}
	if a.rc != b.rc && p.elsewhere(st, y) {
		o.Diverged = true
		return o, nil
	}
	for _, d := range p.compare(st.Command, a, b, tainted) {
		if !accept(p.accepted, d) {
			o.Diffs = append(o.Diffs, d)
		}
		if d.What == "fault" || d.What == "rc" && (d.Theirs == "0x000" || d.Ours == "0x000") {
			o.Diverged = true
		}
		if d.What == "rc" && failedTry(a.rc) != failedTry(b.rc) {
			o.Diverged = true // one of them is nearer to lockout
		}
	}
	if a.rc == 0 && b.rc == 0 {
		p.spread(st, a, b, tainted)
	}
	if st.Save == flushed {
		p.theirs.flush(x, a)
		p.ours.flush(y, b)
	}
	return o, nil
}

// flushed as the name of a slot says that what the command made goes at once: swtpm has few slots.
const flushed = "-"

func (s *side) flush(r *rendered, a *answer) {
	if a.rc == 0 && r.info != nil && r.info.ResponseHandle {
		s.aside(tpm2.CCFlushContext, u32(a.handle))
	}
}

// ends reports whether one of the sessions ends with the command.
func (r *rendered) ends() bool {
	return slices.ContainsFunc(r.auths, func(a *auth) bool { return a.x != nil && a.attrs&sessionBits["c"] == 0 })
}

// failedTry reports whether dictionary attack protection has counted the command
// (TPM_RC_AUTH_FAIL, of whichever session).
func failedTry(rc uint32) bool { return rc&0xbf == uint32(tpm2.RCAuthFail) }

// outOfRoom: swtpm has three slots for objects and three for sessions, we have more
// (PT_HR_TRANSIENT_MIN and PT_HR_LOADED_MIN say so).
func (p *Pair) outOfRoom(a, b *answer) bool {
	full := []uint32{uint32(tpm2.RCObjectMemory), uint32(tpm2.RCSessionMemory), uint32(tpm2.RCMemory), uint32(tpm2.RCObjectHandles), uint32(tpm2.RCSessionHandles)}
	return slices.Contains(full, a.rc)
}

func (p *Pair) allGone() {
	for name := range p.ours.slots {
		p.gone["$"+name] = true
	}
}

// elsewhere reports whether a step uses the transient handle of what has gone, or
// one by its number when numbers differ. By now something else may be behind it,
// on one side only: libtpms puts a persistent key into a transient slot while a
// command uses it, and what the command makes gets the next number. (Handles with
// nothing behind them are in testdata.)
func (p *Pair) elsewhere(st Step, y *rendered) bool {
	for i, h := range st.Handles {
		if i >= len(y.handles) || tpm2.Handle(y.handles[i]).Space() != tpm2.HTTransient {
			continue
		}
		if p.gone[h] || strings.HasPrefix(h, "0x") && p.renumbered() {
			return true
		}
	}
	return false
}

// renumbered reports whether an object has one number there and another here.
func (p *Pair) renumbered() bool {
	for name, ours := range p.ours.slots {
		theirs := p.theirs.slots[name]
		if theirs != nil && theirs.handle != ours.handle && tpm2.Handle(ours.handle).Space() == tpm2.HTTransient {
			return true
		}
	}
	return false
}

// spread notes what is unlike on the two sides after a command that succeeded on both.
func (p *Pair) spread(st Step, a, b *answer, tainted bool) {
	if tainted {
		for _, h := range st.Handles {
			if _, ok := permanent[h]; !ok {
				p.taint[h] = true
			}
			if strings.HasPrefix(h, "pcr") {
				p.pcrTainted = true
			}
		}
	}
	switch {
	case st.Command == "FlushContext" && len(st.Faults) > 0: // it may have been any of them
		p.allGone()
	case st.Command == "FlushContext":
		p.gone[st.Params[0]] = true
	}
	if st.Save == "" || st.Save == flushed {
		return
	}
	delete(p.gone, "$"+st.Save)
	// A key that was made here has another Name there.
	p.taint["$"+st.Save] = tainted || !bytes.Equal(a.field("name"), b.field("name")) || !bytes.Equal(a.field("outPublic"), b.field("outPublic"))
}
