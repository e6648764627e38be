package vouchsafe_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestThreatsNameTests: every test that docs/THREATS.md leans on is there.
func TestThreatsNameTests(t *testing.T) {
	doc, err := os.ReadFile("docs/THREATS.md")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			var text []byte
			text, err = os.ReadFile(path)
			all.Write(text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\bTest[A-Z][A-Za-z]+`).FindAllString(string(doc), -1)
	if len(names) < 20 {
		t.Errorf("only %d tests are named", len(names))
	}
	for _, n := range names {
		if !strings.Contains(all.String(), "\nfunc "+n+"(") {
			t.Errorf("docs/THREATS.md leans on %s, which is not there", n)
		}
	}
	for _, script := range regexp.MustCompile("`([a-z_]+\\.txtar)`").FindAllStringSubmatch(string(doc), -1) {
		if _, err := os.Stat("cmd/vouchsafe/testdata/script/" + script[1]); err != nil {
			t.Error(err)
		}
	}
}
