package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/agent"
	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
)

// guestGateway is this machine's loopback as QEMU's user-mode network shows it to a guest.
const guestGateway = "10.0.2.2"

// guestMemory is the guest's -m; see docs/formats/prediction.md for what depends on it.
const guestMemory = "512M"

// guestPatience bounds the silence of a guest. A boot under TCG takes 15 s on two
// quiet cores; the agent itself gives up after two minutes and says so.
const guestPatience = 5 * time.Minute

// guestBoot says how the machine is started: what the firmware measures, and what it does not.
type guestBoot struct {
	name    string // of the console's file
	initrd  []byte
	cmdline string
	disk    string
	task    string            // for /init: first, again, or nothing
	give    map[string]string // more fw_cfg files for it
}

// guestGrace is how long a guest that is switching itself off may take.
const guestGrace = 20 * time.Second

// guestMachine is a running QEMU.
type guestMachine struct {
	lines   chan string // what the guest reports; closed when QEMU has ended
	said    []string    // by the agent
	console string
	stop    func() error // once the guest said that it is switching itself off
}

// start switches the machine on: a lease, the vTPM on swtpm's control channel, QEMU.
func (g *guestDemo) start(b guestBoot) (*guestMachine, error) {
	g.powerOff()
	l, err := g.lend(g.generation)
	if err != nil {
		return nil, err
	}
	if err := g.take(l); err != nil {
		return nil, err
	}
	instance, err := g.openVTPM(secret.Copy(l.SealKey))
	if err != nil {
		return nil, err
	}
	g.boots++
	socket := filepath.Join(g.dir, fmt.Sprintf("qemu-%d.sock", g.boots))
	control, err := net.Listen("unix", socket)
	if err != nil {
		return nil, errors.Join(err, instance.Close())
	}
	ctx, cancel := context.WithCancel(g.ctx)
	served := make(chan error, 1)
	go func() {
		s := &swtpm.Server{Device: instance, Control: control, StopOnControlClose: true}
		served <- s.Serve(ctx)
	}()
	m, err := g.qemu(ctx, b, socket)
	if err != nil {
		cancel()
		<-served
		return nil, errors.Join(err, instance.Close())
	}
	end := sync.OnceValue(func() error {
		for range m.lines { // until QEMU has ended
		}
		cancel()
		<-served
		g.stopVTPM = nil
		return instance.Close()
	})
	g.stopVTPM = func() { cancel(); end() }
	m.stop = func() error {
		defer time.AfterFunc(guestGrace, cancel).Stop()
		return end()
	}
	return m, nil
}

// qemu starts QEMU. It ends with ctx, or with the guest.
func (g *guestDemo) qemu(ctx context.Context, b guestBoot, socket string) (*guestMachine, error) {
	m := &guestMachine{lines: make(chan string, 1024), console: filepath.Join(g.dir, fmt.Sprintf("console-%d-%s.txt", g.boots, b.name))}
	initrd := filepath.Join(g.dir, fmt.Sprintf("initrd-%d", g.boots))
	if err := os.WriteFile(initrd, b.initrd, 0o600); err != nil {
		return nil, err
	}
	accel, cpu := "tcg", "max"
	if g.parts.kvm {
		accel, cpu = "kvm", "host"
	}
	args := []string{"-name", demoVM, "-machine", "q35,accel=" + accel, "-cpu", cpu, "-smp", "1", "-m", guestMemory,
		"-display", "none", "-nodefaults", "-no-user-config", "-no-reboot",
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + option(g.parts.firmware),
		"-drive", "if=pflash,unit=1,format=raw,file=" + option(g.variables),
		"-kernel", g.parts.kernel, "-initrd", initrd, "-append", b.cmdline,
		"-chardev", "socket,id=tpm,path=" + option(socket), "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0",
		"-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,romfile=",
		"-drive", "if=none,id=disk0,format=raw,file=" + option(b.disk), "-device", "virtio-blk-pci,drive=disk0",
		"-serial", "file:" + option(m.console), "-serial", "stdio"}
	for _, name := range []string{agent.FileURL, agent.FileCA, agent.FileCert, agent.FileKey} {
		args = append(args, "-fw_cfg", "name=opt/org.vouchsafe/"+name+",file="+option(filepath.Join(g.credentialDir(), name)))
	}
	for name, text := range b.give {
		args = append(args, "-fw_cfg", "name=opt/org.vouchsafe.demo/"+name+",string="+option(text))
	}
	args = append(args, "-fw_cfg", "name=opt/org.vouchsafe.demo/name,string="+b.task+"\n")
	cmd := exec.CommandContext(ctx, g.parts.qemu, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var complaint strings.Builder
	cmd.Stderr = &complaint
	release, err := startBound(cmd)
	if err != nil {
		return nil, fmt.Errorf("starting QEMU: %w", err)
	}
	go func() {
		defer release()
		defer close(m.lines)
		r := bufio.NewReaderSize(out, 64<<10)
		for {
			line, err := readLine(r)
			if err != nil {
				break
			}
			select {
			case m.lines <- line:
			case <-ctx.Done():
			}
		}
		io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil && ctx.Err() == nil {
			m.lines <- fmt.Sprintf("guest: FAILED QEMU: %v: %s", err, strings.TrimSpace(complaint.String()))
		}
	}()
	return m, nil
}

// option writes a value as QEMU reads it in a list: a comma ends one, two are one.
func option(value string) string { return strings.ReplaceAll(value, ",", ",,") }

// maxGuestLine bounds a line of the guest: an event log in base64 is the longest.
const maxGuestLine = 1 << 20

func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, more, err := r.ReadLine()
		if err != nil {
			return "", err
		}
		if line = append(line, part...); len(line) > maxGuestLine {
			return "", errors.New("the guest's line is too long")
		}
		if !more {
			return strings.TrimSpace(string(line)), nil
		}
	}
}

// wait waits until the guest reports something that begins with word, and returns what follows.
func (m *guestMachine) wait(ctx context.Context, word string) (string, error) {
	return m.until(ctx, word, func(line string, report bool) (string, bool) {
		if line == word {
			return "", report
		}
		rest, ok := strings.CutPrefix(line, word+" ")
		return rest, ok && report
	})
}

// hear waits until the agent in the guest says something with these words, and returns the line.
func (m *guestMachine) hear(ctx context.Context, words string) (string, error) {
	return m.until(ctx, words, func(line string, report bool) (string, bool) {
		return line, !report && strings.Contains(line, words)
	})
}

// until reads lines until one will do. What the agent says on the way is kept in m.said.
func (m *guestMachine) until(ctx context.Context, what string, do func(line string, report bool) (string, bool)) (string, error) {
	patience := time.NewTimer(guestPatience)
	defer patience.Stop()
	for {
		select {
		case line, ok := <-m.lines:
			if !ok {
				return "", fmt.Errorf("the guest ended before it said %q; its console ends with:\n%s", what, m.tail())
			}
			line, report := strings.CutPrefix(line, "guest: ")
			if !report && line != "" && !strings.Contains(line, "\x1b") { // the firmware uses this port, too
				m.said = append(m.said, line)
			}
			if got, ok := do(line, report); ok {
				return got, nil
			}
			switch {
			case report && strings.HasPrefix(line, "FAILED"):
				return "", fmt.Errorf("the guest: %s; its console ends with:\n%s", line, m.tail())
			case report && line == "shut":
				return "", fmt.Errorf("the disk stays shut: %s", strings.Join(m.said, "; "))
			}
		case <-patience.C:
			return "", fmt.Errorf("the guest did not say %q in %v; its console ends with:\n%s", what, guestPatience, m.tail())
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// tail is what a person would see at the console last.
func (m *guestMachine) tail() string {
	b, err := os.ReadFile(m.console)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(b), "\r", "")), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

func (g *guestDemo) credentialDir() string { return filepath.Join(g.dir, "credential") }

// giveCredential writes what the agent is given by fw_cfg.
func (g *guestDemo) giveCredential() error {
	_, port, ok := strings.Cut(strings.TrimPrefix(g.operator.url, "https://"), ":")
	if !ok {
		return fmt.Errorf("the service's address has no port: %s", g.operator.url)
	}
	key, ok := g.guest.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return errors.New("internal error: the guest's credential is no ECDSA key")
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	var chain []byte
	for _, c := range g.guest.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	if err := os.Mkdir(g.credentialDir(), 0o700); err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		agent.FileURL: []byte("https://" + net.JoinHostPort(guestGateway, port) + "\n"), agent.FileCA: []byte(api.PEM(g.root)), agent.FileCert: chain,
		agent.FileKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	} {
		if err := os.WriteFile(filepath.Join(g.credentialDir(), name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}
