package chain

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

// certsInPKCS7 takes the certificates out of a SignedData (RFC 2315, Section
// 9.1; RFC 5652, Section 5.1), signed or not: in a .p7b it is only a bag.
func certsInPKCS7(b []byte) ([][]byte, error) {
	if len(b) > 1 && (b[1] == 0x80 || bytes.Contains(b[:min(len(b), 64)], []byte{0x30, 0x80}) || bytes.Contains(b[:min(len(b), 64)], []byte{0xA0, 0x80})) {
		der, err := toDER(b)
		if err != nil {
			return nil, fmt.Errorf("reading PKCS #7: %w", err)
		}
		b = der
	}
	outer, _, ok := nextTLV(b)
	if !ok {
		return nil, errors.New("reading PKCS #7: no DER")
	}
	es := elements(outer.body, 3)
	if len(es) < 2 || es[1].tag != 0xA0 {
		return nil, errors.New("reading PKCS #7: no content")
	}
	sd, _, ok := nextTLV(es[1].body)
	if !ok || sd.tag != 0x30 {
		return nil, errors.New("reading PKCS #7: no SignedData")
	}
	// version, digestAlgorithms, contentInfo, [0] certificates, [1] crls, signerInfos
	var certs [][]byte
	for _, e := range elements(sd.body, 8) {
		if e.tag != 0xA0 {
			continue
		}
		for _, c := range elements(e.body, maxItems) {
			if c.tag == 0x30 {
				certs = append(certs, c.full)
			}
		}
	}
	if outer.cut {
		return certs, errors.New("the PKCS #7 value is cut off")
	}
	return certs, nil
}

// addPKCS12 opens a PKCS #12 file. Its certificates come out leaf first, as the
// key's localKeyID says.
func (r *reader) addPKCS12(der []byte, p Place) {
	password := r.password
	key, leaf, cas, err := pkcs12.DecodeChain(der, password)
	if err != nil && errors.Is(err, pkcs12.ErrIncorrectPassword) && password == "" {
		r.note("PKCS12", p, "a PKCS #12 file (.pfx, .p12), locked by a password")
		return
	}
	if errors.Is(err, pkcs12.ErrIncorrectPassword) {
		r.note("PKCS12", p, "a PKCS #12 file (.pfx, .p12); the password given does not open it")
		return
	}
	if err != nil {
		// A trust store has no key.
		if certs, err2 := pkcs12.DecodeTrustStore(der, password); err2 == nil {
			r.note("PKCS12", p, fmt.Sprintf("a PKCS #12 trust store with %d certificates", len(certs)))
			for _, c := range certs {
				r.add(c.Raw, p, "", true)
			}
			return
		}
		r.note("PKCS12", p, "a PKCS #12 file (.pfx, .p12)")
		r.note("MALFORMED_CONTAINER", p, clip(err.Error()))
		return
	}
	r.note("PKCS12", p, fmt.Sprintf("a PKCS #12 file (.pfx, .p12) with a key and %d certificates", 1+len(cas)))
	r.add(leaf.Raw, p, "", true)
	for _, c := range cas {
		r.add(c.Raw, p, "", true)
	}
	if pub := publicOf(key); pub != nil {
		r.f.keys = append(r.f.keys, pub)
		r.f.privateKeys = append(r.f.privateKeys, key)
	}
}

func isJKS(b []byte) bool {
	return len(b) > 12 && binary.BigEndian.Uint32(b) == 0xFEEDFEED && binary.BigEndian.Uint32(b[4:]) <= 2
}

// certsInJKS takes the certificates out of a Java keystore. They are not
// encrypted; only the keys are, which we leave alone. The layout is Java's own:
// entries of tag 1 (key: encrypted bytes, then its chain) and 2 (certificate).
func certsInJKS(b []byte) [][]byte {
	var certs [][]byte
	d := &bigEndian{b: b[8:]}
	entries := d.uint32()
	for range min(entries, maxItems) {
		tag := d.uint32()
		d.bytes(int(d.uint16())) // alias
		d.bytes(8)               // date
		n := uint32(1)
		if tag == 1 {
			d.bytes(int(d.uint32())) // the encrypted key
			n = d.uint32()
		}
		for range min(n, maxItems) {
			d.bytes(int(d.uint16())) // "X.509"
			c := d.bytes(int(d.uint32()))
			if d.bad || len(certs) >= maxItems {
				return certs
			}
			certs = append(certs, c)
		}
	}
	return certs
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
