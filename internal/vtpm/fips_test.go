package vtpm

import (
	"crypto/fips140"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestUnderFIPS makes, seals, moves and provisions vTPMs with Go's FIPS 140-3
// module in its mode (docs/FIPS.md).
func TestUnderFIPS(t *testing.T) {
	if fips140.Enabled() {
		t.Skip("these tests run in that mode already")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^(TestProvision|TestSuspendAndResume|TestMigration|TestBufferSize|TestFIPSMode)$", "-test.v")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=on")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestFIPSMode") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestFIPSMode(t *testing.T) {
	if !fips140.Enabled() {
		t.Skip("for TestUnderFIPS")
	}
}
