package neighbours

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestBoot boots a stock kernel by SeaBIOS and by OVMF; /dev/tpm0 works in the
// guest, and the firmware's event log replays to the PCRs of the vTPM.
func TestBoot(t *testing.T) {
	for _, b := range []boot{{tpm: "tis"}, {tpm: "crb"}, {tpm: "crb", ovmf: true}} {
		name := "SeaBIOS-" + b.tpm
		if b.ovmf {
			name = "OVMF-" + b.tpm
		}
		t.Run(name, func(t *testing.T) {
			dir := shortDir(t)
			setup(t, dir, "--pcr-banks", "sha1,sha256,sha384")
			v := serveUnix(t, dir, "--terminate")
			m := startGuest(t, v, b)
			m.waitFor(t, "DONE")
			<-m.done
			v.cmd.Wait() // --terminate: it ends with QEMU
			for _, dev := range []string{"/dev/tpm0", "/dev/tpmrm0"} {
				if l := m.find("RANDOM " + dev); len(l) != 1 || !strings.Contains(l[0], " 80010000001c00000000") {
					t.Errorf("%s: %q", dev, l)
				}
			}
			replay(t, m, []string{"sha1", "sha256", "sha384"})
			if !strings.Contains(v.log.String(), "pid=") {
				t.Errorf("no power-on was logged with its peer:\n%s", v.log)
			}
		})
	}
}

// replay lets tpm2_eventlog replay the guest's log, compares with its PCRs, and
// returns what it says of the log.
func replay(t *testing.T, m *machine, banks []string) string {
	t.Helper()
	need(t, "tpm2-tools", "tpm2_eventlog")
	var text strings.Builder
	for _, l := range m.find("LOG ") {
		text.WriteString(strings.TrimPrefix(l, "LOG "))
	}
	log, err := base64.StdEncoding.DecodeString(text.String())
	if err != nil || len(log) == 0 {
		t.Fatalf("event log: %d bytes, %v", len(log), err)
	}
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, log, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tpm2_eventlog", file).Output()
	if err != nil {
		t.Fatalf("tpm2_eventlog: %v", err)
	}
	_, result, ok := strings.Cut(string(out), "\npcrs:\n")
	if !ok {
		t.Fatal("tpm2_eventlog shows no PCRs")
	}
	compared := 0
	for _, bank := range banks {
		_, part, ok := strings.Cut(result, "  "+bank+":\n")
		if !ok {
			t.Errorf("no bank %s in the replay", bank)
			continue
		}
		for _, l := range strings.Split(part, "\n") {
			f := regexp.MustCompile(`^    (\d+) *: 0x([0-9a-f]+)$`).FindStringSubmatch(l)
			if f == nil {
				break
			}
			compared++
			want := fmt.Sprintf("PCR %s %s %s", bank, f[1], f[2])
			if len(m.find(want)) == 0 {
				t.Errorf("the log gives %s, the TPM has %v", want, m.find(fmt.Sprintf("PCR %s %s ", bank, f[1])))
			}
		}
	}
	if compared < 8*len(banks) {
		t.Errorf("only %d PCRs were compared", compared)
	}
	return string(out)
}

// TestGuestReset resets the machine from outside: the TPM is power-cycled, the
// PCRs begin anew.
func TestGuestReset(t *testing.T) {
	v := serveUnix(t, shortDir(t))
	m := startGuest(t, v, boot{tpm: "crb", append: "guest=wait"})
	m.waitFor(t, "TICK 2 ")
	m.qmp.do(t, "system_reset", nil)
	for len(m.find("USERLAND")) < 2 {
		m.waitFor(t, "USERLAND")
	}
	for len(m.find("EXTEND")) < 2 {
		m.waitFor(t, "EXTEND")
	}
	fmt.Fprintln(m.in, "stop")
	got := m.waitFor(t, "PCR23")
	if !strings.Contains(got, pcr23) {
		t.Errorf("PCR 23 after a reset and one extend: %s", got)
	}
	if n := strings.Count(v.log.String(), "power on"); n < 2 {
		t.Errorf("%d power-ons were logged:\n%s", n, v.log)
	}
}

// pcr23 is SHA-256 of 32 zero bytes and 32 bytes 0x5a: what the guest's one
// extend makes.
const pcr23 = "D342B8B5FDDABFC1D94E5C8C53388211DF379791089B772EC02A15D94ADCC7F5"

// TestSnapshot takes a snapshot, lets the guest go on, and goes back: the PCRs
// are those of the snapshot, the random numbers are not.
func TestSnapshot(t *testing.T) {
	need(t, "qemu-utils", "qemu-img")
	disk := filepath.Join(t.TempDir(), "disk.qcow2")
	mustRun(t, nil, "qemu-img", "create", "-q", "-f", "qcow2", disk, "1G")
	v := serveUnix(t, shortDir(t))
	m := startGuest(t, v, boot{tpm: "crb", append: "guest=wait", disk: disk})
	m.waitFor(t, "TICK 2 ")
	if out := m.qmp.monitor(t, "savevm one"); out != "" {
		t.Fatalf("savevm: %s", out)
	}
	seen := len(m.all())
	last := func() string { l := m.find("TICK"); return l[len(l)-1] }
	before := last()
	for last() == before {
		m.waitFor(t, "TICK")
	}
	m.waitFor(t, "TICK 6 ")
	if out := m.qmp.monitor(t, "loadvm one"); out != "" {
		t.Fatalf("loadvm: %s", out)
	}
	fmt.Fprintln(m.in, "stop")
	if got := m.waitFor(t, "PCR23"); !strings.Contains(got, pcr23) {
		t.Errorf("PCR 23 after loadvm: %s", got)
	}
	m.waitFor(t, "DONE")
	random := map[string]string{}
	for _, l := range m.all()[seen:] {
		f := strings.Fields(l)
		if len(f) == 4 && f[0] == "TICK" {
			if other, twice := random[f[2]]; twice && other != l {
				t.Errorf("the same random bytes twice: %s and %s", other, l)
			}
			random[f[2]] = l
		}
	}
	if len(random) < 3 {
		t.Errorf("only %d random numbers were compared", len(random))
	}
}
