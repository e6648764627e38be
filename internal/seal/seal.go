// Package seal keeps the root key: 32 bytes that every other key of the
// service hangs from. It is never stored bare. Every enabled tier (a TPM, an
// HSM, a cloud's KMS, a key file) wraps the same root key for itself, and any
// one of them opens it, so losing a tier is not losing the data.
//
// It is not for other keys: those belong to package keyring. The software tier
// is here; each other tier has a package of its own below this one.
//
// Begin with [Seal] and [Sealed.Open]. docs/formats/keyring.md has the bytes.
package seal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/secret"
)

// RootKeySize is the length of the root key.
const RootKeySize = 32

// maxSealed bounds the sealed file: 16 tiers of at most 16 KiB each, in base64.
const maxSealed = 512 << 10

// Tier is one way of wrapping the root key.
type Tier interface {
	// Name says which tier it is, and which key of that tier: "software 3f9c…".
	// It is written into the sealed file and never changes for one key.
	Name() string
	// Wrap and Unwrap bind aad to what they wrap.
	Wrap(ctx context.Context, key secret.Bytes, aad []byte) ([]byte, error)
	Unwrap(ctx context.Context, wrapped, aad []byte) (secret.Bytes, error)
}

// Sealed is the root key as it lies on disk.
type Sealed struct {
	Format  string    `json:"format"`
	Service string    `json:"service"` // which service's root key this is
	Created time.Time `json:"created"`
	Wraps   []Wrap    `json:"wraps"` // one for each tier
}

// Wrap is the root key as one tier wrapped it.
type Wrap struct {
	Tier string `json:"tier"`
	Blob []byte `json:"blob"`
}

const format = "vouchsafe-sealed-root-v1"

// ErrNoTier means that none of the tiers at hand opens the root key. The
// service must not start, and must above all not make a new root key.
var ErrNoTier = errors.New("no tier opens the root key")

// Seal wraps root for every tier.
func Seal(ctx context.Context, service string, root secret.Bytes, now time.Time, tiers ...Tier) (Sealed, error) {
	if root.Len() != RootKeySize {
		return Sealed{}, fmt.Errorf("sealing the root key: it has %d bytes, not %d", root.Len(), RootKeySize)
	}
	if len(tiers) == 0 {
		return Sealed{}, errors.New("sealing the root key: no tier given")
	}
	s := Sealed{Format: format, Service: service, Created: now.UTC().Truncate(time.Second)}
	for _, t := range tiers {
		blob, err := t.Wrap(ctx, root, s.aad(t.Name()))
		if err != nil {
			return Sealed{}, fmt.Errorf("sealing the root key with %s: %w", t.Name(), err)
		}
		s.Wraps = append(s.Wraps, Wrap{t.Name(), blob})
	}
	return s, nil
}

// Open unwraps the root key with the first tier that can, and says which.
func (s Sealed) Open(ctx context.Context, tiers ...Tier) (root secret.Bytes, by string, err error) {
	var why []string
	for _, t := range tiers {
		root, err := s.openWith(ctx, t)
		if err == nil {
			return root, t.Name(), nil
		}
		why = append(why, fmt.Sprintf("%s: %v", t.Name(), err))
	}
	return secret.Bytes{}, "", fmt.Errorf("%w (%s)", ErrNoTier, strings.Join(why, "; "))
}

// Check opens the root key with every tier given and wants the same key from
// each. It returns a complaint for each tier that fails; a tier that holds no
// wrap is a complaint too.
func (s Sealed) Check(ctx context.Context, tiers ...Tier) []error {
	var first secret.Bytes
	var bad []error
	for _, t := range tiers {
		root, err := s.openWith(ctx, t)
		switch {
		case err != nil:
			bad = append(bad, fmt.Errorf("opening the root key with %s: %w", t.Name(), err))
		case first.Len() == 0:
			first = root
		case !first.Equal(root):
			bad = append(bad, fmt.Errorf("%s holds another root key than the first tier", t.Name()))
		}
	}
	return bad
}

func (s Sealed) openWith(ctx context.Context, t Tier) (secret.Bytes, error) {
	for _, w := range s.Wraps {
		if w.Tier != t.Name() {
			continue
		}
		root, err := t.Unwrap(ctx, w.Blob, s.aad(w.Tier))
		if err != nil {
			return secret.Bytes{}, err
		}
		if root.Len() != RootKeySize {
			return secret.Bytes{}, fmt.Errorf("it holds %d bytes, not %d", root.Len(), RootKeySize)
		}
		return root, nil
	}
	return secret.Bytes{}, errors.New("the root key was never wrapped for it")
}

// Has says whether the root key was wrapped for the tier of this name.
func (s Sealed) Has(tier string) bool {
	return slices.ContainsFunc(s.Wraps, func(w Wrap) bool { return w.Tier == tier })
}

// WithoutSoftware drops the wraps of all key files but the one of this name:
// what an old key file opened, it opens no more.
func (s Sealed) WithoutSoftware(but string) Sealed {
	s.Wraps = slices.DeleteFunc(slices.Clone(s.Wraps), func(w Wrap) bool { return strings.HasPrefix(w.Tier, softwareName) && w.Tier != but })
	return s
}

func (s Sealed) aad(tier string) []byte {
	return fmt.Appendf(nil, "%s\x00%s\x00%s", format, s.Service, tier)
}

// Marshal is the sealed file.
func (s Sealed) Marshal() []byte {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return append(b, '\n')
}

// Parse reads a sealed file.
func Parse(data []byte) (Sealed, error) {
	if len(data) > maxSealed {
		return Sealed{}, fmt.Errorf("reading the sealed root key: %d bytes are more than %d", len(data), maxSealed)
	}
	var s Sealed
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return Sealed{}, fmt.Errorf("reading the sealed root key: %w", err)
	}
	if s.Format != format {
		return Sealed{}, fmt.Errorf("reading the sealed root key: format %q is not %s", s.Format, format)
	}
	if len(s.Wraps) == 0 || len(s.Wraps) > 16 {
		return Sealed{}, fmt.Errorf("reading the sealed root key: %d wraps, want 1 to 16", len(s.Wraps))
	}
	return s, nil
}
