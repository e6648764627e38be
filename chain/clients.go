package chain

import (
	"slices"

	"github.com/vouchsafe/vouchsafe/finding"
)

// profile is one kind of software that meets the file, or the chain in it.
type profile struct {
	name     string
	role     string   // "reads" the file (a server), or "verifies" the chain (a client)
	measured bool     // or from its documentation
	fails    []string // codes at which it fails though they are warnings, or none of its business
	except   []string // codes of severity error that it bears
	depth    int      // most intermediates it takes; 0 for no limit
}

// Outcome says what one client does with a file.
type Outcome struct {
	Client   string   `json:"client"`
	Role     string   `json:"role"`
	Works    bool     `json:"works"`
	Because  []string `json:"because,omitempty"` // codes
	Measured bool     `json:"measured"`          // or from documentation
}

// readerCodes are faults of the file: whoever reads it (a server) stumbles, and
// no client ever sees them.
var readerCodes = func() []string {
	var out []string
	for _, c := range slices.Concat(inputCodes, dressCodes, bodyCodes) {
		if c.severity == finding.Error {
			out = append(out, c.name)
		}
	}
	return append(out, "TRUNCATED_CERT", "MALFORMED_CERT", "BASE64_DAMAGED")
}()

// revocationCodes are what only clients that ask about revocation see.
var revocationCodes = []string{"REVOKED", "MUST_STAPLE", "STAPLE_MISSING"}

// fetchCodes are what clients that fetch issuers do not see, when the
// certificates say from where.
var fetchCodes = []string{"MISSING_INTERMEDIATE", "WRONG_INTERMEDIATE", "CROSS_SIGNED_UNTRUSTED"}

func (r *Report) fetchable() bool {
	return r.file != nil && slices.ContainsFunc(r.file.Certs, func(c *Cert) bool { return c.X != nil && len(c.X.IssuingCertificateURL) > 0 })
}

// profiles lists them. What is measured was run over every dress and
// fault of the tests (see docs/performance/chain.md).
var profiles = []profile{
	{name: "nginx 1.22 with OpenSSL 3.0", role: "reads", measured: true, fails: []string{"WEAK_KEY", "WEAK_HASH"}, except: []string{"BOM"}},
	{name: "Go 1.26", role: "reads", measured: true, fails: []string{"ODD_LABEL"}, except: []string{"BLANK_LINES", "EMPTY_BLOCK"}},
	{name: "Java 17 keytool", role: "reads", measured: true, fails: []string{"EXTRA_ITEM", "ODD_LABEL"}, except: []string{"DER_NOT_PEM", "PKCS7", "PKCS12", "JKS", "BLANK_LINES", "CR_LINE_ENDS", "KEY_MISMATCH"}},
	{name: "OpenSSL 3.0, curl, Python", role: "verifies", except: append([]string{"NO_SAN", "WEAK_KEY", "WEAK_HASH", "ORDER_WRONG", "POLICY"}, revocationCodes...)},
	{name: "Go 1.26", role: "verifies", except: append([]string{"WEAK_KEY", "ORDER_WRONG"}, revocationCodes...)},
	{name: "Chrome and Edge", role: "verifies", except: []string{"MISSING_INTERMEDIATE", "WRONG_INTERMEDIATE", "CROSS_SIGNED_UNTRUSTED", "ORDER_WRONG", "MUST_STAPLE", "STAPLE_MISSING"}},
	{name: "Firefox", role: "verifies", fails: []string{"MUST_STAPLE", "STAPLE_MISSING"}, except: []string{"ORDER_WRONG", "MISSING_INTERMEDIATE"}},
	{name: "Windows (Schannel, .NET)", role: "verifies", except: []string{"MISSING_INTERMEDIATE", "WRONG_INTERMEDIATE", "CROSS_SIGNED_UNTRUSTED", "ORDER_WRONG"}},
	{name: "Java 8", role: "verifies", fails: []string{"CROSS_SIGNED_EXPIRED"}, except: append([]string{"ORDER_WRONG", "NO_SAN"}, revocationCodes...)},
	{name: "Android before 7.1.1", role: "verifies", except: append([]string{"NAME_CONSTRAINT", "WEAK_HASH", "ORDER_WRONG", "POLICY", "NO_SAN"}, revocationCodes...)},
	{name: "OpenSSL 1.0.2, old appliances", role: "verifies", fails: []string{"CROSS_SIGNED_EXPIRED"}, except: append([]string{"NO_SAN", "WEAK_KEY", "WEAK_HASH", "ORDER_WRONG", "POLICY"}, revocationCodes...)},
	{name: "mbedTLS, embedded devices", role: "verifies", except: append([]string{"NAME_CONSTRAINT", "POLICY"}, revocationCodes...)},
	{name: "devices that take one intermediate", role: "verifies", depth: 1, except: append([]string{"POLICY"}, revocationCodes...)},
}

// Outcomes says who fails with the file of this report, and because of what.
// A server that cannot read the file hides the rest from its clients.
func (r *Report) Outcomes() []Outcome {
	var out []Outcome
	mids := 0
	for _, l := range r.Chain {
		if l.Role == "intermediate" {
			mids++
		}
	}
	for _, c := range profiles {
		o := Outcome{Client: c.name, Role: c.role, Measured: c.measured}
		for _, f := range r.Findings {
			read := slices.Contains(readerCodes, f.Code)
			bears := slices.Contains(c.except, f.Code) && (r.fetchable() || !slices.Contains(fetchCodes, f.Code))
			hurts := f.Severity == finding.Error && read == (c.role == "reads") && !bears ||
				f.Severity != finding.Info && slices.Contains(c.fails, f.Code) || slices.Contains(c.fails, f.Code) && c.role == "reads"
			// The leaf in the wrong place is a key mismatch for who reads.
			if f.Code == "ORDER_WRONG" {
				first := len(f.Consequences) > 0
				hurts = first && c.role == "reads" && c.name != "Java 17 keytool" || c.role == "verifies" && (first || !slices.Contains(c.except, f.Code))
			}
			if hurts && !slices.Contains(o.Because, f.Code) {
				o.Because = append(o.Because, f.Code)
			}
		}
		if c.depth > 0 && mids > c.depth {
			o.Because = append(o.Because, "PATH_TOO_LONG_FOR_IT")
		}
		o.Works = len(o.Because) == 0
		out = append(out, o)
	}
	return out
}
