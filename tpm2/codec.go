package tpm2

import "encoding/binary"

// A Decoder reads TPM structures from a buffer. The first error stays: later
// reads return zero values, and [Decoder.RC] tells what went wrong. The zero
// value reads nothing; see [NewDecoder].
type Decoder struct {
	buf   []byte
	rc    RC
	param int // the parameter being decoded, 0 outside a parameter area

	algs   func(AlgID) bool
	curves func(ECCCurve) bool

	mem   bool // keep the memory of lists
	lists lists
}

// NewDecoder returns a Decoder over b, which it aliases.
func NewDecoder(b []byte) *Decoder { return &Decoder{buf: b} }

// Reset makes d read b from its beginning; what it implements stays.
func (d *Decoder) Reset(b []byte) { d.buf, d.rc, d.param = b, 0, 0 }

// Implements limits the algorithms and curves that decode to those a device
// has; without it all that this package knows are let through.
func (d *Decoder) Implements(algs func(AlgID) bool, curves func(ECCCurve) bool) {
	d.algs, d.curves = algs, curves
}

// KeepMemory makes d use the memory of the lists it decodes again after each
// [Decoder.Reset], so that a device decodes its commonest commands without
// allocating. What was decoded before a Reset must not be used after it. The
// same list type twice in one structure is not foreseen: no command has that.
func (d *Decoder) KeepMemory() { d.mem = true }

// reuse makes a list of n elements, from kept memory when there is enough of it.
func reuse[T any](keep bool, mem *[]T, n int) []T {
	if keep && n <= cap(*mem) {
		v := (*mem)[:n]
		clear(v)
		return v
	}
	v := make([]T, n)
	if keep {
		*mem = v
	}
	return v
}

func (d *Decoder) hasAlg(a AlgID) bool      { return d.algs == nil || d.algs(a) }
func (d *Decoder) hasCurve(c ECCCurve) bool { return d.curves == nil || d.curves(c) }

// RC is the first error, or RCSuccess.
func (d *Decoder) RC() RC { return d.rc }

// Err is the first error, or nil.
func (d *Decoder) Err() error {
	if d.rc == RCSuccess {
		return nil
	}
	return d.rc
}

// Rest is what has not been read yet.
func (d *Decoder) Rest() []byte { return d.buf }

// Done fails with TPM_RC_SIZE when octets are left over (Part 3, 5.8).
func (d *Decoder) Done() {
	if len(d.buf) != 0 {
		d.fail(RCSize)
	}
}

func (d *Decoder) fail(rc RC) {
	if d.rc == RCSuccess {
		if d.param > 0 {
			rc = rc.Param(d.param)
		}
		d.rc, d.buf = rc, nil
	}
}

// Bytes reads n octets, which alias the input.
func (d *Decoder) Bytes(n int) []byte {
	if d.rc != 0 || n > len(d.buf) {
		d.fail(RCInsufficient)
		return nil
	}
	b := d.buf[:n:n]
	d.buf = d.buf[n:]
	return b
}

func (d *Decoder) U8() uint8 {
	if b := d.Bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *Decoder) U16() uint16 {
	if b := d.Bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *Decoder) U32() uint32 {
	if b := d.Bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *Decoder) U64() uint64 {
	if b := d.Bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Buf reads a sized buffer of at most max octets, which aliases the input.
func (d *Decoder) Buf(max int) []byte {
	n := int(d.U16())
	if n > max {
		d.fail(RCSize)
		return nil
	}
	if n == 0 {
		return nil
	}
	return d.Bytes(n)
}

// sized opens a sized structure and returns how much must be left at its end.
// A size of zero is TPM_RC_SIZE (Part 2, 10.4 on "size=").
func (d *Decoder) sized() int {
	n := int(d.U16())
	switch {
	case d.rc != 0:
	case n == 0:
		d.fail(RCSize)
	case n > len(d.buf):
		d.fail(RCInsufficient)
	}
	return len(d.buf) - n
}

// sizedOrNone is sized for a structure that may be absent.
func (d *Decoder) sizedOrNone() (present bool, end int) {
	if len(d.buf) >= 2 && d.buf[0] == 0 && d.buf[1] == 0 {
		d.U16()
		return false, 0
	}
	end = d.sized()
	return d.rc == 0, end
}

// endSized checks that the structure took exactly its size.
func (d *Decoder) endSized(end int) {
	if d.rc == 0 && len(d.buf) != end {
		d.fail(RCSize)
	}
}

// count reads the count of a list.
func (d *Decoder) count(min, max int) int {
	n := d.U32()
	if d.rc == 0 && (n < uint32(min) || n > uint32(max)) {
		d.fail(RCSize)
	}
	if d.rc != 0 {
		return 0
	}
	return int(n)
}

func (d *Decoder) bits8(reserved uint8) uint8 {
	v := d.U8()
	if v&reserved != 0 {
		d.fail(RCReservedBits)
	}
	return v
}

func (d *Decoder) bits32(reserved uint32) uint32 {
	v := d.U32()
	if v&reserved != 0 {
		d.fail(RCReservedBits)
	}
	return v
}

func (d *Decoder) handle(t HandleType, null bool) Handle {
	h := Handle(d.U32())
	if d.rc == 0 && !t.Allows(h, null) {
		d.fail(RCValue)
	}
	return h
}

// ha reads the digest of a TPMT_HA.
func (d *Decoder) ha(alg AlgID) []byte {
	if alg == AlgNull {
		return nil
	}
	return d.Bytes(alg.DigestSize())
}

// pcrSelectSize is both PCR_SELECT_MIN and PCR_SELECT_MAX: three octets for 24 PCRs.
const pcrSelectSize = (PCRCount + 7) / 8

func (d *Decoder) pcrSelect() []byte {
	n := int(d.U8())
	if d.rc == 0 && n != pcrSelectSize {
		d.fail(RCValue)
	}
	return d.Bytes(n)
}

// MaxNVIndexSize is the largest data area of an NV index.
const MaxNVIndexSize = 2048

func (d *Decoder) nvSize() uint16 {
	n := d.U16()
	if n > MaxNVIndexSize {
		d.fail(RCSize)
	}
	return n
}

// Bool reads a TPMI_YES_NO.
func (d *Decoder) Bool() bool { return d.tpmiYesNo(false) == Yes }

// Decode reads one structure; null allows its null value, as "+" does in Part 3.
func (d *Decoder) Decode(v Structure, null bool) { v.decode(d, null) }

// An Encoder appends TPM structures to a buffer.
type Encoder struct{ b []byte }

// NewEncoder returns an Encoder that appends to b.
func NewEncoder(b []byte) *Encoder { return &Encoder{b} }

// Reset makes e append to b.
func (e *Encoder) Reset(b []byte) { e.b = b }

// Out is everything encoded so far.
func (e *Encoder) Out() []byte { return e.b }

func (e *Encoder) U8(v uint8)     { e.b = append(e.b, v) }
func (e *Encoder) U16(v uint16)   { e.b = binary.BigEndian.AppendUint16(e.b, v) }
func (e *Encoder) U32(v uint32)   { e.b = binary.BigEndian.AppendUint32(e.b, v) }
func (e *Encoder) U64(v uint64)   { e.b = binary.BigEndian.AppendUint64(e.b, v) }
func (e *Encoder) Bytes(v []byte) { e.b = append(e.b, v...) }

// Buf appends a sized buffer. A length above 65535 cannot be said on the wire;
// it is our own mistake and panics.
func (e *Encoder) Buf(v []byte) {
	if len(v) > 0xffff {
		panic("internal error: a sized buffer over 65535 octets")
	}
	e.U16(uint16(len(v)))
	e.Bytes(v)
}

// Encode appends one structure.
func (e *Encoder) Encode(v Structure) { v.encode(e) }

func (e *Encoder) pcrSelect(v []byte) {
	e.U8(uint8(len(v)))
	e.Bytes(v)
}

// mark leaves room for a size, which patch fills in.
func (e *Encoder) mark() int {
	e.U16(0)
	return len(e.b)
}

func (e *Encoder) patch(at int) {
	binary.BigEndian.PutUint16(e.b[at-2:], uint16(len(e.b)-at))
}

// Structure is any TPMT or TPMS type of this package.
type Structure interface {
	decode(d *Decoder, null bool)
	encode(e *Encoder)
}

// Marshal returns the canonical form of v.
func Marshal(v Structure) []byte {
	var e Encoder
	v.encode(&e)
	return e.b
}

// Unmarshal reads v from b, which must hold it and nothing else. The error is an [RC].
// Null values are allowed wherever the type has one.
func Unmarshal(b []byte, v Structure) error {
	d := Decoder{buf: b}
	v.decode(&d, true)
	d.Done()
	return d.Err()
}

// EncodePCRSelection appends a TPML_PCR_SELECTION, which policies hash on its own.
func (e *Encoder) EncodePCRSelection(s []TPMSPCRSelection) { e.tpmlPCRSelection(s) }
