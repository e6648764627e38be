package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/agent"
	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// resetVM is a guest's reboot under the lease that its host has: no service is asked.
func (d *demo) resetVM(t *testing.T, commandLine string) {
	t.Helper()
	d.powerOff()
	d.adm = nil
	must(t, d.run())
	must(t, d.measure(commandLine))
}

// goAway stops the service; comeBack starts it again on what it left.
func (d *demo) goAway(t *testing.T) {
	t.Helper()
	must(t, d.stopService())
	d.stopService = nil
}

func (d *demo) comeBack(t *testing.T) {
	t.Helper()
	dir := filepath.Join(d.dir, "service")
	os.Remove(filepath.Join(dir, fileURL))
	must(t, d.startService(dir))
	d.host.url = d.operator.url
}

// TestOffline tells the whole of opening a disk without the service: nobody may
// by default; who may, may in an approved boot, once in each, until the TPM
// says that it was enough; what was withdrawn goes when the VM is online again.
func TestOffline(t *testing.T) {
	d := admittedDemo(t)
	_, err := d.unlocked() // formats the disk and records its volume key
	must(t, err)
	offline := func() (agent.OfflineKey, error) {
		t.Helper()
		a, err := d.agent(d.guest)
		must(t, err)
		return a.OfflineDiskKey("root")
	}
	opens := func(what string, boots uint32) {
		t.Helper()
		k, err := offline()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if !k.Key.Equal(d.key) || string(k.VolumeKey) != string(d.volume) || len(k.VolumeKey) == 0 {
			t.Errorf("%s: another key, or another volume key", what)
		}
		if k.Boots != boots {
			t.Errorf("%s: %d more boots, want %d", what, k.Boots, boots)
		}
		must(t, d.disk.Check(t.Context(), k.Key, k.VolumeKey))
	}
	shut := func(what string, want error) {
		t.Helper()
		k, err := offline()
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		k.Key.Erase()
	}
	path := "/v1/vms/" + demoVM + "/offline"
	leave := func(method string, in any) (o api.OfflineLeave) {
		t.Helper()
		must(t, d.operator.call(t.Context(), method, path, in, &o))
		return o
	}

	// 1. By default there is none.
	if o := leave("GET", nil); o.Boots != 0 || o.Issued != "" || len(o.Findings) != 0 {
		t.Errorf("by default: %+v", o)
	}
	shut("by default", agent.ErrNoTicket)
	d.goAway(t)
	d.resetVM(t, demoCommandLine)
	a, err := d.agent(d.guest)
	must(t, err)
	if _, err := a.Attest(t.Context(), "root"); !agent.Unreachable(err) {
		t.Errorf("a stopped service is not unreachable: %v", err)
	}
	shut("by default, without the service", agent.ErrNoTicket)
	d.comeBack(t)

	// 2. Allowed: from the next admission with the disk on.
	if err := d.operator.call(t.Context(), "PUT", path, api.AllowOffline{Boots: 21}, nil); err == nil {
		t.Error("21 boots were allowed")
	}
	if o := leave("PUT", api.AllowOffline{Boots: 2, Seconds: 3600}); o.Boots != 2 || o.Findings[0].Code != "OFFLINE_UNLOCK_ALLOWED" {
		t.Errorf("allowed: %+v", o)
	}
	shut("allowed, and not admitted since", agent.ErrNoTicket)
	must(t, d.boot(demoCommandLine))
	must(t, d.diskKey())
	if o := leave("GET", nil); o.Issued == "" || o.IssuedBoots != 2 || o.IssuedSeconds != 3600 {
		t.Errorf("after the admission: %+v", o)
	}
	d.goAway(t)
	d.resetVM(t, demoCommandLine)
	opens("the first boot without the service", 1)
	a, err = d.agent(d.guest)
	must(t, err)
	must(t, a.Lock())
	shut("twice in one boot", nil)
	d.resetVM(t, demoCommandLine+" init=/bin/sh")
	shut("a boot that nobody approved", nil) // the second of two
	d.resetVM(t, demoCommandLine)
	shut("the third boot", agent.ErrTicketUsedUp)

	// 3. Online again: all of it anew, and it still cannot be had by changing the ticket.
	d.comeBack(t)
	must(t, d.boot(demoCommandLine))
	must(t, d.diskKey())
	d.goAway(t)
	d.resetVM(t, demoCommandLine)
	opens("renewed", 1)
	stretch(t, d)
	d.resetVM(t, demoCommandLine)
	shut("a ticket that says more boots than were sealed", nil)
	d.comeBack(t)

	// 4. Running time.
	leave("PUT", api.AllowOffline{Boots: 20, Seconds: 60})
	must(t, d.boot(demoCommandLine))
	must(t, d.diskKey())
	d.goAway(t)
	d.resetVM(t, demoCommandLine)
	opens("within its time", 19)
	now, err := d.tpm.ReadClock()
	must(t, err)
	// The owner may set Clock forward, and nobody back (Part 3, 29.3).
	must(t, d.tpm.Execute(&tpm2.ClockSet{Auth: tpm2.RHOwner, NewTime: now.ClockInfo.Clock + 61_000}, nil, client.Hierarchy(tpm2.RHOwner, nil)))
	shut("after its time", agent.ErrTicketUsedUp)
	d.comeBack(t)

	// 5. Withdrawn: what is out is said, until the VM was seen without it.
	leave("PUT", api.AllowOffline{Boots: 3})
	must(t, d.boot(demoCommandLine))
	must(t, d.diskKey())
	if o := leave("DELETE", nil); o.Boots != 0 || o.IssuedBoots != 3 || o.Findings[0].Code != "OFFLINE_UNLOCK_OUT" {
		t.Errorf("withdrawn: %+v", o)
	}
	d.goAway(t)
	d.resetVM(t, demoCommandLine)
	opens("withdrawn, and kept off the network", 2) // THREATS.md says so
	d.comeBack(t)
	_, err = d.attest("") // admitted, whatever it asks for
	must(t, err)
	shut("online again", agent.ErrNoTicket)
	if o := leave("GET", nil); o.Issued == "" {
		t.Error("the service believes that the ticket is gone before the VM said so")
	}
	_, err = d.attest("")
	must(t, err)
	if o := leave("GET", nil); o.Issued != "" || len(o.Findings) != 0 {
		t.Errorf("seen without it: %+v", o)
	}

	// 6. A revoked VM that is online again forgets it as well.
	leave("PUT", api.AllowOffline{Boots: 3})
	must(t, d.boot(demoCommandLine))
	must(t, d.diskKey())
	must(t, d.operator.call(t.Context(), "POST", "/v1/vms/"+demoVM+"/revoke", api.RevokeVM{Reason: "test"}, nil))
	d.resetVM(t, demoCommandLine)
	opens("revoked, and kept off the network", 2)
	if _, err := d.attest("root"); refused(err, "VM_REVOKED") != nil {
		t.Error(err)
	}
	shut("revoked, and online again", agent.ErrNoTicket)
	if err := d.operator.call(t.Context(), "PUT", path, api.AllowOffline{Boots: 1}, nil); refused(err, "VM_REVOKED") != nil {
		t.Errorf("allowed to a revoked VM: %v", err)
	}
}

// stretch changes the ticket in the NV index, as guest root may.
func stretch(t *testing.T, d *demo) {
	t.Helper()
	owner := client.Hierarchy(tpm2.RHOwner, nil)
	index, err := d.tpm.NVIndex(0x01805653, nil)
	must(t, err)
	data, err := d.tpm.NVRead(owner, index)
	must(t, err)
	at := indexOf(data, `"resets":`)
	data[at] = '9' // as many digits, and more boots
	must(t, d.tpm.NVWrite(owner, index, data, 0))
}

func indexOf(data []byte, what string) int {
	for i := range data {
		if len(data)-i >= len(what) && string(data[i:i+len(what)]) == what {
			return i + len(what)
		}
	}
	panic("internal error: the ticket has no " + what)
}
