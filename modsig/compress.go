package modsig

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
)

// Compression names how a module file is stored.
type Compression string

const (
	Plain Compression = ""
	Gzip  Compression = "gzip"
	XZ    Compression = "xz"
	Zstd  Compression = "zstd"
)

// CompressionOf tells by the first bytes, as kmod does; the name does not count.
func CompressionOf(file []byte) Compression {
	switch {
	case bytes.HasPrefix(file, []byte{0x1f, 0x8b}):
		return Gzip
	case bytes.HasPrefix(file, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return XZ
	case bytes.HasPrefix(file, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return Zstd
	}
	return Plain
}

var errTooLarge = errors.New("larger than the limit after decompression")

// Decompress returns the module inside file; a plain file is returned as it
// is. The result is written over buf where that is long enough.
func Decompress(file, buf []byte) ([]byte, error) {
	return decompress(file, buf, MaxModule)
}

func decompress(file, buf []byte, limit int64) ([]byte, error) {
	c := CompressionOf(file)
	if c == Plain {
		return file, nil
	}
	r, done, err := decompressor(c, bytes.NewReader(file), maxModuleDictionary)
	if err != nil {
		return nil, fmt.Errorf("opening the %s stream: %v", c, err)
	}
	defer done()
	out, err := readAll(r, buf[:0], limit)
	if err != nil {
		return nil, fmt.Errorf("decompressing %s: %w", c, err)
	}
	return out, nil
}

// readAll is io.ReadAll into out, with a limit. It grows by a quarter, not
// twofold: at the limit that is what a hostile file costs.
func readAll(r io.Reader, out []byte, limit int64) ([]byte, error) {
	for {
		if len(out) == cap(out) {
			out = append(out, 0)[:len(out)]
		}
		n, err := r.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		switch {
		case int64(len(out)) > limit:
			return nil, errTooLarge
		case err == io.EOF:
			return out, nil
		case err != nil:
			return nil, err
		}
	}
}

// decompressor opens one stream; dict bounds its memory. done frees it.
func decompressor(c Compression, r io.Reader, dict uint32) (_ io.Reader, done func(), err error) {
	none := func() {}
	switch c {
	case Gzip:
		z, err := gzip.NewReader(r)
		return z, none, err
	case XZ:
		if z, _ := xzReaders[dict].Get().(*xz.Reader); z != nil {
			if err := z.Reset(r); err != nil {
				return nil, none, err
			}
			return z, func() { xzReaders[dict].Put(z) }, nil
		}
		z, err := xz.NewReader(r, dict)
		if err != nil {
			return nil, none, err
		}
		return z, func() { xzReaders[dict].Put(z) }, nil
	case Zstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderMaxWindow(uint64(dict)), zstd.WithDecoderMaxMemory(maxImage))
		if err != nil {
			return nil, none, err
		}
		return z, z.Close, nil
	}
	return nil, none, fmt.Errorf("no such compression: %q", c)
}

// xzReaders keeps readers, whose dictionaries are megabytes, for the next file.
var xzReaders = map[uint32]*sync.Pool{maxDictionary: {}, maxModuleDictionary: {}}
