package modsig

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"errors"
)

// certX509 is EFI_CERT_X509_GUID, a5c059a1-94e4-4aa7-87b5-ab155c2bf072, as stored.
var certX509 = []byte{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}

var errSignatureList = errors.New("not an EFI signature list")

// ParseSignatureList returns the certificates of an EFI signature database:
// shim's MokListRT, the firmware's db (UEFI, Section 32.4.1). Entries that are
// hashes, and certificates that cannot be read, are passed over, for the
// kernel passes them over too.
func ParseSignatureList(b []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	err := eachSignature(b, func(typ, data []byte) {
		if bytes.Equal(typ, certX509) {
			if c, err := x509.ParseCertificate(bytes.Clone(data)); err == nil {
				out = append(out, c)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// eachSignature walks a signature database: EFI_SIGNATURE_LISTs of one kind each.
func eachSignature(b []byte, do func(typ, data []byte)) error {
	if len(b) > maxSignatureList {
		return errSignatureList
	}
	for len(b) > 0 {
		if len(b) < 28 {
			return errSignatureList
		}
		le := binary.LittleEndian
		size, header, each := uint64(le.Uint32(b[16:])), uint64(le.Uint32(b[20:])), uint64(le.Uint32(b[24:]))
		if size < 28 || size > uint64(len(b)) || header > size-28 || each < 16 {
			return errSignatureList
		}
		typ, list := b[:16], b[28+header:size]
		b = b[size:]
		for ; uint64(len(list)) >= each; list = list[each:] {
			do(typ, list[16:each]) // the first sixteen bytes say whose entry it is
		}
		if len(list) > 0 {
			return errSignatureList
		}
	}
	return nil
}
