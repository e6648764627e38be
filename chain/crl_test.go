package chain

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// crlOf signs a list; base is the number a delta continues, 0 for a complete list.
func crlOf(t testing.TB, by *ca, number, base int64, scope []byte, next time.Duration, entries ...x509.RevocationListEntry) []byte {
	t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: testNow.Add(-72 * time.Hour), NextUpdate: testNow.Add(next), RevokedCertificateEntries: entries}
	if base > 0 {
		v, err := asn1.Marshal(big.NewInt(base))
		if err != nil {
			t.Fatal(err)
		}
		l.ExtraExtensions = append(l.ExtraExtensions, pkix.Extension{Id: oidDeltaIndicator, Critical: true, Value: v})
	}
	if scope != nil {
		l.ExtraExtensions = append(l.ExtraExtensions, pkix.Extension{Id: oidIDP, Critical: true, Value: wrapTLV(0x30, scope)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, by.cert, by.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestCRLs(t *testing.T) {
	p := newPKI(t, "Lists", "www.lists.test", "p256", 2)
	other := issue(t, p.root, "Lists Signer", newKey(t, "p256"), true, nil)
	stranger := issue(t, nil, "Stranger", newKey(t, "p256"), true, nil)
	day := 24 * time.Hour
	gone := func(c *ca, reason int) x509.RevocationListEntry {
		return x509.RevocationListEntry{SerialNumber: c.cert.SerialNumber, RevocationTime: testNow.Add(-48 * time.Hour), ReasonCode: reason}
	}
	by := p.issuer()
	// A leaf whose revocation is told by another CA's indirect list.
	point := wrapTLV(0x30, wrapTLV(0xA2, wrapTLV(0xA4, other.cert.RawSubject)))
	indirect := issue(t, by, "www.lists.test", p.leaf.key, false, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: oidDistribution, Value: wrapTLV(0x30, point)}}
	})
	about := gone(indirect, 1)
	about.ExtraExtensions = []pkix.Extension{{Id: oidCertificateIssuer, Critical: true, Value: wrapTLV(0x30, wrapTLV(0xA4, by.cert.RawSubject))}}
	strange := gone(p.leaf, 1)
	strange.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
	shard := wrapTLV(0xA0, wrapTLV(0xA0, wrapTLV(0x86, []byte("http://crl.lists.test/7.crl"))))
	inShard := issue(t, by, "www.lists.test", p.leaf.key, false, func(c *x509.Certificate) {
		c.CRLDistributionPoints = []string{"http://crl.lists.test/7.crl"}
	})
	for _, c := range []struct {
		name string
		leaf *ca
		crls [][]byte
		want []string
	}{
		{"clean", nil, [][]byte{crlOf(t, by, 5, 0, nil, day)}, nil},
		{"listed", nil, [][]byte{crlOf(t, by, 5, 0, nil, day, gone(p.leaf, 4))}, []string{"REVOKED"}},
		{"CA listed", nil, [][]byte{crlOf(t, by, 5, 0, nil, day), crlOf(t, p.root, 5, 0, nil, day, gone(p.mids[0], 2))}, []string{"REVOKED"}},
		{"listed in the delta", nil, [][]byte{crlOf(t, by, 5, 0, nil, day), crlOf(t, by, 7, 5, nil, day, gone(p.leaf, 1))}, []string{"REVOKED"}},
		{"hold taken back by the delta", nil, [][]byte{crlOf(t, by, 5, 0, nil, day, gone(p.leaf, 6)), crlOf(t, by, 7, 5, nil, day, gone(p.leaf, removeFromCRL))}, nil},
		{"old base, delta of today", nil, [][]byte{crlOf(t, by, 5, 0, nil, -day), crlOf(t, by, 7, 5, nil, day)}, nil},
		{"old base, old delta", nil, [][]byte{crlOf(t, by, 5, 0, nil, -day), crlOf(t, by, 7, 5, nil, -day)}, []string{"CRL_UNUSABLE"}},
		{"delta without its base", nil, [][]byte{crlOf(t, by, 7, 5, nil, day)}, []string{"CRL_UNUSABLE"}},
		{"delta of a later base", nil, [][]byte{crlOf(t, by, 4, 0, nil, -day), crlOf(t, by, 7, 5, nil, day)}, []string{"CRL_UNUSABLE"}},
		{"listed in a delta without its base", nil, [][]byte{crlOf(t, by, 7, 5, nil, day, gone(p.leaf, 1))}, []string{"REVOKED"}},
		{"hold in the old list, not in the new", nil, [][]byte{crlOf(t, by, 5, 0, nil, day, gone(p.leaf, 6)), crlOf(t, by, 6, 0, nil, day)}, nil},
		{"for CAs only", nil, [][]byte{crlOf(t, by, 5, 0, wrapTLV(0x82, []byte{0xFF}), day)}, []string{"REVOCATION_OPEN"}},
		{"for end entities only", nil, [][]byte{crlOf(t, by, 5, 0, wrapTLV(0x81, []byte{0xFF}), day)}, nil},
		{"some reasons only", nil, [][]byte{crlOf(t, by, 5, 0, wrapTLV(0x83, []byte{6, 0x40}), day)}, []string{"REVOCATION_OPEN"}},
		{"reasons in two lists", nil, [][]byte{crlOf(t, by, 5, 0, wrapTLV(0x83, []byte{6, 0x40}), day), crlOf(t, by, 6, 0, wrapTLV(0x83, []byte{7, 0x3F, 0x80}), day)}, nil},
		{"its shard", inShard, [][]byte{crlOf(t, by, 5, 0, shard, day)}, nil},
		{"another shard", nil, [][]byte{crlOf(t, by, 5, 0, shard, day)}, []string{"REVOCATION_OPEN"}},
		{"of another issuer", nil, [][]byte{crlOf(t, stranger, 5, 0, nil, day)}, []string{"REVOCATION_OPEN"}},
		{"indirect, listed", indirect, [][]byte{crlOf(t, other, 5, 0, wrapTLV(0x84, []byte{0xFF}), day, about)}, []string{"REVOKED"}},
		{"indirect, clean", indirect, [][]byte{crlOf(t, other, 5, 0, wrapTLV(0x84, []byte{0xFF}), day)}, nil},
		{"its serial number, another issuer's", indirect, [][]byte{crlOf(t, other, 5, 0, wrapTLV(0x84, []byte{0xFF}), day, gone(indirect, 1))}, nil},
		{"not said to be indirect", indirect, [][]byte{crlOf(t, other, 5, 0, nil, day)}, []string{"REVOCATION_OPEN"}},
		{"unknown critical entry", nil, [][]byte{crlOf(t, by, 5, 0, nil, day, strange)}, []string{"REVOKED", "CRL_UNUSABLE"}},
		{"not read", nil, [][]byte{[]byte("no list")}, []string{"CRL_UNUSABLE"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := p.ders()
			if c.leaf != nil {
				file[0] = c.leaf.cert.Raw
			}
			o := p.options("www.lists.test")
			o.Pool = p.pool(other)
			o.CRLs = c.crls
			r := Check("x", []byte(pemOf(file...)), o)
			if got := r.Codes(); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
				for _, f := range r.Findings {
					t.Logf("%s %s", f.Code, f.Evidence)
				}
			}
		})
	}
}

// TestNonconforming: what only Go's parser refuses is no damage, and what was
// changed since it was signed is.
func TestNonconforming(t *testing.T) {
	p := newPKI(t, "Odd", "www.odd.test", "p256", 1)
	// distributionPoint [0] { nameRelativeToCRLIssuer [1] { CN=1 } }
	rdn := []byte{0x30, 0x08, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0C, 0x01, '1'}
	point := wrapTLV(0x30, wrapTLV(0xA0, wrapTLV(0xA1, rdn)))
	odd := issue(t, p.issuer(), "www.odd.test", p.leaf.key, false, nil)
	tbs := *odd.cert
	tbs.ExtraExtensions = []pkix.Extension{{Id: oidDistribution, Value: wrapTLV(0x30, point)}}
	der, err := x509.CreateCertificate(rand.Reader, &tbs, p.issuer().cert, odd.key.Public(), p.issuer().key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x509.ParseCertificate(der); err == nil {
		t.Fatal("Go reads it now; the test needs another quirk")
	}
	check := func(leaf []byte) *Report {
		return Check("x", []byte(pemOf(leaf, p.mids[0].cert.Raw)), p.options("www.odd.test"))
	}
	if got := check(der).Codes(); !slices.Equal(got, []string{"NONCONFORMING"}) {
		t.Errorf("got %v", got)
	}
	der[len(der)-1] ^= 1
	if got := check(der).Codes(); !slices.Equal(got, []string{"MALFORMED_CERT"}) {
		t.Errorf("with a bad signature: got %v", got)
	}
}

// TestOCSPResponders: the CA itself, with and without its certificate, and whom
// it authorised.
func TestOCSPResponders(t *testing.T) {
	p := newPKI(t, "Responders", "www.ocsp.test", "p256", 1)
	by := p.issuer()
	delegate := issue(t, by, "OCSP Signer", newKey(t, "p256"), false, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} })
	neighbour := issue(t, by, "www.neighbour.test", newKey(t, "p256"), false, nil)
	late := issue(t, by, "Old Signer", newKey(t, "p256"), false, func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
		c.NotAfter = testNow.AddDate(0, -1, 0)
	})
	stranger := newPKI(t, "Stranger", "www.ocsp.test", "p256", 0)
	for _, c := range []struct {
		name   string
		signer *ca
		along  *x509.Certificate
		want   []string
	}{
		{"the CA", by, nil, nil},
		{"the CA, its certificate along", by, by.cert, nil},
		{"a delegate", delegate, delegate.cert, nil},
		{"a delegate that has expired", late, late.cert, []string{"OCSP_UNUSABLE"}},
		{"a server of the same CA", neighbour, neighbour.cert, []string{"OCSP_UNUSABLE"}},
		{"somebody else", stranger.root, stranger.root.cert, []string{"OCSP_UNUSABLE"}},
		{"somebody else, no certificate", stranger.root, nil, []string{"OCSP_UNUSABLE"}},
	} {
		resp, err := ocsp.CreateResponse(by.cert, c.signer.cert, ocsp.Response{
			Status: ocsp.Good, SerialNumber: p.leaf.cert.SerialNumber, ThisUpdate: testNow.Add(-time.Hour), NextUpdate: testNow.Add(time.Hour), Certificate: c.along,
		}, c.signer.key)
		if err != nil {
			t.Fatal(err)
		}
		o := p.options("www.ocsp.test")
		o.OCSP = [][]byte{resp}
		if got := Check("x", []byte(pemOf(p.ders()...)), o).Codes(); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}
