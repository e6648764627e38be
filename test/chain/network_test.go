package chain_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// What only a look over the network shows, on a real nginx: another certificate
// without a server name, a staple that is demanded, a file that was not loaded.
func TestNginxOverTheNetwork(t *testing.T) {
	need(t, "nginx", "nginx-light")
	b := setUp(t)
	// A leaf that demands a staple, and its CA's answer.
	b.write("staple.cnf", string(b.read("leaf.cnf"))+"tlsfeature=status_request\nauthorityInfoAccess=OCSP;URI:http://ocsp.neighbour.test/\n")
	b.run("openssl", "x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "10", "-extfile", "staple.cnf", "-out", "staple-leaf.pem")
	b.write("staple.pem", string(b.read("staple-leaf.pem"))+string(b.read("ca.pem")))
	serial := strings.TrimPrefix(strings.TrimSpace(b.run("openssl", "x509", "-noout", "-serial", "-in", "staple-leaf.pem")), "serial=")
	for file, state := range map[string]string{"good.ocsp": "V\t%s\t\t%s\tunknown\t/CN=www.neighbour.test\n", "revoked.ocsp": "R\t%s\t261101000000Z,keyCompromise\t%s\tunknown\t/CN=www.neighbour.test\n"} {
		b.write("index.txt", fmt.Sprintf(state, time.Now().AddDate(0, 0, 10).UTC().Format("060102150405Z"), serial))
		b.run("openssl", "ocsp", "-index", "index.txt", "-rsigner", "ca.pem", "-rkey", "ca.key", "-CA", "ca.pem", "-issuer", "ca.pem", "-cert", "staple-leaf.pem", "-respout", file, "-ndays", "2")
	}
	// A long chain: more than ten segments.
	b.write("long.pem", strings.Repeat(string(b.read("good.pem")), 12))

	ports := map[string]int{}
	conf := "daemon off;\nmaster_process off;\nevents{}\npid %[1]s/pid;\nerror_log stderr;\nhttp{access_log off;\n"
	server := func(name, cert, more string) {
		if ports[name] == 0 {
			ports[name] = freePort(t)
		}
		conf += fmt.Sprintf("server{listen 127.0.0.1:%d ssl;%s ssl_certificate %%[1]s/%s;ssl_certificate_key %%[1]s/key.pem;}\n", ports[name], more, cert)
	}
	b.write("served.pem", string(b.read("good.pem")))
	b.run("openssl", "req", "-x509", "-key", "key.pem", "-out", "other.pem", "-subj", "/CN=other", "-addext", "subjectAltName=DNS:other.neighbour.test", "-days", "5")
	server("plain", "served.pem", "")
	server("names", "other.pem", "")
	server("names", "good.pem", "server_name www.neighbour.test;")
	server("unstapled", "staple.pem", "")
	server("stapled", "staple.pem", "ssl_stapling on;ssl_stapling_file %[1]s/good.ocsp;")
	server("revoked", "staple.pem", "ssl_stapling on;ssl_stapling_file %[1]s/revoked.ocsp;")
	server("long", "long.pem", "")
	server("tls12", "good.pem", "ssl_protocols TLSv1.2;")
	b.write("network.conf", fmt.Sprintf(conf+"}\n", b.dir))
	runDaemon(t, exec.Command("nginx", "-c", filepath.Join(b.dir, "network.conf")))
	waitFor(t, func() error {
		cmd := exec.Command("./vouchsafe", "chain", "check", "--roots", "root.pem", fmt.Sprintf("127.0.0.1:%d", ports["tls12"]), "--name", "www.neighbour.test")
		cmd.Dir = b.dir
		return cmd.Run()
	})
	// On disk the certificate is renewed, and nobody reloads the server.
	b.write("renewed.pem", string(b.read("staple.pem")))

	for _, c := range []struct {
		server string
		args   []string
		want   []string
	}{
		{"plain", nil, nil},
		{"plain", []string{"--against", "good.pem"}, nil},
		{"plain", []string{"--against", "renewed.pem"}, []string{"SERVED_DIFFERS"}},
		{"plain", []string{"--against", "leaf.pem"}, []string{"SERVED_DIFFERS"}},
		{"plain", []string{"--name", "mail.neighbour.test"}, []string{"NAME_MISMATCH"}},
		{"names", nil, []string{"NAME_NEEDED"}},
		{"unstapled", nil, []string{"STAPLE_MISSING"}},
		{"stapled", nil, nil},
		{"revoked", nil, []string{"REVOKED"}},
		{"long", nil, []string{"DUPLICATE", "FIRST_FLIGHT"}},
		{"tls12", nil, nil},
	} {
		args := append([]string{"chain", "check", "--json", "--roots", "root.pem", fmt.Sprintf("127.0.0.1:%d", ports[c.server])}, c.args...)
		if !slices.Contains(c.args, "--name") {
			args = append(args, "--name", "www.neighbour.test")
		}
		cmd := exec.Command("./vouchsafe", args...)
		cmd.Dir = b.dir
		out, _ := cmd.Output()
		var r struct {
			Findings []struct{ Code string }
		}
		if err := json.Unmarshal(out, &r); err != nil {
			t.Fatalf("%s %v: %v\n%s", c.server, c.args, err, out)
		}
		var got []string
		for _, f := range r.Findings {
			got = append(got, f.Code)
		}
		slices.Sort(got)
		slices.Sort(c.want)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s %v: got %v, want %v\n%s", c.server, c.args, got, c.want, out)
		}
	}
}
