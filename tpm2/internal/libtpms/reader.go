package libtpms

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// A reader walks a state; after its first error it gives zeros.
type reader struct {
	buf []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err, r.buf = err, nil
	}
}

var errCut = errors.New("it is cut short")

// bytes reads n octets, which alias the state.
func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.buf) {
		r.fail(errCut)
		return nil
	}
	b := r.buf[:n:n]
	r.buf = r.buf[n:]
	return b
}

func (r *reader) u8() uint8 {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) alg() tpm2.AlgID { return tpm2.AlgID(r.u16()) }

func (r *reader) flag() bool {
	v := r.u8()
	if v > 1 {
		r.fail(fmt.Errorf("a flag is %d", v))
	}
	return v == 1
}

// sized reads a TPM2B of at most max octets.
func (r *reader) sized(max int) []byte {
	n := int(r.u16())
	if n > max {
		r.fail(fmt.Errorf("a buffer has %d octets where %d are the most", n, max))
		return nil
	}
	return r.bytes(n)
}

// structure decodes a TPM structure in its wire form; what says whose it is.
func (r *reader) structure(v tpm2.Structure, what string) {
	if r.err != nil {
		return
	}
	d := tpm2.NewDecoder(r.buf)
	d.Decode(v, true)
	switch rc := d.RC(); rc {
	case tpm2.RCSuccess:
		r.buf = d.Rest()
	case tpm2.RCInsufficient:
		r.fail(errCut)
	default:
		r.fail(fmt.Errorf("%s %w (%v)", what, ErrUnsupported, rc))
	}
}

// part is one of the structures that a state is made of.
type part struct {
	name   string
	magic  uint32
	newest uint16
}

// open reads the beginning of a part: its version, its magic number, and since
// version 2 the version that a reader must at least know.
func (r *reader) open(p part) (version uint16) {
	version = r.u16()
	if m := r.u32(); m != p.magic && r.err == nil {
		r.fail(fmt.Errorf("where %s should begin there is 0x%08x", p.name, m))
	}
	if r.err == nil && version == 0 {
		r.fail(fmt.Errorf("%s has version 0", p.name))
	}
	if version >= 2 {
		if least := r.u16(); least > p.newest {
			r.fail(fmt.Errorf("%s has version %d, and %d is known: %w", p.name, version, p.newest, ErrNewer))
		}
	}
	return version
}

// block opens a part that may be absent, and returns nil when it is.
func (r *reader) block() *reader {
	present, n := r.flag(), int(r.u16())
	if !present || r.err != nil {
		if n != 0 {
			r.fail(errors.New("a part that is absent has a size"))
		}
		return nil
	}
	b := r.bytes(n)
	if r.err != nil {
		return nil
	}
	return &reader{buf: b}
}

// close checks that a block was read whole; adopt takes only its errors, for
// blocks to which later versions add.
func (r *reader) close(b *reader, what string) {
	if b.end(); b.err != nil {
		b.err = fmt.Errorf("%s: %w", what, b.err)
	}
	r.adopt(b)
}

func (r *reader) adopt(b *reader) {
	if b.err != nil {
		r.fail(b.err)
	}
}

// optional is a block that only some versions have.
func (r *reader) optional(has bool) *reader {
	if !has {
		return nil
	}
	return r.block()
}

// rest passes over what later versions added to a part.
func (r *reader) rest(has bool) {
	if has {
		r.block()
	}
}

// end checks that nothing is left over.
func (r *reader) end() {
	if r.err == nil && len(r.buf) > 0 {
		r.fail(fmt.Errorf("%d octets are left over", len(r.buf)))
	}
}
