package modsig

import (
	"crypto/x509/pkix"
	"encoding/asn1"
)

// nameOf prints a Name in DER as RFC 2253 does, or says that it is none.
func nameOf(der []byte) string {
	var rdn pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &rdn); err != nil || len(rest) > 0 {
		return "(not a name)"
	}
	return rdn.String()
}
