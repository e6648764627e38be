package chain

import (
	"bytes"
	"errors"
	"fmt"
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
