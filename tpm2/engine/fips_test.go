package engine

import (
	"crypto/fips140"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestUnderFIPS runs this package's tests again with Go's FIPS 140-3 module in
// its mode (docs/FIPS.md): what it refuses there no command may need.
func TestUnderFIPS(t *testing.T) {
	if fips140.Enabled() {
		t.Skip("these tests run in that mode already")
	}
	if testing.Short() {
		t.Skip("runs the tests again")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^(TestStrictness|TestECDAA|TestCommit.*|TestDerivation1|TestStateVersion1|TestEncapsulate|TestMLKEM.*|TestMLDSA.*|TestZGen2Phase|TestCVE.*|TestAudit.*|TestFIPSMode)$", "-test.v")
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
	t.Logf("Go Cryptographic Module %s", fips140.Version())
}
