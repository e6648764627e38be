package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/api"
)

// TestAcceptState rehearses docs/runbooks/restore.md with a real vTPM under real
// leases: an older backup comes back, the host's state is newer than the record,
// an operator accepts it, and the VM lives on. Older copies stay out.
func TestAcceptState(t *testing.T) {
	d := admittedDemo(t)
	_, err := d.unlocked()
	must(t, err)
	service := filepath.Join(d.dir, "service")
	backup := filepath.Join(t.TempDir(), "service.backup")
	_, err = backupService(t.Context(), service, backup)
	must(t, err)
	recorded := d.generation
	d.powerOff()
	old := filepath.Join(d.dir, "old")
	must(t, os.CopyFS(old, os.DirFS(d.stateDir())))

	// Life goes on, and then the machine is lost.
	must(t, d.well())
	must(t, d.well())
	d.goAway(t)
	must(t, os.Rename(filepath.Join(service, fileRecovery), filepath.Join(d.dir, fileRecovery)))
	must(t, os.RemoveAll(service))
	_, _, err = restoreService(t.Context(), backup, filepath.Join(d.dir, fileRecovery), service, nil)
	must(t, err)
	d.comeBack(t)

	// The running vTPM's lease is of another history; a new one is refused.
	must0 := func(what string, err error, code string) {
		t.Helper()
		if refused(err, code) != nil {
			t.Errorf("%s: %v, want %s", what, err, code)
		}
	}
	must0("renewing", d.host.call(t.Context(), "POST", "/v1/vms/"+demoVM+"/lease/"+d.lease.ID+"/renew", struct{}{}, nil), "LEASE_GONE")
	d.powerOff()
	_, err = d.lend(d.generation)
	must0("the newest state", err, "STATE_AHEAD")
	var states []api.StateShown
	must(t, d.operator.call(t.Context(), "GET", "/v1/states-shown", nil, &states))
	if len(states) != 1 || states[0].VM != demoVM || states[0].Generation != d.generation || states[0].Record != recorded {
		t.Errorf("shown: %+v; the host has %d, the record %d", states, d.generation, recorded)
	}
	accept := func(c *apiClient, generation int64) error {
		return c.call(t.Context(), "POST", "/v1/vms/"+demoVM+"/accept-state", api.AcceptState{Generation: generation, Reason: "restored an older backup"}, nil)
	}
	must0("another generation", accept(d.operator, d.generation+1), "STATE_NOT_SHOWN")
	must0("the host accepts it itself", accept(d.host, d.generation), "may not do this")
	must(t, accept(d.operator, d.generation))
	must0("again", accept(d.operator, d.generation), "STATE_NOT_SHOWN")

	// It lives on; a copy of the backup's time does not.
	must(t, d.well())
	d.powerOff()
	_, err = d.lend(recorded)
	must0("the state of the backup's time", err, "STATE_ROLLED_BACK")
	current := d.stateDir() + ".current"
	must(t, os.Rename(d.stateDir(), current))
	must(t, os.Rename(old, d.stateDir()))
	l, err := d.lend(d.generation)
	must(t, err)
	must0("that state under the newest key", d.take(l), "STATE_WRONG_KEY")
	must(t, os.RemoveAll(d.stateDir()))
	must(t, os.Rename(current, d.stateDir()))
	must(t, d.well())
}

// TestRestoreKill kills a restore with SIGKILL at random moments: nothing in clear
// lies anywhere but in the place that it was for, and there a service is whole or no
// service; the next restore takes away what was left.
func TestRestoreKill(t *testing.T) {
	cycles := 40
	if os.Getenv("VOUCHSAFE_LONG") != "" {
		cycles = 400
	}
	base := t.TempDir()
	bin := filepath.Join(base, "vouchsafe")
	must(t, os.Symlink(os.Args[0], bin))
	dir := filepath.Join(base, "state")
	populated(t, dir, 3)
	sealed := filepath.Join(base, "backup")
	_, err := backupService(t.Context(), dir, sealed)
	must(t, err)
	var secrets [][]byte
	for _, name := range inClear {
		if text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name))); err == nil {
			secrets = append(secrets, bytes.TrimSpace(text))
		}
	}
	if len(secrets) != 2 {
		t.Fatalf("%d files in clear", len(secrets))
	}
	place := filepath.Join(base, "place")
	restored := filepath.Join(place, "state")
	restore := func() *exec.Cmd {
		return exec.Command(bin, "restore", sealed, "--recovery", recoveryOf[dir], "--state", restored)
	}
	start := time.Now()
	out, err := restore().CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	whole := time.Since(start)
	noErrors(t, restored)
	finished, cutOff, left := 0, 0, 0
	for cycle := range cycles {
		must(t, os.RemoveAll(restored))
		cmd := restore()
		must(t, cmd.Start())
		time.Sleep(time.Duration(rand.Int64N(int64(whole) * 11 / 10)))
		cmd.Process.Kill()
		cmd.Wait()
		must(t, filepath.WalkDir(place, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasPrefix(path, restored+"/") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, s := range secrets {
				if bytes.Contains(text, s) {
					t.Errorf("cycle %d: %s is left in clear", cycle, path)
				}
			}
			return err
		}))
		if some, err := filepath.Glob(filepath.Join(place, restoreDir)); err != nil || len(some) > 1 {
			t.Errorf("cycle %d: %v, %v", cycle, some, err)
		} else {
			left += len(some)
		}
		switch _, err := readService(restored); {
		case err == nil:
			finished++
			noErrors(t, restored)
		case exists(restored):
			cutOff++
			if out, err := restore().CombinedOutput(); err == nil || !strings.Contains(string(out), "hint: a restore was cut off there: rm -r "+restored) {
				t.Errorf("cycle %d: over one that was cut off: %v: %s", cycle, err, out)
			}
		}
	}
	must(t, os.RemoveAll(restored))
	if out, err := restore().CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	noErrors(t, restored)
	if some, err := os.ReadDir(place); err != nil || len(some) != 1 {
		t.Errorf("left at last: %v, %v", some, err)
	}
	if left == 0 {
		t.Error("no restore was killed in the middle: the test kills too late or too early")
	}
	t.Logf("%d kills: %d left a directory of sealed files, %d a place without a service, %d came too late", cycles, left, cutOff, finished)
}
