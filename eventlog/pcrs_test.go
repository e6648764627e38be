package eventlog

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestParsePCRs(t *testing.T) {
	v := strings.Repeat("ab", 32)
	for _, tt := range []struct {
		name, text string
		good       bool
	}{
		{"tpm2_pcrread", "  sha1:\n    0 : 0x" + strings.Repeat("00", 20) + "\n  sha256:\n    7 : 0x" + strings.ToUpper(v) + "\n", true},
		{"tpm2_eventlog's last part", "pcrs:\n  sha256:\n    7  : 0x" + v + "\n", true},
		{"lines", "sha256 7 " + v + "\n# a remark\n\n", true},
		{"nothing", "\n", false},
		{"no bank", "7 : 0x" + v, false},
		{"PCR 24", "sha256 24 " + v, false},
		{"value too short", "sha256 7 abab", false},
		{"not hex", "sha256 7 " + strings.Repeat("zz", 32), false},
		{"twice", "sha256 7 " + v + "\nsha256 7 " + v, false},
		{"prose", "these are my PCRs", false},
		{"too long", strings.Repeat("\n", maxPCRText+1), false},
	} {
		got, err := ParsePCRs([]byte(tt.text))
		if (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.name, err)
		}
		if tt.good && !bytes.Equal(got[SHA256][7], bytes.Repeat([]byte{0xab}, 32)) {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	text, err := os.ReadFile("testdata/seabios.pcrs")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParsePCRs(text); err != nil || len(got) != 3 || len(got[SHA384]) != 24 {
		t.Errorf("seabios: %d banks, %v", len(got), err)
	}
}

func FuzzParsePCRs(f *testing.F) {
	f.Add([]byte("sha256:\n 7 : 0x" + strings.Repeat("ab", 32)))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = ParsePCRs(b) })
}
