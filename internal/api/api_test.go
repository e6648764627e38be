package api

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/hosting"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/store"
)

// service is a whole service on a loopback port.
type service struct {
	t       *testing.T
	url     string
	backend Backend
	root    *x509.Certificate

	auditDir    string
	auditSigner *audit.Signer
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newService(t *testing.T) *service {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	st, err := store.Open(t.Context(), filepath.Join(dir, "db"), nil)
	must(err)
	t.Cleanup(func() { st.Close() })
	rootKey := secret.Random(32)
	signer, err := audit.NewSigner(rootKey, "test/audit")
	must(err)
	auditLog, err := audit.Open(filepath.Join(dir, "audit"), signer, audit.Options{})
	must(err)
	t.Cleanup(func() { auditLog.Close() })
	caKey := newKey(t)
	der, err := ca.NewRoot("test", caKey, time.Now())
	must(err)
	root, err := x509.ParseCertificate(der)
	must(err)
	var as []*ca.Authority
	for _, p := range ca.Purposes() {
		k := newKey(t)
		der, err := ca.NewIntermediate(root, caKey, p, k.Public(), time.Now())
		must(err)
		a, err := ca.NewAuthority(p, der, k)
		must(err)
		as = append(as, a)
	}
	office, err := ca.NewOffice(root, st, time.Now, as...)
	must(err)
	s := &service{t: t, root: root, auditDir: filepath.Join(dir, "audit"), auditSigner: signer}
	residence := s.issue(office, ca.ResidenceProfile, ca.KindService, "residence")
	e := enroll.New(enroll.Config{TrustDomain: "vouchsafe.test", Records: st, Disks: st, Hosts: st, Repeats: st, Orders: st, Issuer: office, Log: auditLog, Ring: keyring.NewRing(rootKey),
		Residence: func(context.Context) (enroll.Signer, error) {
			chain, err := office.Chain(ca.Residence)
			return enroll.Signer{Key: residence.PrivateKey.(*ecdsa.PrivateKey), Chain: append([]*x509.Certificate{residence.Leaf}, chain...)}, err
		}})
	s.backend = Backend{ServiceID: "s1", TrustDomain: "vouchsafe.test", Version: "test", Enroll: e, Store: st, Office: office, Audit: auditLog, AuditKey: signer.VerifierKey(), Now: time.Now}
	srv := httptest.NewUnstartedServer(Handler(s.backend))
	own := s.issue(office, ca.ServiceProfile, ca.KindService, "api")
	srv.TLS = TLSConfig(office, func() (*tls.Certificate, error) { return own, nil })
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

// issue makes a certificate with its key, as tls wants it.
func (s *service) issue(office *ca.Office, p ca.Profile, kind, name string) *tls.Certificate {
	s.t.Helper()
	k := newKey(s.t)
	req := ca.Request{Tenant: "default", PublicKey: k.Public(), Name: &ca.Name{TrustDomain: "vouchsafe.test", Tenant: "default", Kind: kind, Name: name}}
	if p.DNS {
		req.DNSNames = []string{"localhost", "example.com"}
	}
	cert, err := office.Issue(s.t.Context(), p, req)
	if err != nil {
		s.t.Fatal(err)
	}
	chain, err := office.Chain(p.Purpose)
	if err != nil {
		s.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw, chain[0].Raw}, PrivateKey: k, Leaf: cert}
}

func (s *service) operator() *tls.Certificate {
	return s.issue(s.backend.Office, ca.OperatorProfile, ca.KindOperator, "alice")
}

// as calls with a client certificate and returns status and body.
func (s *service) as(cert *tls.Certificate, method, path, body string) (int, string) {
	s.t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(s.root)
	config := &tls.Config{RootCAs: pool, ServerName: "localhost"}
	if cert != nil {
		config.Certificates = []tls.Certificate{*cert}
	}
	tr := &http.Transport{TLSClientConfig: config}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (s *service) want(what string, cert *tls.Certificate, method, path, body string, status int, contains string) string {
	s.t.Helper()
	got, b := s.as(cert, method, path, body)
	if got != status || !strings.Contains(b, contains) {
		s.t.Errorf("%s: %s %s: %d %s\nwant %d with %q", what, method, path, got, b, status, contains)
	}
	var p Problem
	if got >= 400 && (json.Unmarshal([]byte(b), &p) != nil || p.Code == "" || p.Hint == "" || p.Status != got) {
		s.t.Errorf("%s: %s %s: %d has no code or no way out: %s", what, method, path, got, b)
	}
	return b
}

func ekPEM(t *testing.T) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(newKey(t).Public())
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	return string(b)
}

// TestWhoMayCall: nobody without a certificate, and each kind only what is its own.
func TestWhoMayCall(t *testing.T) {
	s := newService(t)
	office := s.backend.Office
	if status, b := s.as(nil, "GET", "/openapi.yaml", ""); status != 0 || !strings.Contains(b, "certificate required") {
		t.Errorf("without a certificate: %d %s", status, b)
	}
	// Without TLS, as from a proxy on the same machine: loopback is no authentication.
	w := httptest.NewRecorder()
	Handler(s.backend).ServeHTTP(w, httptest.NewRequest("GET", "/v1/service", nil))
	if w.Code != http.StatusUnauthorized {
		t.Errorf("without TLS: %d", w.Code)
	}
	operator := s.operator()
	agent := s.issue(office, ca.AgentProfile, ca.KindAgent, "h1")
	vm := s.issue(office, ca.VMProfile, ca.KindVM, "web1")
	s.want("operator", operator, "GET", "/v1/vms", "", 200, "[]")
	s.want("agent", agent, "GET", "/v1/vms", "", 403, "ROLE_MISSING")
	s.want("agent", agent, "GET", "/v1/service", "", 200, "s1")
	s.want("VM", vm, "GET", "/v1/service", "", 200, "s1")
	s.want("VM", vm, "POST", "/v1/vms/web1/nonce", `{"purpose":"admit"}`, 403, "ROLE_MISSING")
	s.want("VM", vm, "POST", "/v1/vms", `{"name":"x","host":"h","ek_public":""}`, 403, "ROLE_MISSING")
	s.want("nowhere", operator, "GET", "/v1/nope", "", 404, "")

	// A certificate of the right shape that this service never recorded.
	self := newKey(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, self.Public(), self)
	if err != nil {
		t.Fatal(err)
	}
	if status, b := s.as(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: self}, "GET", "/v1/service", ""); status != 0 {
		t.Errorf("a self-signed certificate: %d %s", status, b)
	}
	// Revoked, over a connection that is open: a new request is refused.
	if err := s.backend.Store.Revoke(t.Context(), "default", ca.SerialText(operator.Leaf), ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	s.want("revoked", operator, "GET", "/v1/vms", "", 401, "was revoked")
}

// TestLease walks through a vTPM's lease over the wire.
func TestLease(t *testing.T) {
	s := newService(t)
	op := s.operator()
	agent := s.issue(s.backend.Office, ca.AgentProfile, ca.KindAgent, "h1")
	s.want("host", op, "POST", "/v1/hosts", `{"name":"h1"}`, 200, `"tier":"unattested"`)
	ek := ekPEM(t)
	s.want("create", op, "POST", "/v1/vms", fmt.Sprintf(`{"name":"web1","host":"h1","ek_public":%s}`, ek), 200, `"state":"born"`)
	s.want("create again", op, "POST", "/v1/vms", fmt.Sprintf(`{"name":"web1","host":"h1","ek_public":%s}`, ek), 409, "EXISTS")
	s.want("nonce", agent, "POST", "/v1/vms/web1/nonce", `{"purpose":"admit"}`, 200, `"seconds":120`)
	s.want("lease", agent, "POST", "/v1/vms/web1/lease", `{"host":"h1","generation":0}`, 403, "HOST_UNATTESTED")
	s.want("accept", op, "POST", "/v1/hosts", `{"name":"h1","accept_unattested":true}`, 200, `"accept_unattested":true`)
	s.want("hosts", op, "GET", "/v1/hosts", "", 200, `"name":"h1"`)
	var l hosting.Lease
	b := s.want("lease", agent, "POST", "/v1/vms/web1/lease", `{"host":"h1","generation":0}`, 200, `"HOST_UNATTESTED"`)
	if err := json.Unmarshal([]byte(b), &l); err != nil || len(l.SealKey) != 32 || l.OpenKey != nil || l.Generation != 1 {
		t.Fatalf("got %s, %v", b, err)
	}
	if _, err := enroll.ParseResidence([]byte(l.Residence), s.root, time.Now()); err != nil {
		t.Error(err)
	}
	path := "/v1/vms/web1/lease/" + l.ID
	s.want("confirm", agent, "POST", path+"/confirm", `{"generation":1}`, 204, "")
	s.want("renew", agent, "POST", path+"/renew", "{}", 200, l.ID)
	s.want("a roll-back", agent, "POST", "/v1/vms/web1/lease", `{"host":"h1","generation":0}`, 403, "STATE_ROLLED_BACK")
	s.want("return", agent, "DELETE", path, "", 204, "")
	s.want("gone", agent, "POST", path+"/renew", "{}", 403, "LEASE_GONE")
	s.want("bad id", agent, "POST", "/v1/vms/web1/lease/zz/renew", "{}", 422, "no key id")
	s.want("revoke", op, "POST", "/v1/vms/web1/revoke", `{"reason":"test"}`, 200, `"state":"revoked"`)
	s.want("revoked", agent, "POST", "/v1/vms/web1/lease", `{"host":"h1","generation":1}`, 403, "VM_REVOKED")
	s.want("show", op, "GET", "/v1/vms/web1", "", 200, `"reason":"test"`)
	s.want("changes", op, "GET", "/v1/changes?after=0", "", 200, `"kind":"vm"`)
}

func TestBadRequests(t *testing.T) {
	s := newService(t)
	op := s.operator()
	s.want("host", op, "POST", "/v1/hosts", `{"name":"h1"}`, 200, "")
	for _, tt := range []struct {
		name, path, body string
		status           int
		contains         string
	}{
		{"no JSON", "/v1/vms", `{`, 400, ""},
		{"unknown member", "/v1/vms", `{"name":"a","host":"h1","ek_public":"","x":1}`, 422, "unexpected property"},
		{"missing member", "/v1/vms", `{"name":"a"}`, 422, "required"},
		{"no key", "/v1/vms", `{"name":"a","host":"h1","ek_public":"x"}`, 422, "not one PUBLIC KEY"},
		{"a private key", "/v1/vms", `{"name":"a","host":"h1","ek_public":"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}`, 422, "not one PUBLIC KEY"},
		{"a path as name", "/v1/hosts", `{"name":"../x"}`, 422, "is no name"},
		{"no CSR", "/v1/credentials", `{"kind":"operator","name":"x","csr":"x"}`, 422, "CERTIFICATE REQUEST"},
		{"a VM's credential", "/v1/credentials", `{"kind":"vm","name":"x","csr":"x"}`, 422, "expected value to be one of"},
		{"no reason we know", "/v1/certificates/01/revoke", `{"reason":"hold"}`, 422, "there is no reason"},
		{"a small endorsement key", "/v1/vms", `{"name":"a","host":"h1","ek_public":` + smallKey(t) + `}`, 422, "KEY_UNFIT"},
		{"a disk twice", "/v1/vms", `{"name":"a","host":"h1","disks":["root","root"]}`, 422, "two disks are called root (REQUEST_INVALID)"},
		{"a disk with a path", "/v1/vms", `{"name":"a","host":"h1","disks":["../x"]}`, 422, "NAME_INVALID"},
		{"no host", "/v1/vms", `{"name":"a","host":"h9"}`, 404, "host h9: not found"},
		{"no reason", "/v1/hosts/h1/revoke", `{"reason":""}`, 422, "REQUEST_INVALID"},
		{"not revoked", "/v1/hosts/h1/reinstate", `{"reason":"x"}`, 403, "HOST_NOT_REVOKED"},
		{"no digest", "/v1/hosts/h1/policy/enroll", `{"pcr_digest":"xy"}`, 422, "pcr_digest"},
		{"no state was shown", "/v1/vms/a/accept-state", `{"generation":1,"reason":""}`, 422, "expected length"},
		{"no such certificate", "/v1/certificates/01/revoke", `{}`, 404, "NOT_FOUND"},
		{"megabytes", "/v1/vms", `{"name":"` + strings.Repeat("a", maxBody) + `"}`, 413, ""},
	} {
		s.want(tt.name, op, "POST", tt.path, tt.body, tt.status, tt.contains)
	}
	s.want("another CRL", op, "GET", "/v1/crls/nope", "", 422, "")
	s.want("a long page", op, "GET", "/v1/vms?limit=501", "", 422, "")
	// What is our fault is not called the caller's.
	if err := s.backend.Store.Close(); err != nil {
		t.Fatal(err)
	}
	s.want("a store that fails", op, "GET", "/v1/vms", "", 500, "INTERNAL")
}

// smallKey is an endorsement key that nobody takes.
func smallKey(t *testing.T) string {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	return string(b)
}

// TestCredential: a request proves possession of its key, and nothing else in it counts.
func TestCredential(t *testing.T) {
	s := newService(t)
	op := s.operator()
	k := newKey(t)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "root"}, DNSNames: []string{"evil.example"}}, k)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(der []byte) string {
		b, _ := json.Marshal(NewCredential{Kind: "operator", Name: "bob", CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))})
		return string(b)
	}
	var c Credential
	if err := json.Unmarshal([]byte(s.want("credential", op, "POST", "/v1/credentials", ask(der), 200, "BEGIN CERTIFICATE")), &c); err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode([]byte(c.PEM))
	inter, _ := pem.Decode(rest)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil || len(leaf.DNSNames) != 0 || leaf.Subject.CommonName != "" {
		t.Errorf("the certificate took over names: %v, %v", leaf.DNSNames, err)
	}
	s.want("bob", &tls.Certificate{Certificate: [][]byte{block.Bytes, inter.Bytes}, PrivateKey: k}, "GET", "/v1/vms", "", 200, "[]")
	s.want("list", op, "GET", "/v1/certificates", "", 200, "operator/bob")
	s.want("show", op, "GET", "/v1/certificates/"+ca.SerialText(leaf), "", 200, "BEGIN CERTIFICATE")
	der[len(der)-1] ^= 1
	s.want("somebody else's key", op, "POST", "/v1/credentials", ask(der), 422, "csr")
}

// TestOpenAPI: the description names every operation, and that it wants a certificate.
func TestOpenAPI(t *testing.T) {
	s := newService(t)
	doc := s.want("description", s.operator(), "GET", "/openapi.yaml", "", 200, "openapi: 3.1")
	for _, id := range []string{"get-service", "create-vm", "list-vms", "revoke-vm", "lend", "renew-lease", "return-lease", "make-credential", "get-crl", "mutualTLS"} {
		if !strings.Contains(doc, id) {
			t.Errorf("%s is missing", id)
		}
	}
	if bytes.Contains([]byte(doc), []byte("$schema")) {
		t.Error("answers carry $schema")
	}
	for _, p := range []string{"/docs", "/schemas/VM.json"} {
		s.want("not served", s.operator(), "GET", p, "", 404, "")
	}
}

// TestCRL: the list is signed anew when something was revoked, and only then.
func TestCRL(t *testing.T) {
	s := newService(t)
	op := s.operator()
	get := func() *x509.RevocationList {
		var v CRL
		if err := json.Unmarshal([]byte(s.want("crl", op, "GET", "/v1/crls/operator", "", 200, "X509 CRL")), &v); err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode([]byte(v.PEM))
		crl, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return crl
	}
	if a, b := get(), get(); a.Number.Cmp(b.Number) != 0 || len(a.RevokedCertificateEntries) != 0 {
		t.Errorf("numbers %v, %v", a.Number, b.Number)
	}
	bob := s.issue(s.backend.Office, ca.OperatorProfile, ca.KindOperator, "bob")
	s.want("revoke", op, "POST", "/v1/certificates/"+ca.SerialText(bob.Leaf)+"/revoke", `{"reason":"key-compromise"}`, 200, "key-compromise")
	crl := get()
	if crl.Number.Int64() != 2 || len(crl.RevokedCertificateEntries) != 1 || crl.RevokedCertificateEntries[0].SerialNumber.Cmp(bob.Leaf.SerialNumber) != 0 {
		t.Errorf("number %v, %d entries", crl.Number, len(crl.RevokedCertificateEntries))
	}
}

// TestCRLOfAnotherDay: as many entries as yesterday are not the same entries.
func TestCRLOfAnotherDay(t *testing.T) {
	s := newService(t)
	a, err := s.backend.Office.Authority(ca.Operator)
	if err != nil {
		t.Fatal(err)
	}
	expired, revoked := ca.Revocation{Serial: "a1", At: time.Now()}, ca.Revocation{Serial: "b2", At: time.Now()}
	list, err := a.CRL(1, []ca.Revocation{expired}, time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	fresh := func(now ...ca.Revocation) bool {
		return (&server{Backend: s.backend}).freshCRLs(list, now, []*ca.Authority{a}) != nil
	}
	if !fresh(expired) {
		t.Error("the same list is signed again")
	}
	if fresh(revoked) {
		t.Error("one expired and another was revoked, and the old list is given out")
	}
}

// TestEveryNameGetsACertificate: what may be the name of a VM may be in its certificate.
func TestEveryNameGetsACertificate(t *testing.T) {
	s := newService(t)
	for _, name := range []string{"web1", "web_1", "web1-", "web1.", "a..b", "a.-b", "1", strings.Repeat("a", 63)} {
		if err := ca.CheckWord(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.backend.Office.Issue(t.Context(), ca.VMProfile, ca.Request{Tenant: "default", PublicKey: newKey(t).Public(), DNSNames: hostNames(name),
			Name: &ca.Name{TrustDomain: "vouchsafe.test", Tenant: "default", Kind: ca.KindVM, Name: name}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
