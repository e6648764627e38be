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
// tlv.h; the format is that of swtpm 0.1 and later). What came before that had
// no tags: a blob in version 1 has the header and then the data, a file has not
// even the header.

const (
	stateHeader   = 10
	maxStateFile  = 1 << 20 // two layers of encryption around what SET_STATEBLOB may carry
	stateVersion  = 2
	stateFlag     = 1 << 0 // encrypted with the state key: said in blobs of version 1
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
	case binary.BigEndian.Uint16(b[2:]) != stateHeader: // a file from before 0.1, if anything
		if len(state.Secret) == 0 {
			return b, Sealed{}, nil
		}
		if content, err = openUntagged(b, state); err != nil {
			return fail(err)
		}
		return content, Sealed{State: true}, nil
	case b[1] > stateVersion:
		return fail(ErrStateNewer)
	case uint64(binary.BigEndian.Uint32(b[6:])) != uint64(len(b)):
		return fail(fmt.Errorf("it says it has %d octets, and has %d: it is cut or damaged", binary.BigEndian.Uint32(b[6:]), len(b)))
	}
	flags := binary.BigEndian.Uint16(b[4:])
	if b[0] < stateVersion {
		return openFirst(b[stateHeader:], flags, state, migration)
	}
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

// openFirst opens what follows the header of a blob in version 1.
func openFirst(b []byte, flags uint16, state, migration StateKey) (content []byte, sealed Sealed, err error) {
	sealed = Sealed{State: flags&stateFlag != 0, Migration: flags&migrationFlag != 0}
	if sealed.Migration {
		if b, err = openUntagged(b, migration); err != nil {
			return nil, Sealed{}, fmt.Errorf("the migration's encryption: %w", err)
		}
	}
	if sealed.State {
		if b, err = openUntagged(b, state); err != nil {
			return nil, Sealed{}, err
		}
	}
	return b, sealed, nil
}

// openUntagged verifies and decrypts as version 1 does: AES-CBC without an IV over
// SHA-256 of the data and the data. That keeps no attacker away who can guess what
// is in it; what is taken over is sealed anew, in our own form.
func openUntagged(c []byte, key StateKey) ([]byte, error) {
	if len(key.Secret) == 0 {
		return nil, ErrStateKeyMissing
	}
	if len(c) == 0 || len(c)%aes.BlockSize != 0 {
		return nil, errors.New("its encrypted data has no whole number of blocks")
	}
	for _, size := range []int{16, 32} { // it does not say which
		keys, err := key.keys(size)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			plain, err := decrypt(k, nil, c)
			if err != nil || len(plain) < sha256.Size {
				continue
			}
			if sum := sha256.Sum256(plain[sha256.Size:]); bytes.Equal(sum[:], plain[:sha256.Size]) {
				return plain[sha256.Size:], nil
			}
			clear(plain)
		}
	}
	return nil, ErrStateKeyWrong
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
// ciphertext and IV.
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
		return decrypt(k, t[iv], c)
	}
	return nil, ErrStateKeyWrong
}

// decrypt is AES-CBC over whole blocks. Of the IV, which has as many octets as
// the key when there is one, the first 16 count. Each octet of the padding is its
// length, up to the size of the key.
func decrypt(key, iv, c []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	start := make([]byte, aes.BlockSize)
	copy(start, iv)
	plain := make([]byte, len(c))
	cipher.NewCBCDecrypter(block, start).CryptBlocks(plain, c)
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > len(key) || pad > len(plain) || !bytes.Equal(plain[len(plain)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, errors.New("its padding is damaged")
	}
	return plain[:len(plain)-pad], nil
}
