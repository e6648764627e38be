package audit

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vouchsafe/vouchsafe/internal/derive"
	"github.com/vouchsafe/vouchsafe/internal/secret"
)

// maxCheckpoint bounds a signed note: three lines and a few signatures.
const maxCheckpoint = 8 << 10

// Signer signs the checkpoints of one log.
type Signer struct {
	origin   string
	signer   note.Signer
	verifier string
}

// NewSigner derives the signer of the log called origin from the root key.
func NewSigner(root secret.Bytes, origin string) (*Signer, error) {
	seed := SignerSeed(root, origin)
	defer seed.Erase()
	return SignerFromSeed(seed, origin)
}

// SignerSeed is what NewSigner signs with. It is kept by itself when the root
// key is replaced: the log's key is what the world knows the log by.
func SignerSeed(root secret.Bytes, origin string) secret.Bytes {
	return derive.Key(root, derive.AuditSign, ed25519.SeedSize, origin)
}

// SignerFromSeed makes the signer of the log called origin from its seed.
func SignerFromSeed(seed secret.Bytes, origin string) (*Signer, error) {
	if seed.Len() != ed25519.SeedSize {
		return nil, fmt.Errorf("making the audit log's key: a seed of %d bytes", seed.Len())
	}
	priv := ed25519.NewKeyFromSeed(seed.Reveal())
	defer clear(priv)
	// c2sp.org/signed-note: algorithm byte 1 is Ed25519.
	vkey, err := note.NewEd25519VerifierKey(origin, priv.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, fmt.Errorf("making the audit log's key: %w", err)
	}
	hash := strings.Split(vkey, "+")[1]
	skey := "PRIVATE+KEY+" + origin + "+" + hash + "+" + base64.StdEncoding.EncodeToString(append([]byte{1}, seed.Reveal()...))
	s, err := note.NewSigner(skey)
	if err != nil {
		return nil, fmt.Errorf("making the audit log's key: %w", err)
	}
	return &Signer{origin, s, vkey}, nil
}

// VerifierKey is the public key in the form of c2sp.org/signed-note. Keep a
// copy away from the machine.
func (s *Signer) VerifierKey() string { return s.verifier }

// Origin is the log's name.
func (s *Signer) Origin() string { return s.origin }

func (s *Signer) sign(c Checkpoint) ([]byte, error) {
	return note.Sign(&note.Note{Text: c.text()}, s.signer)
}

// Checkpoint is the state of the tree at one size.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   tlog.Hash
}

func (c Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// ParseCheckpoint verifies and reads a signed checkpoint.
func ParseCheckpoint(signed []byte, verifierKey string) (Checkpoint, error) {
	fail := func(err error) (Checkpoint, error) {
		return Checkpoint{}, fmt.Errorf("reading a checkpoint: %w", err)
	}
	if len(signed) > maxCheckpoint {
		return fail(fmt.Errorf("%d bytes, more than %d", len(signed), maxCheckpoint))
	}
	v, err := note.NewVerifier(strings.TrimSpace(verifierKey))
	if err != nil {
		return fail(fmt.Errorf("the verifier key: %w", err))
	}
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil {
		return fail(err)
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 { // three lines, each with its end; we write no extension lines
		return fail(fmt.Errorf("%d lines, want 3", len(lines)-1))
	}
	c := Checkpoint{Origin: lines[0]}
	c.Size, err = strconv.ParseInt(lines[1], 10, 64)
	if err != nil || c.Size < 0 || strconv.FormatInt(c.Size, 10) != lines[1] {
		return fail(fmt.Errorf("%q is no size", lines[1]))
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return fail(fmt.Errorf("%q is no root hash", lines[2]))
	}
	c.Root = tlog.Hash(root)
	if c.Origin != v.Name() {
		return fail(fmt.Errorf("it is of the log %q, its key of %q", c.Origin, v.Name()))
	}
	return c, nil
}
