package eventlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// SyntaxError says where a log stops making sense.
type SyntaxError struct {
	Event  int // the event's number; 0 and -1: it is no log at all
	Offset int // where that event begins, in bytes
	Reason string
}

func (e *SyntaxError) Error() string {
	if e.Event <= 0 {
		return "not an event log: " + e.Reason
	}
	return fmt.Sprintf("event %d at byte %d: %s", e.Event, e.Offset, e.Reason)
}

// Parse reads a whole log: binary_bios_measurements of Linux, or the bytes
// that the ACPI tables point to, cut to their length. The log keeps pointing
// into data. Errors are [*SyntaxError].
func Parse(data []byte) (*Log, error) {
	if len(data) == 0 {
		return nil, &SyntaxError{-1, 0, "it is empty"}
	}
	if len(data) > MaxSize {
		return nil, &SyntaxError{-1, 0, fmt.Sprintf("%d bytes; the limit is %d", len(data), MaxSize)}
	}
	p := parser{data: data}
	first, err := p.event(0, nil)
	if err != nil {
		return nil, err
	}
	l := &Log{Algs: []Alg{SHA1}, Events: []Event{first}}
	if isSpecID(first) {
		l.Agile = true
		if l.Algs, err = specAlgs(first.Data); err != nil {
			return nil, &SyntaxError{0, 0, err.Error()}
		}
	}
	// Room for all that can still come, but never for more than there is input for.
	p.sizes = l.Algs
	smallest := 32
	if l.Agile {
		smallest = 16
		for _, a := range l.Algs {
			smallest += 2 + a.Size()
		}
	}
	guess := min((len(data)-p.off)/smallest, 128)
	l.Events = slices.Grow(l.Events, guess)
	p.pool = make([]Digest, 0, guess*len(l.Algs))
	for p.off < len(data) {
		if len(l.Events) == MaxEvents {
			return nil, &SyntaxError{MaxEvents, p.off, fmt.Sprintf("more than %d events", MaxEvents)}
		}
		algs := l.Algs
		if !l.Agile {
			algs = nil
		}
		e, err := p.event(len(l.Events), algs)
		if err != nil {
			return nil, err
		}
		l.Events = append(l.Events, e)
	}
	return l, nil
}

type parser struct {
	data  []byte
	off   int
	sizes []Alg
	pool  []Digest // digests of all events, in a few large pieces
}

// event reads one event: TCG_PCR_EVENT2 (PFP, section 10.2.2) with exactly one
// digest for each of algs, or TCG_PCClientPCREvent (10.2.1) when algs is nil.
func (p *parser) event(n int, algs []Alg) (Event, error) {
	start, d := p.off, p.data[p.off:]
	fail := func(format string, args ...any) (Event, error) {
		return Event{}, &SyntaxError{n, start, fmt.Sprintf(format, args...)}
	}
	take := func(k int) []byte {
		if k > len(d) {
			d = nil
			return nil
		}
		b := d[:k:k]
		d = d[k:]
		return b
	}
	head := take(8)
	if head == nil {
		return fail("the log ends within the event's head (%d bytes are left)", len(p.data)-start)
	}
	e := Event{Number: n, PCR: binary.LittleEndian.Uint32(head), Type: EventType(binary.LittleEndian.Uint32(head[4:]))}
	// EV_NO_ACTION may carry any index: newer ones say -1 (PFP, section 10.4.5.4).
	if e.PCR > MaxPCR && e.Type != EVNoAction {
		return fail("PCR %d; a PC has 0 to %d", e.PCR, MaxPCR)
	}
	at := len(p.pool)
	if algs == nil {
		sum := take(SHA1.Size())
		if sum == nil {
			return fail("the log ends within the event's digest")
		}
		p.pool = append(p.pool, Digest{SHA1, sum})
	} else {
		count := take(4)
		if count == nil {
			return fail("the log ends within the event's digest count")
		}
		if c := binary.LittleEndian.Uint32(count); int64(c) != int64(len(algs)) {
			return fail("%d digests; the log's first event promises %d", c, len(algs))
		}
		for range algs {
			id := take(2)
			if id == nil {
				return fail("the log ends within the event's digests")
			}
			a := Alg(binary.LittleEndian.Uint16(id))
			if !slices.Contains(algs, a) {
				return fail("a digest of %v, which the log's first event does not name", a)
			}
			for _, seen := range p.pool[at:] {
				if seen.Alg == a {
					return fail("two %v digests", a)
				}
			}
			sum := take(a.Size())
			if sum == nil {
				return fail("the log ends within the event's %v digest", a)
			}
			p.pool = append(p.pool, Digest{a, sum})
		}
	}
	e.Digests = p.pool[at:len(p.pool):len(p.pool)]
	size := take(4)
	if size == nil {
		return fail("the log ends before the event's data length")
	}
	k := binary.LittleEndian.Uint32(size)
	if k > MaxEventData {
		return fail("%d bytes of data; the limit is %d", k, MaxEventData)
	}
	if int(k) > len(d) {
		return fail("%d bytes of data are promised, %d are left", k, len(d))
	}
	e.Data = take(int(k))
	p.off = len(p.data) - len(d)
	return e, nil
}

// isSpecID recognises the first event of a crypto-agile log. Logs of TPM 1.2
// begin with "Spec ID Event00" or 02, or without any.
func isSpecID(e Event) bool {
	return e.PCR == 0 && e.Type == EVNoAction && bytes.HasPrefix(e.Data, []byte(specID03))
}

// specAlgs reads TCG_EfiSpecIDEvent (PFP, section 10.4.5.1).
func specAlgs(d []byte) ([]Alg, error) {
	const fixed = 16 + 4 + 4
	if len(d) < fixed+4 {
		return nil, fmt.Errorf("the Spec ID event is cut short")
	}
	n := binary.LittleEndian.Uint32(d[fixed:])
	d = d[fixed+4:]
	if n == 0 || n > MaxAlgs {
		return nil, fmt.Errorf("the Spec ID event names %d algorithms; 1 to %d make sense", n, MaxAlgs)
	}
	if len(d) < int(n)*4+1 {
		return nil, fmt.Errorf("the Spec ID event is cut short")
	}
	var out []Alg
	for range n {
		a, size := Alg(binary.LittleEndian.Uint16(d)), int(binary.LittleEndian.Uint16(d[2:]))
		d = d[4:]
		switch {
		case a.Size() == 0:
			return nil, fmt.Errorf("the Spec ID event names the unknown algorithm 0x%04x", uint16(a))
		case a.Size() != size:
			return nil, fmt.Errorf("the Spec ID event gives %v %d bytes; it has %d", a, size, a.Size())
		case slices.Contains(out, a):
			return nil, fmt.Errorf("the Spec ID event names %v twice", a)
		}
		out = append(out, a)
	}
	if len(d) != 1+int(d[0]) {
		return nil, fmt.Errorf("the Spec ID event's vendor information is not as long as it says")
	}
	return out, nil
}
