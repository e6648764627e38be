package chainnet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// Bounds of probing.
const (
	probeTimeout = 10 * time.Second // one handshake, STARTTLS included
	maxAddresses = 8                // of one name
	maxHandshake = 1 << 20          // bytes read in one handshake; OpenSSL stops at 100 kB of certificates
)

// Sight is what one handshake showed.
type Sight struct {
	Address string // IP and port
	Sent    string // server name that was sent, "" for none
	Version uint16 // TLS version wanted, 0 for the best
	Got     uint16 // TLS version agreed on
	Chain   [][]byte
	OCSP    []byte
	Bytes   int // read until the handshake was done: the server's first flight
	Err     error
}

// Leaf is the first certificate, nil when there was none.
func (s Sight) Leaf() []byte {
	if len(s.Chain) == 0 {
		return nil
	}
	return s.Chain[0]
}

// PEM is the chain as the server sent it.
func (s Sight) PEM() []byte {
	var b strings.Builder
	for _, der := range s.Chain {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return []byte(b.String())
}

// Target is whom to ask.
type Target struct {
	Host, Port string
	Name       string // server name to send; Host when empty
	StartTLS   string
}

func (t Target) name() string {
	if t.Name != "" {
		return t.Name
	}
	return t.Host
}

// wrongName is a name that no server has (RFC 2606).
const wrongName = "no-such-name.invalid"

// Probe looks at every address of a target: with the right server name first,
// then without one and with a wrong one, and in TLS 1.2 and 1.3.
func Probe(ctx context.Context, t Target) ([]Sight, error) {
	name := t.name()
	addrs, err := net.DefaultResolver.LookupIPAddr(ctx, strings.Trim(t.Host, "[]"))
	if err != nil {
		return nil, fmt.Errorf("looking up %s: %w", t.Host, err)
	}
	var sights []Sight
	for i, a := range addrs[:min(len(addrs), maxAddresses)] {
		at := net.JoinHostPort(a.String(), t.Port)
		first := look(ctx, at, name, 0, t)
		sights = append(sights, first)
		if first.Err != nil && len(first.Chain) == 0 || i > 0 {
			continue // one address is enough to learn how the server chooses
		}
		sights = append(sights,
			look(ctx, at, "", 0, t),
			look(ctx, at, wrongName, 0, t),
			look(ctx, at, name, tls.VersionTLS12, t),
			look(ctx, at, name, tls.VersionTLS13, t),
		)
	}
	for _, s := range sights {
		if len(s.Chain) > 0 {
			return sights, nil
		}
	}
	if len(sights) == 0 {
		return nil, fmt.Errorf("looking up %s: it has no address", t.Host)
	}
	return nil, fmt.Errorf("connecting to %s: %w", sights[0].Address, sights[0].Err)
}

// look does one handshake and takes the certificates whatever they are worth:
// judging them is package chain's work.
func look(ctx context.Context, at, name string, version uint16, t Target) Sight {
	s := Sight{Address: at, Sent: name, Version: version}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", at)
	if err != nil {
		s.Err = err
		return s
	}
	defer raw.Close()
	if deadline, ok := ctx.Deadline(); ok {
		raw.SetDeadline(deadline)
	}
	if err := startTLS(raw, t.StartTLS, t.name()); err != nil {
		s.Err = err
		return s
	}
	counted := &countingConn{Conn: raw}
	cfg := &tls.Config{
		ServerName:         strings.Trim(name, "[]"),
		InsecureSkipVerify: true, // we look, we trust nothing
		MinVersion:         tls.VersionTLS10,
		VerifyPeerCertificate: func(chain [][]byte, _ [][]*x509.Certificate) error {
			s.Chain = chain
			return nil
		},
	}
	if net.ParseIP(cfg.ServerName) != nil {
		cfg.ServerName = ""
	}
	if version != 0 {
		cfg.MinVersion, cfg.MaxVersion = version, version
	}
	conn := tls.Client(counted, cfg)
	s.Err = conn.HandshakeContext(ctx)
	s.Bytes = int(counted.n.Load())
	if s.Err == nil {
		st := conn.ConnectionState()
		s.Got, s.OCSP = st.Version, st.OCSPResponse
	}
	return s
}

// countingConn counts what is read, and stops a server that talks on.
type countingConn struct {
	net.Conn
	n atomic.Int64
}

func (c *countingConn) Read(b []byte) (int, error) {
	if c.n.Load() > maxHandshake {
		return 0, fmt.Errorf("more than %d bytes in the handshake", maxHandshake)
	}
	n, err := c.Conn.Read(b)
	c.n.Add(int64(n))
	return n, err
}
