// Package keyring keeps versioned keys in four classes: encryption
// (XAES-256-GCM envelopes), identity (ECDSA P-384), access (HMAC-SHA3-256) and
// module (RSA or ECDSA P-384, for kernel modules).
// A key has one primary version, which seals, signs and authenticates, and up
// to three historic ones, which still open and verify.
//
// A [Key] is a value that is safe to store: its versions are wrapped under the
// root key by the [Ring]. The functions here take keys and give keys back;
// who stores them, and who may use them, is decided elsewhere.
//
// Begin with [Ring.Create], [Ring.Rotate] and [Ring.Open]; rewrap.go is for a new
// root key. The bytes are in docs/formats/envelope.md and keyring.md.
package keyring

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/derive"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/xaes"
)

// Class is what a key is for. A key never changes its class.
type Class string

const (
	Encryption Class = "encryption" // AES-256, used as XAES-256-GCM
	Identity   Class = "identity"   // ECDSA P-384
	Access     Class = "access"     // HMAC-SHA3-256
	Module     Class = "module"     // RSA or P-384: what Linux kernels verify modules with
)

// Historic is how many versions before the primary one a key keeps.
const Historic = 3

// ID names a key for ever.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(text []byte) error {
	got, err := ParseID(string(text))
	*id = got
	return err
}

// ParseID reads the 32 hexadecimal digits of a key id.
func ParseID(s string) (ID, error) {
	var id ID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%q is no key id: 32 hexadecimal digits", s)
	}
	return ID(b), nil
}

// Policy says when a key is rotated.
type Policy struct {
	// Every is the longest that a version may be primary. Zero: only on request
	// and when the policy changes.
	Every time.Duration `json:"every"`
}

// DefaultPolicy is 90 days for encryption, 180 for identities, and for access
// keys whenever who may do what changes.
func DefaultPolicy(c Class) Policy {
	const day = 24 * time.Hour
	switch c {
	case Encryption:
		return Policy{Every: 90 * day}
	case Identity:
		return Policy{Every: 180 * day}
	case Module:
		return Policy{} // the certificate says how long
	}
	return Policy{}
}

// Key is a key as it is stored: nothing in it opens without the Ring.
type Key struct {
	Tenant   string
	ID       ID
	Name     string
	Class    Class
	Policy   Policy
	Primary  uint32    // the version in use; the newest one unless rolled back
	Last     uint32    // the highest version ever made; numbers are not reused
	Since    time.Time // when Primary became primary
	Versions []Version // oldest first, at most 1+Historic
}

// Version is one version's material, wrapped.
type Version struct {
	N       uint32
	Created time.Time
	Wrapped []byte
}

// Find returns version n.
func (k Key) Find(n uint32) (Version, bool) {
	i := slices.IndexFunc(k.Versions, func(v Version) bool { return v.N == n })
	if i < 0 {
		return Version{}, false
	}
	return k.Versions[i], true
}

// Due says why the key should be rotated at now, or "".
func (k Key) Due(now time.Time) string {
	if k.Policy.Every > 0 && now.Sub(k.Since) >= k.Policy.Every {
		return fmt.Sprintf("version %d has been in use since %s, longer than %s", k.Primary, k.Since.UTC().Format(time.DateOnly), k.Policy.Every)
	}
	return ""
}

// ErrNoVersion means that the version asked for was never made or was dropped
// by rotation: what was sealed with it cannot be opened any more.
var ErrNoVersion = errors.New("the key has no such version")

// ErrVersionInUse means that a rotation would drop a version that something
// still needs. Seal those things anew first.
var ErrVersionInUse = errors.New("the oldest version is still in use")

// Ring wraps and unwraps keys under the root key. It is safe for concurrent use.
type Ring struct {
	root  secret.Bytes
	older []secret.Bytes // these only unwrap
}

// NewRing takes the root key that package seal opened. While the root key is
// being replaced, the one before it still unwraps what was not wrapped anew.
func NewRing(root secret.Bytes, older ...secret.Bytes) *Ring { return &Ring{root, older} }

// Create makes a key with one version.
func (r *Ring) Create(tenant, name string, class Class, p Policy, now time.Time) (Key, error) {
	material, err := generate(class)
	if err != nil {
		return Key{}, fmt.Errorf("making %s: %w", name, err)
	}
	return r.Adopt(tenant, name, class, p, material, now)
}

// Adopt makes a key with one version of material that was made elsewhere, and
// erases the material.
func (r *Ring) Adopt(tenant, name string, class Class, p Policy, material secret.Bytes, now time.Time) (Key, error) {
	k := Key{Tenant: tenant, Name: name, Class: class, Policy: p}
	rand.Read(k.ID[:])
	return r.add(k, material, now)
}

// Supersede makes material the only version of k and erases it: what a former
// version signed is verified with certificates, so its private key is of no
// more use to anybody but a thief.
func (r *Ring) Supersede(k Key, material secret.Bytes, now time.Time) (Key, error) {
	k, err := r.add(k, material, now)
	if err == nil {
		k.Versions = k.Versions[len(k.Versions)-1:]
	}
	return k, err
}

// Rotate makes a new primary version and drops what is older than the three
// before it. inUse says whether something still needs a version; dropping such
// a one is refused, and nil means that nothing is asked.
func (r *Ring) Rotate(k Key, now time.Time, inUse func(version uint32) bool) (rotated Key, dropped []uint32, err error) {
	material, err := generate(k.Class)
	if err != nil {
		return k, nil, fmt.Errorf("rotating %s: %w", k.Name, err)
	}
	rotated, err = r.add(k, material, now)
	if err != nil {
		return k, nil, err
	}
	for len(rotated.Versions) > 1+Historic {
		old := rotated.Versions[0].N
		if inUse != nil && inUse(old) {
			return k, nil, fmt.Errorf("rotating %s: version %d: %w", k.Name, old, ErrVersionInUse)
		}
		dropped = append(dropped, old)
		rotated.Versions = rotated.Versions[1:]
	}
	return rotated, dropped, nil
}

// RollBack makes an older version primary again. The newer ones stay, so
// nothing sealed meanwhile is lost; the next rotation goes on from the highest number.
func RollBack(k Key, version uint32, now time.Time) (Key, error) {
	if _, ok := k.Find(version); !ok {
		return k, fmt.Errorf("rolling %s back to version %d: %w", k.Name, version, ErrNoVersion)
	}
	k.Primary, k.Since = version, now
	return k, nil
}

func (r *Ring) add(k Key, material secret.Bytes, now time.Time) (Key, error) {
	defer material.Erase()
	if k.Last == 1<<32-1 {
		return k, fmt.Errorf("rotating %s: there are no version numbers left", k.Name)
	}
	k.Last++
	k.Primary, k.Since = k.Last, now
	v := Version{N: k.Last, Created: now, Wrapped: r.Wrap(k.Tenant, k.ID, versionLabel(k.Class, k.Last), material)}
	k.Versions = append(slices.Clone(k.Versions), v)
	return k, nil
}

func generate(c Class) (secret.Bytes, error) {
	switch c {
	case Encryption, Access:
		return secret.Random(32), nil
	case Identity:
		priv, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			return secret.Bytes{}, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(priv)
		return secret.New(der), err
	}
	return secret.Bytes{}, fmt.Errorf("keys of class %q are not made here", c)
}

func versionLabel(c Class, n uint32) string {
	return "key " + string(c) + " " + string(binary.BigEndian.AppendUint32(nil, n))
}

// Wrap seals any small secret of a tenant under the root key, bound to its
// owner's id and to what it is: the versions of keys, the server share of a
// disk key, the state secret of a vTPM.
func (r *Ring) Wrap(tenant string, id ID, what string, s secret.Bytes) []byte {
	return box(r.root, tenant, id).Seal(s.Reveal(), []byte(what))
}

// Unwrap is the inverse of Wrap.
func (r *Ring) Unwrap(tenant string, id ID, what string, wrapped []byte) (secret.Bytes, error) {
	b, err := box(r.root, tenant, id).Open(wrapped, []byte(what))
	for i := 0; err != nil && i < len(r.older); i++ {
		b, err = box(r.older[i], tenant, id).Open(wrapped, []byte(what))
	}
	return secret.New(b), err
}

func box(root secret.Bytes, tenant string, id ID) *xaes.Box {
	k := derive.Key(root, derive.KeyringWrap, xaes.KeySize, tenant, id.String())
	defer k.Erase()
	return xaes.NewBox(k)
}
