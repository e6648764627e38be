package eventlog

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// captures are logs that real firmware made; testdata/README.md says how.
var captures = []string{"seabios", "ovmf-direct", "ovmf-direct-changed", "secureboot"}

func readLog(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".bin"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// readPCRs reads what the TPM had after that boot: lines of "sha256 7 HEX".
func readPCRs(t testing.TB, name string) map[string]map[int][]byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".pcrs"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string]map[int][]byte{}
	for s := bufio.NewScanner(f); s.Scan(); {
		w := strings.Fields(s.Text())
		n, err := strconv.Atoi(w[1])
		v, err2 := hex.DecodeString(w[2])
		if err != nil || err2 != nil {
			t.Fatal(s.Text())
		}
		if out[w[0]] == nil {
			out[w[0]] = map[int][]byte{}
		}
		out[w[0]][n] = v
	}
	return out
}

func parse(t testing.TB, data []byte) *Log {
	t.Helper()
	l, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestReplayOfRealBoots(t *testing.T) {
	for _, name := range captures {
		t.Run(name, func(t *testing.T) {
			raw := readLog(t, name)
			l := parse(t, raw)
			if got := l.Encode(); !bytes.Equal(got, raw) {
				t.Error("Encode does not give the parsed bytes back")
			}
			pcrs := readPCRs(t, name)
			for _, a := range []Alg{SHA1, SHA256, SHA384} {
				b, err := l.Replay(a)
				if err != nil {
					t.Fatal(err)
				}
				for n, v := range b.PCR {
					if n == 10 {
						continue // Linux's IMA: it has its own log
					}
					if !bytes.Equal(v, pcrs[a.String()][n]) {
						t.Errorf("%v PCR %d: replayed %x, the TPM had %x", a, n, v, pcrs[a.String()][n])
					}
				}
			}
		})
	}
}

func codes(l *Log) string {
	var out []string
	for _, f := range l.Check() {
		out = append(out, f.Code)
	}
	return strings.Join(out, " ")
}

func TestCheckOfRealBoots(t *testing.T) {
	for name, want := range map[string]string{
		"seabios":             "KERNEL_NOT_MEASURED COMMAND_LINE_NOT_MEASURED INITRD_NOT_MEASURED",
		"ovmf-direct":         "SECURE_BOOT_OFF",
		"ovmf-direct-changed": "SECURE_BOOT_OFF",
		"secureboot":          "",
	} {
		if got := codes(parse(t, readLog(t, name))); got != want {
			t.Errorf("%s: found %q, want %q", name, got, want)
		}
	}
}

// TestEveryFlippedByteOfDataIsJudged changes each event's data in turn. Where
// the binding said authenticated, that must be lost; nowhere may it be won.
func TestEveryFlippedByteOfDataIsJudged(t *testing.T) {
	for _, name := range captures {
		l := parse(t, readLog(t, name))
		for i := range l.Events {
			e := l.Events[i]
			was, part := e.Binding()
			e.Data = bytes.Clone(e.Data)
			if len(e.Data) == 0 {
				continue
			}
			at := len(e.Data) - 1
			if len(part) > 0 {
				at = bytes.Index(e.Data, part)
			}
			e.Data[at] ^= 1
			now, _ := e.Binding()
			switch {
			case was == Authenticated && hashesItsData(e.Type) && now != Broken,
				was == Authenticated && !hashesItsData(e.Type) && now == Authenticated,
				was == Unauthenticated && now != Unauthenticated,
				was == NotExtended && now != NotExtended:
				t.Errorf("%s event %d (%v): %s, after a flipped byte %s", name, i, e.Type, was, now)
			}
		}
	}
}

func TestBindings(t *testing.T) {
	l := parse(t, readLog(t, "ovmf-direct"))
	for n, want := range map[int]Binding{
		0: NotExtended, 1: Authenticated, 2: Unauthenticated, 4: Authenticated, 9: Authenticated,
		10: Unauthenticated, 11: PartlyAuthenticated, 13: Authenticated, 21: Unauthenticated, 22: Unauthenticated,
	} {
		if got, _ := l.Events[n].Binding(); got != want {
			t.Errorf("event %d (%v): %s, want %s", n, l.Events[n].Type, got, want)
		}
	}
}
