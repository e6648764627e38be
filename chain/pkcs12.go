package chain

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"unicode/utf16"

	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

// addPKCS12 opens a PKCS #12 file (RFC 7292). go-pkcs12 reads what has one key
// and its chain; anything else is handed to it key by key.
func (r *reader) addPKCS12(der []byte, p Place) {
	const is = "a PKCS #12 file (.pfx, .p12)"
	if n := iterationsIn(der, 0); n > maxIterations {
		r.note("PKCS12", p, is)
		r.note("MALFORMED_CONTAINER", p, fmt.Sprintf("it wants %d rounds of key derivation; %d is far more than anybody uses", n, maxIterations))
		return
	}
	password := r.password
	key, first, rest, err := pkcs12.DecodeChain(der, password)
	if errors.Is(err, pkcs12.ErrIncorrectPassword) && password != "" {
		// A password for another file of the same command, and none for this one.
		if k, f, more, err2 := pkcs12.DecodeChain(der, ""); !errors.Is(err2, pkcs12.ErrIncorrectPassword) {
			password, key, first, rest, err = "", k, f, more, err2
		}
	}
	b := bags{}
	switch {
	case err == nil:
		b.keys = []any{key}
		for _, x := range append([]*x509.Certificate{first}, rest...) {
			b.add(x)
		}
	case errors.Is(err, pkcs12.ErrIncorrectPassword) && r.password == "":
		r.note("PKCS12", p, is+", locked by a password")
		return
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		r.note("PKCS12", p, is+"; the password given does not open it")
		return
	default:
		more := b.read(der, password)
		if more != nil && strings.HasPrefix(more.Error(), "x509: ") && b.readRaw(der, password) {
			more = nil
		}
		if more != nil {
			r.note("PKCS12", p, is)
			r.note("MALFORMED_CONTAINER", p, clip(more.Error()))
			return
		}
	}
	switch len(b.keys) {
	case 0:
		r.note("PKCS12", p, fmt.Sprintf("%s without a key, with %d certificates", is, len(b.certs)))
	case 1:
		r.note("PKCS12", p, fmt.Sprintf("%s with a key and %d certificates", is, len(b.certs)))
	default:
		r.note("PKCS12", p, fmt.Sprintf("%s with %d keys and %d certificates", is, len(b.keys), len(b.certs)))
	}
	if len(b.certs) == 0 {
		r.note("NOT_A_CERTIFICATE", p, "a PKCS #12 file without certificates")
	}
	for _, raw := range b.certs {
		r.add(raw, p, "", true)
	}
	r.f.entries = max(r.f.entries, len(b.keys))
	for _, k := range b.keys {
		r.addKey(k)
	}
}

// addKey keeps a private key that came along in a container.
func (r *reader) addKey(k any) {
	if pub := publicOf(k); pub != nil {
		r.f.keys = append(r.f.keys, pub)
		r.f.privateKeys = append(r.f.privateKeys, k)
	}
}

// bags is what a PKCS #12 file holds, each thing once.
type bags struct {
	certs [][]byte
	keys  []any
}

func (b *bags) add(x *x509.Certificate) {
	for _, have := range b.certs {
		if bytes.Equal(have, x.Raw) {
			return
		}
	}
	b.certs = append(b.certs, x.Raw)
}

var (
	oidData = append(bytes.Clone(oidSignedData[:10]), 0x01)
	oidBags = []byte{0x06, 0x0B, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x0C, 0x0A, 0x01} // and one octet
)

var errPKCS12 = errors.New("the PKCS #12 file is not as RFC 7292 wants it")

// read takes files with several keys or none, in BER, or with more parts than
// go-pkcs12 knows: each part with certificates is packed anew with one key, or
// with a key of ours that means nothing. RFC 7292, Section 4.
func (b *bags) read(raw []byte, password string) error {
	der, err := toDER(raw)
	if err != nil {
		return err
	}
	outer, _, _ := nextTLV(der)
	pfx := elements(outer.body, 3)
	if len(pfx) < 2 {
		return errPKCS12
	}
	content, ok := contentOf(pfx[1].full, oidData)
	if !ok {
		return errPKCS12
	}
	if content, err = toDER(content); err != nil {
		return err
	}
	safes, _, _ := nextTLV(content)
	var parts, keyBags [][]byte
	for _, info := range elements(safes.body, maxSafes) {
		plain, ok := contentOf(info.full, oidData)
		if !ok {
			parts = append(parts, info.full)
			continue
		}
		if plain, err = toDER(plain); err != nil {
			return err
		}
		list, _, _ := nextTLV(plain)
		var others []byte
		for _, bag := range elements(list.body, maxItems) {
			switch kind := bagKind(bag); {
			case (kind == 1 || kind == 2) && len(keyBags) < maxKeys:
				keyBags = append(keyBags, bag.full)
			case kind == 3:
				others = append(others, bag.full...)
			}
		}
		if len(others) > 0 {
			parts = append(parts, dataInfo(wrapTLV(0x30, others)))
		}
	}
	if len(parts) == 0 {
		return nil // keys alone
	}
	none, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		return err
	}
	noKey := wrapTLV(0x30, append(append(bytes.Clone(oidBags), 1), wrapTLV(0xA0, none)...))
	for _, part := range parts {
		_, first, rest, err := pkcs12.DecodeChain(packPFX(part, noKey, password), password)
		if err != nil && len(parts) == 1 {
			return err
		}
		if err == nil {
			for _, x := range append([]*x509.Certificate{first}, rest...) {
				b.add(x)
			}
		}
	}
	for _, bag := range keyBags {
		for _, part := range parts {
			if key, _, _, err := pkcs12.DecodeChain(packPFX(part, bag, password), password); err == nil {
				b.keys = append(b.keys, key)
				break
			}
		}
	}
	return nil
}

// readRaw takes certificates that the standard library refuses, as they are.
func (b *bags) readRaw(der []byte, password string) bool {
	//lint:ignore SA1019 the only door to certificates that do not parse; its keys are left alone
	blocks, err := pkcs12.ToPEM(der, password)
	for _, block := range blocks {
		if block.Type == "CERTIFICATE" && len(b.certs) < maxItems {
			b.certs = append(b.certs, block.Bytes)
		}
	}
	return err == nil && len(b.certs) > 0
}

// contentOf takes the OCTET STRING out of a ContentInfo of one type.
func contentOf(info, oid []byte) ([]byte, bool) {
	e, _, _ := nextTLV(info)
	es := elements(e.body, 2)
	if len(es) != 2 || !bytes.Equal(es[0].full, oid) || es[1].tag != 0xA0 {
		return nil, false
	}
	s, _, ok := nextTLV(es[1].body)
	return s.body, ok && s.tag == 0x04
}

func dataInfo(content []byte) []byte {
	return wrapTLV(0x30, append(bytes.Clone(oidData), wrapTLV(0xA0, wrapTLV(0x04, content))...))
}

// bagKind is the last arc of a bag's type: 1 key, 2 encrypted key, 3 certificate.
func bagKind(bag tlv) byte {
	es := elements(bag.body, 2)
	if len(es) == 2 && len(es[0].full) == len(oidBags)+1 && bytes.HasPrefix(es[0].full, oidBags) {
		return es[0].full[len(oidBags)]
	}
	return 0
}

// packPFX makes a PKCS #12 file of one part with certificates and one key. Its
// MAC, by which go-pkcs12 knows the password, is of one round: it protects nothing.
func packPFX(part, keyBag []byte, password string) []byte {
	safes := wrapTLV(0x30, append(bytes.Clone(part), dataInfo(wrapTLV(0x30, keyBag))...))
	salt := make([]byte, 8)
	mac := hmac.New(sha1.New, macKey(salt, password))
	mac.Write(safes)
	sha1ID := []byte{0x30, 0x09, 0x06, 0x05, 0x2B, 0x0E, 0x03, 0x02, 0x1A, 0x05, 0x00}
	digest := wrapTLV(0x30, append(sha1ID, wrapTLV(0x04, mac.Sum(nil))...))
	macData := wrapTLV(0x30, append(digest, wrapTLV(0x04, salt)...))
	return wrapTLV(0x30, bytes.Join([][]byte{{0x02, 0x01, 0x03}, dataInfo(safes), macData}, nil))
}

// macKey is RFC 7292, Appendix B.2 for one round and one block of SHA-1.
func macKey(salt []byte, password string) []byte {
	fill := func(b []byte) []byte { // repeated to a multiple of 64 octets
		n := (len(b) + 63) / 64 * 64
		return bytes.Repeat(b, n/max(len(b), 1)+1)[:n]
	}
	var pw []byte
	for _, u := range append(utf16.Encode([]rune(password)), 0) {
		pw = append(pw, byte(u>>8), byte(u))
	}
	key := sha1.Sum(bytes.Join([][]byte{bytes.Repeat([]byte{3}, 64), fill(salt), fill(pw)}, nil))
	return key[:]
}

// iterationsIn finds the largest count of key derivation rounds that stands
// open in a file: OCTET STRING salt, INTEGER. Those inside what is encrypted
// only the owner of the password can have written.
func iterationsIn(b []byte, depth int) int64 {
	var most int64
	if depth > 16 {
		return 0
	}
	salt := false
	for _, e := range elements(b, maxItems) {
		switch {
		case e.tag == 0x02 && salt:
			n := new(big.Int).SetBytes(e.body)
			if !n.IsInt64() {
				return 1<<63 - 1
			}
			most = max(most, n.Int64())
		case e.tag&0x20 != 0, e.tag == 0x04 && len(e.body) > 64 && e.body[0] == 0x30:
			most = max(most, iterationsIn(e.body, depth+1))
		}
		salt = e.tag == 0x04
	}
	return most
}
