package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// program is our command line before swtpm's options: VOUCHSAFE, or built here once.
func program(t *testing.T) []string {
	t.Helper()
	if p := os.Getenv("VOUCHSAFE"); p != "" {
		return strings.Fields(p)
	}
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return []string{path, "vtpm", "serve"}
}

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "vouchsafe-interop-")
	if err != nil {
		return "", err
	}
	built = dir
	path := filepath.Join(dir, "vouchsafe")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/vouchsafe")
	cmd.Dir = "../.." // the product is a module of its own
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", &buildError{string(out)}
	}
	// The suites find their simulator by the name of its process.
	return path, os.Symlink("vouchsafe", filepath.Join(dir, "swtpm"))
})

var built string

type buildError struct{ out string }

func (e *buildError) Error() string { return "building vouchsafe: " + e.out }

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// wants skips when a neighbour is absent, and fails under CI.
func wants(t *testing.T, apt string, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is absent: apt-get install %s", p, apt)
		}
		t.Skipf("%s is absent: apt-get install %s", p, apt)
	}
}

// TestToolsDay spends a day with Debian's tpm2-tools.
func TestToolsDay(t *testing.T) {
	wants(t, "tpm2-tools openssl xxd", "tpm2", "openssl", "xxd")
	out, err := exec.CommandContext(t.Context(), "./tpm2tools-day", "--start", strings.Join(program(t), " ")).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, failures(string(out)))
	}
	t.Log(last(string(out)))
}

// TestGoTPMSuite runs the tests of the go-tpm that this module requires.
func TestGoTPMSuite(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/go-tpm").Output()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]string{
		"TestCommit":    "commits to a point of the curve BN P-256, which is left out; tpm2-tools' suite does it on P-256",
		"TestTestParms": "expects that RSA-3072 is not supported; swtpm fails it as well",
	}
	cmd := exec.CommandContext(t.Context(), "./gotpm-suite", strings.TrimSpace(string(dir)))
	cmd.Env = append(os.Environ(), "SWTPM="+strings.Join(program(t), " "))
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "top-level tests") {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "--- FAIL: ")
		name, _, _ = strings.Cut(name, " ")
		top, _, _ := strings.Cut(name, "/")
		if ok && known[top] == "" {
			t.Errorf("%s fails\n%s", name, out)
		}
	}
	t.Log(last(string(out)))
}

// TestToolsSuite runs tpm2-tools' integration tests, a short list of them unless
// VOUCHSAFE_LONG is set. It needs a checkout, named by TPM2_TOOLS_SRC.
func TestToolsSuite(t *testing.T) {
	src := os.Getenv("TPM2_TOOLS_SRC")
	if src == "" {
		t.Skip("TPM2_TOOLS_SRC is not set: git clone --branch 5.4 https://github.com/tpm2-software/tpm2-tools, and name the folder")
	}
	wants(t, "tpm2-tools tpm2-abrmd libtss2-tcti-tabrmd0 dbus python3-yaml xxd expect openssl iproute2",
		"tpm2", "tpm2-abrmd", "dbus-run-session", "xxd", "expect", "openssl", "ss")
	which := "short"
	if os.Getenv("VOUCHSAFE_LONG") != "" {
		which = "all"
	}
	cmd := exec.CommandContext(t.Context(), "./tpm2tools-suite", src, which)
	cmd.Env = append(os.Environ(), "SWTPM="+filepath.Join(filepath.Dir(program(t)[0]), "swtpm"))
	out, _ := cmd.CombinedOutput()
	ran := false
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) == 4 && strings.HasPrefix(f[0], "FAIL") {
			t.Errorf("%s fails", f[3])
		}
		ran = ran || len(f) == 4 && f[0] == "pass"
	}
	if !ran || t.Failed() {
		t.Errorf("%s", out)
	}
	t.Log(last(string(out)))
}

// TestSwtpmSuite runs swtpm's own tests, with Debian's swtpm_ioctl as the other
// side. It needs a checkout, named by SWTPM_SRC.
func TestSwtpmSuite(t *testing.T) {
	src := os.Getenv("SWTPM_SRC")
	if src == "" {
		t.Skip("SWTPM_SRC is not set: git clone --branch v0.7.1 https://github.com/stefanberger/swtpm, and name the folder")
	}
	wants(t, "swtpm-tools socat xxd expect netcat-openbsd gnutls-bin tss2", "swtpm_ioctl", "swtpm_bios", "socat", "xxd", "expect", "certtool", "tssstartup")
	known := map[string]string{
		"test_tpm2_ctrlchannel2":              "swtpm chardev: only sockets are served",
		"test_tpm2_derived_keys":              "wants TDES and the curve BN P-256, which are left out; all keys before are equal bit for bit",
		"test_tpm2_migration_key":             "wants the size of libtpms' volatile state; and loads one of swtpm without the permanent state it belongs to",
		"test_tpm2_save_load_encrypted_state": "opens with a passphrase what was sealed with a key: refused here, two kinds of secret are told apart",
		"test_tpm2_save_load_state_2":         "wants room for 65 persistent keys and not one octet more; such a TPM of swtpm is taken over (TestTakeOverFull)",
		"test_tpm2_save_load_state_2_block":   "state in one file or device: it cannot be replaced atomically",
		"test_tpm2_save_load_state_2_linear":  "the same",
		"test_tpm2_save_load_state_3":         "resumes from a volatile state that is older than the last TPM2_Shutdown: refused here as rolled back",
		"test_tpm2_parameters":                "swtpm_setup --allow-signing and others that choose EK templates of no profile are left out",
		"test_tpm2_print_capabilities":        "wants swtpm's own list of features",
		"test_tpm2_print_states":              "wants swtpm's own spaces in JSON",
	}
	bin := t.TempDir()
	for _, name := range []string{"swtpm", "swtpm_setup"} {
		if err := os.Symlink(program(t)[0], filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "./swtpm-suite", src)
	cmd.Env = append(os.Environ(), "SWTPM="+bin)
	out, _ := cmd.CombinedOutput()
	passed := 0
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		switch {
		case len(f) < 2:
		case f[0] == "pass" && strings.HasPrefix(f[1], "test_"):
			passed++
		case strings.HasPrefix(f[0], "FAIL") && known[f[1]] == "":
			t.Errorf("%s fails", f[1])
		}
	}
	if passed == 0 || t.Failed() {
		t.Errorf("%s", out)
	}
	t.Log(last(string(out)))
}

// failures are the lines of a day that tell of one, with what follows.
func failures(out string) string {
	var b strings.Builder
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "ok ") && !strings.HasPrefix(line, "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func last(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return lines[len(lines)-1]
}
