package vouchsafe_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/vouchsafe/vouchsafe"

// floors is the house, from the ground up. A package imports lower floors
// only; neighbours on a floor do not know each other, except as `doors` says.
// This is policy: change it on purpose, with the reason in the commit, never
// to make a build pass. A package appears here with its first code.
var floors = [][]string{
	{ // libraries: no I/O, importable by anyone (the first is the shape all diagnosis has)
		"finding",
		"tpm2", "tpm2/internal/crypt", "tpm2/internal/libtpms", "tpm2/engine", "tpm2/client", "eventlog", "chain", "modsig",
		"internal/secret", "internal/derive", "internal/xaes", "internal/durable", "internal/statement", "internal/vtpm/swtpm", "internal/chinese",
	},
	{ // domain
		"internal/seal", "internal/keyring", "internal/ca", "internal/vtpm", "internal/attest", "internal/audit", "internal/backup",
		"internal/admission", "internal/attester", "internal/hosting", "internal/pkcs11", "internal/tpmkey",
	},
	{ // services
		"internal/enroll", "internal/verifier", "internal/modkeys", "internal/store", "internal/chainnet",
	},
	{ // faces
		"internal/api", "internal/agent", "internal/host", "internal/config",
	},
	{ // programs
		"cmd/vouchsafe", "cmd/vouchsafe-agent",
	},
}

// doors are the pairs of neighbours that may know each other: who -> whom.
var doors = map[string][]string{
	"tpm2/internal/crypt":   {"tpm2"},
	"tpm2/internal/libtpms": {"tpm2"},
	"tpm2/engine":           {"tpm2", "tpm2/internal/crypt", "tpm2/internal/libtpms"},
	"tpm2/client":           {"tpm2", "tpm2/internal/crypt"},
	"chain":                 {"finding"},
	"modsig":                {"finding"},
	"eventlog":              {"finding"},
	// One list of derivations; one AEAD over it. Both stand on the secret that never prints.
	"internal/derive": {"internal/secret"},
	"internal/xaes":   {"internal/derive", "internal/secret"},
	// The store implements what the life of a VM declares.
	"internal/store": {"internal/enroll", "internal/verifier", "internal/modkeys"},
	// One kind of refusal for all services.
	"internal/modkeys": {"internal/enroll"},
	// The Verifier answers what enroll asks, and both ends speak of evidence.
	"internal/verifier":  {"internal/enroll"},
	"internal/admission": {"internal/attest"},
	// An Attester speaks the conversation, and makes what attest appraises.
	"internal/attester": {"internal/admission", "internal/attest"},
	"internal/hosting":  {"internal/attest"},
}

// tools are programs that only `go generate` and tests run; they stand outside.
var tools = []string{"tpm2/internal/gen", "internal/modvariants", "test"}

// bans: what a package may not import itself, nor reach through packages of this module.
var bans = map[string][]string{
	// A device, not a service.
	"tpm2/engine": {"net", "os", "log/slog", "database/sql"},
	"tpm2":        {"net", "os", "log/slog", "database/sql"},
	// Anyone can embed them.
	"chain":    {"net", "net/http", "os"},
	"modsig":   {"net", "net/http", "os"},
	"eventlog": {"net", "net/http", "os"},
	// It lives in an initramfs.
	"cmd/vouchsafe-agent": {"database/sql", module + "/internal/store", module + "/internal/ca", module + "/internal/keyring"},
}

type pkg struct {
	ImportPath string
	Imports    []string
	Doc        string
}

func TestFloors(t *testing.T) {
	pkgs := list(t)
	floor := map[string]int{}
	for i, names := range floors {
		for _, n := range names {
			floor[n] = i
		}
	}
	for name, p := range pkgs {
		if isTool(name) || name == "." {
			continue
		}
		at, ok := floor[name]
		if !ok {
			t.Errorf("%s stands on no floor: add it to floors, on purpose", name)
			continue
		}
		for _, imp := range p.Imports {
			to, ok := strings.CutPrefix(imp, module+"/")
			if !ok {
				continue
			}
			switch {
			case isTool(to):
				t.Errorf("%s imports the tool %s", name, to)
			case floor[to] > at:
				t.Errorf("%s (floor %d) imports %s above it (floor %d)", name, at, to, floor[to])
			case floor[to] == at && !slices.Contains(doors[name], to):
				t.Errorf("%s imports its neighbour %s; no door is written down", name, to)
			}
		}
	}
}

func TestBans(t *testing.T) {
	pkgs := list(t)
	for name, banned := range bans {
		for via, imports := range reach(pkgs, name) {
			for _, imp := range imports {
				if slices.Contains(banned, imp) {
					t.Errorf("%s may not import %s (it does, in %s)", name, imp, via)
				}
			}
		}
	}
}

// TestPackageComments wants every package to say what it is for.
func TestPackageComments(t *testing.T) {
	for name, p := range list(t) {
		if name != "." && p.Doc == "" {
			t.Errorf("%s has no package comment", name)
		}
	}
}

// reach returns the imports of name and of every package of this module that it pulls in.
func reach(pkgs map[string]pkg, name string) map[string][]string {
	seen := map[string][]string{}
	var walk func(string)
	walk = func(n string) {
		p, ok := pkgs[n]
		if _, done := seen[n]; done || !ok {
			return
		}
		seen[n] = p.Imports
		for _, imp := range p.Imports {
			if rel, ok := strings.CutPrefix(imp, module+"/"); ok {
				walk(rel)
			}
		}
	}
	walk(name)
	return seen
}

func isTool(name string) bool {
	return slices.ContainsFunc(tools, func(t string) bool { return name == t || strings.HasPrefix(name, t+"/") })
}

// list asks the go command for every package of the module, keyed by its path within it.
func list(t *testing.T) map[string]pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Doc", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	pkgs := map[string]pkg{}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		pkgs[path.Clean(rel)] = p
	}
}
