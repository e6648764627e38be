package swtpm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"
)

// untagged is what swtpm before 0.1 made of a state under a key. Real files are
// among swtpm's own tests, which test/interop runs.
func untagged(t testing.TB, key, state []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(state)
	b := append(sum[:], state...)
	pad := len(key) - len(b)%len(key)
	b = append(b, bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, make([]byte, aes.BlockSize)).CryptBlocks(b, b)
	return b
}

func TestOpenFirst(t *testing.T) {
	state := []byte("\x00\x02\xab\x36\x47\x23 and so on, as libtpms has it")
	key := func(n int) StateKey { return StateKey{Secret: bytes.Repeat([]byte{7}, n)} }
	sum := sha256.Sum256([]byte("x"))
	headed := func(flags uint16, b []byte) []byte {
		h := binary.BigEndian.AppendUint16([]byte{1, 1, 0, stateHeader}, flags)
		return append(binary.BigEndian.AppendUint32(h, uint32(stateHeader+len(b))), b...)
	}
	under16, under32 := untagged(t, key(16).Secret, state), untagged(t, key(32).Secret, state)
	for _, tc := range []struct {
		name             string
		b                []byte
		state, migration StateKey
		sealed           Sealed
		want             error
	}{
		{"file in clear", state, StateKey{}, StateKey{}, Sealed{}, nil},
		{"file", under16, key(16), StateKey{}, Sealed{State: true}, nil},
		{"file, 256 bits", under32, key(32), StateKey{}, Sealed{State: true}, nil},
		{"file, another key", under16, StateKey{Secret: sum[:16]}, StateKey{}, Sealed{}, ErrStateKeyWrong},
		{"file, key of another size", under16, key(32), StateKey{}, Sealed{}, ErrStateKeyWrong},
		{"blob in clear", headed(0, state), StateKey{}, StateKey{}, Sealed{}, nil},
		{"blob on the move", headed(migrationFlag, under16), StateKey{}, key(16), Sealed{Migration: true}, nil},
		{"blob under both", headed(migrationFlag|stateFlag, untagged(t, key(32).Secret, under16)), key(16), key(32), Sealed{State: true, Migration: true}, nil},
		{"blob without its key", headed(migrationFlag, under16), StateKey{}, StateKey{}, Sealed{}, ErrStateKeyMissing},
		{"blob under the other key", headed(migrationFlag, under16), key(16), StateKey{Secret: sum[:16]}, Sealed{}, ErrStateKeyWrong},
	} {
		got, sealed, err := OpenState(tc.b, tc.state, tc.migration)
		if !errors.Is(err, tc.want) || err == nil && (!bytes.Equal(got, state) || sealed != tc.sealed) || err != nil && (got != nil || sealed != Sealed{}) {
			t.Errorf("%s: %q, %v, %v", tc.name, got, sealed, err)
		}
	}
	for at := range under16 {
		b := bytes.Clone(under16)
		b[at] ^= 4
		if _, _, err := OpenState(b, key(16), StateKey{}); err == nil {
			t.Errorf("octet %d flipped, and it opens", at)
		}
	}
}
