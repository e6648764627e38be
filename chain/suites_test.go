package chain

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
)

// TestBetterTLS runs Netflix's BetterTLS. Its cases are exported, not kept:
//
//	cd "$(go mod download -json github.com/Netflix/bettertls@v0.0.0-20250909192348-e1e99e353074 | jq -r .Dir)"
//	go run ./test-suites/cmd/bettertls export-tests --out /tmp/bettertls.json
//	BETTERTLS_JSON=/tmp/bettertls.json go test ./chain -run BetterTLS -v
func TestBetterTLS(t *testing.T) {
	name := os.Getenv("BETTERTLS_JSON")
	if name == "" {
		t.Skip("BETTERTLS_JSON does not name the exported cases; the comment says how to make them")
	}
	var all struct {
		Root   string `json:"trustRoot"`
		Suites map[string]struct {
			TestCases []struct {
				ID           int
				Certificates []string
				Hostname     string
				Expected     string
			}
		}
	}
	if err := json.Unmarshal(readFile(t, name), &all); err != nil {
		t.Fatal(err)
	}
	decode := func(s string) []byte {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	roots := NewRoots([]*Cert{ParseCert(decode(all.Root))})
	for suite, cases := range all.Suites {
		right, total := 0, 0
		for _, c := range cases.TestCases {
			var ders [][]byte
			for _, s := range c.Certificates {
				ders = append(ders, decode(s))
			}
			// Whatever the order: the question is whether there is a path.
			var pool []*Cert
			for _, d := range ders[1:] {
				pool = append(pool, ParseCert(d))
			}
			o := Options{Name: c.Hostname, Time: time.Now(), Roots: roots, Pool: NewPool(pool)}
			r := Check("x", []byte(pemOf(ders[0])), o)
			got := "REJECT"
			if r.Verdict != Error || len(r.Repair.Chain) > 0 {
				got = "ACCEPT"
			}
			total++
			if got == c.Expected {
				right++
			} else {
				t.Errorf("%s %d: %s, want %s: %v", suite, c.ID, got, c.Expected, r.Codes())
			}
		}
		t.Logf("%s: %d of %d", suite, right, total)
	}
}

// pkitsElsewhere are the vectors that ask for what nobody does any more: DSA.
var pkitsElsewhere = regexp.MustCompile(`^4\.1\.[45] `)

// pkitsCRLs is where Debian's python3-cryptography-vectors keeps the CRLs of
// PKITS; GOROOT has the certificates alone.
const pkitsCRLs = "/usr/lib/python3/dist-packages/cryptography_vectors/x509/PKITS_data/crls"

// TestPKITS runs NIST's path validation vectors that ask for no policy of the
// caller's. A status that the CRLs leave open is a refusal, as PKITS has it.
func TestPKITS(t *testing.T) {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skipf("no go command: %v", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(goroot)), "src/crypto/x509/testdata/nist-pkits")
	raw, err := os.ReadFile(filepath.Join(dir, "vectors.json"))
	if err != nil {
		t.Skipf("NIST PKITS is not in GOROOT: %v", err)
	}
	if _, err := os.Stat(pkitsCRLs); err != nil {
		t.Skip("the CRLs of PKITS are not installed: apt-get install python3-cryptography-vectors")
	}
	var cases []struct {
		Name                                                                        string
		CertPath, CRLPath, InitialPolicySet                                         []string
		InitialPolicyMappingInhibit, InitialExplicitPolicy, InitialAnyPolicyInhibit bool
		ShouldValidate                                                              bool
	}
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	// Lists that another key than the CA's signs need that key's certificate.
	var signers []*Cert
	for _, name := range []string{"BasicSelfIssuedCRLSigningKeyCRLCert", "BasicSelfIssuedNewKeyOldWithNewCACert", "BasicSelfIssuedOldKeyNewWithOldCACert", "SeparateCertificateandCRLKeysCRLSigningCert", "SeparateCertificateandCRLKeysCA2CRLSigningCert", "indirectCRLCA3cRLIssuerCert", "indirectCRLCA4cRLIssuerCert"} {
		signers = append(signers, ParseCert(readFile(t, filepath.Join(dir, "certs", name+".crt"))))
	}
	right, total := 0, 0
	for _, c := range cases {
		if !slices.Equal(c.InitialPolicySet, []string{"anyPolicy"}) || c.InitialPolicyMappingInhibit || c.InitialExplicitPolicy || c.InitialAnyPolicyInhibit {
			continue
		}
		if pkitsElsewhere.MatchString(c.Name) {
			continue
		}
		n := len(c.CertPath) - 1
		root := readFile(t, filepath.Join(dir, "certs", c.CertPath[0]))
		var ders [][]byte
		for i := n; i > 0; i-- {
			ders = append(ders, readFile(t, filepath.Join(dir, "certs", c.CertPath[i])))
		}
		o := Options{Time: time.Date(2016, 1, 1, 0, 0, 0, 0, time.UTC), Roots: NewRoots([]*Cert{ParseCert(root)}), Pool: NewPool(signers), Purpose: Client}
		for _, name := range c.CRLPath {
			o.CRLs = append(o.CRLs, readFile(t, filepath.Join(pkitsCRLs, name)))
		}
		if end := ParseCert(ders[0]); end.X != nil && end.X.IsCA {
			o.Purpose = CA // a few end in a CA
		}
		r := Check(c.Name, []byte(pemOf(ders...)), o)
		ok := true
		for _, f := range r.Findings {
			// Relative names of distribution points are valid, but Go cannot read them.
			ok = ok && (f.Severity != finding.Error || f.Code == "NONCONFORMING")
			open := f.Code == "CRL_UNUSABLE" || f.Code == "REVOCATION_OPEN"
			ok = ok && !(open && f.Severity != finding.Info)
		}
		total++
		if ok == c.ShouldValidate {
			right++
		} else {
			t.Errorf("%s: %s, want valid=%v", c.Name, r.Verdict, c.ShouldValidate)
			for _, f := range r.Findings {
				t.Logf("    %s %s %s: %s", f.Severity, f.Code, f.Subject, f.Evidence)
			}
		}
	}
	t.Logf("%d of %d", right, total)
}
