package eventlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// Log is an event log. Its events are in the order in which they were extended.
type Log struct {
	// Agile is the crypto-agile form (PFP, section 10.2.2): event 0 is the
	// Spec ID event and every later event has a digest for each of Algs. Not
	// agile is the SHA-1 form of TPM 1.2, where Algs is SHA-1 alone.
	Agile  bool
	Algs   []Alg
	Events []Event
}

// Event is one entry of the log.
type Event struct {
	Number  int // its place in the log, from 0, the Spec ID event included
	PCR     uint32
	Type    EventType
	Digests []Digest
	Data    []byte // what the log says was measured; see [Event.Binding]
}

// Digest is what was extended into one bank.
type Digest struct {
	Alg Alg
	Sum []byte
}

// Digest returns the event's digest for one bank, nil if it has none.
func (e *Event) Digest(a Alg) []byte {
	for _, d := range e.Digests {
		if d.Alg == a {
			return d.Sum
		}
	}
	return nil
}

// Extends reports whether the event changed a PCR. EV_NO_ACTION events never
// do: nothing stands behind them (PFP, section 10.4.5).
func (e *Event) Extends() bool { return e.Type != EVNoAction }

const (
	specID03  = "Spec ID Event03\x00"
	localityH = "StartupLocality\x00"
)

// New begins a crypto-agile log with the given banks: the Spec ID event and
// nothing else. A bank that cannot be computed here is our caller's mistake.
func New(banks ...Alg) (*Log, error) {
	if len(banks) == 0 || len(banks) > MaxAlgs {
		return nil, fmt.Errorf("beginning an event log: %d banks, want 1 to %d", len(banks), MaxAlgs)
	}
	data := append([]byte(specID03), 0, 0, 0, 0 /* platformClass: client */, 0 /* minor */, 2 /* major */, 6 /* errata */, 2 /* UINTN of 64 bits */)
	data = binary.LittleEndian.AppendUint32(data, uint32(len(banks)))
	for i, a := range banks {
		if !a.Available() || slices.Contains(banks[:i], a) {
			return nil, fmt.Errorf("beginning an event log: bank %v cannot be written, or is named twice", a)
		}
		data = binary.LittleEndian.AppendUint16(data, uint16(a))
		data = binary.LittleEndian.AppendUint16(data, uint16(a.Size()))
	}
	data = append(data, 0) // vendorInfoSize
	first := Event{Type: EVNoAction, Digests: []Digest{{SHA1, make([]byte, 20)}}, Data: data}
	return &Log{Agile: true, Algs: slices.Clone(banks), Events: []Event{first}}, nil
}

// Add appends an event whose digests are the hashes of measured, and returns
// it: extend exactly its Digests into the TPM. data is what the log says of
// it; where the specification wants the digest of the data itself, give the
// same bytes twice.
func (l *Log) Add(pcr uint32, t EventType, measured, data []byte) Event {
	e := Event{Number: len(l.Events), PCR: pcr, Type: t, Data: data}
	for _, a := range l.Algs {
		sum := make([]byte, a.Size())
		if t != EVNoAction {
			sum = a.Sum(measured)
		}
		e.Digests = append(e.Digests, Digest{a, sum})
	}
	l.Events = append(l.Events, e)
	return e
}

// AddDigests appends an event with digests made elsewhere, one for each bank
// of the log, in any order.
func (l *Log) AddDigests(pcr uint32, t EventType, digests []Digest, data []byte) (Event, error) {
	e := Event{Number: len(l.Events), PCR: pcr, Type: t, Data: data}
	for _, a := range l.Algs {
		i := slices.IndexFunc(digests, func(d Digest) bool { return d.Alg == a && len(d.Sum) == a.Size() })
		if i < 0 {
			return Event{}, fmt.Errorf("adding event %d: no %v digest", e.Number, a)
		}
		e.Digests = append(e.Digests, digests[i])
	}
	l.Events = append(l.Events, e)
	return e, nil
}

// Encode writes the log as firmware hands it to the operating system.
func (l *Log) Encode() []byte {
	var b bytes.Buffer
	le := func(v uint32) { b.Write(binary.LittleEndian.AppendUint32(nil, v)) }
	for i, e := range l.Events {
		le(e.PCR)
		le(uint32(e.Type))
		if l.Agile && i > 0 {
			le(uint32(len(e.Digests)))
			for _, d := range e.Digests {
				b.Write(binary.LittleEndian.AppendUint16(nil, uint16(d.Alg)))
				b.Write(d.Sum)
			}
		} else {
			b.Write(e.Digests[0].Sum)
		}
		le(uint32(len(e.Data)))
		b.Write(e.Data)
	}
	return b.Bytes()
}
