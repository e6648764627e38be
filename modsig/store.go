package modsig

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	write "github.com/ulikunitz/xz"
)

// Compress stores a module as the kernel's own build does, so that kernels
// which decompress modules themselves can: xz with CRC-32 and no filter, for
// the kernel's decoder knows no other check.
func Compress(module []byte, c Compression) ([]byte, error) {
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch c {
	case Plain:
		return module, nil
	case Gzip:
		w, err = gzip.NewWriterLevel(&b, gzip.BestCompression)
	case XZ:
		w, err = write.WriterConfig{CheckSum: write.CRC32, DictCap: 2 << 20}.NewWriter(&b)
	case Zstd:
		w, err = zstd.NewWriter(&b, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(8<<20))
	default:
		return nil, fmt.Errorf("no such compression: %q", c)
	}
	if err == nil {
		_, err = w.Write(module)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("compressing with %s: %v", c, err)
	}
	return b.Bytes(), nil
}
