package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/api"
)

// TestAgent runs the real agent against the demo's service and vTPM: it waits
// for an approval, enrols, renews by its own identity, and says why it was refused.
func TestAgent(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "vouchsafe-agent")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, "../vouchsafe-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the agent: %v\n%s", err, out)
	}
	if info, err := os.Stat(bin); err != nil || info.Size() > 10<<20 {
		t.Errorf("the agent has %d bytes, the limit is 10 MiB (%v)", info.Size(), err)
	}
	d, err := newDemo(t.Context(), &app{in: nil, out: io.Discard, err: io.Discard, langFlag: "en"}, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	if _, err := d.born(); err != nil {
		t.Fatal(err)
	}
	if err := d.boot(demoCommandLine); err != nil {
		t.Fatal(err)
	}
	d.tpm.Close() // the socket serves one at a time
	d.tpm = nil

	dir := t.TempDir()
	write := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var chain []byte
	for _, der := range d.guest.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	write("cert.pem", chain)
	write("key.pem", agentKeyPEM(t, d.guest.PrivateKey))
	write("ca.pem", []byte(api.PEM(d.root)))
	write("url", []byte(d.operator.url+"\n"))
	write("log", d.log)
	lang := "C"
	agent := func(args ...string) (stdout, stderr string, code int) {
		t.Helper()
		given := []string{"--credential", dir, "--tpm", "unix:" + filepath.Join(d.dir, "vtpm.sock"), "--event-log", filepath.Join(dir, "log"), "--command-line", "/nonexistent"}
		if len(args) > 0 {
			args = slices.Concat(args[:1], given, args[1:]) // the last of a flag counts
		}
		cmd := exec.Command(bin, args...)
		cmd.Env = append(os.Environ(), "LANG="+lang)
		var out, complaint bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &complaint
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return out.String(), complaint.String(), cmd.ProcessState.ExitCode()
	}
	expect := func(what string, code int, says string, args ...string) string {
		t.Helper()
		stdout, stderr, got := agent(args...)
		if got != code || !strings.Contains(stdout+stderr, says) {
			t.Fatalf("%s: exit %d, want %d and %q\n%s%s", what, got, code, says, stdout, stderr)
		}
		return stdout
	}

	inChinese := func(what string, code int, says string, args ...string) {
		t.Helper()
		lang = "zh_CN.UTF-8"
		expect(what, code, says, args...)
		lang = "C"
	}
	shownInChinese := func(says ...string) { // to the operator, out of what the service answers in English
		t.Helper()
		var at api.Attestation
		if err := d.operator.call(t.Context(), "GET", "/v1/vms/"+demoVM+"/attestation", nil, &at); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := (&app{out: &out, langFlag: "zh"}).showAttestation(at); err != nil {
			t.Fatal(err)
		}
		for _, s := range says {
			if !strings.Contains(out.String(), s) {
				t.Errorf("attest show --lang zh lacks %q:\n%s", s, out.String())
			}
		}
	}

	expect("no command", 2, "usage:")
	expect("no such command", 2, `there is no command "frob"`, "frob")
	expect("a word too many", 2, `"web1" is one word too many`, "attest", "web1")
	expect("status before anything", 0, "none yet", "status")
	expect("nobody approved", 1, "gave up after 1s", "attest", "--wait", "1s")
	inChinese("nobody approved, in Chinese", 1, "提示：", "attest", "--wait", "1s")
	inChinese("nobody approved, in Chinese", 1, "REFERENCE_MISSING）", "attest", "--wait", "1s")
	shownInChinese("状态      contraindicated", "错误 REFERENCE_MISSING：", "该虚拟机没有已批准的参考值", "处理：")
	if err := d.operator.call(t.Context(), "POST", "/v1/vms/"+demoVM+"/policy/enroll", api.EnrollPolicy{}, nil); err != nil {
		t.Fatal(err)
	}
	if out := expect("approved", 0, "web1 is admitted, tier unattested", "attest"); !strings.Contains(out, `"ear_status":"warning"`) {
		t.Errorf("the result is %s", out)
	}
	shownInChinese("警告 HOST_UNATTESTED：web1\n  级别 unattested\n", "策略      版本 1")
	expect("nothing to renew", 1, "no identity to renew", "renew")
	expect("enrol", 0, "has an identity until", "enroll")
	expect("not due", 0, "nothing to do", "renew")
	write("cert.pem", []byte("gone")) // from here on its identity speaks
	expect("a credential that is gone", 1, "reading the agent's credential", "renew", "--now")
	write("cert.pem", chain)
	expect("renew by identity", 0, "has an identity until", "renew", "--now")
	expect("which device", 2, "which device?", "unlock")
	// What can be seen before does not cost the boot its disk.
	device := filepath.Join(dir, "disk")
	write("disk", make([]byte, 1<<20))
	expect("no such device", 1, "no such file", "unlock", "--device", filepath.Join(dir, "none"))
	expect("the first time, without --format", 1, "hint: vouchsafe-agent unlock --device "+device+" --disk root --format makes one", "unlock", "--device", device)
	if _, err := exec.LookPath("cryptsetup"); err == nil {
		write("luks", make([]byte, 32<<20))
		other := filepath.Join(dir, "luks")
		format := exec.Command("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", device, "--keyfile-size", "32", other)
		if out, err := format.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		expect("somebody else's volume", 1, "hint: if it may go: wipefs -a "+other, "unlock", "--format", "--device", other)
	}
	expect("and still", 0, "can be opened in this boot", "status")
	expect("nobody there", 1, "gave up after 1s", "attest", "--wait", "1s", "--url", "https://127.0.0.1:1")
	expect("offline, which nobody allowed", 1, "OFFLINE_NOT_ALLOWED", "unlock", "--offline", "--device", filepath.Join(dir, "none"), "--wait", "1s", "--url", "https://127.0.0.1:1")
	expect("no log", 1, "reading the event log", "attest", "--event-log", filepath.Join(dir, "none"))
	if err := d.operator.call(t.Context(), "POST", "/v1/vms/"+demoVM+"/revoke", api.RevokeVM{Reason: "test"}, nil); err != nil {
		t.Fatal(err)
	}
	expect("revoked", 1, "VM_REVOKED", "attest")
	inChinese("revoked, in Chinese", 1, "（VM_REVOKED）\n提示：vouchsafe audit list --object NAME 可查看操作者和原因", "attest")
	if out, words, _ := agent("unlock", "--offline", "--device", filepath.Join(dir, "none")); !strings.Contains(words, "VM_REVOKED") || strings.Contains(words, "OFFLINE") {
		t.Errorf("a no of the service is not taken for one: %s%s", out, words)
	}
}

func agentKeyPEM(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
