package chain

import (
	"crypto/x509"
	"slices"
	"testing"
)

func TestOutcomes(t *testing.T) {
	p := newPKI(t, "Clients", "www.clients.test", "p256", 2)
	o := p.options("www.clients.test")
	d := p.ders()
	fetched := issue(t, p.issuer(), "www.clients.test", p.leaf.key, false, func(c *x509.Certificate) {
		c.IssuingCertificateURL = []string{"http://ca.clients.test/ca.der"}
	}).cert.Raw
	for _, c := range []struct {
		name  string
		data  string
		fails []string
		works []string
	}{
		{"good", pemOf(d...), []string{"devices that take one intermediate"}, []string{"Go 1.26", "Firefox", "mbedTLS, embedded devices", "nginx 1.22 with OpenSSL 3.0"}},
		{"swapped", pemOf(d[0], d[2], d[1]), []string{"mbedTLS, embedded devices"}, []string{"Go 1.26", "Java 8", "nginx 1.22 with OpenSSL 3.0"}},
		{"reversed", pemOf(d[2], d[1], d[0]), []string{"Go 1.26", "nginx 1.22 with OpenSSL 3.0", "Firefox"}, nil},
		{"missing", pemOf(fetched, d[2]), []string{"OpenSSL 3.0, curl, Python", "Java 8"}, []string{"Chrome and Edge", "Windows (Schannel, .NET)", "nginx 1.22 with OpenSSL 3.0"}},
		{"missing, and nobody says from where", pemOf(d[0], d[2]), []string{"Java 8", "Chrome and Edge", "Windows (Schannel, .NET)"}, []string{"nginx 1.22 with OpenSSL 3.0"}},
		{"bom", "\ufeff" + pemOf(d...), nil, []string{"nginx 1.22 with OpenSSL 3.0", "Firefox"}},
	} {
		var works, fails []string
		for _, x := range Check("x", []byte(c.data), o).Outcomes() {
			if x.Works {
				works = append(works, x.Client)
			} else {
				fails = append(fails, x.Client)
			}
		}
		for _, n := range c.works {
			if !slices.Contains(works, n) {
				t.Errorf("%s: %s should work", c.name, n)
			}
		}
		for _, n := range c.fails {
			if !slices.Contains(fails, n) {
				t.Errorf("%s: %s should fail", c.name, n)
			}
		}
	}
}
