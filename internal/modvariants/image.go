package variants

import (
	"bytes"
	"compress/gzip"
	"crypto/x509"
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

// Image returns a bzImage whose kernel is padding around a certificate list as
// certs/system_certificates.S lays it out. No machine boots it.
func Image(release, compression string, certs []*x509.Certificate) ([]byte, error) {
	var list []byte
	for _, c := range certs {
		list = append(list, c.Raw...)
	}
	kernel := append([]byte("\x7fELF"), make([]byte, 300<<10)...)
	kernel = append(kernel, list...)
	for len(kernel)%8 != 0 {
		kernel = append(kernel, 0)
	}
	kernel = binary.LittleEndian.AppendUint64(kernel, uint64(len(list)))
	kernel = append(kernel, make([]byte, 100<<10)...)
	payload, err := compressKernel(kernel, compression)
	if err != nil {
		return nil, err
	}
	const sects = 3
	b := make([]byte, (sects+1)*512)
	le := binary.LittleEndian
	b[0x1f1] = sects
	copy(b[0x202:], "HdrS")
	le.PutUint16(b[0x206:], 0x20f)
	le.PutUint16(b[0x20e:], 0x300)
	copy(b[0x500:], release+" (builder@host) #1 SMP\x00")
	le.PutUint32(b[0x248:], 64)
	le.PutUint32(b[0x24c:], uint32(len(payload)))
	b = append(b, make([]byte, 64)...)
	return append(b, payload...), nil
}

func compressKernel(kernel []byte, compression string) ([]byte, error) {
	var b bytes.Buffer
	var err error
	switch compression {
	case "gzip":
		w := gzip.NewWriter(&b)
		_, err = w.Write(kernel)
		w.Close()
		return b.Bytes(), err
	case "xz":
		var w *xz.Writer
		if w, err = (xz.WriterConfig{CheckSum: xz.CRC32}).NewWriter(&b); err == nil {
			_, err = w.Write(kernel)
			w.Close()
		}
	case "zstd":
		var w *zstd.Encoder
		if w, err = zstd.NewWriter(&b); err == nil {
			_, err = w.Write(kernel)
			w.Close()
		}
	case "lz4":
		b.Write([]byte{0x02, 0x21, 0x4c, 0x18})
		block := make([]byte, lz4.CompressBlockBound(len(kernel)))
		var n int
		n, err = lz4.CompressBlock(kernel, block, nil)
		b.Write(binary.LittleEndian.AppendUint32(nil, uint32(n)))
		b.Write(block[:n])
	case "":
		return append(kernel, make([]byte, 8)...), nil
	default:
		return nil, fmt.Errorf("no such compression: %q", compression)
	}
	if err != nil {
		return nil, err
	}
	// All but gzip carry the uncompressed length behind them.
	return binary.LittleEndian.AppendUint32(b.Bytes(), uint32(len(kernel))), nil
}
