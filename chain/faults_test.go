package chain

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/mldsa"
	"golang.org/x/crypto/ocsp"
)

// situation is one broken file and what must be said of it.
type situation struct {
	data  []byte
	o     Options
	codes []string
	fixed [][]byte // nil: not to be mended from what is at hand
	place int      // of the first finding; -1 not checked
	ders  [][]byte // what data is the PEM of
}

const host = "www.faults.test"

// faults makes, for one hierarchy, every fault there is a code for.
func faults(t *testing.T, p *pki, rnd *mrand.Rand) map[string]situation {
	out := map[string]situation{}
	good := p.ders()
	n := len(good)
	put := func(name string, ders [][]byte, fixed [][]byte, place int, codes ...string) {
		out[name] = situation{data: []byte(pemOf(ders...)), ders: ders, o: p.options(host), codes: codes, fixed: fixed, place: place}
	}
	with := func(name string, f func(*Options)) {
		s := out[name]
		f(&s.o)
		out[name] = s
	}
	// leafOf makes another leaf under the same issuer, and the file with it.
	leafOf := func(edit func(*x509.Certificate)) (*ca, [][]byte) {
		l := issue(t, p.issuer(), host, p.leaf.key, false, edit)
		return l, append([][]byte{l.cert.Raw}, good[1:]...)
	}
	root := p.root.cert.Raw
	stranger := newPKI(t, "Stranger", "www.other.test", "p256", 1)

	put("good", good, good, -1)
	put("root included", append(slices.Clone(good), root), good, n, "ROOT_INCLUDED")
	put("root first", append([][]byte{root}, good...), good, -1, "ROOT_INCLUDED")
	put("leaf twice", append([][]byte{good[0]}, good...), good, 1, "DUPLICATE")
	put("last twice", append(slices.Clone(good), good[n-1]), good, n, "DUPLICATE")
	put("unrelated intermediate", append(slices.Clone(good), stranger.mids[0].cert.Raw), good, n, "UNRELATED_CERT")
	put("unrelated root", append(slices.Clone(good), stranger.root.cert.Raw), good, n, "UNRELATED_CERT")
	put("another's leaf behind", append(slices.Clone(good), stranger.leaf.cert.Raw), good, n, "TWO_LEAVES")
	put("another's leaf before", append([][]byte{stranger.leaf.cert.Raw}, good...), good, 0, "TWO_LEAVES")
	old := issue(t, p.issuer(), host, newKey(t, "p256"), false, func(c *x509.Certificate) { c.NotAfter = testNow.AddDate(0, -1, 0) })
	put("last year's leaf before", append([][]byte{old.cert.Raw}, good...), good, 0, "TWO_LEAVES")

	if n > 1 {
		rev := slices.Clone(good)
		slices.Reverse(rev)
		put("reversed", rev, good, 0, "ORDER_WRONG")
		put("reversed with root", append([][]byte{root}, rev...), good, -1, "ORDER_WRONG", "ROOT_INCLUDED")
		put("leaf last", append(slices.Clone(good[1:]), good[0]), good, 0, "ORDER_WRONG")
		put("leaf alone", good[:1], good, 0, "MISSING_INTERMEDIATE")
		put("leaf and root", [][]byte{good[0], root}, good, 0, "MISSING_INTERMEDIATE", "ROOT_INCLUDED")
		put("no leaf", good[1:], nil, 0, "LEAF_MISSING")
		put("leaf alone, no pool", good[:1], nil, 0, "MISSING_INTERMEDIATE")
		with("leaf alone, no pool", func(o *Options) { o.Pool = nil })
		for i := 1; i < n; i++ {
			cut := slices.Delete(slices.Clone(good), i, i+1)
			put(fmt.Sprintf("%d missing", i), cut, good, i-1, "MISSING_INTERMEDIATE")
		}
		// Damage, at random places.
		for i := range n {
			fixed := good
			if i == 0 {
				fixed = nil
			}
			for k := range 4 {
				keep := len(good[i])/6 + rnd.IntN(len(good[i])*5/6-2)
				bad := slices.Clone(good)
				bad[i] = good[i][:keep]
				name := fmt.Sprintf("%d cut %d", i, k)
				put(name, bad, fixed, i, "TRUNCATED_CERT")
				s := out[name]
				if i == n-1 { // and the END line is lost with it
					full := pemOf(good...)
					b64 := len(pemOf(good[i]))
					s.data = []byte(full[:len(full)-b64+200+rnd.IntN(b64-200-40)])
					out[name] = s
				}
				bad = slices.Clone(good)
				bad[i] = slices.Clone(good[i])
				at := len(bad[i]) - 1 - rnd.IntN(24)
				bad[i][at] ^= 1 << rnd.IntN(8)
				put(fmt.Sprintf("%d flipped %d", i, k), bad, fixed, i, "BAD_SIGNATURE")
			}
		}
		// The same name, another key: a CA that renewed its key.
		for i, m := range p.mids {
			above := p.root
			if i > 0 {
				above = p.mids[i-1]
			}
			for _, ids := range []bool{true, false} {
				other := issue(t, above, m.cert.Subject.CommonName, newKey(t, "p256"), true, func(c *x509.Certificate) {
					c.Subject = m.cert.Subject
					if !ids {
						c.SubjectKeyId = nil
					}
				})
				bad := slices.Clone(good)
				at := len(p.mids) - i
				bad[at] = other.cert.Raw
				put(fmt.Sprintf("wrong intermediate %d ids %v", at, ids), bad, good, at, "WRONG_INTERMEDIATE")
			}
		}
		// Cross-signs of the topmost intermediate.
		top := p.mids[0]
		cross := reissue(t, stranger.root, top, nil)
		crossed := slices.Clone(good)
		crossed[n-1] = cross
		put("cross-sign untrusted", crossed, good, n-1, "CROSS_SIGNED_UNTRUSTED")
		put("cross-sign beside", append(slices.Clone(good), cross), good, -1, "CROSS_SIGNED_UNUSED")
		put("cross-sign untrusted, no pool", crossed, nil, n-1, "UNKNOWN_ROOT")
		with("cross-sign untrusted, no pool", func(o *Options) { o.Pool = nil })
		oldCross := reissue(t, stranger.root, top, func(c *x509.Certificate) { c.NotAfter = testNow.AddDate(0, -6, 0) })
		put("cross-sign expired", append(slices.Clone(good), oldCross), good, n, "CROSS_SIGNED_EXPIRED")
		rootCross := reissue(t, stranger.root, p.root, func(c *x509.Certificate) { c.NotAfter = testNow.AddDate(0, -6, 0) })
		put("root's cross-sign expired", append(slices.Clone(good), rootCross), good, n, "CROSS_SIGNED_EXPIRED")
		gone := slices.Clone(good)
		gone[n-1] = reissue(t, p.root, top, func(c *x509.Certificate) { c.NotAfter = testNow.AddDate(0, -2, 0) })
		put("intermediate expired", gone, good, n-1, "EXPIRED")
		put("intermediate expired, no new one", gone, nil, n-1, "EXPIRED")
		with("intermediate expired, no new one", func(o *Options) { o.Pool = nil })
		renamed := *p.root
		rc := *p.root.cert
		rc.RawSubject = nil
		rc.Subject.CommonName += " G2"
		renamed.cert = &rc
		misnamed := slices.Clone(good)
		misnamed[n-1] = reissue(t, &renamed, top, nil)
		put("issuer name mismatch", misnamed, good, n-1, "ISSUER_NAME_MISMATCH")
		// Three at once.
		many := [][]byte{good[n-1], good[0], good[0], root}
		many = append(many, good[1:n-1]...)
		many = append(many, stranger.mids[0].cert.Raw)
		put("order, duplicate, root, unrelated", many, good, -1, "ORDER_WRONG", "DUPLICATE", "ROOT_INCLUDED", "UNRELATED_CERT")
	}

	put("unknown root", append(slices.Clone(good), root), nil, n, "UNKNOWN_ROOT")
	with("unknown root", func(o *Options) { o.Roots = stranger.roots() })
	put("key of another", good, nil, 0, "KEY_MISMATCH")
	with("key of another", func(o *Options) { o.Key = stranger.leaf.key.Public() })
	put("another name", good, nil, 0, "NAME_MISMATCH")
	with("another name", func(o *Options) { o.Name = "mail.faults.test" })
	namesake := issue(t, nil, p.root.cert.Subject.CommonName, newKey(t, "p256"), true, nil)
	put("a root of the same name, unanchored", append(slices.Clone(good), namesake.cert.Raw), nil, n, "WRONG_INTERMEDIATE", "UNKNOWN_ROOT")
	with("a root of the same name, unanchored", func(o *Options) { o.Roots = stranger.roots() })
	if n > 1 {
		// Nobody knows the clock to be ahead when no root says so.
		put("all expired, root unknown", good, nil, -1, slices.Concat(slices.Repeat([]string{"EXPIRED"}, n), []string{"UNKNOWN_ROOT"})...)
		with("all expired, root unknown", func(o *Options) { o.Roots, o.Time = stranger.roots(), testNow.AddDate(16, 0, 0) })
	}
	put("clock behind", good, nil, -1, "CLOCK_BEHIND")
	with("clock behind", func(o *Options) { o.Time = testNow.AddDate(-16, 0, 0) })
	put("clock ahead", good, nil, -1, "CLOCK_AHEAD")
	with("clock ahead", func(o *Options) { o.Time = testNow.AddDate(16, 0, 0) })

	type leafFault struct {
		name string
		code []string
		edit func(*x509.Certificate)
	}
	for _, f := range []leafFault{
		{"expired", []string{"EXPIRED"}, func(c *x509.Certificate) { c.NotAfter = testNow.Add(-time.Hour) }},
		{"not yet valid", []string{"NOT_YET_VALID"}, func(c *x509.Certificate) { c.NotBefore = testNow.Add(time.Hour) }},
		{"no SAN", []string{"NO_SAN"}, func(c *x509.Certificate) { c.DNSNames = nil }},
		{"client certificate", []string{"EKU"}, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }},
		{"wildcard too short", []string{"NAME_MISMATCH"}, func(c *x509.Certificate) { c.DNSNames = []string{"*.test"} }},
		{"wildcard", nil, func(c *x509.Certificate) { c.DNSNames = []string{"*.faults.test"} }},
		{"critical", []string{"CRITICAL_EXTENSION"}, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}}
		}},
		{"must staple", []string{"MUST_STAPLE"}, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: oidTLSFeature, Value: []byte{0x30, 3, 2, 1, 5}}}
		}},
		{"no key identifiers", nil, func(c *x509.Certificate) { c.SubjectKeyId = nil }},
		{"expired and named otherwise", []string{"EXPIRED", "NAME_MISMATCH"}, func(c *x509.Certificate) {
			c.NotAfter = testNow.Add(-time.Hour)
			c.DNSNames = []string{"x.test"}
		}},
	} {
		_, file := leafOf(f.edit)
		var fixed [][]byte
		if len(f.code) == 0 || f.code[0] == "MUST_STAPLE" {
			fixed = file
		}
		place := 0
		if len(f.code) == 0 {
			place = -1
		}
		put(f.name, file, fixed, place, f.code...)
	}
	// A clock that may be off by two hours cannot say.
	_, young := leafOf(func(c *x509.Certificate) { c.NotBefore = testNow.Add(time.Hour) })
	put("uncertain clock", young, young, 0, "CLOCK_UNCERTAIN")
	with("uncertain clock", func(o *Options) { o.TimeUncertainty = 2 * time.Hour })

	// Weak keys and hashes.
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	w := issue(t, p.issuer(), host, weak, false, nil)
	put("RSA 1024", append([][]byte{w.cert.Raw}, good[1:]...), nil, 0, "WEAK_KEY")
	with("RSA 1024", func(o *Options) { o.Key = weak.Public() })
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w = issue(t, p.issuer(), host, p224, false, nil)
	put("P-224", append([][]byte{w.cert.Raw}, good[1:]...), nil, 0, "WEAK_KEY")
	with("P-224", func(o *Options) { o.Key = p224.Public() })

	// Lower CAs that must not be.
	for _, f := range []struct {
		name, code string
		place      int
		edit       func(*x509.Certificate)
	}{
		{"not a CA", "NOT_A_CA", 1, func(c *x509.Certificate) {
			c.IsCA = false
			c.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign
		}},
		{"CA without keyCertSign", "CA_KEY_USAGE", 1, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }},
		{"mail CA", "EKU", 1, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection} }},
		{"CA for another domain", "NAME_CONSTRAINT", 0, func(c *x509.Certificate) {
			c.PermittedDNSDomains = []string{"intern.test"}
			c.PermittedDNSDomainsCritical = true
		}},
		{"CA not for this domain", "NAME_CONSTRAINT", 0, func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"faults.test"} }},
		{"CA for this domain", "", -1, func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"faults.test"} }},
		{"CA expired", "EXPIRED", 1, func(c *x509.Certificate) { c.NotAfter = testNow.Add(-time.Hour) }},
		{"CA with critical extension", "CRITICAL_EXTENSION", 1, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}}
		}},
	} {
		sub := issue(t, p.issuer(), "Sub "+f.name, newKey(t, "p256"), true, f.edit)
		l := issue(t, sub, host, p.leaf.key, false, nil)
		file := slices.Concat([][]byte{l.cert.Raw, sub.cert.Raw}, good[1:])
		if f.code == "" {
			put(f.name, file, file, -1)
		} else {
			put(f.name, file, nil, f.place, f.code)
		}
	}
	low := issue(t, p.issuer(), "Low", newKey(t, "p256"), true, func(c *x509.Certificate) { c.MaxPathLenZero = true })
	lower := issue(t, low, "Lower", newKey(t, "p256"), true, nil)
	l := issue(t, lower, host, p.leaf.key, false, nil)
	put("path length", slices.Concat([][]byte{l.cert.Raw, lower.cert.Raw, low.cert.Raw}, good[1:]), nil, 2, "PATH_LENGTH")

	// Revocation.
	crl, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: testNow.Add(-time.Hour), NextUpdate: testNow.Add(24 * time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: p.leaf.cert.SerialNumber, RevocationTime: testNow.Add(-48 * time.Hour), ReasonCode: 1}},
	}, p.issuer().cert, p.issuer().key)
	if err != nil {
		t.Fatal(err)
	}
	put("revoked by CRL", good, nil, 0, "REVOKED")
	with("revoked by CRL", func(o *Options) { o.CRLs = [][]byte{crl} })
	put("revoked by CRL in PEM", good, nil, 0, "REVOKED")
	with("revoked by CRL in PEM", func(o *Options) {
		o.CRLs = [][]byte{pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: crl})}
	})
	for name, status := range map[string]int{"revoked by OCSP": ocsp.Revoked, "good by OCSP": ocsp.Good} {
		if p.issuer().cert.PublicKeyAlgorithm == x509.Ed25519 {
			continue // x/crypto/ocsp does not sign with it
		}
		resp, err := ocsp.CreateResponse(p.issuer().cert, p.issuer().cert, ocsp.Response{
			Status: status, SerialNumber: p.leaf.cert.SerialNumber, ThisUpdate: testNow.Add(-time.Hour), NextUpdate: testNow.Add(time.Hour),
			RevokedAt: testNow.Add(-2 * time.Hour), RevocationReason: 1, IssuerHash: crypto.SHA1,
		}, p.issuer().key)
		if err != nil {
			t.Fatal(err)
		}
		if status == ocsp.Revoked {
			put(name, good, nil, 0, "REVOKED")
		} else {
			put(name, good, good, -1)
		}
		with(name, func(o *Options) { o.OCSP = [][]byte{resp} })
	}

	// Other things in place of a chain.
	self := issue(t, nil, host, p.leaf.key, false, nil)
	put("self-signed", [][]byte{self.cert.Raw}, nil, 0, "SELF_SIGNED")
	selfCA := issue(t, nil, host, p.leaf.key, true, func(c *x509.Certificate) { c.DNSNames = []string{host} })
	put("self-signed CA", [][]byte{selfCA.cert.Raw}, nil, 0, "SELF_SIGNED")
	with("self-signed CA", func(o *Options) { o.Key = nil })
	put("root alone", [][]byte{root}, nil, 0, "LEAF_MISSING")
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}}, p.leaf.key)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(p.leaf.key)
	if err != nil {
		t.Fatal(err)
	}
	pub := mustSPKI(t, p.leaf.key.Public())
	for name, s := range map[string]situation{
		"request":                {data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}), codes: []string{"CSR_NOT_CERT"}},
		"new request":            {data: pem.EncodeToMemory(&pem.Block{Type: "NEW CERTIFICATE REQUEST", Bytes: csr}), codes: []string{"CSR_NOT_CERT"}},
		"request in DER":         {data: csr, codes: []string{"CSR_NOT_CERT"}},
		"request as certificate": {data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: csr}), codes: []string{"CSR_NOT_CERT"}},
		"private key":            {data: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), codes: []string{"PRIVATE_KEY_NOT_CERT"}},
		"private key DER":        {data: key, codes: []string{"PRIVATE_KEY_NOT_CERT"}},
		"public key":             {data: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub}), codes: []string{"PUBLIC_KEY_NOT_CERT"}},
		"public key DER":         {data: pub, codes: []string{"PUBLIC_KEY_NOT_CERT"}},
		"empty":                  {data: nil, codes: []string{"EMPTY"}},
		"blanks":                 {data: []byte(" \n\n"), codes: []string{"EMPTY"}},
		"html":                   {data: []byte("\n<HTML><body>Sign in</body></HTML>"), codes: []string{"HTML"}},
		"poem":                   {data: []byte("roses are red\n"), codes: []string{"NOT_A_CERTIFICATE"}},
		"key before":             {data: append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), pemOf(good...)...), codes: []string{"PRIVATE_KEY_IN_CHAIN"}, fixed: good},
		"key behind":             {data: append([]byte(pemOf(good...)), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...), codes: []string{"PRIVATE_KEY_IN_CHAIN"}, fixed: good},
	} {
		s.o, s.place = p.options(host), -1
		out[name] = s
	}
	return out
}

// reissue signs another certificate for the same CA, by another parent.
func reissue(t testing.TB, parent, c *ca, edit func(*x509.Certificate)) []byte {
	t.Helper()
	return issue(t, parent, "", c.key, true, func(tmpl *x509.Certificate) {
		tmpl.Subject, tmpl.SubjectKeyId = c.cert.Subject, c.cert.SubjectKeyId
		if edit != nil {
			edit(tmpl)
		}
	}).cert.Raw
}

// TestFaults makes every fault in hierarchies of several depths and algorithms.
func TestFaults(t *testing.T) {
	var named, total int
	for i, k := range []struct {
		alg   string
		depth int
	}{{"p256", 2}, {"rsa", 1}, {"mixed", 3}, {"ed25519", 2}, {"p384", 4}, {"p256", 0}} {
		p := newPKI(t, "Faults "+k.alg, host, k.alg, k.depth)
		for name, s := range faults(t, p, mrand.New(mrand.NewPCG(uint64(i), 7))) {
			total++
			t.Run(fmt.Sprintf("%s/%d/%s", k.alg, k.depth, name), func(t *testing.T) {
				if wantReport(t, s.data, s.o, s.codes, s.fixed) {
					named++
				}
				if s.place >= 0 {
					if r := Check("x", s.data, s.o); len(r.Findings) > 0 && r.Findings[0].Place.Cert != s.place {
						t.Errorf("place of %s: certificate %d, want %d", r.Findings[0].Code, r.Findings[0].Place.Cert, s.place)
					}
				}
			})
		}
	}
	t.Logf("%d of %d named exactly and mended exactly", named, total)
}

// TestRenewedByAppending finds last year's leaf first, and nothing that says
// which one is meant but the calendar.
func TestRenewedByAppending(t *testing.T) {
	p := newPKI(t, "Renewed", host, "p256", 1)
	old := issue(t, p.issuer(), host, newKey(t, "p256"), false, func(c *x509.Certificate) { c.NotAfter = testNow.AddDate(0, -1, 0) })
	wantReport(t, []byte(pemOf(append([][]byte{old.cert.Raw}, p.ders()...)...)), Options{Time: testNow, Roots: p.roots()}, []string{"TWO_LEAVES"}, p.ders())
}

// TestUncertainOnce: one clock that is not sure of itself is one finding.
func TestUncertainOnce(t *testing.T) {
	p := newPKI(t, "Unsure", host, "p256", 2)
	o := p.options(host)
	o.TimeUncertainty = 20 * 365 * 24 * time.Hour
	wantReport(t, []byte(pemOf(p.ders()...)), o, []string{"CLOCK_UNCERTAIN"}, p.ders())
}

// TestLastGroup reads the alphabet of URLs in a line of four characters too.
func TestLastGroup(t *testing.T) {
	if kept, _, code, _ := decodeLine([]byte("-NY=")); string(kept) != "+NY=" || code != "BAD_BASE64" {
		t.Errorf("-NY= is read as %q, %s", kept, code)
	}
}

// TestRootsFile checks a file of roots, which is no chain.
func TestRootsFile(t *testing.T) {
	var roots []*Cert
	var ders [][]byte
	for _, name := range []string{"One", "Two", "Three"} {
		r := issue(t, nil, name+" Root", newKey(t, "p256"), true, nil)
		roots, ders = append(roots, ParseCert(r.cert.Raw)), append(ders, r.cert.Raw)
	}
	o := Options{Time: testNow, Roots: NewRoots(roots), Pool: NewPool(nil), Purpose: CA}
	if r := Check("roots.pem", []byte(pemOf(ders...)), o); len(r.Findings) > 0 {
		t.Errorf("a good file of roots: %v", r.Codes())
	}
	old := issue(t, nil, "Old Root", newKey(t, "p256"), true, func(c *x509.Certificate) { c.NotAfter = testNow.AddDate(0, -1, 0) })
	o.Roots = NewRoots(append(roots, ParseCert(old.cert.Raw)))
	r := Check("roots.pem", []byte(pemOf(append(ders, old.cert.Raw)...)), o)
	if got := r.Codes(); !slices.Equal(got, []string{"EXPIRED"}) || r.Findings[0].Place.Cert != 3 {
		t.Errorf("the fourth has expired: got %v", got)
	}
}

// TestLengthsNotBelieved claims nine bytes of length: no count may come out of it.
func TestLengthsNotBelieved(t *testing.T) {
	c := ParseCert(append([]byte{0x30, 0x89, 0xA0, 0xC0}, make([]byte, 40)...))
	if c.Damage != "MALFORMED_CERT" || strings.Contains(c.evidence, "-") {
		t.Errorf("damage %s: %s", c.Damage, c.evidence)
	}
}

// TestFaultsInDresses joins every chain fault with some dresses, and with
// VOUCHSAFE_LONG with all of them: nothing that is wrong in one way may hide what
// is wrong in the other.
func TestFaultsInDresses(t *testing.T) {
	rnd := mrand.New(mrand.NewPCG(3, 9))
	p := newPKI(t, "Both", host, "mixed", 2)
	containers := []string{"PKCS7", "PKCS12", "DER_NOT_PEM", "NO_PEM_HEADER"}
	var named, total int
	all := faults(t, p, rnd)
	everything := os.Getenv("VOUCHSAFE_LONG") != ""
	for _, name := range slices.Sorted(maps.Keys(all)) {
		s := all[name]
		if len(s.ders) == 0 || !bytes.Equal(s.data, []byte(pemOf(s.ders...))) {
			continue
		}
		for _, d := range dresses {
			if !everything && rnd.IntN(len(dresses)) > 3 {
				continue
			}
			boxed := slices.ContainsFunc(d.codes, func(c string) bool { return slices.Contains(containers, c) }) || d.name == "several in one block" || d.name == "x5c" || d.name == "DER and PEM"
			cut := slices.Contains(s.codes, "TRUNCATED_CERT")
			if boxed && (cut || slices.Contains(s.codes, "ORDER_WRONG")) || len(s.ders) == 1 && (d.name == "several in one block" || d.name == "glued" || d.name == "glued once") || cut && d.name == "bytes after it" {
				continue
			}
			// With the END line of a cut certificate gone nobody could tell.
			if cut && (d.name == "no END" || d.name == "TRUSTED CERTIFICATE with aux" || d.name == "k8s secret") {
				continue
			}
			// What is left of a certificate may be what the file lacks below a CA.
			if d.name == "another's last lines before it" && (slices.Contains(s.codes, "LEAF_MISSING") || slices.Contains(s.codes, "SELF_SIGNED")) {
				continue
			}
			total++
			t.Run(name+"/"+d.name, func(t *testing.T) {
				codes := slices.Concat(s.codes, d.codes)
				if wantReport(t, d.f(s.ders, pemOf(s.ders...)), s.o, codes, s.fixed) {
					named++
				}
			})
		}
	}
	t.Logf("%d of %d named exactly and mended exactly", named, total)
}

// TestFlippedBits changes one bit anywhere in a certificate: whatever it hits,
// the file is not called good, and the pool mends it unless it is the leaf.
func TestFlippedBits(t *testing.T) {
	rnd := mrand.New(mrand.NewPCG(5, 5))
	for _, alg := range []string{"p256", "rsa"} {
		p := newPKI(t, "Flip "+alg, host, alg, 2)
		for range 250 {
			i := rnd.IntN(3)
			bad := p.ders()
			bad[i] = slices.Clone(bad[i])
			bit := rnd.IntN(8 * len(bad[i]))
			bad[i][bit/8] ^= 1 << (bit % 8)
			o := p.options(host)
			r := Check("x", []byte(pemOf(bad...)), o)
			if r.Verdict != Error {
				t.Fatalf("%s: bit %d of certificate %d: %s %v", alg, bit, i, r.Verdict, r.Codes())
			}
			damage := slices.ContainsFunc(r.Findings, func(f Finding) bool {
				return slices.Contains([]string{"BAD_SIGNATURE", "MALFORMED_CERT", "TRUNCATED_CERT", "TRAILING_BYTES", "NOT_A_CERTIFICATE", "BASE64_DAMAGED", "EXTRA_ITEM"}, f.Code)
			})
			// A bit in the curve's name or in the identifier of the authority makes
			// another, plausible certificate.
			if !damage && !r.Has("WEAK_KEY") && !(i == 0 && r.Has("WRONG_INTERMEDIATE")) {
				t.Errorf("%s: bit %d of certificate %d is called %v", alg, bit, i, r.Codes())
			}
			if i > 0 {
				if fixed, err := Fix(r, o); err != nil || string(fixed) != pemOf(p.ders()...) {
					t.Errorf("%s: bit %d of certificate %d is not mended: %v %v", alg, bit, i, r.Codes(), err)
				}
			}
		}
	}
}

func TestMLDSA(t *testing.T) {
	rootKey, err := mldsa.GenerateKey(mldsa.MLDSA44())
	if err != nil {
		t.Fatal(err)
	}
	leafKey, err := mldsa.GenerateKey(mldsa.MLDSA44())
	if err != nil {
		t.Fatal(err)
	}
	name := pkix.Name{CommonName: "PQ Root", Organization: []string{"Example PKI"}}
	root := issueMLDSA(t, rootKey, name, "PQ Root", rootKey.PublicKey(), true)
	leaf := issueMLDSA(t, rootKey, name, "pq.test", leafKey.PublicKey(), false)
	o := Options{Name: "pq.test", Time: testNow, Roots: NewRoots([]*Cert{ParseCert(root)}), Key: leafKey.PublicKey()}
	wantReport(t, []byte(pemOf(leaf)), o, nil, [][]byte{leaf})
	bad := bytes.Clone(leaf)
	bad[len(bad)-5] ^= 1
	wantReport(t, []byte(pemOf(bad)), o, []string{"BAD_SIGNATURE"}, nil)
}

// TestPurposes checks the same hierarchy for other uses.
func TestPurposes(t *testing.T) {
	p := newPKI(t, "Uses", "uses.test", "p256", 2)
	o := p.options("")
	o.Key = nil
	o.Purpose = CA
	mids := p.ders()[1:]
	wantReport(t, []byte(pemOf(mids...)), o, nil, mids)
	wantReport(t, []byte(pemOf(p.ders()...)), o, []string{"NOT_A_CA", "CA_KEY_USAGE"}, nil)
	sign := issue(t, p.issuer(), "Signer", newKey(t, "p256"), false, func(c *x509.Certificate) {
		c.DNSNames, c.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	})
	file := append([][]byte{sign.cert.Raw}, mids...)
	o.Purpose = CodeSign
	wantReport(t, []byte(pemOf(file...)), o, nil, file)
	o.Purpose = Server
	wantReport(t, []byte(pemOf(file...)), o, []string{"EKU", "NO_SAN"}, nil)
	o.Purpose = Client
	wantReport(t, []byte(pemOf(file...)), o, []string{"EKU"}, nil)
}

func TestAddressNames(t *testing.T) {
	p := newPKI(t, "Address", "192.0.2.7", "p256", 1)
	o := p.options("192.0.2.7")
	wantReport(t, []byte(pemOf(p.ders()...)), o, nil, p.ders())
	o.Name = "192.0.2.8"
	wantReport(t, []byte(pemOf(p.ders()...)), o, []string{"NAME_MISMATCH"}, nil)
	six := issue(t, p.issuer(), "x", p.leaf.key, false, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("2001:db8::1")}; c.DNSNames = nil })
	o.Name = "[2001:DB8:0::1]"
	wantReport(t, []byte(pemOf(six.cert.Raw, p.mids[0].cert.Raw)), o, nil, [][]byte{six.cert.Raw, p.mids[0].cert.Raw})
}
