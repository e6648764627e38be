package chain

import (
	"bytes"
	"crypto/x509"
	"math/big"
)

// The standard library refuses certificates that other clients read: a negative
// serial number, a distribution point with a relative name, an extension of
// another shape than RFC 5280's. To tell "the CA made it so" from "bytes have
// changed", such a certificate is read once more without what was refused, and
// believed only when its issuer's signature verifies.

// parseLenient reads a whole certificate without its serial number or one of
// its extensions; nil when that does not help.
func parseLenient(der []byte) *x509.Certificate {
	outer, _, ok := nextTLV(der)
	if !ok || outer.cut || len(der) > maxLenient {
		return nil
	}
	parts := elements(outer.body, 3)
	if len(parts) != 3 || parts[0].cut {
		return nil
	}
	for _, change := range lenientChanges(parts[0]) {
		patched := bytes.Clone(der)
		at := offsetIn(der, change.where)
		patched[at] = change.to
		x, err := x509.ParseCertificate(patched)
		if err != nil {
			continue
		}
		// The same certificate again, as it was signed.
		x.Raw, x.RawTBSCertificate = der, parts[0].full
		if change.serial != nil {
			x.SerialNumber = change.serial
		} else if change.extension < len(x.Extensions) {
			id := x.Extensions[change.extension].Id
			id[len(id)-1] = int(der[at])
		}
		return x
	}
	return nil
}

// lenientChange sets one octet.
type lenientChange struct {
	where     []byte // begins at that octet of the certificate
	to        byte
	serial    *big.Int // what stood there
	extension int      // or the extension whose name it is the end of
}

func lenientChanges(tbs tlv) []lenientChange {
	var out []lenientChange
	for _, e := range elements(tbs.body, 12) {
		switch {
		case e.tag == 0x02 && !e.cut && len(e.body) > 0 && e.body[0]&0x80 != 0:
			n := new(big.Int).SetBytes(e.body)
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(e.body))))
			out = append(out, lenientChange{where: e.body, to: 0x01, serial: n})
		case e.tag == 0xA3:
			list, _, _ := nextTLV(e.body)
			for i, ext := range elements(list.body, 64) {
				id, _, ok := nextTLV(ext.body)
				if !ok || id.tag != 0x06 || id.cut || len(id.body) == 0 {
					continue
				}
				// An arc of id-ce that nobody has: the extension stays, unread.
				out = append(out, lenientChange{where: id.body[len(id.body)-1:], to: 0x7F, extension: i})
			}
		}
	}
	return out
}

// offsetIn says where part, a slice of whole, begins in it: both end where the
// array does.
func offsetIn(whole, part []byte) int { return cap(whole) - cap(part) }

// believeSigned takes certificates that only the strict reader refuses for what
// they are: their issuer's signature verifies, or no issuer is at hand that could
// say otherwise.
func (d *diagnosis) believeSigned() {
	for _, c := range d.certs {
		if c.Damage != "MALFORMED_CERT" || c.X != nil {
			continue
		}
		s := signedOf(c.Raw)
		if s == nil {
			continue
		}
		tried, believed := false, false
		for _, issuer := range append(d.find.candidates(c, true, false), c) {
			if issuer.pub == nil || issuer.nameKeys[0] != c.nameKeys[1] || !sameKeyID(c, issuer) {
				continue
			}
			if d.find.checks >= maxSignatureChecks {
				d.find.spent = true
				return
			}
			d.find.checks++
			tried = true
			if believed = verifiesSigned(issuer.pub, s.algorithm, c.Raw, s.tbs, s.signature); believed {
				break
			}
		}
		switch {
		case tried && !believed:
		case c.lenient != nil:
			c.take(c.lenient)
			c.pub = publicKey(c.spki, c.X)
			c.quirk, c.Damage, c.evidence = c.evidence, "", ""
			if !tried {
				c.quirk += "; its issuer is not at hand to say whether it was signed so"
			}
		case believed:
			c.Damage = "NONCONFORMING" // whole, and unreadable all the same
		}
	}
}

// sameKeyID says that the key identifiers do not speak against issuer.
func sameKeyID(c, issuer *Cert) bool {
	return len(c.aki) == 0 || len(issuer.ski) == 0 || bytes.Equal(c.aki, issuer.ski)
}

// signed is the outer form of a certificate: RFC 5280, Section 4.1.1.
type signed struct {
	tbs, signature []byte
	algorithm      x509.SignatureAlgorithm
}

func signedOf(der []byte) *signed {
	outer, rest, ok := nextTLV(der)
	parts := elements(outer.body, 4)
	if !ok || outer.cut || len(rest) > 0 || len(parts) != 3 || parts[2].tag != 0x03 || parts[2].cut || len(parts[2].body) < 2 {
		return nil
	}
	id, _, _ := nextTLV(parts[1].body)
	return &signed{parts[0].full, parts[2].body[1:], signatureAlgorithms[string(id.body)]}
}

// signatureAlgorithms are those worth verifying, by object identifier: RFC 3279,
// Section 2.2, RFC 4055, RFC 5758, RFC 8410.
var signatureAlgorithms = map[string]x509.SignatureAlgorithm{
	"\x2A\x86\x48\x86\xF7\x0D\x01\x01\x05": x509.SHA1WithRSA,
	"\x2A\x86\x48\x86\xF7\x0D\x01\x01\x0B": x509.SHA256WithRSA,
	"\x2A\x86\x48\x86\xF7\x0D\x01\x01\x0C": x509.SHA384WithRSA,
	"\x2A\x86\x48\x86\xF7\x0D\x01\x01\x0D": x509.SHA512WithRSA,
	"\x2A\x86\x48\xCE\x3D\x04\x03\x02":     x509.ECDSAWithSHA256,
	"\x2A\x86\x48\xCE\x3D\x04\x03\x03":     x509.ECDSAWithSHA384,
	"\x2A\x86\x48\xCE\x3D\x04\x03\x04":     x509.ECDSAWithSHA512,
	"\x2B\x65\x70":                         x509.PureEd25519,
}
