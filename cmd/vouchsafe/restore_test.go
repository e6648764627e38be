package main

import (
	"os"
	"path/filepath"
	"testing"

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
	var states []api.StateAhead
	must(t, d.operator.call(t.Context(), "GET", "/v1/states-ahead", nil, &states))
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
