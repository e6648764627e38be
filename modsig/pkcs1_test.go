package modsig

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"testing"
)

// agree wants the same answer as crypto/rsa.
func agree(t *testing.T, pub *rsa.PublicKey, h crypto.Hash, digest, sig []byte) bool {
	t.Helper()
	got, want := verifyPKCS1v15(pub, h, digest, sig), rsa.VerifyPKCS1v15(pub, h, digest, sig) == nil
	if got != want {
		t.Errorf("%v, %d bits, signature %x: got %t, crypto/rsa says %t", h, pub.N.BitLen(), sig, got, want)
	}
	return got
}

func TestPKCS1v15(t *testing.T) {
	for _, bits := range []int{1024, 1536, 2048} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range hashes {
			digest := bytes.Repeat([]byte{7}, e.hash.Size())
			sig, err := rsa.SignPKCS1v15(nil, key, e.hash, digest)
			if err != nil {
				t.Fatal(err)
			}
			if !agree(t, &key.PublicKey, e.hash, digest, sig) {
				t.Errorf("%s with %d bits: refused", e.name, bits)
			}
			n := key.N.FillBytes(make([]byte, key.Size()))
			for name, bad := range map[string][]byte{
				"nothing": nil, "short": sig[1:], "long": append([]byte{0}, sig...), "the modulus": n,
				"nought": make([]byte, len(sig)), "one": append(make([]byte, len(sig)-1), 1),
			} {
				if agree(t, &key.PublicKey, e.hash, digest, bad) {
					t.Errorf("%s: accepted", name)
				}
			}
			for i := range sig {
				bad := bytes.Clone(sig)
				bad[i] ^= 1 << (i % 8)
				if i%17 == 0 && agree(t, &key.PublicKey, e.hash, digest, bad) {
					t.Errorf("flipped at %d: accepted", i)
				}
			}
			if agree(t, &key.PublicKey, e.hash, append([]byte{8}, digest[1:]...), sig) {
				t.Error("another digest: accepted")
			}
		}
	}
}

// TestPKCS1v15Padding makes well-known forgeries with the private key: each
// block differs from the one right encoding.
func TestPKCS1v15Padding(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	digest := bytes.Repeat([]byte{7}, 32)
	good, _ := encodePKCS1v15(crypto.SHA256, digest, key.Size())
	for name, change := range map[string]func([]byte){
		"the right block":    func([]byte) {},
		"block type 2":       func(em []byte) { em[1] = 2 },
		"a padding byte":     func(em []byte) { em[40] = 0xfe },
		"padding ends early": func(em []byte) { em[20] = 0 },
		"short padding, garbage behind": func(em []byte) {
			t := bytes.Clone(em[len(em)-51:])
			copy(em[10:], append([]byte{0}, t...))
			clear(em[62:])
		},
		"without NULL": func(em []byte) { em[len(em)-35] = 4 },
	} {
		em := bytes.Clone(good)
		change(em)
		sig := rawSign(key, em)
		if got := agree(t, &key.PublicKey, crypto.SHA256, digest, sig); got != (name == "the right block") {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func FuzzPKCS1v15(f *testing.F) {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		f.Fatal(err)
	}
	digest := bytes.Repeat([]byte{7}, 32)
	sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest)
	if err != nil {
		f.Fatal(err)
	}
	good, _ := encodePKCS1v15(crypto.SHA256, digest, key.Size())
	f.Add(sig, good)
	f.Fuzz(func(t *testing.T, sig, em []byte) {
		agree(t, &key.PublicKey, crypto.SHA256, digest, sig)
		if len(em) == key.Size() && em[0] == 0 {
			agree(t, &key.PublicKey, crypto.SHA256, digest, rawSign(key, em))
		}
	})
}

// rawSign is the private operation on any block: only a test wants it.
func rawSign(key *rsa.PrivateKey, em []byte) []byte {
	m := new(big.Int).SetBytes(em)
	return m.Exp(m, key.D, key.N).FillBytes(make([]byte, key.Size()))
}
