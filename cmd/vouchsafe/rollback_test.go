package main

import (
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/ca"
	"github.com/vouchsafe/vouchsafe/internal/vtpm"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// process runs this program until it is killed or told to stop.
func (w *hostWorld) process(args ...string) (end func(os.Signal)) {
	w.t.Helper()
	bin := filepath.Join(w.t.TempDir(), "vouchsafe") // by this name TestMain knows what to be
	must(w.t, os.Symlink(os.Args[0], bin))
	cmd := exec.Command(bin, args...)
	cmd.Stderr = w.logs
	must(w.t, cmd.Start())
	w.t.Cleanup(func() { cmd.Process.Kill() }) // in case the test gives up
	return func(s os.Signal) {
		cmd.Process.Signal(s)
		cmd.Wait()
	}
}

// up runs service and host in one process.
func (w *hostWorld) up() (end func(os.Signal)) {
	w.t.Helper()
	os.Remove(filepath.Join(w.svc, fileURL))
	end = w.process("up", "--state", w.dir, "--listen", "127.0.0.1:0", "--accept-unattested-host", "--own-tpm", "none")
	waitURL(w.t, w.svc, w.logs)
	return end
}

// carried starts a VM as soon as somebody answers at its socket.
func (w *hostWorld) carried(vm string) (m *machine, err error) {
	w.t.Helper()
	w.until(vm+" is carried", func() bool {
		m, err = w.start(vm)
		return !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED)
	})
	return m, err
}

// recorded is how often the state was written, as the service has it.
func (w *hostWorld) recorded(vm string) (n uint64) {
	w.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(w.svc, fileStore)+"?mode=ro&_pragma=busy_timeout(5000)")
	must(w.t, err)
	defer db.Close()
	must(w.t, db.QueryRow(`SELECT writes FROM vm WHERE name = $1`, vm).Scan(&n))
	return n
}

// told waits until the service knows of all that was written.
func (w *hostWorld) told(vm string) {
	w.t.Helper()
	w.until("the service knows what was written", func() bool {
		n, err := vtpm.Written(filepath.Join(w.dir, dirVTPMs, vm))
		must(w.t, err)
		return w.recorded(vm) >= n
	})
}

const guarded = tpm2.Handle(0x01800200)

// guard makes an NV counter that the owner counts, and that others read with a
// secret; whoever guesses it is counted by the dictionary attack protection.
func (m *machine) guard() error {
	i, err := m.tpm.NVDefine(client.Hierarchy(tpm2.RHOwner, nil), tpm2.TPMSNVPublic{NVIndex: guarded, NameAlg: tpm2.AlgSHA256, DataSize: 8,
		Attributes: (tpm2.NVOwnerRead | tpm2.NVOwnerWrite | tpm2.NVAuthRead).With(tpm2.NTCounter)}, client.Secret([]byte("secret")))
	if err == nil {
		err = m.tpm.NVIncrement(client.Hierarchy(tpm2.RHOwner, nil), i)
	}
	return err
}

func (m *machine) count() error {
	i, err := m.tpm.NVIndex(guarded, nil)
	if err == nil {
		err = m.tpm.NVIncrement(client.Hierarchy(tpm2.RHOwner, nil), i)
	}
	return err
}

func (m *machine) guess() error {
	i, err := m.tpm.NVIndex(guarded, client.Secret([]byte("a guess")))
	if err != nil {
		return err
	}
	if _, err = m.tpm.NVRead(i, i); !errors.Is(err, tpm2.RCAuthFail) {
		return fmt.Errorf("a wrong secret: %v", err)
	}
	return nil
}

// counters are what a roll-back takes back: the index, and the failed tries.
func (m *machine) counters() (value uint64, tries uint32, err error) {
	i, err := m.tpm.NVIndex(guarded, nil)
	if err != nil {
		return 0, 0, err
	}
	b, err := m.tpm.NVRead(client.Hierarchy(tpm2.RHOwner, nil), i)
	if err != nil {
		return 0, 0, err
	}
	tries, _, err = m.tpm.Property(tpm2.PTLockoutCounter)
	return binary.BigEndian.Uint64(b), tries, err
}

// TestOldCopyIsRefused: a copy of a vTPM's file that was made since the VM's last
// start is put back after a crash, and after an orderly end. It gets no lease; the
// newest file does; and an operator may accept the copy, by its number.
func TestOldCopyIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  os.Signal
	}{{"after kill -9", syscall.SIGKILL}, {"after an orderly end", syscall.SIGTERM}} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			w := &hostWorld{t: t, dir: dir, svc: dir, logs: &lockedBuffer{}}
			end := w.up()
			if out, err := w.cli("vm", "create", "web1"); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			m, err := w.carried("web1")
			must(t, err)
			must(t, m.guard())
			before, tries, err := m.counters()
			if err != nil || tries != 0 {
				t.Fatalf("%d tries, %v", tries, err)
			}
			place := filepath.Join(dir, dirVTPMs, "web1")
			put := func(from string) {
				t.Helper()
				must(t, errors.Join(os.RemoveAll(place), os.CopyFS(place, os.DirFS(from))))
				private(t, place)
			}
			keep := func() string {
				t.Helper()
				to := t.TempDir()
				must(t, os.CopyFS(to, os.DirFS(place)))
				return to
			}
			old := keep()

			// The guest lives on.
			for range 3 {
				must(t, m.guess())
				must(t, m.count())
			}
			if tt.end == syscall.SIGKILL {
				w.told("web1") // what it does not know of is lost: docs/THREATS.md
			}
			end(tt.end)
			m.off()
			newest := keep()

			put(old)
			if fs, err := examine(t.Context(), dir, nil); err != nil || !strings.Contains(fmt.Sprint(fs), "STATE_ROLLED_BACK") {
				t.Errorf("check says %v, %v", fs, err)
			}
			end = w.up()
			if m, err := w.carried("web1"); err == nil {
				value, tries, err := m.counters()
				t.Errorf("an old copy runs: the counter went from %d to %d, failed tries from 3 to %d, %v", before+3, value, tries, err)
				m.off()
			}
			w.until("the old copy is named", func() bool {
				return strings.Contains(w.logs.String(), "STATE_ROLLED_BACK") && strings.Contains(w.logs.String(), "accept-state --list")
			})

			// The newest one is no roll-back.
			end(syscall.SIGTERM)
			put(newest)
			end = w.up()
			m, err = w.carried("web1")
			must(t, err)
			if value, tries, err := m.counters(); err != nil || value != before+3 || tries < 3 {
				t.Errorf("of the newest state: counter %d, want %d; %d failed tries, want 3; %v", value, before+3, tries, err)
			}
			left := keep()
			must(t, m.count())
			w.told("web1")
			end(syscall.SIGKILL)
			m.off()

			// And if the copy is all that is left: it is accepted, by its number.
			put(left)
			writes, err := vtpm.Written(left)
			must(t, err)
			end = w.up()
			if m, err := w.carried("web1"); err == nil {
				m.off()
				t.Error("an old copy runs")
			}
			if out, err := w.cli("vm", "accept-state", "--list"); err != nil || !strings.Contains(out, fmt.Sprint(writes)) {
				t.Errorf("%v: %s", err, out)
			}
			f := clientFlags{state: dir}
			c, err := f.open()
			must(t, err)
			var states []api.StateShown
			must(t, c.call(t.Context(), "GET", "/v1/states-shown", nil, &states))
			if len(states) != 1 || uint64(states[0].Writes) != writes || states[0].RecordWrites <= states[0].Writes {
				t.Fatalf("shown: %+v", states)
			}
			accept := []string{"vm", "accept-state", "web1", "--generation", fmt.Sprint(states[0].Generation), "--reason", "the disk failed"}
			if out, err := w.cli(accept...); refused(err, "STATE_ROLLED_BACK") != nil {
				t.Errorf("accepted by the way: %v: %s", err, out)
			}
			if out, err := w.cli(append(accept, "--writes", fmt.Sprint(writes))...); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			m, err = w.carried("web1")
			must(t, err)
			if value, _, err := m.counters(); err != nil || value != before+3 {
				t.Errorf("of the accepted state: counter %d, want %d, %v", value, before+3, err)
			}
			m.off()
			end(syscall.SIGTERM)
			noErrors(t, dir)
		})
	}
}

// TestKillsRollNothingBack kills service and host at any moment, alone and both,
// while a guest writes: the state that lies there afterwards is never refused, and
// nothing that the guest was told of is lost.
func TestKillsRollNothingBack(t *testing.T) {
	cycles := 6
	if os.Getenv("VOUCHSAFE_LONG") != "" {
		cycles = 100
	}
	base := t.TempDir()
	w := &hostWorld{t: t, dir: filepath.Join(base, "host"), svc: filepath.Join(base, "service"), logs: &lockedBuffer{}}
	newState(t, w.svc)
	l, err := net.Listen("tcp", "127.0.0.1:0") // the service comes back where it was
	must(t, err)
	address := l.Addr().String()
	must(t, l.Close())
	server := func() func(os.Signal) {
		os.Remove(filepath.Join(w.svc, fileURL))
		end := w.process("server", "--state", w.svc, "--listen", address, "--own-tpm", "none")
		waitURL(t, w.svc, w.logs)
		return end
	}
	host := func() func(os.Signal) { return w.process("host", "run", "--state", w.dir) }
	endServer := server()
	f := clientFlags{state: w.svc}
	w.op, err = f.open()
	must(t, err)
	key, got, err := askCredential(t.Context(), w.op, ca.KindAgent, "h1")
	must(t, err)
	must(t, saveCredential(filepath.Join(w.dir, dirHost), key, got.PEM, got.RootCA))
	must(t, os.WriteFile(filepath.Join(w.dir, dirHost, filepath.Base(fileURL)), []byte("https://"+address), 0o600))
	if out, err := w.cli("host", "add", "h1", "--accept-unattested-host"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	endHost := host()
	if out, err := w.cli("vm", "create", "web1", "--host", "h1"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m, err := w.carried("web1")
	must(t, err)
	must(t, m.guard())
	var acked atomic.Uint64
	first, _, err := m.counters()
	must(t, err)
	acked.Store(first)
	killed := map[string]int{}
	for cycle := range cycles {
		done := make(chan struct{})
		go func() {
			defer close(done)
			for m.count() == nil {
				acked.Add(1)
			}
		}()
		time.Sleep(time.Duration(mathrand.IntN(2500)) * time.Millisecond)
		what := []string{"host", "service", "service, then the VM", "service, then host", "both"}[cycle%5]
		killed[what]++
		switch what {
		case "host":
			endHost(syscall.SIGKILL)
			endHost = host()
		case "service":
			endServer(syscall.SIGKILL)
			endServer = server()
			time.Sleep(time.Duration(mathrand.IntN(500)) * time.Millisecond)
			m.conn.Close()
		case "service, then the VM": // which ends while nobody hears of it
			endServer(syscall.SIGKILL)
			time.Sleep(time.Duration(mathrand.IntN(500)) * time.Millisecond)
			m.conn.Close()
			time.Sleep(time.Duration(mathrand.IntN(500)) * time.Millisecond)
			endServer = server()
		case "service, then host":
			endServer(syscall.SIGKILL)
			time.Sleep(time.Duration(mathrand.IntN(500)) * time.Millisecond)
			endHost(syscall.SIGKILL)
			endServer = server()
			endHost = host()
		case "both":
			endHost(syscall.SIGKILL)
			endServer(syscall.SIGKILL)
			endServer = server()
			endHost = host()
		}
		<-done
		m.off()
		w.until("the VM starts again", func() bool { m, err = w.carried("web1"); return err == nil })
		value, _, err := m.counters()
		if want := acked.Load(); err != nil || value < want || value > want+1 { // one was written, and not answered
			t.Fatalf("cycle %d, %s killed: the counter is %d, %d were answered, %v\n%s", cycle, what, value, want, err, w.logs)
		}
		acked.Store(value)
		if strings.Contains(w.logs.String(), "STATE_ROLLED_BACK") {
			t.Fatalf("cycle %d, %s killed: a state that was not touched is refused\n%s", cycle, what, w.logs)
		}
	}
	m.off()
	endHost(syscall.SIGTERM)
	endServer(syscall.SIGTERM)
	noErrors(t, w.svc)
	t.Logf("killed: %v; the guest counted to %d, the service knows of %d writes", killed, acked.Load()-first, w.recorded("web1"))
}
