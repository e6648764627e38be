package chain

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
)

// Cert is one certificate, whole or not.
type Cert struct {
	Raw   []byte
	X     *x509.Certificate // nil when it is damaged; the other fields say what is left
	Index int               // in its file, from 0; -1 when it comes from elsewhere
	Place Place

	// Damage is "" for a whole certificate, or the code of what happened to it.
	Damage   string
	evidence string // of the damage

	// lenient is the certificate as a milder reader has it, when only the strict
	// one refuses it; quirk is why, once it is known to be as it was signed.
	lenient *x509.Certificate
	quirk   string

	endOnly   bool // its first lines are missing
	unordered bool // it comes out of a container in which order means nothing

	origin  origin
	subject []byte // DER of the name
	issuer  []byte
	spki    []byte
	ski     []byte
	aki     []byte
	serial  *big.Int
	pub     any // *rsa, *ecdsa, ed25519, *mldsa.PublicKey; nil when unusable
	sha     [32]byte

	nameKeys [2]string // of subject and issuer, for comparison
}

type origin int

const (
	fromFile origin = iota
	fromPool
	fromRoots
)

// SHA256 is the fingerprint, in hexadecimal.
func (c *Cert) SHA256() string { return hex.EncodeToString(c.sha[:]) }

// ParseCert parses one DER certificate. It never fails: see Damage.
func ParseCert(der []byte) *Cert {
	c := parseCert(der)
	c.Index, c.Place = -1, nowhere
	return c
}

func parseCert(der []byte) *Cert {
	c := &Cert{Raw: der, sha: sha256.Sum256(der)}
	size, whole := tlvSize(der)
	switch {
	case len(der) > maxCert:
		c.Damage, c.evidence = "MALFORMED_CERT", fmt.Sprintf("%d bytes; no certificate is that long", len(der))
		return c
	case size == 0 && len(der) > 6: // room enough for a header of any length
		c.Damage, c.evidence = "MALFORMED_CERT", "it does not begin as DER does"
	case !whole:
		c.Damage = "TRUNCATED_CERT"
		c.evidence = fmt.Sprintf("%d bytes are there of %d", len(der), claimed(der))
	case size != len(der):
		c.Damage, c.evidence = "MALFORMED_CERT", "bytes after its end"
	default:
		x, err := x509.ParseCertificate(der)
		if err != nil {
			c.Damage, c.evidence = "MALFORMED_CERT", strings.TrimPrefix(err.Error(), "x509: ")
			if strings.Contains(err.Error(), "elliptic curve") {
				c.Damage, c.evidence = "WEAK_KEY", "an elliptic curve that browsers and Go do not accept"
			} else {
				c.lenient = parseLenient(der)
			}
			break
		}
		c.take(x)
	}
	if c.X == nil {
		c.salvage()
	}
	c.pub = publicKey(c.spki, c.X)
	c.nameKeys = [2]string{nameKey(c.subject), nameKey(c.issuer)}
	return c
}

func (c *Cert) take(x *x509.Certificate) {
	c.X = x
	c.subject, c.issuer, c.spki = x.RawSubject, x.RawIssuer, x.RawSubjectPublicKeyInfo
	c.ski, c.aki, c.serial = x.SubjectKeyId, x.AuthorityKeyId, x.SerialNumber
}

// claimed is the length that a cut element says it has.
func claimed(der []byte) int {
	if len(der) < 2 {
		return 2 // at least a header
	}
	n, head := int(der[1]), 2
	if n >= 0x80 {
		k := n & 0x7F
		n = 0
		for _, b := range der[2:min(2+k, len(der))] {
			n = n<<8 | int(b)
		}
		head += k
	}
	return n + head
}

// salvage takes what is left of a damaged certificate: names, key, identifiers.
func (c *Cert) salvage() {
	outer, _, ok := nextTLV(c.Raw)
	if !ok {
		return
	}
	tbs, _, ok := nextTLV(outer.body)
	if !ok {
		return
	}
	es := elements(tbs.body, 12)
	if len(es) > 0 && es[0].tag == 0xA0 {
		es = es[1:]
	}
	// serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo, extensions
	whole := func(i int, tag byte) bool { return i < len(es) && es[i].tag == tag && !es[i].cut }
	if whole(0, 0x02) {
		c.serial = new(big.Int).SetBytes(es[0].body)
	}
	if whole(2, 0x30) {
		c.issuer = es[2].full
	}
	if whole(4, 0x30) {
		c.subject = es[4].full
	}
	if whole(5, 0x30) {
		c.spki = es[5].full
	}
	// 2.5.29.14 and 2.5.29.35, wherever they stand in what is left.
	for _, e := range es[min(6, len(es)):] {
		if e.tag != 0xA3 {
			continue
		}
		list, _, _ := nextTLV(e.body)
		for _, ext := range elements(list.body, 64) {
			parts := elements(ext.body, 3)
			if len(parts) < 2 || ext.cut {
				continue
			}
			value, _, ok := nextTLV(parts[len(parts)-1].body)
			if !ok {
				continue
			}
			switch {
			case bytes.Equal(parts[0].body, []byte{0x55, 0x1D, 0x0E}):
				c.ski = value.body
			case bytes.Equal(parts[0].body, []byte{0x55, 0x1D, 0x23}):
				if id, _, ok := nextTLV(value.body); ok && id.tag == 0x80 {
					c.aki = id.body
				}
			}
		}
	}
}

// Subject names the certificate for a person.
func (c *Cert) Subject() string {
	if s := nameText(c.subject); s != emptyName || c.X == nil || len(c.X.DNSNames) == 0 {
		return s
	}
	// ACME certificates have only names in the SAN.
	return emptyName + " " + clipName(c.X.DNSNames[0])
}

const emptyName = "(empty name)"

// Issuer names who signed it.
func (c *Cert) Issuer() string { return nameText(c.issuer) }

func nameText(der []byte) string {
	var rdn pkix.RDNSequence
	if len(der) == 0 {
		return "?"
	}
	if rest, err := asn1.Unmarshal(der, &rdn); err != nil || len(rest) > 0 {
		return "?"
	}
	if len(rdn) == 0 {
		return emptyName
	}
	s := rdn.String()
	if r := []rune(s); len(r) > 120 {
		s = string(r[:120]) + "…"
	}
	return s
}

// short is the common name, or the whole name when there is none.
func (c *Cert) short() string {
	if c.X != nil && c.X.Subject.CommonName != "" {
		return clipName(c.X.Subject.CommonName)
	}
	if c.X != nil && len(c.X.DNSNames) > 0 && nameText(c.subject) == emptyName {
		return clipName(c.X.DNSNames[0])
	}
	return c.Subject()
}

func clipName(s string) string {
	if r := []rune(s); len(r) > 64 {
		return string(r[:64]) + "…"
	}
	return s
}

// nameKey folds a name for comparison: RFC 5280, Section 7.1, with case and
// blanks of printable strings ignored, whatever their string type.
func nameKey(der []byte) string {
	var b strings.Builder
	seq, _, ok := nextTLV(der)
	if !ok {
		return string(der)
	}
	for _, rdn := range elements(seq.body, 64) {
		b.WriteByte('/')
		for _, atv := range elements(rdn.body, 16) {
			parts := elements(atv.body, 2)
			if len(parts) != 2 {
				b.Write(rdn.full)
				continue
			}
			b.Write(parts[0].body)
			b.WriteByte('=')
			switch parts[1].tag {
			case 0x0C, 0x13, 0x16, 0x14: // UTF8, Printable, IA5, Teletex
				b.WriteString(strings.Join(strings.Fields(strings.ToLower(string(parts[1].body))), " "))
			default:
				b.WriteByte(parts[1].tag)
				b.Write(parts[1].body)
			}
			b.WriteByte('+')
		}
	}
	return b.String()
}

// selfIssued says that issuer and subject are the same (RFC 5280, Section 3.2).
func (c *Cert) selfIssued() bool { return len(c.subject) > 0 && c.nameKeys[0] == c.nameKeys[1] }

// isCA says that it may sign others: basicConstraints, or version 1 and self-issued.
func (c *Cert) isCA() bool {
	if c.X == nil {
		return len(c.subject) > 0 && !bytes.Contains(c.Raw, []byte{0x55, 0x1D, 0x11}) // no SAN in sight
	}
	if c.X.Version < 3 {
		return c.selfIssued()
	}
	return c.X.BasicConstraintsValid && c.X.IsCA
}

// sameKeyAndName says that two certificates stand for the same CA.
func sameKeyAndName(a, b *Cert) bool {
	return a.nameKeys[0] == b.nameKeys[0] && len(a.spki) > 0 && bytes.Equal(a.spki, b.spki)
}

// hasKey says that the certificate is for this public key.
func (c *Cert) hasKey(pub crypto.PublicKey) bool {
	k, ok := c.pub.(interface{ Equal(crypto.PublicKey) bool })
	if ok && k.Equal(pub) {
		return true
	}
	raw, ok := pub.(rawSPKI)
	return ok && bytes.Equal(raw, c.spki)
}

// keyWhole says that the public key is as it was, though the certificate is
// not: it was cut off after it.
func (c *Cert) keyWhole() bool { return c.Damage == "TRUNCATED_CERT" && c.pub != nil }

// SelfIssued says that issuer and subject are the same name.
func (c *Cert) SelfIssued() bool { return c.selfIssued() }

// Parsed returns the standard library's form of whole certificates.
func Parsed(certs []*Cert) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range certs {
		if c.X != nil {
			out = append(out, c.X)
		}
	}
	return out
}

// MustStaple says that the certificate demands a stapled OCSP response (RFC 7633).
func MustStaple(c *Cert) bool { return c.X != nil && mustStaple(c.X) }
