package seal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/vouchsafe/vouchsafe/internal/derive"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/xaes"
)

// Software is the tier of a key file that only its owner may read. Whoever
// copies the file and the state directory has everything: it is for machines
// without a TPM or an HSM, and for trying things out.
type Software struct {
	id  string
	box *xaes.Box
}

// NewSoftware makes the tier of a 32-byte key.
func NewSoftware(key secret.Bytes) (*Software, error) {
	if key.Len() != RootKeySize {
		return nil, fmt.Errorf("a software root key has %d bytes, not %d", RootKeySize, key.Len())
	}
	k := derive.Key(key, derive.RootWrap, xaes.KeySize)
	defer k.Erase()
	// The name is a digest of a derived key: it identifies, and gives nothing away.
	sum := sha256.Sum256(derive.Key(k, derive.BoxCommit, 32, "name").Reveal())
	return &Software{id: hex.EncodeToString(sum[:8]), box: xaes.NewBox(k)}, nil
}

// Name implements Tier.
func (s *Software) Name() string { return softwareName + s.id }

const softwareName = "software "

// Wrap implements Tier.
func (s *Software) Wrap(_ context.Context, key secret.Bytes, aad []byte) ([]byte, error) {
	return s.box.Seal(key.Reveal(), aad), nil
}

// Unwrap implements Tier.
func (s *Software) Unwrap(_ context.Context, wrapped, aad []byte) (secret.Bytes, error) {
	b, err := s.box.Open(wrapped, aad)
	return secret.New(b), err
}

// A key file is one line: the word, base64 of the key and of a checksum that
// tells a damaged file from a wrong one.
const keyFileWord = "vouchsafe-key-v1"

// MarshalKey is the text of a key file.
func MarshalKey(key secret.Bytes) secret.Bytes {
	sum := sha256.Sum256(key.Reveal())
	raw := append(append([]byte(nil), key.Reveal()...), sum[:4]...)
	defer clear(raw)
	return secret.New([]byte(keyFileWord + " " + base64.StdEncoding.EncodeToString(raw) + "\n"))
}

// ParseKey reads the text of a key file.
func ParseKey(text []byte) (secret.Bytes, error) {
	rest, ok := bytes.CutPrefix(text, []byte(keyFileWord+" "))
	line, ok2 := bytes.CutSuffix(rest, []byte("\n"))
	if !ok || !ok2 {
		return secret.Bytes{}, fmt.Errorf("this is no key file: it does not begin with %s and end with a line", keyFileWord)
	}
	raw, err := base64.StdEncoding.Strict().AppendDecode(nil, line)
	if err != nil || bytes.ContainsAny(line, "\r\n") {
		return secret.Bytes{}, errors.New("the key file is damaged: not base64")
	}
	if len(raw) != RootKeySize+4 {
		return secret.Bytes{}, fmt.Errorf("the key file is damaged: %d bytes, want %d", len(raw), RootKeySize+4)
	}
	if sum := sha256.Sum256(raw[:RootKeySize]); !bytes.Equal(sum[:4], raw[RootKeySize:]) {
		return secret.Bytes{}, errors.New("the key file is damaged: the checksum is wrong")
	}
	return secret.New(raw[:RootKeySize:RootKeySize]), nil
}

// WriteKeyFile creates a key file that only its owner may read. It never
// writes over one: a lost root key is lost data.
func WriteKeyFile(path string, key secret.Bytes) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("writing a key file: %w", err)
	}
	text := MarshalKey(key)
	defer text.Erase()
	_, err = f.Write(text.Reveal())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(path)
		return fmt.Errorf("writing a key file: %w", err)
	}
	return nil
}

// ErrKeyFileOpen means that others may read or replace the key file. The key
// has to be taken for known: tighten the file, then rotate.
var ErrKeyFileOpen = errors.New("others than its owner may read or write it")

// ReadKeyFile reads a key file, and refuses one that others could have read,
// that belongs to somebody else, or that is no plain file.
func ReadKeyFile(path string) (secret.Bytes, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("reading the key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("reading the key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return secret.Bytes{}, fmt.Errorf("reading the key file %s: it is no plain file", path)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if info.Mode().Perm()&0o077 != 0 || ok && st.Uid != uint32(os.Geteuid()) && st.Uid != 0 {
		return secret.Bytes{}, fmt.Errorf("reading the key file %s (mode %04o): %w", path, info.Mode().Perm(), ErrKeyFileOpen)
	}
	text, err := io.ReadAll(io.LimitReader(f, 256))
	defer clear(text)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("reading the key file: %w", err)
	}
	key, err := ParseKey(text)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return key, nil
}
