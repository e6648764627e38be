package eventlog

import (
	"bytes"
	"encoding/binary"
)

// Binding says what an event's digests prove about its data, given that the
// digests themselves are proved by a quote.
type Binding string

const (
	// Unauthenticated: the digest is of something that the log does not
	// contain, such as a file or a firmware volume. The text is a hint;
	// whoever made the log may have written anything.
	Unauthenticated Binding = "unauthenticated"
	// Authenticated: every digest is the hash of the whole data.
	Authenticated Binding = "authenticated"
	// PartlyAuthenticated: every digest is the hash of a part of the data,
	// a variable's value without its name for example.
	PartlyAuthenticated Binding = "partly-authenticated"
	// Broken: the digest must be the hash of the data and is not, or the
	// data fits one bank's digest and not another's. Somebody changed the
	// data or the digest.
	Broken Binding = "broken"
	// NotExtended: an EV_NO_ACTION event. Nothing proves it.
	NotExtended Binding = "not-extended"
)

// hashesItsData lists the types whose digest must be the hash of their data
// (PFP, table 27, and sections 10.4.1 to 10.4.6).
func hashesItsData(t EventType) bool {
	switch t {
	case EVSeparator, EVAction, EVEFIAction, EVEFIVariableDriver, EVEFIVariableAuthority, EVEFIVariableBoot2, EVEFIGPT:
		return true
	}
	return false
}

// Binding compares the data with the digests of the given banks, or of all
// banks when none is given, and returns the part of the data that they prove.
func (e *Event) Binding(banks ...Alg) (Binding, []byte) {
	if !e.Extends() {
		return NotExtended, nil
	}
	if len(banks) == 0 {
		for _, d := range e.Digests {
			banks = append(banks, d.Alg)
		}
	}
	var proved []byte // by the first bank; all banks must agree on it
	compared := false
	var fails bool
	for _, a := range banks {
		sum := e.Digest(a)
		if sum == nil || !a.Available() {
			continue
		}
		part, ok := e.provedBy(a, sum)
		switch {
		case !compared:
			proved, fails, compared = part, !ok, true
		case fails == ok, !bytes.Equal(proved, part):
			return Broken, nil
		}
	}
	switch {
	case !compared:
		return Unauthenticated, nil
	case fails && hashesItsData(e.Type):
		return Broken, nil
	case fails:
		return Unauthenticated, nil
	case len(proved) == len(e.Data) || e.separatorError():
		return Authenticated, e.Data
	}
	return PartlyAuthenticated, proved
}

// provedBy returns what of the data has the digest sum.
func (e *Event) provedBy(a Alg, sum []byte) ([]byte, bool) {
	h := a.New()
	var buf [64]byte
	is := func(part []byte) bool {
		h.Reset()
		h.Write(part)
		return bytes.Equal(h.Sum(buf[:0]), sum)
	}
	// An empty part proves nothing about a text that is not empty.
	if is(e.Data) {
		return e.Data, true
	}
	for _, part := range e.parts() {
		if len(part) > 0 && is(part) {
			return part, true
		}
	}
	return nil, false
}

// parts are the pieces of the data that known firmware and boot loaders hash
// instead of the whole.
func (e *Event) parts() [][]byte {
	switch e.Type {
	case EVSeparator:
		// An error separator hashes the value 1, whatever its data says (PFP, section 10.4.2).
		return [][]byte{separatorErrorValue}
	case EVAction, EVEFIAction:
		return [][]byte{bytes.TrimRight(e.Data, "\x00")}
	case EVEFIVariableBoot:
		// EDK II hashes the value alone for this type; BOOT2 was made to mend that.
		if v, err := decodeVariable(e.Data); err == nil {
			return [][]byte{v.value}
		}
	case EVEventTag:
		if _, body, ok := decodeTag(e.Data); ok {
			return [][]byte{body}
		}
	case EVIPL, EVCompactHash:
		// GRUB 2.06 writes "grub_cmd: linux /vmlinuz" NUL and hashes what follows the label.
		text := bytes.TrimRight(e.Data, "\x00")
		parts := [][]byte{text}
		for _, label := range grubLabels {
			if rest, ok := bytes.CutPrefix(text, []byte(label)); ok {
				parts = append(parts, rest)
			}
		}
		return parts
	}
	return nil
}

var grubLabels = []string{"grub_cmd: ", "kernel_cmdline: ", "module_cmdline: "}

var separatorErrorValue = []byte{1, 0, 0, 0}

// separatorError reports an EV_SEPARATOR that stands for a firmware error.
func (e *Event) separatorError() bool {
	if e.Type != EVSeparator {
		return false
	}
	for _, d := range e.Digests {
		if d.Alg.Available() {
			return bytes.Equal(d.Sum, d.Alg.Sum(separatorErrorValue))
		}
	}
	return false
}

// decodeTag reads TCG_PCClientTaggedEvent (PFP, section 10.4.3): an id and a body.
func decodeTag(d []byte) (id uint32, body []byte, ok bool) {
	if len(d) < 8 || uint64(binary.LittleEndian.Uint32(d[4:])) != uint64(len(d)-8) {
		return 0, nil, false
	}
	return binary.LittleEndian.Uint32(d), d[8:], true
}
