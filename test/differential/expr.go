package differential

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// errNoSlot means that a step needs an answer that was never got, because an
// earlier command failed or was cut out. Such a step is left out.
var errNoSlot = errors.New("no such slot")

// An expr is a parsed symbol: a word, or a call with arguments.
type expr struct {
	word string
	call bool
	key  string // for a key=value argument
	args []expr
}

func parseExpr(s string) (expr, error) {
	e, rest, err := readExpr(s, 0)
	if err == nil && rest != "" {
		err = fmt.Errorf("%q left over in %q", rest, s)
	}
	return e, err
}

// maxDepth bounds the nesting of calls in a symbol.
const maxDepth = 16

func readExpr(s string, depth int) (expr, string, error) {
	if depth > maxDepth {
		return expr{}, "", errors.New("nested too deep")
	}
	n := strings.IndexAny(s, "(),=")
	if n < 0 {
		return expr{word: s}, "", nil
	}
	e := expr{word: s[:n]}
	if s[n] == '=' {
		v, rest, err := readExpr(s[n+1:], depth+1)
		v.key = e.word
		return v, rest, err
	}
	if s[n] != '(' {
		return e, s[n:], nil
	}
	e.call = true
	s = s[n+1:]
	for {
		if strings.HasPrefix(s, ")") {
			return e, s[1:], nil
		}
		a, rest, err := readExpr(s, depth+1)
		if err != nil {
			return e, "", err
		}
		e.args = append(e.args, a)
		switch {
		case strings.HasPrefix(rest, ","):
			s = rest[1:]
		case strings.HasPrefix(rest, ")"):
			return e, rest[1:], nil
		default:
			return e, "", fmt.Errorf("unclosed %s(", e.word)
		}
	}
}

// bytes works a symbol out for one side.
func (s *side) bytes(tok string) ([]byte, error) {
	e, err := parseExpr(tok)
	if err != nil {
		return nil, err
	}
	return s.eval(e)
}

func (s *side) eval(e expr) ([]byte, error) {
	if !e.call {
		switch {
		case strings.HasPrefix(e.word, "0x"):
			return hex.DecodeString(e.word[2:])
		case strings.HasPrefix(e.word, "$"):
			return s.slotField(e.word[1:])
		case e.word == "":
			return nil, nil
		}
		return nil, fmt.Errorf("unknown word %q", e.word)
	}
	f, ok := functions[e.word]
	if !ok {
		return nil, fmt.Errorf("unknown function %s()", e.word)
	}
	return f(s, e.args)
}

func (s *side) slotField(ref string) ([]byte, error) {
	name, field, _ := strings.Cut(ref, ".")
	sl := s.slots[name]
	if sl == nil {
		return nil, errNoSlot
	}
	if field == "handle" || field == "" {
		return binary.BigEndian.AppendUint32(nil, sl.handle), nil
	}
	b, ok := sl.fields[field]
	if !ok {
		return nil, errNoSlot
	}
	return b, nil
}

func (s *side) evalAll(args []expr) ([]byte, error) {
	var out []byte
	for _, a := range args {
		b, err := s.eval(a)
		if err != nil {
			return nil, err
		}
		out = append(out, b...)
	}
	return out, nil
}

func number(e expr) (uint64, error) { return strconv.ParseUint(strings.TrimPrefix(e.word, "+"), 0, 64) }

type function = func(s *side, args []expr) ([]byte, error)

var functions map[string]function

func init() {
	// In init because the functions call eval, which looks here.
	functions = map[string]function{
		"cat": (*side).evalAll,
		"2b": func(s *side, args []expr) ([]byte, error) {
			b, err := s.evalAll(args)
			return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...), err
		},
		"val": func(s *side, args []expr) ([]byte, error) { // a sized buffer without its size
			b, err := s.evalAll(args)
			if err == nil && len(b) < 2 {
				err = errNoSlot
			}
			if err != nil {
				return nil, err
			}
			return b[2:], nil
		},
		"u8":  uintFunc(1),
		"u16": uintFunc(2),
		"u32": uintFunc(4),
		"u64": uintFunc(8),
		"str": func(_ *side, args []expr) ([]byte, error) { return []byte(args[0].word), nil },
		"zeros": func(_ *side, args []expr) ([]byte, error) {
			n, err := number(args[0])
			return make([]byte, n&0xffff), err
		},
		// fill(LENGTH,SEED): octets that are not all the same and not random
		"fill": func(_ *side, args []expr) ([]byte, error) {
			n, err := number(args[0])
			if err != nil || n > 0xffff {
				return nil, fmt.Errorf("fill: %v", args[0].word)
			}
			seed := uint64(1)
			if len(args) > 1 {
				if seed, err = number(args[1]); err != nil {
					return nil, err
				}
			}
			out := make([]byte, n)
			for i := range out {
				seed = seed*6364136223846793005 + 1442695040888963407
				out[i] = byte(seed >> 56)
			}
			return out, nil
		},
		"sub": func(s *side, args []expr) ([]byte, error) { // sub(X,FROM,TO)
			b, err := s.eval(args[0])
			if err != nil {
				return nil, err
			}
			from, _ := number(args[1])
			to, _ := number(args[2])
			return b[min(int(from), len(b)):max(min(int(to), len(b)), min(int(from), len(b)))], nil
		},
		"xor": func(s *side, args []expr) ([]byte, error) { // xor(X,OFFSET,MASK)
			b, err := s.eval(args[0])
			if err != nil || len(b) == 0 {
				return b, err
			}
			at, _ := number(args[1])
			mask, _ := number(args[2])
			b = append([]byte(nil), b...)
			b[int(at)%len(b)] ^= byte(mask)
			return b, nil
		},
		"h": func(s *side, args []expr) ([]byte, error) { // h(HASH,X…)
			alg, ok := hashes[args[0].word]
			if !ok {
				return nil, fmt.Errorf("h: unknown hash %s", args[0].word)
			}
			b, err := s.evalAll(args[1:])
			return digest(alg, b), err
		},
		"name":     (*side).nameFunc,
		"salt":     (*side).saltFunc,
		"bindauth": (*side).bindAuthFunc,
		"sig":      (*side).signFunc,
		"extpub":   extPubFunc,
		"extpriv":  extPrivFunc,
		"sens":     sensFunc,
		"sel":      selFunc,
		"alg":      algFunc,
		"scheme":   schemeFunc,
		"symdef":   schemeFunc,
		"ecc":      eccFunc,
		"rsa":      rsaFunc,
		"kh":       keyedHashFunc,
		"symkey":   symKeyFunc,
		"nv":       nvFunc,
		"digests":  digestsFunc,
		"nullhash": func(*side, []expr) ([]byte, error) { return hex.DecodeString("8024400000070000") }, // no TPMT_TK_HASHCHECK
	}
}

func uintFunc(size int) function {
	return func(_ *side, args []expr) ([]byte, error) {
		n, err := number(args[0])
		if err != nil {
			return nil, err
		}
		b := binary.BigEndian.AppendUint64(nil, n)
		return b[8-size:], nil
	}
}
