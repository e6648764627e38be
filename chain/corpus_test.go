package chain

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

const corpusDir = "../../shared/data/chains"

type corpusCase struct {
	ID, File, Key, Host, CRL, Password string
	Now                                time.Time
	Severity, Code, Repair, Where      string
	Also, Repaired                     []string
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func corpus(t testing.TB) (roots, pool *Store, cases []corpusCase) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(corpusDir, "manifest.json"))
	if err != nil {
		t.Skipf("the corpus is not beside this checkout: %v", err)
	}
	var m struct {
		Trust, Pool string
		Cases       []corpusCase
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	roots = NewRoots(ReadBundle(readFile(t, filepath.Join(corpusDir, m.Trust))))
	files, err := filepath.Glob(filepath.Join(corpusDir, m.Pool, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var certs []*Cert
	for _, f := range files {
		certs = append(certs, ReadBundle(readFile(t, f))...)
	}
	return roots, NewPool(certs), m.Cases
}

func (c corpusCase) options(t testing.TB, roots, pool *Store) Options {
	o := Options{Name: c.Host, Time: c.Now, Roots: roots, Pool: pool, Password: c.Password}
	if c.Key != "" {
		o.Key = PublicKeyOf(readFile(t, filepath.Join(corpusDir, c.Key)), "")
		if o.Key == nil {
			t.Fatalf("%s holds no key", c.Key)
		}
	}
	if c.CRL != "" {
		o.CRLs = [][]byte{readFile(t, filepath.Join(corpusDir, c.CRL))}
	}
	return o
}

// TestCorpus checks the cases that were made for this project: the true cause
// is named first, everything else that is wrong is named, nothing more is, and
// what can be repaired comes out certificate for certificate.
func TestCorpus(t *testing.T) {
	roots, pool, cases := corpus(t)
	for _, c := range cases {
		t.Run(c.ID, func(t *testing.T) {
			o := c.options(t, roots, pool)
			r := Check(c.File, readFile(t, filepath.Join(corpusDir, c.File)), o)
			for _, f := range r.Findings {
				t.Logf("%-8s %-24s %+v %s", f.Severity, f.Code, f.Place, f.Evidence)
			}
			want := slices.Clone(c.Also)
			if c.Code != "OK" {
				want = append([]string{c.Code}, want...)
			}
			got := r.Codes()
			if len(got) > 0 && len(want) > 0 && got[0] != want[0] {
				t.Errorf("root cause: got %s, want %s", got[0], want[0])
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("codes: got %v, want %v", got, want)
			}
			verdict := map[string]Verdict{"ok": OK, "warn": Warning, "error": Error}[c.Severity]
			if r.Verdict != verdict {
				t.Errorf("verdict: got %s, want %s", r.Verdict, verdict)
			}
			// The manifest says "input" of PKCS #12 because a password is an input.
			if want := Class(c.Repair); r.Repair.Class != want && c.Code != "PKCS12" {
				t.Errorf("repair class: got %s, want %s", r.Repair.Class, want)
			}
			if len(c.Repaired) == 0 {
				return
			}
			if !slices.Equal(r.Repair.Chain, c.Repaired) {
				t.Errorf("repaired chain: got %v, want %v", r.Repair.Chain, c.Repaired)
			}
			if _, err := Fix(r, o); err != nil {
				t.Errorf("fixing: %v", err)
			}
		})
	}
}
