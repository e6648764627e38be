package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vouchsafe/vouchsafe/internal/agent"
	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/attester"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/vtpm"
	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// hostWorld is a service, a machine with a TPM that is a host, and what QEMU
// would do there. Time is real.
type hostWorld struct {
	t    *testing.T
	dir  string // the host's state directory
	svc  string // the service's
	op   *apiClient
	tpm  string // address of the host's TPM
	tpm2 string // another, for the operator's commands
	own  *client.Client
	log  string // the host's event log
	logs *lockedBuffer

	stop func()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newHostWorld(t *testing.T) *hostWorld {
	t.Helper()
	w := &hostWorld{t: t, dir: t.TempDir(), svc: filepath.Join(t.TempDir(), "service"), logs: &lockedBuffer{}}
	w.log = filepath.Join(w.dir, "event-log")
	// The service.
	if _, _, err := createService(t.Context(), w.svc, initOptions{trustDomain: "vouchsafe.test", operator: "test"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	quiet := &app{out: io.Discard, err: io.Discard}
	go func() { served <- serve(ctx, quiet, w.svc, serverOptions{listen: "127.0.0.1:0"}) }()
	t.Cleanup(func() { cancel(); <-served })
	w.until("the service listens", func() bool {
		f := clientFlags{state: w.svc}
		var err error
		w.op, err = f.open()
		return err == nil
	})
	// The host's own TPM, and its boot.
	state := filepath.Join(w.dir, "own")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	instance, err := vtpm.Open(vtpm.Config{Dir: state})
	if err != nil {
		t.Fatal(err)
	}
	if err := instance.PowerOn(swtpm.Peer{}, false); err != nil {
		t.Fatal(err)
	}
	var own sync.WaitGroup
	for _, address := range []*string{&w.tpm, &w.tpm2} { // a socket has one client at a time, /dev/tpmrm0 any number
		path := filepath.Join(w.dir, fmt.Sprintf("own%d.sock", len(w.tpm)))
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		own.Go(func() { (&swtpm.Server{Device: instance, Data: l}).Serve(ctx) })
		*address = "unix:" + path
	}
	t.Cleanup(func() { cancel(); own.Wait(); instance.Close() })
	w.own = client.New(client.Direct(func(cmd []byte) []byte { return instance.Execute(0, cmd, nil) }))
	if err := w.own.Startup(tpm2.SUClear); err != nil {
		t.Fatal(err)
	}
	log, _, err := playBoot(w.own, "the host's own")
	if err == nil {
		err = os.WriteFile(w.log, log, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// cli runs a command as an operator on the host would.
func (w *hostWorld) cli(args ...string) (string, error) {
	var out, words bytes.Buffer
	root := newRoot(&app{in: strings.NewReader(""), out: &out, err: &words})
	root.SetArgs(append(args, "--credential", filepath.Join(w.svc, dirOperator)))
	err := root.ExecuteContext(w.t.Context())
	return out.String() + words.String(), err
}

func (w *hostWorld) until(what string, ok func() bool) {
	w.t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	w.t.Fatalf("not within 20 s: %s\n%s", what, w.logs)
}

// run starts the host's side.
func (w *hostWorld) run() {
	w.t.Helper()
	cred, err := openHostCredential(filepath.Join(w.dir, dirHost), w.op.url)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	a := &app{out: io.Discard, err: w.logs}
	go func() { done <- runHost(ctx, a, w.dir, hostOptions{tpm: w.tpm, eventLog: w.log}, cred.service) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
		w.stop = func() {}
	}
	w.t.Cleanup(func() { w.stop() })
}

// machine is what QEMU is to a vTPM: a control channel, and a data channel.
type machine struct {
	control *swtpm.Client
	conn    net.Conn
	tpm     *client.Client
	log     []byte
}

// start connects to a VM's socket and plays its firmware.
func (w *hostWorld) start(vm string) (*machine, error) {
	conn, err := net.Dial("unix", filepath.Join(w.dir, dirSockets, vm+".sock"))
	if err != nil {
		return nil, err
	}
	m := &machine{control: &swtpm.Client{Conn: conn, Timeout: 20 * time.Second}, conn: conn}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := m.control.SetDataFD(pair[1]); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	unix.Close(pair[1])
	f := os.NewFile(uintptr(pair[0]), "data")
	data, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return nil, err
	}
	m.tpm = client.New(data)
	return m, m.reset()
}

// reset is power on, and what the firmware does then.
func (m *machine) reset() error {
	err := m.control.Init(false)
	if err == nil {
		err = m.tpm.Startup(tpm2.SUClear)
	}
	if err == nil {
		m.log, _, err = playBoot(m.tpm, demoCommandLine)
	}
	return err
}

func (m *machine) off() { m.conn.Close(); m.tpm.Close() }

func (w *hostWorld) agent(m *machine, credential tls.Certificate) *agent.Agent {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.svc, dirOperator, credentialCA))
	if err != nil {
		w.t.Fatal(err)
	}
	root, err := parseCertificate(text)
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := agent.New(agent.Config{Service: attester.Service{URL: w.op.url, Root: root, Client: credential}, TPM: m.tpm,
		EventLog: func() ([]byte, error) { return m.log, nil }})
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// TestHost leads a host with a TPM and two VMs on it through what can happen.
func TestHost(t *testing.T) {
	w := newHostWorld(t)
	enroll := []string{"host", "enroll", "h1", "--tpm", w.tpm2, "--event-log", w.log, "-o", filepath.Join(w.dir, dirHost)}

	// Enrolled, and not believed before somebody approves what it booted.
	out, err := w.cli(enroll...)
	if refused(err, "REFERENCE_MISSING") != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err = w.cli(append(enroll, "--approve", "--note", "Debian 12")...)
	if err != nil || !strings.Contains(out, "tpm-attested") || !strings.Contains(out, "an operator said so") {
		t.Fatalf("%v: %s", err, out)
	}
	// Another machine does not take its name.
	if _, err := w.cli("host", "add", "h1"); err != nil {
		t.Fatal(err)
	}

	w.run()
	for _, vm := range []string{"web1", "web2"} {
		if out, err := w.cli("vm", "create", vm, "--host", "h1", "--json"); err != nil || !strings.Contains(out, `"ek_certificate"`) {
			t.Fatalf("%v: %s", err, out)
		}
		w.until(vm+" is carried", func() bool { _, err := os.Stat(filepath.Join(w.dir, dirSockets, vm+".sock")); return err == nil })
	}

	// A VM lives: its certificate says what its host is worth.
	m, err := w.start("web1")
	if err != nil {
		t.Fatalf("%v\n%s", err, w.logs)
	}
	key, got, err := askCredential(t.Context(), w.op, ca.KindGuest, "web1")
	if err != nil {
		t.Fatal(err)
	}
	guest, err := keyPair(key, got.PEM)
	if err != nil {
		t.Fatal(err)
	}
	a := w.agent(m, guest)
	if _, err := a.Attest(t.Context(), ""); refused(err, "REFERENCE_MISSING") != nil {
		t.Fatal(err)
	}
	if out, err := w.cli("policy", "enroll", "web1"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	adm, err := a.Attest(t.Context(), "")
	if err != nil || adm.Tier != "tpm-attested" {
		t.Fatalf("tier %v, %v", adm, err)
	}
	adm.Close()
	if out, err := w.cli("attest", "show", "web1"); err != nil || !strings.Contains(out, "affirming") {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := m.tpm.ReadCertificate(client.EKP256.CertificateIndex()); err != nil {
		t.Errorf("the endorsement certificate: %v", err)
	}

	// The guest reboots: the host counted it, so the evidence fits.
	if err := m.reset(); err != nil {
		t.Fatal(err)
	}
	if adm, err = a.Attest(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	adm.Close()

	// An old copy of the state, put back while the VM is off.
	m.off()
	dir := filepath.Join(w.dir, dirVTPMs, "web1")
	w.until("the lease is given back", func() bool { return strings.Contains(w.logs.String(), "vTPM stopped") })
	old := t.TempDir()
	if err := os.CopyFS(old, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if m, err = w.start("web1"); err != nil {
		t.Fatalf("%v\n%s", err, w.logs)
	}
	if adm, err = w.agent(m, guest).Attest(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	adm.Close()
	m.off()
	w.stop()
	if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(old)), os.Chmod(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	w.run()
	w.until("web1 is carried", func() bool { return strings.Count(w.logs.String(), "msg=carrying vm=web1") == 2 })
	if m, err := w.start("web1"); err == nil {
		m.off()
		t.Error("an old copy runs")
	}
	w.until("the old copy is named", func() bool { return strings.Contains(w.logs.String(), "STATE_ROLLED_BACK") })

	// The host is tampered with: what nobody approved ends what its VMs may have.
	m2, err := w.start("web2")
	if err != nil {
		t.Fatalf("%v\n%s", err, w.logs)
	}
	defer m2.off()
	if _, err := w.own.EventPCR(4, []byte("a rootkit")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.cli(enroll...); refused(err, "EVENT_LOG_MISMATCH") != nil {
		t.Error(err)
	}
	key, got, err = askCredential(t.Context(), w.op, ca.KindGuest, "web2")
	if err != nil {
		t.Fatal(err)
	}
	if guest, err = keyPair(key, got.PEM); err != nil {
		t.Fatal(err)
	}
	if _, err := w.agent(m2, guest).Attest(t.Context(), ""); refused(err, "HOST_QUOTE_STALE") != nil {
		t.Error(err)
	}
	if out, err := w.cli("host", "list"); err != nil || !strings.Contains(out, "unattested") {
		t.Errorf("%v: %s", err, out)
	}

	// Revoked while it runs: it stops.
	if _, err := w.cli("vm", "revoke", "web2", "--reason", "test"); err != nil {
		t.Fatal(err)
	}
	w.until("the vTPM of a revoked VM stops", func() bool { _, err := m2.tpm.Banks(); return err != nil })
}

// TestHostWord: a machine that proved nothing makes vTPMs, and they run when an
// operator accepts that.
func TestHostWord(t *testing.T) {
	w := newHostWorld(t)
	w.tpm = ""
	key, got, err := askCredential(t.Context(), w.op, ca.KindAgent, "h1")
	if err == nil {
		err = saveCredential(filepath.Join(w.dir, dirHost), key, got.PEM, got.RootCA)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := w.cli("host", "add", "h1"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.run()
	if out, err := w.cli("vm", "create", "web1", "--host", "h1"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.until("the refusal is said", func() bool { return strings.Contains(w.logs.String(), "HOST_UNATTESTED") })
	if out, err := w.cli("host", "add", "h1", "--accept-unattested-host"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.until("it is carried", func() bool { return strings.Contains(w.logs.String(), "msg=carrying") })
	var vm api.VM
	if err := w.op.call(t.Context(), "GET", "/v1/vms/web1", nil, &vm); err != nil || vm.Generation != 1 {
		t.Errorf("generation %d, %v", vm.Generation, err)
	}
	m, err := w.start("web1")
	if err != nil {
		t.Fatalf("%v\n%s", err, w.logs)
	}
	m.off()
	// Killed between any two of its steps, it goes on: nothing of the vTPM is lost.
	w.until("the lease is given back", func() bool { return strings.Contains(w.logs.String(), "vTPM stopped") })
	for i := range 3 {
		w.stop()
		w.run()
		w.until("it is carried again", func() bool { return strings.Count(w.logs.String(), "msg=carrying") == i+2 })
		m, err := w.start("web1")
		if err != nil {
			t.Fatalf("start %d: %v\n%s", i, err, w.logs)
		}
		if _, err := m.tpm.ReadCertificate(client.EKP256.CertificateIndex()); err != nil {
			t.Errorf("start %d: %v", i, fmt.Errorf("the endorsement certificate: %w", err))
		}
		m.off()
		w.until("the lease is given back", func() bool { return strings.Count(w.logs.String(), "vTPM stopped") == i+2 })
	}
}
