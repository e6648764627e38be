package secret

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const inside = "hunter2hunter2"

type holder struct {
	Public  Bytes
	private Bytes
	list    []Bytes
	byName  map[string]Bytes
	pointer *Bytes
	any     any
}

// TestNeverPrints looks for the bytes, in any usual spelling, in everything
// that Go can make of a struct that holds them.
func TestNeverPrints(t *testing.T) {
	s := New([]byte(inside))
	h := holder{Public: s, private: s, list: []Bytes{s}, byName: map[string]Bytes{"k": s}, pointer: &s, any: s}
	var out bytes.Buffer
	for _, v := range []any{s, &s, h, &h, []any{h}, fmt.Errorf("using %v", h), errors.New(fmt.Sprint(s))} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p", "%T"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		}
		if b, err := xml.Marshal(v); err == nil {
			out.Write(b)
		}
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
	}
	decimal := strings.Trim(fmt.Sprint([]byte(inside)), "[]")
	for _, spelling := range []string{inside, fmt.Sprintf("%x", inside), fmt.Sprintf("%X", inside), decimal, "aHVudGVyMmh1bnRlcjI"} {
		if strings.Contains(out.String(), spelling) {
			t.Errorf("the secret was printed as %q", spelling)
		}
	}
	if !strings.Contains(out.String(), "[secret]") {
		t.Error("nothing was printed at all")
	}
}

func TestEqual(t *testing.T) {
	a, b := New([]byte("same")), Copy([]byte("same"))
	if !a.Equal(b) {
		t.Error("equal secrets differ")
	}
	if a.Equal(New([]byte("other"))) || a.Equal(Bytes{}) || (Bytes{}).Equal(Bytes{}) {
		t.Error("different or empty secrets are equal")
	}
}

func TestErase(t *testing.T) {
	raw := []byte("gone")
	a := New(raw)
	b := a
	a.Erase()
	a.Erase()
	if b.Len() != 0 || !bytes.Equal(raw, make([]byte, 4)) {
		t.Error("a copy survived, or the bytes did")
	}
	(Bytes{}).Erase()
}

func TestUnmarshalRefuses(t *testing.T) {
	var v struct{ S Bytes }
	if err := json.Unmarshal([]byte(`{"S":"x"}`), &v); err == nil {
		t.Error("a secret was read from JSON")
	}
}
