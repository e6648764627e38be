package crypt

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// The vectors of SP 800-38A, F.3.13 (CFB128-AES128).
func TestCFB(t *testing.T) {
	un := func(s string) []byte { b, _ := hex.DecodeString(s); return b }
	key := un("2b7e151628aed2a6abf7158809cf4f3c")
	iv := un("000102030405060708090a0b0c0d0e0f")
	plain := un("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51")
	want := un("3b3fd92eb72dad20333449f8e83cfb4ac8a64537a0b3a93fcde3cdad9f1ce58b")
	got := bytes.Clone(plain)
	next := CFBEncrypt(key, iv, got)
	if !bytes.Equal(got, want) || !bytes.Equal(next, want[16:]) {
		t.Errorf("encrypt: got %x, next %x", got, next)
	}
	if CFBDecrypt(key, iv, got); !bytes.Equal(got, plain) {
		t.Errorf("decrypt: got %x", got)
	}
}

// CFB agrees with the standard library on every length.
func TestCFBAgainstStandardLibrary(t *testing.T) {
	key, iv := bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{9}, 16)
	for n := range 50 {
		got, want := bytes.Repeat([]byte{1}, n), bytes.Repeat([]byte{1}, n)
		CFBEncrypt(key, iv, got)
		b, _ := aes.NewCipher(key)
		cipher.NewCFBEncrypter(b, iv).XORKeyStream(want, want) //lint:ignore SA1019 the oracle
		if !bytes.Equal(got, want) {
			t.Fatalf("%d octets: got %x, want %x", n, got, want)
		}
	}
}

func TestKDFaLengths(t *testing.T) {
	key := []byte("key")
	long := KDFa(tpm2.AlgSHA256, key, "LABEL", []byte("u"), []byte("v"), 1024)
	if len(long) != 128 {
		t.Fatalf("1024 bits: %d octets", len(long))
	}
	odd := KDFa(tpm2.AlgSHA256, key, "LABEL", nil, nil, 521)
	if len(odd) != 66 || odd[0] > 1 {
		t.Errorf("521 bits: %d octets, the first %#x", len(odd), odd[0])
	}
	if bytes.Equal(KDFa(tpm2.AlgSHA256, key, "A", nil, nil, 256), KDFa(tpm2.AlgSHA256, key, "B", nil, nil, 256)) {
		t.Error("the label makes no difference")
	}
}

func TestTrim(t *testing.T) {
	if got := Trim([]byte{1, 0, 2, 0, 0}); !bytes.Equal(got, []byte{1, 0, 2}) {
		t.Errorf("got %x", got)
	}
}
