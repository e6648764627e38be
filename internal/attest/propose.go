package attest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vouchsafe/vouchsafe/eventlog"
)

// The events that a new kernel, initrd or command line changes under OVMF, as
// a statement keeps them (docs/formats/prediction.md).
const (
	textLoadOptions = "tag 0x8f3b22ed LOADED_IMAGE::LoadOptions"
	textInitrd      = "tag 0x8f3b22ec Linux initrd"
)

// Propose makes the next approved set of a policy out of one that is in use: the
// same firmware on the same machine with the same memory, and the kernel, initrd
// and command line of m. The operator approves it before the reboot. It needs
// no golden log, since a statement keeps the events' digests; it refuses when
// these do not lead to the statement's own values, or when the boot was none that
// can be predicted.
func Propose(base *ReferenceValues, m *eventlog.Measured, version uint64, notBefore time.Time) (*Statement, error) {
	old := base.statement
	fail := func(format string, args ...any) (*Statement, error) {
		return nil, fmt.Errorf("proposing reference values from version %d of policy %q: "+format, append([]any{old.Version, old.Policy}, args...)...)
	}
	if version <= old.Version {
		return fail("version %d is not a new one", version)
	}
	if len(old.Events) == MaxReferenceEvents {
		return fail("its golden boot had more events than a statement keeps")
	}
	for _, pcr := range []int{4, 9} {
		value, known := old.value(pcr)
		if got := replayEvents(old.Events, pcr, base.bank); !known || !bytes.Equal(got, value) {
			return fail("its events do not lead to PCR %d; enrol a golden boot instead", pcr)
		}
	}
	s := old
	s.Version, s.NotBefore, s.Note = version, notBefore.UTC().Truncate(time.Second), ""
	s.Events, s.PCRs = nil, slices.Clone(old.PCRs)
	var replaced [3]int
	for _, e := range old.Events {
		var with []eventlog.Digest
		switch {
		case e.PCR == 4 && e.Type == eventlog.EVEFIBootServicesApp.String():
			with = m.Kernel
			replaced[0]++
		case e.PCR == 9 && e.Text == textLoadOptions:
			with = m.CommandLine
			replaced[1]++
		case e.PCR == 9 && e.Text == textInitrd:
			if m.Initrd == nil {
				continue // the new boot has none
			}
			with = m.Initrd
			replaced[2]++
		}
		if with != nil {
			i := slices.IndexFunc(with, func(d eventlog.Digest) bool { return d.Alg == base.bank })
			if i < 0 {
				return fail("the prediction is not of its bank %s", old.Bank)
			}
			e.Digest = with[i].Sum
		}
		s.Events = append(s.Events, e)
	}
	if replaced[0] != 1 || replaced[1] != 1 || m.Initrd != nil && replaced[2] != 1 {
		return fail("only a direct boot (-kernel) under OVMF can be predicted, with an initrd only if it had one: "+
			"it has %d kernels, %d command lines, %d initrds", replaced[0], replaced[1], replaced[2])
	}
	for i, p := range s.PCRs {
		if p.PCR == 4 || p.PCR == 9 {
			s.PCRs[i].Value = replayEvents(s.Events, p.PCR, base.bank)
		}
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return &s, nil
}

// Changes puts into words what a proposed statement changes, for the operator to approve.
func (s *Statement) Changes(base *ReferenceValues) ([]string, error) {
	if s.Bank != base.statement.Bank {
		return nil, errors.New("comparing reference values: they are of different banks")
	}
	var out []string
	for _, p := range s.PCRs {
		if v, ok := base.statement.value(p.PCR); !ok || !bytes.Equal(v, p.Value) {
			var events []string
			for _, e := range s.Events {
				if int(e.PCR) == p.PCR && !slices.ContainsFunc(base.statement.Events, func(b ReferenceEvent) bool {
					return b.PCR == e.PCR && bytes.Equal(b.Digest, e.Digest)
				}) {
					events = append(events, e.Type+" "+e.Text)
				}
			}
			out = append(out, fmt.Sprintf("PCR %d: %s becomes %s (%s)", p.PCR, short(v), short(p.Value), strings.Join(events, "; ")))
		}
	}
	return out, nil
}

func (s *Statement) value(pcr int) (Hex, bool) {
	for _, p := range s.PCRs {
		if p.PCR == pcr {
			return p.Value, true
		}
	}
	return nil, false
}

// replayEvents leads one PCR from zero through a statement's events.
func replayEvents(events []ReferenceEvent, pcr int, bank eventlog.Alg) Hex {
	v := make([]byte, bank.Size())
	h := bank.New()
	for _, e := range events {
		if int(e.PCR) == pcr {
			h.Reset()
			h.Write(v)
			h.Write(e.Digest)
			v = h.Sum(nil)
		}
	}
	return v
}
