package chainnet

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/chain"
)

// makeCert issues a certificate whose issuer is to be fetched from aia.
func makeCert(t *testing.T, parent *x509.Certificate, signer *ecdsa.PrivateKey, cn string, isCA bool, aia ...string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: isCA, BasicConstraintsValid: true, IssuingCertificateURL: aia,
	}
	if isCA {
		tmpl.KeyUsage = x509.KeyUsageCertSign
	} else {
		tmpl.DNSNames = []string{cn}
	}
	if parent == nil {
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

func TestFetchIssuers(t *testing.T) {
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	defer srv.Close()
	root, rootKey := makeCert(t, nil, nil, "Root", true)
	// The two intermediates name each other: a loop.
	top, topKey := makeCert(t, root, rootKey, "Top", true, srv.URL+"/mid", srv.URL+"/root")
	mid, midKey := makeCert(t, top, topKey, "Mid", true, srv.URL+"/top")
	leaf, _ := makeCert(t, mid, midKey, "leaf.test", false, "ldap://x/y", srv.URL+"/gone", srv.URL+"/mid", srv.URL+"/mid")
	asked := map[string]int{}
	for path, der := range map[string][]byte{"/root": root.Raw, "/top": top.Raw, "/mid": mid.Raw} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { asked[r.URL.Path]++; w.Write(der) })
	}
	got := FetchIssuers(t.Context(), []*chain.Cert{chain.ParseCert(leaf.Raw)})
	if len(got.Certs) != 3 {
		t.Errorf("%d certificates, want 3", len(got.Certs))
	}
	for path, n := range asked {
		if n != 1 {
			t.Errorf("%s was asked %d times", path, n)
		}
	}
	if len(got.Errors) != 2 {
		t.Errorf("errors: %v, want one for ldap and one for the missing page", got.Errors)
	}
}

func TestFetchBounds(t *testing.T) {
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	defer srv.Close()
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		for range 1000 {
			w.Write(make([]byte, 4096))
		}
	})
	mux.HandleFunc("/around", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/around", http.StatusFound) })
	mux.HandleFunc("/https", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://localhost/", http.StatusFound)
	})
	client := newClient()
	for address, want := range map[string]string{
		srv.URL + "/endless":               "more than",
		srv.URL + "/around":                "only http",
		srv.URL + "/https":                 "only http",
		"https://localhost/":               "only http",
		"file:///etc/passwd":               "only http",
		"http://169.254.169.254/meta-data": "no address of a CA",
		"http://[fe80::1%25lo]/":           "no address of a CA",
	} {
		if _, err := fetch(t.Context(), client, address); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
}

// serve runs a TLS server that may speak a plain protocol first.
func serve(t *testing.T, cfg *tls.Config, before func(net.Conn) error) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
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
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(10 * time.Second))
				if before != nil {
					if err := before(c); err != nil {
						return
					}
				}
				conn := tls.Server(c, cfg)
				if conn.Handshake() == nil {
					io.Copy(io.Discard, conn)
				}
			}()
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

func config(t *testing.T) *tls.Config {
	c, key := makeCert(t, nil, nil, "right.test", false)
	d, dkey := makeCert(t, nil, nil, "default.test", false)
	return &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if h.ServerName == "right.test" {
			return &tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, OCSPStaple: []byte("staple")}, nil
		}
		if h.ServerName == "" {
			return &tls.Certificate{Certificate: [][]byte{d.Raw}, PrivateKey: dkey}, nil
		}
		return nil, errors.New("unknown name")
	}}
}

func TestProbe(t *testing.T) {
	port := serve(t, config(t), nil)
	sights, err := Probe(t.Context(), Target{Host: "127.0.0.1", Port: port, Name: "right.test"})
	if err != nil {
		t.Fatal(err)
	}
	if len(sights) != 5 {
		t.Fatalf("%d sights, want 5", len(sights))
	}
	right, none, wrong, v12, v13 := sights[0], sights[1], sights[2], sights[3], sights[4]
	if string(right.OCSP) != "staple" || right.Bytes == 0 || right.Got != tls.VersionTLS13 {
		t.Errorf("with the right name: %+v", right)
	}
	if string(none.Leaf()) == string(right.Leaf()) || none.Leaf() == nil {
		t.Errorf("without a name the default is not seen")
	}
	if wrong.Err == nil || wrong.Leaf() != nil {
		t.Errorf("with a wrong name: %+v", wrong)
	}
	if v12.Got != tls.VersionTLS12 || v13.Got != tls.VersionTLS13 {
		t.Errorf("versions: %x, %x", v12.Got, v13.Got)
	}
}

// dialogues are servers as their protocols describe them.
var dialogues = map[string]func(c net.Conn, r *bufio.Reader) error{
	"smtp": func(c net.Conn, r *bufio.Reader) error {
		return lines(c, r, "220 mx ESMTP\r\n", "EHLO", "250-mx\r\n250-PIPELINING\r\n250 STARTTLS\r\n", "STARTTLS", "220 go\r\n")
	},
	"imap": func(c net.Conn, r *bufio.Reader) error {
		return lines(c, r, "* OK ready\r\n", "a1 STARTTLS", "* noise\r\na1 OK go\r\n")
	},
	"pop3": func(c net.Conn, r *bufio.Reader) error { return lines(c, r, "+OK\r\n", "STLS", "+OK\r\n") },
	"ftp": func(c net.Conn, r *bufio.Reader) error {
		return lines(c, r, "220-hello\r\n220 ftp\r\n", "AUTH TLS", "234 go\r\n")
	},
	"xmpp": func(c net.Conn, r *bufio.Reader) error {
		if _, err := r.ReadString('>'); err != nil {
			return err
		}
		if _, err := r.ReadString('>'); err != nil {
			return err
		}
		fmt.Fprint(c, "<stream:stream><stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>")
		if _, err := r.ReadString('>'); err != nil {
			return err
		}
		_, err := fmt.Fprint(c, "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
		return err
	},
	"postgres": func(c net.Conn, r *bufio.Reader) error {
		if _, err := io.ReadFull(r, make([]byte, 8)); err != nil {
			return err
		}
		_, err := c.Write([]byte("S"))
		return err
	},
	"mysql": func(c net.Conn, r *bufio.Reader) error {
		greeting := append([]byte("\x0a8.0.36\x00\x01\x00\x00\x0012345678\x00"), 0xFF, 0xFF, 0x21, 2, 0, 0xFF, 0xC3, 21)
		greeting = append(greeting, make([]byte, 10)...)
		if _, err := c.Write(append([]byte{byte(len(greeting)), 0, 0, 0}, greeting...)); err != nil {
			return err
		}
		_, err := io.ReadFull(r, make([]byte, 36))
		return err
	},
	"ldap": func(c net.Conn, r *bufio.Reader) error {
		if _, err := io.ReadFull(r, make([]byte, 31)); err != nil {
			return err
		}
		_, err := c.Write([]byte{0x30, 12, 2, 1, 1, 0x78, 7, 0x0A, 1, 0, 4, 0, 4, 0})
		return err
	},
}

func lines(c net.Conn, r *bufio.Reader, script ...string) error {
	for i, s := range script {
		if i%2 == 0 {
			if _, err := io.WriteString(c, s); err != nil {
				return err
			}
			continue
		}
		got, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.HasPrefix(got, s) {
			return fmt.Errorf("got %q, want %q", got, s)
		}
	}
	return nil
}

func TestStartTLS(t *testing.T) {
	for _, name := range Protocols {
		t.Run(name, func(t *testing.T) {
			port := serve(t, config(t), func(c net.Conn) error { return dialogues[name](c, bufio.NewReaderSize(oneByte{c}, 16)) })
			s := look(t.Context(), "127.0.0.1:"+port, "right.test", 0, Target{Host: "127.0.0.1", StartTLS: name})
			if s.Err != nil || len(s.Chain) != 1 {
				t.Errorf("%v, %d certificates", s.Err, len(s.Chain))
			}
		})
	}
}

// oneByte keeps the test's reader from swallowing the beginning of TLS.
type oneByte struct{ net.Conn }

func (o oneByte) Read(b []byte) (int, error) { return o.Conn.Read(b[:min(1, len(b))]) }

func TestStartTLSRefused(t *testing.T) {
	for name, c := range map[string]struct{ protocol, says, want string }{
		"no STARTTLS":  {"smtp", "220 hi\r\n250 hi\r\n502 what?\r\n", "502 what?"},
		"bytes before": {"smtp", "220 hi\r\n250 hi\r\n220 go\r\n250 injected\r\n", "more than its answer"},
		"endless":      {"pop3", strings.Repeat("x", 10000), "too long"},
		"postgres no":  {"postgres", "N", "answers"},
		"no mysql":     {"mysql", "\xff\xff\xff\x00", "no MySQL"},
		"no ldap":      {"ldap", "HTTP/1.1 400", "LDAP"},
		"xmpp never":   {"xmpp", strings.Repeat("<x>", 40000), "come to an end"},
		"unknown":      {"gopher", "", "no STARTTLS for"},
		"imap never":   {"imap", "* OK\r\n" + strings.Repeat("* x\r\n", 200), "come to an end"},
		"smtp never":   {"smtp", strings.Repeat("220-x\r\n", 200), "220-x"},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := net.Pipe()
			defer client.Close()
			defer server.Close()
			client.SetDeadline(time.Now().Add(3 * time.Second))
			go io.Copy(io.Discard, server)
			go io.WriteString(server, c.says)
			err := startTLS(client, c.protocol, "x.test")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestProbeFails(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := Probe(ctx, Target{Host: "127.0.0.1", Port: "1"}); err == nil {
		t.Error("nothing listens there, and it worked")
	}
}
