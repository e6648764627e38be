package chain_test

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
)

// What ACME clients write, broken in the ways their users break it. The CA is
// Let's Encrypt's Pebble, with two intermediates and two roots:
//
//	certbot, lego, dehydrated, acme.sh ──► Pebble on loopback ──► their files, mixed up ──► vouchsafe chain check, fix

// issued is what one client left behind, under names of our own.
type issued struct {
	client                           string
	leaf, chain, full, key, csr, pfx string
}

func TestWhatACMEClientsWrite(t *testing.T) {
	b := setUp(t)
	pebble := startPebble(b)
	need(t, "lego", "lego")
	renewal := b.read(lego(t, b, pebble).full)
	b.write("renewal.pem", string(renewal))
	for _, c := range []struct {
		program string
		issue   func(*testing.T, *bench, string) issued
	}{{"certbot", certbot}, {"lego", lego}, {"dehydrated", dehydrated}, {"acme.sh", acmeSh}} {
		t.Run(c.program, func(t *testing.T) {
			if _, err := exec.LookPath(c.program); err != nil && c.program == "acme.sh" {
				t.Skip("acme.sh is not in PATH, and in no Debian package")
			}
			need(t, c.program, c.program)
			b := &bench{t, b.dir}
			breakIssued(t, b, c.issue(t, b, pebble))
		})
	}
}

// startPebble runs the CA and returns its directory's address; its root
// certificates are in acme-root.pem and acme-root2.pem.
func startPebble(b *bench) string {
	b.t.Helper()
	build := exec.Command("go", "build", "-o", filepath.Join(b.dir, "pebble"), "github.com/letsencrypt/pebble/v2/cmd/pebble")
	if out, err := build.CombinedOutput(); err != nil {
		b.t.Fatalf("%v\n%s", err, out)
	}
	b.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "acme.key", "-out", "acme.pem", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2")
	port, manage := freePort(b.t), freePort(b.t)
	b.write("pebble.json", fmt.Sprintf(`{"pebble":{"listenAddress":"127.0.0.1:%d","managementListenAddress":"127.0.0.1:%d",
		"certificate":%q,"privateKey":%q,"httpPort":5002,"tlsPort":5001,"retryAfter":{"authz":1,"order":1},"keyAlgorithm":"ecdsa",
		"profiles":{"default":{"description":"the usual","validityPeriod":7776000}}}}`, port, manage, b.dir+"/acme.pem", b.dir+"/acme.key"))
	cmd := exec.Command(filepath.Join(b.dir, "pebble"), "-config", filepath.Join(b.dir, "pebble.json"))
	cmd.Env = append(os.Environ(), "PEBBLE_VA_ALWAYS_VALID=1", "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0", "PEBBLE_CHAIN_LENGTH=2", "PEBBLE_ALTERNATE_ROOTS=1")
	runDaemon(b.t, cmd)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for i, file := range []string{"acme-root.pem", "acme-root2.pem"} {
		var body []byte
		waitFor(b.t, func() error {
			resp, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d/roots/%d", manage, i))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			body, err = io.ReadAll(resp.Body)
			return err
		})
		b.write(file, string(body))
	}
	return fmt.Sprintf("https://localhost:%d/dir", port)
}

func waitFor(t *testing.T, try func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

const acmeHost = "www.acme.test"

func certbot(t *testing.T, b *bench, server string) issued {
	t.Setenv("REQUESTS_CA_BUNDLE", b.dir+"/acme.pem")
	b.run("certbot", "certonly", "--server", server, "--config-dir", "certbot/config", "--work-dir", "certbot/work", "--logs-dir", "certbot/logs",
		"--non-interactive", "--agree-tos", "--email", "root@example.test", "--no-eff-email",
		"--manual", "--preferred-challenges", "http", "--manual-auth-hook", "/bin/true", "-d", acmeHost)
	live := "certbot/config/live/" + acmeHost
	return issued{client: "certbot", leaf: live + "/cert.pem", chain: live + "/chain.pem", full: live + "/fullchain.pem", key: live + "/privkey.pem"}
}

func lego(t *testing.T, b *bench, server string) issued {
	t.Setenv("LEGO_CA_CERTIFICATES", b.dir+"/acme.pem")
	b.run("lego", "--server", server, "--accept-tos", "--email", "root@example.test", "-d", acmeHost, "--http", "--http.webroot", b.dir, "--path", "lego", "--pfx", "run")
	files := "lego/certificates/" + acmeHost
	// lego writes no leaf alone.
	full := b.read(files + ".crt")
	end := bytes.Index(full, []byte("-----END CERTIFICATE-----\n")) + len("-----END CERTIFICATE-----\n")
	b.write("lego-leaf.pem", string(full[:end]))
	return issued{client: "lego", leaf: "lego-leaf.pem", chain: files + ".issuer.crt", full: files + ".crt", key: files + ".key", pfx: files + ".pfx"}
}

func dehydrated(t *testing.T, b *bench, server string) issued {
	need(t, "curl", "curl")
	if err := os.MkdirAll(filepath.Join(b.dir, "dehydrated/known"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.write("dehydrated/config", fmt.Sprintf("CA=%q\nBASEDIR=%s/dehydrated\nWELLKNOWN=%[2]s/dehydrated/known\nCURL_OPTS=\"--cacert %[2]s/acme.pem\"\n", server, b.dir))
	b.run("dehydrated", "-f", "dehydrated/config", "--register", "--accept-terms")
	b.run("dehydrated", "-f", "dehydrated/config", "-c", "-d", acmeHost)
	dir := "dehydrated/certs/" + acmeHost
	return issued{client: "dehydrated", leaf: dir + "/cert.pem", chain: dir + "/chain.pem", full: dir + "/fullchain.pem", key: dir + "/privkey.pem", csr: dir + "/cert.csr"}
}

func acmeSh(_ *testing.T, b *bench, server string) issued {
	b.run("acme.sh", "--home", b.dir+"/acme.sh", "--issue", "-d", acmeHost, "-w", b.dir, "--server", server, "--ca-bundle", b.dir+"/acme.pem", "--accountemail", "root@example.test", "--keylength", "ec-256")
	dir := "acme.sh/" + acmeHost + "_ecc/"
	return issued{client: "acme.sh", leaf: dir + acmeHost + ".cer", chain: dir + "ca.cer", full: dir + "fullchain.cer", key: dir + acmeHost + ".key", csr: dir + acmeHost + ".csr"}
}

// breakIssued mixes a client's files up, and wants the cause named, first, and
// the client's own full chain back.
func breakIssued(t *testing.T, b *bench, c issued) {
	leaf, chain, full, key := string(b.read(c.leaf)), string(b.read(c.chain)), string(b.read(c.full)), string(b.read(c.key))
	root := string(b.read("acme-root.pem"))
	mended := strings.ReplaceAll(full, "\n\n", "\n") // dehydrated and Pebble leave blank lines between blocks
	keyed := []string{"--key", c.key}
	pool := []string{"--intermediates", c.chain}
	const noRepair = "-"
	for _, x := range []struct {
		name, file string
		args       []string
		want       []string // in this order
		repair     string   // the file written, or noRepair
	}{
		{"as it is", full, keyed, nil, mended},
		{"cert in place of fullchain", leaf, pool, []string{"MISSING_INTERMEDIATE"}, mended},
		{"cert in place of fullchain, nothing else", leaf, nil, []string{"MISSING_INTERMEDIATE"}, noRepair},
		{"chain in place of fullchain", chain, nil, []string{"LEAF_MISSING"}, noRepair},
		{"privkey in place of fullchain", key, nil, []string{"PRIVATE_KEY_NOT_CERT"}, noRepair},
		{"chain, then cert", chain + leaf, keyed, []string{"ORDER_WRONG"}, mended},
		{"cert, then fullchain", leaf + full, keyed, []string{"DUPLICATE"}, mended},
		{"fullchain, then chain", full + chain, keyed, []string{"DUPLICATE"}, mended},
		{"key glued before", key + full, nil, []string{"PRIVATE_KEY_IN_CHAIN"}, mended},
		{"key glued after", full + key, nil, []string{"PRIVATE_KEY_IN_CHAIN"}, mended},
		{"root appended", full + root, keyed, []string{"ROOT_INCLUDED"}, mended},
		{"key of another certificate", full, []string{"--key", "acme.key"}, []string{"KEY_MISMATCH"}, noRepair},
		{"the other root is trusted", full, []string{"--roots", "acme-root2.pem"}, []string{"UNKNOWN_ROOT"}, noRepair},
		{"another name", full, []string{"--name", "mail.acme.test"}, []string{"NAME_MISMATCH"}, noRepair},
		{"echo without quotes", strings.Join(strings.Fields(full), " "), keyed, []string{"NEWLINES_LOST"}, mended},
		{"an environment variable", strings.ReplaceAll(full, "\n", `\n`), keyed, []string{"ESCAPED_NEWLINES"}, mended},
		{"a Kubernetes secret", base64.StdEncoding.EncodeToString([]byte(full)), keyed, []string{"DOUBLE_BASE64"}, mended},
		{"PowerShell's >", powerShell(full), keyed, []string{"UTF16", "BOM"}, mended},
		{"pasted into YAML", "    " + strings.ReplaceAll(full, "\n", "\n    "), keyed, []string{"INDENTED"}, mended},
		{"joined without a newline", strings.TrimSuffix(leaf, "\n") + chain, keyed, []string{"GLUED_BOUNDARIES"}, mended},
		{"cut in the last lines", full[:len(full)-200], pool, []string{"TRUNCATED_CERT"}, mended},
		{"cut in the last lines, nothing else", full[:len(full)-200], nil, []string{"TRUNCATED_CERT"}, noRepair},
		{"seen in 100 days", full, []string{"--time", fmt.Sprintf("@%d", time.Now().AddDate(0, 0, 100).Unix())}, []string{"EXPIRED"}, noRepair},
	} {
		b.write("broken.pem", x.file)
		b.expect(c.client+": "+x.name, "broken.pem", x.args, x.want, x.repair, noRepair)
	}
	if c.csr != "" {
		b.expect(c.client+": the request", c.csr, nil, []string{"CSR_NOT_CERT"}, noRepair, noRepair)
	}
	if c.pfx != "" {
		// lego 4.9 packs the first intermediate alone.
		b.expect(c.client+": .pfx", c.pfx, append([]string{"--password-file", "pw"}, pool...), []string{"PKCS12", "MISSING_INTERMEDIATE"}, mended, noRepair)
	}
	// Two renewals in one file: the key says which one is meant.
	renewal := string(b.read("renewal.pem"))
	b.write("broken.pem", full+renewal)
	b.expect(c.client+": two renewals", "broken.pem", keyed, []string{"TWO_LEAVES", "DUPLICATE"}, mended, noRepair)
	b.write("broken.pem", renewal+full)
	b.expect(c.client+": two renewals, the old one first", "broken.pem", keyed, []string{"TWO_LEAVES", "ORDER_WRONG", "DUPLICATE"}, mended, noRepair)
}

// expect checks a file, wants these codes in this order, and mends it.
func (b *bench) expect(what, file string, args, want []string, repair, noRepair string) {
	b.t.Helper()
	if !slices.Contains(args, "--roots") {
		args = append(slices.Clone(args), "--roots", "acme-root.pem")
	}
	if !slices.Contains(args, "--name") {
		args = append(args, "--name", acmeHost)
	}
	cmd := exec.Command("./vouchsafe", append([]string{"chain", "check", "--json", file}, args...)...)
	cmd.Dir = b.dir
	out, err := cmd.Output()
	var r struct {
		Findings []struct{ Code, Severity, Evidence string }
	}
	if json.Unmarshal(out, &r) != nil {
		b.t.Errorf("%s: %v\n%s", what, err, out)
		return
	}
	var got []string
	for _, f := range r.Findings {
		if f.Severity != "info" {
			got = append(got, f.Code)
		}
	}
	if !slices.Equal(got, want) {
		b.t.Errorf("%s: got %v, want %v", what, got, want)
	}
	os.Remove(filepath.Join(b.dir, "mended.pem"))
	cmd = exec.Command("./vouchsafe", append([]string{"chain", "fix", file, "-o", "mended.pem"}, args...)...)
	cmd.Dir = b.dir
	words, err := cmd.CombinedOutput()
	mended, _ := os.ReadFile(filepath.Join(b.dir, "mended.pem"))
	switch {
	case repair == noRepair && (err == nil || len(mended) > 0):
		b.t.Errorf("%s: mended, and cannot be\n%s", what, words)
	case repair != noRepair && string(mended) != repair:
		b.t.Errorf("%s: mended to something else, %v\n%s", what, err, words)
	}
}

// powerShell is what Windows PowerShell 5's > makes of a text: UTF-16 with a
// byte order mark and CR LF.
func powerShell(s string) string {
	out := []byte{0xFF, 0xFE}
	for _, u := range utf16.Encode([]rune(strings.ReplaceAll(s, "\n", "\r\n"))) {
		out = append(out, byte(u), byte(u>>8))
	}
	return string(out)
}
