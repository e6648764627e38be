package chain

import (
	"bytes"
	"strings"
)

// minBare is the shortest run of base64 we take for a value: the smallest
// certificate there is (Ed25519, no extensions) has about 200 bytes.
const minBare = 160

// readBare looks for base64 that no boundary marks: a certificate whose BEGIN
// and END were dropped, a Kubernetes secret (base64 of PEM), an x5c member of a
// JWK, a PKCS #7 answer of a CA. True when there was one.
func (r *reader) readBare(t *text, from, to, depth int) bool {
	any := false
	d := t.data
	for i := from; i < to; {
		if !inAlphabet(d[i]) && !isURLSafe(d[i]) {
			i++
			continue
		}
		run, end := bareRun(d, i, to)
		if len(run) < minBare {
			i = end
			continue
		}
		if isBase64(run) || bytes.ContainsAny(run, "-_") {
			run = bytes.ReplaceAll(bytes.ReplaceAll(run, []byte("-"), []byte("+")), []byte("_"), []byte("/"))
		}
		der, _ := decodeBase64(run)
		p := t.place(i)
		p.Cert = len(r.f.Certs)
		switch kind := sniff(der); {
		case kind != KindOther:
			any = true
			size, whole := tlvSize(der)
			if !whole {
				size = len(der)
			}
			r.note("NO_PEM_HEADER", p, "base64 without BEGIN and END: "+clip(string(run[:16])))
			for len(der) > 0 && size > 0 {
				r.add(der[:size], p, "", true)
				der = der[size:]
				if size, whole = tlvSize(der); !whole {
					size = len(der)
				}
				if sniff(der) == KindOther {
					break
				}
			}
		case r.readNested(der, p, depth, "base64 of a PEM text: "+clip(string(run[:16]))):
			any = true
		case depth < maxNesting && isBase64(bytes.TrimSpace(bytes.ReplaceAll(der, []byte("\n"), nil))):
			inner := &reader{f: &File{}, password: r.password, limit: r.limit, bundle: r.bundle, quiet: true}
			if inner.readText(inner.decodeText(der), depth+1); len(inner.f.Certs) > 0 {
				any = true
				r.note("DOUBLE_BASE64", p, "base64 of base64")
				r.adopt(inner.f, p)
			}
		}
		i = end
	}
	return any
}

// readNested reads a PEM text that was base64. False when it is none.
func (r *reader) readNested(data []byte, p Place, depth int, evidence string) bool {
	if depth >= maxNesting || !looksLikeText(data) {
		return false
	}
	inner := &reader{f: &File{}, password: r.password, limit: r.limit, bundle: r.bundle, quiet: r.quiet}
	inner.readText(inner.decodeText(data), depth+1)
	if len(inner.f.Certs)+len(inner.f.Items) == 0 {
		return false
	}
	r.note("DOUBLE_BASE64", p, evidence)
	r.adopt(inner.f, p)
	return true
}

// adopt takes over what was found one layer further in; it all stands at p.
func (r *reader) adopt(f *File, p Place) {
	for _, c := range f.Certs {
		r.addCert(c.Raw, Place{Cert: -1, Line: p.Line, Byte: p.Byte})
	}
	for _, it := range f.Items {
		it.Place = p
		r.f.Items = append(r.f.Items, it)
	}
	for _, n := range f.notes {
		if n.code == "CRLF" || n.code == "TEXT_OUTSIDE_PEM" || n.code == "NOT_A_CERTIFICATE" {
			continue
		}
		n.place.Line, n.place.Byte = p.Line, p.Byte
		r.note(n.code, n.place, n.evidence+" (inside the base64)")
	}
}

func isURLSafe(c byte) bool { return c == '-' || c == '_' }

// bareRun takes the base64 that starts at d[i], over line ends: lines of one
// block have the same length but for the last, and end where the value ends.
func bareRun(d []byte, i, to int) (run []byte, end int) {
	at := i
	for at < to {
		start := at
		for at < to && (inAlphabet(d[at]) || isURLSafe(d[at])) {
			at++
		}
		word := d[start:at]
		if len(word) == 0 {
			break
		}
		run = append(run, word...)
		end = at
		if strings.HasSuffix(string(word), "=") {
			break
		}
		// On to the next line when only blanks are between, and it is base64 again.
		next := at
		for next < to && (d[next] == '\n' || d[next] == ' ' || d[next] == '\t') {
			next++
		}
		if next == at || next == to {
			break
		}
		if len(word) < 16 {
			break
		}
		at = next
	}
	if end == i {
		end = i + 1
	}
	return run, max(end, i+1)
}

// looksLikeText says that b is letters and lines, with PEM in it.
func looksLikeText(b []byte) bool {
	return bytes.Contains(b, []byte("BEGIN")) || bytes.Contains(b, []byte("B\x00E\x00G\x00I\x00N"))
}
