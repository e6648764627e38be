package attest

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/vouchsafe/vouchsafe/eventlog"
)

// Difference is the first event that is not as in the golden boot.
type Difference struct {
	Kind   string           `json:"kind"`            // "changed", "added", "missing"
	Event  int              `json:"event,omitempty"` // its number in the sent log; for "missing" the number of events
	PCR    int              `json:"pcr"`
	Type   string           `json:"type"`
	Text   string           `json:"text,omitempty"` // as sent; see Proved
	Proved eventlog.Binding `json:"textProved,omitempty"`
	// Golden is the event that stood there, from the signed statement.
	Golden *ReferenceEvent `json:"golden,omitempty"`
}

func (d *Difference) String() string {
	sent := d.Text
	if d.Proved != eventlog.Authenticated {
		sent += " (text unauthenticated)"
	}
	switch d.Kind {
	case "missing":
		return fmt.Sprintf("the first event that differs: PCR %d lacks %s %q", d.PCR, d.Golden.Type, d.Golden.Text)
	case "added":
		return fmt.Sprintf("the first event that differs: event %d, PCR %d, %s, is new: %s", d.Event, d.PCR, d.Type, sent)
	}
	return fmt.Sprintf("the first event that differs: event %d, PCR %d, %s: %s; approved was %q", d.Event, d.PCR, d.Type, sent, d.Golden.Text)
}

// firstDifference compares the log with the golden boot's events, PCR by PCR:
// within a PCR the order is proved by its value, between PCRs by nothing. Of
// the first differences of all PCRs it returns the one that comes first in the log.
func (a *appraisal) firstDifference(r *ReferenceValues, pcrs []int) *Difference {
	golden := map[int][]*ReferenceEvent{}
	for i := range r.statement.Events {
		e := &r.statement.Events[i]
		golden[int(e.PCR)] = append(golden[int(e.PCR)], e)
	}
	if a.log == nil || len(r.statement.Events) == 0 || len(r.statement.Events) == MaxReferenceEvents {
		return nil // the statement has no events, or not all of them
	}
	done := map[int]bool{}
	for i := range a.log.Events {
		e := &a.log.Events[i]
		pcr := int(e.PCR)
		if !e.Extends() || done[pcr] || !slices.Contains(pcrs, pcr) {
			continue
		}
		d := &Difference{Kind: "changed", Event: e.Number, PCR: pcr, Type: e.Type.String(), Text: e.Text()}
		d.Proved, _ = e.Binding(a.q.bank)
		if len(golden[pcr]) == 0 {
			d.Kind = "added"
			return d
		}
		if g := golden[pcr][0]; !bytes.Equal(g.Digest, e.Digest(a.q.bank)) {
			d.Golden = g
			return d
		}
		golden[pcr] = golden[pcr][1:]
	}
	for _, pcr := range pcrs {
		if len(golden[pcr]) > 0 {
			g := golden[pcr][0]
			return &Difference{Kind: "missing", Event: len(a.log.Events), PCR: pcr, Type: g.Type, Golden: g}
		}
	}
	return nil
}
