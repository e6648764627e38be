package neighbours

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnits lets systemd judge our units: no word that it does not know, and
// exposed to no more than they say.
func TestUnits(t *testing.T) {
	need(t, "systemd", "systemd-analyze")
	dir, err := program()
	if err != nil {
		t.Fatal(err)
	}
	units, err := filepath.Glob("../../deploy/systemd/*.service")
	if err != nil || len(units) == 0 {
		t.Fatalf("%d units, %v", len(units), err)
	}
	for _, path := range units {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// The program is not installed here.
		there := strings.ReplaceAll(string(text), "/usr/bin/vouchsafe", filepath.Join(dir, "vouchsafe"))
		copied := filepath.Join(t.TempDir(), filepath.Base(path))
		if err := os.WriteFile(copied, []byte(there), 0o644); err != nil {
			t.Fatal(err)
		}
		if out := mustRun(t, nil, "systemd-analyze", "verify", "--man=no", "--recursive-errors=no", copied); strings.TrimSpace(out) != "" {
			t.Errorf("%s: %s", path, out)
		}
		mustRun(t, nil, "systemd-analyze", "security", "--offline=true", "--threshold=40", copied)
	}
}
