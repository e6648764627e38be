package chain_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Servers that begin TLS inside their own protocol, each once with the whole
// chain and once with the leaf alone:
//
//	vouchsafe chain check --starttls ──► postfix, dovecot, vsftpd, prosody, postgres, mariadbd, slapd

// daemon is one server; start writes its settings and returns how to run it.
type daemon struct {
	protocol, program, apt string
	start                  func(b *bench, dir, cert string, port int) *exec.Cmd
}

var daemons = []daemon{
	{"smtp", "/usr/sbin/postfix", "postfix", func(b *bench, dir, cert string, port int) *exec.Cmd {
		b.file(dir, "main.cf", fmt.Sprintf("compatibility_level=3.6\nqueue_directory=%[1]s/queue\ndata_directory=%[1]s/data\nmydomain=neighbour.test\nmaillog_file=/dev/stdout\nsmtpd_tls_cert_file=%[2]s\nsmtpd_tls_key_file=%[1]s/key.pem\nsmtpd_tls_security_level=may\nalias_maps=\ninet_interfaces=127.0.0.1\n", dir, cert))
		b.file(dir, "master.cf", fmt.Sprintf("127.0.0.1:%d inet n - n - - smtpd\ntlsmgr unix - - n 1000? 1 tlsmgr\ncleanup unix n - n - 0 cleanup\nrewrite unix - - n - - trivial-rewrite\nanvil unix - - n - 1 anvil\nproxymap unix - - n - - proxymap\npostlog unix-dgram n - n - 1 postlogd\n", port))
		for _, d := range []string{"queue", "data"} {
			b.mkdir(filepath.Join(dir, d))
		}
		b.own(filepath.Join(dir, "data"), "postfix")
		if out, err := exec.Command("/usr/sbin/postfix", "-c", dir, "check").CombinedOutput(); err != nil {
			b.t.Fatalf("postfix check: %v\n%s", err, out)
		}
		return exec.Command("/usr/lib/postfix/sbin/master", "-c", dir, "-d") // start-fg would leave it behind
	}},
	{"imap", "/usr/sbin/dovecot", "dovecot-imapd", func(b *bench, dir, cert string, port int) *exec.Cmd { return dovecot(b, dir, cert, port, 0) }},
	{"pop3", "/usr/sbin/dovecot", "dovecot-pop3d", func(b *bench, dir, cert string, port int) *exec.Cmd { return dovecot(b, dir, cert, 0, port) }},
	{"ftp", "/usr/sbin/vsftpd", "vsftpd", func(b *bench, dir, cert string, port int) *exec.Cmd {
		b.mkdir(filepath.Join(dir, "empty"))
		b.file(dir, "vsftpd.conf", fmt.Sprintf("listen=YES\nlisten_address=127.0.0.1\nlisten_port=%[3]d\nbackground=NO\nanonymous_enable=NO\nlocal_enable=YES\nssl_enable=YES\nssl_tlsv1=YES\nrsa_cert_file=%[2]s\nrsa_private_key_file=%[1]s/key.pem\nsecure_chroot_dir=%[1]s/empty\nseccomp_sandbox=NO\nxferlog_enable=NO\n", dir, cert, port))
		return exec.Command("/usr/sbin/vsftpd", filepath.Join(dir, "vsftpd.conf"))
	}},
	{"xmpp", "/usr/bin/prosody", "prosody", func(b *bench, dir, cert string, port int) *exec.Cmd {
		b.file(dir, "prosody.cfg.lua", fmt.Sprintf("data_path=%[1]q\npidfile=\"%[1]s/pid\"\nmodules_enabled={\"tls\",\"saslauth\"}\nmodules_disabled={\"s2s\"}\ninterfaces={\"127.0.0.1\"}\nc2s_ports={%[3]d}\ns2s_ports={}\nlog={{levels={min=\"info\"},to=\"console\"}}\nssl={key=\"%[1]s/key.pem\",certificate=%[2]q}\nVirtualHost \"www.neighbour.test\"\n", dir, cert, port))
		cmd := exec.Command("/usr/bin/prosody", "-F", "--config", filepath.Join(dir, "prosody.cfg.lua"))
		b.as(cmd, dir, "prosody")
		return cmd
	}},
	{"postgres", "/usr/lib/postgresql/15/bin/postgres", "postgresql", func(b *bench, dir, cert string, port int) *exec.Cmd {
		data := filepath.Join(dir, "data")
		b.mkdir(data)
		initdb := exec.Command("/usr/lib/postgresql/15/bin/initdb", "-D", data, "-A", "trust", "--no-sync")
		b.as(initdb, dir, "postgres")
		if out, err := initdb.CombinedOutput(); err != nil {
			b.t.Fatalf("initdb: %v\n%s", err, out)
		}
		cmd := exec.Command("/usr/lib/postgresql/15/bin/postgres", "-D", data, "-k", dir, "-p", strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1", "-c", "ssl=on", "-c", "ssl_cert_file="+cert, "-c", "ssl_key_file="+dir+"/key.pem", "-c", "fsync=off")
		b.as(cmd, dir, "postgres")
		return cmd
	}},
	{"mysql", "/usr/sbin/mariadbd", "mariadb-server-core", func(b *bench, dir, cert string, port int) *exec.Cmd {
		b.mkdir(filepath.Join(dir, "data"))
		args := []string{"--no-defaults", "--skip-grant-tables", "--datadir=" + dir + "/data", "--socket=" + dir + "/sock", "--pid-file=" + dir + "/pid",
			"--bind-address=127.0.0.1", "--port=" + strconv.Itoa(port), "--ssl-cert=" + cert, "--ssl-key=" + dir + "/key.pem", "--innodb-flush-method=nosync"}
		if os.Getuid() == 0 {
			args = append(args, "--user=root")
		}
		return exec.Command("/usr/sbin/mariadbd", args...)
	}},
	{"ldap", "/usr/sbin/slapd", "slapd", func(b *bench, dir, cert string, port int) *exec.Cmd {
		b.file(dir, "slapd.conf", fmt.Sprintf("TLSCertificateFile %[2]s\nTLSCertificateKeyFile %[1]s/key.pem\npidfile %[1]s/pid\nargsfile %[1]s/args\n", dir, cert))
		return exec.Command("/usr/sbin/slapd", "-d", "0", "-f", filepath.Join(dir, "slapd.conf"), "-h", fmt.Sprintf("ldap://127.0.0.1:%d", port))
	}},
}

func dovecot(b *bench, dir, cert string, imap, pop3 int) *exec.Cmd {
	b.file(dir, "dovecot.conf", fmt.Sprintf("protocols=imap pop3\nlisten=127.0.0.1\nbase_dir=%[1]s/run\nstate_dir=%[1]s/run\nlog_path=/dev/stderr\nssl=yes\nssl_cert=<%[2]s\nssl_key=<%[1]s/key.pem\npassdb {\n driver=static\n args=password=x\n}\nuserdb {\n driver=static\n args=uid=nobody gid=nogroup home=/nonexistent\n}\n"+
		"service imap-login {\n inet_listener imap {\n  port=%[3]d\n }\n inet_listener imaps {\n  port=0\n }\n chroot=\n}\nservice pop3-login {\n inet_listener pop3 {\n  port=%[4]d\n }\n inet_listener pop3s {\n  port=0\n }\n chroot=\n}\n", dir, cert, imap, pop3))
	return exec.Command("/usr/sbin/dovecot", "-F", "-c", filepath.Join(dir, "dovecot.conf"))
}

func TestStartTLSOfRealServers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("these servers want to be started by root")
	}
	base := setUp(t)
	for _, d := range daemons {
		t.Run(d.protocol, func(t *testing.T) {
			need(t, d.program, d.apt)
			for file, want := range map[string][]string{"good.pem": nil, "leaf.pem": {"MISSING_INTERMEDIATE"}} {
				dir, err := os.MkdirTemp("", "tls") // short: sockets have 107 octets
				if err != nil {
					t.Fatal(err)
				}
				defer os.RemoveAll(dir)
				b := &bench{t, base.dir}
				os.Chmod(dir, 0o755)
				b.file(dir, file, string(b.read(file)))
				b.file(dir, "key.pem", string(b.read("key.pem")))
				port := freePort(t)
				cmd := d.start(b, dir, filepath.Join(dir, file), port)
				stop := runDaemon(t, cmd)
				b.checkServer(d.protocol, port, want)
				stop()
			}
		})
	}
}

// checkServer asks until the server answers, and wants these findings.
func (b *bench) checkServer(protocol string, port int, want []string) {
	b.t.Helper()
	var out []byte
	waitFor(b.t, func() error {
		cmd := exec.Command("./vouchsafe", "chain", "check", "--json", "--starttls", protocol, "--name", "www.neighbour.test", "--roots", "root.pem", fmt.Sprintf("127.0.0.1:%d", port))
		cmd.Dir = b.dir
		var err error
		if out, err = cmd.Output(); len(out) > 0 {
			return nil
		}
		return fmt.Errorf("%s: %w: %s", protocol, err, err.(*exec.ExitError).Stderr)
	})
	var r struct {
		Findings []struct{ Code, Evidence string }
		Chain    []struct{ Role string }
	}
	if err := json.Unmarshal(out, &r); err != nil {
		b.t.Fatalf("%v\n%s", err, out)
	}
	var got []string
	for _, f := range r.Findings {
		got = append(got, f.Code)
	}
	if !slices.Equal(got, want) {
		b.t.Errorf("%s: got %v, want %v\n%s", protocol, got, want, out)
	}
}

// runDaemon runs a server in a process group of its own, until stop.
func runDaemon(t *testing.T, cmd *exec.Cmd) (stop func()) {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		syscall.Kill(cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(10 * time.Second):
		}
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("%s: %s", cmd.Path, text)
		}
	}
	t.Cleanup(stop)
	return stop
}

func (b *bench) file(dir, name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) mkdir(dir string) {
	b.t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
}

// own gives a directory, and all in it, to the user that a package has made.
func (b *bench) own(dir, name string) *syscall.Credential {
	b.t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		b.t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	}); err != nil {
		b.t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// as runs a program as that user.
func (b *bench) as(cmd *exec.Cmd, dir, name string) {
	b.t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: b.own(dir, name)}
	cmd.Dir = dir
}
