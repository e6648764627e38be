// Package audit is the record of what the service did: append-only, a Merkle
// tree (RFC 6962, by golang.org/x/mod/sumdb/tlog) under signed checkpoints
// (c2sp.org/tlog-checkpoint), and fail-closed.
//
// An effect that cannot be undone is recorded before it happens ([Log.Begin]),
// and its outcome after. Nothing is acknowledged before it is on disk; many
// callers share one fsync. When a record cannot be written, the caller gets an
// error and must not go on: a service that cannot record does nothing.
//
// [Verify] reads a log without the service and notices a record that was
// changed, moved or dropped; a tail that was cut it notices by a checkpoint
// that was kept elsewhere. Whoever holds the signing key can write another
// history, but not one that agrees with such a checkpoint.
//
// It is not for debugging output, and no secret is ever written to it.
//
// Begin with [Open] and [Log.Begin]. docs/formats/audit.md has the bytes.
package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Limits, and why.
const (
	// maxRecord: an event is a few names and a reason, never the evidence itself.
	maxRecord = 32 << 10
	// maxBatch: how many records share an fsync; more would only delay the first.
	maxBatch = 256
	// maxQueue: callers waiting beyond this are turned away, so memory is bounded.
	maxQueue = 4096
	// segmentSize: the last segment is hashed anew at every start, and 4 MiB
	// take about 10 ms. Also the most of the tree that is kept in memory.
	segmentSize = 4 << 20
	// reserveSize: room that is given back to the file system when it is full, so
	// that refusals and outcomes can still be recorded: about 500 of them.
	reserveSize = 256 << 10
)

// Phase is where in its course an action is.
type Phase string

const (
	Intent  Phase = "intent"  // it is about to happen
	Done    Phase = "done"    // the intent was carried out
	Failed  Phase = "failed"  // the intent was not carried out
	Refused Phase = "refused" // it was asked for, and denied
	Fact    Phase = "fact"    // it happened; there was nothing to announce
)

// Event is what a caller reports.
type Event struct {
	Tenant string            `json:"tenant"`
	Actor  string            `json:"actor"`           // who: a SPIFFE ID, or "service"
	Action string            `json:"action"`          // what: "vm.born", "key.release"
	Object string            `json:"object"`          // on what: the name of a VM, a serial number
	Phase  Phase             `json:"phase"`           //
	Ref    *int64            `json:"ref,omitempty"`   // Done, Failed: the number of the intent
	Detail map[string]string `json:"detail,omitzero"` // never a secret
}

// Record is an event as it stands in the log.
type Record struct {
	N    int64     `json:"n"`    // its place, from 0
	Time time.Time `json:"time"` // never before the record ahead of it
	// Clock is what the clock said, when that was before the record ahead.
	Clock *time.Time `json:"clock,omitempty"`
	Event
}

// encode is the record's bytes: what is written, and what is hashed. Names and
// reasons may hold what a stranger sent; what is no UTF-8 is replaced here, because
// encoding/json writes it in a way that reads as something else, and a record that
// does not read as it is written shuts the whole log.
func (r Record) encode() ([]byte, error) {
	for _, s := range []*string{&r.Tenant, &r.Actor, &r.Action, &r.Object} {
		*s = text(*s)
	}
	if r.Detail != nil {
		detail := make(map[string]string, len(r.Detail))
		for k, v := range r.Detail {
			detail[text(k)] = text(v)
		}
		r.Detail = detail
	}
	r.Phase = Phase(text(string(r.Phase)))
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return nil, err
	}
	out := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if len(out) > maxRecord {
		return nil, fmt.Errorf("an audit record of %d bytes, more than %d", len(out), maxRecord)
	}
	return out, nil
}

func text(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

// ParseRecord reads a record's bytes, strictly: what it accepts is written the
// same way again.
func ParseRecord(data []byte) (Record, error) {
	var r Record
	if len(data) > maxRecord {
		return r, fmt.Errorf("reading an audit record: %d bytes, more than %d", len(data), maxRecord)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return r, fmt.Errorf("reading an audit record: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return r, errors.New("reading an audit record: something follows it")
	}
	if again, err := r.encode(); err != nil || !bytes.Equal(again, data) {
		return r, errors.New("reading an audit record: it is not written as we write it")
	}
	return r, nil
}

// Receipt is what a caller keeps: the place of its record, and a checkpoint
// that covers it.
type Receipt struct {
	N          int64
	Time       time.Time
	Checkpoint []byte // a signed note
}

var (
	// ErrFull means that the disk is full. Reads go on; nothing new may begin.
	// Free some space: the log notices by itself.
	ErrFull = errors.New("the disk is full: the audit log takes no new intents")
	// ErrBroken means that writing failed in a way that leaves in doubt what is
	// on the disk. The log stays closed until it is opened anew.
	ErrBroken = errors.New("the audit log failed and stays closed until it is opened again")
	// ErrBusy means that too many callers wait already. Try again later.
	ErrBusy = errors.New("too many audit records are waiting")
	// ErrDamaged means that what lies on the disk is not what was acknowledged.
	// The log is not opened: run vouchsafe audit verify.
	ErrDamaged = errors.New("the audit log is damaged")
	errClosed  = errors.New("the audit log is closed")
)
