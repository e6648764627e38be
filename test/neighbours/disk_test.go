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

// TestSystemdCryptenroll enrols with systemd. systemd opens only through
// /dev/tpmrm0 and the device mapper, so its token is opened here step by step,
// as src/shared/tpm2-util.c does it: primary key, load, PolicyPCR, unseal.
func TestSystemdCryptenroll(t *testing.T) {
	need(t, "systemd libtss2-esys-3.0.2-0 libtss2-rc0 libtss2-tcti-swtpm0 tpm2-tools", "systemd-cryptenroll", "tpm2_pcrextend")
	image, passphrase := luks(t)
	dir := shortDir(t)
	v := serveTCP(t, dir)
	secret, err := os.ReadFile(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	mustRun(t, v.tcti(), "tpm2_pcrextend", "16:sha256="+strings.Repeat("01", 32))
	mustRun(t, []string{"PASSWORD=" + string(secret)}, "systemd-cryptenroll",
		fmt.Sprintf("--tpm2-device=swtpm:host=127.0.0.1,port=%d", v.port), "--tpm2-pcrs=16", image)
	var token struct {
		Blob []byte `json:"tpm2-blob"`
		PCRs []int  `json:"tpm2-pcrs"`
		Alg  string `json:"tpm2-primary-alg"`
	}
	if err := json.Unmarshal([]byte(mustRun(t, nil, "cryptsetup", "token", "export", "--token-id", "0", image)), &token); err != nil {
		t.Fatal(err)
	}
	if token.Alg != "ecc" || len(token.PCRs) != 1 || token.PCRs[0] != 16 || len(token.Blob) < 4 {
		t.Fatalf("token: %+v", token)
	}
	work := t.TempDir()
	private := 2 + int(binary.BigEndian.Uint16(token.Blob))
	for name, part := range map[string][]byte{"priv": token.Blob[:private], "pub": token.Blob[private:]} {
		if err := os.WriteFile(filepath.Join(work, name), part, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open := func() error {
		t.Helper()
		at := func(name string) string { return filepath.Join(work, name) }
		mustRun(t, v.tcti(), "tpm2_createprimary", "-C", "o", "-G", "ecc", "-c", at("primary"))
		mustRun(t, v.tcti(), "tpm2_load", "-C", at("primary"), "-u", at("pub"), "-r", at("priv"), "-c", at("sealed"))
		defer run(t, v.tcti(), "tpm2_flushcontext", "-t")
		key, err := run(t, v.tcti(), "tpm2_unseal", "-c", at("sealed"), "-p", "pcr:sha256:16")
		if err != nil {
			return err
		}
		if err := os.WriteFile(at("key"), []byte(base64.StdEncoding.EncodeToString([]byte(key))), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = run(t, nil, "cryptsetup", "open", "--test-passphrase", "--key-file", at("key"), image)
		return err
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	v.kill() // a crash: what the key hangs on is non-volatile
	v = serveTCP(t, dir)
	if open() == nil {
		t.Error("it opened with PCR 16 reset")
	}
	mustRun(t, v.tcti(), "tpm2_pcrextend", "16:sha256="+strings.Repeat("01", 32))
	if err := open(); err != nil {
		t.Errorf("after a crash, with the right PCR: %v", err)
	}
}
