package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/netutil"

	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/attester"
	"github.com/vouchsafe/vouchsafe/internal/audit"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/durable"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

type serverOptions struct {
	serviceOptions
	listen string
	names  []string
	// keepExpired is how long certificates stay on record beyond their end; 0: for ever.
	keepExpired time.Duration
	opened      net.Listener // what listen names, if it was opened before the service
	// carry runs beside the server, once it listens; nil: nothing does.
	carry func(ctx context.Context, s *service, url string) error
}

func (o *serverOptions) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.listen, "listen", "127.0.0.1:8443", "address to listen on; port 0 takes any")
	cmd.Flags().StringSliceVar(&o.names, "name", nil, "further host names or addresses by which clients reach this server")
	cmd.Flags().StringVar(&o.ownTPM, "own-tpm", "", "this machine's own TPM, by which the service notices that it runs inside a VM that it admits: a device, unix:PATH, tcp:HOST:PORT or none (default /dev/tpmrm0, where there is one)")
	cmd.Flags().StringVar(&o.pushCheckpoint, "push-checkpoint", "", "file that gets audit checkpoints, best on another machine's disk; with an audit log older than it, the server does not start")
	cmd.Flags().DurationVar(&o.keepExpired, "keep-expired", ca.CRLLifetime, "how long certificates stay on record beyond their end; 0: for ever. The audit log keeps its own record of each")
}

// check calls bad usage what no server can run with, before anything is done.
func (o *serverOptions) check() error {
	if host, port, err := net.SplitHostPort(o.listen); err != nil {
		return withHint(usageError{fmt.Errorf("--listen %q is no HOST:PORT", o.listen)}, "--listen 127.0.0.1:8443")
	} else if _, err := net.LookupPort("tcp", port); err != nil {
		return withHint(usageError{fmt.Errorf("--listen %q: there is no port %q", o.listen, port)}, "--listen %s, or port 0 for any that is free", net.JoinHostPort(host, "8443"))
	}
	for _, n := range o.names {
		if err := ca.CheckHostName(n); err != nil && net.ParseIP(n) == nil {
			return usageError{fmt.Errorf("--name: %w", err)}
		}
	}
	if o.localHost != "" {
		if err := ca.CheckWord(o.localHost); err != nil {
			return usageError{fmt.Errorf("--host: %w", err)}
		}
	}
	if o.keepExpired != 0 && o.keepExpired < ca.CRLLifetime {
		return withHint(usageError{fmt.Errorf("--keep-expired %v: a list of revoked certificates names one for %v beyond its end", o.keepExpired, ca.CRLLifetime)}, "--keep-expired %v or more, or 0 for ever", ca.CRLLifetime)
	}
	if o.pushCheckpoint != "" {
		if _, err := os.Stat(filepath.Dir(o.pushCheckpoint)); err != nil {
			return withHint(fmt.Errorf("pushing checkpoints: %w", err), "mkdir -p %s, or mount what belongs there", filepath.Dir(o.pushCheckpoint))
		}
	}
	return nil
}

// maxConnections bounds what callers cost before anybody knows who they are: up to
// 100 KiB each, for the ten seconds that a handshake may take. More wait in the
// kernel. A thousand guests that boot at once have one each.
const maxConnections = 4096

// open listens.
func (o *serverOptions) open() (err error) {
	if o.opened != nil {
		return nil
	}
	if o.opened, err = net.Listen("tcp", o.listen); err != nil {
		return withHint(fmt.Errorf("listening on %s: %w", o.listen, cause(err)), "who has it? ss -ltnp; any free port: --listen 127.0.0.1:0")
	}
	return nil
}

// cause is a network error without the address, which was said.
func cause(err error) error {
	var n *net.OpError
	var s *os.SyscallError
	if errors.As(err, &n) {
		err = n.Err
	}
	if errors.As(err, &s) {
		err = s.Err
	}
	return err
}

func newServerCommand(a *app) *cobra.Command {
	var state string
	var o serverOptions
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run the control plane",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := stateDir(state)
			if err != nil {
				return err
			}
			if err := o.check(); err != nil {
				return err
			}
			return serve(cmd.Context(), a, dir, o)
		},
	}
	stateFlag(cmd, &state)
	o.flags(cmd)
	return cmd
}

func newUpCommand(a *app) *cobra.Command {
	var state string
	var o serverOptions
	var first initOptions
	var h hostOptions
	var accept bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run everything on this machine; the first time, create it",
		Long: `Run the control plane and carry vTPMs, in one process on this machine. Then:

  vouchsafe vm create web1

and QEMU connects to web1.sock below sockets in the state directory. Keys go to this machine only
after it proved itself by its TPM (vouchsafe host enroll localhost --approve), or with
--accept-unattested-host, which says that its word will do.`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := stateDir(state)
			if err != nil {
				return err
			}
			if err := errors.Join(o.check(), h.check()); err != nil {
				return err
			}
			if entries, err := os.ReadDir(dir); errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0 {
				// What fails is to fail before there is a service.
				if err := o.rehearse(h); err != nil {
					return err
				}
				file, recovery, err := createService(cmd.Context(), dir, first)
				if err != nil {
					return err
				}
				fmt.Fprintf(a.err, a.say("created service %s in %s\nrecovery key: %s (take it off this machine)\n", "已创建服务 %s 于 %s\n恢复密钥：%s（请移出本机）\n"), file.ID, dir, recovery)
			}
			o.acceptLocal = accept
			o.carry = func(ctx context.Context, s *service, url string) error {
				return runHost(ctx, a, dir, h, s.asHost(url, o.localHost))
			}
			return serve(cmd.Context(), a, dir, o)
		},
	}
	stateFlag(cmd, &state)
	o.flags(cmd)
	h.flags(cmd)
	cmd.Flags().BoolVar(&accept, "accept-unattested-host", false, "let keys go to this machine although it proved nothing: everything then rests on its word")
	cmd.Flags().StringVar(&first.trustDomain, "trust-domain", "vouchsafe.internal", "when it is created: trust domain of the names in certificates")
	cmd.Flags().StringVar(&first.operator, "operator", "admin", "when it is created: name of the first operator")
	cmd.Flags().StringVar(&o.localHost, "host", "localhost", "name of this machine as a host of vTPMs")
	return cmd
}

// rehearse opens what a first start needs: the port stays open for it, the TPMs
// do not.
func (o *serverOptions) rehearse(h hostOptions) error {
	if _, err := openOwnTPM(o.ownTPM); err != nil {
		return err
	}
	if h.tpm != "" {
		t, err := client.Open(h.tpm)
		if err != nil {
			return noTPM(err)
		}
		if err := t.Close(); err != nil {
			return err
		}
	}
	if o.pushCheckpoint != "" && exists(o.pushCheckpoint) {
		return withHint(fmt.Errorf("pushing checkpoints: %s is there already, and a new service has none", o.pushCheckpoint), "name another file, or move it away: mv %s %s.old", o.pushCheckpoint, o.pushCheckpoint)
	}
	return o.open()
}

// serve runs the control plane until ctx ends.
func serve(ctx context.Context, a *app, dir string, o serverOptions) (err error) {
	logger := slog.New(slog.NewTextHandler(a.err, nil))
	o.log = logger
	s, err := openService(ctx, dir, o.serviceOptions)
	if err != nil {
		if o.opened != nil {
			o.opened.Close()
		}
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if o.localHost != "" {
		if err := s.knowHost(ctx, o.localHost, o.acceptLocal); err != nil {
			return err
		}
	}
	if err := o.open(); err != nil {
		return err
	}
	l := o.opened
	if s.enroll.IsOwn == nil && o.ownTPM == "" && exists(defaultOwnTPM) {
		fmt.Fprintf(a.err, a.say("note: %s is not the service's to open, so it would not notice that it runs inside a VM that it admits\n", "注意：服务无权打开 %s，因此无法察觉自身运行在它所准入的虚拟机内\n"), defaultOwnTPM)
	}
	cert := s.tlsCertificate(l.Addr(), o.names)
	if _, err := cert.get(ctx); err != nil { // a server that cannot say who it is does not start
		return errors.Join(err, l.Close())
	}
	srv := &http.Server{
		Handler:           api.Handler(s.handler()),
		TLSConfig:         api.TLSConfig(s.office, func() (*tls.Certificate, error) { return cert.get(ctx) }),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          log.New(quiet{logger}, "", 0),
	}
	url := "https://" + l.Addr().String()
	urlFile := filepath.Join(dir, fileURL)
	if err := durable.WriteFile(urlFile, []byte(url+"\n"), 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	defer os.Remove(urlFile)
	fmt.Fprintf(a.err, a.say("service %s listens on %s\n", "服务 %s 监听于 %s\n"), s.file.ID, url)
	failed := make(chan error, 2)
	go func() { failed <- srv.ServeTLS(netutil.LimitListener(l, maxConnections), "", "") }()
	carrying, stopCarrying := context.WithCancel(ctx)
	defer stopCarrying()
	carried := make(chan struct{})
	go func() {
		defer close(carried)
		if o.carry != nil {
			if err := o.carry(carrying, s, url); err != nil {
				failed <- fmt.Errorf("carrying vTPMs: %w", err)
			}
		}
	}()
	tidy := time.NewTimer(firstTidy)
	defer tidy.Stop()
	for running := true; running; {
		select {
		case err := <-failed:
			stopCarrying()
			<-carried
			return err
		case <-tidy.C:
			if err := s.tidy(ctx, o.keepExpired); err != nil && ctx.Err() == nil {
				logger.Warn("forgetting what nobody needs any more", "error", err)
			}
			tidy.Reset(time.Hour)
		case <-ctx.Done():
			running = false
		}
	}
	<-carried // it gives its leases back, to this server
	// A signal is how a server is told to stop: no failure.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return srv.Shutdown(grace)
}

// knowHost makes this machine known as a host, the first time. It proved nothing;
// that this is accepted is recorded when it is said, and stays until it has a TPM.
func (s *service) knowHost(ctx context.Context, name string, accept bool) error {
	h, err := s.store.Host(ctx, defaultTenant, name)
	switch {
	case errors.Is(err, enroll.ErrNotFound):
		if err := ca.CheckWord(name); err != nil {
			return usageError{err}
		}
		h = enroll.Host{Tenant: defaultTenant, Name: name, Created: s.now()}
		rand.Read(h.ID[:])
	case err != nil:
		return err
	case h.WasRevoked() != nil:
		return withHint(h.WasRevoked(), "vouchsafe server runs the control plane alone; while it does: vouchsafe host reinstate %s --reason TEXT", name)
	case !accept || h.AcceptedUnattested:
		return nil
	}
	h.AcceptedUnattested = accept
	intent, err := s.audit.Begin(ctx, audit.Event{Tenant: defaultTenant, Actor: "service", Action: "host.saved", Object: name, Detail: map[string]string{"accept-unattested": fmt.Sprint(accept)}})
	if err != nil {
		return err
	}
	if err := s.store.SaveHost(ctx, h); err != nil {
		intent.Failed(ctx, err)
		return err
	}
	_, err = intent.Done(ctx, nil)
	return err
}

// asHost is this process speaking to itself as a host, over TLS like any other;
// the credential's key lives in memory.
func (s *service) asHost(url, name string) func(context.Context) (attester.Service, error) {
	cert := &renewed{office: s.office, profile: ca.AgentProfile, curve: connectionCurve, tenant: defaultTenant, now: s.now,
		name: ca.Name{TrustDomain: s.file.TrustDomain, Tenant: defaultTenant, Kind: ca.KindAgent, Name: name}}
	return func(ctx context.Context) (attester.Service, error) {
		c, err := cert.get(ctx)
		if err != nil {
			return attester.Service{}, err
		}
		return attester.Service{URL: url, Root: s.root, Client: *c}, nil
	}
}

// tlsCertificate is for every name by which this server may be reached.
func (s *service) tlsCertificate(addr net.Addr, names []string) *renewed {
	r := &renewed{office: s.office, profile: ca.ServiceProfile, curve: connectionCurve, now: s.now, dns: []string{"localhost"}, ips: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		name: ca.Name{TrustDomain: s.file.TrustDomain, Tenant: "service", Kind: ca.KindService, Name: "api"}}
	if host, err := os.Hostname(); err == nil && !strings.ContainsAny(host, "_ ") {
		r.dns = append(r.dns, host)
	}
	if t, ok := addr.(*net.TCPAddr); ok && !t.IP.IsUnspecified() && !t.IP.IsLoopback() {
		r.ips = append(r.ips, t.IP)
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			r.ips = append(r.ips, ip)
		} else {
			r.dns = append(r.dns, n)
		}
	}
	return r
}

// quiet logs what net/http complains about: strangers' handshakes, at Debug.
type quiet struct{ l *slog.Logger }

func (q quiet) Write(p []byte) (int, error) {
	q.l.Debug("http", "message", strings.TrimSpace(string(p)))
	return len(p), nil
}
