package xaes

import (
	"bytes"
	"crypto/sha3"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/secret"
)

// TestC2SPVectors are the two worked examples of c2sp.org/XAES-256-GCM: with
// the top bit of L clear, and set.
func TestC2SPVectors(t *testing.T) {
	for _, tt := range []struct {
		name      string
		key       byte
		aad, want string
	}{
		{"top bit of L clear", 1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{"top bit of L set", 3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, err := New(bytes.Repeat([]byte{tt.key}, KeySize))
			if err != nil {
				t.Fatal(err)
			}
			nonce := []byte("ABCDEFGHIJKLMNOPQRSTUVWX")
			got := a.Seal(nil, nonce, []byte("XAES-256-GCM"), []byte(tt.aad))
			if hex.EncodeToString(got) != tt.want {
				t.Errorf("got %x, want %s", got, tt.want)
			}
			if back, err := a.Open(nil, nonce, got, []byte(tt.aad)); err != nil || string(back) != "XAES-256-GCM" {
				t.Errorf("opening: %q, %v", back, err)
			}
		})
	}
}

// TestC2SPAccumulated is the specification's accumulated randomized test.
func TestC2SPAccumulated(t *testing.T) {
	iterations, want := 10_000, "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
	if os.Getenv("VOUCHSAFE_LONG") != "" {
		iterations, want = 1_000_000, "2163ae1445985a30b60585ee67daa55674df06901b890593e824b8a7c885ab15"
	}
	in, sum := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	opaque := func(n int) []byte {
		b := make([]byte, n)
		in.Read(b)
		return b
	}
	for range iterations {
		key, nonce := opaque(KeySize), opaque(NonceSize)
		plaintext := opaque(int(opaque(1)[0]))
		aad := opaque(int(opaque(1)[0]))
		a, err := New(key)
		if err != nil {
			t.Fatal(err)
		}
		ciphertext := a.Seal(nil, nonce, plaintext, aad)
		if back, err := a.Open(nil, nonce, ciphertext, aad); err != nil || !bytes.Equal(back, plaintext) {
			t.Fatalf("opening: %v", err)
		}
		sum.Write(ciphertext)
	}
	got := make([]byte, 32)
	sum.Read(got)
	if hex.EncodeToString(got) != want {
		t.Errorf("got %x, want %s", got, want)
	}
}

// TestBoxVectors reads the vectors that docs/formats/envelope.md points to.
func TestBoxVectors(t *testing.T) {
	data, err := os.ReadFile("testdata/box.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for block := range strings.SplitSeq(string(data), "\n\n") {
		v := map[string]string{}
		for line := range strings.Lines(block) {
			if k, val, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && !strings.HasPrefix(line, "#") {
				v[k] = strings.TrimSpace(val)
			}
		}
		if v["key"] == "" {
			continue
		}
		n++
		unhex := func(k string) []byte {
			b, err := hex.DecodeString(v[k])
			if err != nil {
				t.Fatalf("%s: %s: %v", v["name"], k, err)
			}
			return b
		}
		t.Run(v["name"], func(t *testing.T) {
			b := NewBox(secret.New(unhex("key")))
			got, err := b.Open(unhex("box"), unhex("aad"))
			if v["expect"] == "refused" {
				if err == nil {
					t.Fatal("opened")
				}
				return
			}
			if err != nil || !bytes.Equal(got, unhex("plaintext")) {
				t.Fatalf("got %x, %v", got, err)
			}
			if again := b.seal(unhex("box")[:NonceSize], got, unhex("aad")); !bytes.Equal(again, unhex("box")) {
				t.Errorf("sealing again gives %x", again)
			}
		})
	}
	if n < 5 {
		t.Errorf("only %d vectors", n)
	}
}

// TestBoxNoticesEveryBit flips each bit of a box and of its additional data.
func TestBoxNoticesEveryBit(t *testing.T) {
	b := NewBox(secret.Random(KeySize))
	aad := []byte("what it is for")
	box := b.Seal([]byte("message"), aad)
	for i := range len(box) * 8 {
		bad := bytes.Clone(box)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := b.Open(bad, aad); err == nil {
			t.Fatalf("bit %d of the box may change", i)
		}
	}
	for i := range len(aad) * 8 {
		bad := bytes.Clone(aad)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := b.Open(box, bad); err == nil {
			t.Fatalf("bit %d of the additional data may change", i)
		}
	}
	for n := range len(box) {
		if _, err := b.Open(box[:n], aad); err == nil {
			t.Fatalf("a box cut to %d bytes opens", n)
		}
	}
}

func FuzzBoxOpen(f *testing.F) {
	b := NewBox(secret.New(bytes.Repeat([]byte{7}, KeySize)))
	f.Add(b.Seal(nil, nil), []byte(nil))
	f.Add(b.Seal([]byte("x"), []byte("y")), []byte("y"))
	f.Fuzz(func(t *testing.T, box, aad []byte) {
		plaintext, err := b.Open(box, aad)
		if err == nil && !bytes.Equal(b.seal(box[:NonceSize], plaintext, aad), box) {
			t.Fatal("accepted a box that seals differently")
		}
	})
}

func BenchmarkBoxSeal32(b *testing.B) {
	box, msg := NewBox(secret.Random(KeySize)), make([]byte, 32)
	for b.Loop() {
		box.Seal(msg, msg)
	}
}
