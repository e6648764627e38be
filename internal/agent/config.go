package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/attester"
	"github.com/vouchsafe/vouchsafe/internal/durable"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// Names of what an agent is given, in a directory or by QEMU's fw_cfg:
//
//	-fw_cfg name=opt/org.vouchsafe/url,string=https://… -fw_cfg name=opt/org.vouchsafe/ca.pem,file=… (and cert.pem, key.pem)
const (
	FileURL      = "url"
	FileCA       = "ca.pem"
	FileCert     = "cert.pem"
	FileKey      = "key.pem"
	FileIdentity = "identity.pem" // the agent writes it: the VM's certificate and chain
	// Of what follows none is needed: each pins what the files before it bring. On
	// the kernel's command line, which is measured, a pin is part of the approved boot.
	FileFingerprint = "fingerprint" // SHA-256 of the CA certificate in hex; vouchsafe.ca=
	FileVM          = "vm"          // name of the VM; vouchsafe.vm=
)

// Sources are where an agent looks for what it is given. The first that has a
// file counts; the address may also be on the kernel's command line.
type Sources struct {
	Dir         string // of the credential
	FwCfg       string // directory of QEMU's fw_cfg entries
	CommandLine string // file with the kernel's command line
}

// maxGiven bounds a file that an agent is given.
const maxGiven = 64 << 10

// Given is what was found.
type Given struct {
	URL      string
	Root     *x509.Certificate
	Client   tls.Certificate
	Identity []*x509.Certificate // nil: none yet
}

// Load reads what the agent is given. url, if not empty, overrides the address.
func (s Sources) Load(url string) (Given, error) {
	var g Given
	if g.URL = url; g.URL == "" {
		g.URL = s.fromCommandLine("vouchsafe.url=")
	}
	if g.URL == "" {
		b, err := s.read(FileURL)
		if err != nil {
			return g, fmt.Errorf("finding the service's address: %w", err)
		}
		g.URL = strings.TrimSpace(string(b))
	}
	ca, err := s.read(FileCA)
	if err != nil {
		return g, fmt.Errorf("finding the service's CA: %w", err)
	}
	roots, err := certificates(string(ca))
	if err != nil || len(roots) != 1 {
		return g, fmt.Errorf("reading %s: want exactly one certificate: it is the one that is believed", FileCA)
	}
	g.Root = roots[0]
	for where, pin := range s.pins("vouchsafe.ca=", FileFingerprint) {
		if got := Fingerprint(g.Root); !strings.EqualFold(strings.TrimPrefix(pin, "sha256:"), got) {
			return g, fmt.Errorf("%s is another CA than %s says: its SHA-256 is %s", FileCA, where, got)
		}
	}
	cert, err := s.read(FileCert)
	if err != nil {
		return g, fmt.Errorf("finding the agent's credential: %w", err)
	}
	key, err := s.read(FileKey)
	if err != nil {
		return g, fmt.Errorf("finding the agent's credential: %w", err)
	}
	defer clear(key)
	if g.Client, err = tls.X509KeyPair(cert, key); err != nil {
		return g, fmt.Errorf("reading the agent's credential: %w", err)
	}
	for where, pin := range s.pins("vouchsafe.vm=", FileVM) {
		self, err := attester.Service{Client: g.Client}.Self()
		if err != nil {
			return g, fmt.Errorf("reading the agent's credential: %w", err)
		}
		if self.Name != pin {
			return g, fmt.Errorf("%s is the credential of %s; this is %s, as %s says", FileCert, self.Name, pin, where)
		}
	}
	if text, err := os.ReadFile(filepath.Join(s.Dir, FileIdentity)); err == nil {
		if g.Identity, err = certificates(string(text)); err != nil {
			return g, err
		}
	}
	return g, nil
}

// ErrNotGiven means that a file which the agent has to be given is nowhere.
var ErrNotGiven = errors.New("there is neither")

func (s Sources) read(name string) ([]byte, error) {
	var tried []string
	for _, path := range []string{filepath.Join(s.Dir, name), filepath.Join(s.FwCfg, name, "raw")} {
		b, err := os.ReadFile(path)
		if err == nil && len(b) <= maxGiven {
			return bytes.Trim(b, "\x00"), nil
		}
		if err == nil {
			return nil, fmt.Errorf("%s has %d bytes; the limit is %d", path, len(b), maxGiven)
		}
		tried = append(tried, path)
	}
	return nil, fmt.Errorf("%w %s", ErrNotGiven, strings.Join(tried, " nor "))
}

// pins are what the command line and a file say about one thing, by where they
// say it. All of them must hold.
func (s Sources) pins(word, file string) map[string]string {
	out := map[string]string{}
	if v := s.fromCommandLine(word); v != "" {
		out["the kernel's command line"] = v
	}
	if b, err := s.read(file); err == nil {
		out[file] = strings.TrimSpace(string(b))
	}
	return out
}

// Fingerprint is the SHA-256 of a certificate, in hex.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

func (s Sources) fromCommandLine(prefix string) string {
	b, err := os.ReadFile(s.CommandLine)
	if err != nil {
		return ""
	}
	for _, word := range strings.Fields(string(b)) {
		if v, ok := strings.CutPrefix(word, prefix); ok {
			return v
		}
	}
	return ""
}

// IdentityCredential is the VM's certificate with its key in the TPM, for
// renewing without the first credential. Unload the key afterwards.
func IdentityCredential(tpm *client.Client, chain []*x509.Certificate) (tls.Certificate, *client.Key, error) {
	key, err := tpm.CreatePrimary(client.Hierarchy(tpm2.RHOwner, nil), client.TLSTemplate(client.P384))
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("making the identity key: %w", err)
	}
	c, err := (&Admission{Chain: chain, Identity: key, TPM: tpm}).TLS()
	return c, key, err
}

// SaveIdentity writes the certificate and its chain; the key is in the TPM.
func SaveIdentity(dir string, adm *Admission) error {
	var out []byte
	for _, c := range adm.Chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// Another agent of this VM may renew at this moment, and durable has one name for
	// what is not whole yet: the later one waits. The lock goes with its process.
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("locking %s: %w", dir, err)
	}
	return durable.WriteFile(filepath.Join(dir, FileIdentity), out, 0o644)
}

// pause is between two tries. It is also how often somebody at the console
// reads that the machine is waiting, and for what.
const pause = 3 * time.Second

// Wait tries until do succeeds, the service says a no that will not change, or
// the time is over. say is told what is waited for, and how long still.
func Wait(ctx context.Context, most time.Duration, say func(why error, left time.Duration), do func(context.Context) error) error {
	end := time.Now().Add(most)
	bounded, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	var before error
	for {
		err := do(bounded)
		if err == nil || !passing(err) || ctx.Err() != nil {
			return err
		}
		if bounded.Err() != nil && before != nil {
			err = before // the last try was cut short: its reason is ours
		}
		left := time.Until(end)
		if left < pause {
			return fmt.Errorf("gave up after %v: %w", most, err)
		}
		say(err, left.Round(time.Second))
		before = err
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// ofTheMoment are refusals that may end by themselves: an operator approves the
// boot, the host proves itself or says what it counted, a budget fills up.
var ofTheMoment = map[string]bool{"REFERENCE_MISSING": true, "NONCE_STALE": true, "NONCE_FOREIGN": true, "BUDGET_SPENT": true,
	"TPM_RESET_UNSEEN": true, "HOST_QUOTE_STALE": true, "VTPM_NOT_QUOTED": true}

// passing says whether waiting may help: the service is not reachable or busy, or
// nobody has approved this boot yet. Every other no is final for this boot.
func passing(err error) bool {
	var r *attester.Refused
	if errors.As(err, &r) {
		return r.Status >= 500 || ofTheMoment[r.Code]
	}
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	if errors.As(err, &unknown) || errors.As(err, &invalid) || errors.As(err, &host) {
		return false // who answers is not our service
	}
	var tpm *client.CommandError
	return !errors.As(err, &tpm) && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, attester.ErrAddress)
}
