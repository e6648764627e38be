package chain

import (
	"bytes"
	"errors"
	"fmt"
)

// tlv is one DER element read leniently: cut says that its length reaches
// beyond the data.
type tlv struct {
	tag       byte
	full      []byte // header and body
	body      []byte
	cut       bool
	headerLen int
}

// nextTLV reads the first element of b. ok is false when there is no header.
func nextTLV(b []byte) (e tlv, rest []byte, ok bool) {
	if len(b) < 2 || b[0]&0x1F == 0x1F { // X.509 has no high tag numbers
		return e, nil, false
	}
	n, head := int(b[1]), 2
	if n >= 0x80 {
		k := n & 0x7F
		if k == 0 || k > 4 || len(b) < 2+k {
			return e, nil, false
		}
		n = 0
		for _, c := range b[2 : 2+k] {
			n = n<<8 | int(c)
		}
		head += k
	}
	e = tlv{tag: b[0], headerLen: head}
	if n > len(b)-head {
		e.cut = true
		n = len(b) - head
	}
	e.full, e.body = b[:head+n], b[head:head+n]
	return e, b[head+n:], true
}

// elements splits b, up to limit of them.
func elements(b []byte, limit int) []tlv {
	var out []tlv
	for len(b) > 0 && len(out) < limit {
		e, rest, ok := nextTLV(b)
		if !ok {
			break
		}
		out = append(out, e)
		b = rest
	}
	return out
}

// tlvSize returns the size that the first element of b claims, and whether all
// of it is there. 0 means that b starts with no element. BER of indefinite
// length is taken whole.
func tlvSize(b []byte) (size int, whole bool) {
	if len(b) > 2 && b[1] == 0x80 && b[0]&0x20 != 0 {
		return len(b), true
	}
	e, _, ok := nextTLV(b)
	if !ok {
		return 0, false
	}
	return len(e.full), !e.cut
}

var (
	oidSignedData = []byte{0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07, 0x02}
	oidPKCS7      = oidSignedData[:10]
)

// sniff says what a DER value is by its shape, without parsing it whole: a cut
// certificate is still a certificate.
func sniff(der []byte) Kind {
	if len(der) < 8 || der[0] != 0x30 {
		return KindOther
	}
	if der[1] == 0x80 {
		if bytes.HasPrefix(der[2:], oidSignedData) {
			return KindPKCS7
		}
		if bytes.HasPrefix(der[2:], []byte{0x02, 0x01, 0x03}) {
			return KindPKCS12
		}
		return KindOther
	}
	outer, _, ok := nextTLV(der)
	if !ok {
		return KindOther
	}
	if bytes.HasPrefix(outer.body, oidSignedData) {
		return KindPKCS7
	}
	es := elements(outer.body, 4)
	if len(es) == 0 {
		return KindOther
	}
	switch {
	case es[0].tag == 0x30 && len(es) > 1 && es[1].tag == 0x03 && !es[1].cut && len(es) == 2 && isAlgorithm(es[0]):
		return KindPublicKey
	case es[0].tag == 0x30 && len(es) == 2 && es[1].tag == 0x04 && isAlgorithm(es[0]):
		return KindEncryptedKey
	case es[0].tag == 0x30:
		return sniffSigned(es[0])
	case es[0].tag != 0x02 || len(es) < 2:
		return KindOther
	}
	small := len(es[0].body) == 1
	switch {
	case small && es[0].body[0] == 3 && es[1].tag == 0x30 && bytes.Contains(es[1].body[:min(16, len(es[1].body))], oidPKCS7):
		return KindPKCS12
	case small && es[0].body[0] <= 1 && es[1].tag == 0x30 && len(es) > 2 && es[2].tag == 0x04:
		return KindPrivateKey // PKCS #8
	case small && es[0].body[0] == 1 && es[1].tag == 0x04:
		return KindPrivateKey // RFC 5915
	case small && es[0].body[0] == 0 && es[1].tag == 0x02:
		return KindPrivateKey // PKCS #1, or DSA
	case !small && len(es) == 2 && es[1].tag == 0x02 && len(es[1].body) <= 8:
		return KindPublicKey // PKCS #1
	}
	return KindOther
}

// sniffSigned tells a certificate, a request and a CRL by what is to be signed.
func sniffSigned(tbs tlv) Kind {
	es := elements(tbs.body, 6)
	tags := make([]byte, 0, 6)
	for _, e := range es {
		tags = append(tags, e.tag)
	}
	has := func(want ...byte) bool {
		n := min(len(tags), len(want))
		return n >= 2 && bytes.Equal(tags[:n], want[:n])
	}
	switch {
	case has(0xA0, 0x02, 0x30, 0x30, 0x30, 0x30):
		return KindCertificate
	case len(tags) >= 4 && bytes.Equal(tags[:4], []byte{0x02, 0x30, 0x30, 0xA0}),
		len(tags) == 3 && bytes.Equal(tags, []byte{0x02, 0x30, 0x30}) && !es[2].cut:
		return KindRequest
	case len(tags) >= 4 && tags[0] == 0x02 && tags[1] == 0x30 && tags[2] == 0x30 && (tags[3] == 0x17 || tags[3] == 0x18),
		len(tags) >= 3 && tags[0] == 0x30 && tags[1] == 0x30 && (tags[2] == 0x17 || tags[2] == 0x18):
		return KindCRL
	case has(0x02, 0x30, 0x30, 0x30, 0x30) && len(tags) > 3:
		return KindCertificate // version 1
	}
	return KindOther
}

// shapeOf guesses what else people keep in .der and .cer files.
func shapeOf(der []byte) string {
	outer, _, _ := nextTLV(der)
	es := elements(outer.body, 4)
	if len(es) == 0 {
		return "an empty value"
	}
	inner := elements(es[0].body, 3)
	switch {
	case es[0].tag == 0x0A:
		return "an OCSP response, for --ocsp"
	case es[0].tag == 0x30 && len(es) == 3 && len(inner) == 3 && (inner[0].tag == 0x02 || inner[0].tag == 0x30) && inner[1].tag&0xC0 != 0 || len(inner) == 3 && inner[0].tag == 0x02 && inner[2].tag == 0xA0:
		return "an attribute certificate (RFC 5755)"
	case es[0].tag == 0x30 && len(es) <= 2 && len(inner) > 0 && inner[0].tag == 0x30:
		return "an OCSP request, perhaps"
	}
	return fmt.Sprintf("first bytes % X", der[:min(8, len(der))])
}

func isAlgorithm(e tlv) bool { return len(e.body) > 2 && e.body[0] == 0x06 }

// toDER rewrites BER of indefinite length (what Windows and old Java write into
// .p7b files) as DER, as far as lengths and joined strings go. X.690, 8.1.3.6.
func toDER(b []byte) ([]byte, error) {
	out, rest, err := berElement(b, 0)
	if err != nil {
		return nil, err
	}
	_ = rest
	return out, nil
}

var errBER = errors.New("the BER in it is broken or nested too deep")

func berElement(b []byte, depth int) (out, rest []byte, err error) {
	if depth > 32 || len(b) < 2 || b[0]&0x1F == 0x1F {
		return nil, nil, errBER
	}
	tag := b[0]
	if b[1] != 0x80 {
		e, rest, ok := nextTLV(b)
		if !ok || e.cut {
			return nil, nil, errBER
		}
		if tag&0x20 == 0 {
			return e.full, rest, nil
		}
		body := e.body
		var inner []byte
		for len(body) > 0 {
			var one []byte
			if one, body, err = berElement(body, depth+1); err != nil {
				return nil, nil, err
			}
			inner = append(inner, one...)
		}
		return wrapTLV(tag, joinStrings(tag, &tag, inner)), rest, nil
	}
	if tag&0x20 == 0 {
		return nil, nil, errBER
	}
	b = b[2:]
	var inner []byte
	for {
		if len(b) < 2 {
			return nil, nil, errBER
		}
		if b[0] == 0 && b[1] == 0 {
			return wrapTLV(tag, joinStrings(tag, &tag, inner)), b[2:], nil
		}
		var one []byte
		if one, b, err = berElement(b, depth+1); err != nil {
			return nil, nil, err
		}
		inner = append(inner, one...)
	}
}

// joinStrings turns a constructed OCTET STRING into a primitive one.
func joinStrings(tag byte, to *byte, inner []byte) []byte {
	if tag != 0x24 {
		return inner
	}
	var joined []byte
	for _, e := range elements(inner, maxItems) {
		joined = append(joined, e.body...)
	}
	*to = 0x04
	return joined
}

func wrapTLV(tag byte, body []byte) []byte {
	out := []byte{tag}
	switch n := len(body); {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 0x100:
		out = append(out, 0x81, byte(n))
	case n < 0x10000:
		out = append(out, 0x82, byte(n>>8), byte(n))
	default:
		out = append(out, 0x84, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(out, body...)
}
