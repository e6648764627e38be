package differential

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzParse: what reads as a step is written so that it reads back the same.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.txt")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			f.Add(line)
		}
	}
	f.Fuzz(func(t *testing.T, line string) {
		s, err := parseStep(line)
		if err != nil {
			return
		}
		again, err := parseStep(s.String())
		if err != nil || again.String() != s.String() {
			t.Errorf("%q is written %q and reads back %q, %v", line, s, again, err)
		}
		for _, p := range s.Params {
			parseExpr(p)
		}
	})
}

// FuzzFieldSize: the layout of no response runs past its end or panics.
func FuzzFieldSize(f *testing.F) {
	types := map[string]bool{}
	for _, ps := range responses {
		for _, p := range ps {
			types[p.typ] = true
		}
	}
	for typ := range types {
		f.Add(typ, []byte{0, 0, 0, 1, 0, 0x18, 0, 0x0b, 0, 1, 0xff})
	}
	f.Fuzz(func(t *testing.T, typ string, b []byte) {
		if n, err := fieldSize(typ, b); err == nil && n < 0 {
			t.Errorf("%s: size %d", typ, n)
		}
	})
}

func TestEach(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"one":    {"each A in x y do Load $@A", "Load $x|Load $y"},
		"nested": {"each A in x y do each B in 1 2 do NV_Read 0x@A@B", "NV_Read 0xx1|NV_Read 0xx2|NV_Read 0xy1|NV_Read 0xy2"},
		"let":    {"let all = a b\neach A in @all do Unseal $@A", "Unseal $a|Unseal $b"},
		"place":  {"@3 PCR_Reset pcr16 : pw", "@3 PCR_Reset pcr16 : pw"},
	} {
		t.Run(name, func(t *testing.T) {
			steps, err := Parse(strings.NewReader(c.in))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range steps {
				got = append(got, s.String())
			}
			if g := strings.Join(got, "|"); g != c.want {
				t.Errorf("got %q, want %q", g, c.want)
			}
		})
	}
}

// TestAcceptedRows wants every row of the table to say why, and to be shaped as the rest.
func TestAcceptedRows(t *testing.T) {
	for _, r := range table(t) {
		if len(r.reason) < 20 && !strings.HasPrefix(r.reason, "as above") {
			t.Errorf("%s %s: the reason is short: %q", r.command, r.what, r.reason)
		}
	}
}

// TestNoDifferenceWithItself runs the hand-written sequences on two swtpms: what
// differs there would be a mistake of the comparison.
func TestNoDifferenceWithItself(t *testing.T) {
	neighbours(t)
	for _, file := range []string{"smoke", "objects", "policy", "nv"} {
		for _, steps := range scenes(t, "testdata/"+file+".txt") {
			a, err := open(*theirs)
			if err != nil {
				t.Fatal(err)
			}
			b, err := open(*theirs)
			if err != nil {
				a.Close()
				t.Fatal(err)
			}
			r, err := Run(NewPair(a, b, nil), steps)
			a.Close()
			b.Close()
			if err != nil || len(r.Diffs) > 0 {
				t.Errorf("%s: %v, %v", file, err, r.Diffs)
			}
		}
	}
}
