package modules_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/modvariants"
	"github.com/vouchsafe/vouchsafe/modsig"
)

// bench is a directory with the program, a module, and what a neighbour needs.
type bench struct {
	dir, program, module string
	env                  []string
}

func newBench(t *testing.T) *bench {
	b := &bench{dir: t.TempDir(), env: append(os.Environ(), "LC_ALL=C")}
	b.program = filepath.Join(b.dir, "vouchsafe")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", b.program, "./cmd/vouchsafe")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building vouchsafe: %v\n%s", err, out)
	}
	b.module = writeFile(t, b.dir, "plain.ko", variants.ELF("dummy", "6.1.0-0-test SMP "))
	return b
}

// run runs a program, without a terminal, and wants its exit code.
func (b *bench) run(t *testing.T, code int, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = b.dir, b.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, _ := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		t.Fatalf("%s %s: %v, want exit %d\n%s", filepath.Base(name), strings.Join(args, " "), cmd.ProcessState, code, out)
	}
	return string(out)
}

// sign signs a copy of the module; openssl must verify what came out.
func (b *bench) sign(t *testing.T, key, cert, hash string) {
	t.Helper()
	out := filepath.Join(b.dir, "signed.ko")
	b.run(t, 0, b.program, "sign-file", hash, key, cert, b.module, out)
	a := modsig.Split(read(t, out))
	sig, content := writeFile(t, b.dir, "sig", a.Signature), writeFile(t, b.dir, "content", a.Content)
	b.run(t, 0, "openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", sig, "-content", content, "-certfile", cert, "-noverify", "-out", os.DevNull)
	in := writeFile(t, b.dir, "inplace.ko", read(t, b.module))
	b.run(t, 0, b.program, "module", "sign", "--key", key, "--cert", cert, "--hash", hash, in)
}

func (b *bench) refuses(t *testing.T, key, cert string, says ...string) {
	t.Helper()
	before := read(t, b.module)
	out := b.run(t, 1, b.program, "module", "sign", "--key", key, "--cert", cert, b.module)
	for _, s := range says {
		if !strings.Contains(out, s) {
			t.Errorf("%s: no %q in\n%s", key, s, out)
		}
	}
	if string(read(t, b.module)) != string(before) {
		t.Errorf("%s: the module was changed", key)
	}
}

// TestPKCS11: keys in SoftHSM, reached through p11-kit, and everything that goes
// wrong with a token.
func TestPKCS11(t *testing.T) {
	neighbour(t, "p11-kit", "p11-kit")
	neighbour(t, "softhsm2-util", "softhsm2")
	tool := neighbour(t, "pkcs11-tool", "opensc")
	const library = "/usr/lib/softhsm/libsofthsm2.so"
	const engine = "/usr/lib/x86_64-linux-gnu/engines-3/pkcs11.so"
	if _, err := os.Stat(engine); err != nil {
		t.Skip("no OpenSSL engine for certificates: apt-get install libengine-pkcs11-openssl")
	}
	b := newBench(t)
	tokens := filepath.Join(b.dir, "tokens")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := writeFile(t, b.dir, "softhsm2.conf", []byte("directories.tokendir = "+tokens+"\nobjectstore.backend = file\nlog.level = ERROR\n"))
	b.env = append(b.env, "SOFTHSM2_CONF="+conf, "PKCS11_MODULE_PATH="+library)
	const pin = "739182"
	pinFile, wrong := writeFile(t, b.dir, "pin", []byte(pin+"\n")), writeFile(t, b.dir, "wrong", []byte("000000\n"))
	b.run(t, 0, "softhsm2-util", "--init-token", "--free", "--label", "kmod token", "--so-pin", "5678", "--pin", pin)
	make := func(kind, label, id string) {
		t.Helper()
		b.run(t, 0, tool, "--module", library, "--token-label", "kmod token", "--login", "--pin", pin, "--keypairgen", "--key-type", kind, "--label", label, "--id", id)
	}
	certify := func(label string) string {
		t.Helper()
		cert := filepath.Join(b.dir, label+".crt")
		b.run(t, 0, "openssl", "req", "-engine", "pkcs11", "-keyform", "engine", "-new", "-x509", "-days", "30", "-subj", "/CN="+label,
			"-key", "pkcs11:token=kmod%20token;object="+label+";type=private;pin-value="+pin, "-out", cert)
		return cert
	}
	for _, k := range []struct{ kind, label, id, hash string }{{"rsa:2048", "rsa", "01", "sha256"}, {"rsa:3072", "rsa3072", "02", "sha512"}, {"EC:secp256r1", "p256", "03", "sha256"}, {"EC:secp384r1", "p384", "04", "sha384"}} {
		make(k.kind, k.label, k.id)
		cert := certify(k.label)
		b.sign(t, "pkcs11:token=kmod%20token;object="+k.label+"?pin-source=file:"+pinFile, cert, k.hash)
		b.sign(t, "pkcs11:id=%"+k.id+"?module-path="+library+"&pin-source="+pinFile, cert, k.hash)
	}
	cert := filepath.Join(b.dir, "rsa.crt")
	token, with := "pkcs11:token=kmod%20token;", "?pin-source="+pinFile
	b.refuses(t, token+"object=rsa?pin-source="+wrong, cert, "CKR_PIN_INCORRECT", "hint: the PIN is wrong")
	b.refuses(t, token+"object=nothing"+with, cert, "no private key that fits", "hint: pkcs11-tool")
	make("rsa:2048", "twin", "05")
	make("rsa:2048", "twin", "06")
	b.refuses(t, token+"object=twin"+with, cert, "several private keys fit", "id=%05", "id=%06", "hint:")
	certify2 := "pkcs11:token=kmod%20token;object=twin;id=%05" + with
	b.refuses(t, certify2, cert, "not the one of the certificate")
	b.refuses(t, "pkcs11:token=other;object=rsa"+with, cert, "no token fits", "hint: p11-kit list-modules")
	b.refuses(t, token+"object=rsa?pin-value="+pin, cert, "the URI has the PIN in it", "hint: put it in a file")
	b.refuses(t, token+"object=rsa", cert, "no terminal to ask at", "hint: put it in a file")
	b.refuses(t, token+"object=rsa?module-path=/nonexistent.so&pin-source="+pinFile, cert, "cannot load the library")
	b.refuses(t, token+"object=rsa"+with, filepath.Join(b.dir, "p256.crt"), "not the one of the certificate")
	if err := os.Chmod(pinFile, 0o644); err != nil {
		t.Fatal(err)
	}
	b.refuses(t, token+"object=rsa"+with, cert, "can be read by others (mode 0644)", "hint: chmod 600")
	if err := os.Chmod(pinFile, 0o600); err != nil {
		t.Fatal(err)
	}
	// The kernel's build gives the PIN so; and a file can be named so.
	plain := b.env
	for _, e := range []string{"KBUILD_SIGN_PIN=" + pin, "VOUCHSAFE_PIN_FILE=" + pinFile} {
		b.env = append(plain[:len(plain):len(plain)], e)
		b.sign(t, token+"object=rsa", cert, "sha256")
	}
	// Without p11-kit the program starts and says what it needs.
	b.env = append(plain[:len(plain):len(plain)], "PATH=/nonexistent")
	b.refuses(t, token+"object=rsa"+with, cert, "need p11-kit", "hint: apt-get install p11-kit")
}

// TestTPMKeys: keys in our vTPM and in swtpm, made by tpm2-tools and tpm2-openssl.
func TestTPMKeys(t *testing.T) {
	neighbour(t, "tpm2_createprimary", "tpm2-tools")
	neighbour(t, "openssl", "openssl")
	if _, err := os.Stat("/usr/lib/x86_64-linux-gnu/ossl-modules/tpm2.so"); err != nil {
		t.Skip("no provider for OpenSSL: apt-get install tpm2-openssl")
	}
	b := newBench(t)
	plain := b.env
	for name, serve := range map[string]func(t *testing.T, state string, port int) *exec.Cmd{
		"vouchsafe": func(t *testing.T, state string, port int) *exec.Cmd {
			b.run(t, 0, b.program, "vtpm", "setup", "--tpmstate", state, "--createek", "--pcr-banks", "sha256", "--local-ca", filepath.Join(b.dir, "ca"))
			return exec.Command(b.program, "vtpm", "serve", "--tpmstate", "dir="+state, "--server", fmt.Sprintf("port=%d", port), "--ctrl", fmt.Sprintf("type=tcp,port=%d", port+1), "--flags", "not-need-init,startup-clear")
		},
		"swtpm": func(t *testing.T, state string, port int) *exec.Cmd {
			return exec.Command(neighbour(t, "swtpm", "swtpm"), "socket", "--tpm2", "--tpmstate", "dir="+state, "--server", fmt.Sprintf("type=tcp,port=%d", port), "--ctrl", fmt.Sprintf("type=tcp,port=%d", port+1), "--flags", "not-need-init,startup-clear")
		},
	} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			port := twoPorts(t)
			tpm := serve(t, state, port)
			if err := tpm.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = tpm.Process.Signal(syscall.SIGTERM); _ = tpm.Wait() })
			waitPort(t, port)
			tcti := fmt.Sprintf("swtpm:host=127.0.0.1,port=%d", port)
			b.env = append(plain[:len(plain):len(plain)], "TPM2OPENSSL_TCTI="+tcti, "TPM2TOOLS_TCTI="+tcti)
			device := fmt.Sprintf("device=tcp:127.0.0.1:%d", port)
			provider := []string{"-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2"}
			openssl := func(args ...string) {
				t.Helper()
				b.run(t, 0, "openssl", append(args[:1:1], append(provider, args[1:]...)...)...)
			}
			pinFile, wrong := writeFile(t, b.dir, "auth", []byte("s3cret")), writeFile(t, b.dir, "wrong", []byte("other"))

			// Files that only this TPM opens.
			for _, k := range []struct {
				name, hash, query string
				args              []string
			}{
				{"rsa", "sha256", "", []string{"-algorithm", "RSA", "-pkeyopt", "bits:2048"}},
				{"p256", "sha256", "", []string{"-algorithm", "EC", "-pkeyopt", "group:P-256"}},
				{"p384", "sha384", "", []string{"-algorithm", "EC", "-pkeyopt", "group:P-384"}},
				{"locked", "sha256", "&pin-source=file:" + pinFile, []string{"-algorithm", "RSA", "-pkeyopt", "bits:2048", "-pkeyopt", "user-auth:s3cret"}},
			} {
				key, cert := filepath.Join(b.dir, k.name+".key"), filepath.Join(b.dir, k.name+".crt")
				openssl(append([]string{"genpkey"}, append(k.args, "-out", key)...)...)
				if err := os.Chmod(key, 0o600); err != nil {
					t.Fatal(err)
				}
				openssl("req", "-new", "-x509", "-key", key, "-passin", "pass:s3cret", "-subj", "/CN="+k.name, "-days", "30", "-out", cert)
				b.sign(t, "tpm:"+key+"?"+device+k.query, cert, k.hash)
			}
			rsa, cert := filepath.Join(b.dir, "rsa.key"), filepath.Join(b.dir, "rsa.crt")
			locked := filepath.Join(b.dir, "locked.key")
			// The file alone says what it is; the TPM is found by the environment.
			without := b.env
			b.env = append(b.env, "VOUCHSAFE_TPM="+strings.TrimPrefix(device, "device="))
			b.sign(t, rsa, cert, "sha256")
			b.env = without
			b.refuses(t, "tpm:"+locked+"?"+device, filepath.Join(b.dir, "locked.crt"), "no terminal to ask at")
			b.refuses(t, "tpm:"+locked+"?"+device+"&pin-source="+wrong, filepath.Join(b.dir, "locked.crt"), "AUTH_FAIL")

			// A persistent key with a password, made by tpm2-tools.
			left := func() string { // after us, before anybody flushes
				return strings.TrimSpace(b.run(t, 0, "tpm2_getcap", "handles-transient") + b.run(t, 0, "tpm2_getcap", "handles-loaded-session"))
			}
			if l := left(); l != "" {
				t.Errorf("left in the TPM: %s", l)
			}
			b.run(t, 0, "tpm2_createprimary", "-C", "o", "-G", "ecc", "-c", "primary.ctx", "-Q")
			b.run(t, 0, "tpm2_flushcontext", "-t")
			b.run(t, 0, "tpm2_create", "-C", "primary.ctx", "-G", "rsa2048:rsassa-sha256:null", "-u", "k.pub", "-r", "k.priv", "-p", "s3cret", "-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign", "-Q")
			b.run(t, 0, "tpm2_flushcontext", "-t")
			b.run(t, 0, "tpm2_load", "-C", "primary.ctx", "-u", "k.pub", "-r", "k.priv", "-c", "k.ctx", "-Q")
			b.run(t, 0, "tpm2_evictcontrol", "-C", "o", "-c", "k.ctx", "0x81000010", "-Q")
			b.run(t, 0, "tpm2_flushcontext", "-t")
			b.run(t, 0, "tpm2_evictcontrol", "-C", "o", "-c", "primary.ctx", "0x81000011", "-Q")
			for _, h := range []string{"-t", "-l", "-s"} {
				b.run(t, 0, "tpm2_flushcontext", h)
			}
			persistent := filepath.Join(b.dir, "persistent.crt")
			openssl("req", "-new", "-x509", "-key", "handle:0x81000010?pass", "-passin", "pass:s3cret", "-subj", "/CN=persistent", "-days", "30", "-out", persistent)
			b.sign(t, "tpm:0x81000010?"+device+"&pin-source="+pinFile, persistent, "sha256")
			b.refuses(t, "tpm:0x81000010?"+device+"&pin-source="+wrong, persistent, "AUTH_FAIL")
			b.refuses(t, "tpm:0x81000077?"+device, persistent, "finding the key at 0x81000077", "hint: tpm2_getcap handles-persistent")
			b.refuses(t, "tpm:0x81000011?"+device, persistent, "restricted, or for other work")
			b.refuses(t, "tpm:"+rsa+"?device=tcp:127.0.0.1:1", cert, "opening the TPM")
			if l := left(); l != "" {
				t.Errorf("left in the TPM: %s", l)
			}

			// Another TPM does not open the file.
			b.run(t, 0, "tpm2_clear", "-c", "p")
			b.refuses(t, "tpm:"+rsa+"?"+device, cert, "loading a TPM key", "hint: the file opens only in the TPM that made it")
		})
	}
}

// twoPorts finds two free ports, one after the other, as swtpm's clients want them.
func twoPorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		a, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := a.Addr().(*net.TCPAddr).Port
		b, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		a.Close()
		if err == nil {
			b.Close()
			return port
		}
	}
	t.Fatal("no two ports are free")
	return 0
}

func waitPort(t *testing.T, port int) {
	t.Helper()
	for range 100 {
		// The control port, second: the data port takes one client.
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		if err == nil {
			c.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the TPM does not listen")
}
