package neighbours

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A LUKS2 header in a file is enough to lock and open: no device mapper, no
// root. PBKDF2 with few rounds stands in for a slow passphrase hash.
func luks(t *testing.T) (image, passphrase string) {
	t.Helper()
	need(t, "cryptsetup-bin", "cryptsetup")
	dir := t.TempDir()
	image, passphrase = filepath.Join(dir, "disk"), filepath.Join(dir, "passphrase")
	if err := os.WriteFile(passphrase, []byte("the first passphrase"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(32 << 20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	mustRun(t, nil, "cryptsetup", "luksFormat", "-q", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", image, passphrase)
	return image, passphrase
}

// TestClevis locks a LUKS2 file with clevis to PCR 16, opens it, and is refused
// after the PCR has changed.
func TestClevis(t *testing.T) {
	need(t, "clevis clevis-luks clevis-tpm2 libtss2-tcti-swtpm0", "clevis", "clevis-luks-bind", "clevis-encrypt-tpm2", "tpm2_pcrextend")
	image, passphrase := luks(t)
	v := serveTCP(t, shortDir(t))
	env := v.tcti()
	pin := `{"pcr_bank":"sha256","pcr_ids":"16"}`
	mustRun(t, env, "clevis", "luks", "bind", "-y", "-k", passphrase, "-d", image, "tpm2", pin)
	opened := mustRun(t, env, "clevis", "luks", "pass", "-d", image, "-s", "1")
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(opened), 0o600); err != nil {
		t.Fatal(err)
	}
	mustRun(t, nil, "cryptsetup", "open", "--test-passphrase", "--key-file", key, image)

	// A restart of the vTPM process: the key hangs on the TPM, not on the process.
	v.stop()
	v = serveTCP(t, v.dir)
	env = v.tcti()
	if again := mustRun(t, env, "clevis", "luks", "pass", "-d", image, "-s", "1"); again != opened {
		t.Error("another key after a restart")
	}
	mustRun(t, env, "tpm2_pcrextend", "16:sha256="+strings.Repeat("ab", 32))
	if out, err := run(t, env, "clevis", "luks", "pass", "-d", image, "-s", "1"); err == nil {
		t.Errorf("it opened with another PCR 16: %q", out)
	}
}

// token is what systemd-cryptenroll leaves in a LUKS2 header.
type token struct {
	image string
	work  string
}

// enrol has systemd lock a LUKS2 file to PCR 16.
func enrol(t *testing.T, v *vtpm, image, passphrase string) token {
	t.Helper()
	need(t, "systemd libtss2-esys-3.0.2-0 libtss2-rc0 libtss2-tcti-swtpm0 tpm2-tools", "systemd-cryptenroll", "tpm2_pcrextend")
	secret, err := os.ReadFile(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	mustRun(t, v.tcti(), "tpm2_pcrextend", "16:sha256="+strings.Repeat("01", 32))
	mustRun(t, []string{"PASSWORD=" + string(secret)}, "systemd-cryptenroll",
		fmt.Sprintf("--tpm2-device=swtpm:host=127.0.0.1,port=%d", v.port), "--tpm2-pcrs=16", image)
	var inside struct {
		Blob []byte `json:"tpm2-blob"`
		PCRs []int  `json:"tpm2-pcrs"`
		Alg  string `json:"tpm2-primary-alg"`
	}
	if err := json.Unmarshal([]byte(mustRun(t, nil, "cryptsetup", "token", "export", "--token-id", "0", image)), &inside); err != nil {
		t.Fatal(err)
	}
	if inside.Alg != "ecc" || len(inside.PCRs) != 1 || inside.PCRs[0] != 16 || len(inside.Blob) < 4 {
		t.Fatalf("token: %+v", inside)
	}
	k := token{image, t.TempDir()}
	private := 2 + int(binary.BigEndian.Uint16(inside.Blob))
	for name, part := range map[string][]byte{"priv": inside.Blob[:private], "pub": inside.Blob[private:]} {
		if err := os.WriteFile(filepath.Join(k.work, name), part, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// open opens the file as src/shared/tpm2-util.c does it, step by step, since
// systemd itself opens only through /dev/tpmrm0 and the device mapper: primary
// key, load, PolicyPCR, unseal.
func (k token) open(t *testing.T, v *vtpm) error {
	t.Helper()
	at := func(name string) string { return filepath.Join(k.work, name) }
	mustRun(t, v.tcti(), "tpm2_createprimary", "-C", "o", "-G", "ecc", "-c", at("primary"))
	mustRun(t, v.tcti(), "tpm2_load", "-C", at("primary"), "-u", at("pub"), "-r", at("priv"), "-c", at("sealed"))
	mustRun(t, v.tcti(), "tpm2_flushcontext", "-t") // Debian's swtpm has room for three objects
	defer run(t, v.tcti(), "tpm2_flushcontext", "-t")
	key, err := run(t, v.tcti(), "tpm2_unseal", "-c", at("sealed"), "-p", "pcr:sha256:16")
	if err != nil {
		return err
	}
	if err := os.WriteFile(at("key"), []byte(base64.StdEncoding.EncodeToString([]byte(key))), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = run(t, nil, "cryptsetup", "open", "--test-passphrase", "--key-file", at("key"), k.image)
	return err
}

// TestSystemdCryptenroll enrols with systemd and opens.
func TestSystemdCryptenroll(t *testing.T) {
	image, passphrase := luks(t)
	dir := shortDir(t)
	v := serveTCP(t, dir)
	k := enrol(t, v, image, passphrase)
	if err := k.open(t, v); err != nil {
		t.Fatal(err)
	}
	v.kill() // a crash: what the key hangs on is non-volatile
	v = serveTCP(t, dir)
	if k.open(t, v) == nil {
		t.Error("it opened with PCR 16 reset")
	}
	mustRun(t, v.tcti(), "tpm2_pcrextend", "16:sha256="+strings.Repeat("01", 32))
	if err := k.open(t, v); err != nil {
		t.Errorf("after a crash, with the right PCR: %v", err)
	}
}
