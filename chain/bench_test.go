package chain

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"runtime"
	"strings"
	"testing"
	"time"
)

// BenchmarkCheck is a file of four certificates (P-256), good and broken.
func BenchmarkCheck(b *testing.B) {
	p := newPKI(b, "Bench", "www.bench.test", "p256", 3)
	o := p.options("www.bench.test")
	good := p.ders()
	for _, c := range []struct {
		name string
		data []byte
	}{
		{"good", []byte(pemOf(good...))},
		{"reversed", []byte(pemOf(good[3], good[2], good[1], good[0]))},
		{"missing", []byte(pemOf(good[0]))},
		{"cut", []byte(pemOf(good[0], good[1], good[2], good[3][:200]))},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Check("x", c.data, o)
			}
		})
	}
}

// BenchmarkRead is the reader alone, over a good file and one of junk.
func BenchmarkRead(b *testing.B) {
	p := newPKI(b, "Bench", "www.bench.test", "p256", 3)
	for name, data := range map[string][]byte{
		"good": []byte(pemOf(p.ders()...)),
		"junk": bytes.Repeat([]byte("-----BEGIN CERTIFICATE-----\nMII \\n\u200b"), 1000),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				Read(data, "")
			}
		})
	}
}

// hostile are inputs made to cost time or memory.
func hostile(size int) map[string][]byte {
	fill := func(s string) []byte { return []byte(strings.Repeat(s, size/len(s)+1)[:size]) }
	return map[string][]byte{
		"BEGIN":                 fill("-----BEGIN CERTIFICATE-----\n"),
		"END":                   fill("-----END CERTIFICATE-----\n"),
		"BEGIN in a line":       fill("-----BEGIN CERTIFICATE-----"),
		"dashes":                fill("-"),
		"base64":                fill("MIIB"),
		"base64 lines":          fill("MIIBMIIBMIIBMIIBMIIBMIIBMIIBMIIBMIIBMIIBMIIBMIIBMIIBMIIBMIIBMIIB\n"),
		"short base64":          fill("MIIBMIIBMIIBMIIB\n"),
		"newlines":              fill("\n"),
		"CR":                    fill("\r"),
		"NUL and x":             fill("x\x00"),
		"escapes":               append([]byte("BEGIN"), fill(`\n`)...),
		"invisible":             fill("\u200b"),
		"DER headers":           fill("\x30\x82\x04\x00"),
		"DER nested":            fill("\x30\x80"),
		"DER small":             fill("\x30\x03\x02\x01\x00"),
		"PKCS7 nested":          append(append([]byte{0x30, 0x80}, oidSignedData...), fill("\xA0\x80")...),
		"base64 of base64":      []byte(base64.StdEncoding.EncodeToString([]byte(base64.StdEncoding.EncodeToString(fill("MIIB"))))),
		"blocks":                fill("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"),
		"END words":             fill("END END "),
		"one letter and NULs":   append([]byte("x"), fill("\x00")...),
		"BOMs and blanks":       append(fill("\ufeff")[:size/2], fill(" ")[:size/2]...),
		"UTF-16":                append([]byte{0xFF, 0xFE}, fill("-\x00")...),
		"BEGIN and blank lines": append([]byte("-----BEGIN CERTIFICATE-----\n"), fill("\n \n")...),
		"headless":              append(fill("MIIB\n"), []byte("-----END CERTIFICATE-----\n")...),
		"headless many":         fill("MIIB\n-----END CERTIFICATE-----\n"),
	}
}

// TestHostile bounds time and memory for what is not refused by its size.
func TestHostile(t *testing.T) {
	for name, data := range hostile(MaxFile - 64<<10) {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			start := time.Now()
			Check("x", data, Options{Time: testNow})
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			t.Logf("%v, %d MiB allocated", took.Round(time.Millisecond), (after.TotalAlloc-before.TotalAlloc)>>20)
			if took > 10*time.Second { // a shared machine; see docs/performance/chain.md for what is usual
				t.Errorf("%v for %d bytes", took, len(data))
			}
			if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 256 {
				t.Errorf("%d MiB allocated", n)
			}
		})
	}
}

// TestTooLarge refuses ten megabytes at once.
func TestTooLarge(t *testing.T) {
	data := bytes.Repeat([]byte("A"), 10<<20)
	start := time.Now()
	r := Check("x", data, Options{Time: testNow})
	if took := time.Since(start); took > 100*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	if !r.Has("TOO_LARGE") {
		t.Errorf("codes: %v", r.Codes())
	}
}

// TestHostileContainers: what wants much work for few bytes is refused, or bounded.
func TestHostileContainers(t *testing.T) {
	p := newPKI(t, "Hostile", "www.hostile.test", "p256", 1)
	// A PKCS #12 file whose MAC wants 2^31 rounds.
	pfx, _, _ := nextTLV(packPFX(dataInfo(wrapTLV(0x30, nil)), wrapTLV(0x30, nil), ""))
	parts := elements(pfx.body, 3)
	mac := wrapTLV(0x30, append(bytes.Clone(parts[2].body), 0x02, 0x04, 0x7F, 0xFF, 0xFF, 0xFF))
	rounds := wrapTLV(0x30, bytes.Join([][]byte{parts[0].full, parts[1].full, mac}, nil))
	// As many certificates as may be, each odd, each of the same issuer.
	var odd bytes.Buffer
	for i := range maxItems - 1 {
		der := bytes.Clone(p.leaf.cert.Raw)
		at := bytes.Index(der, p.leaf.cert.SerialNumber.Bytes())
		der[at] |= 0x80
		der[at+1], der[at+2] = byte(i), byte(i>>8)
		odd.WriteString(pemOf(der))
	}
	for i := range maxCandidates - 1 {
		c := issue(t, p.root, p.mids[0].cert.Subject.CommonName, newKey(t, "p256"), true, func(c *x509.Certificate) { c.SubjectKeyId = p.mids[0].cert.SubjectKeyId })
		if odd.Len() < MaxFile-4096 && i < 64 {
			odd.WriteString(pemOf(c.cert.Raw))
		}
	}
	for name, data := range map[string][]byte{"PKCS #12 rounds": rounds, "odd certificates": odd.Bytes()} {
		start := time.Now()
		r := Check(name, data, p.options("www.hostile.test"))
		took := time.Since(start)
		t.Logf("%s: %d bytes, %v, %d findings", name, len(data), took, len(r.Findings))
		if r.Verdict != Error {
			t.Errorf("%s: %s", name, r.Verdict)
		}
		if took > 10*time.Second { // on a busy machine; the bound is far below
			t.Errorf("%s: it took %v", name, took)
		}
	}
}
