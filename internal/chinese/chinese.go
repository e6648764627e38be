// Package chinese says in Chinese what the programs say in English.
//
// Our errors, hints and evidence are written in English where they arise, and
// stay English in code, logs and JSON. What a person reads is put into Chinese
// at the one place where it is printed: [Of] finds the format that a text was
// made with and fills the Chinese one with the same values. The files here are
// named after whose texts they translate; a test reads the sources and fails
// for a text that has no Chinese, and for Chinese whose text has gone.
//
// It is not for help texts, which belong to cmd/vouchsafe, nor for findings,
// whose catalogs carry both languages; [Fill] puts those of another process
// into Chinese.
package chinese

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Of is text in Chinese, as far as it is known: what other software said stays as
// it is. A text that wraps another (%w, %v) is translated with what it wraps.
func Of(text string) string { return of(text, 0) }

// maxDepth bounds how far a text is followed into what it wraps.
const maxDepth = 20

// coded is what a refusal ends with: its code.
var coded = regexp.MustCompile(`^(?s:(.*)) \(([A-Z][A-Z0-9_]+)\)$`)

func of(text string, depth int) string {
	if depth > maxDepth {
		return text
	}
	f, values := find(text)
	if m := coded.FindStringSubmatch(text); m != nil && (f == nil || !strings.Contains(f.last, m[2])) {
		return of(m[1], depth+1) + "（" + m[2] + "）"
	}
	if f == nil {
		return text
	}
	known := f.words
	zh := fill(f.zh, values, func(s string) string {
		inner := of(s, depth+1)
		known = known || inner != s
		return inner
	})
	if !known { // nothing but others' words: leave their punctuation, too
		return text
	}
	return zh
}

// find is the format that text was made with, as far as one can tell: the one
// that begins like it for longest, and has the most letters of its own. A name or
// path rarely has a colon and a blank in it: such a value is believed last.
func find(text string) (*format, []string) {
	var last *format
	var lastValues []string
	for _, f := range formats() {
		values, ok := f.match(text)
		if !ok {
			continue
		}
		if !slices.ContainsFunc(f.names(values), func(s string) bool { return strings.Contains(s, ": ") }) {
			return f, values
		}
		if last == nil {
			last, lastValues = f, values
		}
	}
	return last, lastValues
}

// Fill puts text, which was made of the English en, into the Chinese zh; their
// places are written {0}, {1}, …. It says whether text is of that form.
func Fill(en, zh, text string) (string, bool) {
	f := newFormat(en, zh)
	values, ok := f.match(text)
	if !ok {
		return text, false
	}
	byNumber := map[string]string{}
	for i, v := range values {
		if before, twice := byNumber[f.numbers[i]]; twice && before != v {
			return text, false
		}
		byNumber[f.numbers[i]] = v
	}
	return braces.ReplaceAllStringFunc(zh, func(s string) string {
		if v, ok := byNumber[s]; ok {
			return v
		}
		return s
	}), true
}

// format is one text in two languages, and how to recognise the first.
type format struct {
	en, zh      string
	first, last string   // what it begins and ends with
	weight      int      // its letters that are not places
	words       bool     // it has words of its own
	numbers     []string // its places
	whole       func() *regexp.Regexp
}

var (
	places   = regexp.MustCompile(`%(?:\[\d+\])?[-+# 0]*\d*(?:\.\d+)?([a-zA-Z%])|\{\d\}`)
	lettered = regexp.MustCompile(`\pL\pL`)
	braces   = regexp.MustCompile(`\{\d\}`)
)

// newFormat splits the English at its places.
func newFormat(en, zh string) *format {
	f := &format{en: en, zh: zh, words: lettered.MatchString(places.ReplaceAllString(en, ""))}
	var re strings.Builder
	re.WriteString(`^(?s:`)
	at, literal := 0, ""
	for _, m := range places.FindAllStringSubmatchIndex(en, -1) {
		literal += en[at:m[0]]
		at = m[1]
		kind := byte('{')
		if m[2] >= 0 {
			kind = en[m[2]]
		}
		if kind == '%' {
			literal += "%"
			continue
		}
		if len(f.numbers) == 0 {
			f.first = literal
		}
		f.numbers = append(f.numbers, en[m[0]:m[1]])
		f.weight += len(literal)
		re.WriteString(regexp.QuoteMeta(literal))
		literal = ""
		switch kind {
		case 'd':
			re.WriteString(`(-?\d+)`)
		case 'q':
			re.WriteString("(\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`)")
		case 'x', 'X':
			re.WriteString(`([0-9a-fA-F ]+)`)
		case 'o':
			re.WriteString(`([0-7]+)`)
		case 'w', 'v', '{':
			re.WriteString(`(.+?)`)
		default:
			re.WriteString(`(.*?)`)
		}
	}
	f.last = literal + en[at:]
	f.weight += len(f.last)
	if len(f.numbers) == 0 {
		f.first = f.last
	}
	re.WriteString(regexp.QuoteMeta(f.last) + `)$`)
	f.whole = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(re.String()) })
	return f
}

// match finds the values that text was made with.
func (f *format) match(text string) ([]string, bool) {
	if !strings.HasPrefix(text, f.first) || !strings.HasSuffix(text, f.last) {
		return nil, false
	}
	m := f.whole().FindStringSubmatch(text)
	if m == nil {
		return nil, false
	}
	return m[1:], true
}

// names are the values at %s.
func (f *format) names(values []string) []string {
	var names []string
	for i, v := range values {
		if strings.HasSuffix(f.numbers[i], "s") {
			names = append(names, v)
		}
	}
	return names
}

// fill puts the values into the places of a Chinese format, in order or by number;
// a value at %w or %v is a text itself.
func fill(zh string, values []string, translate func(string) string) string {
	next := 0
	return places.ReplaceAllStringFunc(zh, func(place string) string {
		if place == "%%" {
			return "%"
		}
		n := next
		if number, _, ok := strings.Cut(strings.TrimPrefix(place, "%["), "]"); ok && strings.HasPrefix(place, "%[") {
			i, _ := strconv.Atoi(number)
			n = i - 1
		} else {
			next++
		}
		if n < 0 || n >= len(values) {
			return place
		}
		if verb := place[len(place)-1]; verb == 'w' || verb == 'v' {
			return translate(values[n])
		}
		return values[n]
	})
}

// text is one format in English and in Chinese.
type text struct{ en, zh string }

// catalogs are all texts.
var catalogs = [][]text{commands, guest, service, authorities, vtpms, evidence, modules, tpm, chains, seen, system, refusals}

// formats are those of the catalogs, the most telling first, made ready at the first use.
var formats = sync.OnceValue(func() []*format {
	var all []*format
	for _, c := range catalogs {
		for _, t := range c {
			all = append(all, newFormat(t.en, t.zh))
		}
	}
	slices.SortFunc(all, func(a, b *format) int {
		return cmp.Or(cmp.Compare(len(b.first), len(a.first)), cmp.Compare(b.weight, a.weight), strings.Compare(a.en, b.en))
	})
	return all
})
