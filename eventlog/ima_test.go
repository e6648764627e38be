package eventlog

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func readIMA(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".ima")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestIMAOfRealBoots(t *testing.T) {
	for _, name := range captures {
		t.Run(name, func(t *testing.T) {
			raw := readIMA(t, name)
			entries, err := ParseIMA(raw)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(EncodeIMA(entries), raw) {
				t.Error("EncodeIMA does not give the parsed bytes back")
			}
			text, err := os.ReadFile("testdata/" + name + ".ima.txt")
			if err != nil {
				t.Fatal(err)
			}
			for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
				w := strings.Fields(line)
				if e := entries[i]; e.Template != w[2] || e.Name != w[4] || !strings.HasPrefix(w[3], e.FileAlg+":") {
					t.Errorf("entry %d is %+v, the kernel wrote %s", i, e, line)
				}
			}
			l := parse(t, readLog(t, name))
			pcrs := readPCRs(t, name)
			for _, a := range l.Algs {
				b, err := l.Replay(a)
				if err != nil {
					t.Fatal(err)
				}
				if a == SHA256 && !bytes.Equal(BootAggregate(b), entries[0].FileHash) {
					t.Errorf("boot_aggregate %x, the replayed PCRs give %x", entries[0].FileHash, BootAggregate(b))
				}
				if err := ReplayIMA(b, entries, a == SHA384); err != nil {
					t.Fatal(err)
				}
				if want := pcrs[a.String()][10]; !bytes.Equal(b.PCR[10], want) {
					t.Errorf("%v PCR 10: replayed %x, the TPM had %x", a, b.PCR[10], want)
				}
			}
		})
	}
}

func TestIMARefuses(t *testing.T) {
	good := readIMA(t, "ovmf-direct")
	change := func(off int, b byte) []byte {
		c := bytes.Clone(good)
		c[off] = b
		return c
	}
	for name, data := range map[string][]byte{
		"cut in the head":     good[:20],
		"cut in the data":     good[:100],
		"PCR 24":              change(0, 24),
		"endless name":        change(26, 1),
		"no name":             change(24, 0),
		"data beyond the end": change(38, 1),
		"field beyond data":   change(41, 1),
	} {
		if _, err := ParseIMA(data); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	entries, err := ParseIMA(change(55, 'X'))
	if err != nil {
		t.Fatal(err)
	}
	if err := ReplayIMA(NewBank(SHA256), entries, false); err == nil {
		t.Error("an entry with a changed digest was replayed")
	}
}

func TestCheckIMA(t *testing.T) {
	l := parse(t, readLog(t, "ovmf-direct"))
	raw := readIMA(t, "ovmf-direct")
	violation := bytes.Clone(raw)
	clear(violation[len(raw)/2:][bytes.Index(raw[len(raw)/2:], []byte("ima-sig"))-24:][:20])
	for _, tt := range []struct {
		name string
		ima  []byte
		want string
	}{
		{"good", raw, ""},
		{"of another boot", readIMA(t, "secureboot"), "IMA_OTHER_BOOT"},
		{"text changed", bytes.Replace(raw, []byte("dummy.ko"), []byte("dunny.ko"), 1), "IMA_ENTRY_CHANGED"},
		{"violation", violation, "IMA_VIOLATION"},
		{"empty", nil, ""},
	} {
		entries, err := ParseIMA(tt.ima)
		if err != nil {
			t.Fatal(tt.name, err)
		}
		var got []string
		for _, f := range l.CheckIMA(entries) {
			got = append(got, f.Code)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func FuzzParseIMA(f *testing.F) {
	for _, name := range captures {
		f.Add(readIMA(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := ParseIMA(data)
		if err != nil {
			return
		}
		if !bytes.Equal(EncodeIMA(entries), data) {
			t.Error("EncodeIMA does not give the parsed bytes back")
		}
		for i := range entries {
			entries[i].Text()
		}
		_ = ReplayIMA(NewBank(SHA256), entries, false)
		(&Log{Algs: []Alg{SHA256}}).CheckIMA(entries)
	})
}
