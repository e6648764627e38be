package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
)

// apiClient calls the API with a credential: key, certificate, and the root by
// which it recognises the service.
type apiClient struct {
	url  string
	http *http.Client
}

// clientFlags are how a command finds its service.
type clientFlags struct{ state, credential, server string }

func (f *clientFlags) add(cmd *cobra.Command) {
	stateFlag(cmd, &f.state)
	cmd.Flags().StringVar(&f.credential, "credential", "", "directory with key.pem, cert.pem and ca.pem (default operator in the state directory)")
	cmd.Flags().StringVar(&f.server, "server", "", "https://HOST:PORT of the service (default: where the server of the state directory listens)")
}

func (f *clientFlags) open() (*apiClient, error) {
	dir := f.credential
	if dir == "" {
		state, err := stateDir(f.state)
		if err != nil {
			return nil, err
		}
		dir = filepath.Join(state, dirOperator)
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, credentialCert), filepath.Join(dir, credentialKey))
	if errors.Is(err, os.ErrPermission) {
		return nil, withHint(fmt.Errorf("reading the credential in %s: %w", dir, err), "run it as the user whose it is (ls -ld %s), or with a credential of your own: --credential DIR", dir)
	}
	if err != nil {
		return nil, withHint(fmt.Errorf("reading the credential in %s: %w", dir, err), "vouchsafe init, or --credential DIR")
	}
	text, err := os.ReadFile(filepath.Join(dir, credentialCA))
	if err != nil {
		return nil, fmt.Errorf("reading the credential in %s: %w", dir, err)
	}
	root, err := parseCertificate(text)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Join(dir, credentialCA), err)
	}
	address := f.server
	if address != "" {
		if err := checkServer(address); err != nil {
			return nil, err
		}
	} else {
		b, err := os.ReadFile(filepath.Join(dir, filepath.Base(fileURL)))
		if err != nil {
			return nil, withHint(errors.New("no server runs on this state directory"), "vouchsafe server (or up), or --server https://HOST:PORT")
		}
		address = strings.TrimSpace(string(b))
	}
	return newClient(address, cert, root), nil
}

// call asks the service one thing, as most commands do.
func (f *clientFlags) call(ctx context.Context, method, path string, in, out any) error {
	c, err := f.open()
	if err != nil {
		return err
	}
	return c.call(ctx, method, path, in, out)
}

func newClient(address string, cert tls.Certificate, root *x509.Certificate) *apiClient {
	pool := x509.NewCertPool()
	pool.AddCert(root)
	config := &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: pool, Certificates: []tls.Certificate{cert},
		// A VM's certificate chains to the same root and may name any host: the
		// service is recognised by its own kind of name.
		VerifyConnection: func(cs tls.ConnectionState) error {
			name, err := ca.NameOf(cs.PeerCertificates[0])
			if err == nil && name.Kind != ca.KindService {
				err = fmt.Errorf("it is %s, not the service", name)
			}
			return err
		},
	}
	return &apiClient{strings.TrimSuffix(address, "/"), &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}}}
}

// maxAnswer bounds what a server may send.
const maxAnswer = 16 << 20

// call sends in as JSON, if it is not nil, and reads the answer into out.
func (c *apiClient) call(ctx context.Context, method, path string, in, out any) error {
	return c.callOnce(ctx, method, path, "", in, out)
}

// callOnce is call with an idempotency key.
func (c *apiClient) callOnce(ctx context.Context, method, path, key string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := c.http.Do(req)
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // without the method and the address of the request
	}
	if err != nil {
		return withHint(fmt.Errorf("calling the service at %s: %w", c.url, err), "is it running? vouchsafe server (or up)")
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("reading the service's answer: %w", err)
	}
	if resp.StatusCode >= 300 {
		return problem(method, path, resp.Status, data)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("reading the service's answer: %w", err)
	}
	return nil
}

// answered is an error that the service sent.
type answered struct {
	error
	status int
}

func (e answered) Unwrap() error { return e.error }

// notFound says whether what was asked for is not there.
func notFound(err error) bool {
	var a answered
	return errors.As(err, &a) && a.status == http.StatusNotFound
}

// problem reads what the service sent in place of an answer.
func problem(method, path, status string, data []byte) error {
	var p struct {
		api.Problem
		Errors []struct{ Message, Location string } `json:"errors"`
	}
	if json.Unmarshal(data, &p) != nil || p.Detail == "" {
		return fmt.Errorf("%s %s: the service answers %s", method, path, status)
	}
	if len(p.Errors) > 0 { // a value outside what the API takes
		var all []string
		for _, e := range p.Errors {
			_, name, _ := strings.Cut(e.Location, ".")
			all = append(all, strings.TrimPrefix(name+": "+e.Message, ": "))
		}
		return usageError{errors.New(strings.Join(all, "; "))}
	}
	err := error(answered{errors.New(p.Detail), p.Status})
	switch p.Code {
	case enroll.NameInvalid, enroll.KeyUnfit, enroll.RequestInvalid:
		err = usageError{err}
	}
	hint := p.Hint
	if p.Code == "NOT_FOUND" {
		if list := listOf(path); list != "" {
			hint = list
		}
	}
	if hint != "" {
		return withHint(err, "%s", hint)
	}
	return err
}

// listOf is the command that shows what there is of the kind that a path names.
func listOf(asked string) string {
	if owner, _, ok := strings.Cut(asked, "/policy/modules/"); ok {
		return "vouchsafe policy modules " + unescaped(owner)
	}
	if owner, version, ok := strings.Cut(asked, "/policy/"); ok && version != "" && version[0] >= '0' && version[0] <= '9' {
		if strings.HasPrefix(owner, "/v1/hosts/") {
			return "vouchsafe policy show --host " + unescaped(owner)
		}
		return "vouchsafe policy show " + unescaped(owner)
	}
	for _, l := range [][2]string{{"/v1/vms/", "vouchsafe vm list"}, {"/v1/vms", "vouchsafe host list"}, {"/v1/hosts/", "vouchsafe host list"},
		{"/v1/certificates/", "vouchsafe ca list"}, {"/v1/keys", "vouchsafe key list"}} {
		if strings.HasPrefix(asked, l[0]) {
			return l[1]
		}
	}
	return ""
}

// unescaped is the last word of a path.
func unescaped(p string) string {
	name, err := url.PathUnescape(path.Base(p))
	if err != nil {
		return "NAME"
	}
	return name
}

// checkServer wants what --server takes.
func checkServer(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" && u.Path != "/" {
		return withHint(usageError{fmt.Errorf("--server %q is no address of a service", address)}, "--server https://HOST:PORT")
	}
	return nil
}
