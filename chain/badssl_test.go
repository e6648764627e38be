package chain

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/finding"
)

// badsslDir is certs/sets/prod/pregen/chain of a checkout of chromium/badssl.com
// (Apache-2.0), which is not ours to carry.
const badsslDir = "../../shared/data/badssl"

// badsslCauses is what is wrong with each file there; those not named are good.
var badsslCauses = map[string][]string{
	"fallback.pem":                  {"MISSING_INTERMEDIATE"},
	"subdomain-dsdtestprovider.pem": {"UNKNOWN_ROOT"},
	"subdomain-edellroot.pem":       {"UNKNOWN_ROOT"},
	"subdomain-superfish.pem":       {"UNKNOWN_ROOT"},
	// GeoTrust Global CA is a root that has gone; nothing in the file tells it from an intermediate.
	"subdomain-invalid-expected-sct.pem": {"MISSING_INTERMEDIATE"},
	"wildcard-expired.pem":               {"EXPIRED"},
	"wildcard-incomplete-chain.pem":      {"MISSING_INTERMEDIATE"},
	"wildcard-self-signed.pem":           {"SELF_SIGNED"},
	"wildcard-sha1-2016.pem":             {"UNKNOWN_ROOT", "WEAK_HASH", "WEAK_HASH"},
	"wildcard-sha1-2017.pem":             {"WEAK_HASH", "WEAK_HASH"},
	"wildcard-sha1-intermediate.pem":     {"UNKNOWN_ROOT", "WEAK_HASH"},
}

// TestBadSSL: chains that nobody here made. Each is looked at ten days after it
// was issued, under the name its server has, with this system's roots.
//
//	BADSSL_DIR=/path/to/badssl.com/certs/sets/prod/pregen/chain go test ./chain -run BadSSL -v
func TestBadSSL(t *testing.T) {
	dir := badsslDir
	if d := os.Getenv("BADSSL_DIR"); d != "" {
		dir = d
	}
	roots, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	if err != nil {
		t.Skip("this system's roots are not where Debian has them: apt-get install ca-certificates")
	}
	store := NewRoots(ReadBundle(roots))
	seen := 0
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data := readFile(t, path)
		certs := Read(data, "").Certs
		if len(certs) == 0 || certs[0].X == nil {
			return nil
		}
		seen++
		leaf := certs[0].X
		name := "test.badssl.com"
		if len(leaf.DNSNames) > 0 {
			name = strings.Replace(leaf.DNSNames[0], "*", "test", 1)
		}
		r := Check(path, data, Options{Name: name, Time: leaf.NotBefore.AddDate(0, 0, 10), Roots: store})
		var got []string
		for _, f := range r.Findings {
			if f.Severity != finding.Info {
				got = append(got, f.Code)
			}
		}
		if want := badsslCauses[e.Name()]; !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", e.Name(), got, want)
			for _, f := range r.Findings {
				t.Logf("   %s %s %s: %s", f.Severity, f.Code, f.Subject, f.Evidence)
			}
		}
		return nil
	})
	if err != nil {
		t.Skipf("badssl's certificates are not here, BADSSL_DIR names them: %v", err)
	}
	t.Logf("%d files", seen)
}
