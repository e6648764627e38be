package keyring

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha3"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"

	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/xaes"
)

// Limits of what one envelope carries: keys and small records, not files.
const (
	MaxMessage = 1 << 20 // sealed and opened whole, in memory
	MaxContext = 1<<16 - 1
)

const (
	magicEnvelope = "VSE1"
	magicMAC      = "VSM1"
	algXAES       = 1
	algHMAC       = 1 // HMAC-SHA3-256
	headerSize    = 4 + 1 + 16 + 4
	macSize       = 32
)

// ErrClass means that a key of one class was used as another.
var ErrClass = errors.New("the key is of another class")

// ErrOpen means that an envelope does not open or a MAC does not hold: another
// tenant, key or context, or changed bytes.
var ErrOpen = xaes.ErrOpen

// Opened is a key ready for use. It is safe for concurrent use; keep it for a
// short time.
type Opened struct {
	key      Key
	boxes    map[uint32]*xaes.Box
	material map[uint32]secret.Bytes
}

// Open unwraps all versions of a key.
func (r *Ring) Open(k Key) (*Opened, error) {
	o := &Opened{key: k, boxes: map[uint32]*xaes.Box{}, material: map[uint32]secret.Bytes{}}
	for _, v := range k.Versions {
		s, err := r.Unwrap(k.Tenant, k.ID, versionLabel(k.Class, v.N), v.Wrapped)
		if err != nil {
			return nil, fmt.Errorf("opening version %d of key %s: %w", v.N, k.ID, err)
		}
		if k.Class == Encryption {
			if s.Len() != xaes.KeySize {
				return nil, fmt.Errorf("opening version %d of key %s: it has %d bytes", v.N, k.ID, s.Len())
			}
			o.boxes[v.N] = xaes.NewBox(s)
			s.Erase()
			continue
		}
		o.material[v.N] = s
	}
	if _, ok := k.Find(k.Primary); !ok {
		return nil, fmt.Errorf("opening key %s: primary version %d: %w", k.ID, k.Primary, ErrNoVersion)
	}
	return o, nil
}

// Encrypt seals message under the primary version. context must be given again
// to open; it is authenticated and not part of the envelope.
func (o *Opened) Encrypt(message, context []byte) ([]byte, error) {
	if o.key.Class != Encryption {
		return nil, fmt.Errorf("encrypting with %s: %w", o.key.Name, ErrClass)
	}
	if len(message) > MaxMessage || len(context) > MaxContext {
		return nil, fmt.Errorf("encrypting with %s: a message has at most %d bytes, a context %d", o.key.Name, MaxMessage, MaxContext)
	}
	head := header(magicEnvelope, algXAES, o.key.ID, o.key.Primary)
	return append(head, o.boxes[o.key.Primary].Seal(message, o.bind(head, context))...), nil
}

// Decrypt opens an envelope with the version that it names.
func (o *Opened) Decrypt(envelope, context []byte) ([]byte, error) {
	if o.key.Class != Encryption {
		return nil, fmt.Errorf("decrypting with %s: %w", o.key.Name, ErrClass)
	}
	if len(envelope) > headerSize+MaxMessage+xaes.BoxOverhead || len(context) > MaxContext {
		return nil, ErrOpen
	}
	h, err := ParseHeader(envelope)
	if err != nil {
		return nil, err
	}
	if h.magic != magicEnvelope || h.Key != o.key.ID {
		return nil, ErrOpen
	}
	box, ok := o.boxes[h.Version]
	if !ok {
		return nil, fmt.Errorf("version %d of key %s: %w", h.Version, h.Key, ErrNoVersion)
	}
	return box.Open(envelope[headerSize:], o.bind(envelope[:headerSize], context))
}

// MAC authenticates message: header || HMAC-SHA3-256.
func (o *Opened) MAC(message, context []byte) ([]byte, error) {
	if o.key.Class != Access {
		return nil, fmt.Errorf("authenticating with %s: %w", o.key.Name, ErrClass)
	}
	if len(context) > MaxContext {
		return nil, fmt.Errorf("authenticating with %s: a context has at most %d bytes", o.key.Name, MaxContext)
	}
	head := header(magicMAC, algHMAC, o.key.ID, o.key.Primary)
	return append(head, o.mac(o.key.Primary, head, message, context)...), nil
}

// VerifyMAC checks what MAC made.
func (o *Opened) VerifyMAC(tag, message, context []byte) error {
	if o.key.Class != Access {
		return fmt.Errorf("authenticating with %s: %w", o.key.Name, ErrClass)
	}
	h, err := ParseHeader(tag)
	if err != nil {
		return err
	}
	if h.magic != magicMAC || h.Key != o.key.ID || len(tag) != headerSize+macSize || len(context) > MaxContext {
		return ErrOpen
	}
	if o.material[h.Version].Len() == 0 {
		return fmt.Errorf("version %d of key %s: %w", h.Version, h.Key, ErrNoVersion)
	}
	if !hmac.Equal(tag[headerSize:], o.mac(h.Version, tag[:headerSize], message, context)) {
		return ErrOpen
	}
	return nil
}

func (o *Opened) mac(version uint32, head, message, context []byte) []byte {
	m := hmac.New(func() hash.Hash { return sha3.New256() }, o.material[version].Reveal())
	bound := o.bind(head, nil)
	m.Write(bound)
	m.Write(binary.BigEndian.AppendUint16(nil, uint16(len(context))))
	m.Write(context)
	m.Write(message)
	return m.Sum(nil)
}

// Signer returns the private key of one version of an identity or a module key; 0
// is the primary.
func (o *Opened) Signer(version uint32) (crypto.Signer, error) {
	if o.key.Class != Identity && o.key.Class != Module {
		return nil, fmt.Errorf("signing with %s: %w", o.key.Name, ErrClass)
	}
	if version == 0 {
		version = o.key.Primary
	}
	s := o.material[version]
	if s.Len() == 0 {
		return nil, fmt.Errorf("version %d of key %s: %w", version, o.key.ID, ErrNoVersion)
	}
	priv, err := x509.ParsePKCS8PrivateKey(s.Reveal())
	if err != nil {
		return nil, fmt.Errorf("reading version %d of key %s: %w", version, o.key.ID, err)
	}
	switch priv := priv.(type) {
	case *ecdsa.PrivateKey:
		if priv.Curve == elliptic.P384() {
			return priv, nil
		}
	case *rsa.PrivateKey:
		if o.key.Class == Module {
			return priv, nil
		}
	}
	return nil, fmt.Errorf("reading version %d of key %s: it is no key of class %s", version, o.key.ID, o.key.Class)
}

// bind is the additional data: header, tenant behind its length, context.
func (o *Opened) bind(head, context []byte) []byte {
	aad := make([]byte, 0, len(head)+2+len(o.key.Tenant)+len(context))
	aad = append(aad, head...)
	aad = binary.BigEndian.AppendUint16(aad, uint16(len(o.key.Tenant)))
	aad = append(aad, o.key.Tenant...)
	return append(aad, context...)
}

// Header is the readable front of an envelope or a MAC: which key it wants.
type Header struct {
	Key     ID
	Version uint32
	magic   string
}

// ParseHeader reads which key and version an envelope or a MAC was made with.
// Nothing in it is authenticated yet.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < headerSize {
		return Header{}, fmt.Errorf("reading an envelope: %d bytes are too few", len(b))
	}
	h := Header{magic: string(b[:4]), Key: ID(b[5:21]), Version: binary.BigEndian.Uint32(b[21:25])}
	if h.magic != magicEnvelope && h.magic != magicMAC || b[4] != 1 {
		return Header{}, errors.New("reading an envelope: its magic or algorithm is unknown")
	}
	if h.Version == 0 {
		return Header{}, errors.New("reading an envelope: there is no version 0")
	}
	return h, nil
}

func header(magic string, alg byte, id ID, version uint32) []byte {
	b := append([]byte(magic), alg)
	b = append(b, id[:]...)
	return binary.BigEndian.AppendUint32(b, version)
}
