package modsig_test

import (
	"encoding/binary"
	"testing"

	"github.com/vouchsafe/vouchsafe/modsig"
)

// signatureList makes an EFI signature list of one certificate and one SHA-256 hash.
func signatureList(cert []byte) []byte {
	le := binary.LittleEndian
	entry := func(typ string, data []byte) []byte {
		b := append([]byte(typ), make([]byte, 12)...)
		le.PutUint32(b[16:], uint32(28+16+len(data)))
		le.PutUint32(b[24:], uint32(16+len(data)))
		return append(append(b, make([]byte, 16)...), data...)
	}
	return append(entry("\xa1\x59\xc0\xa5\xe4\x94\xa7\x4a\x87\xb5\xab\x15\x5c\x2b\xf0\x72", cert),
		entry("\x26\x16\xc4\xc1\x4c\x50\x92\x40\xac\xa9\x41\xf9\x36\x93\x43\x28", make([]byte, 32))...)
}

func TestParseSignatureList(t *testing.T) {
	ca := fixtures(t).keys.CA.Cert
	list := signatureList(ca.Raw)
	certs, err := modsig.ParseSignatureList(list)
	if err != nil || len(certs) != 1 || !certs[0].Equal(ca) {
		t.Fatalf("got %d certificates, %v", len(certs), err)
	}
	for name, b := range map[string][]byte{
		"cut":              list[:len(list)-1],
		"a size of nought": append([]byte{}, make([]byte, 28)...),
		"entries of 15":    append(append([]byte{}, list[:24]...), 15, 0, 0, 0),
	} {
		if _, err := modsig.ParseSignatureList(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestDecompress(t *testing.T) {
	genuine := fixtures(t).genuine
	for _, c := range []modsig.Compression{modsig.Plain, modsig.Gzip, modsig.XZ, modsig.Zstd} {
		stored, err := modsig.Compress(genuine, c)
		if err != nil {
			t.Fatal(err)
		}
		if got := modsig.CompressionOf(stored); got != c {
			t.Errorf("stored as %q, recognised as %q", c, got)
		}
		plain, err := modsig.Decompress(stored, nil)
		if err != nil || string(plain) != string(genuine) {
			t.Errorf("%s: %v", c, err)
		}
		if c != modsig.Plain {
			if _, err := modsig.Decompress(stored[:len(stored)-3], nil); err == nil {
				t.Errorf("%s: a cut stream was accepted", c)
			}
		}
	}
}
