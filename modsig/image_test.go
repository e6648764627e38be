package modsig_test

import (
	"bytes"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/modvariants"
	"github.com/vouchsafe/vouchsafe/modsig"
)

func TestReadImage(t *testing.T) {
	f := fixtures(t)
	certs := variants.Certificates(f.build, f.keys.CA)
	for _, c := range []string{"gzip", "xz", "lz4", "zstd", ""} {
		t.Run("compression "+c, func(t *testing.T) {
			b, err := variants.Image(release, c, certs)
			if err != nil {
				t.Fatal(err)
			}
			im, err := modsig.ReadImage(b)
			if err != nil {
				t.Fatal(err)
			}
			if im.Release != release || im.Compression != c || !im.Anchored || len(im.Builtin) != 2 || !im.Builtin[0].Equal(f.build.Cert) {
				t.Errorf("got %q %q anchored=%t %d certificates", im.Release, im.Compression, im.Anchored, len(im.Builtin))
			}
		})
	}
}

// TestReadImageDamaged cuts and flips: an error or a list, and no panic.
func TestReadImageDamaged(t *testing.T) {
	f := fixtures(t)
	for _, c := range []string{"gzip", "xz", "lz4", "zstd"} {
		whole, err := variants.Image(release, c, variants.Certificates(f.build))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 0x1f1, 0x206, 0x260, 2048, 2048 + 64 + 10, len(whole) - 300} {
			if _, err := modsig.ReadImage(whole[:n]); err == nil {
				t.Errorf("%s cut at %d: accepted", c, n)
			}
		}
		for at := 0x1f0; at < len(whole); at += 997 {
			bad := bytes.Clone(whole)
			bad[at] ^= 0xff
			im, err := modsig.ReadImage(bad)
			if c == "lz4" {
				continue // it has no checksum: a name may change unnoticed
			}
			if err == nil && im.Anchored && !im.Builtin[0].Equal(f.build.Cert) {
				t.Errorf("%s flipped at %d: another certificate", c, at)
			}
		}
	}
}
