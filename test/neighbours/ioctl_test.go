package neighbours

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestIoctl drives the control channel with Debian's swtpm_ioctl, and again
// with our own program of that name: both must see the same.
func TestIoctl(t *testing.T) {
	ours := named(t, "swtpm_ioctl")
	t.Run("ours", func(t *testing.T) { ioctl(t, ours) })
	t.Run("Debian's", func(t *testing.T) {
		need(t, "swtpm-tools", "swtpm_ioctl")
		ioctl(t, "swtpm_ioctl")
	})
}

func ioctl(t *testing.T, tool string) {
	need(t, "tpm2-tools libtss2-tcti-swtpm0", "tpm2_pcrread")
	dir := shortDir(t)
	v := serveTCP(t, dir)
	where := fmt.Sprintf(":%d", v.port+1)
	if strings.HasSuffix(tool, "/swtpm_ioctl") {
		where = "127.0.0.1" + where
	}
	do := func(args ...string) string {
		t.Helper()
		return mustRun(t, nil, tool, append([]string{"--tcp", where}, args...)...)
	}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"-c"}, "ptm capability is 0x1ffff"},
		{[]string{"-e"}, "tpmEstablished is 0"},
		{[]string{"-g"}, "ptm configuration flags: 0x0"},
		{[]string{"-b", "0"}, "TPM buffersize: 4096"},
		{[]string{"--info", "1"}, `"family":"2.0"`},
		{[]string{"--info", "2"}, `"manufacturer":"id:56534146"`},
		{[]string{"-l", "3"}, ""},
		{[]string{"-l", "0"}, ""},
	} {
		if got := do(tc.args...); !strings.Contains(got, tc.want) {
			t.Errorf("%v: got %q, want %q", tc.args, got, tc.want)
		}
	}
	if _, err := run(t, nil, tool, "--tcp", where, "-l", "7"); err == nil {
		t.Error("locality 7 was accepted")
	}

	// A dynamic launch: PCR 17 takes the measurement, and the flag stays set.
	do("-h", "launch me")
	if got := do("-e"); !strings.Contains(got, "tpmEstablished is 1") {
		t.Errorf("after a measured launch: %s", got)
	}
	pcr17 := mustRun(t, v.tcti(), "tpm2_pcrread", "sha256:17")
	// SHA-256 of 32 zero bytes and SHA-256("launch me")
	const want = "0x" + launched
	if !strings.Contains(pcr17, want) {
		t.Errorf("PCR 17: %s, want %s", pcr17, want)
	}
	do("-r", "4")
	if got := do("-e"); !strings.Contains(got, "tpmEstablished is 0") {
		t.Errorf("after its reset: %s", got)
	}

	// Suspend by hand, to files, and resume in another process.
	files := t.TempDir()
	blob := func(kind string) string { return filepath.Join(files, kind) }
	for _, kind := range []string{"permanent", "volatile"} {
		do("--save", kind, blob(kind))
	}
	do("--stop")
	if _, err := run(t, v.tcti(), "tpm2_getrandom", "4"); err == nil {
		t.Error("a TPM that is off answers")
	}
	do("-s")
	v.cmd.Wait()

	other := shortDir(t)
	v = serveTCPStopped(t, other)
	where = fmt.Sprintf("127.0.0.1:%d", v.port+1)
	for _, kind := range []string{"permanent", "volatile"} {
		do("--load", kind, blob(kind))
	}
	do("-i")
	if again := mustRun(t, v.tcti(), "tpm2_pcrread", "sha256:17"); again != pcr17 {
		t.Errorf("PCR 17 after the move: %s, was %s", again, pcr17)
	}

	// Volatile state in the directory, across a process.
	do("-v")
	v.kill()
	v = serveTCPStopped(t, other)
	where = fmt.Sprintf("127.0.0.1:%d", v.port+1)
	do("-i")
	if again := mustRun(t, v.tcti(), "tpm2_pcrread", "sha256:17"); again != pcr17 {
		t.Errorf("PCR 17 after suspend and resume: %s, was %s", again, pcr17)
	}
	if _, err := os.Stat(filepath.Join(other, "vtpm.volatile")); err == nil {
		t.Error("the volatile state was not used up")
	}
}

// launched is PCR 17 after the launch above.
const launched = "0B4E6EC79A6230DE5FAFC651EAC34F229C43ED523CDE795A737B727F8C398A29"

// serveTCPStopped runs a vTPM that waits for CMD_INIT.
func serveTCPStopped(t *testing.T, dir string) *vtpm {
	t.Helper()
	port := freePorts(t)
	v := start(t, named(t, "swtpm"), dir, []string{"socket", "--tpm2", "--tpmstate", "dir=" + dir,
		"--server", fmt.Sprintf("type=tcp,port=%d", port), "--ctrl", fmt.Sprintf("type=tcp,port=%d", port+1)})
	v.port = port
	v.waitFor(t, "tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
	return v
}
