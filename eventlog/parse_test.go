package eventlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

// small is a log of two banks with a locality event, an action and an empty event.
func small(t testing.TB) *Log {
	t.Helper()
	l, err := New(SHA256, SHA512)
	if err != nil {
		t.Fatal(err)
	}
	l.Add(0, EVNoAction, nil, []byte(localityH+"\x03"))
	l.Add(0, EVSCRTMVersion, []byte("v1"), []byte("v1"))
	l.Add(4, EVEFIAction, []byte("hello"), []byte("hello"))
	l.Add(17, EVEFIAction, nil, nil)
	return l
}

func TestParseRefuses(t *testing.T) {
	good := small(t).Encode()
	const second = 69 // the first event: 32 bytes of head, 37 of data with 2 banks
	if binary.LittleEndian.Uint32(good[second+4:]) != uint32(EVNoAction) {
		t.Fatal("the second event does not begin at the byte that the cases below change")
	}
	set := func(off int, v ...byte) func() []byte {
		return func() []byte { b := bytes.Clone(good); copy(b[off:], v); return b }
	}
	for _, tt := range []struct {
		name  string
		data  func() []byte
		event int
		want  string
	}{
		{"empty", func() []byte { return nil }, -1, "empty"},
		{"too long", func() []byte { return make([]byte, MaxSize+1) }, -1, "the limit"},
		{"zeros", func() []byte { return make([]byte, 40) }, 1, "within the event's digest"},
		{"cut in the first head", func() []byte { return good[:5] }, 0, "within the event's head"},
		{"cut in the last event", func() []byte { return good[:len(good)-1] }, 4, "ends"},
		{"bytes behind the last event", func() []byte { return append(bytes.Clone(good), 0xFF, 0xFF, 0xFF, 0xFF) }, 5, "within the event's head"},
		{"no banks", set(32+24, 0), 0, "0 algorithms"},
		{"many banks", set(32+24, 9), 0, "9 algorithms"},
		{"unknown bank", set(32+28, 0xEE), 0, "unknown algorithm 0x00ee"},
		{"bank with a wrong size", set(32+30, 20), 0, "it has 32"},
		{"bank twice", set(32+32, 0x0B, 0, 32, 0), 0, "twice"},
		{"vendor information longer than it is", set(32+36, 1), 0, "vendor information"},
		{"one digest missing", set(second+8, 1), 1, "1 digests"},
		{"digests without end", set(second+8, 0xFF, 0xFF, 0xFF, 0xFF), 1, "4294967295 digests"},
		{"digest of no bank", set(second+12, 4), 1, "does not name"},
		{"digest twice", set(second+12+34, 0x0B), 1, "two sha256"},
		{"data beyond the end", set(second+12+34+66, 0xFF, 0xFF, 0), 1, "are left"},
		{"data beyond the limit", set(second+12+34+66, 0, 0, 0, 0xFF), 1, "the limit"},
	} {
		_, err := Parse(tt.data())
		var se *SyntaxError
		if !errors.As(err, &se) || se.Event != tt.event || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want event %d and %q", tt.name, err, tt.event, tt.want)
		}
	}
	l := small(t)
	l.Events[3].PCR = 24
	if _, err := Parse(l.Encode()); err == nil || !strings.Contains(err.Error(), "PCR 24") {
		t.Errorf("PCR 24: %v", err)
	}
	l.Events[3].PCR = 4
	l.Events = append(l.Events, make([]Event, MaxEvents)...)
	for i := range l.Events[5:] {
		l.Events[5+i] = l.Events[4]
	}
	if _, err := Parse(l.Encode()); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("too many events: %v", err)
	}
}

func TestReplayOfSmallLogs(t *testing.T) {
	l := small(t)
	b, err := l.Replay(SHA256)
	if err != nil {
		t.Fatal(err)
	}
	start := make([]byte, 32)
	start[31] = 3 // StartupLocality
	if want := SHA256.Sum(append(start, SHA256.Sum([]byte("v1"))...)); !bytes.Equal(b.PCR[0], want) {
		t.Errorf("PCR 0 after StartupLocality 3: %x, want %x", b.PCR[0], want)
	}
	if want := SHA256.Sum(append(make([]byte, 32), SHA256.Sum(nil)...)); !bytes.Equal(b.PCR[17], want) {
		t.Errorf("PCR 17 begins with zeros once it is extended: %x, want %x", b.PCR[17], want)
	}
	if b.PCR[18][0] != 0xFF || b.PCR[16][0] != 0 || b.PCR[23][0] != 0 {
		t.Error("start values: ones in 17 to 22, zeros elsewhere")
	}
	for _, a := range []Alg{SHA1, SM3} {
		if _, err := l.Replay(a); err == nil {
			t.Errorf("a bank that the log has not, %v, was replayed", a)
		}
	}
}

func TestSHA1Log(t *testing.T) {
	l := &Log{Algs: []Alg{SHA1}}
	l.Add(0, EVSCRTMVersion, []byte("v"), []byte("v"))
	for pcr := range uint32(8) {
		l.Add(pcr, EVSeparator, make([]byte, 4), make([]byte, 4))
	}
	back := parse(t, l.Encode())
	if back.Agile || !bytes.Equal(back.Encode(), l.Encode()) {
		t.Error("a SHA-1 log does not survive")
	}
	if got := codes(back); !strings.HasPrefix(got, "EVENT_LOG_SHA1_ONLY KERNEL_NOT_MEASURED") {
		t.Error(got)
	}
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(l *Log)
		want   string
	}{
		{"a text changed", func(l *Log) { l.Events[13].Data = []byte("Calling EFI Application from Boot Optiom") }, "EVENT_DIGEST_MISMATCH SECURE_BOOT_OFF"},
		{"a digest changed in one bank", func(l *Log) { l.Events[13].Digests[1].Sum = make([]byte, 32) }, "EVENT_DIGEST_MISMATCH SECURE_BOOT_OFF"},
		{"a separator removed", func(l *Log) { l.Events = append(l.Events[:14:14], l.Events[15:]...) }, "EVENT_SEPARATOR_MISSING SECURE_BOOT_OFF"},
		{"a separator added", func(l *Log) { l.Add(0, EVSeparator, make([]byte, 4), make([]byte, 4)) }, "EVENT_SEPARATOR_REPEATED SECURE_BOOT_OFF"},
		{"an error separator", func(l *Log) {
			e := l.Add(3, EVSeparator, separatorErrorValue, []byte("memory"))
			l.Events[17] = e
			l.Events = l.Events[:25]
		}, "EVENT_SEPARATOR_ERROR SECURE_BOOT_OFF"},
		{"the kernel removed", func(l *Log) { l.Events = append(l.Events[:10:10], l.Events[11:]...) }, "KERNEL_NOT_MEASURED SECURE_BOOT_OFF"},
	} {
		l := parse(t, readLog(t, "ovmf-direct"))
		tt.change(l)
		if got := codes(l); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestHostileTextIsPrintable: whatever the bytes, no control character gets to a terminal.
func TestHostileTextIsPrintable(t *testing.T) {
	for _, data := range []string{"\x1b[2J", "a\u202eb", "\r\n", strings.Repeat("x", 5000), "\x00\x00", "", "h\x00\x1b\x00"} {
		for typ := range typeNames {
			e := Event{Type: typ, Data: []byte(data)}
			if s := e.Text(); strings.ContainsAny(s, "\x1b\r\n\u202e") || len(s) > 4*MaxText {
				t.Errorf("%v %q: %q", typ, data, s)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range captures {
		f.Add(readLog(f, name))
	}
	f.Add(small(f).Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Parse(data)
		if err != nil {
			return
		}
		if !bytes.Equal(l.Encode(), data) {
			t.Error("Encode does not give the parsed bytes back")
		}
		for _, a := range l.Algs {
			if a.Available() {
				if _, err := l.Replay(a); err != nil {
					t.Error(err)
				}
			}
		}
		for i := range l.Events {
			l.Events[i].Text()
			l.Events[i].Meaning()
		}
		l.Check()
	})
}

func BenchmarkParseReplayCheck(b *testing.B) {
	raw := readLog(b, "secureboot")
	b.ReportAllocs()
	for b.Loop() {
		l := parse(b, raw)
		if _, err := l.Replay(SHA256); err != nil {
			b.Fatal(err)
		}
		for i := range l.Events {
			l.Events[i].Binding(SHA256)
		}
	}
}
