package modsig

// maxDepth bounds how deep a message may be nested: a signature with a
// certificate in it goes ten levels down.
const maxDepth = 24

// toDER rewrites the first BER element of b with definite, minimal lengths
// (X.690, Sections 8.1.3 and 10.1) and leaves out what stands behind it, for
// the kernel's decoder reads both. Strings in pieces are left as they are.
func toDER(b []byte) ([]byte, bool) {
	out, _, ok := element(b, maxDepth)
	return out, ok
}

// element rewrites one element and returns what follows it.
func element(b []byte, depth int) (out, rest []byte, ok bool) {
	if len(b) < 2 || depth == 0 || b[0]&0x1f == 0x1f {
		return nil, nil, false
	}
	tag, constructed := b[0], b[0]&0x20 != 0
	n, head := int(b[1]), 2
	if n == 0x80 {
		if !constructed {
			return nil, nil, false
		}
		body, rest, ok := elements(b[2:], depth-1, true)
		return wrap(tag, body), rest, ok
	}
	if n > 0x80 {
		width := n - 0x80
		if width > 4 || len(b) < 2+width {
			return nil, nil, false
		}
		n = 0
		for _, c := range b[2 : 2+width] {
			n = n<<8 | int(c)
		}
		head += width
	}
	if n > len(b)-head {
		return nil, nil, false
	}
	body, rest := b[head:head+n], b[head+n:]
	if constructed {
		if body, _, ok = elements(body, depth-1, false); !ok {
			return nil, nil, false
		}
	}
	return wrap(tag, body), rest, true
}

// elements rewrites a row of elements, up to the end of b or, where the length
// was left open, up to the end-of-contents octets.
func elements(b []byte, depth int, open bool) (out, rest []byte, ok bool) {
	for len(b) > 0 {
		if open && len(b) >= 2 && b[0] == 0 && b[1] == 0 {
			return out, b[2:], true
		}
		one, next, ok := element(b, depth)
		if !ok {
			return nil, nil, false
		}
		out, b = append(out, one...), next
	}
	return out, nil, !open
}

func wrap(tag byte, body []byte) []byte {
	n := len(body)
	out := []byte{tag}
	switch {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 0x100:
		out = append(out, 0x81, byte(n))
	case n < 0x10000:
		out = append(out, 0x82, byte(n>>8), byte(n))
	default:
		out = append(out, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	return append(out, body...)
}
