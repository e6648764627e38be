// Package chain_test holds chain against its neighbours: what they write we
// read, and what we write they accept.
//
//	keytool, openssl ──► .jks .p12 .p7b .der ──► vouchsafe chain fix ──► nginx, haproxy, openssl, keytool
package chain_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// need skips when a neighbour is not installed, and fails in CI.
func need(t *testing.T, program, apt string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		msg := fmt.Sprintf("%s is not installed: apt-get install %s", program, apt)
		if os.Getenv("CI") == "true" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
}

type bench struct {
	t   *testing.T
	dir string
}

func (b *bench) run(name string, args ...string) string {
	b.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = b.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func (b *bench) read(name string) []byte {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		b.t.Fatal(err)
	}
	return data
}

func (b *bench) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// setUp builds the program and, with openssl, a root, a CA and a leaf.
func setUp(t *testing.T) *bench {
	t.Helper()
	need(t, "openssl", "openssl")
	b := &bench{t, t.TempDir()}
	build := exec.Command("go", "build", "-o", filepath.Join(b.dir, "vouchsafe"), "./cmd/vouchsafe")
	build.Dir = "../.." // the program is of another module than its neighbours' tests
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Setenv("XDG_DATA_HOME", filepath.Join(b.dir, "data"))
	b.write("ca.cnf", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
	b.write("leaf.cnf", "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:www.neighbour.test\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
	b.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "root.key", "-out", "root.pem", "-subj", "/CN=Neighbour Root", "-days", "30")
	b.run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.csr", "-subj", "/CN=Neighbour CA")
	b.run("openssl", "x509", "-req", "-in", "ca.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-days", "20", "-extfile", "ca.cnf", "-out", "ca.pem")
	b.run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "leaf.csr", "-subj", "/CN=www.neighbour.test")
	b.run("openssl", "x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "10", "-extfile", "leaf.cnf", "-out", "leaf.pem")
	b.write("good.pem", string(b.read("leaf.pem"))+string(b.read("ca.pem")))
	b.write("pw", "changeit")
	return b
}

// fix mends a file and wants the good chain.
func (b *bench) fix(file string, args ...string) {
	b.t.Helper()
	b.run("./vouchsafe", append([]string{"chain", "fix", file, "-o", "fixed.pem", "--roots", "root.pem"}, args...)...)
	if got := b.read("fixed.pem"); !bytes.Equal(got, b.read("good.pem")) {
		b.t.Errorf("%s: the mended file is another:\n%s", file, got)
	}
	os.Remove(filepath.Join(b.dir, "fixed.pem"))
}

func TestWhatOpenSSLWrites(t *testing.T) {
	b := setUp(t)
	b.run("openssl", "crl2pkcs7", "-nocrl", "-certfile", "good.pem", "-out", "pem.p7b")
	b.run("openssl", "crl2pkcs7", "-nocrl", "-certfile", "good.pem", "-outform", "DER", "-out", "der.p7b")
	b.run("openssl", "pkcs12", "-export", "-in", "good.pem", "-inkey", "key.pem", "-passout", "file:pw", "-out", "new.p12")
	b.run("openssl", "pkcs12", "-export", "-legacy", "-in", "good.pem", "-inkey", "key.pem", "-passout", "file:pw", "-out", "legacy.pfx")
	b.run("openssl", "pkcs12", "-in", "new.p12", "-passin", "file:pw", "-nodes", "-out", "bag.pem")
	b.run("openssl", "x509", "-in", "leaf.pem", "-outform", "DER", "-out", "leaf.cer")
	b.run("openssl", "x509", "-in", "leaf.pem", "-trustout", "-addtrust", "serverAuth", "-out", "trusted.pem")
	b.run("openssl", "x509", "-in", "leaf.pem", "-text", "-out", "text.pem")
	for _, f := range []string{"pem.p7b", "der.p7b", "new.p12", "legacy.pfx", "bag.pem"} {
		b.fix(f, "--password-file", "pw")
	}
	for _, f := range []string{"leaf.cer", "trusted.pem", "text.pem"} {
		b.fix(f, "--intermediates", "ca.pem")
	}
}

func TestWhatServersRead(t *testing.T) {
	b := setUp(t)
	b.write("reversed.pem", string(b.read("ca.pem"))+string(b.read("leaf.pem")))
	b.run("./vouchsafe", "chain", "fix", "reversed.pem", "-o", "fixed.pem", "--roots", "root.pem", "--key", "key.pem", "--for", "nginx")
	b.run("openssl", "verify", "-CAfile", "root.pem", "-untrusted", "fixed.pem", "fixed.pem")
	t.Run("nginx", func(t *testing.T) {
		need(t, "nginx", "nginx-light")
		conf := "events{}\npid %[1]s/pid;\nerror_log stderr;\nhttp{server{listen 127.0.0.1:%[2]d ssl;ssl_certificate %[1]s/%[3]s;ssl_certificate_key %[1]s/key.pem;}}\n"
		port := freePort(t)
		b.write("nginx.conf", fmt.Sprintf(conf, b.dir, port, "fixed.pem"))
		b.run("nginx", "-t", "-c", filepath.Join(b.dir, "nginx.conf"))
		b.write("bad.conf", fmt.Sprintf(conf, b.dir, port, "reversed.pem"))
		out, err := exec.Command("nginx", "-t", "-c", filepath.Join(b.dir, "bad.conf")).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "key values mismatch") {
			t.Errorf("the knowledge base says that nginx calls a reversed chain a key mismatch; it says %s", out)
		}
		b.config(0, "nginx", "nginx.conf", "nginx.conf reads ")
		b.config(3, "nginx", "bad.conf", "reversed.pem: ORDER_WRONG")
		b.write("keyed.conf", strings.ReplaceAll(string(b.read("nginx.conf")), "/key.pem", "/ca.key"))
		b.config(3, "nginx", "keyed.conf", "ca.key: KEY_MISMATCH")
	})
	t.Run("apache", func(t *testing.T) {
		need(t, "/usr/sbin/apache2", "apache2-bin")
		conf := "LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so\nLoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so\nLoadModule socache_shmcb_module /usr/lib/apache2/modules/mod_socache_shmcb.so\nLoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so\n" +
			"ServerName www.neighbour.test\nPidFile %[1]s/apache.pid\nErrorLog /dev/stderr\nListen 127.0.0.1:%[2]d\nSSLEngine on\nSSLCertificateFile %[1]s/%[3]s\nSSLCertificateKeyFile %[1]s/key.pem\n"
		b.write("apache.conf", fmt.Sprintf(conf, b.dir, freePort(t), "fixed.pem"))
		runDaemon(t, exec.Command("/usr/sbin/apache2", "-D", "FOREGROUND", "-f", filepath.Join(b.dir, "apache.conf")))
		port := strings.TrimPrefix(regexp.MustCompile(`127.0.0.1:\d+`).FindString(string(b.read("apache.conf"))), "127.0.0.1:")
		waitFor(t, func() error {
			cmd := exec.Command("./vouchsafe", "chain", "check", "--roots", "root.pem", "--name", "www.neighbour.test", "127.0.0.1:"+port, "fixed.pem")
			cmd.Dir = b.dir
			out, err := cmd.CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
		b.config(0, "apache", "apache.conf", "apache.conf reads ")
		b.write("old.conf", strings.ReplaceAll(string(b.read("apache.conf")), "/fixed.pem", "/leaf.pem\nSSLCertificateChainFile ca.pem"))
		b.config(3, "apache", "old.conf", "leaf.pem: MISSING_INTERMEDIATE")
	})
	t.Run("haproxy", func(t *testing.T) {
		need(t, "haproxy", "haproxy")
		b.run("./vouchsafe", "chain", "fix", "reversed.pem", "-o", "haproxy.pem", "--roots", "root.pem", "--key", "key.pem", "--for", "haproxy")
		b.write("haproxy.cfg", fmt.Sprintf("defaults\n mode http\n timeout client 1s\n timeout server 1s\n timeout connect 1s\nfrontend f\n bind 127.0.0.1:%d ssl crt %s/haproxy.pem\n", freePort(t), b.dir))
		b.run("haproxy", "-c", "-f", "haproxy.cfg")
	})
}

// config lets an existing configuration be checked while its chain is mended.
func (b *bench) config(want int, server, file, words string) {
	b.t.Helper()
	cmd := exec.Command("./vouchsafe", "chain", "fix", "reversed.pem", "-o", "fixed.pem", "--roots", "root.pem", "--key", "key.pem", "--for", server, "--config", file)
	cmd.Dir = b.dir
	out, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != want || !strings.Contains(string(out), words) {
		b.t.Errorf("%s: exit code %d, want %d and %q\n%s", file, got, want, words, out)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
