package chain

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestPathExplosion lets every CA sign every other: the number of paths grows
// as the factorial, the work must not.
func TestPathExplosion(t *testing.T) {
	for _, sameName := range []bool{false, true} {
		t.Run(fmt.Sprintf("same name %v", sameName), func(t *testing.T) {
			const n = 12
			var cas []*ca
			for i := range n {
				name := "CA"
				if !sameName {
					name = fmt.Sprintf("CA %d", i)
				}
				cas = append(cas, issue(t, nil, name, newKey(t, "p256"), true, nil))
			}
			var ders [][]byte
			for i, a := range cas {
				for j, b := range cas {
					if i != j {
						ders = append(ders, reissue(t, a, b, nil))
					}
				}
			}
			leaf := issue(t, cas[0], "www.explosion.test", newKey(t, "p256"), false, nil)
			stranger := newPKI(t, "Stranger", "x.test", "p256", 0)
			o := Options{Time: testNow, Name: "www.explosion.test", Roots: stranger.roots()}
			start := time.Now()
			r := Check("x", []byte(pemOf(append([][]byte{leaf.cert.Raw}, ders...)...)), o)
			took := time.Since(start)
			t.Logf("%v, %d findings, first %s", took.Round(time.Millisecond), len(r.Findings), r.Findings[0].Code)
			if r.Verdict != Error {
				t.Error("a chain to nowhere is called good")
			}
			if took > 15*time.Second { // a loaded machine; 0.3 s on an idle one
				t.Errorf("it took %v", took)
			}
			// With the root at hand the way is found all the same.
			o.Roots = NewRoots([]*Cert{ParseCert(cas[n-1].cert.Raw)})
			if r := Check("x", []byte(pemOf(append([][]byte{leaf.cert.Raw}, ders...)...)), o); !r.Has("UNRELATED_CERT") && len(r.Repair.Chain) == 0 {
				t.Errorf("no path among %d certificates: %v", len(ders), r.Codes())
			}
		})
	}
}

// TestManyNames bounds names times constraints.
func TestManyNames(t *testing.T) {
	root := issue(t, nil, "Root", newKey(t, "p256"), true, nil)
	mid := issue(t, root, "CA", newKey(t, "p256"), true, func(c *x509.Certificate) {
		for i := range 1200 {
			c.ExcludedDNSDomains = append(c.ExcludedDNSDomains, fmt.Sprintf("d%d.test", i))
		}
	})
	leaf := issue(t, mid, "www.many.example", newKey(t, "p256"), false, func(c *x509.Certificate) {
		for i := range 1200 {
			c.DNSNames = append(c.DNSNames, fmt.Sprintf("w%d.many.example", i))
		}
	})
	o := Options{Time: testNow, Roots: NewRoots([]*Cert{ParseCert(root.cert.Raw)})}
	r := Check("x", []byte(pemOf(leaf.cert.Raw, mid.cert.Raw)), o)
	if !r.Has("NAME_CONSTRAINT") || !strings.Contains(r.Findings[0].Evidence, "comparisons") {
		t.Errorf("codes %v: more comparisons than %d were made", r.Codes(), maxNames)
	}
}
