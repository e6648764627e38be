package modsig

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"strings"
)

// SignedBy returns the one of certs whose key signed a content with this digest,
// itself or through a certificate in the message that it has signed; nil when it
// is none of them. As with kernels, dates do not count. It is for who has only the
// digest: the verdict of a kernel is [Module.Check]'s.
func (m *SignedData) SignedBy(h crypto.Hash, digest []byte, certs []*x509.Certificate) *x509.Certificate {
	if h == 0 || !h.Available() || len(digest) != h.Size() {
		return nil
	}
	for i := range m.Signers {
		s := &m.Signers[i]
		if hashOf(s.DigestAlgorithm.OID) != h || s.SignedAttributes != nil {
			continue
		}
		made := func(c *x509.Certificate) bool {
			return allFeatures.usable(c.PublicKey) && verifyDigest(s, h, digest, c.PublicKey) == nil
		}
		for _, c := range certs {
			if s.names(c) && made(c) {
				return c
			}
		}
		for _, raw := range m.Certificates {
			leaf, err := x509.ParseCertificate(raw)
			if err != nil || !s.names(leaf) || !made(leaf) {
				continue
			}
			for _, c := range certs {
				if c.IsCA && bytes.Equal(leaf.RawIssuer, c.RawSubject) && allFeatures.signed(leaf, c.PublicKey) == nil {
					return c
				}
			}
		}
	}
	return nil
}

// names tells whether the signer is called as c is.
func (s *SignerInfo) names(c *x509.Certificate) bool {
	if s.SubjectKeyID != nil {
		return bytes.Equal(s.SubjectKeyID, c.SubjectKeyId)
	}
	return s.Serial.Cmp(c.SerialNumber) == 0 && bytes.Equal(s.Issuer, c.RawIssuer)
}

// SignerNames says who the message claims has signed: issuers and serial
// numbers, or key identifiers, for a person.
func (m *SignedData) SignerNames() string {
	var out []string
	for i := range m.Signers {
		s := &m.Signers[i]
		if s.SubjectKeyID != nil {
			out = append(out, fmt.Sprintf("key %.64x", s.SubjectKeyID))
			continue
		}
		out = append(out, fmt.Sprintf("serial %x of %.200q", s.Serial, nameOf(s.Issuer)))
	}
	if len(out) == 0 {
		return "nobody"
	}
	return strings.Join(out, ", ")
}
