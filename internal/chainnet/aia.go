// Package chainnet is the network side of chain: it fetches intermediates from
// the addresses in certificates (AIA), and looks at what a server sends, with
// and without a server name, per address and TLS version.
//
// It hands bytes to package chain and judges no certificate itself. Everything
// it reads comes from strangers and is bounded. Begin with [FetchIssuers] and
// [Probe].
package chainnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"github.com/vouchsafe/vouchsafe/chain"
)

// Bounds of fetching. RFC 5280, Section 8 warns of following addresses that a
// stranger wrote.
const (
	maxFetches    = 12              // a chain lacks one to three certificates
	maxLevels     = 6               // from the leaf to a root
	maxAnswer     = 256 << 10       // an issuer, or a PKCS #7 bundle of a few
	fetchTimeout  = 5 * time.Second // for one address
	maxRedirects  = 3
	totalDeadline = 20 * time.Second
)

// Fetched is what following AIA brought.
type Fetched struct {
	Certs  []*chain.Cert
	Errors []error // addresses that gave nothing
}

// FetchIssuers follows the caIssuers addresses of certs, and of what they lead
// to, until it meets self-signed certificates, a loop or a bound. Only plain
// HTTP is followed: what is fetched is signed, and HTTPS would need a chain of
// its own (RFC 5280, Section 8).
func FetchIssuers(ctx context.Context, certs []*chain.Cert) *Fetched {
	ctx, cancel := context.WithTimeout(ctx, totalDeadline)
	defer cancel()
	client := newClient()
	defer client.CloseIdleConnections()
	out := &Fetched{}
	asked := map[string]bool{}
	have := map[string]bool{}
	for _, c := range certs {
		have[c.SHA256()] = true
	}
	for level := 0; level < maxLevels && len(certs) > 0; level++ {
		var next []*chain.Cert
		for _, c := range certs {
			if c.X == nil || c.SelfIssued() {
				continue
			}
			for _, u := range c.X.IssuingCertificateURL {
				if asked[u] || len(asked) >= maxFetches {
					continue
				}
				asked[u] = true
				got, err := fetch(ctx, client, u)
				if err != nil {
					out.Errors = append(out.Errors, err)
					continue
				}
				for _, g := range got {
					if !have[g.SHA256()] {
						have[g.SHA256()] = true
						next = append(next, g)
					}
				}
			}
		}
		out.Certs = append(out.Certs, next...)
		certs = next
	}
	return out
}

var errNotHTTP = errors.New("only http:// is followed")

func fetch(ctx context.Context, client *http.Client, address string) ([]*chain.Cert, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("fetching %.100q: %w", address, errNotHTTP)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("fetching %.100q: %w", address, err)
	}
	req.Header.Set("Accept", "application/pkix-cert, application/pkcs7-mime")
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetching %.100q: %w", address, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetching %.100q: the server says %s", address, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("fetching %.100q: %w", address, err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("fetching %.100q: more than %d bytes", address, maxAnswer)
	}
	certs := chain.ReadBundle(body)
	if len(certs) == 0 {
		return nil, fmt.Errorf("fetching %.100q: no certificate in the answer", address)
	}
	return certs[:min(len(certs), 16)], nil
}

// newClient makes a client that uses no proxy credentials, keeps no cookies and
// refuses addresses that no CA has: link-local ones are where clouds keep the
// secrets of a machine.
func newClient() *http.Client {
	dialer := &net.Dialer{Timeout: fetchTimeout, Control: func(_, address string, _ syscall.RawConn) error {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return err
		}
		if ip, err := netip.ParseAddr(host); err == nil && (ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified()) {
			return fmt.Errorf("%s is no address of a CA", ip)
		}
		return nil
	}}
	return &http.Client{
		Transport: &http.Transport{DialContext: dialer.DialContext, Proxy: http.ProxyFromEnvironment, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects || req.URL.Scheme != "http" {
				return errNotHTTP
			}
			return nil
		},
	}
}
