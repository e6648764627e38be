package differential

import (
	"crypto/aes"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"math/big"
	"strings"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// What follows is written for these tests from Part 1, clauses 8.4.10, 15.7,
// 16.6 and 18, on purpose without the product's own: an error shared by client
// and engine would not be seen.

func newHash(alg uint16) func() hash.Hash {
	switch alg {
	case hashes["sha1"]:
		return sha1.New
	case hashes["sha384"]:
		return sha512.New384
	case hashes["sha512"]:
		return sha512.New
	}
	return sha256.New
}

func digest(alg uint16, parts ...[]byte) []byte {
	h := newHash(alg)()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func mac(alg uint16, key []byte, parts ...[]byte) []byte {
	m := hmac.New(newHash(alg), key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

func kdfa(alg uint16, key []byte, label string, u, v []byte, bits int) []byte {
	var out []byte
	for i := uint32(1); len(out)*8 < bits; i++ {
		out = append(out, mac(alg, key, u32(i), []byte(label), []byte{0}, u, v, u32(uint32(bits)))...)
	}
	return out[:(bits+7)/8]
}

func kdfe(alg uint16, z []byte, label string, u, v []byte, bits int) []byte {
	var out []byte
	for i := uint32(1); len(out)*8 < bits; i++ {
		out = append(out, digest(alg, u32(i), z, []byte(label), []byte{0}, u, v)...)
	}
	return out[:(bits+7)/8]
}

// A session is one end of an HMAC or policy session.
type session struct {
	handle   uint32
	hash     uint16
	sym      uint16 // null, aes or xor
	bits     int
	key      []byte
	nonceTPM []byte
}

// newSession reads what StartAuthSession was asked and what it answered.
func newSession(r *rendered, a *answer) *session {
	d := tpm2.NewDecoder(r.params)
	var c tpm2.StartAuthSession
	c.DecodeParameters(d)
	x := &session{handle: a.handle, hash: uint16(c.AuthHash), sym: uint16(c.Symmetric.Algorithm)}
	if c.Symmetric.Algorithm == tpm2.AlgAES {
		x.bits = int(c.Symmetric.KeyBits.AES)
	}
	if n := a.field("nonceTPM"); len(n) > 2 {
		x.nonceTPM = n[2:]
	}
	if len(r.handles) == 2 && (r.handles[0] != permanent["null"] || r.handles[1] != permanent["null"]) {
		key := append(trim(r.binding.auth), r.binding.salt...)
		x.key = kdfa(x.hash, key, "ATH", x.nonceTPM, c.NonceCaller, digestSize(x.hash)*8)
	}
	return x
}

func (a *answer) field(name string) []byte {
	for _, f := range a.fields {
		if f.name == name {
			return f.b
		}
	}
	return nil
}

// trim takes trailing zeros off, as of every authValue (Part 1, 16.6.4.3).
func trim(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return append([]byte(nil), b...)
}

// bindAuthFunc is bindauth(X): no octets, but the authValue of the entity that the session is bound to.
func (s *side) bindAuthFunc(args []expr) (_ []byte, err error) {
	s.binding.auth, err = s.eval(args[0])
	return nil, err
}

// saltFunc is salt(KEY[,X]): an encryptedSalt for a key of this TPM (Part 1, B.10.2 and C.6.1).
func (s *side) saltFunc(args []expr) ([]byte, error) {
	h, err := s.handle(args[0].word)
	if err != nil {
		return nil, err
	}
	p, err := s.publicOf(h)
	if err != nil {
		return nil, err
	}
	alg := uint16(p.NameAlg)
	switch p.Type {
	case tpm2.AlgRSA:
		s.binding.salt = kdfa(alg, []byte("a salt"), "SALT", nil, nil, digestSize(alg)*8)
		e := int(p.Parameters.RSADetail.Exponent)
		if e == 0 {
			e = 65537
		}
		key := &rsa.PublicKey{N: new(big.Int).SetBytes(p.Unique.RSA), E: e}
		ct, err := rsa.EncryptOAEP(newHash(alg)(), rand.Reader, key, s.binding.salt, []byte("SECRET\x00"))
		if err != nil {
			return nil, errNoSlot
		}
		return sized(ct), nil
	case tpm2.AlgECC:
		var c ecdh.Curve
		switch p.Parameters.ECCDetail.CurveID {
		case tpm2.ECCNISTP256:
			c = ecdh.P256()
		case tpm2.ECCNISTP384:
			c = ecdh.P384()
		case tpm2.ECCNISTP521:
			c = ecdh.P521()
		default:
			return nil, errNoSlot
		}
		own, err := c.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		q := own.PublicKey().Bytes()
		n := (len(q) - 1) / 2
		x, y := pad(p.Unique.ECC.X, n), pad(p.Unique.ECC.Y, n)
		peer, err := c.NewPublicKey(append(append([]byte{4}, x...), y...))
		if err != nil {
			return nil, errNoSlot
		}
		z, err := own.ECDH(peer)
		if err != nil {
			return nil, err
		}
		s.binding.salt = kdfe(alg, z, "SECRET", q[1:1+n], x, digestSize(alg)*8)
		return sized(append(sized(q[1:1+n]), sized(q[1+n:])...)), nil
	}
	return nil, errNoSlot
}

func pad(b []byte, n int) []byte {
	if len(b) >= n {
		return b
	}
	return append(make([]byte, n-len(b)), b...)
}

// An auth is one authorization of a command.
type auth struct {
	raw    []byte   // the octets as they are, for pw and raw
	x      *session // else the session
	attrs  byte
	value  []byte // the authValue that goes into the HMAC
	extra  []byte // the authValue that goes into the encryption key
	policy bool   // a policy session: an empty key gives an empty HMAC
	plain  bool   // PolicyPassword: the authValue in place of the HMAC
	broken bool   // spoil the HMAC
	nonce  []byte
}

var sessionBits = map[string]byte{"c": 1, "x": 2, "r": 4, "d": 0x20, "e": 0x40, "a": 0x80, "8": 8, "10": 0x10}

// readAuth reads pw(AUTH), raw(X), s($S,ATTRS[,AUTH[,EXTRA]]), p(…) for a policy session, pp(…) for one with
// PolicyPassword; bads and badp spoil the HMAC. ATTRS is c (continue), d, e, a, x, r joined by +, or 0.
func (s *side) readAuth(tok string) (*auth, error) {
	e, err := parseExpr(tok)
	if err != nil {
		return nil, err
	}
	switch e.word {
	case "pw":
		v, err := s.evalAll(e.args)
		b := append(u32(permanent["pw"]), 0, 0, 0)
		return &auth{raw: append(b, sized(v)...)}, err
	case "raw":
		v, err := s.evalAll(e.args)
		return &auth{raw: v}, err
	case "s", "p", "pp", "bads", "badp":
	default:
		return nil, fmt.Errorf("unknown authorization %q", tok)
	}
	if len(e.args) < 2 {
		return nil, fmt.Errorf("%s wants a session and attributes", tok)
	}
	sl := s.slots[strings.TrimPrefix(e.args[0].word, "$")]
	if sl == nil || sl.session == nil {
		return nil, errNoSlot
	}
	a := &auth{x: sl.session, policy: e.word == "p" || e.word == "pp" || e.word == "badp", plain: e.word == "pp", broken: strings.HasPrefix(e.word, "bad")}
	for _, w := range strings.Split(e.args[1].word, "+") {
		a.attrs |= sessionBits[w]
	}
	if len(e.args) > 2 {
		if a.value, err = s.eval(e.args[2]); err != nil {
			return nil, err
		}
		a.value = trim(a.value)
		a.extra = a.value
	}
	if len(e.args) > 3 {
		if a.extra, err = s.eval(e.args[3]); err != nil {
			return nil, err
		}
		a.extra = trim(a.extra)
	}
	a.nonce = digest(a.x.hash, []byte("nonceCaller"), u16(uint16(len(s.slots))))
	return a, nil
}

// cryptKey is what parameters are encrypted with in this session (Part 1, 18).
func (a *auth) cryptKey() []byte { return append(append([]byte(nil), a.x.key...), a.extra...) }

// crypt encrypts or decrypts the first parameter, a sized buffer, in place.
func (a *auth) crypt(params, newer, older []byte, decrypt bool) {
	if len(params) < 2 {
		return
	}
	n := min(int(binary.BigEndian.Uint16(params)), len(params)-2)
	data := params[2 : 2+n]
	switch a.x.sym {
	case algorithms["xor"]:
		mask := kdfa(a.x.hash, a.cryptKey(), "XOR", newer, older, n*8)
		for i := range data {
			data[i] ^= mask[i]
		}
	case algorithms["aes"]:
		k := kdfa(a.x.hash, a.cryptKey(), "CFB", newer, older, a.x.bits+128)
		block, err := aes.NewCipher(k[:a.x.bits/8])
		if err != nil {
			return
		}
		iv := k[a.x.bits/8:]
		ks := make([]byte, 16)
		for len(data) > 0 {
			block.Encrypt(ks, iv)
			m := min(16, len(data))
			in := append([]byte(nil), data[:m]...)
			for i := range m {
				data[i] ^= ks[i]
			}
			if decrypt {
				iv = in
			} else {
				iv = data[:m]
			}
			data = data[m:]
		}
	}
}

// encrypted returns the parameters as they go on the wire.
func (s *side) encrypted(r *rendered) []byte {
	out := append([]byte(nil), r.params...)
	for _, a := range r.auths {
		if a.x != nil && a.attrs&sessionBits["d"] != 0 {
			a.crypt(out, a.nonce, a.x.nonceTPM, false)
			break
		}
	}
	return out
}

// decrypted returns the response parameters in clear.
func (s *side) decrypted(r *rendered, params []byte) []byte {
	for _, a := range r.auths {
		if a.x != nil && a.attrs&sessionBits["e"] != 0 {
			params = append([]byte(nil), params...)
			a.crypt(params, a.x.nonceTPM, a.nonce, true)
			break
		}
	}
	return params
}

// authorize makes the authorization area (Part 1, 16.6).
func (s *side) authorize(code uint32, r *rendered) ([]byte, error) {
	var out []byte
	var names []byte
	var cp map[uint16][]byte
	for i, a := range r.auths {
		if a.x == nil {
			out = append(out, a.raw...)
			continue
		}
		if cp == nil {
			cp = map[uint16][]byte{}
			for _, h := range r.handles {
				names = append(names, s.nameOf(h)...)
			}
		}
		if cp[a.x.hash] == nil {
			cp[a.x.hash] = digest(a.x.hash, u32(code), names, s.encrypted(r))
		}
		out = append(append(out, u32(a.x.handle)...), sized(a.nonce)...)
		out = append(out, a.attrs)
		out = append(out, sized(a.hmac(cp[a.x.hash], a.nonce, a.x.nonceTPM, s.otherNonces(r, i), a.attrs))...)
	}
	return out, nil
}

// otherNonces are the nonceTPM of the decrypt and encrypt sessions, which the first session covers (Part 1, 16.6.3.4).
func (s *side) otherNonces(r *rendered, i int) []byte {
	if i != 0 {
		return nil
	}
	var out []byte
	dec := -1
	for j, a := range r.auths {
		if a.x != nil && a.attrs&sessionBits["d"] != 0 {
			dec = j
			if j != 0 {
				out = append(out, a.x.nonceTPM...)
			}
			break
		}
	}
	for j, a := range r.auths {
		if a.x != nil && a.attrs&sessionBits["e"] != 0 {
			if j != 0 && j != dec {
				out = append(out, a.x.nonceTPM...)
			}
			break
		}
	}
	return out
}

func (a *auth) hmac(pHash, newer, older, others []byte, attrs byte) []byte {
	if a.plain {
		return a.value
	}
	key := append(append([]byte(nil), a.x.key...), a.value...)
	if a.policy && len(key) == 0 {
		return nil
	}
	m := mac(a.x.hash, key, pHash, newer, older, others, []byte{attrs})
	if a.broken {
		m[0] ^= 1
	}
	return m
}

// changesAuth are the commands whose answer is authorized with the new value.
var changesAuth = map[tpm2.CC]bool{tpm2.CCHierarchyChangeAuth: true, tpm2.CCNVChangeAuth: true, tpm2.CCClear: true, tpm2.CCPCRSetAuthValue: true,
	tpm2.CCChangeEPS: true, tpm2.CCChangePPS: true}

// checkAuths reads the response's authorization area, rolls the nonces and says what is wrong with it.
func (s *side) checkAuths(r *rendered, a *answer, params, area []byte) string {
	fault := ""
	for i, au := range r.auths {
		nonce, rest, err1 := takeSized(area)
		if err1 != nil || len(rest) < 1 {
			return fmt.Sprintf("authorization %d of the response is cut short", i+1)
		}
		attrs := rest[0]
		m, rest, err := takeSized(rest[1:])
		if err != nil {
			return fmt.Sprintf("authorization %d of the response is cut short", i+1)
		}
		area = rest
		if au.x == nil {
			if len(nonce) != 0 || attrs != 1 || len(m) != 0 {
				fault = fmt.Sprintf("a password authorization is answered by %x %02x %x", nonce, attrs, m)
			}
			continue
		}
		au.x.nonceTPM = append([]byte(nil), nonce...)
		if changesAuth[r.info.Code] || au.broken {
			continue
		}
		rp := digest(au.x.hash, u32(0), u32(uint32(r.info.Code)), params)
		want := au.hmac(rp, nonce, au.nonce, nil, attrs)
		if au.plain {
			want = nil
		}
		if !hmac.Equal(m, want) {
			fault = fmt.Sprintf("HMAC %d of the response does not verify", i+1)
		}
	}
	if len(area) != 0 {
		return "octets after the response's authorization area"
	}
	return fault
}

func takeSized(b []byte) (v, rest []byte, err error) {
	n, err := beUint16(b)
	if err != nil || len(b) < 2+n {
		return nil, nil, errors.New("too short")
	}
	return b[2 : 2+n], b[2+n:], nil
}
