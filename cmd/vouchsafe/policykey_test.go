package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/agent"
	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// admittedDemo is a demo whose VM has its disk.
func admittedDemo(t *testing.T) *demo {
	t.Helper()
	d, err := newDemo(t.Context(), &app{out: io.Discard, err: io.Discard, langFlag: "en"}, "")
	must(t, err)
	t.Cleanup(d.close)
	for _, step := range []func() (string, error){d.born, d.booted, d.attested} {
		_, err := step()
		must(t, err)
	}
	must(t, d.diskKey())
	return d
}

func (d *demo) policyVersions(t *testing.T) string {
	t.Helper()
	var k api.Key
	must(t, d.operator.call(t.Context(), "GET", "/v1/key?name=policy", nil, &k))
	var parts []string
	for _, v := range k.Versions {
		parts = append(parts, fmt.Sprintf("%d %s", v.Number, strings.Fields(v.Used)[0]))
	}
	return strings.Join(parts, ", ")
}

// TestRotatePolicyKey: the tenant's policy key is rotated under a VM whose local
// share is sealed under it. No boot is refused, the share follows, and an
// approval by the old version no longer opens it.
func TestRotatePolicyKey(t *testing.T) {
	d := admittedDemo(t)
	var err error
	old := d.unlock
	rotate := func() error {
		return d.operator.call(t.Context(), "POST", "/v1/key/rotate?name=policy", nil, nil)
	}
	versions := func(want string) {
		t.Helper()
		if got := d.policyVersions(t); got != want {
			t.Errorf("versions and VMs sealed under them: %s, want %s", got, want)
		}
	}
	reboot := func() {
		t.Helper()
		must(t, d.boot(demoCommandLine))
		must(t, d.diskKey()) // compares with the key from before
	}
	opens := func(what string, want bool) {
		t.Helper()
		a, err := d.agent(d.guest)
		must(t, err)
		share, err := a.LocalShare(&old)
		share.Erase()
		if (err == nil) != want {
			t.Errorf("%s: the first approval opens the local share: %v", what, err)
		}
	}
	reboot()
	versions("1 1") // it told at its second admission
	must(t, rotate())
	versions("2 0, 1 1")
	must(t, d.boot(demoCommandLine))
	opens("after the rotation", true)
	must(t, d.diskKey())
	if d.unlock.Next == nil {
		t.Fatal("the service does not ask for the share to be sealed anew")
	}
	opens("sealed anew", false)
	if n := localShares(t, d); n != 1 {
		t.Errorf("%d objects hold the local share", n)
	}
	reboot()
	versions("2 1, 1 0")
	if d.unlock.Next != nil {
		t.Error("the service still asks for it")
	}

	// Cut off between sealing anew and removing the old object: both are there.
	must(t, rotate())
	must(t, d.boot(demoCommandLine))
	d.cutAt(t, 1) // persisting the new one is the first, removing the old one the second
	if err := d.diskKey(); refused(err, "power was cut") != nil {
		t.Fatal(err)
	}
	d.tpm.Close()
	d.tpm, err = client.Open("unix:" + filepath.Join(d.dir, "vtpm.sock"))
	must(t, err)
	if n := localShares(t, d); n != 2 {
		t.Fatalf("%d objects hold the local share: the test does not do what it says", n)
	}
	reboot()
	if n := localShares(t, d); n != 1 {
		t.Errorf("%d objects hold the local share after the next boot", n)
	}
	versions("3 1, 2 0, 1 0")

	// Approving goes on under the newest; a withdrawn boot stays withdrawn.
	var ps []api.Policy
	must(t, d.operator.call(t.Context(), "GET", "/v1/vms/"+demoVM+"/policy", nil, &ps))
	if len(ps) != 1 {
		t.Errorf("%d approved boots", len(ps))
	}

	// Three versions are kept; one that is needed is not dropped.
	must(t, rotate())
	versions("4 0, 3 1, 2 0, 1 0")
	must(t, rotate())
	must(t, rotate())
	versions("6 0, 5 0, 4 0, 3 1")
	if err := rotate(); refused(err, "KEY_VERSION_IN_USE") != nil {
		t.Errorf("dropping a version that a VM needs: %v", err)
	}
	reboot()
	reboot()
	versions("6 1, 5 0, 4 0, 3 0")
	must(t, rotate())

	// A restart changes nothing, and neither does another root key and another
	// authority under all of it.
	service := filepath.Join(d.dir, "service")
	d.goAway(t)
	if _, err := rotateRoot(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	_, err = rotateAuthority(t.Context(), service, "vm-identity", filepath.Join(service, fileRecovery))
	must(t, err)
	before := d.adm.Chain[1]
	d.comeBack(t)
	reboot()
	versions("7 0, 6 1, 5 0, 4 0")
	if after := d.adm.Chain[1]; after.Equal(before) {
		t.Error("the identity is by the authority of before")
	}
	reboot()
	versions("7 1, 6 0, 5 0, 4 0")

	// Others are refused, with the way to do it.
	for name, want := range map[string]string{"root": "not rotated over the network", "ca/operator": "not rotated over the network", "audit": "nothing rotates", "x": "nothing rotates"} {
		if err := d.operator.call(t.Context(), "POST", "/v1/key/rotate?name="+name, nil, nil); refused(err, want) != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	a, err := d.agent(d.guest)
	must(t, err)
	if err := a.Call(t.Context(), "POST", "/v1/key/rotate?name=policy", nil, nil); refused(err, "kind guest may not") != nil {
		t.Errorf("a guest rotates: %v", err)
	}
}

func localShares(t *testing.T, d *demo) (n int) {
	t.Helper()
	there, err := d.tpm.Handles(tpm2.HandleSpace(0x81))
	must(t, err)
	for _, h := range there {
		if h == agent.LocalShareHandle || h == agent.LocalShareHandle+1 {
			n++
		}
	}
	return n
}

// failing is a TPM's connection on which power is cut: at the nth EvictControl.
type failing struct {
	net.Conn
	evictions int
}

func (f *failing) Write(p []byte) (int, error) {
	if len(p) >= 10 && tpm2.CC(binary.BigEndian.Uint32(p[6:])) == tpm2.CCEvictControl {
		if f.evictions--; f.evictions < 0 {
			return 0, errors.New("power was cut")
		}
	}
	return f.Conn.Write(p)
}

// cutAt connects the agent's side anew, with a cut at the nth EvictControl from now.
func (d *demo) cutAt(t *testing.T, n int) {
	t.Helper()
	must(t, d.tpm.Close())
	conn, err := net.Dial("unix", filepath.Join(d.dir, "vtpm.sock"))
	must(t, err)
	d.adm = nil
	d.tpm = client.New(&failing{conn, n})
}
