package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/vouchsafe/vouchsafe/chain"
)

func newChainCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "chain",
		Short: "Name every fault of a certificate chain, and mend it",
	}
	cmd.AddCommand(newChainCheckCommand(a), newChainFixCommand(a), newChainExplainCommand(a), newChainPoolCommand(a))
	return cmd
}

// chainFlags is what check and fix have in common.
type chainFlags struct {
	name, at, roots, key, passwordFile string
	purpose, profile                   string
	intermediates, crls, ocsp          []string
	uncertainty                        time.Duration
	fetch                              bool
	starttls                           string

	given    []*chain.Cert // from --intermediates
	imported *chain.Store  // those and the imported pool; nil until a file needs it
}

func (f *chainFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.name, "name", "", "host name or address that clients ask for")
	fl.StringVar(&f.at, "time", "", "moment of the check: 2006-01-02, 2006-01-02T15:04:05Z or @seconds (default: now)")
	fl.DurationVar(&f.uncertainty, "time-uncertainty", 0, "how far the clock may be off, such as 5m")
	fl.StringVar(&f.roots, "roots", "", "file or directory of trusted roots (default: the system's)")
	fl.StringArrayVar(&f.intermediates, "intermediates", nil, "file or directory of intermediates to choose from; may be repeated")
	fl.StringVar(&f.key, "key", "", "private key (or public key) that belongs to the certificate")
	fl.StringArrayVar(&f.crls, "crl", nil, "certificate revocation list; may be repeated")
	fl.StringArrayVar(&f.ocsp, "ocsp", nil, "OCSP response; may be repeated")
	fl.StringVar(&f.passwordFile, "password-file", "", "file with the password of a PKCS #12 file or a Java keystore")
	fl.StringVar(&f.purpose, "purpose", "server", "what the certificate is for: server, client, ca, codesign or module")
	fl.StringVar(&f.profile, "profile", "private", "whose rules apply: private, or webpki for the CA/Browser Forum's")
}

// options reads everything the flags name.
func (f *chainFlags) options() (chain.Options, error) {
	o := chain.Options{
		Name: f.name, Time: time.Now(), TimeUncertainty: f.uncertainty,
		Purpose: chain.Purpose(f.purpose), Profile: chain.Profile(f.profile),
	}
	if !slices.Contains([]chain.Purpose{chain.Server, chain.Client, chain.CA, chain.CodeSign, chain.Module}, o.Purpose) {
		return o, usageError{fmt.Errorf("unknown purpose %q: server, client, ca, codesign or module", f.purpose)}
	}
	if o.Profile != chain.Private && o.Profile != chain.WebPKI {
		return o, usageError{fmt.Errorf("unknown profile %q: private or webpki", f.profile)}
	}
	if f.uncertainty < 0 {
		return o, usageError{errors.New("--time-uncertainty is negative")}
	}
	if f.at != "" {
		t, err := parseTime(f.at)
		if err != nil {
			return o, err
		}
		o.Time = t
	}
	roots, err := f.readRoots()
	if err != nil {
		return o, err
	}
	o.Roots = chain.NewRoots(roots)
	for _, p := range f.intermediates {
		certs, err := readCerts(p)
		if err != nil {
			return o, err
		}
		f.given = append(f.given, certs...)
	}
	o.Pool = chain.NewPool(f.given)
	if f.passwordFile != "" {
		b, err := readUpTo(f.passwordFile, 4096)
		if err != nil {
			return o, fmt.Errorf("reading the password: %w", err)
		}
		o.Password = strings.TrimRight(string(b), "\r\n")
	}
	if f.key != "" {
		b, err := readUpTo(f.key, chain.MaxFile)
		if err != nil {
			return o, fmt.Errorf("reading the key: %w", err)
		}
		if o.Key = chain.PublicKeyOf(b, o.Password); o.Key == nil {
			return o, withHint(fmt.Errorf("reading the key: %s holds no key that can be read", f.key), "an encrypted key must be decrypted first: openssl pkey -in %s -out key.pem", f.key)
		}
	}
	for _, list := range []struct {
		paths []string
		into  *[][]byte
	}{{f.crls, &o.CRLs}, {f.ocsp, &o.OCSP}} {
		for _, p := range list.paths {
			b, err := readUpTo(p, chain.MaxBundle)
			if err != nil {
				return o, err
			}
			*list.into = append(*list.into, b)
		}
	}
	return o, nil
}

func parseTime(s string) (time.Time, error) {
	if sec, ok := strings.CutPrefix(s, "@"); ok {
		if n, err := strconv.ParseInt(sec, 10, 64); err == nil {
			return time.Unix(n, 0).UTC(), nil
		}
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usageError{fmt.Errorf("reading the time %q: 2006-01-02, 2006-01-02T15:04:05Z or @seconds are known", s)}
}

// systemRoots are where distributions keep their trust store as one file.
var systemRoots = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/ca-bundle.pem", "/etc/pki/tls/cacert.pem", "/etc/ssl/cert.pem",
}

func (f *chainFlags) readRoots() ([]*chain.Cert, error) {
	if f.roots != "" {
		certs, err := readCerts(f.roots)
		if err == nil && len(certs) == 0 {
			err = withHint(fmt.Errorf("reading roots: %s holds no certificate", f.roots), "vouchsafe chain check %s", f.roots)
		}
		return certs, err
	}
	files := systemRoots
	if env := os.Getenv("SSL_CERT_FILE"); env != "" {
		files = []string{env}
	}
	for _, file := range files {
		if certs, err := readCerts(file); err == nil && len(certs) > 0 {
			return certs, nil
		}
	}
	return nil, withHint(errors.New("reading roots: this system has no trust store that we know"), "name one with --roots; on Debian: apt-get install ca-certificates")
}

// pool reads the imported pool, once, when the first file is not in order: it
// may hold five thousand certificates, which take half a second to parse.
func (f *chainFlags) pool() (*chain.Store, error) {
	if f.imported != nil {
		return f.imported, nil
	}
	all := f.given
	if dir, err := poolDir(); err == nil { // without a home there is no pool
		certs, err := readCerts(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("reading the imported pool: %w", err)
		}
		all = append(all, certs...)
	}
	f.imported = chain.NewPool(all)
	return f.imported, nil
}

// readCerts reads a file, or every file of a directory.
func readCerts(path string) ([]*chain.Cert, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		b, err := readUpTo(path, chain.MaxBundle)
		if err != nil {
			return nil, err
		}
		return chain.ReadBundle(b), nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var all []*chain.Cert
	for _, e := range entries {
		full := filepath.Join(path, e.Name())
		if st, err := os.Stat(full); err != nil || !st.Mode().IsRegular() {
			continue
		}
		b, err := readUpTo(full, chain.MaxBundle)
		if err != nil {
			return nil, err
		}
		all = append(all, chain.ReadBundle(b)...)
	}
	return all, nil
}

// readUpTo reads a file of at most limit bytes, and one more of a longer
// one, so that whoever looks at it sees that it is too long.
func readUpTo(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit+1))
}

// readInput reads one FILE, or standard input for "-".
func (a *app) readInput(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(io.LimitReader(a.in, chain.MaxFile+1))
	}
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && strings.Contains(path, ".") && !strings.ContainsAny(path, "/\\:") {
		return nil, withHint(err, "a server is named with its port: %s:443", path)
	}
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		return nil, withHint(fmt.Errorf("reading %s: it is a directory", path), "name the files in it: %s/*", strings.TrimRight(path, "/"))
	}
	return readUpTo(path, chain.MaxFile)
}

// looksRemote says that an argument is HOST:PORT and no file.
func looksRemote(arg string) bool {
	if _, err := os.Lstat(arg); err == nil || arg == "-" {
		return false
	}
	i := strings.LastIndexByte(arg, ':')
	if i <= 0 || strings.ContainsAny(arg, "/\\") {
		return false
	}
	n, err := strconv.Atoi(arg[i+1:])
	return err == nil && n > 0 && n < 65536
}

// fromURL is the HOST:PORT of an https address, as people copy it out of a
// browser; any other argument stays as it is.
func fromURL(arg string) string {
	u, err := url.Parse(arg)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return arg
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// poolDir is where imported intermediates are kept.
func poolDir() (string, error) {
	if d := os.Getenv("XDG_DATA_HOME"); d != "" {
		return filepath.Join(d, "vouchsafe", "pool"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".local", "share", "vouchsafe", "pool"), nil
}

// check checks one input, with the imported pool when it is not in order
// without, and with what AIA brings when that was asked for.
func (f *chainFlags) check(ctx context.Context, input string, data []byte, o chain.Options) (*chain.Report, chain.Options, error) {
	r := chain.Check(input, data, o)
	if r.Verdict != chain.OK {
		pool, err := f.pool()
		if err != nil {
			return nil, o, err
		}
		if pool.Len() > o.Pool.Len() {
			o.Pool = pool
			r = chain.Check(input, data, o)
		}
	}
	if f.fetch {
		r, o = fetchAndCheck(ctx, input, data, r, o)
	}
	return r, o, nil
}
