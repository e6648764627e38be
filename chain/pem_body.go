package chain

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

// readBlock undoes what happened to the body of one PEM block.
func (r *reader) readBlock(t *text, b block, depth int) {
	before := len(r.f.Certs)
	secret := strings.HasSuffix(b.label, "PRIVATE KEY")
	place := r.placeOf(t, b.start)
	der, found := r.decodeBody(t, b)
	kind := sniff(der)
	if len(der) == 0 {
		if b.headless {
			return
		}
		r.note("EMPTY_BLOCK", place, "BEGIN "+b.label+" with nothing in it")
		return
	}
	if secret && kind == KindOther {
		kind = KindPrivateKey
		if strings.HasPrefix(b.label, "ENCRYPTED") || bytes.Contains(t.data[b.from:b.to], []byte("ENCRYPTED")) {
			kind = KindEncryptedKey
		}
		r.f.Items = append(r.f.Items, Item{Kind: kind, Label: b.label, DER: der, Place: place})
		return
	}
	if kind == KindOther && r.readNested(der, place, depth, "a PEM text between BEGIN "+b.label+" and END, as certutil -encode makes it") {
		return
	}
	size, whole := tlvSize(der)
	isCert := kind == KindCertificate || kind == KindOther && isCertLabel(b.label)
	switch {
	case b.open && whole:
		r.boundaryFault(t, b.to, "the END line is missing")
	case !b.open && !b.headless && !b.labelled && b.first.fault == "" && b.last.fault == "":
		r.boundaryFault(t, b.last.start, fmt.Sprintf("BEGIN %s ends as END %s", b.label, b.last.label))
	}
	r.boundaryFaults(t, b)
	for _, f := range found {
		if f.mild {
			r.noteMild(f.code, f.place, f.evidence)
		} else {
			r.note(f.code, f.place, f.evidence)
		}
	}
	if b.headless && isCert && kind == KindOther {
		// What is before an END line and starts like nothing is the end of something.
		r.addCert(der, place)
		c := r.f.Certs[len(r.f.Certs)-1]
		c.Damage, c.evidence, c.endOnly = "TRUNCATED_CERT", fmt.Sprintf("only its last %d bytes are there", len(der)), true
		return
	}
	if whole && size < len(der) {
		extra := der[size:]
		switch next, ok := tlvSize(extra); {
		case b.label == "TRUSTED CERTIFICATE":
		case ok && next > 0 && sniff(extra) == KindCertificate:
			// Several certificates in one block.
			r.note("GLUED_BOUNDARIES", place, "several certificates in one block")
			r.addCert(der[:size], place)
			for len(extra) > 0 {
				n, ok := tlvSize(extra)
				if !ok || n == 0 {
					break
				}
				r.add(extra[:n], place, b.label, true)
				extra = extra[n:]
			}
			return
		case len(bytes.Trim(extra, "\x00")) == 0:
			r.note("NUL_BYTES", place, fmt.Sprintf("%d zero bytes after the certificate inside the block", len(extra)))
		case isCert && parseCert(der[:size]).Damage != "":
			// A line too many moves everything after it: told as damage.
		default:
			r.note("TRAILING_BYTES", place, fmt.Sprintf("%d bytes after the certificate inside the block", len(extra)))
		}
		der = der[:size]
	}
	if isCert && b.label != "CERTIFICATE" && b.first.fault == "" {
		r.note("ODD_LABEL", place, "BEGIN "+b.label)
	}
	r.add(der, place, b.label, false)
	r.f.PEM = r.f.PEM || len(r.f.Certs) > before
}

// boundaryFaults notes what is wrong with the two lines of one block.
func (r *reader) boundaryFaults(t *text, b block) {
	ends := []boundary{b.first, b.last}
	if b.open || b.headless {
		ends = ends[:1]
	}
	for i, e := range ends {
		if e.fault != "" {
			r.boundaryFault(t, e.start, clip(string(t.data[e.start:e.end]))+": "+e.fault)
		}
		if i == 0 && e.begin && !e.startsLine && e.start > 0 && bytes.HasSuffix(bytes.TrimRight(t.data[:e.start], " "), []byte("-")) {
			p := t.place(e.start)
			p.Cert = len(r.f.Certs) - 1
			r.note("GLUED_BOUNDARIES", p, "END and BEGIN share a line")
		}
	}
}

// quoting is what source code and JSON put around a line.
const quoting = " \t\"',;\\"

// found is a fault of a body, noted once it is known that the body is one.
type foundFault struct {
	code     string
	place    Place
	evidence string
	mild     bool
}

// decodeBody gathers the base64 of a block and what is wrong with how it stands there.
func (r *reader) decodeBody(t *text, b block) ([]byte, []foundFault) {
	var out []byte
	var found []foundFault
	report := func(code string, at int, evidence string) {
		if len(found) >= maxItems && slices.ContainsFunc(found, func(f foundFault) bool { return f.code == code && !f.mild }) {
			return // told often enough
		}
		found = append(found, foundFault{code, r.placeOf(t, at), evidence, false})
	}
	mild := func(code string, at int, evidence string) {
		if len(found) >= maxItems && slices.ContainsFunc(found, func(f foundFault) bool { return f.code == code }) {
			return
		}
		found = append(found, foundFault{code, r.placeOf(t, at), evidence, true})
	}
	// Indented boundaries hide the block; indented base64 alone does not.
	indent := mild
	if !b.headless && !startsAtMargin(t.data, b.first.start) || !b.open && !startsAtMargin(t.data, b.last.start) {
		indent = report
	}
	body := t.data[b.from:b.to]
	lines, longest := 0, 0
	glued := !b.headless && len(body) > 0 && body[0] != '\n' && len(bytes.Trim(withoutTags(firstLine(body)), quoting)) > 0
	inHeaders := !glued
	blank := -1
	headers := false
	for at := 0; at < len(body); {
		next := len(body)
		nl := bytes.IndexByte(body[at:], '\n')
		if nl >= 0 {
			next = at + nl + 1
		}
		line := bytes.TrimSuffix(body[at:next], []byte("\n"))
		pos := b.from + at
		first := at == 0
		at = next
		if first && !glued && !b.headless {
			if len(line) > 0 && len(bytes.TrimSpace(line)) == 0 {
				report("TRAILING_SPACE", pos, "blanks at the end of a line")
			}
			continue // the rest of the BEGIN line
		}
		trimmed := bytes.TrimLeft(line, " \t>")
		if n := len(line) - len(trimmed); n > 0 && len(trimmed) > 0 {
			indent("INDENTED", pos, fmt.Sprintf("%d blanks before the base64", n))
		}
		core := bytes.TrimRight(trimmed, " \t")
		if nl < 0 && len(bytes.Trim(core, quoting)) == 0 {
			core = nil // the quote before END
		}
		if len(core) == 0 && headers && inHeaders {
			headers = false // the blank line that ends them
			continue
		}
		if len(core) == 0 {
			if nl >= 0 { // not the beginning of the END line
				if len(trimmed) < len(line) || len(line) > 0 {
					report("TRAILING_SPACE", pos, "a line of blanks")
				}
				if blank < 0 {
					blank = pos
				}
			} else if len(line) > 0 && len(bytes.Trim(line, " \t>")) == 0 {
				indent("INDENTED", pos, "blanks before the END line")
			}
			continue
		}
		if len(core) < len(trimmed) {
			report("TRAILING_SPACE", pos+len(core), "blanks at the end of a line")
		}
		if bare := withoutTags(core); len(bare) < len(core) {
			report("COMMENT_IN_BODY", pos, "HTML tags: "+clip(string(core)))
			core = bare
			if len(core) == 0 {
				continue
			}
		}
		// RFC 1421 headers, as in an encrypted key: they end with a blank line.
		if inHeaders && lines == 0 && isHeader(core) {
			if isCertLabel(b.label) {
				report("COMMENT_IN_BODY", pos, clip(string(core)))
			}
			headers = true
			continue
		}
		if blank >= 0 {
			report("BLANK_LINES", blank, "an empty line inside the block")
			blank = -1
		}
		inHeaders = false
		got, n, code, why := decodeLine(core)
		if code != "" {
			report(code, pos, why)
		}
		lines++
		longest = max(longest, n)
		out = append(out, got...)
	}
	if blank >= 0 && lines > 0 {
		report("BLANK_LINES", blank, "an empty line inside the block")
	}
	spaces := bytes.Count(bytes.TrimSpace(firstLine(body)), []byte(" "))
	switch {
	case glued && (lines <= 1 || spaces > 3):
		report("NEWLINES_LOST", b.start, "the whole block stands on one line")
	case glued:
		report("GLUED_BOUNDARIES", b.from, "BEGIN and base64 share a line")
	case lines == 1 && spaces == 0 && bytes.Count(out, nil) > 0 && innerBlanks(body):
		mild("NEWLINES_LOST", b.from, "blanks where lines should end")
	case longest > 76:
		report("UNWRAPPED_BASE64", b.from+1, fmt.Sprintf("a line of %d characters; 64 is the form", longest))
	}
	if !glued && !b.open && !b.headless && len(body) > 0 && b.last.start == b.to && !b.last.startsLine && len(bytes.Trim(lastLine(body), quoting+">")) > 0 {
		report("GLUED_BOUNDARIES", b.to, "base64 and END share a line")
	}
	der, fault := decodeBase64(out)
	if fault != "" && len(der) > 0 {
		// Cut off in the middle is damage of the certificate, named there.
		if _, whole := tlvSize(der); whole {
			report("BAD_BASE64", b.from, fault)
		}
	}
	return der, found
}

// startsAtMargin says that no blanks stand between the line's start and at.
func startsAtMargin(d []byte, at int) bool {
	return at == 0 || d[at-1] != ' ' && d[at-1] != '\t' && d[at-1] != '>'
}

func firstLine(b []byte) []byte { l, _, _ := bytes.Cut(b, []byte("\n")); return l }
func lastLine(b []byte) []byte  { return b[bytes.LastIndexByte(b, '\n')+1:] }

// innerBlanks says that the only line of b has blanks between its words.
func innerBlanks(b []byte) bool { return len(bytes.Fields(b)) > 2 }

// isHeader recognises "Proc-Type: 4,ENCRYPTED" and the like (RFC 1421, Section 4.6).
func isHeader(l []byte) bool {
	name, _, ok := bytes.Cut(l, []byte(":"))
	return ok && len(name) > 1 && len(name) < 40 && !bytes.ContainsAny(name, "+/=#")
}

// decodeLine keeps the base64 of one line. code names what else was on it.
func decodeLine(l []byte) (kept []byte, length int, code, why string) {
	if isBase64(l) {
		return l, len(l), "", ""
	}
	// Quotes and commas around a line of source code or of a JSON array.
	if q := bytes.Trim(l, `"',;\ `); len(q) > 0 && len(q) < len(l) && isBase64(bytes.TrimRight(q, "+ ")) && bytes.ContainsAny(l, `"'\`) {
		q = bytes.TrimRight(q, " ")
		return q, len(q), "COMMENT_IN_BODY", "quotes around the base64"
	}
	// Base64 with something after it: a comment, or words glued by blanks.
	fields := bytes.Fields(l)
	all := true
	for _, f := range fields {
		all = all && isBase64(f)
	}
	if all && len(fields) > 0 && (len(fields[0]) >= 16 || len(fields) > 4 && !wordy(fields)) {
		joined := bytes.Join(fields, nil)
		return joined, longestOf(fields), "", ""
	}
	if len(fields) > 0 && isBase64(fields[0]) && len(fields[0]) >= 48 {
		return fields[0], len(fields[0]), "COMMENT_IN_BODY", clip(string(bytes.TrimSpace(l[len(fields[0]):])))
	}
	// URL-safe base64 (RFC 4648, Section 5).
	if (len(l) >= 8 || len(l) == 4) && bytes.ContainsAny(l, "-_") { // a last line may be one group
		u := bytes.ReplaceAll(bytes.ReplaceAll(l, []byte("-"), []byte("+")), []byte("_"), []byte("/"))
		if isBase64(u) {
			return u, len(u), "BAD_BASE64", "the URL-safe alphabet, - and _ for + and /"
		}
	}
	// A few odd bytes in a line that is base64 otherwise.
	clean := bytes.Map(func(c rune) rune {
		if c < 0x80 && inAlphabet(byte(c)) {
			return c
		}
		return -1
	}, l)
	if len(l) >= 32 && len(clean)*10 >= len(l)*9 && !bytes.ContainsAny(l, " #") {
		return clean, len(clean), "BAD_BASE64", "characters that are not base64: " + clip(string(l))
	}
	return nil, 0, "COMMENT_IN_BODY", clip(string(l))
}

// withoutTags takes out what a web page puts around its lines: <br>, </p>.
func withoutTags(l []byte) []byte {
	open := bytes.IndexByte(l, '<')
	if open < 0 {
		return l
	}
	out := bytes.Clone(l[:open])
	for rest := l[open:]; len(rest) > 0; {
		_, after, shut := bytes.Cut(rest, []byte(">"))
		if !shut {
			out = append(out, rest...)
			break
		}
		text, _, _ := bytes.Cut(after, []byte("<"))
		out = append(out, text...)
		rest = after[len(text):]
	}
	return bytes.TrimSpace(out)
}

// wordy tells a sentence from base64 that lost its line ends: its words are short.
func wordy(fields [][]byte) bool { return longestOf(fields) < 40 }

func longestOf(fields [][]byte) int {
	n := 0
	for _, f := range fields {
		n = max(n, len(f))
	}
	return n
}

func inAlphabet(c byte) bool {
	return isLetter(c) || c >= '0' && c <= '9' || c == '+' || c == '/' || c == '='
}

func isBase64(l []byte) bool {
	for _, c := range l {
		if !inAlphabet(c) {
			return false
		}
	}
	return len(l) > 0
}

// decodeBase64 decodes b (RFC 4648, Section 4), padding missing or in the
// middle forgiven; fault says that it was.
func decodeBase64(b []byte) (out []byte, fault string) {
	out = make([]byte, 0, base64.RawStdEncoding.DecodedLen(len(b)))
	for len(b) > 0 {
		part, rest := b, []byte(nil)
		if i := bytes.IndexByte(b, '='); i >= 0 {
			part = b[:i]
			rest = bytes.TrimLeft(b[i:], "=")
			if pad := len(b) - i - len(rest); (len(part)+pad)%4 != 0 {
				fault = "wrong padding"
			}
			if len(rest) > 0 {
				fault = "padding in the middle"
			}
		} else if len(part)%4 != 0 {
			fault = "padding is missing"
		}
		if len(part)%4 == 1 {
			part = part[:len(part)-1]
			fault = "one character too many or too few"
		}
		n := len(out)
		out = out[:n+base64.RawStdEncoding.DecodedLen(len(part))]
		k, err := base64.RawStdEncoding.Decode(out[n:], part)
		out = out[:n+k]
		if err != nil {
			return out, "not base64"
		}
		b = rest
	}
	return out, fault
}
