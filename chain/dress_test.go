package chain

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

func pemOf(ders ...[]byte) string {
	var b strings.Builder
	for _, d := range ders {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: d})
	}
	return b.String()
}

func utf16Of(s string, big, mark bool) []byte {
	var b []byte
	u := utf16.Encode([]rune(s))
	if mark {
		u = append([]uint16{0xFEFF}, u...)
	}
	for _, c := range u {
		if big {
			b = append(b, byte(c>>8), byte(c))
		} else {
			b = append(b, byte(c), byte(c>>8))
		}
	}
	return b
}

func wrap(s string, n int) string {
	var b strings.Builder
	for len(s) > n {
		b.WriteString(s[:n] + "\n")
		s = s[n:]
	}
	return b.String() + s + "\n"
}

func pkcs7Of(ders [][]byte, indefinite bool) []byte {
	certs := wrapTLV(0xA0, bytes.Join(ders, nil))
	data := wrapTLV(0x30, []byte{0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07, 0x01})
	sd := slices.Concat([]byte{0x02, 0x01, 0x01, 0x31, 0x00}, data, certs, []byte{0x31, 0x00})
	if indefinite {
		end := []byte{0, 0}
		return slices.Concat([]byte{0x30, 0x80}, oidSignedData, []byte{0xA0, 0x80, 0x30, 0x80}, sd, end, end, end)
	}
	return wrapTLV(0x30, slices.Concat(oidSignedData, wrapTLV(0xA0, wrapTLV(0x30, sd))))
}

// lineEdit changes the k-th base64 line of the text.
func lineEdit(s string, k int, f func(string) string) string {
	lines := strings.SplitAfter(s, "\n")
	n := 0
	for i, l := range lines {
		if strings.HasPrefix(l, "-") || strings.TrimSpace(l) == "" {
			continue
		}
		if n == k {
			lines[i] = f(strings.TrimSuffix(l, "\n")) + "\n"
			break
		}
		n++
	}
	return strings.Join(lines, "")
}

const boundary0 = "-----BEGIN CERTIFICATE-----"

// dress is one way in which people and programs spoil a good file; info says
// that the file is still good.
type dress struct {
	name  string
	codes []string
	f     func(ders [][]byte, s string) []byte
}

func str(f func(string) string) func([][]byte, string) []byte {
	return func(_ [][]byte, s string) []byte { return []byte(f(s)) }
}

func replace(old, with string, n int) func([][]byte, string) []byte {
	return str(func(s string) string { return strings.Replace(s, old, with, n) })
}

var dresses = []dress{
	{"good", nil, str(func(s string) string { return s })},
	{"no last newline", nil, str(func(s string) string { return strings.TrimSuffix(s, "\n") })},
	{"lines of 76", nil, func(d [][]byte, _ string) []byte {
		var b strings.Builder
		for _, der := range d {
			b.WriteString(boundary0 + "\n" + wrap(base64.StdEncoding.EncodeToString(der), 76) + "-----END CERTIFICATE-----\n")
		}
		return []byte(b.String())
	}},
	{"blank line between blocks", nil, replace("-----END CERTIFICATE-----\n", "-----END CERTIFICATE-----\n\n", -1)},
	{"crlf", []string{"CRLF"}, replace("\n", "\r\n", -1)},
	{"openssl text", []string{"TEXT_OUTSIDE_PEM"}, replace(boundary0, "subject=CN = x\nissuer=CN = y\n"+boundary0, -1)},
	{"comment above", []string{"TEXT_OUTSIDE_PEM"}, str(func(s string) string { return "# the chain, für alle\n" + s })},
	{"bag attributes", []string{"TEXT_OUTSIDE_PEM"}, replace(boundary0, "Bag Attributes\n    localKeyID: 01 02 03\n    friendlyName: x\n"+boundary0, 1)},
	{"numbered by cat -n", []string{"COMMENT_IN_BODY"}, str(func(s string) string {
		n := 0
		return regexp.MustCompile("(?m)^.").ReplaceAllStringFunc(s, func(c string) string { n++; return fmt.Sprintf("%6d\t%s", n, c) })
	})},
	{"added by a patch", []string{"COMMENT_IN_BODY"}, str(func(s string) string { return regexp.MustCompile("(?m)^.").ReplaceAllString(s, "+$0") })},
	{"percent-encoded", []string{"ESCAPED_NEWLINES"}, str(func(s string) string { return url.PathEscape(s) })},
	{"br of a web page", []string{"COMMENT_IN_BODY", "TEXT_OUTSIDE_PEM"}, replace("\n", "<br>\n", -1)},
	{"p of a web page", []string{"COMMENT_IN_BODY", "TEXT_OUTSIDE_PEM"}, str(func(s string) string {
		return "<p>\n" + lineEdit(s, 1, func(l string) string { return "<p>" + l + "</p>" })
	})},
	{"another's last lines before it", []string{"TRUNCATED_CERT", "BAD_BOUNDARY"}, str(func(s string) string {
		lines := strings.SplitAfter(pemOf(bytes.Repeat([]byte{0xA5, 0x1C, 0x77}, 200)), "\n")
		return strings.Join(lines[len(lines)-4:], "") + s
	})},
	{"trailing blanks", []string{"TRAILING_SPACE"}, replace("\n", "  \n", -1)},
	{"trailing tab on one line", []string{"TRAILING_SPACE"}, str(func(s string) string { return lineEdit(s, 3, func(l string) string { return l + "\t" }) })},
	{"bom at the start", []string{"BOM"}, str(func(s string) string { return "\ufeff" + s })},
	{"bom in the middle", []string{"BOM"}, str(func(s string) string {
		i := strings.LastIndex(s, boundary0)
		return s[:i] + "\ufeff" + s[i:]
	})},
	{"bom at the end", []string{"BOM"}, str(func(s string) string { return s + "\ufeff" })},
	{"old Mac", []string{"CR_LINE_ENDS"}, replace("\n", "\r", -1)},
	{"blank lines everywhere", []string{"BLANK_LINES"}, replace("\n", "\n\n", -1)},
	{"one blank line", []string{"BLANK_LINES"}, str(func(s string) string { return lineEdit(s, 4, func(l string) string { return l + "\n" }) })},
	{"blank line before END", []string{"BLANK_LINES"}, replace("\n-----END", "\n\n-----END", 1)},
	{"# comment", []string{"COMMENT_IN_BODY"}, str(func(s string) string {
		return lineEdit(s, 2, func(l string) string { return "# rotate before 2027!\n" + l })
	})},
	{"comment after base64", []string{"COMMENT_IN_BODY"}, str(func(s string) string {
		return lineEdit(s, 2, func(l string) string { return l + " # here" })
	})},
	{"header", []string{"COMMENT_IN_BODY"}, replace(boundary0+"\n", boundary0+"\nComment: from the CA\n\n", 1)},
	{"glued", []string{"GLUED_BOUNDARIES"}, replace("-----\n"+boundary0, "-----"+boundary0, -1)},
	{"glued once", []string{"GLUED_BOUNDARIES"}, replace("-----\n"+boundary0, "-----"+boundary0, 1)},
	{"END on the last line", []string{"GLUED_BOUNDARIES"}, replace("\n-----END", "-----END", 1)},
	{"base64 on the BEGIN line", []string{"GLUED_BOUNDARIES"}, replace(boundary0+"\n", boundary0, 1)},
	{"two blanks", []string{"INDENTED"}, replace("\n", "\n  ", -1)},
	{"tabs", []string{"INDENTED"}, str(func(s string) string { return "\t" + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n\t") })},
	{"quoted mail", []string{"INDENTED"}, str(func(s string) string { return "> " + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n> ") })},
	{"one indented line", []string{"INDENTED"}, str(func(s string) string { return lineEdit(s, 5, func(l string) string { return "    " + l }) })},
	{"escaped", []string{"ESCAPED_NEWLINES"}, replace("\n", `\n`, -1)},
	{"escaped twice", []string{"ESCAPED_NEWLINES"}, replace("\n", `\\n`, -1)},
	{"escaped CR LF in quotes", []string{"ESCAPED_NEWLINES"}, str(func(s string) string { return `"` + strings.ReplaceAll(s, "\n", `\r\n`) + `"` })},
	{"JSON", []string{"ESCAPED_NEWLINES", "TEXT_OUTSIDE_PEM"}, str(func(s string) string {
		b, _ := json.Marshal(map[string]string{"certificate": s})
		return string(b)
	})},
	{"YAML block", []string{"INDENTED", "TEXT_OUTSIDE_PEM"}, str(func(s string) string {
		return "tls:\n  cert: |\n    " + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n    ") + "\n"
	})},
	{"base64 of PEM", []string{"DOUBLE_BASE64"}, str(func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) })},
	{"certutil -encode of PEM", []string{"DOUBLE_BASE64", "CRLF"}, str(func(s string) string {
		return strings.ReplaceAll("-----BEGIN CERTIFICATE-----\n"+wrap(base64.StdEncoding.EncodeToString([]byte(s)), 64)+"-----END CERTIFICATE-----\n", "\n", "\r\n")
	})},
	{"base64 of PEM, wrapped", []string{"DOUBLE_BASE64"}, str(func(s string) string { return wrap(base64.StdEncoding.EncodeToString([]byte(s)), 76) })},
	{"base64 of PEM, URL-safe", []string{"DOUBLE_BASE64"}, str(func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) })},
	{"no boundaries", []string{"NO_PEM_HEADER"}, func(d [][]byte, _ string) []byte {
		return []byte(wrap(base64.StdEncoding.EncodeToString(bytes.Join(d, nil)), 64))
	}},
	{"no boundaries, blank line between", []string{"NO_PEM_HEADER"}, func(d [][]byte, _ string) []byte {
		var b strings.Builder
		for _, der := range d {
			b.WriteString(wrap(base64.StdEncoding.EncodeToString(der), 64) + "\n")
		}
		return []byte(b.String())
	}},
	{"one long line", []string{"UNWRAPPED_BASE64"}, func(d [][]byte, _ string) []byte {
		var b strings.Builder
		for _, der := range d {
			b.WriteString(boundary0 + "\n" + base64.StdEncoding.EncodeToString(der) + "\n-----END CERTIFICATE-----\n")
		}
		return []byte(b.String())
	}},
	{"newlines lost", []string{"NEWLINES_LOST"}, replace("\n", "", -1)},
	{"newlines to blanks", []string{"NEWLINES_LOST"}, replace("\n", " ", -1)},
	{"newlines lost in the body", []string{"NEWLINES_LOST"}, str(func(s string) string {
		s = strings.ReplaceAll(s, "\n", " ")
		s = strings.ReplaceAll(s, boundary0+" ", boundary0+"\n")
		return strings.ReplaceAll(s, " -----END CERTIFICATE----- ", "\n-----END CERTIFICATE-----\n")
	})},
	{"four dashes", []string{"BAD_BOUNDARY"}, replace(boundary0, "----BEGIN CERTIFICATE-----", 1)},
	{"six dashes at the end", []string{"BAD_BOUNDARY"}, replace("-----END CERTIFICATE-----", "-----END CERTIFICATE------", 1)},
	{"em dashes", []string{"BAD_BOUNDARY"}, replace("-----", "—————", -1)},
	{"dashes of Windows-1252", []string{"BAD_BOUNDARY"}, replace("-----", "\x96\x96\x96\x96\x96", -1)},
	{"small letters", []string{"BAD_BOUNDARY"}, replace(boundary0, "-----Begin Certificate-----", 1)},
	{"no blank", []string{"BAD_BOUNDARY"}, replace(boundary0, "-----BEGINCERTIFICATE-----", 1)},
	{"no END", []string{"BAD_BOUNDARY"}, replace("-----END CERTIFICATE-----\n", "", 1)},
	{"no BEGIN", []string{"BAD_BOUNDARY"}, replace(boundary0+"\n", "", 1)},
	{"END says something else", []string{"BAD_BOUNDARY"}, replace("-----END CERTIFICATE-----", "-----END X509 CERTIFICATE-----", 1)},
	{"no dashes after BEGIN", []string{"BAD_BOUNDARY"}, replace(boundary0, "-----BEGIN CERTIFICATE", 1)},
	{"zero width space", []string{"INVISIBLE_CHARACTER"}, str(func(s string) string {
		return lineEdit(s, 2, func(l string) string { return l[:20] + "\u200b" + l[20:] })
	})},
	{"no-break space", []string{"INVISIBLE_CHARACTER"}, str(func(s string) string { return lineEdit(s, 2, func(l string) string { return "\u00a0" + l }) })},
	{"soft hyphen in END", []string{"INVISIBLE_CHARACTER"}, replace("-----END CERT", "-----END\u00ad CERT", 1)},
	{"UTF-16 little-endian", []string{"UTF16", "BOM"}, str(func(s string) string { return string(utf16Of(s, false, true)) })},
	{"UTF-16 big-endian", []string{"UTF16", "BOM"}, str(func(s string) string { return string(utf16Of(s, true, true)) })},
	{"UTF-16 without a mark", []string{"UTF16"}, str(func(s string) string { return string(utf16Of(s, false, false)) })},
	{"UTF-16 and CR LF", []string{"UTF16", "BOM", "CRLF"}, str(func(s string) string { return string(utf16Of(strings.ReplaceAll(s, "\n", "\r\n"), false, true)) })},
	{"NUL at the end", []string{"NUL_BYTES"}, str(func(s string) string { return s + "\x00\x00\x00" })},
	{"NUL in the middle", []string{"NUL_BYTES"}, str(func(s string) string { return lineEdit(s, 2, func(l string) string { return l[:9] + "\x00" + l[9:] }) })},
	{"several DER", []string{"DER_NOT_PEM"}, func(d [][]byte, _ string) []byte { return bytes.Join(d, nil) }},
	{"several DER and zeros", []string{"DER_NOT_PEM", "NUL_BYTES"}, func(d [][]byte, _ string) []byte { return append(bytes.Join(d, nil), 0, 0, 0, 0) }},
	{"p7b DER", []string{"PKCS7"}, func(d [][]byte, _ string) []byte { return pkcs7Of(d, false) }},
	{"p7b BER", []string{"PKCS7"}, func(d [][]byte, _ string) []byte { return pkcs7Of(d, true) }},
	{"p7b PEM", []string{"PKCS7"}, func(d [][]byte, _ string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "PKCS7", Bytes: pkcs7Of(d, false)})
	}},
	{"p7b called CERTIFICATE", []string{"PKCS7"}, func(d [][]byte, _ string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pkcs7Of(d, false)})
	}},
	{"p7b base64", []string{"NO_PEM_HEADER", "PKCS7"}, func(d [][]byte, _ string) []byte {
		return []byte(wrap(base64.StdEncoding.EncodeToString(pkcs7Of(d, false)), 64))
	}},
	{"X509 CERTIFICATE", []string{"ODD_LABEL"}, replace(" CERTIFICATE-", " X509 CERTIFICATE-", -1)},
	{"TRUSTED CERTIFICATE with aux", []string{"ODD_LABEL"}, func(d [][]byte, s string) []byte {
		aux := slices.Concat(d[0], []byte{0x30, 0x0C, 0x30, 0x0A, 0x06, 0x08, 0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01})
		return append(pem.EncodeToMemory(&pem.Block{Type: "TRUSTED CERTIFICATE", Bytes: aux}), pemOf(d[1:]...)...)
	}},
	{"source code", []string{"ESCAPED_NEWLINES"}, str(func(s string) string {
		return `"` + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\\n\" +\n\"") + `\n"`
	})},
	{"URL-safe", []string{"BAD_BASE64"}, func(d [][]byte, _ string) []byte {
		var b strings.Builder
		for _, der := range d {
			b.WriteString(boundary0 + "\n" + wrap(base64.URLEncoding.EncodeToString(der), 64) + "-----END CERTIFICATE-----\n")
		}
		return []byte(b.String())
	}},
	{"every line quoted", []string{"COMMENT_IN_BODY"}, str(func(s string) string {
		return "\"" + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\",\n\"") + "\""
	})},
	{"no-break spaces in boundaries", []string{"INVISIBLE_CHARACTER"}, replace(" ", "\u00a0", -1)},
	{"DER and PEM", []string{"DER_NOT_PEM"}, func(d [][]byte, _ string) []byte { return append(slices.Clone(d[0]), pemOf(d[1:]...)...) }},
	{"k8s secret", []string{"DOUBLE_BASE64"}, str(func(s string) string {
		return "apiVersion: v1\nkind: Secret\ndata:\n  tls.crt: " + base64.StdEncoding.EncodeToString([]byte(s)) + "\n  tls.key: eA==\n"
	})},
	{"x5c", []string{"NO_PEM_HEADER"}, func(d [][]byte, _ string) []byte {
		var c []string
		for _, der := range d {
			c = append(c, base64.StdEncoding.EncodeToString(der))
		}
		b, _ := json.Marshal(map[string]any{"x5c": c, "kty": "EC"})
		return b
	}},
	{"several in one block", []string{"GLUED_BOUNDARIES"}, func(d [][]byte, _ string) []byte {
		return []byte(pemOf(bytes.Join(d, nil)))
	}},
	{"bytes after it", []string{"TRAILING_BYTES"}, func(d [][]byte, s string) []byte {
		return []byte(pemOf(append(slices.Clone(d[0]), 1, 2, 3)) + pemOf(d[1:]...))
	}},
	{"empty block", []string{"EMPTY_BLOCK"}, str(func(s string) string { return s + boundary0 + "\n-----END CERTIFICATE-----\n" })},
	{"DH parameters", []string{"EXTRA_ITEM"}, str(func(s string) string {
		return s + string(pem.EncodeToMemory(&pem.Block{Type: "DH PARAMETERS", Bytes: append([]byte{0x30, 0x81, 0x86, 2, 0x81, 0x80}, append(bytes.Repeat([]byte{0x7F}, 128), 2, 1, 2)...)}))
	})},
	{"mail and CR LF and text", []string{"CRLF", "TEXT_OUTSIDE_PEM", "TRAILING_SPACE"}, str(func(s string) string {
		return strings.ReplaceAll("Dear all,\nhere it is:\n\n"+strings.ReplaceAll(s, "\n", " \n")+"\nRegards\n", "\n", "\r\n")
	})},
}

// TestDresses wears every dress over hierarchies of every kind.
func TestDresses(t *testing.T) {
	var named, total int
	for _, k := range []struct {
		alg   string
		depth int
	}{{"p256", 2}, {"rsa", 1}, {"mixed", 3}} {
		p := newPKI(t, "Dress "+k.alg, "www.dress.test", k.alg, k.depth)
		o := p.options("www.dress.test")
		for _, d := range dresses {
			data := d.f(p.ders(), pemOf(p.ders()...))
			if data == nil {
				continue
			}
			total++
			t.Run(fmt.Sprintf("%s/%d/%s", k.alg, k.depth, d.name), func(t *testing.T) {
				if wantReport(t, data, o, d.codes, p.ders()) {
					named++
				}
			})
		}
	}
	t.Logf("%d of %d named exactly", named, total)
}

// wantReport checks the codes exactly, and that the repair is these certificates.
func wantReport(t *testing.T, data []byte, o Options, codes []string, repaired [][]byte) bool {
	t.Helper()
	r := Check("x", data, o)
	got, want := r.Codes(), slices.Clone(codes)
	slices.Sort(got)
	slices.Sort(want)
	ok := slices.Equal(got, want)
	if !ok {
		t.Errorf("codes: got %v, want %v", got, want)
		for _, f := range r.Findings {
			t.Logf("  %s %+v %s %s", f.Code, f.Place, f.Subject, f.Evidence)
		}
	}
	if repaired == nil {
		if len(r.Repair.Chain) > 0 {
			t.Errorf("a repair is proposed: class %s, %d certificates", r.Repair.Class, len(r.Repair.Chain))
			ok = false
		}
		return ok
	}
	fixed, err := Fix(r, o)
	if err != nil {
		t.Errorf("fixing: %v", err)
		return false
	}
	if string(fixed) != pemOf(repaired...) {
		t.Errorf("the repaired file is another: %d certificates, want %d", len(r.Repair.Chain), len(repaired))
		return false
	}
	return ok
}

func TestPKCS12(t *testing.T) {
	p := newPKI(t, "Box", "box.test", "p256", 2)
	rest := []*x509.Certificate{p.mids[1].cert, p.mids[0].cert, p.root.cert}
	for name, enc := range map[string]*pkcs12.Encoder{"modern": pkcs12.Modern2023, "legacy": pkcs12.LegacyDES, "rc2": pkcs12.LegacyRC2} {
		t.Run(name, func(t *testing.T) {
			pfx, err := enc.Encode(p.leaf.key, p.leaf.cert, rest, "geheim")
			if err != nil {
				t.Fatal(err)
			}
			o := p.options("box.test")
			o.Password = "geheim"
			wantReport(t, pfx, o, []string{"PKCS12", "ROOT_INCLUDED"}, p.ders())
			o.Password = ""
			wantReport(t, pfx, o, []string{"PKCS12"}, nil)
			o.Password = "wrong"
			wantReport(t, pfx, o, []string{"PKCS12"}, nil)
		})
	}
}
