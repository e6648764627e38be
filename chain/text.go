package chain

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"unicode/utf8"
)

// text is what a file says once its encoding is undone: plain bytes with LF
// line ends, and a table that leads every byte back to its place in the file.
type text struct {
	data  []byte
	segs  []segment // ascending in at; the first is {0, 0}
	scale int       // bytes of the file for one of data: 2 for UTF-16
	lines []int     // offsets in the file at which a line starts

	// hidden characters were taken out; they matter only inside a block.
	hidden []hidden
}

// hidden is a character nobody sees, taken out before data[at].
type hidden struct {
	at    int
	place Place
	name  string
}

// segment says that data[at:] comes from the file's byte from on.
type segment struct{ at, from int }

// place finds data[i] in the file.
func (t *text) place(i int) Place {
	k := sort.Search(len(t.segs), func(k int) bool { return t.segs[k].at > i }) - 1
	off := t.segs[k].from + (i-t.segs[k].at)*t.scale
	line := sort.SearchInts(t.lines, off+1)
	return Place{Cert: -1, Line: line, Byte: off}
}

// skip notes that the next byte of data comes from the file's byte from.
func (t *text) skip(from int) {
	at := len(t.data)
	last := &t.segs[len(t.segs)-1]
	switch {
	case last.at == at:
		last.from = from
	case len(t.segs) < maxSegments:
		t.segs = append(t.segs, segment{at, from})
	}
}

// utf16Kind guesses whether raw is UTF-16, and which way round. A byte order
// mark says so; without one, text in Latin letters has a zero in every pair.
func utf16Kind(raw []byte) (kind string, mark bool) {
	switch {
	case bytes.HasPrefix(raw, []byte{0xFF, 0xFE}):
		return "little-endian", true
	case bytes.HasPrefix(raw, []byte{0xFE, 0xFF}):
		return "big-endian", true
	case len(raw) < 8:
		return "", false
	}
	var even, odd int
	n := min(len(raw), 512) &^ 1
	for i := 0; i < n; i += 2 {
		if raw[i] == 0 {
			even++
		}
		if raw[i+1] == 0 {
			odd++
		}
	}
	switch half := n / 2; {
	case odd*10 > half*9 && even*10 < half:
		return "little-endian", false
	case even*10 > half*9 && odd*10 < half:
		return "big-endian", false
	}
	return "", false
}

// decodeText undoes UTF-16, byte order marks, NUL bytes, carriage returns,
// escaped newlines and characters nobody sees, and notes each.
func (r *reader) decodeText(raw []byte) *text {
	t := &text{scale: 1, segs: []segment{{0, 0}}, lines: []int{0}}
	kind, mark := utf16Kind(raw)
	src := raw
	base := 0
	if kind != "" {
		src, base = narrow(raw, kind, mark)
		t.scale = 2
		r.note("UTF16", Place{Cert: -1, Line: 1}, "UTF-16 "+kind)
		if mark {
			r.note("BOM", Place{Cert: -1, Line: 1}, fmt.Sprintf("% X at the start", raw[:2]))
		}
	}
	for i, c := range src {
		if c == '\n' || c == '\r' && (i+1 == len(src) || src[i+1] != '\n') {
			t.lines = append(t.lines, base+(i+1)*t.scale)
		}
	}
	t.data = make([]byte, 0, len(src))
	t.skip(base)
	tail := len(bytes.TrimRight(src, "\x00\r\n\t ")) // nothing but blanks from here on
	escaped := bytes.Contains(src, []byte(`\n`)) && bytes.Contains(src, []byte("BEGIN"))
	percent := bytes.Contains(src, []byte("BEGIN%20")) // nginx's $ssl_client_escaped_cert, a URL's parameter
	here := func(i int) Place {
		off := base + i*t.scale
		return Place{Cert: -1, Line: sort.SearchInts(t.lines, off+1), Byte: off}
	}
	margin := marginOf(src)
	for i := 0; i < len(src); {
		if margin != nil && (i == 0 || src[i-1] == '\n') {
			if n := len(margin.Find(src[i:min(i+maxMargin, len(src))])); n > 0 {
				r.note("COMMENT_IN_BODY", here(i), "before every line: "+clip(string(src[i:i+n])))
				i += n
				t.skip(base + i*t.scale)
				continue
			}
		}
		c := src[i]
		n := 1 // bytes of src that this step takes
		out := true
		switch {
		case c == 0:
			if i >= tail {
				r.noteMild("NUL_BYTES", here(i), "a byte 00 at the end")
			} else {
				r.note("NUL_BYTES", here(i), "a byte 00 in the text")
			}
			out = false
		case c == '\r' && i+1 < len(src) && src[i+1] == '\n':
			r.note("CRLF", here(i), "lines end in CR LF")
			out = false
		case c == '\r':
			r.note("CR_LINE_ENDS", here(i), "lines end in CR alone")
			c = '\n'
		case c == '\\' && escaped:
			c, n, out = unescape(src[i:])
			if n > 1 {
				r.note("ESCAPED_NEWLINES", here(i), "the two characters \\n stand where a line should end")
				n += joiner(src[i+n:])
			}
		case c == '%' && percent && i+2 < len(src):
			var b [1]byte
			if _, err := hex.Decode(b[:], src[i+1:i+3]); err == nil {
				c, n = b[0], 3
				if c == '\n' {
					r.note("ESCAPED_NEWLINES", here(i), "percent-encoded, as in a URL: %0A stands where a line should end")
				}
				out = c != '\r'
			}
		case c >= 0x80:
			if name, size, isMark := invisible(src[i:]); size > 0 {
				n, out = size, false
				if !isMark && (bytes.HasSuffix(t.data, []byte("BEGIN")) || bytes.HasSuffix(t.data, []byte("END"))) && i+size < len(src) && isLetter(src[i+size]) {
					c, out = ' ', true // it stands for the blank of the boundary
				}
				if isMark {
					where := "in the middle"
					if i == 0 {
						where = "at the start"
					} else if i+size >= tail {
						where = "at the end"
					}
					if where == "at the end" {
						r.noteMild("BOM", here(i), name+" "+where)
					} else {
						r.note("BOM", here(i), name+" "+where)
					}
				} else if len(t.hidden) < maxItems {
					t.hidden = append(t.hidden, hidden{len(t.data), here(i), name})
				}
			} else if _, size := utf8.DecodeRune(src[i:]); size > 1 {
				t.data = append(t.data, src[i:i+size]...)
				i += size
				continue
			}
		}
		i += n
		if out {
			t.data = append(t.data, c)
		}
		if n != 1 || !out {
			t.skip(base + i*t.scale)
		}
	}
	return t
}

// What cat -n and editors print before every line, and what diff does.
var margins = []*regexp.Regexp{
	regexp.MustCompile(`^[ \t]*[0-9]{1,6}(?:[:|.)][ \t]*|[ \t]+)`),
	regexp.MustCompile(`^\+`),
}

const maxMargin = 32

// marginOf finds what stands before every line of the first block, the
// boundaries included; nil for nothing. Digits and + are base64 too, so that
// what stands before some of the lines only is no margin.
func marginOf(src []byte) *regexp.Regexp {
	begin := bytes.Index(src, []byte("-----BEGIN "))
	if begin <= 0 {
		return nil
	}
	start := bytes.LastIndexByte(src[:begin], '\n') + 1
	end := bytes.Index(src[begin:], []byte("-----END "))
	if end < 0 || begin-start == 0 || begin-start > maxMargin {
		return nil
	}
	i := slices.IndexFunc(margins, func(m *regexp.Regexp) bool { return len(m.Find(src[start:begin])) == begin-start })
	if i < 0 {
		return nil
	}
	for l := range bytes.SplitSeq(src[start:begin+end], []byte("\n")) {
		if !margins[i].Match(l) {
			return nil
		}
	}
	return margins[i]
}

// unescape undoes one backslash sequence of JSON, YAML, C or a shell.
func unescape(b []byte) (c byte, n int, out bool) {
	n = 1
	for n < len(b) && n < 4 && b[n] == '\\' { // escaped twice
		n++
	}
	if n == len(b) {
		return '\\', 1, true
	}
	switch b[n] {
	case 'n':
		return '\n', n + 1, true
	case 'r':
		return 0, n + 1, false
	case '/':
		return '/', n + 1, true
	case '\n': // a shell's or YAML's continued line
		return 0, n, false
	}
	return '\\', 1, true
}

// joiner is the length of what stands between two string literals of source
// code that were broken at a line end: "…\n" + newline "…
func joiner(b []byte) int {
	quotes := 0
	for i, c := range b {
		switch c {
		case '"', '\'':
			if quotes++; quotes == 2 {
				return i + 1
			}
		case ' ', '\t', '\r', '\n', '+', ',', '.', '\\', '(', ')':
			if quotes == 0 {
				return 0
			}
		default:
			return 0
		}
	}
	return 0
}

// narrow turns UTF-16 into bytes one for one, so that offsets stay simple; what
// is not ASCII becomes 0xFF, except that a space nobody sees becomes a space.
func narrow(raw []byte, kind string, mark bool) ([]byte, int) {
	base := 0
	if mark {
		base = 2
	}
	out := make([]byte, 0, len(raw)/2)
	for i := base; i+1 < len(raw); i += 2 {
		lo, hi := raw[i], raw[i+1]
		if kind == "big-endian" {
			lo, hi = hi, lo
		}
		switch {
		case hi == 0 && lo < 0x80:
			out = append(out, lo)
		case hi == 0x20 && lo >= 0x10 && lo <= 0x15: // U+2010..2015, dashes
			out = append(out, '-')
		default:
			out = append(out, 0xFF)
		}
	}
	return out, base
}

// unseen lists characters that editors, mail programs and chat put in and nobody sees.
var unseen = map[rune]string{
	0x00A0: "U+00A0 no-break space", 0x00AD: "U+00AD soft hyphen", 0x034F: "U+034F grapheme joiner",
	0x061C: "U+061C Arabic letter mark", 0x180E: "U+180E vowel separator",
	0x2000: "U+2000 en quad", 0x2001: "U+2001 em quad", 0x2002: "U+2002 en space", 0x2003: "U+2003 em space",
	0x2004: "U+2004 space", 0x2005: "U+2005 space", 0x2006: "U+2006 space", 0x2007: "U+2007 figure space",
	0x2008: "U+2008 space", 0x2009: "U+2009 thin space", 0x200A: "U+200A hair space",
	0x200B: "U+200B zero width space", 0x200C: "U+200C zero width non-joiner", 0x200D: "U+200D zero width joiner",
	0x200E: "U+200E left-to-right mark", 0x200F: "U+200F right-to-left mark",
	0x2028: "U+2028 line separator", 0x2029: "U+2029 paragraph separator",
	0x202A: "U+202A embedding", 0x202B: "U+202B embedding", 0x202C: "U+202C pop formatting",
	0x202D: "U+202D override", 0x202E: "U+202E override", 0x202F: "U+202F narrow no-break space",
	0x205F: "U+205F space", 0x2060: "U+2060 word joiner", 0x2061: "U+2061", 0x2062: "U+2062", 0x2063: "U+2063", 0x2064: "U+2064",
	0x2066: "U+2066 isolate", 0x2067: "U+2067 isolate", 0x2068: "U+2068 isolate", 0x2069: "U+2069 isolate",
	0x3000: "U+3000 ideographic space", 0xFE0F: "U+FE0F variation selector", 0x3164: "U+3164 filler",
}

// invisible recognises an unseen character at the start of b. A byte order mark
// (U+FEFF) is told apart.
func invisible(b []byte) (name string, size int, mark bool) {
	r, size := utf8.DecodeRune(b)
	if r == 0xFEFF {
		return "EF BB BF", size, true
	}
	if name, ok := unseen[r]; ok {
		return name, size, false
	}
	if b[0] == 0xA0 { // no-break space in Latin-1 and Windows-1252
		return "byte A0, a no-break space in Windows-1252", 1, false
	}
	return "", 0, false
}

// dashAt recognises a hyphen, or a character that a word processor made of one,
// at the start of b.
func dashAt(b []byte) (size int, plain bool) {
	if len(b) == 0 {
		return 0, false
	}
	if b[0] == '-' {
		return 1, true
	}
	if b[0] == 0x96 || b[0] == 0x97 { // en and em dash in Windows-1252
		return 1, false
	}
	switch r, n := utf8.DecodeRune(b); {
	case r >= 0x2010 && r <= 0x2015, r == 0x2212, r == 0xFE58, r == 0xFE63, r == 0xFF0D, r == 0x2500, r == 0x2501:
		return n, false
	}
	return 0, false
}
