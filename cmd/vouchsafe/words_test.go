package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/finding"
)

var (
	wordsVerb  = regexp.MustCompile(`%(?:\[(\d+)\])?[-+# 0]*\d*(?:\.\d+)?([a-zA-Z])`)
	wordsPlace = regexp.MustCompile(`\{\d\}`)
	wordsWord  = regexp.MustCompile(`[a-z]{2}`)
)

// printedInEnglish are words that are printed in English to everybody: they are
// swtpm's own, or no words of a language. Manual pages are English as a whole.
var printedInEnglish = []string{
	"%s%s --help\n",
	"vouchsafe %s (%s)\n",
	"vouchsafe-agent %s (%s)\n",
	"TPM emulator version %s (vouchsafe)\n",
	"TPM emulator control tool version %s (vouchsafe)\n",
	"TPM emulator setup tool version %s (vouchsafe)\n",
}

// TestWordsAreInBothLanguages: what a command prints goes through say, and its
// two texts take the same values.
func TestWordsAreInBothLanguages(t *testing.T) {
	for _, dir := range []string{".", "../vouchsafe-agent"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") || file == "man.go" || file == "help_zh.go" {
				continue
			}
			fset := token.NewFileSet()
			tree, err := parser.ParseFile(fset, file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(tree, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				name := ""
				switch fun := call.Fun.(type) {
				case *ast.SelectorExpr:
					name = fun.Sel.Name
				case *ast.Ident:
					name = fun.Name
				}
				where := fset.Position(call.Pos())
				switch {
				case name == "say" || name == "tell":
					en, ok1 := literal(call.Args[0])
					zh, ok2 := literal(call.Args[1])
					if ok1 && ok2 && !slices.Equal(verbs(en), verbs(zh)) {
						t.Errorf("%s: %q and %q take other values", where, en, zh)
					}
				case strings.HasPrefix(name, "Fprint") || name == "WriteString":
					for _, arg := range call.Args {
						s, ok := literal(arg)
						if ok && wordsWord.MatchString(wordsVerb.ReplaceAllString(s, "")) && !slices.Contains(printedInEnglish, s) {
							t.Errorf("%s: %q is printed in English alone: use say", where, s)
						}
					}
				}
				return true
			})
		}
	}
	for _, s := range demoSteps {
		if s.zh == "" {
			t.Errorf("the step %s lacks Chinese", s.name)
		}
	}
}

// literal is the text of a literal, or of a sum of them.
func literal(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, err == nil && e.Kind == token.STRING
	case *ast.BinaryExpr:
		x, ok1 := literal(e.X)
		y, ok2 := literal(e.Y)
		return x + y, ok1 && ok2
	}
	return "", false
}

// verbs are the places of a format, by their numbers: "1s", "2d".
func verbs(format string) []string {
	seen := map[string]bool{}
	next := 1
	for _, m := range wordsVerb.FindAllStringSubmatch(strings.ReplaceAll(format, "%%", ""), -1) {
		if m[1] != "" {
			next, _ = strconv.Atoi(m[1])
		}
		seen[strconv.Itoa(next)+m[2]] = true
		next++
	}
	return slices.Sorted(maps.Keys(seen))
}

// TestEveryCodeIsChinese: each finding and refusal that this program can print
// has its Chinese, with the values of the English, and says so when it comes
// over the wire, where it is text alone.
func TestEveryCodeIsChinese(t *testing.T) {
	for _, catalog := range findingCatalogs {
		for _, e := range catalog.Catalog {
			for _, text := range []finding.Text{e.Meaning, e.Remedy} {
				if text.EN == "" || text.ZH == "" {
					t.Errorf("%s lacks a language", e.Code)
				}
				en, zh := wordsPlace.FindAllString(text.EN, -1), wordsPlace.FindAllString(text.ZH, -1)
				slices.Sort(en)
				slices.Sort(zh)
				if !slices.Equal(slices.Compact(en), slices.Compact(zh)) {
					t.Errorf("%s: %q and %q take other values", e.Code, text.EN, text.ZH)
				}
			}
			f := catalog.New(e.Code, "web1", "", "first", "second", "third")
			want := f.In(finding.Chinese)
			sent := finding.Finding{Code: f.Code, Severity: f.Severity, Subject: f.Subject, Meaning: f.Meaning, Remedy: f.Remedy}
			if got := inChinese(sent); got.Meaning != want.Meaning || got.Remedy != want.Remedy {
				t.Errorf("%s over the wire:\n got %q; %q\nwant %q; %q", e.Code, got.Meaning, got.Remedy, want.Meaning, want.Remedy)
			}
		}
	}
}

// TestEveryCatalogIsKnown: a catalog that is new in the house is in findingCatalogs.
func TestEveryCatalogIsKnown(t *testing.T) {
	list, err := os.ReadFile("findings_zh.go")
	if err != nil {
		t.Fatal(err)
	}
	catalog := regexp.MustCompile(`(?m)^var ([A-Z]\w*) = .*finding\.Catalog\b`)
	err = filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range catalog.FindAllSubmatch(text, -1) {
			name := filepath.Base(filepath.Dir(path)) + "." + string(m[1])
			if !strings.Contains(string(list), name+",") {
				t.Errorf("findingCatalogs lacks %s", name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTableIsAlignedInChinese(t *testing.T) {
	var out strings.Builder
	a := &app{out: &out, langFlag: "zh"}
	w := a.table()
	w.WriteString("名称\t状态\n")
	w.WriteString("web1\tborn\n")
	w.WriteString("a-longer-name\t\n")
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "名称           状态\nweb1           born\na-longer-name\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
