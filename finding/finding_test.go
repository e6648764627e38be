package finding

import "testing"

var catalog = Catalog{{
	Code: "DOOR_OPEN", Severity: Warning,
	Meaning: Text{EN: "{0} is open", ZH: "{0} 开着"},
	Remedy:  Text{EN: "close {0}", ZH: "关上 {0}"},
}}

func TestFindingSpeaksBothLanguages(t *testing.T) {
	f := catalog.New("DOOR_OPEN", "hall", "seen at noon", "the door")
	if got, want := f.Meaning+"; "+f.Remedy, "the door is open; close the door"; got != want {
		t.Errorf("English: got %q, want %q", got, want)
	}
	f = f.In(Chinese)
	if got, want := f.Meaning+"; "+f.Remedy, "the door 开着; 关上 the door"; got != want {
		t.Errorf("Chinese: got %q, want %q", got, want)
	}
	if got := Worst([]Finding{{Severity: Info}, f}); got != Warning {
		t.Errorf("Worst: got %q, want %q", got, Warning)
	}
}

func TestUnknownCodePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a code outside the catalogue was accepted")
		}
	}()
	catalog.New("NO_SUCH_CODE", "", "")
}
