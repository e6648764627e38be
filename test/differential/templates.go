package differential

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// algorithms by the names that sequences use (Part 2, 6.3).
var algorithms = map[string]uint16{
	"rsa": 0x01, "tdes": 0x03, "sha1": 0x04, "hmac": 0x05, "aes": 0x06, "mgf1": 0x07, "keyedhash": 0x08, "xor": 0x0a,
	"sha256": 0x0b, "sha384": 0x0c, "sha512": 0x0d, "null": 0x10, "sm3": 0x12, "sm4": 0x13, "rsassa": 0x14, "rsaes": 0x15,
	"rsapss": 0x16, "oaep": 0x17, "ecdsa": 0x18, "ecdh": 0x19, "ecdaa": 0x1a, "sm2": 0x1b, "ecschnorr": 0x1c, "ecmqv": 0x1d,
	"kdf1_56a": 0x20, "kdf2": 0x21, "kdf1_108": 0x22, "ecc": 0x23, "symcipher": 0x25, "camellia": 0x26,
	"sha3_256": 0x27, "sha3_384": 0x28, "sha3_512": 0x29, "ctr": 0x40, "ofb": 0x41, "cbc": 0x42, "cfb": 0x43, "ecb": 0x44,
	"error": 0x00, "none": 0x7fff,
}

var hashes = map[string]uint16{"sha1": 0x04, "sha256": 0x0b, "sha384": 0x0c, "sha512": 0x0d}

var curves = map[string]uint16{"p192": 1, "p224": 2, "p256": 3, "p384": 4, "p521": 5, "bn256": 0x10, "none": 0, "bad": 0x7777}

// TPMA_OBJECT and TPMA_NV by short names (Part 2, 8.3 and 13.4).
var objectBits = map[string]uint32{
	"FT": 1 << 1, "STC": 1 << 2, "FP": 1 << 4, "SDO": 1 << 5, "UWA": 1 << 6, "AWP": 1 << 7, "NODA": 1 << 10, "ED": 1 << 11,
	"R": 1 << 16, "D": 1 << 17, "S": 1 << 18, "X509": 1 << 19,
}

var nvBits = map[string]uint32{
	"PPW": 1 << 0, "OW": 1 << 1, "AW": 1 << 2, "PW": 1 << 3, "COUNTER": 1 << 4, "BITS": 2 << 4, "EXTEND": 4 << 4, "PINFAIL": 8 << 4, "PINPASS": 9 << 4,
	"PD": 1 << 10, "WL": 1 << 11, "WA": 1 << 12, "WD": 1 << 13, "WSTC": 1 << 14, "GL": 1 << 15,
	"PPR": 1 << 16, "OR": 1 << 17, "AR": 1 << 18, "PR": 1 << 19,
	"NODA": 1 << 25, "ORD": 1 << 26, "CSTC": 1 << 27, "RL": 1 << 28, "WRITTEN": 1 << 29, "PC": 1 << 30, "RSTC": 1 << 31,
}

func bits(table map[string]uint32, word string) (uint32, error) {
	var v uint32
	for _, w := range strings.Split(word, "+") {
		if b, ok := table[w]; ok {
			v |= b
			continue
		}
		n, err := strconv.ParseUint(w, 0, 32)
		if err != nil {
			return 0, fmt.Errorf("unknown attribute %q", w)
		}
		v |= uint32(n)
	}
	return v, nil
}

func u16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
func sized(b []byte) []byte {
	return append(u16(uint16(len(b))), b...)
}

// scheme encodes a TPMT_…_SCHEME or TPMT_SYM_DEF by name: null, ecdsa-sha256, xor-sha256-mgf1, aes128cfb.
func scheme(word string) ([]byte, error) {
	parts := strings.Split(word, "-")
	var out []byte
	if i := strings.IndexAny(parts[0], "0123456789"); i > 0 && algorithms[parts[0]] == 0 {
		alg, ok := algorithms[parts[0][:i]]
		rest := strings.TrimLeft(parts[0][i:], "0123456789")
		size, err := strconv.ParseUint(strings.TrimSuffix(parts[0][i:], rest), 10, 16)
		mode, ok2 := algorithms[rest]
		if !ok || !ok2 || err != nil {
			return nil, fmt.Errorf("unknown cipher %q", word)
		}
		return append(append(u16(alg), u16(uint16(size))...), u16(mode)...), nil
	}
	for _, p := range parts {
		a, ok := algorithms[p]
		if !ok {
			n, err := strconv.ParseUint(p, 0, 16)
			if err != nil {
				return nil, fmt.Errorf("unknown algorithm %q", p)
			}
			a = uint16(n)
		}
		out = append(out, u16(a)...)
	}
	return out, nil
}

func schemeFunc(_ *side, args []expr) ([]byte, error) { return scheme(args[0].word) }

func algFunc(_ *side, args []expr) ([]byte, error) {
	if c, ok := curves[args[0].word]; ok && args[0].word != "none" && args[0].word != "bad" {
		return u16(c), nil
	}
	return scheme(args[0].word)
}

// split parts positional from named arguments.
func split(args []expr) (pos []expr, named map[string]expr) {
	named = map[string]expr{}
	for _, a := range args {
		if a.key != "" {
			k := a.key
			a.key = ""
			named[k] = a
		} else {
			pos = append(pos, a)
		}
	}
	return pos, named
}

// public encodes TPMT_PUBLIC up to its parameters.
func (s *side) public(typ string, attr expr, named map[string]expr) ([]byte, error) {
	nameAlg := algorithms["sha256"]
	if n, ok := named["name"]; ok {
		nameAlg = algorithms[n.word]
	}
	a, err := bits(objectBits, attr.word)
	if err != nil {
		return nil, err
	}
	var policy []byte
	if p, ok := named["policy"]; ok {
		if policy, err = s.eval(p); err != nil {
			return nil, err
		}
	}
	out := append(u16(algorithms[typ]), u16(nameAlg)...)
	return append(append(out, u32(a)...), sized(policy)...), nil
}

// unique is the unique field of a template, given by unique=, or def.
func (s *side) unique(named map[string]expr, def []byte) ([]byte, error) {
	if u, ok := named["unique"]; ok {
		return s.eval(u)
	}
	return def, nil
}

func (s *side) parts(words ...string) ([]byte, error) {
	var out []byte
	for _, w := range words {
		b, err := scheme(w)
		if err != nil {
			return nil, err
		}
		out = append(out, b...)
	}
	return out, nil
}

func wants(fn string, pos []expr, n int) error {
	if len(pos) != n {
		return fmt.Errorf("%s() wants %d arguments, has %d", fn, n, len(pos))
	}
	return nil
}

// eccFunc is ecc(ATTR,CURVE,SYMMETRIC,SCHEME[,kdf=][,policy=][,name=][,unique=]).
func eccFunc(s *side, args []expr) ([]byte, error) {
	pos, named := split(args)
	if err := wants("ecc", pos, 4); err != nil {
		return nil, err
	}
	out, err := s.public("ecc", pos[0], named)
	if err != nil {
		return nil, err
	}
	p, err := s.parts(pos[2].word, pos[3].word)
	if err != nil {
		return nil, err
	}
	kdf := "null"
	if k, ok := named["kdf"]; ok {
		kdf = k.word
	}
	k, err := scheme(kdf)
	if err != nil {
		return nil, err
	}
	u, err := s.unique(named, make([]byte, 4))
	out = append(append(append(out, p...), u16(curves[pos[1].word])...), k...)
	return append(out, u...), err
}

// rsaFunc is rsa(ATTR,BITS,SYMMETRIC,SCHEME[,exp=][,policy=][,name=][,unique=]).
func rsaFunc(s *side, args []expr) ([]byte, error) {
	pos, named := split(args)
	if err := wants("rsa", pos, 4); err != nil {
		return nil, err
	}
	out, err := s.public("rsa", pos[0], named)
	if err != nil {
		return nil, err
	}
	p, err := s.parts(pos[2].word, pos[3].word)
	if err != nil {
		return nil, err
	}
	size, err := number(pos[1])
	if err != nil {
		return nil, err
	}
	exp := uint64(0)
	if x, ok := named["exp"]; ok {
		if exp, err = number(x); err != nil {
			return nil, err
		}
	}
	u, err := s.unique(named, make([]byte, 2))
	out = append(append(append(out, p...), u16(uint16(size))...), u32(uint32(exp))...)
	return append(out, u...), err
}

// keyedHashFunc is kh(ATTR,SCHEME[,policy=][,name=][,unique=]).
func keyedHashFunc(s *side, args []expr) ([]byte, error) { return s.simple("keyedhash", args) }

// symKeyFunc is symkey(ATTR,CIPHER[,policy=][,name=][,unique=]).
func symKeyFunc(s *side, args []expr) ([]byte, error) { return s.simple("symcipher", args) }

func (s *side) simple(typ string, args []expr) ([]byte, error) {
	pos, named := split(args)
	if err := wants(typ, pos, 2); err != nil {
		return nil, err
	}
	out, err := s.public(typ, pos[0], named)
	if err != nil {
		return nil, err
	}
	p, err := scheme(pos[1].word)
	if err != nil {
		return nil, err
	}
	u, err := s.unique(named, make([]byte, 2))
	return append(append(out, p...), u...), err
}

// nvFunc is nv(HANDLE,ATTR,SIZE[,policy=][,name=]): a TPMS_NV_PUBLIC.
func nvFunc(s *side, args []expr) ([]byte, error) {
	pos, named := split(args)
	if err := wants("nv", pos, 3); err != nil {
		return nil, err
	}
	h, err := hex.DecodeString(strings.TrimPrefix(pos[0].word, "0x"))
	if err != nil {
		return nil, err
	}
	a, err := bits(nvBits, pos[1].word)
	if err != nil {
		return nil, err
	}
	size, err := number(pos[2])
	if err != nil {
		return nil, err
	}
	nameAlg := algorithms["sha256"]
	if n, ok := named["name"]; ok {
		nameAlg = algorithms[n.word]
	}
	var policy []byte
	if p, ok := named["policy"]; ok {
		if policy, err = s.eval(p); err != nil {
			return nil, err
		}
	}
	out := append(append(h, u16(nameAlg)...), u32(a)...)
	return append(append(out, sized(policy)...), u16(uint16(size))...), nil
}

// sensFunc is sens([AUTH[,DATA]]): a TPM2B_SENSITIVE_CREATE.
func sensFunc(s *side, args []expr) ([]byte, error) {
	var v [2][]byte
	for i, a := range args {
		if i > 1 {
			return nil, fmt.Errorf("sens() wants at most 2 arguments")
		}
		var err error
		if v[i], err = s.eval(a); err != nil {
			return nil, err
		}
	}
	return sized(append(sized(v[0]), sized(v[1])...)), nil
}

// selFunc is sel([HASH,PCR…]) or sel(HASH/PCR/PCR,HASH/PCR): a TPML_PCR_SELECTION.
func selFunc(_ *side, args []expr) ([]byte, error) {
	var groups []string
	if len(args) > 0 && !strings.Contains(args[0].word, "/") {
		var g []string
		for _, a := range args {
			g = append(g, a.word)
		}
		groups = []string{strings.Join(g, "/")}
	} else {
		for _, a := range args {
			groups = append(groups, a.word)
		}
	}
	out := u32(uint32(len(groups)))
	for _, g := range groups {
		w := strings.Split(g, "/")
		alg, ok := algorithms[w[0]]
		if !ok {
			return nil, fmt.Errorf("sel: unknown bank %s", w[0])
		}
		var sel [3]byte
		for _, p := range w[1:] {
			n, err := strconv.ParseUint(p, 10, 5)
			if err != nil || n > 23 {
				continue
			}
			sel[n/8] |= 1 << (n % 8)
		}
		out = append(append(out, u16(alg)...), 3, sel[0], sel[1], sel[2])
	}
	return out, nil
}

// digestsFunc is digests(HASH,SEED,HASH,SEED…): a TPML_DIGEST_VALUES with digests of the seeds.
func digestsFunc(s *side, args []expr) ([]byte, error) {
	out := u32(uint32(len(args) / 2))
	for i := 0; i+1 < len(args); i += 2 {
		alg := hashes[args[i].word]
		b, err := s.eval(args[i+1])
		if err != nil {
			return nil, err
		}
		out = append(append(out, u16(alg)...), digest(alg, b)...)
	}
	return out, nil
}
