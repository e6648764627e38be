package chain

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

type limboCase struct {
	ID            string                         `json:"id"`
	Features      []string                       `json:"features"`
	Kind          string                         `json:"validation_kind"`
	Trusted       []string                       `json:"trusted_certs"`
	Intermediates []string                       `json:"untrusted_intermediates"`
	Peer          string                         `json:"peer_certificate"`
	Time          string                         `json:"validation_time"`
	Result        string                         `json:"expected_result"`
	Name          *struct{ Kind, Value string }  `json:"expected_peer_name"`
	Names         []struct{ Kind, Value string } `json:"expected_peer_names"`
	EKU           []string                       `json:"extended_key_usage"`
	MaxDepth      *int                           `json:"max_chain_depth"`
	CRLs          []string                       `json:"crls"`
}

// goFalseRejects are the five good chains that Go 1.26 rejects; we may too.
var goFalseRejects = map[string]bool{
	"rfc5280::nc::permitted-dn-match": true, "rfc5280::nc::permitted-self-issued": true, "rfc5280::nc::nc-forbids-othername-noop": true,
	"pathlen::self-issued-certs-pathlen": true, "rfc5280::validity::notafter-fractional": true,
}

// TestLimbo runs the core of x509-limbo (C2SP) under --profile webpki.
func TestLimbo(t *testing.T) {
	raw, err := os.ReadFile("../../shared/data/limbo-core.json")
	if err != nil {
		t.Skipf("x509-limbo is not beside this checkout: %v", err)
	}
	var suite struct{ Testcases []limboCase }
	if err := json.Unmarshal(raw, &suite); err != nil {
		t.Fatal(err)
	}
	var agree, accept, reject int
	for _, c := range suite.Testcases {
		r := checkLimbo(t, c)
		got := "FAILURE"
		if r.Verdict != Error {
			got = "SUCCESS"
		}
		switch {
		case got == c.Result:
			agree++
		case got == "SUCCESS":
			accept++
			t.Logf("false accept: %s", c.ID)
		default:
			reject++
			t.Logf("false reject: %s %v", c.ID, r.Codes())
			if !goFalseRejects[c.ID] {
				t.Errorf("%s: a good chain is rejected: %v", c.ID, r.Findings)
			}
		}
	}
	n := len(suite.Testcases)
	t.Logf("%d of %d agree (%.1f %%), %d false accepts, %d false rejects", agree, n, 100*float64(agree)/float64(n), accept, reject)
	if agree*10 < n*9 {
		t.Errorf("only %d of %d agree", agree, n)
	}
}

func checkLimbo(t *testing.T, c limboCase) *Report {
	t.Helper()
	when := time.Now()
	if c.Time != "" {
		var err error
		if when, err = time.Parse(time.RFC3339, c.Time); err != nil {
			t.Fatal(err)
		}
	}
	o := Options{Time: when, Profile: WebPKI, MaxIntermediates: c.MaxDepth}
	o.Roots = NewRoots(ReadBundle([]byte(strings.Join(c.Trusted, "\n"))))
	o.Pool = NewPool(ReadBundle([]byte(strings.Join(c.Intermediates, "\n"))))
	if c.Kind == "CLIENT" {
		o.Purpose = Client
	}
	if c.Name != nil {
		o.Name = c.Name.Value
	}
	for _, crl := range c.CRLs {
		o.CRLs = append(o.CRLs, []byte(crl))
	}
	r := Check(c.ID, []byte(c.Peer), o)
	if r.Verdict == Error && len(r.Repair.Chain) > 0 && r.Repair.Class == ClassPool {
		// The intermediates are beside the file: judge the file that has them.
		fixed, err := Fix(r, o)
		if err == nil {
			o.Pool = nil
			r = Check(c.ID, fixed, o)
		}
	}
	return r
}
