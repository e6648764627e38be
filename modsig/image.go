package modsig

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pierrec/lz4/v4"
)

// Image is what a kernel image says about the kernel inside.
type Image struct {
	// Release is the kernel's ("6.1.0-56-cloud-amd64"), from the boot header.
	Release string
	// Compression is the payload's: gzip, xz, lz4, zstd, or "" for none.
	Compression string
	// Builtin holds the certificates of the kernel's .builtin_trusted_keys,
	// the build key first.
	Builtin []*x509.Certificate
	// Anchored says that the list was recognised by the length that the
	// kernel keeps behind it. Without it, Builtin is every certificate found
	// anywhere in the image, and may hold some that are there for other uses.
	Anchored bool
}

var errNotImage = errors.New("not a bzImage (Documentation/arch/x86/boot.rst)")

// ReadImage reads a bzImage and takes its built-in certificates out. The
// kernel is decompressed as a stream, never held whole.
func ReadImage(file []byte) (*Image, error) {
	// The x86 boot protocol: setup_sects at 0x1f1, "HdrS" at 0x202, version
	// at 0x206, kernel_version at 0x20e, payload_offset and payload_length
	// at 0x248 and 0x24c from protocol 2.08.
	if len(file) < 0x260 || string(file[0x202:0x206]) != "HdrS" {
		return nil, errNotImage
	}
	le := binary.LittleEndian
	if v := le.Uint16(file[0x206:]); v < 0x208 {
		return nil, fmt.Errorf("boot protocol %d.%02d has no payload offset: %w", v>>8, v&0xff, errNotImage)
	}
	sects := int64(file[0x1f1])
	if sects == 0 {
		sects = 4
	}
	start := (sects+1)*512 + int64(le.Uint32(file[0x248:]))
	length := int64(le.Uint32(file[0x24c:]))
	if start > int64(len(file)) || length > int64(len(file))-start || length > maxPayload || length < 8 {
		return nil, fmt.Errorf("a payload of %d bytes at %d in a file of %d: %w", length, start, len(file), errNotImage)
	}
	im := &Image{Release: imageRelease(file, int64(le.Uint16(file[0x20e:])))}
	r, done, err := im.payload(file[start:][:length])
	if err != nil {
		return nil, fmt.Errorf("opening the %s payload: %v", im.Compression, err)
	}
	defer done()
	limited := &io.LimitedReader{R: r, N: maxImage}
	im.Builtin, im.Anchored, err = scanCertificates(limited)
	if err == nil && limited.N == 0 && !im.Anchored {
		err = errTooLarge
	}
	if err != nil {
		return nil, fmt.Errorf("decompressing the %s payload: %v", im.Compression, err)
	}
	// LZ4 has no checksum here: a damaged certificate shows in its own signature.
	for _, c := range im.Builtin {
		if selfSigned(c) && errors.Is(allFeatures.signed(c, c.PublicKey), errSignature) {
			return nil, fmt.Errorf("the built-in certificate %s is damaged", c.Subject)
		}
	}
	return im, nil
}

// imageRelease reads the version string; the header's pointer is 512 short.
func imageRelease(file []byte, at int64) string {
	if at == 0 || at+512+256 > int64(len(file)) {
		return ""
	}
	s, _, ok := bytes.Cut(file[at+512:][:256], []byte{0})
	if !ok {
		return ""
	}
	release, _, _ := strings.Cut(string(s), " ")
	return release
}

// payload opens the compressed kernel. All but gzip carry the uncompressed
// length in four more bytes, which are cut off.
func (im *Image) payload(p []byte) (io.Reader, func(), error) {
	cut := bytes.NewReader(p[:len(p)-4])
	c := CompressionOf(p)
	im.Compression = string(c)
	switch {
	case c == Gzip:
		return decompressor(c, bytes.NewReader(p), maxDictionary)
	case c != Plain:
		return decompressor(c, cut, maxDictionary)
	case bytes.HasPrefix(p, []byte{0x02, 0x21, 0x4c, 0x18}):
		im.Compression = "lz4"
		return &lz4Legacy{in: p[4 : len(p)-4]}, func() {}, nil
	case bytes.HasPrefix(p, []byte("\x7fELF")):
		return bytes.NewReader(p), func() {}, nil
	}
	im.Compression = "unknown"
	return nil, func() {}, fmt.Errorf("it begins with % x, which is none of gzip, xz, lz4, zstd and ELF", p[:6])
}

// lz4Legacy reads the legacy LZ4 frame: blocks of 8 MiB, each behind its
// compressed length.
type lz4Legacy struct {
	in, block, rest []byte
}

func (z *lz4Legacy) Read(b []byte) (int, error) {
	for len(z.rest) == 0 {
		if len(z.in) == 0 {
			return 0, io.EOF
		}
		if len(z.in) < 4 {
			return 0, io.ErrUnexpectedEOF
		}
		n := binary.LittleEndian.Uint32(z.in)
		if uint64(n) > uint64(len(z.in)-4) {
			return 0, io.ErrUnexpectedEOF
		}
		if z.block == nil {
			z.block = make([]byte, lz4Block)
		}
		got, err := lz4.UncompressBlock(z.in[4:4+n], z.block)
		if err != nil {
			return 0, err
		}
		z.in, z.rest = z.in[4+n:], z.block[:got]
		if got == 0 && n != 0 {
			return 0, errors.New("an empty block")
		}
	}
	n := copy(b, z.rest)
	z.rest = z.rest[n:]
	return n, nil
}
