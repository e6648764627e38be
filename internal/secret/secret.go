// Package secret holds bytes that must not be seen: keys, shares, seeds.
//
// [Bytes] prints as [secret] under every verb of fmt, in log/slog, in JSON and
// as text, also from inside an unexported field of somebody else's struct: the
// bytes live behind a closure, and reflection prints a func as an address. A
// named []byte with a redacting Format method does not manage that.
//
// It is not locked memory: the Go runtime may have copied the bytes while they
// were on their way here, and swap is the operator's to encrypt. It is not for
// storage either: what is written to a disk goes through package xaes first.
//
// Begin with [New] and [Bytes.Reveal].
package secret

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
)

// Bytes is a secret. The zero value is empty. Copies share the same bytes, so
// erasing one erases all.
type Bytes struct {
	_    [0]func() // not comparable: == would not be constant-time
	open func(erase bool) []byte
}

// New takes b over: the caller must not use it afterwards.
func New(b []byte) Bytes {
	return Bytes{open: func(erase bool) []byte {
		if erase {
			clear(b)
			b = nil
		}
		return b
	}}
}

// Copy makes a secret of a copy of b, which stays the caller's.
func Copy(b []byte) Bytes { return New(append([]byte(nil), b...)) }

// Random makes n fresh random bytes.
func Random(n int) Bytes {
	b := make([]byte, n)
	rand.Read(b) // never fails: crypto/rand
	return New(b)
}

// Reveal returns the bytes themselves, not a copy. Use them at once; do not
// keep, change or print them.
func (s Bytes) Reveal() []byte {
	if s.open == nil {
		return nil
	}
	return s.open(false)
}

// Len returns the number of bytes; zero once erased.
func (s Bytes) Len() int { return len(s.Reveal()) }

// Erase overwrites the bytes. Go may have copied them before.
func (s Bytes) Erase() {
	if s.open != nil {
		s.open(true)
	}
}

// Equal compares in constant time. Two empty secrets are never equal: a key
// that is not there opens nothing.
func (s Bytes) Equal(o Bytes) bool {
	return s.Len() > 0 && subtle.ConstantTimeCompare(s.Reveal(), o.Reveal()) == 1
}

const redacted = "[secret]"

// Format implements fmt.Formatter, for every verb.
func (s Bytes) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// LogValue implements slog.LogValuer.
func (s Bytes) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, and so covers JSON too.
func (s Bytes) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText refuses: a secret is never read out of a text by accident.
func (s *Bytes) UnmarshalText([]byte) error {
	return errors.New("secrets are not read from text")
}
