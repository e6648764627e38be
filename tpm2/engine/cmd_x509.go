package engine

import (
	encoding "encoding/asn1"
	"encoding/binary"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

var (
	oidKeyUsage   = encoding.ObjectIdentifier{2, 5, 29, 15}
	oidTPMAObject = encoding.ObjectIdentifier{2, 23, 133, 10, 1, 1, 1} // tcg-tpmaObject
	oidRSA        = encoding.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidRSAPSS     = encoding.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidMGF1       = encoding.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidEC         = encoding.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
)

// hashOIDs are of each hash: its own, that of RSASSA and that of ECDSA with it.
var hashOIDs = map[tpm2.AlgID][3]encoding.ObjectIdentifier{
	tpm2.AlgSHA1:   {{1, 3, 14, 3, 2, 26}, {1, 2, 840, 113549, 1, 1, 5}, {1, 2, 840, 10045, 4, 1}},
	tpm2.AlgSHA256: {{2, 16, 840, 1, 101, 3, 4, 2, 1}, {1, 2, 840, 113549, 1, 1, 11}, {1, 2, 840, 10045, 4, 3, 2}},
	tpm2.AlgSHA384: {{2, 16, 840, 1, 101, 3, 4, 2, 2}, {1, 2, 840, 113549, 1, 1, 12}, {1, 2, 840, 10045, 4, 3, 3}},
	tpm2.AlgSHA512: {{2, 16, 840, 1, 101, 3, 4, 2, 3}, {1, 2, 840, 113549, 1, 1, 13}, {1, 2, 840, 10045, 4, 3, 4}},
}

var curveOIDs = map[tpm2.ECCCurve]encoding.ObjectIdentifier{
	tpm2.ECCNISTP256: {1, 2, 840, 10045, 3, 1, 7}, tpm2.ECCNISTP384: {1, 3, 132, 0, 34}, tpm2.ECCNISTP521: {1, 3, 132, 0, 35},
}

// addSignatureAlgorithm appends the AlgorithmIdentifier of a signing scheme (RFC 5280, 4.1.1.2).
func addSignatureAlgorithm(b *cryptobyte.Builder, s *tpm2.TPMTSigScheme) tpm2.RC {
	h := s.Details.Any.HashAlg
	oids, ok := hashOIDs[h]
	if !ok {
		return tpm2.RCScheme
	}
	hash := func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oids[0])
			b.AddASN1NULL()
		})
	}
	switch s.Scheme {
	case tpm2.AlgRSASSA:
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oids[1])
			b.AddASN1NULL()
		})
	case tpm2.AlgRSAPSS: // (RFC 4055, 3.1)
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidRSAPSS)
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.Tag(0).ContextSpecific().Constructed(), hash)
				b.AddASN1(asn1.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(oidMGF1)
						hash(b)
					})
				})
				b.AddASN1(asn1.Tag(2).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
					b.AddASN1Int64(int64(h.DigestSize()))
				})
			})
		})
	case tpm2.AlgECDSA:
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oids[2]) })
	default:
		return tpm2.RCScheme
	}
	return tpm2.RCSuccess
}

// addPublicKey appends the SubjectPublicKeyInfo of an asymmetric key (RFC 5280, 4.1.2.7).
func addPublicKey(b *cryptobyte.Builder, p *tpm2.TPMTPublic) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if p.Type == tpm2.AlgRSA {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidRSA)
				b.AddASN1NULL()
			})
			b.AddASN1(asn1.BIT_STRING, func(b *cryptobyte.Builder) {
				b.AddUint8(0)
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1BigInt(new(big.Int).SetBytes(p.Unique.RSA))
					b.AddASN1Int64(rsaExponent)
				})
			})
			return
		}
		c := p.Parameters.ECCDetail.CurveID
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidEC)
			b.AddASN1ObjectIdentifier(curveOIDs[c])
		})
		b.AddASN1BitString(append(append([]byte{4}, leftPad(p.Unique.ECC.X, coordinateSize(c))...), leftPad(p.Unique.ECC.Y, coordinateSize(c))...))
	})
}

// partial is a partialCertificate taken apart, each part with its tag.
type partial struct {
	algorithm  []byte // empty: the TPM makes it
	names      []byte // issuer, validity, subject
	extensions []byte
}

// parsePartial takes a partialCertificate apart; it has four elements or five (Part 3, 18.8.1).
func parsePartial(der []byte) (p partial, ok bool) {
	in := cryptobyte.String(der)
	var all cryptobyte.String
	if !in.ReadASN1(&all, asn1.SEQUENCE) || !in.Empty() {
		return p, false
	}
	var parts []cryptobyte.String
	for !all.Empty() {
		var e cryptobyte.String
		var tag asn1.Tag
		if len(parts) == 5 || !all.ReadAnyASN1Element(&e, &tag) || (tag == asn1.Tag(3).ContextSpecific().Constructed()) != all.Empty() ||
			!all.Empty() && tag != asn1.SEQUENCE {
			return p, false
		}
		parts = append(parts, e)
	}
	switch len(parts) {
	case 5:
		p.algorithm, parts = parts[0], parts[1:]
	case 4:
	default:
		return p, false
	}
	for _, e := range parts[:3] {
		p.names = append(p.names, e...)
	}
	p.extensions = parts[3]
	return p, true
}

// checkExtensions verifies that the extensions say of the object what is true
// of it: Key Usage, which must be there, and TPMA_OBJECT, which may (Part 2, 8.11).
func checkExtensions(der []byte, a tpm2.ObjectAttributes) tpm2.RC {
	in := cryptobyte.String(der)
	var outer, list cryptobyte.String
	if !in.ReadASN1(&outer, asn1.Tag(3).ContextSpecific().Constructed()) || !outer.ReadASN1(&list, asn1.SEQUENCE) || !outer.Empty() {
		return tpm2.RCValue.Param(3)
	}
	found := false
	for !list.Empty() {
		var ext, value cryptobyte.String
		var oid encoding.ObjectIdentifier
		var critical bool
		if !list.ReadASN1(&ext, asn1.SEQUENCE) || !ext.ReadASN1ObjectIdentifier(&oid) ||
			!ext.ReadOptionalASN1Boolean(&critical, asn1.BOOLEAN, false) || !ext.ReadASN1(&value, asn1.OCTET_STRING) || !ext.Empty() {
			return tpm2.RCValue.Param(3)
		}
		usage, object := oid.Equal(oidKeyUsage), oid.Equal(oidTPMAObject)
		if !usage && !object {
			continue
		}
		var bits encoding.BitString
		if !value.ReadASN1BitString(&bits) || !value.Empty() {
			return tpm2.RCValue.Param(3)
		}
		if usage {
			found = true
			if !usageHolds(&bits, a) {
				return tpm2.RCAttributes.Handle(1)
			}
		}
		if object && (bits.BitLength != 32 || binary.BigEndian.Uint32(bits.Bytes) != uint32(a)) {
			return tpm2.RCAttributes.Handle(1)
		}
	}
	if !found {
		return tpm2.RCValue.Param(3)
	}
	return tpm2.RCSuccess
}

// usageHolds verifies Key Usage bit by bit (Part 2, 8.11, Table 45; RFC 5280, 4.2.1.3).
func usageHolds(bits *encoding.BitString, a tpm2.ObjectAttributes) bool {
	want := [...]tpm2.ObjectAttributes{
		tpm2.SignEncrypt,               // digitalSignature
		tpm2.FixedTPM,                  // nonRepudiation
		tpm2.Decrypt | tpm2.Restricted, // keyEncipherment
		tpm2.Decrypt,                   // dataEncipherment
		tpm2.Decrypt,                   // keyAgreement
		tpm2.SignEncrypt,               // keyCertSign
		tpm2.SignEncrypt,               // cRLSign
		tpm2.Decrypt,                   // encipherOnly
		tpm2.Decrypt,                   // decipherOnly
	}
	for i, w := range want {
		if bits.At(i) != 0 && !a.Has(w) {
			return false
		}
	}
	return true
}

// certifyX509 is TPM2_CertifyX509 (Part 3, 18.8).
func (t *TPM) certifyX509(_ *call, in *tpm2.CertifyX509, out *tpm2.CertifyX509Response) tpm2.RC {
	o := t.object(in.ObjectHandle)
	key, rc := t.checkAttestKey(in.SignHandle, 2)
	switch {
	case rc != tpm2.RCSuccess:
		return rc
	case o.seq != nil || o.pub.Type != tpm2.AlgRSA && o.pub.Type != tpm2.AlgECC:
		return tpm2.RCType.Handle(1)
	case len(in.Reserved) != 0:
		return tpm2.RCSize.Param(1)
	}
	scheme, rc := signScheme(key, &in.InScheme)
	if rc != tpm2.RCSuccess {
		return rc.Param(2)
	}
	p, ok := parsePartial(in.PartialCertificate)
	if !ok {
		return tpm2.RCValue.Param(3)
	}
	if rc := checkExtensions(p.extensions, o.pub.ObjectAttributes); rc != tpm2.RCSuccess {
		return rc
	}

	// What the TPM adds, and the whole, in the order of RFC 5280, 4.1.
	var head, alg, spki cryptobyte.Builder
	head.AddASN1(asn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) })
	// A serial number that nobody can foresee and that is the same for the same
	// certificate; below 20 octets and positive (RFC 5280, 4.1.2.2).
	serial := crypt.HMAC(ticketHash, t.proof(key.hierarchy), []byte("X509"), key.name, o.name, in.PartialCertificate)[:19]
	serial[0] = serial[0]&0x7f | 0x40
	head.AddASN1BigInt(new(big.Int).SetBytes(serial))
	added := p.algorithm == nil
	if added {
		if rc := addSignatureAlgorithm(&alg, &scheme); rc != tpm2.RCSuccess {
			return rc.Param(2)
		}
	} else if scheme.Scheme == tpm2.AlgHMAC || scheme.Scheme == tpm2.AlgMLDSA {
		return tpm2.RCScheme.Param(2)
	}
	addPublicKey(&spki, &o.pub)
	ours := append(head.BytesOrPanic(), alg.BytesOrPanic()...)
	tbs := sequenceOf(ours, p.algorithm, p.names, spki.BytesOrPanic(), p.extensions)
	out.AddedToCertificate = sequenceOf(ours, spki.BytesOrPanic())
	out.TbsDigest = crypt.Digest(scheme.Details.Any.HashAlg, tbs)
	out.Signature, rc = t.signDigest(key, &scheme, out.TbsDigest)
	return rc
}

// sequenceOf is an ASN.1 SEQUENCE of elements that are encoded already.
func sequenceOf(parts ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, p := range parts {
			b.AddBytes(p)
		}
	})
	return b.BytesOrPanic()
}
