package chinese

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// said is an English text in the sources that a person gets to read.
type said struct{ format, where string }

// sources are the directories whose texts have Chinese, and the file here that
// has it. What is missing speaks to programmers, as tpm2 does in the words of
// its specification, or prints nothing.
var sources = map[string]string{
	"cmd/vouchsafe": "commands.go", "cmd/vouchsafe-agent": "guest.go",
	"internal/agent": "guest.go", "internal/attester": "guest.go", "internal/admission": "guest.go",
	"internal/enroll": "service.go", "internal/verifier": "service.go", "internal/api": "service.go", "internal/modkeys": "service.go",
	"internal/store": "service.go", "internal/audit": "service.go", "internal/backup": "service.go", "internal/host": "service.go", "internal/statement": "service.go",
	"internal/ca": "authorities.go", "internal/keyring": "authorities.go", "internal/seal": "authorities.go",
	"internal/vtpm": "vtpms.go", "internal/vtpm/swtpm": "vtpms.go",
	"internal/attest": "evidence.go", "eventlog": "evidence.go",
	"modsig": "modules.go", "internal/pkcs11": "modules.go", "internal/tpmkey": "modules.go",
	"tpm2/client": "tpm.go", // what goes wrong before a TPM answers, and what its refusals mean
	"chain":       "chains.go", "internal/chainnet": "chains.go",
}

// code is what a finding or refusal is called.
var code = regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$`)

// textsOf finds what dir says: errors, hints, refusals and the evidence of findings.
func textsOf(t *testing.T, dir string) []said {
	t.Helper()
	var all []said
	fset := token.NewFileSet()
	var trees []*ast.File
	consts := map[string]ast.Expr{}
	for _, file := range sourceFiles(t, dir) {
		tree, err := parser.ParseFile(fset, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		trees = append(trees, tree)
		ast.Inspect(tree, func(n ast.Node) bool {
			if d, ok := n.(*ast.GenDecl); ok && d.Tok == token.CONST {
				for _, s := range d.Specs {
					for i, v := range s.(*ast.ValueSpec).Values {
						consts[s.(*ast.ValueSpec).Names[i].Name] = v
					}
				}
			}
			return true
		})
	}
	formatOf := func(e ast.Expr) (string, bool) { return formatOf(e, consts) }
	read := func(field string) bool { // by people: of refusals, and of api.Key
		return dir == "internal/api" && slices.Contains([]string{"Purpose", "Protects", "Rotate", "Used"}, field) ||
			strings.HasPrefix(dir, "internal/") && slices.Contains([]string{"Hint", "Detail", "Why"}, field)
	}
	for _, tree := range trees {
		if file := filepath.Base(fset.Position(tree.Pos()).Filename); dir == "tpm2/client" && file != "open.go" && file != "error.go" {
			continue
		}
		add := func(e ast.Expr) {
			if f, ok := formatOf(e); ok && worded(f) && !strings.HasPrefix(f, "internal error") {
				all = append(all, said{f, fmt.Sprintf("%s/%s:%d", dir, filepath.Base(fset.Position(e.Pos()).Filename), fset.Position(e.Pos()).Line)})
			}
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				name := nameOf(n.Fun)
				switch {
				case name == "errors.New" || name == "fmt.Errorf":
					add(n.Args[0])
				case name == "withHint":
					add(n.Args[1])
				case name == "fail" && dir == "eventlog":
					add(n.Args[0])
				case len(n.Args) > 1 && isCode(n.Args[0]): // a finding: code, perhaps its subject, evidence
					switch verb := name[strings.LastIndex(name, ".")+1:]; {
					case dir == "chain" && slices.Contains([]string{"add", "note", "report", "indent", "fault"}, verb): // certificate and place may stand between
						for _, e := range n.Args[1:] {
							if _, ok := formatOf(e); ok {
								add(e)
								break
							}
						}
					case verb == "find" || verb == "note" || verb == "refuse" && dir == "internal/attest":
						add(n.Args[1])
					case dir != "chain" && (verb == "New" || verb == "refuse" || verb == "add" || verb == "report") && len(n.Args) > 2:
						add(n.Args[2])
					}
				}
			case *ast.ValueSpec:
				if n.Names[0].Name == "hints" { // of tpm2/client, by response code
					for _, e := range n.Values[0].(*ast.CompositeLit).Elts {
						add(e.(*ast.KeyValueExpr).Value)
					}
				}
			case *ast.CompositeLit:
				for i, e := range n.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok {
						if id, ok := kv.Key.(*ast.Ident); ok && id.Name == "evidence" {
							add(kv.Value)
						}
					}
					kv, ok := e.(*ast.KeyValueExpr)
					if !ok {
						if i > 0 && (strings.HasSuffix(nameOf(n.Type), "Refusal") || nameOf(n.Type) == "SyntaxError") {
							add(e)
						}
						continue
					}
					if id, ok := kv.Key.(*ast.Ident); ok && read(id.Name) {
						add(kv.Value)
					}
				}
			case *ast.AssignStmt:
				for i, l := range n.Lhs {
					if len(n.Rhs) != len(n.Lhs) || n.Tok == token.ADD_ASSIGN { // half a text
						continue
					}
					switch l := l.(type) {
					case *ast.SelectorExpr:
						if read(l.Sel.Name) || l.Sel.Name == "evidence" || l.Sel.Name == "fault" {
							add(n.Rhs[i])
						}
					case *ast.Ident: // on its way into a finding
						if slices.Contains([]string{"evidence", "ev", "measured"}, l.Name) {
							add(n.Rhs[i])
						}
					}
				}
			case *ast.FuncDecl: // a type that is an error, and imaEntry's third result
				if n.Recv == nil && n.Name.Name != "imaEntry" || n.Recv != nil && n.Name.Name != "Error" && n.Name.Name != "Hint" {
					return true
				}
				ast.Inspect(n, func(m ast.Node) bool {
					if r, ok := m.(*ast.ReturnStmt); ok && len(r.Results) > 0 {
						add(r.Results[len(r.Results)-1])
					}
					return true
				})
			}
			return true
		})
	}
	return all
}

// sourceFiles are the Go files of dir without its tests.
func sourceFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no sources in %s: %v", dir, err)
	}
	return slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, "_test.go") })
}

// formatOf is the format that e makes a text with: a literal, Sprintf, or a sum of
// literals and values, which are %s.
func formatOf(e ast.Expr, consts map[string]ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, err == nil && e.Kind == token.STRING
	case *ast.Ident:
		if c, ok := consts[e.Name]; ok {
			return formatOf(c, consts)
		}
	case *ast.ParenExpr:
		return formatOf(e.X, consts)
	case *ast.BinaryExpr:
		x, okx := formatOf(e.X, consts)
		y, oky := formatOf(e.Y, consts)
		if !okx && !oky {
			return "%s%s", false
		}
		if !okx {
			x = "%s"
		}
		if !oky {
			y = "%s"
		}
		return x + y, true
	case *ast.CallExpr:
		if nameOf(e.Fun) == "fmt.Sprintf" {
			return formatOf(e.Args[0], consts)
		}
	}
	return "", false
}

func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return nameOf(e.X) + "." + e.Sel.Name
	}
	return "?"
}

func isCode(e ast.Expr) bool {
	s, ok := formatOf(e, nil)
	return ok && code.MatchString(s)
}

// worded says whether a format has words of its own.
func worded(f string) bool { return newFormat(f, "").words }
