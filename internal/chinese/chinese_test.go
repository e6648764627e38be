package chinese

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/verifier"
)

func known() map[string]string {
	all := map[string]string{}
	for _, c := range catalogs {
		for _, x := range c {
			all[x.en] = x.zh
		}
	}
	return all
}

// command is a hint that is nothing but something to type.
var command = regexp.MustCompile(`^(vouchsafe|vouchsafe-agent|apt-get|openssl|chmod|tpm2_\w+|CGO_ENABLED=0) [^,:;]*$`)

// TestEveryTextHasChinese: whoever writes an error, a hint or evidence adds its Chinese.
func TestEveryTextHasChinese(t *testing.T) {
	all := known()
	for _, dir := range slices.Sorted(maps.Keys(sources)) {
		for _, s := range textsOf(t, dir) {
			if _, ok := all[s.format]; ok || command.MatchString(s.format) {
				continue
			}
			if f, _ := find(s.format); f == nil || !worded(f.en) || strings.Contains(f.en, "%w") { // a constant stands at a place
				t.Errorf("%s: %q has no Chinese: add it to internal/chinese/%s", s.where, s.format, sources[dir])
			}
		}
	}
}

// TestNoChineseWithoutText: a text that was changed or has gone takes its Chinese along.
func TestNoChineseWithoutText(t *testing.T) {
	var literals strings.Builder
	for dir := range sources {
		for _, file := range sourceFiles(t, dir) {
			tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(tree, func(n ast.Node) bool {
				if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
					s, _ := strconv.Unquote(l.Value)
					literals.WriteString(s + "\x00")
				}
				return true
			})
		}
	}
	said := literals.String()
	for i, c := range catalogs {
		if i == len(catalogs)-2 { // system: others' texts
			continue
		}
		for _, x := range c {
			en := x.en
			for _, piece := range places.Split(en, -1) {
				piece = strings.Trim(piece, " ,;:") // where sources join two
				if len(piece) > 3 && !strings.Contains(said, piece) {
					t.Errorf("no source says %q any more: take %q out", piece, en)
				}
			}
		}
	}
}

// TestPlacesAgree: no value is lost, doubled or shown where another belongs.
func TestPlacesAgree(t *testing.T) {
	owner := map[string]string{}
	for i, c := range catalogs {
		for _, x := range c {
			en, zh := x.en, x.zh
			if before, ok := owner[en]; ok && before != zh {
				t.Errorf("%q has two translations: %q and %q", en, before, zh)
			}
			owner[en] = zh
			if strings.TrimSpace(zh) == "" {
				t.Errorf("%q has no Chinese", en)
			}
			if i == len(catalogs)-2 { // what the kernel repeats may be left out
				continue
			}
			if n, m := placesOf(en), placesOf(zh); !slices.Equal(n, m) {
				t.Errorf("%q has places %v, %q %v", en, n, zh, m)
			}
		}
	}
}

// placesOf are the numbers of the places in a format, sorted.
func placesOf(format string) []int {
	var ns []int
	next := 1
	for _, m := range places.FindAllStringSubmatch(format, -1) {
		if m[1] == "%" {
			continue
		}
		number, _, ok := strings.Cut(strings.TrimPrefix(m[0], "%["), "]")
		if n, err := strconv.Atoi(number); ok && err == nil {
			ns = append(ns, n)
			continue
		}
		ns = append(ns, next)
		next++
	}
	slices.Sort(ns)
	return ns
}

// TestRemediesAreTheCatalogs: refusals says what enroll and verifier say, no more and no less.
func TestRemediesAreTheCatalogs(t *testing.T) {
	want := map[string]string{}
	for _, e := range slices.Concat(enroll.Refusals, verifier.Refusals) {
		want[e.Remedy.EN] = e.Remedy.ZH
	}
	for en, zh := range want {
		if !slices.Contains(refusals, text{en, zh}) {
			t.Errorf("refusals.go lacks {%q, %q}", en, zh)
		}
	}
	for _, x := range refusals {
		if _, ok := want[x.en]; !ok {
			t.Errorf("refusals.go: nobody says %q", x.en)
		}
	}
}

func TestOf(t *testing.T) {
	for _, c := range []struct{ en, zh string }{
		{"reading the credential in /var/lib/x: open /var/lib/x/cert.pem: no such file or directory", "读取 /var/lib/x 中的凭据：打开 /var/lib/x/cert.pem：没有那个文件或目录"},
		{"lending web1 to h1: web1 belongs on host h2 (VM_ELSEWHERE)", "将 web1 租借给 h1：web1 属于宿主机 h2（VM_ELSEWHERE）"},
		{"host rack1 has not made the vTPM of web1 within 1m0s; the order stands", "宿主机 rack1 未在 1m0s 内制造 web1 的 vTPM；该请求仍然有效"},
		{`unknown command "frob" for "vouchsafe vm"`, `"vouchsafe vm" 没有命令 "frob"`},
		{"the kernel oopsed", "the kernel oopsed"}, // others' words stay
		{"", ""},
	} {
		if got := Of(c.en); got != c.zh {
			t.Errorf("Of(%q)\n got %q\nwant %q", c.en, got, c.zh)
		}
	}
}

func TestFill(t *testing.T) {
	for _, c := range []struct {
		en, zh, text, want string
		ok                 bool
	}{
		{"PCR {0} has event {1}", "事件 {1} 在 PCR {0}", "PCR 7 has event 12", "事件 12 在 PCR 7", true},
		{"nothing to fill", "无需填写", "nothing to fill", "无需填写", true},
		{"PCR {0}", "PCR {0} 的值", "something else", "something else", false},
	} {
		if got, ok := Fill(c.en, c.zh, c.text); got != c.want || ok != c.ok {
			t.Errorf("Fill(%q): got %q, %v; want %q, %v", c.text, got, ok, c.want, c.ok)
		}
	}
}

func FuzzOf(f *testing.F) {
	f.Add("reading the credential in %s: %w: \"\xff")
	f.Add(strings.Repeat("a: ", 1000))
	f.Fuzz(func(t *testing.T, text string) { Of(text) })
}
