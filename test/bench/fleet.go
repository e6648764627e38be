package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vouchsafe/vouchsafe/eventlog"
	"github.com/vouchsafe/vouchsafe/internal/agent"
	"github.com/vouchsafe/vouchsafe/internal/attester"
	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// fleet runs `vouchsafe up` with many VMs: what each costs in memory while it is
// off and while it runs, and how long all of them wait for certificate and disk
// key when they boot at once. The guests are goroutines of this process; they
// share the machine with the service, as guests of one host do.
type fleet struct {
	dir, state string
	up         *exec.Cmd
	op         attester.Service
	vms        []*member
}

// member is one VM as QEMU and its guest are to the host.
type member struct {
	name    string
	guest   attester.Service
	control *swtpm.Client
	tpm     *client.Client
	nv      *client.NVIndex // counts
	log     []byte
	waited  time.Duration
}

func runFleet(ctx context.Context, program string, n int) error {
	dir, err := os.MkdirTemp("", "vouchsafe-fleet-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f := &fleet{dir: dir, state: filepath.Join(dir, "state")}
	if err := f.serve(ctx, program); err != nil {
		return err
	}
	defer func() { f.up.Process.Signal(os.Interrupt); f.up.Wait() }()
	time.Sleep(time.Second)
	report := func(what string, base int) int {
		kib := rss(f.up.Process.Pid)
		fmt.Printf("%-44s %7d KiB resident", what, kib)
		if base > 0 {
			fmt.Printf(", %5.1f KiB a VM", float64(kib-base)/float64(n))
		}
		fmt.Println()
		return kib
	}
	empty := report("service and host, no VM", 0)

	begin := time.Now()
	if err := f.order(ctx, n); err != nil {
		return err
	}
	fmt.Printf("%-44s %7.1f s\n", fmt.Sprintf("%d vTPMs ordered, made, certified, leased", n), time.Since(begin).Seconds())
	report("all VMs off", empty)

	if err := f.each(func(m *member) error { return m.start(filepath.Join(f.state, "sockets", m.name+".sock")) }); err != nil {
		return err
	}
	if err := f.approve(ctx); err != nil {
		return err
	}
	time.Sleep(2 * time.Second)
	report("all VMs on, booted, idle", empty)
	if err := f.spend("idle", func(*member) error { return nil }); err != nil {
		return err
	}
	if err := f.each((*member).counter); err != nil {
		return err
	}
	if err := f.spend("each VM adds to an NV counter every second", (*member).count); err != nil {
		return err
	}

	if err := f.each((*member).reset); err != nil {
		return err
	}
	cpu := processTime(f.up.Process.Pid)
	begin = time.Now()
	if err := f.each(func(m *member) error { return m.admit(ctx, begin) }); err != nil {
		return err
	}
	all := time.Since(begin)
	var waits []time.Duration
	for _, m := range f.vms {
		waits = append(waits, m.waited)
	}
	slices.Sort(waits)
	at := func(p int) float64 { return waits[(len(waits)-1)*p/100].Seconds() }
	fmt.Printf("%-44s p50 %.1f s, p99 %.1f s, all after %.1f s; service and host used %.1f s of CPU\n",
		fmt.Sprintf("%d admissions with disk key at once", n), at(50), at(99), all.Seconds(), (processTime(f.up.Process.Pid) - cpu).Seconds())
	return nil
}

func (f *fleet) serve(ctx context.Context, program string) error {
	f.up = exec.CommandContext(ctx, program, "up", "--state", f.state, "--listen", "127.0.0.1:0", "--accept-unattested-host")
	log, err := os.Create(filepath.Join(f.dir, "log"))
	if err != nil {
		return err
	}
	f.up.Stderr = log
	if err := f.up.Start(); err != nil {
		return err
	}
	operator := filepath.Join(f.state, "operator")
	for range 200 {
		if b, err := os.ReadFile(filepath.Join(operator, "url")); err == nil {
			f.op.URL = strings.TrimSpace(string(b))
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if f.op.URL == "" {
		return errors.New("the service did not start")
	}
	text, err := os.ReadFile(filepath.Join(operator, "ca.pem"))
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	if f.op.Root, err = x509.ParseCertificate(block.Bytes); err != nil {
		return err
	}
	f.op.Client, err = tls.LoadX509KeyPair(filepath.Join(operator, "cert.pem"), filepath.Join(operator, "key.pem"))
	return err
}

// order makes n VMs, and a credential for each guest.
func (f *fleet) order(ctx context.Context, n int) error {
	conn, err := f.op.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	for i := range n {
		m := &member{name: fmt.Sprintf("vm%05d", i)}
		if err := conn.Call(ctx, "POST", "/v1/vms", map[string]string{"name": m.name, "host": "localhost"}, nil); err != nil {
			return err
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			return err
		}
		var got struct{ PEM string }
		if err := conn.Call(ctx, "POST", "/v1/credentials", map[string]string{"kind": "guest", "name": m.name,
			"csr": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))}, &got); err != nil {
			return err
		}
		m.guest = attester.Service{URL: f.op.URL, Root: f.op.Root, Client: tls.Certificate{PrivateKey: key}}
		for rest := []byte(got.PEM); ; {
			var b *pem.Block
			if b, rest = pem.Decode(rest); b == nil {
				break
			}
			m.guest.Client.Certificate = append(m.guest.Client.Certificate, b.Bytes)
		}
		f.vms = append(f.vms, m)
	}
	for _, m := range f.vms {
		for {
			if _, err := os.Stat(filepath.Join(f.state, "sockets", m.name+".sock")); err == nil {
				break
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

// each does one thing for all VMs at once.
func (f *fleet) each(do func(*member) error) error {
	errs := make([]error, len(f.vms))
	var wg sync.WaitGroup
	for i, m := range f.vms {
		wg.Go(func() {
			if err := do(m); err != nil {
				errs[i] = fmt.Errorf("%s: %w", m.name, err)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err // one will do: they are alike
		}
	}
	return nil
}

// start connects as QEMU does, and plays the firmware.
func (m *member) start(socket string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	m.control = &swtpm.Client{Conn: conn}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := m.control.SetDataFD(pair[1]); err != nil {
		return err
	}
	unix.Close(pair[1])
	file := os.NewFile(uintptr(pair[0]), "data")
	data, err := net.FileConn(file)
	file.Close()
	if err != nil {
		return err
	}
	m.tpm = client.New(data)
	return m.reset()
}

func (m *member) reset() error {
	if err := m.control.Init(false); err != nil {
		return err
	}
	if err := m.tpm.Startup(tpm2.SUClear); err != nil {
		return err
	}
	log, err := measuredBoot()
	if err != nil {
		return err
	}
	for i := range log.Events {
		e := &log.Events[i]
		if !e.Extends() {
			continue
		}
		var digests []tpm2.TPMTHA
		for _, d := range e.Digests {
			digests = append(digests, tpm2.TPMTHA{HashAlg: tpm2.AlgID(d.Alg), Digest: d.Sum})
		}
		if err := m.tpm.ExtendPCR(int(e.PCR), digests...); err != nil {
			return err
		}
	}
	m.log = log.Encode()
	return nil
}

// measuredBoot is a boot in the form that OVMF and Linux give it.
func measuredBoot() (*eventlog.Log, error) {
	digest := func(data []byte) []eventlog.Digest {
		return []eventlog.Digest{{Alg: eventlog.SHA256, Sum: eventlog.SHA256.Sum(data)}}
	}
	b := eventlog.Boot{CommandLine: "root=/dev/mapper/root ro", Initrd: []byte("initrd")}
	m := eventlog.Measured{Kernel: digest([]byte("kernel")), CommandLine: digest(b.LoadOptions()), Initrd: digest(b.Initrd)}
	global := [16]byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c} // EFI_GLOBAL_VARIABLE
	return m.DirectBoot(eventlog.Firmware{Version: []byte{'f', 0, 'w', 0, 0, 0},
		Volumes:    []eventlog.Volume{{Base: 0x820000, Length: 0xe0000, Digests: digest([]byte("PEI"))}},
		SecureBoot: []eventlog.Variable{{Vendor: global, Name: "SecureBoot", Value: []byte{1}}, {Vendor: global, Name: "PK"}, {Vendor: global, Name: "KEK"}},
		Boot:       []eventlog.Variable{{Vendor: global, Name: "BootOrder", Value: []byte{0, 0}}},
	}, eventlog.SHA256)
}

// spend has each VM do something once a second, and says what that costs.
func (f *fleet) spend(what string, do func(*member) error) error {
	const seconds = 10
	cpu := processTime(f.up.Process.Pid)
	err := f.each(func(m *member) error {
		for range seconds {
			next := time.Now().Add(time.Second)
			if err := do(m); err != nil {
				return err
			}
			time.Sleep(time.Until(next))
		}
		return nil
	})
	used := processTime(f.up.Process.Pid) - cpu
	fmt.Printf("%-44s %7.1f %% of one core in service and host\n", what, 100*used.Seconds()/seconds)
	return err
}

// counter makes an NV counter; count adds to it.
func (m *member) counter() (err error) {
	m.nv, err = m.tpm.NVDefine(client.Hierarchy(tpm2.RHOwner, nil), tpm2.TPMSNVPublic{NVIndex: 0x01800100, NameAlg: tpm2.AlgSHA256, DataSize: 8,
		Attributes: (tpm2.NVOwnerRead | tpm2.NVOwnerWrite | tpm2.NVNoDA).With(tpm2.NTCounter)}, nil)
	return err
}

func (m *member) count() error {
	return m.tpm.NVIncrement(client.Hierarchy(tpm2.RHOwner, nil), m.nv)
}

func (m *member) agent() (*agent.Agent, error) {
	return agent.New(agent.Config{Service: m.guest, TPM: m.tpm, EventLog: func() ([]byte, error) { return m.log, nil }})
}

// approve has every VM show its boot, and approves it.
func (f *fleet) approve(ctx context.Context) error {
	conn, err := f.op.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, m := range f.vms {
		a, err := m.agent()
		if err != nil {
			return err
		}
		for {
			_, err := a.Attest(ctx, "")
			var r *attester.Refused
			if errors.As(err, &r) && r.Code == "TPM_RESET_UNSEEN" { // its host has not told yet
				time.Sleep(100 * time.Millisecond)
				continue
			}
			if !errors.As(err, &r) || r.Code != "REFERENCE_MISSING" {
				return fmt.Errorf("%s: not refused for want of an approval: %w", m.name, err)
			}
			break
		}
		if err := conn.Call(ctx, "POST", "/v1/vms/"+m.name+"/policy/enroll", struct{}{}, nil); err != nil {
			return err
		}
	}
	return nil
}

// admit is what the agent does in an initramfs: certificate and disk key.
func (m *member) admit(ctx context.Context, begin time.Time) error {
	a, err := m.agent()
	if err != nil {
		return err
	}
	return agent.Wait(ctx, 2*time.Minute, func(error, time.Duration) {}, func(ctx context.Context) error {
		adm, err := a.Attest(ctx, "root")
		if err != nil {
			return err
		}
		defer adm.Close()
		key, err := a.DiskKey(adm, "root")
		key.Erase()
		m.waited = time.Since(begin)
		return err
	})
}

// rss is a process's resident memory, in KiB.
func rss(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	var size, resident int
	fmt.Sscan(string(b), &size, &resident)
	return resident * os.Getpagesize() / 1024
}

// processTime is the CPU that a process has used, in user and kernel.
func processTime(pid int) time.Duration {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ") // the name may have spaces
	fields := strings.Fields(rest)
	var user, kernel int64
	if len(fields) > 12 {
		fmt.Sscan(fields[11], &user)
		fmt.Sscan(fields[12], &kernel)
	}
	return time.Duration(user+kernel) * 10 * time.Millisecond // USER_HZ is 100
}
