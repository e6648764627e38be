package modsig

import (
	"bytes"
	"errors"
	"testing"
)

// TestDecompressBomb wants the limit to hold, also for streams end to end.
func TestDecompressBomb(t *testing.T) {
	const limit = 3 << 20
	for _, c := range []Compression{Gzip, XZ, Zstd} {
		one, err := Compress(make([]byte, 1<<20), c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decompress(bytes.Repeat(one, 3), nil, limit); err != nil {
			t.Errorf("%s: the limit itself: %v", c, err)
		}
		if _, err := decompress(bytes.Repeat(one, 4), nil, limit); !errors.Is(err, errTooLarge) {
			t.Errorf("%s: grew over the limit: %v", c, err)
		}
	}
}
