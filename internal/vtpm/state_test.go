package vtpm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/xaes"
)

func testID(b byte) (id ID) {
	for i := range id {
		id[i] = b
	}
	return id
}

func TestStateFileRoundTrip(t *testing.T) {
	state := []byte("all that a TPM remembers")
	for name, key := range map[string]Key{
		"plain":      {},
		"key":        {Secret: secret.New(bytes.Repeat([]byte{7}, 16))},
		"passphrase": {Secret: secret.New([]byte("correct horse")), Passphrase: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := mustBox(t, key, testID(1))
			file, err := join(permanent, key.protection(), testID(1), 42, state, s)
			if err != nil {
				t.Fatal(err)
			}
			if !key.none() && bytes.Contains(file, state) {
				t.Error("the state is readable in a sealed file")
			}
			h, body, err := split(file)
			if err != nil {
				t.Fatal(err)
			}
			if h.kind != permanent || h.id != testID(1) || h.generation != 42 {
				t.Errorf("header: got %+v", h)
			}
			if got, err := h.open(body, s); err != nil || !bytes.Equal(got, state) {
				t.Fatalf("opening: %q, %v", got, err)
			}
			// Every bit counts, in the header as well.
			for bit := range len(file) * 8 {
				bad := bytes.Clone(file)
				bad[bit/8] ^= 1 << (bit % 8)
				h, body, err := split(bad)
				if err != nil {
					continue
				}
				if h.protection != key.protection() {
					continue // refused by unseal before it is opened
				}
				if _, err := h.open(body, s); err == nil {
					t.Fatalf("bit %d flipped, and the file opens", bit)
				}
			}
			// And every length.
			for n := range len(file) {
				if _, _, err := split(file[:n]); err == nil {
					t.Fatalf("cut to %d bytes, and it is accepted", n)
				}
			}
			if _, _, err := split(append(bytes.Clone(file), 0)); err == nil {
				t.Error("a byte too many was accepted")
			}
		})
	}
}

func mustBox(t *testing.T, k Key, id ID) *xaes.Box {
	t.Helper()
	if k.none() {
		return nil
	}
	b, err := k.box(id)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWrongKeyIsToldFromDamage(t *testing.T) {
	right, wrong := Key{Secret: secret.New(bytes.Repeat([]byte{1}, 32))}, Key{Secret: secret.New(bytes.Repeat([]byte{2}, 32))}
	file, err := join(volatile, byKey, testID(1), 1, []byte("x"), mustBox(t, right, testID(1)))
	if err != nil {
		t.Fatal(err)
	}
	h, body, err := split(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.open(body, mustBox(t, wrong, testID(1))); !errors.Is(err, xaes.ErrCommitment) {
		t.Errorf("another key: got %v", err)
	}
	body[len(body)-1] ^= 1
	if _, err := h.open(body, mustBox(t, right, testID(1))); err == nil || errors.Is(err, xaes.ErrCommitment) {
		t.Errorf("a flipped bit: got %v", err)
	}
}

func TestShortKeysAreRefused(t *testing.T) {
	if _, err := (Key{Secret: secret.New(make([]byte, 15))}).box(testID(1)); err == nil {
		t.Error("a key of 15 bytes was accepted")
	}
}

// TestStateFileVectors opens the files of docs/formats/state.md, which another
// implementation made.
func TestStateFileVectors(t *testing.T) {
	for _, v := range []struct {
		name string
		key  Key
		file string
	}{
		{"plain", Key{}, "766f75636874706d00010100000000252222222222222222222222222222222200000000000000077374617465c66bde1871091d8c61a5ea50b89081988134587aa7f3af5ab26abab53078cce9"},
		{"key", Key{Secret: secret.New(bytes.Repeat([]byte{0x11}, 32))}, "766f75636874706d000101010000004d2222222222222222222222222222222200000000000000073333333333333333333333333333333333333333333333339d5674d6969729611ecb250eab62afd0844ad234c2a2a6f8061ca0691036c7f546c01b69a7fe7629c0ae94b9703491d55a0f819924"},
		{"passphrase", Key{Secret: secret.New([]byte("correct horse")), Passphrase: true}, "766f75636874706d000101020000004d222222222222222222222222222222220000000000000007333333333333333333333333333333333333333333333333063155d824a26486e614d1bc0b14be6987af53c0d1997b2d635e980fc0016edb17668c037178082700327c48d0aee48a49a37cd3fa"},
	} {
		file, err := hex.DecodeString(v.file)
		if err != nil {
			t.Fatal(err)
		}
		h, body, err := split(file)
		if err != nil {
			t.Errorf("%s: %v", v.name, err)
			continue
		}
		state, err := h.open(body, mustBox(t, v.key, h.id))
		if err != nil || string(state) != "state" || h.kind != permanent || h.generation != 7 || h.id != testID(0x22) {
			t.Errorf("%s: %q, %+v, %v", v.name, state, h, err)
		}
	}
}

func FuzzStateFile(f *testing.F) {
	file, err := join(permanent, plain, testID(1), 1, []byte("state"), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	box := xaes.NewBox(secret.New(make([]byte, xaes.KeySize)))
	sealed, err := join(volatile, byKey, testID(1), 1, []byte("state"), box)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add(sealed[:headerSize])
	f.Fuzz(func(t *testing.T, file []byte) {
		h, body, err := split(file)
		if err != nil {
			return
		}
		if again := append(h.encode(), body...); !bytes.Equal(again, file) {
			t.Fatalf("accepted %x, which encodes to %x", file, again)
		}
		h.open(body, box)
	})
}
