package eventlog

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// The boots of ovmf-direct and ovmf-direct-changed had this command line.
const capturedCommandLine = "console=ttyS0 panic=-1"

func TestLoadOptions(t *testing.T) {
	l := parse(t, readLog(t, "ovmf-direct"))
	for _, tt := range []struct {
		name string
		boot Boot
		want bool
	}{
		{"as booted", Boot{CommandLine: capturedCommandLine, Initrd: []byte{0}}, true},
		{"without initrd nothing is appended", Boot{CommandLine: capturedCommandLine}, false},
		{"another command line", Boot{CommandLine: capturedCommandLine + " quiet", Initrd: []byte{0}}, false},
	} {
		if got := bytes.Equal(SHA256.Sum(tt.boot.LoadOptions()), l.Events[21].Digest(SHA256)); got != tt.want {
			t.Errorf("%s: equal to the measured one: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// changed is what the boot of ovmf-direct-changed measures, made from its
// command line and from the kernel and initrd of ovmf-direct, by digest.
func changed(l *Log) *Measured {
	m := &Measured{Kernel: l.Events[10].Digests, Initrd: l.Events[22].Digests}
	b := Boot{CommandLine: capturedCommandLine + " init=/bin/sh", Initrd: []byte{0}}
	for _, a := range l.Algs {
		m.CommandLine = append(m.CommandLine, Digest{a, a.Sum(b.LoadOptions())})
	}
	return m
}

func TestPredictIsWhatTheTPMHad(t *testing.T) {
	golden := parse(t, readLog(t, "ovmf-direct"))
	m := changed(golden)
	pcrs := readPCRs(t, "ovmf-direct-changed")
	predicted, err := m.Predict(golden)
	if err != nil {
		t.Fatal(err)
	}
	if want := readLog(t, "ovmf-direct-changed"); !bytes.Equal(predicted.Encode(), want) {
		t.Error("the predicted log is not the log that the boot then made")
	}
	alone, err := m.Alone(golden.Algs...)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range golden.Algs {
		full, err := predicted.Replay(a)
		if err != nil {
			t.Fatal(err)
		}
		some, err := alone.Replay(a)
		if err != nil {
			t.Fatal(err)
		}
		for n, want := range pcrs[a.String()] {
			if n != 10 && !bytes.Equal(full.PCR[n], want) {
				t.Errorf("%v PCR %d: predicted %x, the TPM had %x", a, n, full.PCR[n], want)
			}
			if (n == 4 || n == 9) && !bytes.Equal(some.PCR[n], want) {
				t.Errorf("%v PCR %d without a golden log: predicted %x, the TPM had %x", a, n, some.PCR[n], want)
			}
		}
	}
}

func TestPredictRefuses(t *testing.T) {
	m := changed(parse(t, readLog(t, "ovmf-direct")))
	for _, name := range []string{"seabios", "secureboot"} {
		if _, err := m.Predict(parse(t, readLog(t, name))); err == nil {
			t.Errorf("%s: predicted from a golden log that is not of a direct boot", name)
		}
	}
	if _, err := (&Boot{Kernel: []byte("MZ"), CommandLine: "a"}).Measure(SHA256); err == nil {
		t.Error("a kernel that is no PE image was measured")
	}
	if _, err := (&Boot{Kernel: minimalPE(), CommandLine: "a\x00b"}).Measure(SHA256); err == nil {
		t.Error("a command line with a NUL was measured")
	}
}

// minimalPE is a PE32+ image of two sections with a certificate table.
func minimalPE() []byte {
	b := make([]byte, 0x400)
	copy(b, "MZ")
	b[0x3C] = 0x40
	copy(b[0x40:], "PE\x00\x00\x64\x86\x02\x00")
	b[0x54] = 0xF0                                   // SizeOfOptionalHeader
	b[0x58], b[0x59] = 0x0B, 0x02                    // PE32+
	b[0x58+60], b[0x58+61] = 0x00, 0x02              // SizeOfHeaders: 0x200
	copy(b[0x58+64:], "SUMS")                        // CheckSum
	b[0x58+108] = 16                                 // NumberOfRvaAndSizes
	b[0x58+112+32], b[0x58+112+33] = 0x00, 0x04      // certificate table at 0x400
	b[0x58+112+36] = 0x08                            // of 8 bytes
	s := b[0x58+0xF0:]                               // section table
	s[16], s[17], s[20], s[21] = 0x80, 0, 0x80, 0x02 // the second in the file comes first
	s[40+16], s[40+20], s[40+21] = 0x80, 0x00, 0x02
	copy(b[0x200:], "first section")
	copy(b[0x280:], "second section")
	return append(b, "CERTCERT"...)
}

func TestPEHash(t *testing.T) {
	img := minimalPE()
	cert := 0x58 + 112 + 32
	var kept []byte
	kept = append(kept, img[:0x58+64]...)
	kept = append(kept, img[0x58+68:cert]...)
	kept = append(kept, img[cert+8:0x400]...)
	got, err := PEHash(SHA256, img)
	if err != nil {
		t.Fatal(err)
	}
	if want := SHA256.Sum(kept); !bytes.Equal(got, want) {
		t.Errorf("hash %s, want %s", hex.EncodeToString(got), hex.EncodeToString(want))
	}
	for _, tt := range []struct {
		name string
		off  int
		same bool
	}{
		{"checksum", 0x58 + 64, true},
		{"certificates", 0x404, true},
		{"DOS header", 0x20, false},
		{"code", 0x205, false},
		{"tail of a section", 0x3FF, false},
	} {
		changed := bytes.Clone(img)
		changed[tt.off] ^= 0x20
		h, err := PEHash(SHA256, changed)
		if err != nil || bytes.Equal(h, got) != tt.same {
			t.Errorf("%s changed: hash the same %v, want %v (%v)", tt.name, bytes.Equal(h, got), tt.same, err)
		}
	}
}

func TestPEHashRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func([]byte) []byte
	}{
		{"empty", func([]byte) []byte { return nil }},
		{"no MZ", func(b []byte) []byte { b[0] = 'X'; return b }},
		{"head beyond the file", func(b []byte) []byte { b[0x3F] = 0xFF; return b }},
		{"optional header cut", func(b []byte) []byte { return b[:0x60] }},
		{"certificates outside", func(b []byte) []byte { return b[:0x402] }},
		{"bytes after the certificates", func(b []byte) []byte { return append(b, 0) }},
		{"gap before a section", func(b []byte) []byte { b[0x58+0xF0+20] = 0x90; return b }},
		{"section beyond the end", func(b []byte) []byte { b[0x58+0xF0+17] = 0x40; return b }},
		{"more sections than bytes", func(b []byte) []byte { b[0x47] = 0xFF; return b }},
	} {
		if _, err := PEHash(SHA256, tt.change(minimalPE())); err == nil {
			t.Errorf("%s: accepted", tt.name)
		}
	}
}

func FuzzPEHash(f *testing.F) {
	f.Add(minimalPE())
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = PEHash(SHA256, b) })
}
