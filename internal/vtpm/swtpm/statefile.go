package swtpm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
)

// What swtpm writes to its state files and hands out as state blobs: a header
// of ten octets, then data with tags, encrypted with AES-CBC under a key of the
// state or of migration, or both, one in the other (swtpm, swtpm_nvstore.c and
// tlv.h; the format is that of swtpm 0.1 and later).

const (
	stateHeader   = 10
	maxStateFile  = 1 << 20 // two layers of encryption around what SET_STATEBLOB may carry
	stateVersion  = 2
	migrationFlag = 1 << 1 // encrypted with the migration key
	stateBig      = 1 << 3 // … with a state key of 256 bits
	migrationBig  = 1 << 4 // … with a migration key of 256 bits
)

// Tags.
const (
	tagData               = 1
	tagEncrypted          = 2
	tagHMAC               = 3
	tagMigration          = 4
	tagEncryptedMigration = 5
	tagIV                 = 6
	tagMigrationIV        = 7
)

// Errors about a state file or blob of swtpm.
var (
	ErrStateKeyMissing = errors.New("it is encrypted, and no key was given")
	ErrStateKeyWrong   = errors.New("it does not open with the key that was given")
	ErrStateNewer      = errors.New("it was written by a newer swtpm than is known here")
)

// StateKey is a key as it was given to swtpm; the zero StateKey is none.
type StateKey struct {
	Secret     []byte // of 16 or 32 octets, or a passphrase
	Passphrase bool
}

// keys are those of so many octets that the secret can stand for. swtpm takes
// passphrases with whatever ends the file, and stretches them in one of two ways.
func (k StateKey) keys(size int) (list [][]byte, err error) {
	if !k.Passphrase {
		if len(k.Secret) != size {
			return nil, nil
		}
		return [][]byte{k.Secret}, nil
	}
	for _, text := range []string{string(k.Secret), string(k.Secret) + "\n"} {
		key, err := pbkdf2.Key(sha512.New, text, []byte("swtpm"), 1000, size)
		if err != nil {
			return nil, err
		}
		sum := sha512.Sum512([]byte(text))
		list = append(list, key, sum[:size])
	}
	return list, nil
}

// IsState reports whether a file or blob begins as swtpm's do.
func IsState(b []byte) bool {
	return len(b) >= stateHeader && b[0] >= 1 && b[0] < 16 && binary.BigEndian.Uint16(b[2:]) == stateHeader &&
		uint64(binary.BigEndian.Uint32(b[6:])) == uint64(len(b))
}

// Sealed says which keys protected a state.
type Sealed struct{ State, Migration bool }

// OpenState takes swtpm's envelope off a state file or blob, and says which keys
// protected what was in it. What is left is state of libtpms.
func OpenState(b []byte, state, migration StateKey) (content []byte, sealed Sealed, err error) {
	fail := func(err error) ([]byte, Sealed, error) { return nil, Sealed{}, err }
	switch {
	case len(b) < stateHeader:
		return fail(fmt.Errorf("%d octets are too short for a state of swtpm", len(b)))
	case len(b) > maxStateFile:
		return fail(fmt.Errorf("%d octets are more than any state of swtpm has", len(b)))
	case binary.BigEndian.Uint16(b[2:]) != stateHeader:
		return fail(errors.New("it does not begin as a state of swtpm"))
	case b[1] > stateVersion:
		return fail(ErrStateNewer)
	case b[0] < stateVersion:
		return fail(errors.New("it is of swtpm before 0.1, and never held a TPM 2.0 that this program can read"))
	case uint64(binary.BigEndian.Uint32(b[6:])) != uint64(len(b)):
		return fail(fmt.Errorf("it says it has %d octets, and has %d: it is cut or damaged", binary.BigEndian.Uint32(b[6:]), len(b)))
	}
	flags := binary.BigEndian.Uint16(b[4:])
	tags, err := readTags(b[stateHeader:])
	if err != nil {
		return fail(err)
	}
	inner, wrapped := tags[tagMigration]
	if flags&migrationFlag != 0 {
		if inner, err = tags.open(tagEncryptedMigration, tagMigrationIV, migration, flags&migrationBig != 0); err != nil {
			return fail(fmt.Errorf("the migration's encryption: %w", err))
		}
		sealed.Migration, wrapped = true, true
	}
	if wrapped { // a blob; a file begins here
		if tags, err = readTags(inner); err != nil {
			return fail(err)
		}
	}
	if content, ok := tags[tagData]; ok {
		return content, sealed, nil
	}
	if content, err = tags.open(tagEncrypted, tagIV, state, flags&stateBig != 0); err != nil {
		return fail(err)
	}
	sealed.State = true
	return content, sealed, nil
}

// tags are data by tag, each at most once.
type tags map[uint16][]byte

func readTags(b []byte) (tags, error) {
	t := tags{}
	for len(b) > 0 {
		if len(b) < 6 {
			return nil, errors.New("it ends within a tag")
		}
		tag, n := binary.BigEndian.Uint16(b), binary.BigEndian.Uint32(b[2:])
		if uint64(n) > uint64(len(b)-6) {
			return nil, fmt.Errorf("the data of tag %d is cut short", tag)
		}
		if _, twice := t[tag]; twice {
			return nil, fmt.Errorf("tag %d is there twice", tag)
		}
		t[tag] = b[6 : 6+n]
		b = b[6+n:]
	}
	return t, nil
}

// open verifies and decrypts: AES-CBC, and HMAC-SHA-256 under the same key over
// ciphertext and IV. The padding's every octet is its length, up to the size of the key.
func (t tags) open(data, iv uint16, key StateKey, big bool) ([]byte, error) {
	size := 16
	if big {
		size = 32
	}
	c, ok := t[data]
	switch {
	case !ok:
		return nil, errors.New("there is neither data nor encrypted data in it")
	case len(key.Secret) == 0:
		return nil, ErrStateKeyMissing
	case len(c) == 0 || len(c)%aes.BlockSize != 0 || len(t[iv]) != 0 && len(t[iv]) < aes.BlockSize:
		return nil, errors.New("its encrypted data has no whole number of blocks")
	}
	keys, err := key.keys(size)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		m := hmac.New(sha256.New, k)
		m.Write(c)
		m.Write(t[iv])
		if !hmac.Equal(m.Sum(nil), t[tagHMAC]) {
			continue
		}
		block, err := aes.NewCipher(k)
		if err != nil {
			return nil, err
		}
		start := make([]byte, aes.BlockSize)
		copy(start, t[iv]) // as many random octets as the key has; the first 16 count
		plain := make([]byte, len(c))
		cipher.NewCBCDecrypter(block, start).CryptBlocks(plain, c)
		pad := int(plain[len(plain)-1])
		if pad == 0 || pad > size || pad > len(plain) || !bytes.Equal(plain[len(plain)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
			return nil, errors.New("its padding is damaged")
		}
		return plain[:len(plain)-pad], nil
	}
	return nil, ErrStateKeyWrong
}
