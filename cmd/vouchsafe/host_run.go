package main

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/attester"
	"github.com/vouchsafe/vouchsafe/internal/durable"
	"github.com/vouchsafe/vouchsafe/internal/host"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// Where a host keeps things below the state directory.
const (
	dirHost    = "host"    // its credential
	dirVTPMs   = "vtpms"   // a directory for each vTPM
	dirSockets = "sockets" // NAME.sock
)

// The host's own TPM, where Linux has it.
const (
	defaultTPM      = "/dev/tpmrm0"
	defaultEventLog = "/sys/kernel/security/tpm0/binary_bios_measurements"
)

// hostOptions are how a host carries vTPMs.
type hostOptions struct {
	sockets, group, tpm, eventLog string
}

func (o *hostOptions) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.sockets, "sockets", "", "directory for the sockets that QEMU connects to, NAME.sock (default sockets in the state directory)")
	cmd.Flags().StringVar(&o.group, "socket-group", "", "group that may use the sockets, such as kvm")
	o.tpmFlags(cmd)
}

func (o *hostOptions) tpmFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.tpm, "tpm", "", "this machine's TPM: a device, unix:PATH or tcp:HOST:PORT (default "+defaultTPM+" when the service has it on record)")
	cmd.Flags().StringVar(&o.eventLog, "event-log", defaultEventLog, "this machine's measured-boot log")
}

// check looks at what was given before anything is done.
func (o *hostOptions) check() error {
	if o.group != "" {
		if _, err := groupID(o.group); err != nil {
			return err
		}
	}
	if info, err := os.Stat(o.sockets); o.sockets != "" && err == nil && !info.IsDir() {
		return withHint(usageError{fmt.Errorf("--sockets %s is no directory", o.sockets)}, "name a directory; it is made when it is not there")
	}
	return nil
}

func groupID(name string) (int, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return -1, withHint(usageError{fmt.Errorf("--socket-group: there is no group %q", name)}, "getent group; a name of that list")
	}
	return strconv.Atoi(g.Gid)
}

// noTPM is a TPM that does not open.
func noTPM(err error) error {
	return withHint(err, "--tpm /dev/tpmrm0, unix:PATH or tcp:HOST:PORT; dmesg | grep -i tpm")
}

func newHostRunCommand(a *app) *cobra.Command {
	var state, credential, server string
	var o hostOptions
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Carry vTPMs on this machine: make them, run them under leases, prove this machine",
		Long: `Carry vTPMs on this machine. QEMU connects to NAME.sock and needs nothing else:

  -chardev socket,id=tpm,path=SOCKETS/NAME.sock -tpmdev emulator,id=tpm0,chardev=tpm -device tpm-crb,tpmdev=tpm0

A vTPM's state opens only under a lease of the service, and it stops when the lease ends. With a
TPM of its own on record (vouchsafe host enroll), this machine proves itself again and again, for
all its vTPMs at once.`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := stateDir(state)
			if err != nil {
				return err
			}
			if credential == "" {
				credential = filepath.Join(dir, dirHost)
			}
			if err := o.check(); err != nil {
				return err
			}
			if server != "" {
				if err := checkServer(server); err != nil {
					return err
				}
			}
			cred, err := openHostCredential(credential, server)
			if err != nil {
				return err
			}
			return runHost(cmd.Context(), a, dir, o, cred.service)
		},
	}
	stateFlag(cmd, &state)
	cmd.Flags().StringVar(&credential, "credential", "", "directory with this host's key.pem, cert.pem, ca.pem and url (default host in the state directory)")
	cmd.Flags().StringVar(&server, "server", "", "https://HOST:PORT of the service (default: what url in the credential says)")
	o.flags(cmd)
	return cmd
}

// idleMemory is the share of garbage that is let stand, in percent of what is in
// use. A host's TPMs wait nearly all the time, so memory is dearer than the
// collector's work. GOGC overrides it.
const idleMemory = 50

// runHost carries vTPMs until ctx ends.
func runHost(ctx context.Context, a *app, dir string, o hostOptions, service func(context.Context) (attester.Service, error)) error {
	c := host.Config{Service: service, Dir: filepath.Join(dir, dirVTPMs), Sockets: o.sockets, SocketGroup: -1,
		EventLog: func() ([]byte, error) { return os.ReadFile(o.eventLog) }, Log: slog.New(slog.NewTextHandler(a.err, nil))}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(idleMemory)
	}
	if c.Sockets == "" {
		c.Sockets = filepath.Join(dir, dirSockets)
	}
	if o.group != "" {
		var err error
		if c.SocketGroup, err = groupID(o.group); err != nil {
			return err
		}
	}
	tpm, err := o.openTPM(ctx, service)
	if err != nil {
		return err
	}
	if tpm != nil {
		defer tpm.Close()
		c.TPM = tpm
	}
	h, err := host.New(ctx, c)
	if err != nil {
		return err
	}
	err = h.Run(ctx)
	if errors.Is(err, host.ErrHeld) {
		return withHint(err, "use or stop that one (fuser -v %s), or give another directory: --state DIR", filepath.Join(c.Dir, host.FileLock))
	}
	return err
}

// openTPM opens the host's TPM. When none is named, it is the machine's own if
// the service has one on record; the service may also not be there yet.
func (o *hostOptions) openTPM(ctx context.Context, service func(context.Context) (attester.Service, error)) (*client.Client, error) {
	if o.tpm == "" {
		s, err := service(ctx)
		if err != nil {
			return nil, err
		}
		self, err := s.Self()
		if err != nil {
			return nil, err
		}
		var h api.Host
		if err := s.Call(ctx, "GET", "/v1/hosts/"+url.PathEscape(self.Name), nil, &h); err != nil {
			return nil, withHint(fmt.Errorf("asking the service about this host: %w", err), "is it running? vouchsafe server")
		}
		if !h.HasTPM {
			return nil, nil
		}
		o.tpm = defaultTPM
	}
	t, err := client.Open(o.tpm)
	if err != nil {
		return nil, noTPM(err)
	}
	return t, nil
}

// hostCredential is one in a directory; it renews itself there.
type hostCredential struct {
	dir  string
	url  string
	root *x509.Certificate

	mu   sync.Mutex
	cert tls.Certificate
}

func openHostCredential(dir, server string) (*hostCredential, error) {
	c := &hostCredential{dir: dir, url: server}
	hint := func(err error) error {
		return withHint(fmt.Errorf("reading this host's credential: %w", err), "as an operator: vouchsafe host enroll NAME, or vouchsafe ca credential NAME --kind agent -o %s", dir)
	}
	var err error
	if c.cert, err = tls.LoadX509KeyPair(filepath.Join(dir, credentialCert), filepath.Join(dir, credentialKey)); err != nil {
		return nil, hint(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, credentialCA))
	if err == nil {
		c.root, err = parseCertificate(text)
	}
	if err != nil {
		return nil, hint(err)
	}
	if c.url == "" {
		b, err := os.ReadFile(filepath.Join(dir, filepath.Base(fileURL)))
		if err != nil {
			return nil, withHint(errors.New("where the service is, is not known"), "vouchsafe host run --server https://HOST:PORT")
		}
		c.url = strings.TrimSpace(string(b))
	}
	return c, nil
}

// service is who to speak to; when a third of the certificate's life is left,
// it asks for a new one first.
func (c *hostCredential) service(ctx context.Context) (attester.Service, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := attester.Service{URL: c.url, Root: c.root, Client: c.cert}
	life := c.cert.Leaf.NotAfter.Sub(c.cert.Leaf.NotBefore)
	if time.Until(c.cert.Leaf.NotAfter) > life/3 {
		return s, nil
	}
	// The key stays: one file is replaced at once, two are not.
	key, ok := c.cert.PrivateKey.(crypto.Signer)
	if !ok {
		return s, nil
	}
	csr, err := requestFor(key)
	if err != nil {
		return s, err
	}
	var got api.Credential
	if s.Call(ctx, "POST", "/v1/credentials/renew", api.RenewCredential{CSR: csr}, &got) != nil {
		return s, nil // the old one is good for as long as it is
	}
	fresh, err := keyPair(key, got.PEM)
	if err == nil {
		err = durable.WriteFile(filepath.Join(c.dir, credentialCert), []byte(got.PEM), 0o600)
	}
	if err != nil {
		return s, fmt.Errorf("renewing this host's credential: %w", err)
	}
	c.cert, s.Client = fresh, fresh
	return s, nil
}
