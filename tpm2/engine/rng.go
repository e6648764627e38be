package engine

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"io"
)

// rng is the TPM's random generator. Its numbers are the entropy source's, with
// a key stream over them into which TPM2_StirRandom mixes: stirring can only
// add. No state of it is ever saved, so a state that is loaded twice does not
// repeat itself.
type rng struct {
	src    io.Reader
	stream cipher.Stream // nil until stirred
}

func newRNG(src io.Reader) rng {
	if src == nil {
		src = rand.Reader
	}
	return rng{src: src}
}

// fill fills b with random octets. A source that fails is a TPM that must not go on.
func (r *rng) fill(b []byte) {
	if _, err := io.ReadFull(r.src, b); err != nil {
		panic("internal error: the entropy source failed: " + err.Error())
	}
	if r.stream != nil {
		r.stream.XORKeyStream(b, b)
	}
}

// bytes returns n random octets.
func (r *rng) bytes(n int) []byte {
	b := make([]byte, n)
	r.fill(b)
	return b
}

// stir mixes more into the generator.
func (r *rng) stir(in []byte) {
	h := sha256.New()
	h.Write(r.bytes(32))
	h.Write(in)
	block, err := aes.NewCipher(h.Sum(nil))
	if err != nil {
		panic("internal error: " + err.Error())
	}
	r.stream = cipher.NewCTR(block, make([]byte, aes.BlockSize))
}
