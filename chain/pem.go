package chain

import (
	"bytes"
	"fmt"
	"strings"
)

// boundary is a BEGIN or END line, or what is left of one.
type boundary struct {
	begin      bool
	label      string
	start, end int // of the boundary in the text, dashes included
	fault      string
	alone      bool // on a line of its own
	startsLine bool
}

// block is what stands between two boundaries. Its body is data[from:to].
type block struct {
	label      string
	start, end int
	from, to   int
	open       bool // the END line is missing
	headless   bool // the BEGIN line is missing
	labelled   bool // END says the same as BEGIN
	first      boundary
	last       boundary
}

// scanPEM finds the blocks of a text, and what is wrong with their boundaries.
// RFC 7468, Section 3 has the strict form: exactly five hyphens, a label of
// capitals, nothing else on the line.
func (r *reader) scanPEM(t *text) []block {
	bs := scanBoundaries(t.data)
	var blocks []block
	for i := 0; i < len(bs); i++ {
		b := bs[i]
		if !b.begin {
			// RFC 7468, Section 2: END closes what BEGIN opened. One alone still
			// marks where the base64 before it ends.
			from := 0
			if i > 0 {
				from = bs[i-1].end
			}
			from += headlessBody(t.data[from:b.start])
			if from < b.start {
				r.boundaryFault(t, b.start, "the BEGIN line is missing")
				blocks = append(blocks, block{label: b.label, start: from, end: b.end, from: from, to: b.start, headless: true, first: b, last: b})
			} else {
				r.boundaryFault(t, b.start, "an END line without BEGIN")
			}
			continue
		}
		bl := block{label: b.label, start: b.start, from: b.end, first: b}
		if i+1 < len(bs) && !bs[i+1].begin {
			e := bs[i+1]
			i++
			bl.to, bl.end, bl.last = e.start, e.end, e
			bl.labelled = e.label == b.label
		} else {
			bl.open = true
			bl.to = len(t.data)
			if i+1 < len(bs) {
				bl.to = bs[i+1].start
			}
			bl.to = bl.from + bodyEnd(t.data[bl.from:bl.to])
			bl.end = bl.to
		}
		blocks = append(blocks, bl)
		if len(blocks) > r.limit {
			r.note("TOO_MANY", t.place(b.start), fmt.Sprintf("more than %d PEM blocks", r.limit))
			break
		}
	}
	return blocks
}

// headlessBody returns where, in what precedes an END line, its base64 begins.
func headlessBody(b []byte) int {
	at := len(b)
	for at > 0 {
		nl := bytes.LastIndexByte(bytes.TrimRight(b[:at], "\n"), '\n') + 1
		line := bytes.TrimSpace(b[nl:at])
		if len(line) > 0 && !isBase64(line) {
			break
		}
		at = nl
	}
	for at < len(b) && (b[at] == '\n' || b[at] == ' ') {
		at++
	}
	return at
}

// bodyEnd returns where the base64 of a block without an END line stops.
func bodyEnd(b []byte) int {
	end := 0
	for at := 0; at < len(b); {
		nl := bytes.IndexByte(b[at:], '\n')
		next := len(b)
		if nl >= 0 {
			next = at + nl + 1
		}
		line := bytes.TrimSpace(b[at:next])
		if len(line) > 0 {
			if !isBase64(line) && end > 0 && bytes.ContainsAny(line, " <>") {
				break
			}
			end = next
		}
		at = next
	}
	return end
}

// scanBoundaries finds every BEGIN and END with dashes of any sort about it.
func scanBoundaries(d []byte) []boundary {
	var out []boundary
	prev := 0
	for i := 0; i+3 <= len(d); i++ {
		var word int
		switch {
		case i+5 <= len(d) && bytes.EqualFold(d[i:i+5], []byte("BEGIN")):
			word = 5
		case bytes.EqualFold(d[i:i+3], []byte("END")):
			word = 3
		default:
			continue
		}
		b, ok := boundaryAt(d, prev, i, word)
		if !ok {
			continue
		}
		out = append(out, b)
		prev = b.end
		i = b.end - 1
		if len(out) > 2*maxBundleItems {
			break
		}
	}
	return out
}

// boundaryAt reads the boundary whose word (BEGIN or END) is at d[i].
func boundaryAt(d []byte, floor, i, word int) (boundary, bool) {
	b := boundary{begin: word == 5}
	// Left: dashes, and blanks between them and the word.
	start, left, odd := i, 0, false
	for start > floor && left < 16 {
		n := dashBefore(d[floor:start])
		if n == 0 {
			if start == i && d[start-1] == ' ' && start-1 > floor && dashBefore(d[floor:start-1]) > 0 {
				start--
				odd = true
				continue
			}
			break
		}
		if n > 1 || d[start-1] != '-' {
			odd = true
		}
		start -= n
		left++
		// -----END CERTIFICATE----------BEGIN CERTIFICATE-----: five are ours.
		if left == 5 && start > floor && d[start-1] == '-' && start-floor <= 5 {
			break
		}
	}
	b.startsLine = start == 0 || d[start-1] == '\n'
	// The label: RFC 7468 has capitals, digits and single blanks.
	at := i + word
	labelStart := at
	for at < len(d) && at-labelStart < 48 && (isLetter(d[at]) || d[at] >= '0' && d[at] <= '9' || d[at] == ' ' || d[at] == '#' || d[at] == '_') {
		at++
	}
	raw := string(d[labelStart:at])
	label := strings.TrimSpace(raw)
	right, oddRight := 0, false
	for at < len(d) && right < 16 {
		n, plain := dashAt(d[at:])
		if n == 0 {
			break
		}
		if right == 5 && boundaryAhead(d[at:]) {
			break
		}
		oddRight = oddRight || !plain
		at += n
		right++
	}
	if right > 5 && boundaryAhead(d[at:]) {
		// Both boundaries are glued and share their dashes: the first five are ours.
		at -= right - 5
		right = 5
	}
	endsLine := at == len(d) || d[at] == '\n'
	switch {
	case left == 0 && right == 0:
		// Only the words are left. Believe them on a line of their own.
		if !b.startsLine || !endsLine || !knownLabel(strings.ToUpper(label)) {
			return b, false
		}
		b.fault = "no dashes"
	case left == 0 && !(b.startsLine && knownLabel(strings.ToUpper(label))):
		return b, false
	case right == 0 && !knownLabel(strings.ToUpper(label)) && !endsLine:
		return b, false
	case label == "" && left < 2:
		return b, false
	}
	word5 := string(d[i : i+word])
	switch {
	case b.fault != "":
	case odd || oddRight:
		b.fault = "dashes that are not hyphens, or blanks among them"
	case left != 5 || right != 5:
		b.fault = fmt.Sprintf("%d dashes before and %d after, not 5 and 5", left, right)
	case word5 != strings.ToUpper(word5) || label != strings.ToUpper(label):
		b.fault = "small letters"
	case raw != " "+label:
		b.fault = "blanks missing or too many"
	}
	b.label = strings.Join(strings.Fields(strings.ToUpper(label)), " ")
	b.start, b.end = start, at
	b.alone = b.startsLine && endsLine
	return b, true
}

// boundaryAhead says that d continues with dashes and BEGIN or END.
func boundaryAhead(d []byte) bool {
	i := 0
	for i < len(d) && i < 16 {
		n, _ := dashAt(d[i:])
		if n == 0 {
			break
		}
		i += n
	}
	rest := d[i:]
	return len(rest) >= 5 && bytes.EqualFold(rest[:5], []byte("BEGIN")) || len(rest) >= 4 && bytes.EqualFold(rest[:4], []byte("END "))
}

// dashBefore is the size of the dash that ends b, 0 when there is none.
func dashBefore(b []byte) int {
	for n := 1; n <= 3 && n <= len(b); n++ {
		if size, _ := dashAt(b[len(b)-n:]); size == n {
			return n
		}
	}
	return 0
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// knownLabel lists the labels of RFC 7468 and those people and tools made up.
func knownLabel(l string) bool {
	switch l {
	case "PKCS7", "PKCS #7 SIGNED DATA", "CMS", "PKCS12", "PFX", "X509 CRL", "CRL", "PUBLIC KEY", "RSA PUBLIC KEY",
		"DH PARAMETERS", "EC PARAMETERS", "CERT", "CERTIFICATES", "CERTIFICATE CHAIN":
		return true
	}
	return strings.HasSuffix(l, "PRIVATE KEY") || strings.HasSuffix(l, "CERTIFICATE") || strings.HasSuffix(l, "CERTIFICATE REQUEST")
}

// isCertLabel says that a block calls itself a certificate, in whatever spelling.
func isCertLabel(l string) bool {
	return strings.Contains(l, "CERT") && !strings.Contains(l, "REQUEST")
}

func (r *reader) boundaryFault(t *text, at int, what string) {
	r.note("BAD_BOUNDARY", r.placeOf(t, at), what)
}

// placeOf is a place in the text, with the index that the next certificate gets.
func (r *reader) placeOf(t *text, at int) Place {
	p := t.place(at)
	p.Cert = len(r.f.Certs)
	return p
}
