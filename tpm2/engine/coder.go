package engine

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// A coder walks a state once to write it or to read it: the same walk for both,
// so that the two cannot differ. Exactly one of enc and dec is set.
type coder struct {
	enc *tpm2.Encoder
	dec *tpm2.Decoder
}

func (c *coder) u8(v *uint8) {
	if c.enc != nil {
		c.enc.U8(*v)
	} else {
		*v = c.dec.U8()
	}
}

func (c *coder) u32(v *uint32) {
	if c.enc != nil {
		c.enc.U32(*v)
	} else {
		*v = c.dec.U32()
	}
}

func (c *coder) u64(v *uint64) {
	if c.enc != nil {
		c.enc.U64(*v)
	} else {
		*v = c.dec.U64()
	}
}

// flag walks a bool as one octet, 0 or 1.
func (c *coder) flag(v *bool) {
	if c.enc != nil {
		c.enc.U8(uint8(tpm2.Bool(*v)))
	} else {
		*v = c.dec.Bool()
	}
}

// num walks a 16- or 32-bit named number as 32 bits.
func num[T ~uint8 | ~uint16 | ~uint32](c *coder, v *T) {
	if c.enc != nil {
		c.enc.U32(uint32(*v))
		return
	}
	n := c.dec.U32()
	*v = T(n)
	if uint32(*v) != n {
		c.refuse()
	}
}

// bytes walks a sized buffer of at most max octets; what is read is a copy.
func (c *coder) bytes(v *[]byte, max int) {
	if c.enc != nil {
		c.enc.Buf(*v)
		return
	}
	if b := c.dec.Buf(max); b != nil {
		*v = append([]byte(nil), b...)
	} else {
		*v = nil
	}
}

// structure walks a TPM structure in its wire form. What is read aliases the
// state's bytes, which the caller owns and never changes.
func (c *coder) structure(v tpm2.Structure) {
	if c.enc != nil {
		c.enc.Encode(v)
	} else {
		c.dec.Decode(v, true)
	}
}

// list walks a counted list of at most max elements.
func list[T any](c *coder, v *[]T, max int, each func(*coder, *T)) {
	n := uint32(len(*v))
	c.u32(&n)
	if c.dec != nil {
		if n > uint32(max) {
			c.refuse()
		}
		if c.bad() {
			return
		}
		*v = make([]T, n)
	}
	for i := range *v {
		if c.bad() {
			return
		}
		each(c, &(*v)[i])
	}
}

// optional walks a pointer that may be nil.
func optional[T any](c *coder, v **T, each func(*coder, *T)) {
	present := *v != nil
	c.flag(&present)
	if c.bad() || !present {
		return
	}
	if c.dec != nil {
		*v = new(T)
	}
	each(c, *v)
}

// pointer makes the walk of a T into that of a *T that is never nil.
func pointer[T any](each func(*coder, *T)) func(*coder, **T) {
	return func(c *coder, v **T) {
		if c.dec != nil {
			*v = new(T)
		}
		each(c, *v)
	}
}

func (c *coder) bad() bool { return c.dec != nil && c.dec.RC() != tpm2.RCSuccess }

// refuse makes a decoding fail; an octet too many does it in one way for all.
func (c *coder) refuse() {
	if c.dec != nil {
		c.dec.Bytes(len(c.dec.Rest()) + 1)
	}
}

// A state blob is: magic, kind, version, the walk, SHA-256 over all that. The
// digest finds damage; it is no protection, which is the storing side's work.
const (
	stateMagic       = 0x56535450 // "VSTP"
	statePermanent   = 1
	stateVolatile    = 2
	stateVersion     = 1
	maxStateSize     = 256 << 10 // all that the limits allow is well below
	stateHeaderBytes = 4 + 1 + 2
)

// ErrState is wrapped by every error about a state blob: it is cut, damaged, or
// of another kind or version. The state that was there must be kept.
var ErrState = errors.New("not a usable TPM state")

// encodeBlob writes one state blob.
func encodeBlob(kind uint8, walk func(*coder)) []byte {
	e := tpm2.NewEncoder(make([]byte, 0, 4096))
	e.U32(stateMagic)
	e.U8(kind)
	e.U16(stateVersion)
	walk(&coder{enc: e})
	return sealBlob(e.Out())
}

// sealBlob appends the digest.
func sealBlob(body []byte) []byte {
	sum := sha256.Sum256(body)
	return append(body[:len(body):len(body)], sum[:]...)
}

// decodeBlob reads one state blob whole.
func decodeBlob(kind uint8, blob []byte, walk func(*coder)) error {
	if len(blob) > maxStateSize {
		return fmt.Errorf("%w: %d octets, more than any state has", ErrState, len(blob))
	}
	if len(blob) < stateHeaderBytes+sha256.Size {
		return fmt.Errorf("%w: only %d octets", ErrState, len(blob))
	}
	body, sum := blob[:len(blob)-sha256.Size], blob[len(blob)-sha256.Size:]
	d := tpm2.NewDecoder(append([]byte(nil), body...))
	if d.U32() != stateMagic {
		return fmt.Errorf("%w: it does not begin as one", ErrState)
	}
	if want := sha256.Sum256(body); subtle.ConstantTimeCompare(want[:], sum) != 1 {
		return fmt.Errorf("%w: cut or damaged, its digest does not match", ErrState)
	}
	if k := d.U8(); k != kind {
		return fmt.Errorf("%w: kind %d where %d is wanted", ErrState, k, kind)
	}
	if v := d.U16(); v != stateVersion {
		return fmt.Errorf("%w: version %d, this program knows %d", ErrState, v, stateVersion)
	}
	walk(&coder{dec: d})
	d.Done()
	if err := d.Err(); err != nil {
		return fmt.Errorf("%w: %v", ErrState, err)
	}
	return nil
}
