package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type issued struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func certFor(t *testing.T, parent *issued, cn string, isCA bool, aia string) *issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: isCA, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if aia != "" {
		tmpl.IssuingCertificateURL = []string{aia}
	}
	if isCA {
		tmpl.KeyUsage = x509.KeyUsageCertSign
	} else {
		tmpl.DNSNames, tmpl.IPAddresses = []string{cn}, []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	if parent == nil {
		parent = &issued{tmpl, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent.cert, key.Public(), parent.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issued{c, key}
}

func writePEM(t *testing.T, path string, ders ...[]byte) string {
	t.Helper()
	var b bytes.Buffer
	for _, d := range ders {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: d})
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestChainOverTheNetwork checks a server, fetches what it forgot, and compares
// it with a file.
func TestChainOverTheNetwork(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	t.Setenv("LANG", "C")
	mux := http.NewServeMux()
	aia := httptest.NewServer(mux)
	defer aia.Close()
	root := certFor(t, nil, "Net Root", true, "")
	mid := certFor(t, root, "Net CA", true, "")
	leaf := certFor(t, mid, "net.test", false, aia.URL+"/mid.der")
	other := certFor(t, mid, "old.test", false, "")
	mux.HandleFunc("/mid.der", func(w http.ResponseWriter, _ *http.Request) { w.Write(mid.cert.Raw) })

	send := [][]byte{leaf.cert.Raw}
	l := serveTLS(t, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: send, PrivateKey: leaf.key}, nil
	}})
	dir := t.TempDir()
	roots := writePEM(t, filepath.Join(dir, "root.pem"), root.cert.Raw)
	oldFile := writePEM(t, filepath.Join(dir, "old.pem"), other.cert.Raw, mid.cert.Raw)
	leafFile := writePEM(t, filepath.Join(dir, "leaf.pem"), leaf.cert.Raw)

	vouchsafe := func(want int, args ...string) string {
		t.Helper()
		var out, errw bytes.Buffer
		if got := run(t.Context(), append([]string{"vouchsafe", "chain"}, args...), strings.NewReader(""), &out, &errw); got != want {
			t.Errorf("%v: exit code %d, want %d\n%s%s", args, got, want, out.String(), errw.String())
		}
		return out.String() + errw.String()
	}
	wants := func(got string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(got, w) {
				t.Errorf("%q is not in:\n%s", w, got)
			}
		}
	}
	addr := l.Addr().String()
	wants(vouchsafe(3, "check", "--json", "--roots", roots, addr), `"code":"MISSING_INTERMEDIATE"`, `"class":"network","chain":[]`)
	wants(vouchsafe(3, "check", "--json", "--fetch", "--roots", roots, addr), `"code":"MISSING_INTERMEDIATE"`, `"class":"network","chain":["`)
	wants(vouchsafe(3, "check", "--json", "--roots", roots, "--against", oldFile, addr), `"code":"SERVED_DIFFERS"`)
	wants(vouchsafe(3, "check", "--json", "--roots", roots, "--name", "wrong.test", addr), `"code":"NAME_MISMATCH"`)
	wants(vouchsafe(1, "check", "--roots", roots, "127.0.0.1:1"), "error: connecting to 127.0.0.1:1", "hint: ")
	wants(vouchsafe(2, "check", "--roots", roots, "--starttls", "gopher", addr), "no STARTTLS for")
	fixed := filepath.Join(dir, "fixed.pem")
	vouchsafe(0, "fix", leafFile, "-o", fixed, "--fetch", "--roots", roots)
	vouchsafe(0, "check", "--roots", roots, fixed)

	send = [][]byte{leaf.cert.Raw, mid.cert.Raw}
	wants(vouchsafe(0, "check", "--roots", roots, "--against", fixed, addr), ": ok")
	wants(vouchsafe(3, "check", "--json", "--roots", roots, addr, oldFile), `"code":"SERVED_DIFFERS"`)
}

// serveTLS shakes hands with whoever comes, until the test ends.
func serveTLS(t *testing.T, config *tls.Config) net.Listener {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); c.(*tls.Conn).Handshake(); c.Read(make([]byte, 1)) }()
		}
	}()
	return l
}

// TestFixWhatIsServed: the remedy of a check of a server works as it is printed.
func TestFixWhatIsServed(t *testing.T) {
	root := certFor(t, nil, "root", true, "")
	inter := certFor(t, root, "inter", true, "")
	leaf := certFor(t, inter, "localhost", false, "")
	l := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.cert.Raw}, PrivateKey: leaf.key}}})
	dir := t.TempDir()
	roots, pool := writePEM(t, filepath.Join(dir, "root.pem"), root.cert.Raw), writePEM(t, filepath.Join(dir, "inter.pem"), inter.cert.Raw)
	out := filepath.Join(dir, "fixed.pem")
	addr := l.Addr().String()
	call := func(args ...string) (int, string) {
		var o, e bytes.Buffer
		code := run(t.Context(), append([]string{"vouchsafe", "--lang", "en", "chain"}, args...), nil, &o, &e)
		return code, o.String() + e.String()
	}
	if code, said := call("check", "--roots", roots, "https://"+addr+"/path"); code != exitFindings || !strings.Contains(said, "vouchsafe chain fix "+addr+" -o fixed.pem") {
		t.Fatalf("check of a URL: %d\n%s", code, said)
	}
	if code, said := call("fix", addr, "-o", out, "--roots", roots, "--intermediates", pool); code != exitDone {
		t.Fatalf("fix: %d\n%s", code, said)
	}
	if code, said := call("check", "--roots", roots, out); code != exitDone {
		t.Errorf("what was mended: %d\n%s", code, said)
	}
	if code, _ := call("fix", addr, "--in-place"); code != exitUsage {
		t.Errorf("fix --in-place of a server: %d", code)
	}
}
