// Package variants makes the files that the kernel's verdict is asked for:
// one genuine module, and what accidents, attackers and other people's tools
// make of it. It is for tests only. Begin with [Make].
package variants

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"

	"github.com/vouchsafe/vouchsafe/modsig"
)

// File is one variant.
type File struct {
	Name string
	Data []byte
}

type maker struct {
	files   []File
	genuine []byte
	a       modsig.Appended
	keys    *Keys
	err     error
}

func (m *maker) add(name string, parts ...[]byte) {
	m.files = append(m.files, File{fmt.Sprintf("%02d-%s", len(m.files)+1, name), bytes.Join(parts, nil)})
}

// Make returns every variant of a genuine signed module. other is the same
// module of another kernel; without it that variant is left out.
func Make(genuine, other []byte, keys *Keys) ([]File, error) {
	a := modsig.Split(genuine)
	if a.Signature == nil {
		return nil, fmt.Errorf("the genuine module is not signed")
	}
	m := &maker{genuine: genuine, a: a, keys: keys}
	m.accidents()
	m.keysAndHashes()
	m.chains()
	m.oddities()
	if other != nil {
		m.add("other-kernel", other)
	}
	return m.files, m.err
}

func flip(b []byte, at int, mask byte) []byte {
	c := bytes.Clone(b)
	c[at] ^= mask
	return c
}

func (m *maker) accidents() {
	content, sig, magic := m.a.Content, m.a.Signature, []byte(modsig.Magic)
	info := m.genuine[len(content)+len(sig) : len(m.genuine)-len(magic)]
	in := bytes.Index(content, []byte("description=")) + 13
	tooLong := binary.BigEndian.AppendUint32(bytes.Clone(info[:8]), uint32(2*len(m.genuine)))
	m.add("genuine", m.genuine)
	m.add("flip-content", flip(content, in, 1), sig, info, magic)
	m.add("flip-signature", content, flip(sig, len(sig)-10, 1), info, magic)
	m.add("flip-asn1", content, flip(sig, 20, 0x40), info, magic)
	m.add("unsigned", content)
	m.add("trailing-byte", m.genuine, []byte("\n"))
	m.add("truncated-content", content[:len(content)-100], sig, info, magic)
	m.add("siglen-too-big", content, sig, tooLong, magic)
	m.add("siglen-zero", content, sig, info[:8], make([]byte, 4), magic)
	m.add("idtype-pgp", content, sig, []byte{0, 0, 0}, info[3:], magic)
	m.add("nonzero-params", content, sig, []byte{0, 4}, info[2:], magic)
	m.add("magic-only", content, magic)
	m.add("cut-in-half", content[:len(content)/2])
}

func (m *maker) sign(name string, p Pair, o modsig.SignOptions) []byte {
	return m.signOver(name, m.a.Content, p, o)
}

func (m *maker) signOver(name string, content []byte, p Pair, o modsig.SignOptions) []byte {
	out, err := modsig.Sign(content, p.Key, p.Cert, o)
	if err != nil && m.err == nil {
		m.err = fmt.Errorf("%s: %w", name, err)
	}
	m.add(name, out)
	return out
}

func (m *maker) keysAndHashes() {
	k := m.keys
	m.sign("unknown-key", k.Unknown, modsig.SignOptions{})
	m.sign("ours-sha1", k.RSA, modsig.SignOptions{Hash: crypto.SHA1})
	m.sign("ours-sha224", k.RSA, modsig.SignOptions{Hash: crypto.SHA224})
	m.sign("ours-sha256", k.RSA, modsig.SignOptions{})
	m.sign("ours-sha384", k.RSA, modsig.SignOptions{Hash: crypto.SHA384})
	m.sign("ours-sha512", k.RSA, modsig.SignOptions{Hash: crypto.SHA512})
	m.sign("ours-sha3-256", k.RSA, modsig.SignOptions{Hash: crypto.SHA3_256})
	m.sign("ours-p256", k.P256, modsig.SignOptions{})
	m.sign("ours-p384", k.P384, modsig.SignOptions{})
	m.sign("ours-p384-sha384", k.P384, modsig.SignOptions{Hash: crypto.SHA384})
	m.sign("ours-expired", k.Expired, modsig.SignOptions{})
	m.sign("ours-by-keyid", k.RSA, modsig.SignOptions{ByKeyID: true})
	m.signOver("signed-twice", m.genuine, k.RSA, modsig.SignOptions{})
	m.signOver("not-elf", []byte("this is no module, though it is signed by a key of ours"), k.RSA, modsig.SignOptions{})
}

func (m *maker) chains() {
	k := m.keys
	embed := func(p ...Pair) modsig.SignOptions {
		var o modsig.SignOptions
		for _, x := range p {
			o.Embed = append(o.Embed, x.Cert)
		}
		return o
	}
	m.sign("leaf-plain", k.Leaf, modsig.SignOptions{})
	out := m.sign("leaf-embedded", k.Leaf, embed(k.Leaf))
	m.add("leaf-embedded-flip", flip(out, bytes.Index(out, []byte("description="))+13, 1))
	o := embed(k.Leaf)
	o.ByKeyID = true
	m.sign("leaf-embedded-by-keyid", k.Leaf, o)
	m.sign("leaf-embedded-p384", k.LeafEC, embed(k.LeafEC))
	m.sign("leaf-embedded-no-aki", k.LeafNoAKI, embed(k.LeafNoAKI))
	m.sign("leaf-embedded-cert-sha512", k.LeafSHA512, embed(k.LeafSHA512))
	m.sign("leaf-below-intermediate", k.LeafBelow, embed(k.LeafBelow, k.Intermediate))
	m.sign("leaf-without-intermediate", k.LeafBelow, embed(k.LeafBelow))
	m.sign("leaf-with-ca", k.Leaf, embed(k.Leaf, k.CA))
	m.sign("impostor-embedded", k.Impostor, embed(k.Impostor))
	m.sign("unknown-embedded", k.Unknown, embed(k.Unknown))
}

// message takes the CMS of a fresh signature apart for a change.
func (m *maker) message(p Pair, o modsig.SignOptions) *modsig.SignedData {
	out, err := modsig.Sign(m.a.Content, p.Key, p.Cert, o)
	if err != nil {
		m.err = err
		return &modsig.SignedData{}
	}
	cms, err := modsig.ParseCMS(modsig.Split(out).Signature)
	if err != nil {
		m.err = err
		return &modsig.SignedData{}
	}
	return cms
}

func (m *maker) addMessage(name string, cms *modsig.SignedData) []byte {
	raw, err := cms.Marshal()
	if err == nil {
		raw, err = modsig.Append(m.a.Content, raw)
	}
	if err != nil && m.err == nil {
		m.err = fmt.Errorf("%s: %w", name, err)
	}
	m.add(name, raw)
	return raw
}

func (m *maker) oddities() {
	k := m.keys
	both := m.message(k.Unknown, modsig.SignOptions{})
	both.Signers = append(both.Signers, m.message(k.RSA, modsig.SignOptions{}).Signers...)
	m.addMessage("two-signers-one-known", both)

	both = m.message(k.RSA, modsig.SignOptions{Hash: crypto.SHA512})
	both.Signers = append(both.Signers, m.message(k.RSA, modsig.SignOptions{}).Signers...)
	both.DigestAlgorithms = append(both.DigestAlgorithms, both.Signers[1].DigestAlgorithm)
	m.addMessage("two-signers-sha512-sha256", both)

	both = m.message(k.RSA, modsig.SignOptions{})
	wrong := m.message(k.RSA, modsig.SignOptions{}).Signers[0]
	wrong.Signature = flip(wrong.Signature, 9, 1)
	both.Signers = append(both.Signers, wrong)
	m.addMessage("two-signers-one-wrong", both)

	m.addMessage("signed-attributes", m.withAttributes())
	m.addMessage("rsa-pss", m.withPSS())

	ed := m.message(k.RSA, modsig.SignOptions{Hash: crypto.SHA512})
	ed.Signers[0].SignatureAlgorithm = modsig.Algorithm{OID: asn1.ObjectIdentifier{1, 3, 101, 112}}
	ed.Signers[0].Issuer, ed.Signers[0].Serial = k.Ed25519.Cert.RawIssuer, k.Ed25519.Cert.SerialNumber
	m.addMessage("ed25519", ed)

	none := m.message(k.RSA, modsig.SignOptions{})
	none.Signers = nil
	m.addMessage("no-signers", none)

	typ := m.message(k.RSA, modsig.SignOptions{})
	typ.ContentType = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4} // TSTInfo
	m.addMessage("content-type-not-data", typ)

	plain := m.message(k.RSA, modsig.SignOptions{})
	raw, err := plain.Marshal()
	if err != nil {
		m.err = err
		return
	}
	m.addRaw("cms-trailing-byte", append(bytes.Clone(raw), 0))
	m.addRaw("cms-ber-indefinite", indefinite(raw))
	m.addRaw("cms-not-signed-data", bytes.Replace(raw, []byte("\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"), []byte("\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03"), 1))
	m.signOver("not-elf-long", bytes.Repeat([]byte("no module "), 20), k.RSA, modsig.SignOptions{})
	m.signOver("not-relocatable", append([]byte("\x7fELF\x01\x01\x01"), make([]byte, 200)...), k.RSA, modsig.SignOptions{})
}

func (m *maker) addRaw(name string, cms []byte) {
	out, err := modsig.Append(m.a.Content, cms)
	if err != nil {
		m.err = err
	}
	m.add(name, out)
}

// indefinite turns the outermost length into BER's indefinite form.
func indefinite(der []byte) []byte {
	return append(append([]byte{0x30, 0x80}, der[4:]...), 0, 0)
}

func (m *maker) digest() []byte {
	h := crypto.SHA256.New()
	h.Write(m.a.Content)
	return h.Sum(nil)
}

// withAttributes is what openssl cms -sign makes unless told -noattr
// (RFC 5652, Section 5.4).
func (m *maker) withAttributes() *modsig.SignedData {
	cms := m.message(m.keys.RSA, modsig.SignOptions{})
	type attribute struct {
		Type   asn1.ObjectIdentifier
		Values any `asn1:"set"`
	}
	set, err := asn1.MarshalWithParams([]attribute{
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}, []asn1.ObjectIdentifier{cms.ContentType}},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}, [][]byte{m.digest()}},
	}, "set")
	if err != nil {
		m.err = err
		return cms
	}
	h := crypto.SHA256.New()
	h.Write(set)
	sig, err := m.keys.RSA.Key.Sign(rand.Reader, h.Sum(nil), crypto.SHA256)
	if err != nil {
		m.err = err
		return cms
	}
	cms.Signers[0].SignedAttributes = append([]byte{0xa0}, set[1:]...)
	cms.Signers[0].Signature = sig
	return cms
}

func (m *maker) withPSS() *modsig.SignedData {
	cms := m.message(m.keys.RSA, modsig.SignOptions{})
	sig, err := rsa.SignPSS(rand.Reader, m.keys.RSA.Key.(*rsa.PrivateKey), crypto.SHA256, m.digest(), &rsa.PSSOptions{SaltLength: 32})
	if err != nil {
		m.err = err
		return cms
	}
	// The parameters as RFC 4055, Section 3.1 has them for SHA-256.
	type params struct {
		Hash pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
		MGF  pkix.AlgorithmIdentifier `asn1:"explicit,tag:1"`
		Salt int                      `asn1:"explicit,tag:2"`
	}
	sha256 := pkix.AlgorithmIdentifier{Algorithm: cms.Signers[0].DigestAlgorithm.OID}
	inner, err := asn1.Marshal(sha256)
	if err != nil {
		m.err = err
		return cms
	}
	p, err := asn1.Marshal(params{sha256, pkix.AlgorithmIdentifier{
		Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}, Parameters: asn1.RawValue{FullBytes: inner}}, 32})
	if err != nil {
		m.err = err
		return cms
	}
	cms.Signers[0].SignatureAlgorithm = modsig.Algorithm{OID: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}, Parameters: p}
	cms.Signers[0].Signature = sig
	return cms
}

// Certificates returns those of the pairs: what a kernel's image would hold.
func Certificates(p ...Pair) []*x509.Certificate {
	var out []*x509.Certificate
	for _, x := range p {
		out = append(out, x.Cert)
	}
	return out
}
