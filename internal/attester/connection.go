package attester

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/attest"
)

// Limits.
const (
	// maxAnswer: a certificate chain, an appraisal and a share are below 64 KiB;
	// the list of a thousand vTPMs of a host is below 1 MiB.
	maxAnswer = 4 << 20
	// callTime bounds one request.
	callTime = 30 * time.Second
	// dialTime bounds the wait for a connection: so often a person at a console reads that there is none.
	dialTime = 10 * time.Second
)

// ErrAddress means that no waiting helps: the address must be another one.
var ErrAddress = errors.New("that is no address of a service; want https://HOST:PORT")

// Service is whom to prove oneself to, and as whom.
type Service struct {
	URL    string            // https://HOST:PORT
	Root   *x509.Certificate // the one CA that is believed
	Client tls.Certificate
}

// Refused is a no of the service, with its code.
type Refused struct {
	Status             int
	Code, Detail, Hint string
}

func (r *Refused) Error() string { return r.Detail }

// Connection is one TLS connection, and HTTP over it alone.
type Connection struct {
	Exporter []byte // what evidence over it is bound to; see attest.ExporterLabel

	base string
	http *http.Client
	tls  *tls.Conn
}

// Connect opens a connection. Who answers must have a name of the service's kind.
func (s Service) Connect(ctx context.Context) (*Connection, error) {
	u, err := url.Parse(s.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%.100q: %w", s.URL, ErrAddress)
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "443")
	}
	pool := x509.NewCertPool()
	pool.AddCert(s.Root)
	// The service trusts its own intermediates. One that came along it would verify
	// a second way, as one between, and a thousand guests do this at once.
	self := s.Client
	self.Certificate = self.Certificate[:min(1, len(self.Certificate))]
	config := &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: pool, ServerName: u.Hostname(), Certificates: []tls.Certificate{self}, NextProtos: []string{"http/1.1"},
		// A VM's certificate chains to the same root: the service has its own kind of name.
		VerifyConnection: func(cs tls.ConnectionState) error {
			n, err := NameOf(cs.PeerCertificates[0])
			if err == nil && n.Kind != "service" {
				err = fmt.Errorf("who answers is a %s, not the service", n.Kind)
			}
			return err
		},
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	raw, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, fmt.Errorf("connecting to the service at %s: %w", host, err)
	}
	c := &Connection{base: "https://" + u.Host, tls: raw.(*tls.Conn)}
	state := c.tls.ConnectionState()
	if c.Exporter, err = state.ExportKeyingMaterial(attest.ExporterLabel, nil, 32); err != nil {
		c.tls.Close()
		return nil, err
	}
	used := false
	c.http = &http.Client{Timeout: callTime, Transport: &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		if used {
			return nil, errors.New("the connection was lost, and the evidence was made for it")
		}
		used = true
		return c.tls, nil
	}}}
	return c, nil
}

// Close ends it.
func (c *Connection) Close() {
	c.http.CloseIdleConnections()
	c.tls.Close()
}

// Call sends in as JSON, if it is not nil, and reads the answer into out. A no is a [*Refused].
func (c *Connection) Call(ctx context.Context, method, path string, in, out any) error {
	var data []byte
	if in != nil {
		var err error
		if data, err = json.Marshal(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("calling the service: %w", err)
	}
	defer resp.Body.Close()
	if data, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return fmt.Errorf("reading the service's answer: %w", err)
	}
	if resp.StatusCode >= 300 {
		r := &Refused{Status: resp.StatusCode}
		if json.Unmarshal(data, r) != nil || r.Detail == "" {
			r.Detail = "the service answers " + resp.Status
		}
		return r
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}

// Call sends one request over a connection of its own.
func (s Service) Call(ctx context.Context, method, path string, in, out any) error {
	c, err := s.Connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Call(ctx, method, path, in, out)
}

// Name is who a certificate of the service names.
type Name struct{ Domain, Tenant, Kind, Name string }

// NameOf reads the SPIFFE ID of a certificate of the service.
func NameOf(c *x509.Certificate) (Name, error) {
	if len(c.URIs) != 1 || c.URIs[0].Scheme != "spiffe" {
		return Name{}, errors.New("the certificate has no name of this service's kind")
	}
	parts := strings.Split(c.URIs[0].Path, "/")
	if len(parts) != 4 || parts[0] != "" {
		return Name{}, errors.New("the certificate has no name of this service's kind")
	}
	return Name{c.URIs[0].Host, parts[1], parts[2], parts[3]}, nil
}

// Self reads the name in the client certificate.
func (s Service) Self() (Name, error) {
	leaf, err := leafOf(s.Client)
	if err != nil {
		return Name{}, err
	}
	return NameOf(leaf)
}

func leafOf(c tls.Certificate) (*x509.Certificate, error) {
	if c.Leaf != nil {
		return c.Leaf, nil
	}
	if len(c.Certificate) == 0 {
		return nil, errors.New("there is no client certificate")
	}
	return x509.ParseCertificate(c.Certificate[0])
}
