package pkcs11

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/vouchsafe/vouchsafe/internal/secret"
)

// Attributes (PKCS#11, 4), with the form that p11-kit writes them in.
const (
	ckaClass              = 0x00
	ckaLabel              = 0x03
	ckaValue              = 0x11
	ckaKeyType            = 0x100
	ckaID                 = 0x102
	ckaModulus            = 0x120
	ckaPublicExponent     = 0x122
	ckaECParams           = 0x180
	ckaECPoint            = 0x181
	ckaAlwaysAuthenticate = 0x202
)

type attribute struct {
	typ   uint32
	ulong uint64
	value []byte
}

func (a attribute) isUlong() bool { return a.typ == ckaClass || a.typ == ckaKeyType }
func (a attribute) isBool() bool  { return a.typ == ckaAlwaysAuthenticate }

// Classes, key types, mechanisms, users.
const (
	ckoCertificate = 1
	ckoPublicKey   = 2
	ckoPrivateKey  = 3
	ckkRSA         = 0
	ckkEC          = 3
	ckmRSAPKCS     = 0x1
	ckmECDSA       = 0x1041
	ckuUser        = 1
	ckuContext     = 2

	ckfLoginRequired    = 0x4
	ckfTokenInitialized = 0x400

	ckfSerialSession = 0x4
)

// Limits of what a library may list.
const (
	maxSlots   = 256
	maxObjects = 64
)

var (
	// ErrNoToken means that no token fits the URI. It is not plugged in, or its
	// name is another one: p11-kit list-modules shows what there is.
	ErrNoToken = errors.New("no token fits the URI")
	// ErrManyTokens means that the URI fits several tokens: name one by its serial number.
	ErrManyTokens = errors.New("several tokens fit the URI")
	// ErrNoKey means that the token has no such private key.
	ErrNoKey = errors.New("the token has no private key that fits the URI")
	// ErrManyKeys means that several keys fit: name one by its id, too.
	ErrManyKeys = errors.New("several private keys fit the URI")
)

// Key is a private key in a token. It is a crypto.Signer, for one goroutine at a time.
type Key struct {
	c       *conn
	session uint64
	handle  uint64
	public  crypto.PublicKey
	pin     secret.Bytes // kept only for keys that want it each time
}

// PIN is asked for the token's PIN, at most once.
type PIN func(token string) (secret.Bytes, error)

// Open finds the key over rw, a pipe to "p11-kit remote", and logs in. The public
// key comes from the token; where that has none, it is public, which may be nil.
func Open(rw io.ReadWriter, u *URI, pin PIN, public crypto.PublicKey) (*Key, error) {
	c, err := dial(rw)
	if err != nil {
		return nil, fmt.Errorf("speaking with p11-kit: %w", err)
	}
	k := &Key{c: c}
	if err := k.open(u, pin, public); err != nil {
		return nil, fmt.Errorf("opening the key behind PKCS#11: %w", err)
	}
	return k, nil
}

func (k *Key) open(u *URI, pin PIN, public crypto.PublicKey) error {
	m := new(message).bytes([]byte(handshake)).byte(0).bytes([]byte{0})
	if _, err := k.done(callInitialize, m); err != nil {
		return err
	}
	slot, label, flags, err := k.token(u)
	if err != nil {
		return err
	}
	answer, err := k.c.call(callOpenSession, new(message).ulong(slot).ulong(ckfSerialSession))
	if err != nil {
		return err
	}
	k.session = answer.readUlong()
	if err := answer.end(); err != nil {
		return err
	}
	if flags&ckfLoginRequired != 0 {
		if k.pin, err = pin(label); err != nil {
			return err
		}
		if err := k.login(ckuUser); err != nil {
			return err
		}
	}
	want := []attribute{{typ: ckaClass, ulong: ckoPrivateKey}}
	if u.Object != "" {
		want = append(want, attribute{typ: ckaLabel, value: []byte(u.Object)})
	}
	if u.ID != nil {
		want = append(want, attribute{typ: ckaID, value: u.ID})
	}
	found, err := k.find(want)
	switch {
	case err != nil:
		return err
	case len(found) == 0:
		return ErrNoKey
	case len(found) > 1:
		return k.many(found)
	}
	k.handle = found[0]
	as, err := k.attributes(k.handle, ckaID, ckaKeyType, ckaModulus, ckaPublicExponent, ckaECParams, ckaECPoint, ckaAlwaysAuthenticate)
	if err != nil {
		return err
	}
	if a := as[ckaAlwaysAuthenticate].value; len(a) == 0 || a[0] == 0 {
		k.pin.Erase()
		k.pin = secret.Bytes{}
	}
	k.public, err = k.findPublic(as, public)
	return err
}

// token finds the one slot whose token fits.
func (k *Key) token(u *URI) (slot uint64, label string, flags uint64, err error) {
	answer, err := k.c.call(callGetSlotList, new(message).byte(1).room("fu", maxSlots))
	if err != nil {
		return 0, "", 0, err
	}
	slots := answer.readUlongs()
	if err := answer.end(); err != nil {
		return 0, "", 0, err
	}
	n := 0
	for _, s := range slots[:min(len(slots), maxSlots)] {
		answer, err := k.c.call(callGetTokenInfo, new(message).ulong(s))
		if err != nil {
			continue // taken out, or never initialised
		}
		l, maker, model, serial := answer.readText(), answer.readText(), answer.readText(), answer.readText()
		f := answer.readUlong()
		if answer.err != nil { // counters, versions and a clock follow
			return 0, "", 0, answer.err
		}
		fits := func(want, got string) bool { return want == "" || want == got }
		if f&ckfTokenInitialized != 0 && fits(u.Token, l) && fits(u.Manufacturer, maker) && fits(u.Model, model) && fits(u.Serial, serial) {
			slot, label, flags = s, l, f
			n++
		}
	}
	switch {
	case n == 0:
		return 0, "", 0, ErrNoToken
	case n > 1:
		return 0, "", 0, ErrManyTokens
	}
	return slot, label, flags, nil
}

func (k *Key) login(user uint64) error {
	_, err := k.done(callLogin, new(message).ulong(k.session).ulong(user).bytes(k.pin.Reveal()))
	if err == Error(0x100) { // CKR_USER_ALREADY_LOGGED_IN
		return nil
	}
	return err
}

func (k *Key) find(want []attribute) ([]uint64, error) {
	if _, err := k.done(callFindObjectsInit, new(message).ulong(k.session).matching(want)); err != nil {
		return nil, err
	}
	answer, err := k.c.call(callFindObjects, new(message).ulong(k.session).room("fu", maxObjects))
	if err != nil {
		return nil, err
	}
	found := answer.readUlongs()
	if err := answer.end(); err != nil {
		return nil, err
	}
	_, err = k.done(callFindObjectsEnd, new(message).ulong(k.session))
	return found, err
}

// many says how the keys that fit can be told apart.
func (k *Key) many(found []uint64) error {
	var ids []string
	for _, h := range found[:min(len(found), 8)] {
		as, err := k.attributes(h, ckaID)
		if err != nil {
			return err
		}
		id := ""
		for _, b := range as[ckaID].value {
			id += fmt.Sprintf("%%%02x", b)
		}
		ids = append(ids, "id="+id)
	}
	return fmt.Errorf("%w: %q", ErrManyKeys, ids)
}

func (k *Key) attributes(handle uint64, types ...uint32) (map[uint32]attribute, error) {
	answer, err := k.c.call(callGetAttribute, new(message).ulong(k.session).ulong(handle).asking(types))
	if err != nil {
		return nil, err
	}
	as := answer.readAttributes()
	answer.readUlong() // CKR_ATTRIBUTE_TYPE_INVALID when one is missing
	return as, answer.end()
}

// findPublic takes the public key from the private one's attributes, from a
// public key or a certificate of the same id, or believes the caller.
func (k *Key) findPublic(private map[uint32]attribute, public crypto.PublicKey) (crypto.PublicKey, error) {
	if pub, err := publicOf(private); err == nil {
		return pub, nil
	}
	if id := private[ckaID].value; len(id) > 0 {
		for _, class := range []uint64{ckoPublicKey, ckoCertificate} {
			found, err := k.find([]attribute{{typ: ckaClass, ulong: class}, {typ: ckaID, value: id}})
			if err != nil {
				return nil, err
			}
			for _, h := range found {
				as, err := k.attributes(h, ckaKeyType, ckaModulus, ckaPublicExponent, ckaECParams, ckaECPoint, ckaValue)
				if err != nil {
					continue
				}
				if pub, err := publicOf(as); err == nil {
					return pub, nil
				}
				if c, err := x509.ParseCertificate(as[ckaValue].value); err == nil {
					return c.PublicKey, nil
				}
			}
		}
	}
	if public == nil {
		return nil, errors.New("the token has no public key or certificate beside the private key")
	}
	return public, nil
}

func publicOf(as map[uint32]attribute) (crypto.PublicKey, error) {
	kind, ok := as[ckaKeyType]
	switch {
	case ok && kind.ulong == ckkRSA && len(as[ckaModulus].value) > 0 && len(as[ckaPublicExponent].value) > 0:
		e := new(big.Int).SetBytes(as[ckaPublicExponent].value)
		if !e.IsInt64() || e.Int64() > 1<<31-1 {
			return nil, errors.New("an RSA exponent over 31 bits")
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(as[ckaModulus].value), E: int(e.Int64())}, nil
	case ok && kind.ulong == ckkEC && len(as[ckaECPoint].value) > 0:
		curve := curveOf(as[ckaECParams].value)
		point := as[ckaECPoint].value
		var inner []byte // PKCS#11, 2.3.3 wants the point in an OCTET STRING; not all do so
		if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
			point = inner
		}
		if curve == nil {
			return nil, errors.New("a curve that is neither P-256 nor P-384")
		}
		return ecdsa.ParseUncompressedPublicKey(curve, point)
	}
	return nil, errors.New("no public key")
}

func curveOf(params []byte) elliptic.Curve {
	var oid asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(params, &oid); err != nil || len(rest) > 0 {
		return nil
	}
	switch {
	case oid.Equal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}):
		return elliptic.P256()
	case oid.Equal(asn1.ObjectIdentifier{1, 3, 132, 0, 34}):
		return elliptic.P384()
	}
	return nil
}

// done is a call without results.
func (k *Key) done(number uint32, m *message) (*message, error) {
	answer, err := k.c.call(number, m)
	if err != nil {
		return nil, err
	}
	return answer, answer.end()
}

// Public implements crypto.Signer.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Sign implements crypto.Signer: PKCS #1 v1.5 with RSA, DER with ECDSA. The token
// takes its own randomness; the reader is not used.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := k.sign(digest, opts)
	if err != nil {
		return nil, fmt.Errorf("signing behind PKCS#11: %w", err)
	}
	return sig, nil
}

func (k *Key) sign(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if h := opts.HashFunc(); h == 0 || len(digest) != h.Size() {
		return nil, errors.New("only digests are signed")
	}
	mechanism, data := uint32(ckmECDSA), digest
	if _, ok := k.public.(*rsa.PublicKey); ok {
		if _, pss := opts.(*rsa.PSSOptions); pss {
			return nil, errors.New("RSA-PSS is not done here")
		}
		prefix := digestInfo[opts.HashFunc()]
		if prefix == nil {
			return nil, fmt.Errorf("no signature with %v", opts.HashFunc())
		}
		mechanism, data = ckmRSAPKCS, append(bytes.Clone(prefix), digest...)
	}
	if _, err := k.done(callSignInit, new(message).ulong(k.session).mechanism(mechanism).ulong(k.handle)); err != nil {
		return nil, err
	}
	if k.pin.Len() > 0 {
		if err := k.login(ckuContext); err != nil {
			return nil, err
		}
	}
	answer, err := k.c.call(callSign, new(message).ulong(k.session).bytes(data).room("fy", 1024))
	if err != nil {
		return nil, err
	}
	sig := answer.readBytes()
	if err := answer.end(); err != nil {
		return nil, err
	}
	if mechanism == ckmRSAPKCS {
		return sig, nil
	}
	// PKCS#11, 2.3.1: r and s, one after the other, of equal length.
	if len(sig) == 0 || len(sig)%2 != 0 {
		return nil, fmt.Errorf("the token's signature has %d bytes", len(sig))
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:len(sig)/2]), new(big.Int).SetBytes(sig[len(sig)/2:])})
}

// digestInfo is what stands before a digest (RFC 8017, 9.2, note 1).
var digestInfo = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// Close ends the library's use; the caller closes the pipe.
func (k *Key) Close() error {
	k.pin.Erase()
	_, err := k.done(callFinalize, nil)
	return err
}
