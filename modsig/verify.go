package modsig

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// cause is why the kernel's signature check ends as it does: an errno.
type cause string

const (
	verified  cause = ""
	noData    cause = "ENODATA"      // no signature
	noPackage cause = "ENOPKG"       // a hash or algorithm that the kernel lacks
	noKey     cause = "ENOKEY"       // the signer is not on a keyring
	rejected  cause = "EKEYREJECTED" // the signature is wrong
	badMsg    cause = "EBADMSG"      // the signature cannot be read
	invalid   cause = "EINVAL"       // it can be read and makes no sense
	noEntry   cause = "ENOENT"       // an embedded certificate with a key the kernel has no code for
)

// fatal causes end the load in every mode; the others only when enforced.
func (c cause) fatal() bool {
	return c != verified && c != noData && c != noPackage && c != noKey
}

// check is one module's signature against one kernel.
type check struct {
	kernel  *Kernel
	module  *Module
	cms     *SignedData
	printed []string // what the kernel logs on the way
	signers []Signer
	found   []found
}

// found is a finding before it has its subject.
type found struct {
	code, evidence string
	args           []string
}

func (v *check) note(code, evidence string, args ...string) {
	v.found = append(v.found, found{code, evidence, args})
}

func (v *check) has(code string) bool {
	return slices.ContainsFunc(v.found, func(f found) bool { return f.code == code })
}

// run follows the kernel's order: it reads the whole message, then verifies
// each signature against an embedded certificate where there is one, then
// looks for trust (crypto/asymmetric_keys/pkcs7_{parser,verify,trust}).
func (v *check) run() cause {
	m := v.module
	if !m.signed {
		return noData
	}
	in := m.info
	switch {
	case m.tooLong:
		v.note("MODULE_SIGNATURE_MALFORMED", fmt.Sprintf("the trailer says %d bytes of signature", in.SignatureLength))
		return badMsg
	case in.IDType != idPKCS7:
		v.printed = append(v.printed, "module: not signed with expected PKCS#7 message")
		v.note("MODULE_SIGNATURE_UNSUPPORTED", fmt.Sprintf("id_type %d in the trailer, not 2", in.IDType))
		return noPackage
	case in.Algorithm|in.Hash|in.SignerLength|in.KeyIDLength|in.Padding[0]|in.Padding[1]|in.Padding[2] != 0:
		v.printed = append(v.printed, "module: PKCS#7 signature info has unexpected non-zero params")
		v.note("MODULE_SIGNATURE_MALFORMED", "fields of the trailer that must be zero are not")
		return badMsg
	}
	if m.cmsErr != nil {
		v.note("MODULE_SIGNATURE_MALFORMED", m.cmsErr.Error())
		return v.unreadable(m.cmsErr)
	}
	if m.notDER != nil {
		v.note("MODULE_SIGNATURE_NOT_DER", m.notDER.Error())
	}
	v.cms = m.cms
	if c := v.readSigners(); c != verified {
		return c
	}
	if c := v.verifyAll(); c != verified {
		return c
	}
	// What Debian's kernels add: only a good signature gets here.
	if f := v.kernel.forbidden; f != nil && f.files[m.whole] {
		v.printed = append(v.printed, fmt.Sprintf("Module hash %x is blacklisted", m.whole))
		v.note("MODULE_HASH_FORBIDDEN", fmt.Sprintf("SHA-256 of the file: %x", m.whole))
		return rejected
	}
	return verified
}

// unreadable tells which errno an unreadable message has.
func (v *check) unreadable(err error) cause {
	switch {
	case errors.Is(err, errContentType):
		v.printed = append(v.printed, "PKCS7: Only support pkcs7_signedData type")
		return invalid
	case errors.Is(err, errAttached):
		return invalid
	}
	return badMsg
}

// readSigners does what the kernel's parser does beyond the syntax.
func (v *check) readSigners() cause {
	if err := v.module.certErr; err != nil {
		v.note("MODULE_SIGNATURE_MALFORMED", fmt.Sprintf("embedded certificate: %v", err))
		return badMsg
	}
	for _, c := range v.module.certs {
		if kind, _ := certificateAlgorithm(c); kind == "" {
			v.note("MODULE_SIGNATURE_UNSUPPORTED", fmt.Sprintf("embedded certificate signed with %s", c.SignatureAlgorithm))
			return noPackage
		}
		if f := v.kernel.forbidden; f != nil && f.tbs[sha256.Sum256(c.RawTBSCertificate)] {
			v.printed = append(v.printed, fmt.Sprintf("X.509: Cert %x is blacklisted", sha256.Sum256(c.RawTBSCertificate)))
		}
	}
	for i := range v.cms.Signers {
		v.signers = append(v.signers, v.describe(&v.cms.Signers[i]))
	}
	if !v.cms.ContentType.Equal(oidData) {
		v.printed = append(v.printed, "PKCS7: Unsupported data type")
		v.note("MODULE_SIGNATURE_MALFORMED", fmt.Sprintf("content type %v is not data", v.cms.ContentType))
		return invalid
	}
	if len(v.cms.Signers) == 0 {
		v.note("MODULE_SIGNATURE_MALFORMED", "it has no signer")
		return badMsg
	}
	attributes := 0
	for i := range v.cms.Signers {
		s := &v.cms.Signers[i]
		if h := hashOf(s.DigestAlgorithm.OID); h == 0 || !v.kernel.reads(h) {
			v.printed = append(v.printed, "Unsupported digest algo")
			v.note("MODULE_SIGNATURE_UNSUPPORTED", fmt.Sprintf("hash algorithm %v", s.DigestAlgorithm.OID))
			return noPackage
		}
		if keyKind(s) == "" {
			v.printed = append(v.printed, "Unsupported pkey algo")
			v.note("MODULE_SIGNATURE_UNSUPPORTED", fmt.Sprintf("signature algorithm %v", s.SignatureAlgorithm.OID))
			return noPackage
		}
		if s.SignedAttributes != nil {
			attributes++
		}
	}
	if attributes > 0 {
		v.printed = append(v.printed, "PKCS7: Invalid module sig (has authattrs)")
		v.note("MODULE_SIGNED_ATTRIBUTES", "signedAttrs in the SignerInfo")
		return rejected
	}
	return verified
}

// keyKind is the kind of key a signature needs: "rsa", "ecdsa", or "" for one
// the kernel does not read.
func keyKind(s *SignerInfo) string {
	if s.SignatureAlgorithm.OID.Equal(oidRSA) {
		return "rsa"
	}
	for _, e := range ecdsaOIDs {
		if s.SignatureAlgorithm.OID.Equal(e.oid) {
			return "ecdsa"
		}
	}
	return ""
}

// verifyAll is pkcs7_verify and pkcs7_validate_trust.
func (v *check) verifyAll() cause {
	result := noPackage
	leaf := make([]*x509.Certificate, len(v.cms.Signers))
	unsupported := make([]bool, len(v.cms.Signers))
	for i := range v.cms.Signers {
		s := &v.cms.Signers[i]
		h := hashOf(s.DigestAlgorithm.OID)
		if !v.kernel.Features.hash(h) {
			v.note("MODULE_SIGNATURE_UNSUPPORTED", fmt.Sprintf("%s is not built into this kernel", HashName(h)))
			unsupported[i] = true
			continue
		}
		if leaf[i] = v.embeddedSigner(s); leaf[i] != nil {
			if !v.kernel.Features.usable(leaf[i].PublicKey) {
				v.note("MODULE_SIGNATURE_UNSUPPORTED", "the embedded certificate's key is of a kind that this kernel has no code for")
				return noEntry
			}
			if err := v.verify(s, leaf[i].PublicKey); err != nil {
				v.note("MODULE_BAD_SIGNATURE", err.Error())
				return rejected
			}
			if v.forbidden(leaf[i], false) {
				unsupported[i] = true // as good as not there
				if result == noPackage {
					result = rejected
				}
				continue
			}
		}
		result = verified
	}
	if result != verified {
		return result
	}
	result = noKey
	for i := range v.cms.Signers {
		if unsupported[i] {
			if result == noKey {
				result = noPackage
			}
			continue
		}
		t, c := v.trusts(&v.cms.Signers[i], leaf[i])
		switch c {
		case verified:
			result = verified
			v.signers[i].TrustedBy = t.source
			v.signers[i].fill(t.cert, leaf[i])
			if leaf[i] == nil || !leaf[i].Equal(t.cert) {
				if v.forbidden(t.cert, true) {
					return rejected
				}
			}
		case noKey:
		default:
			return c
		}
	}
	return result
}

// forbidden climbs from a certificate through those embedded: one that is ruled
// out takes all below with it.
func (v *check) forbidden(c *x509.Certificate, onKeyring bool) bool {
	for steps := 0; c != nil && steps <= maxCertificates; steps++ {
		switch v.kernel.forbids(c, onKeyring) {
		case "yes":
			v.note("MODULE_CERTIFICATE_FORBIDDEN", c.Subject.String()+fmt.Sprintf(" (serial %x)", c.SerialNumber))
			return true
		case "ignored":
			if !v.has("MODULE_CERTIFICATE_REVOKED") {
				v.note("MODULE_CERTIFICATE_REVOKED", c.Subject.String()+fmt.Sprintf(" (serial %x)", c.SerialNumber))
			}
		}
		c = v.issuerOf(c)
	}
	return false
}

// embeddedSigner returns the certificate in the message that a signer names.
// The kernel finds it by issuer and serial only.
func (v *check) embeddedSigner(s *SignerInfo) *x509.Certificate {
	if s.Serial == nil {
		return nil
	}
	for _, c := range v.module.certs {
		if c.SerialNumber.Cmp(s.Serial) == 0 && bytes.Equal(c.RawIssuer, s.Issuer) {
			return c
		}
	}
	return nil
}

// trusts climbs from the embedded signer to a key on a keyring, or finds the
// signer itself there. What the found key must have signed is the rung below.
func (v *check) trusts(s *SignerInfo, leaf *x509.Certificate) (*trusted, cause) {
	keys := &v.kernel.keys
	below := func(t *trusted) (*trusted, cause) { return v.settle(t, v.verify(s, t.cert.PublicKey)) }
	for c, steps := leaf, 0; c != nil && steps <= maxCertificates; steps++ {
		if t := keys.find(c.RawIssuer, c.SerialNumber); t != nil && bytes.Equal(t.cert.SubjectKeyId, c.SubjectKeyId) {
			return below(t)
		}
		if selfSigned(c) {
			return nil, noKey
		}
		rung := c
		below = func(t *trusted) (*trusted, cause) {
			return v.settle(t, v.kernel.Features.signed(rung, t.cert.PublicKey))
		}
		next := v.issuerOf(c)
		if next == nil || v.kernel.Features.signed(c, next.PublicKey) != nil {
			// Only the authority key identifier leads to the issuer.
			if t := keys.findSKI(c.AuthorityKeyId); t != nil {
				return below(t)
			}
			break
		}
		c = next
	}
	var t *trusted
	if s.Serial != nil {
		t = keys.find(s.Issuer, s.Serial)
	} else {
		t = keys.findSKI(s.SubjectKeyID)
	}
	if t == nil {
		return nil, noKey
	}
	return v.settle(t, v.verify(s, t.cert.PublicKey))
}

// settle ends the climb: a key was found, and err is what it says.
func (v *check) settle(t *trusted, err error) (*trusted, cause) {
	switch {
	case err == nil:
		return t, verified
	case errors.Is(err, errUnsupported):
		v.note("MODULE_SIGNATURE_UNSUPPORTED", err.Error())
	default:
		v.note("MODULE_BAD_SIGNATURE", err.Error())
	}
	return nil, rejected
}

// issuerOf finds a certificate's issuer among the embedded ones, by the
// authority key identifier, as the kernel does.
func (v *check) issuerOf(c *x509.Certificate) *x509.Certificate {
	for _, p := range v.module.certs {
		if p != c && len(c.AuthorityKeyId) > 0 && bytes.Equal(p.SubjectKeyId, c.AuthorityKeyId) {
			return p
		}
	}
	return nil
}

func (v *check) verify(s *SignerInfo, pub crypto.PublicKey) error {
	h := hashOf(s.DigestAlgorithm.OID)
	if !v.kernel.Features.usable(pub) {
		return fmt.Errorf("%w for a key of type %T", errUnsupported, pub)
	}
	return verifyDigest(s, h, v.module.digests[h], pub)
}
