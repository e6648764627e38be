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
	if !ok || outer.cut {
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
// they are, when a certificate at hand verifies their signature.
func (d *diagnosis) believeSigned() {
	for _, c := range d.certs {
		x := c.lenient
		if x == nil || c.X != nil {
			continue
		}
		as := &Cert{X: x}
		as.take(x)
		for _, issuer := range append(d.find.candidates(c, true, false), c) {
			if d.find.verifies(issuer, as) {
				c.take(x)
				c.pub = publicKey(c.spki, x)
				c.quirk, c.Damage, c.evidence = c.evidence, "", ""
				break
			}
		}
	}
}
