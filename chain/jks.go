package chain

import (
	"bytes"
	"crypto/sha1"
	"crypto/subtle"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf16"
)

// Java's own keystores, JKS and JCEKS, have no specification but Java's source:
// a header, entries of keys with their chains and of trusted certificates, and
// a digest with the password over all of it. JCEKS differs in the magic and in
// how it encrypts keys.

const (
	magicJKS   = 0xFEEDFEED
	magicJCEKS = 0xCECECECE
)

func isJKS(b []byte) bool {
	return len(b) > 12 && (binary.BigEndian.Uint32(b) == magicJKS || binary.BigEndian.Uint32(b) == magicJCEKS) && binary.BigEndian.Uint32(b[4:]) <= 2
}

// jksEntry is a key with its chain, or a trusted certificate.
type jksEntry struct {
	locked []byte // the encrypted key; nil for a trusted certificate
	certs  [][]byte
}

// entriesInJKS takes what stands open in a keystore; it stops at what it does not know.
func entriesInJKS(b []byte) []jksEntry {
	var out []jksEntry
	version := binary.BigEndian.Uint32(b[4:])
	d := &bigEndian{b: b[8:]}
	left := maxItems // certificates
	for range min(d.uint32(), maxItems) {
		var e jksEntry
		tag := d.uint32()
		d.bytes(int(d.uint16())) // alias
		d.bytes(8)               // date
		n := uint32(1)
		switch tag {
		case 1:
			e.locked = d.bytes(int(d.uint32()))
			n = d.uint32()
		case 2:
		default:
			return out // a secret key of JCEKS is a serialized Java object
		}
		for range min(n, uint32(left)) {
			if version == 2 {
				d.bytes(int(d.uint16())) // "X.509"
			}
			if c := d.bytes(int(d.uint32())); !d.bad {
				e.certs = append(e.certs, c)
				left--
			}
		}
		if len(e.certs) > 0 || e.locked != nil {
			out = append(out, e)
		}
		if d.bad || left == 0 {
			return out
		}
	}
	return out
}

// readJKS files the chains of a keystore. Trusted certificates beside a key are
// not part of its chain: Java does not send them.
func (r *reader) readJKS(data []byte) {
	name := "a Java keystore (JKS)"
	if binary.BigEndian.Uint32(data) == magicJCEKS {
		name = "a Java keystore (JCEKS)"
	}
	entries := entriesInJKS(data)
	keys := 0
	for _, e := range entries {
		if e.locked != nil {
			keys++
		}
	}
	if keys > 1 {
		name = fmt.Sprintf("%s with %d key entries", name, keys)
	}
	if r.password != "" && !jksOpens(data, r.password) {
		name += "; the password given is not its own"
	}
	at := Place{Cert: -1, Byte: -1}
	r.note("JKS", at, name)
	have := map[string]bool{}
	for _, e := range entries {
		for _, der := range e.certs {
			switch {
			case have[string(der)]:
			case e.locked == nil && keys > 0:
				r.f.beside = append(r.f.beside, parseCert(der))
			default:
				have[string(der)] = true
				r.add(der, at, "", true)
			}
		}
		if key, err := unlockJKS(e.locked, r.password); err == nil {
			r.addKey(key)
		}
	}
	r.f.entries = max(r.f.entries, keys)
	if len(r.f.Certs) == 0 {
		r.note("NOT_A_CERTIFICATE", at, name+" without certificates")
	}
}

// jksDigest is over the password, a phrase that only Java knows the reason of,
// and the store.
func jksDigest(password string, store []byte) []byte {
	h := sha1.New()
	h.Write(jksPassword(password))
	h.Write([]byte("Mighty Aphrodite"))
	h.Write(store)
	return h.Sum(nil)
}

func jksOpens(data []byte, password string) bool {
	n := len(data) - sha1.Size
	return n > 0 && subtle.ConstantTimeCompare(jksDigest(password, data[:n]), data[n:]) == 1
}

func jksPassword(s string) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		out = binary.BigEndian.AppendUint16(out, u)
	}
	return out
}

// oidJKSKey is 1.3.6.1.4.1.42.2.17.1.1, Sun's key protection, with NULL parameters.
var oidJKSKey = []byte{0x30, 0x0E, 0x06, 0x0A, 0x2B, 0x06, 0x01, 0x04, 0x01, 0x2A, 0x02, 0x11, 0x01, 0x01, 0x05, 0x00}

var errLocked = errors.New("the key in the keystore does not open")

// unlockJKS opens a key: XOR with a chain of SHA-1 over password and salt. That
// is weak, and Java's; whoever has a choice writes PKCS #12.
func unlockJKS(locked []byte, password string) (any, error) {
	info, _, _ := nextTLV(locked)
	es := elements(info.body, 2)
	if len(es) != 2 || es[1].cut || !bytes.Equal(es[0].full, oidJKSKey) || len(es[1].body) < 2*sha1.Size {
		return nil, errLocked
	}
	b := es[1].body
	plain := jksMask(b[:sha1.Size], b[sha1.Size:len(b)-sha1.Size], password)
	sum := sha1.Sum(append(jksPassword(password), plain...))
	if subtle.ConstantTimeCompare(sum[:], b[len(b)-sha1.Size:]) != 1 {
		return nil, errLocked
	}
	return x509.ParsePKCS8PrivateKey(plain)
}

func jksMask(salt, text []byte, password string) []byte {
	pw := jksPassword(password)
	out := make([]byte, len(text))
	block := salt
	for i := range text {
		if i%sha1.Size == 0 {
			sum := sha1.Sum(slices.Concat(pw, block))
			block = sum[:]
		}
		out[i] = text[i] ^ block[i%sha1.Size]
	}
	return out
}

// EncodeJKS writes a keystore with one key and its chain, leaf first, for Java
// before 8u301, which cannot open the PKCS #12 of today. salt is random.
func EncodeJKS(alias string, key *PrivateKey, certs []*Cert, password string, salt [sha1.Size]byte, now time.Time) []byte {
	locked := append(salt[:], jksMask(salt[:], key.der, password)...)
	sum := sha1.Sum(append(jksPassword(password), key.der...))
	info := wrapTLV(0x30, append(bytes.Clone(oidJKSKey), wrapTLV(0x04, append(locked, sum[:]...))...))

	be := binary.BigEndian
	b := be.AppendUint32(nil, magicJKS)
	b = be.AppendUint32(b, 2) // version
	b = be.AppendUint32(b, 1) // entries
	b = be.AppendUint32(b, 1) // a key
	b = append(be.AppendUint16(b, uint16(len(alias))), alias...)
	b = be.AppendUint64(b, uint64(now.UnixMilli()))
	b = append(be.AppendUint32(b, uint32(len(info))), info...)
	b = be.AppendUint32(b, uint32(len(certs)))
	for _, c := range certs {
		b = append(be.AppendUint16(b, 5), "X.509"...)
		b = append(be.AppendUint32(b, uint32(len(c.Raw))), c.Raw...)
	}
	return append(b, jksDigest(password, b)...)
}

// bigEndian reads numbers and runs of bytes; after the first that is not there, bad stays set.
type bigEndian struct {
	b   []byte
	bad bool
}

func (d *bigEndian) bytes(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad = true
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *bigEndian) uint16() uint16 {
	if b := d.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *bigEndian) uint32() uint32 {
	if b := d.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}
