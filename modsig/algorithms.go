package modsig

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha1" // modules signed so still exist, and the kernel takes them
	_ "crypto/sha256"
	_ "crypto/sha3"
	_ "crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
)

var (
	errSignature   = errors.New("the signature does not fit the content")
	errUnsupported = errors.New("this kernel has no code")
)

func verifyDigest(s *SignerInfo, h crypto.Hash, digest []byte, pub crypto.PublicKey) error {
	kind := keyKind(s)
	return verifyRaw(kind, h, digest, s.Signature, pub)
}

// verifyRaw is called with keys that usable has let pass: their length bounds
// its time.
func verifyRaw(kind string, h crypto.Hash, digest, sig []byte, pub crypto.PublicKey) error {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if kind != "rsa" {
			return fmt.Errorf("an %s signature and an RSA key", kind)
		}
		if !verifyPKCS1v15(pub, h, digest, sig) {
			return errSignature
		}
	case *ecdsa.PublicKey:
		if kind != "ecdsa" {
			return fmt.Errorf("an %s signature and an ECDSA key", kind)
		}
		if !ecdsa.VerifyASN1(pub, digest, sig) {
			return errSignature
		}
	default:
		return fmt.Errorf("a key of type %T", pub)
	}
	return nil
}

// certificateAlgorithm returns what a certificate is signed with: the kind of
// key ("" for one the kernel does not read) and the hash.
func certificateAlgorithm(c *x509.Certificate) (kind string, h crypto.Hash) {
	switch c.SignatureAlgorithm {
	case x509.SHA1WithRSA:
		return "rsa", crypto.SHA1
	case x509.SHA256WithRSA:
		return "rsa", crypto.SHA256
	case x509.SHA384WithRSA:
		return "rsa", crypto.SHA384
	case x509.SHA512WithRSA:
		return "rsa", crypto.SHA512
	case x509.ECDSAWithSHA1:
		return "ecdsa", crypto.SHA1
	case x509.ECDSAWithSHA256:
		return "ecdsa", crypto.SHA256
	case x509.ECDSAWithSHA384:
		return "ecdsa", crypto.SHA384
	case x509.ECDSAWithSHA512:
		return "ecdsa", crypto.SHA512
	}
	return "", 0
}

// signed tells whether pub has signed c, as a kernel with these features can
// find out. Unlike x509, it takes SHA-1, for the kernel does.
func (f Features) signed(c *x509.Certificate, pub crypto.PublicKey) error {
	kind, h := certificateAlgorithm(c)
	if !f.hash(h) {
		return fmt.Errorf("%w for the %s that the embedded certificate is signed with", errUnsupported, c.SignatureAlgorithm)
	}
	if !f.usable(pub) {
		return fmt.Errorf("%w for the key that has signed the embedded certificate", errUnsupported)
	}
	w := h.New()
	w.Write(c.RawTBSCertificate)
	if err := verifyRaw(kind, h, w.Sum(nil), c.Signature, pub); err != nil {
		return fmt.Errorf("the embedded certificate %s: %w", c.Subject, err)
	}
	return nil
}

// selfSigned is the kernel's test: subject and issuer are one, and so are the
// two key identifiers where there is an authority's.
func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) &&
		(len(c.AuthorityKeyId) == 0 || bytes.Equal(c.AuthorityKeyId, c.SubjectKeyId))
}
