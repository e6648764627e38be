package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/agent"
	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/attester"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/host"
	"github.com/vouchsafe/vouchsafe/internal/hosting"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/vtpm"
	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// Names in the demo.
const (
	demoVM   = "web1"
	demoHost = "this-machine"
)

// serve runs the control plane as `vouchsafe up` does, in the demo's directory.
func (d *demo) serve() error {
	dir := filepath.Join(d.dir, "service")
	if _, _, err := createService(d.ctx, dir, initOptions{trustDomain: "demo.vouchsafe.internal", operator: "demo"}); err != nil {
		return err
	}
	return d.startService(dir)
}

// startService runs the service in dir, and finds it.
func (d *demo) startService(dir string) error {
	ctx, cancel := context.WithCancel(d.ctx)
	served := make(chan error, 1)
	quiet := &app{in: d.app.in, out: io.Discard, err: io.Discard, langFlag: d.app.langFlag}
	go func() {
		served <- serve(ctx, quiet, dir, serverOptions{listen: "127.0.0.1:0", names: []string{guestGateway}, serviceOptions: serviceOptions{localHost: demoHost}})
	}()
	d.stopService = func() error { cancel(); return <-served }
	for {
		if url, err := os.ReadFile(filepath.Join(dir, fileURL)); err == nil && len(url) > 0 {
			break
		}
		select {
		case err := <-served:
			d.stopService = nil
			return fmt.Errorf("the service did not start: %w", err)
		case <-time.After(2 * time.Millisecond):
		}
	}
	var err error
	flags := clientFlags{credential: filepath.Join(dir, dirOperator)}
	if d.operator, err = flags.open(); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, dirOperator, credentialCA))
	if err != nil {
		return err
	}
	d.root, err = parseCertificate(text)
	return err
}

// credential has the service issue a client certificate, as `ca credential` does.
func (d *demo) credential(kind, name string) (tls.Certificate, error) {
	key, got, err := askCredential(d.ctx, d.operator, kind, name)
	if err != nil {
		return tls.Certificate{}, err
	}
	return keyPair(key, got.PEM)
}

func (d *demo) stateDir() string { return filepath.Join(d.dir, "vtpm") }

func (d *demo) openVTPM(key secret.Bytes) (*vtpm.Instance, error) {
	return vtpm.Open(vtpm.Config{Dir: d.stateDir(), Key: vtpm.Key{Secret: key}, Log: slog.New(slog.DiscardHandler)})
}

// state is what this host has of the vTPM, as it is on the disk now.
func (d *demo) state() (*host.State, error) {
	return host.OpenState(d.stateDir(), slog.New(slog.DiscardHandler))
}

// lend asks for a lease on the state of a generation, written as often as the one on the disk.
func (d *demo) lend(generation int64) (hosting.Lease, error) {
	state, err := d.state()
	if err != nil {
		return hosting.Lease{}, err
	}
	writes, err := state.Writes()
	if err != nil {
		return hosting.Lease{}, err
	}
	return d.lendWritten(generation, writes)
}

func (d *demo) lendWritten(generation, writes int64) (hosting.Lease, error) {
	var l hosting.Lease
	return l, d.host.call(d.ctx, "POST", "/v1/vms/"+demoVM+"/lease", hosting.AskLease{Host: demoHost, Generation: generation, Writes: writes}, &l)
}

// take makes the state one of the lease's generation, and confirms that.
func (d *demo) take(l hosting.Lease) error {
	state, err := d.state()
	if err != nil {
		return err
	}
	instance, err := state.Take(l)
	if err != nil {
		return err
	}
	if err := instance.Close(); err != nil {
		return err
	}
	if err := d.host.call(d.ctx, "POST", d.leasePath(l)+"/confirm", hosting.ConfirmLease{Generation: l.Generation}, nil); err != nil {
		return err
	}
	d.lease, d.generation = l, l.Generation
	return state.Confirmed()
}

func (d *demo) leasePath(l hosting.Lease) string { return "/v1/vms/" + demoVM + "/lease/" + l.ID }

// powerOn is a host that starts a VM: a lease, the state, power, and the socket
// that QEMU would connect to.
func (d *demo) powerOn() error {
	d.powerOff()
	l, err := d.lend(d.generation)
	if err != nil {
		return err
	}
	if err := d.take(l); err != nil {
		return err
	}
	if err := d.run(); err != nil {
		return err
	}
	// What the host counted: the guest's evidence must say the same.
	reset, restart, ever, _ := d.vtpm.Counters()
	return d.host.call(d.ctx, "POST", d.leasePath(l)+"/renew", hosting.RenewLease{Counters: &hosting.Counters{Reset: reset, Restart: restart, Ever: int64(ever)}}, nil)
}

// run switches the vTPM on under the lease that the host has, and serves it.
func (d *demo) run() error {
	instance, err := d.openVTPM(secret.Copy(d.lease.SealKey))
	if err != nil {
		return err
	}
	data, err := net.Listen("unix", filepath.Join(d.dir, "vtpm.sock"))
	if err != nil {
		return errors.Join(err, instance.Close())
	}
	ctx, cancel := context.WithCancel(d.ctx)
	served := make(chan error, 1)
	if err := instance.PowerOn(swtpm.Peer{}, false); err != nil {
		cancel()
		return errors.Join(err, data.Close(), instance.Close())
	}
	go func() {
		s := &swtpm.Server{Device: instance, Data: data}
		served <- s.Serve(ctx)
	}()
	d.vtpm = instance
	d.stopVTPM = func() {
		if d.tpm != nil {
			d.tpm.Close()
		}
		cancel()
		<-served
		data.Close()
		instance.Close()
	}
	if d.tpm, err = client.Open("unix:" + filepath.Join(d.dir, "vtpm.sock")); err != nil {
		return err
	}
	return d.tpm.Startup(tpm2.SUClear)
}

func (d *demo) powerOff() {
	if d.stopVTPM != nil {
		d.stopVTPM()
		d.stopVTPM, d.tpm = nil, nil
	}
}

// agent is the one in the guest: it knows the service's address and CA, its own
// credential, its TPM and its log.
func (d *demo) agent(credential tls.Certificate) (*agent.Agent, error) {
	return agent.New(agent.Config{Service: attester.Service{URL: d.operator.url, Root: d.root, Client: credential}, TPM: d.tpm,
		EventLog: func() ([]byte, error) { return d.log, nil }})
}

// identity is the agent again, speaking with the VM's own certificate.
func (d *demo) identity(adm *agent.Admission) (*agent.Agent, error) {
	credential, err := adm.TLS()
	if err != nil {
		return nil, err
	}
	return d.agent(credential)
}

// endorsed reads the endorsement certificate that the service issued.
func (d *demo) endorsed(serial string) (*x509.Certificate, error) {
	var c api.Certificate
	if err := d.operator.call(d.ctx, "GET", "/v1/certificates/"+serial, nil, &c); err != nil {
		return nil, err
	}
	cert, err := parseCertificate([]byte(c.PEM))
	if err != nil {
		return nil, err
	}
	if c.Purpose != string(ca.VTPMEK) {
		return nil, fmt.Errorf("the endorsement certificate is of purpose %s", c.Purpose)
	}
	return cert, nil
}
