package neighbours

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// debian is Debian's own swtpm.
func debian(t *testing.T) string {
	t.Helper()
	need(t, "swtpm", "swtpm")
	path, err := exec.LookPath("swtpm")
	if err != nil {
		t.Fatal(err)
	}
	if out, _ := exec.Command(path, "--version").Output(); bytes.Contains(out, []byte("vouchsafe")) {
		absent(t, "swtpm is vouchsafe here", "update-alternatives --config swtpm")
	}
	return path
}

// keyOptions are ways of encrypting state that swtpm has.
func keyOptions(t *testing.T) map[string][]string {
	t.Helper()
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return map[string][]string{
		"in clear":           nil,
		"AES-128":            {"--key", "mode=aes-128-cbc,format=hex,file=" + file("128", strings.Repeat("a5", 16))},
		"AES-256":            {"--key", "mode=aes-256-cbc,format=hex,file=" + file("256", strings.Repeat("5a", 32))},
		"passphrase":         {"--key", "mode=aes-256-cbc,pwdfile=" + file("pwd", "correct horse\n")},
		"passphrase, SHA512": {"--key", "mode=aes-128-cbc,kdf=sha512,pwdfile=" + file("pwd2", "battery staple")},
	}
}

// TestTakeOverClevis locks a LUKS2 file with clevis under Debian's swtpm. The
// same file opens under vouchsafe, which takes the TPM over at its first start.
func TestTakeOverClevis(t *testing.T) {
	need(t, "clevis clevis-luks clevis-tpm2 libtss2-tcti-swtpm0", "clevis", "clevis-luks-bind", "clevis-encrypt-tpm2", "tpm2_nvread")
	program := debian(t)
	for name, key := range keyOptions(t) {
		t.Run(name, func(t *testing.T) {
			dir := shortDir(t)
			image, passphrase := luks(t)
			v := serveTCPBy(t, program, dir, key...)
			env := v.tcti()
			mustRun(t, env, "clevis", "luks", "bind", "-y", "-k", passphrase, "-d", image, "tpm2", `{"pcr_bank":"sha256","pcr_ids":"16"}`)
			opened := mustRun(t, env, "clevis", "luks", "pass", "-d", image, "-s", "1")
			mustRun(t, env, "tpm2_nvdefine", "0x1500016", "-s", "5", "-a", "ownerread|ownerwrite")
			note := filepath.Join(t.TempDir(), "note")
			if err := os.WriteFile(note, []byte("stays"), 0o600); err != nil {
				t.Fatal(err)
			}
			mustRun(t, env, "tpm2_nvwrite", "0x1500016", "-C", "o", "-i", note)
			v.stop()
			old := readFile(t, filepath.Join(dir, "tpm2-00.permall"))

			v = serveTCP(t, dir, key...)
			env = v.tcti()
			if again := mustRun(t, env, "clevis", "luks", "pass", "-d", image, "-s", "1"); again != opened {
				t.Error("another key after the take-over")
			}
			if got := mustRun(t, env, "tpm2_nvread", "0x1500016", "-C", "o"); got != "stays" {
				t.Errorf("NV has %q", got)
			}
			mustRun(t, env, "tpm2_pcrextend", "16:sha256="+strings.Repeat("ab", 32))
			if out, err := run(t, env, "clevis", "luks", "pass", "-d", image, "-s", "1"); err == nil {
				t.Errorf("it opened with another PCR 16: %q", out)
			}
			v.stop()
			if !bytes.Equal(old, readFile(t, filepath.Join(dir, "tpm2-00.permall"))) {
				t.Error("swtpm's file was changed")
			}
			if !strings.Contains(v.log.String(), "TPM of swtpm taken over") {
				t.Errorf("the log does not say so:\n%s", v.log)
			}
			if sealed := !bytes.Contains(readFile(t, filepath.Join(dir, "vtpm.state")), []byte("VSTP")); sealed != (key != nil) {
				t.Errorf("the new state is sealed: %v", sealed)
			}
			// Nothing is taken over twice.
			v = serveTCP(t, dir, key...)
			if again := mustRun(t, v.tcti(), "clevis", "luks", "pass", "-d", image, "-s", "1"); again != opened {
				t.Error("another key after a restart")
			}
			if strings.Contains(v.log.String(), "taken over;") {
				t.Errorf("taken over again:\n%s", v.log)
			}
			// swtpm cannot be started beside it by mistake, but for versions without a lock.
			other := exec.Command(program, append([]string{"socket", "--tpm2", "--tpmstate", "dir=" + dir, "--server", "type=unixio,path=" + filepath.Join(shortDir(t), "s"), "--flags", "not-need-init"}, key...)...)
			if err := other.Start(); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- other.Wait() }()
			select {
			case err := <-done:
				if err == nil {
					t.Error("swtpm ran on the state at the same time, and ended well")
				}
			case <-time.After(3 * time.Second):
				other.Process.Kill()
				<-done
				t.Error("swtpm runs on the state at the same time")
			}
		})
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTakeOverCryptenroll enrols with systemd under Debian's swtpm and opens
// under vouchsafe.
func TestTakeOverCryptenroll(t *testing.T) {
	program := debian(t)
	image, passphrase := luks(t)
	dir := shortDir(t)
	v := serveTCPBy(t, program, dir)
	token := enrol(t, v, image, passphrase)
	if err := token.open(t, v); err != nil {
		t.Fatal(err)
	}
	v.stop()
	v = serveTCP(t, dir)
	if token.open(t, v) == nil {
		t.Error("it opened with PCR 16 reset")
	}
	mustRun(t, v.tcti(), "tpm2_pcrextend", "16:sha256="+strings.Repeat("01", 32))
	if err := token.open(t, v); err != nil {
		t.Errorf("enrolled under swtpm, with the right PCR: %v", err)
	}
}

// TestTakeOverMigration moves a running guest from Debian's swtpm to vouchsafe,
// live, in clear and under a migration key, as TestMigrationLive does between our own.
func TestTakeOverMigration(t *testing.T) {
	program := debian(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("a5", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, more := range map[string][]string{"in clear": nil, "sealed": {"--migration-key", "file=" + key + ",mode=aes-256-cbc,format=hex"}} {
		whole(t, name, func(t *testing.T) {
			m := startGuest(t, serveUnixBy(t, program, shortDir(t), more...), boot{tpm: "tis", append: "guest=wait"})
			m.waitFor(t, "TICK 2 ")
			target := serveUnix(t, shortDir(t), more...)
			goesOn(t, m.move(t, target, "unix:"+filepath.Join(shortDir(t), "migrate")), target)
		})
	}
}

// TestTakeOverSnapshot takes a snapshot under Debian's swtpm, and wakes the guest
// with vouchsafe: a suspended VM changes its TPM's program while it sleeps.
func TestTakeOverSnapshot(t *testing.T) {
	program := debian(t)
	need(t, "qemu-utils", "qemu-img")
	disk := filepath.Join(t.TempDir(), "disk.qcow2")
	mustRun(t, nil, "qemu-img", "create", "-q", "-f", "qcow2", disk, "1G")
	dir := shortDir(t)
	source := serveUnixBy(t, program, dir)
	m := startGuest(t, source, boot{tpm: "tis", append: "guest=wait", disk: disk})
	m.waitFor(t, "TICK 2 ")
	if out := m.qmp.monitor(t, "savevm one"); out != "" {
		t.Fatalf("savevm: %s", out)
	}
	m.qmp.do(t, "quit", nil)
	<-m.done
	source.stop()

	target := serveUnix(t, dir) // which finds swtpm's state in the directory as well
	m2 := startGuest(t, target, boot{tpm: "tis", append: "guest=wait", disk: disk})
	if out := m2.qmp.monitor(t, "loadvm one"); out != "" {
		t.Fatalf("loadvm: %s", out)
	}
	goesOn(t, m2, target)
}

// TestTakeOverKilled ends imports at random moments. However far one has come,
// the next completes it, swtpm's file is as it was, and the vTPM keeps its id.
func TestTakeOverKilled(t *testing.T) {
	program := debian(t)
	dir := shortDir(t)
	v := serveTCPBy(t, program, dir)
	mustRun(t, v.tcti(), "tpm2_getrandom", "4") // by now it has written its state
	v.stop()
	foreign := filepath.Join(dir, "tpm2-00.permall")
	old := readFile(t, foreign)
	vouchsafe := named(t, "vouchsafe")
	began := time.Now()
	mustRun(t, nil, vouchsafe, "vtpm", "import-swtpm", "--dry-run", dir)
	usual := time.Since(began)
	if _, err := os.Stat(filepath.Join(dir, "vtpm.state")); err == nil {
		t.Fatal("a dry run has written a state")
	}
	id, cut := "", 0
	for range 60 {
		cmd := exec.Command(vouchsafe, "vtpm", "import-swtpm", dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(usual + usual/4))
		cmd.Process.Signal(syscall.SIGKILL)
		if cmd.Wait() != nil {
			cut++
		}
		if b, err := os.ReadFile(filepath.Join(dir, "vtpm.takeover")); err == nil {
			var record struct {
				VTPM string
				Done bool
			}
			if err := json.Unmarshal(b, &record); err != nil {
				t.Fatalf("a torn record: %v", err)
			}
			if id == "" {
				id = record.VTPM
			}
			if record.VTPM != id {
				t.Fatalf("the vTPM has changed its id from %s to %s", id, record.VTPM)
			}
			if record.Done { // as if the last writes had not been reached
				os.Remove(filepath.Join(dir, "vtpm.state"))
				os.WriteFile(filepath.Join(dir, "vtpm.takeover"), bytes.Replace(b, []byte(`"done": true`), []byte(`"done": false`), 1), 0o600)
			}
		}
		if !bytes.Equal(old, readFile(t, foreign)) {
			t.Fatal("swtpm's file was changed")
		}
	}
	if cut == 0 {
		t.Error("none was cut short")
	}
	var done struct{ VTPM string }
	if err := json.Unmarshal([]byte(mustRun(t, nil, vouchsafe, "--json", "vtpm", "import-swtpm", dir)), &done); err != nil {
		t.Fatal(err)
	}
	if done.VTPM != id {
		t.Errorf("id %s in the end, %s before", done.VTPM, id)
	}
	v = serveTCP(t, dir)
	mustRun(t, v.tcti(), "tpm2_createprimary", "-C", "e", "-G", "ecc", "-c", filepath.Join(t.TempDir(), "k"))
}

// TestImportRefusals: what cannot be taken over is left alone, with a way out.
func TestImportRefusals(t *testing.T) {
	program := debian(t)
	options := keyOptions(t)
	clear, sealed := shortDir(t), shortDir(t)
	v := serveTCPBy(t, program, clear)
	mustRun(t, v.tcti(), "tpm2_getrandom", "4")
	vouchsafe := named(t, "vouchsafe")
	refused := func(code, hint string, args ...string) {
		t.Helper()
		out, err := run(t, nil, vouchsafe, append([]string{"vtpm", "import-swtpm"}, args...)...)
		if err == nil || !strings.Contains(err.Error(), code) || !strings.Contains(err.Error(), "hint: ") || !strings.Contains(err.Error(), hint) {
			t.Errorf("%v: want %s and %q, got %q, %v", args, code, hint, out, err)
		}
	}
	refused("STATE_LOCKED", "fuser", clear) // swtpm is running
	v.stop()
	w := serveTCPBy(t, program, sealed, options["AES-256"]...)
	mustRun(t, w.tcti(), "tpm2_getrandom", "4") // by now it has written its state
	w.stop()
	refused("STATE_KEY_MISSING", "--key", sealed)
	refused("STATE_WRONG_KEY", "--key", append([]string{sealed}, options["AES-128"]...)...)
	refused("STATE_WRONG_KEY", "--key", append([]string{sealed}, options["passphrase"]...)...)
	refused("STATE_NOT_SEALED", "rekey", append([]string{clear}, options["AES-256"]...)...)
	refused("STATE_NOT_FOREIGN", "libvirt", shortDir(t))
	tpm12 := shortDir(t)
	if err := os.WriteFile(filepath.Join(tpm12, "tpm-00.permall"), []byte("a TPM 1.2"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("STATE_OF_TPM12", "tpm2", tpm12)
	good := readFile(t, filepath.Join(clear, "tpm2-00.permall"))
	flipped := bytes.Replace(good, []byte{0x12, 0x21, 0x34, 0x43}, []byte{0x12, 0x21, 0x34, 0x42}, 1)
	for _, b := range [][]byte{good[:len(good)-7], nil, flipped} {
		if err := os.WriteFile(filepath.Join(clear, "tpm2-00.permall"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		refused("STATE_DAMAGED", "backup", clear)
	}
	newer := bytes.Clone(good)
	newer[10+6+7] = 99 // the least version that PERSISTENT_ALL wants of its reader
	if err := os.WriteFile(filepath.Join(clear, "tpm2-00.permall"), newer, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("STATE_FOREIGN_NEWER", "swtpm --version", clear)
	// A key that this engine cannot have.
	odd := shortDir(t)
	v = serveTCPBy(t, program, odd)
	context := filepath.Join(t.TempDir(), "k")
	mustRun(t, v.tcti(), "tpm2_createprimary", "-C", "o", "-G", "ecc224", "-c", context, "-a", "sign|fixedtpm|fixedparent|sensitivedataorigin|userwithauth")
	mustRun(t, v.tcti(), "tpm2_evictcontrol", "-C", "o", "-c", context, "0x81000042")
	v.stop()
	refused("STATE_FOREIGN_UNSUPPORTED", "tpm2_evictcontrol", odd)
	refused("0x81000042", "--dry-run", odd)
}

// TestTakeOverLibvirt starts the same domain first with Debian's swtpm, then
// with vouchsafe, which libvirt finds in its place.
func TestTakeOverLibvirt(t *testing.T) {
	need(t, "libvirt-daemon libvirt-daemon-driver-qemu qemu-system-x86 swtpm-tools", "virt-qemu-run", "qemu-system-x86_64", "swtpm_setup", "swtpm_ioctl")
	needRoot(t)
	debian(t)
	const tpm = `<tpm model='tpm-crb'><backend type='emulator' version='2.0' persistent_state='yes'/></tpm>`
	root := shortDir(t)
	said, out, err := runDomainBy(t, os.Getenv("PATH"), root, tpm)
	if !bytes.Contains(said, []byte("RANDOM /dev/tpm0 80010000001c00000000")) {
		t.Fatalf("under swtpm: %v\n%s\n%s", err, out, said)
	}
	old, err := filepath.Glob(filepath.Join(root, "lib", "swtpm", "*", "tpm2", "tpm2-00.permall"))
	if err != nil || len(old) != 1 {
		t.Fatalf("libvirt kept no state of swtpm: %v %v", old, err)
	}
	before := readFile(t, old[0])
	said, out, err = runDomain(t, root, tpm)
	log, _ := os.ReadFile(filepath.Join(root, "log", "swtpm", "web1-swtpm.log"))
	if !bytes.Contains(said, []byte("RANDOM /dev/tpm0 80010000001c00000000")) || !bytes.Contains(log, []byte("TPM of swtpm taken over")) {
		t.Errorf("under vouchsafe: %v\n%s\n%s\nswtpm's log:\n%s", err, out, said, log)
	}
	if !bytes.Equal(before, readFile(t, old[0])) {
		t.Error("swtpm's file was changed")
	}
}
