package modsig

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers that a module's signature may name (RFC 5652, RFC 3370,
// RFC 5754, NIST's csor tree for SHA-3).
var (
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidRSA        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
)

var hashes = []struct {
	hash crypto.Hash
	name string
	oid  asn1.ObjectIdentifier
}{
	{crypto.SHA1, "sha1", asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}},
	{crypto.SHA224, "sha224", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 4}},
	{crypto.SHA256, "sha256", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}},
	{crypto.SHA384, "sha384", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}},
	{crypto.SHA512, "sha512", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}},
	{crypto.SHA3_256, "sha3-256", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 8}},
	{crypto.SHA3_384, "sha3-384", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 9}},
	{crypto.SHA3_512, "sha3-512", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 10}},
}

// ecdsaOIDs are ecdsa-with-SHA1 and ecdsa-with-SHA224…512 (RFC 5758, Section 3.2).
var ecdsaOIDs = []struct {
	hash crypto.Hash
	oid  asn1.ObjectIdentifier
}{
	{crypto.SHA1, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}},
	{crypto.SHA224, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 1}},
	{crypto.SHA256, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
	{crypto.SHA384, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}},
	{crypto.SHA512, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}},
}

// Algorithm is an AlgorithmIdentifier; Parameters holds what follows the OID, as found.
type Algorithm struct {
	OID        asn1.ObjectIdentifier
	Parameters []byte
}

// SignerInfo is one signature (RFC 5652, Section 5.3). The signer is named by
// Issuer and Serial, or by SubjectKeyID.
type SignerInfo struct {
	Version            int64
	Issuer             []byte // a Name in DER
	Serial             *big.Int
	SubjectKeyID       []byte
	DigestAlgorithm    Algorithm
	SignedAttributes   []byte // the [0] element; the kernel refuses any
	SignatureAlgorithm Algorithm
	Signature          []byte
	UnsignedAttributes []byte // the [1] element
}

// SignedData is the CMS of a module (RFC 5652, Section 5.1).
type SignedData struct {
	Version          int64
	DigestAlgorithms []Algorithm
	ContentType      asn1.ObjectIdentifier
	Certificates     [][]byte // each one certificate in DER
	CRLs             []byte   // the [1] element; nothing reads it
	Signers          []SignerInfo
}

var (
	errNotDER      = errors.New("not DER")
	errContentType = errors.New("the content type is not signedData")
	errAttached    = errors.New("the signature carries content, it is not detached")
)

// ParseCMS reads a detached SignedData, strictly in DER.
func ParseCMS(raw []byte) (*SignedData, error) {
	if len(raw) > MaxSignature {
		return nil, fmt.Errorf("a signature of %d bytes is over the limit of %d", len(raw), MaxSignature)
	}
	var info, explicit, sd cryptobyte.String
	var typ asn1.ObjectIdentifier
	in := cryptobyte.String(raw)
	if !in.ReadASN1(&info, der.SEQUENCE) || !in.Empty() || !info.ReadASN1ObjectIdentifier(&typ) {
		return nil, fmt.Errorf("reading ContentInfo: %w", errNotDER)
	}
	if !typ.Equal(oidSignedData) {
		return nil, fmt.Errorf("reading ContentInfo: %v: %w", typ, errContentType)
	}
	if !info.ReadASN1(&explicit, der.Tag(0).ContextSpecific().Constructed()) || !info.Empty() ||
		!explicit.ReadASN1(&sd, der.SEQUENCE) || !explicit.Empty() {
		return nil, fmt.Errorf("reading SignedData: %w", errNotDER)
	}
	return parseSignedData(sd)
}

func parseSignedData(sd cryptobyte.String) (*SignedData, error) {
	m := &SignedData{}
	var algs, encap, certs, signers cryptobyte.String
	if !sd.ReadASN1Integer(&m.Version) || !sd.ReadASN1(&algs, der.SET) {
		return nil, fmt.Errorf("reading digestAlgorithms: %w", errNotDER)
	}
	for !algs.Empty() {
		a, ok := readAlgorithm(&algs)
		if !ok || len(m.DigestAlgorithms) == maxSigners {
			return nil, fmt.Errorf("reading digestAlgorithms: %w", errNotDER)
		}
		m.DigestAlgorithms = append(m.DigestAlgorithms, a)
	}
	if !sd.ReadASN1(&encap, der.SEQUENCE) || !encap.ReadASN1ObjectIdentifier(&m.ContentType) {
		return nil, fmt.Errorf("reading encapContentInfo: %w", errNotDER)
	}
	if !encap.Empty() {
		return nil, fmt.Errorf("reading encapContentInfo: %w", errAttached)
	}
	var present bool
	if !sd.ReadOptionalASN1(&certs, &present, der.Tag(0).ContextSpecific().Constructed()) {
		return nil, fmt.Errorf("reading certificates: %w", errNotDER)
	}
	for present && !certs.Empty() {
		var c cryptobyte.String
		if !certs.ReadASN1Element(&c, der.SEQUENCE) {
			return nil, fmt.Errorf("reading certificates: %w", errNotDER)
		}
		if len(m.Certificates) == maxCertificates {
			return nil, fmt.Errorf("reading certificates: more than %d", maxCertificates)
		}
		m.Certificates = append(m.Certificates, c)
	}
	if crls, ok := readOptionalElement(&sd, der.Tag(1).ContextSpecific().Constructed()); !ok {
		return nil, fmt.Errorf("reading crls: %w", errNotDER)
	} else {
		m.CRLs = crls
	}
	if !sd.ReadASN1(&signers, der.SET) || !sd.Empty() {
		return nil, fmt.Errorf("reading signerInfos: %w", errNotDER)
	}
	for !signers.Empty() {
		if len(m.Signers) == maxSigners {
			return nil, fmt.Errorf("reading signerInfos: more than %d", maxSigners)
		}
		s, err := readSigner(&signers)
		if err != nil {
			return nil, err
		}
		m.Signers = append(m.Signers, s)
	}
	if present && len(m.Certificates) == 0 {
		return nil, errors.New("reading certificates: an empty set")
	}
	return m, nil
}

func readSigner(in *cryptobyte.String) (s SignerInfo, err error) {
	var si, sid, sig cryptobyte.String
	var ok bool
	if !in.ReadASN1(&si, der.SEQUENCE) || !si.ReadASN1Integer(&s.Version) {
		return s, fmt.Errorf("reading SignerInfo: %w", errNotDER)
	}
	skid := der.Tag(0).ContextSpecific()
	if si.PeekASN1Tag(skid) {
		if !si.ReadASN1(&sid, skid) || len(sid) == 0 {
			return s, fmt.Errorf("reading the signer's key identifier: %w", errNotDER)
		}
		s.SubjectKeyID = sid
	} else {
		var issuer cryptobyte.String
		s.Serial = new(big.Int)
		if !si.ReadASN1(&sid, der.SEQUENCE) || !sid.ReadASN1Element(&issuer, der.SEQUENCE) ||
			!sid.ReadASN1Integer(s.Serial) || !sid.Empty() {
			return s, fmt.Errorf("reading the signer's issuer and serial: %w", errNotDER)
		}
		s.Issuer = issuer
	}
	if s.DigestAlgorithm, ok = readAlgorithm(&si); !ok {
		return s, fmt.Errorf("reading digestAlgorithm: %w", errNotDER)
	}
	if s.SignedAttributes, ok = readOptionalElement(&si, der.Tag(0).ContextSpecific().Constructed()); !ok {
		return s, fmt.Errorf("reading signedAttrs: %w", errNotDER)
	}
	if s.SignatureAlgorithm, ok = readAlgorithm(&si); !ok {
		return s, fmt.Errorf("reading signatureAlgorithm: %w", errNotDER)
	}
	if !si.ReadASN1(&sig, der.OCTET_STRING) {
		return s, fmt.Errorf("reading signature: %w", errNotDER)
	}
	s.Signature = sig
	if s.UnsignedAttributes, ok = readOptionalElement(&si, der.Tag(1).ContextSpecific().Constructed()); !ok || !si.Empty() {
		return s, fmt.Errorf("reading unsignedAttrs: %w", errNotDER)
	}
	return s, nil
}

func readAlgorithm(in *cryptobyte.String) (a Algorithm, ok bool) {
	var s cryptobyte.String
	if !in.ReadASN1(&s, der.SEQUENCE) || !s.ReadASN1ObjectIdentifier(&a.OID) {
		return a, false
	}
	a.Parameters = s
	var any cryptobyte.String
	var tag der.Tag
	return a, s.Empty() || s.ReadAnyASN1Element(&any, &tag) && s.Empty()
}

func readOptionalElement(in *cryptobyte.String, tag der.Tag) ([]byte, bool) {
	if !in.PeekASN1Tag(tag) {
		return nil, true
	}
	var el cryptobyte.String
	ok := in.ReadASN1Element(&el, tag)
	return el, ok
}

// Marshal returns m in DER: for what ParseCMS returned, the same bytes.
func (m *SignedData) Marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidSignedData)
		b.AddASN1(der.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(der.SEQUENCE, m.marshalBody)
		})
	})
	return b.Bytes()
}

func (m *SignedData) marshalBody(b *cryptobyte.Builder) {
	b.AddASN1Int64(m.Version)
	b.AddASN1(der.SET, func(b *cryptobyte.Builder) {
		for _, a := range m.DigestAlgorithms {
			a.marshal(b)
		}
	})
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(m.ContentType) })
	if len(m.Certificates) > 0 {
		b.AddASN1(der.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddBytes(bytes.Join(m.Certificates, nil))
		})
	}
	b.AddBytes(m.CRLs)
	b.AddASN1(der.SET, func(b *cryptobyte.Builder) {
		for i := range m.Signers {
			b.AddASN1(der.SEQUENCE, m.Signers[i].marshalBody)
		}
	})
}

func (s *SignerInfo) marshalBody(b *cryptobyte.Builder) {
	b.AddASN1Int64(s.Version)
	if s.SubjectKeyID != nil {
		b.AddASN1(der.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(s.SubjectKeyID) })
	} else {
		b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(s.Issuer)
			b.AddASN1BigInt(s.Serial)
		})
	}
	s.DigestAlgorithm.marshal(b)
	b.AddBytes(s.SignedAttributes)
	s.SignatureAlgorithm.marshal(b)
	b.AddASN1OctetString(s.Signature)
	b.AddBytes(s.UnsignedAttributes)
}

func (a Algorithm) marshal(b *cryptobyte.Builder) {
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(a.OID)
		b.AddBytes(a.Parameters)
	})
}

// hashOf returns the hash an OID names, or 0.
func hashOf(oid asn1.ObjectIdentifier) crypto.Hash {
	for _, h := range hashes {
		if h.oid.Equal(oid) {
			return h.hash
		}
	}
	return 0
}

// oidOf is the other way round.
func oidOf(h crypto.Hash) (asn1.ObjectIdentifier, bool) {
	for _, e := range hashes {
		if e.hash == h {
			return e.oid, true
		}
	}
	return nil, false
}

// HashName returns the kernel's name for a hash ("sha256"), or "".
func HashName(h crypto.Hash) string {
	for _, e := range hashes {
		if e.hash == h {
			return e.name
		}
	}
	return ""
}

// HashByName returns the hash of that name, or 0.
func HashByName(name string) crypto.Hash {
	for _, e := range hashes {
		if e.name == name {
			return e.hash
		}
	}
	return 0
}
