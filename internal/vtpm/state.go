package vtpm

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/vouchsafe/vouchsafe/internal/derive"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/xaes"
)

// The sealed state file, docs/formats/state.md: a header of 40 bytes in clear
// and a body that the header protects. The functions here go from bytes to
// bytes; dir.go has the files.
const (
	stateMagic   = "vouchtpm"
	stateVersion = 1
	headerSize   = 40
	// maxState bounds a state file: 128 KiB of NV space, 64 sessions and a few
	// objects in RAM are far below it, and it is what the control channel takes.
	maxState = 512 << 10

	// passphraseRounds is OWASP's figure for PBKDF2-HMAC-SHA-256 (2023).
	passphraseRounds = 600_000
)

// kind says what a state file holds.
type kind uint8

const (
	permanent kind = 1
	volatile  kind = 2
)

// protection says how a body is kept.
type protection uint8

const (
	plain        protection = 0 // in clear, with a SHA-256 against accidents only
	byKey        protection = 1 // a box (docs/formats/envelope.md), key by HKDF from a key
	byPassphrase protection = 2 // a box, key by PBKDF2 and HKDF from a passphrase
)

// ID names one vTPM for its whole life. It is random and no secret.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// header is what every state file says about itself in clear.
type header struct {
	kind       kind
	protection protection
	bodySize   uint32
	id         ID
	generation uint64 // of the permanent state; a volatile state names the one it belongs to
}

func (h header) encode() []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, stateMagic...)
	b = binary.BigEndian.AppendUint16(b, stateVersion)
	b = append(b, byte(h.kind), byte(h.protection))
	b = binary.BigEndian.AppendUint32(b, h.bodySize)
	b = append(b, h.id[:]...)
	return binary.BigEndian.AppendUint64(b, h.generation)
}

// split takes a state file apart. It trusts nothing: what it accepts has
// exactly one encoding.
func split(file []byte) (header, []byte, error) {
	var h header
	switch {
	case len(file) < headerSize:
		return h, nil, fmt.Errorf("%d bytes are no header of %d", len(file), headerSize)
	case len(file) > headerSize+maxState:
		return h, nil, fmt.Errorf("%d bytes are beyond the limit of %d", len(file), headerSize+maxState)
	case string(file[:8]) != stateMagic:
		return h, nil, fmt.Errorf("it starts with %q, not with %q", file[:8], stateMagic)
	}
	if v := binary.BigEndian.Uint16(file[8:]); v != stateVersion {
		return h, nil, versionError(v)
	}
	h.kind, h.protection = kind(file[10]), protection(file[11])
	h.bodySize = binary.BigEndian.Uint32(file[12:])
	copy(h.id[:], file[16:])
	h.generation = binary.BigEndian.Uint64(file[32:])
	body := file[headerSize:]
	switch {
	case h.kind != permanent && h.kind != volatile:
		return h, nil, fmt.Errorf("its kind is %d", h.kind)
	case h.protection > byPassphrase:
		return h, nil, fmt.Errorf("its protection is %d", h.protection)
	case uint64(h.bodySize) != uint64(len(body)):
		return h, nil, fmt.Errorf("its body has %d bytes, not the %d it names", len(body), h.bodySize)
	case len(body) < h.overhead():
		return h, nil, fmt.Errorf("its body of %d bytes is too short", len(body))
	}
	return h, body, nil
}

// versionError is a state file of a format that this program does not know.
type versionError uint16

func (v versionError) Error() string { return fmt.Sprintf("its format version is %d", uint16(v)) }

func (h header) overhead() int {
	if h.protection == plain {
		return sha256.Size
	}
	return xaes.BoxOverhead
}

// Key protects a state file. The zero Key protects nothing.
type Key struct {
	// Secret is a random key of 16 bytes or more, or a passphrase.
	Secret secret.Bytes
	// Passphrase says that people may have chosen Secret.
	Passphrase bool
}

func (k Key) none() bool { return k.Secret.Len() == 0 }

func (k Key) protection() protection {
	switch {
	case k.none():
		return plain
	case k.Passphrase:
		return byPassphrase
	}
	return byKey
}

// box derives what seals the state of the vTPM id.
func (k Key) box(id ID) (*xaes.Box, error) {
	in := k.Secret
	if k.Passphrase {
		stretched, err := pbkdf2.Key(sha256.New, string(k.Secret.Reveal()), id[:], passphraseRounds, xaes.KeySize)
		if err != nil {
			return nil, fmt.Errorf("stretching the passphrase: %w", err)
		}
		in = secret.New(stretched)
		defer in.Erase()
	}
	if in.Len() < derive.MinInput {
		return nil, fmt.Errorf("a state key has %d bytes or more, this one %d", derive.MinInput, in.Len())
	}
	key := derive.Key(in, derive.VTPMState, xaes.KeySize, string(id[:]))
	defer key.Erase()
	return xaes.NewBox(key), nil
}

// join makes a state file. box is nil when p is plain.
func join(k kind, p protection, id ID, generation uint64, state []byte, box *xaes.Box) ([]byte, error) {
	h := header{kind: k, protection: p, id: id, generation: generation}
	size := len(state) + h.overhead()
	if size > maxState {
		return nil, fmt.Errorf("a state of %d bytes is beyond the limit of %d", len(state), maxState)
	}
	h.bodySize = uint32(size)
	head := h.encode()
	if p == plain {
		file := append(head, state...)
		sum := sha256.Sum256(file)
		return append(file, sum[:]...), nil
	}
	return append(head, box.Seal(state, head)...), nil
}

// open returns the state in a body that split returned.
func (h header) open(body []byte, box *xaes.Box) ([]byte, error) {
	if h.protection != plain {
		return box.Open(body, h.encode())
	}
	at := len(body) - sha256.Size
	sum := sha256.Sum256(append(h.encode(), body[:at]...))
	if !bytes.Equal(sum[:], body[at:]) {
		return nil, errDamaged
	}
	return body[:at], nil
}

var errDamaged = errors.New("its check value does not match its content")
