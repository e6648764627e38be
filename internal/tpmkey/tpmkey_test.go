package tpmkey

import (
	"encoding/pem"
	"os"
	"testing"
)

// tpm2-openssl wrote this one: openssl genpkey -provider tpm2 -algorithm RSA.
func sample(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/tpm2-openssl.pem")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParse(t *testing.T) {
	text := sample(t)
	f, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if !f.EmptyAuth || f.Parent != 0x40000001 || f.Blob.Public.Parameters.RSADetail.KeyBits != 2048 {
		t.Errorf("%+v", f)
	}
	block, _ := pem.Decode(text)
	if _, err := Parse(block.Bytes); err != nil {
		t.Errorf("the DER alone: %v", err)
	}
	for i := range len(block.Bytes) {
		if _, err := Parse(block.Bytes[:i]); err == nil {
			t.Fatalf("cut to %d bytes: accepted", i)
		}
	}
	if _, err := Parse(append(block.Bytes, 0)); err == nil {
		t.Error("a byte more: accepted")
	}
}

func FuzzParse(f *testing.F) {
	block, _ := pem.Decode(sample(f))
	f.Add(block.Bytes)
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := Parse(b)
		if err == nil && len(k.Blob.Private) > maxFile {
			t.Error("longer than the file")
		}
	})
}
