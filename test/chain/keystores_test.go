package chain_test

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Keystores in every form that keytool of Java 17 writes, and back.

func (b *bench) keytool(args ...string) string {
	b.t.Helper()
	return b.run("keytool", append(args, "-noprompt")...)
}

// convert copies a keystore into another form.
func (b *bench) convert(from, to string, more ...string) {
	b.t.Helper()
	b.keytool(append([]string{"-importkeystore", "-srckeystore", from, "-srcstorepass", "changeit", "-destkeystore", to, "-deststorepass", "changeit"}, more...)...)
}

func TestWhatKeytoolWrites(t *testing.T) {
	need(t, "keytool", "default-jre-headless")
	b := setUp(t)
	b.run("openssl", "pkcs12", "-export", "-in", "good.pem", "-inkey", "key.pem", "-passout", "file:pw", "-name", "web", "-out", "in.p12")
	for _, form := range []struct {
		file string
		args []string
	}{
		{"store.jks", []string{"-deststoretype", "JKS"}},
		{"store.jceks", []string{"-deststoretype", "JCEKS"}},
		{"store.p12", []string{"-deststoretype", "PKCS12"}},
		{"legacy.p12", []string{"-deststoretype", "PKCS12", "-J-Dkeystore.pkcs12.legacy"}},
		{"open.p12", []string{"-deststoretype", "PKCS12", "-J-Dkeystore.pkcs12.certProtectionAlgorithm=NONE", "-J-Dkeystore.pkcs12.macAlgorithm=NONE"}},
	} {
		b.convert("in.p12", form.file, form.args...)
		b.fix(form.file, "--password-file", "pw")
	}
	b.keytool("-exportcert", "-keystore", "store.jks", "-storepass", "changeit", "-alias", "web", "-rfc", "-file", "rfc.pem")
	b.keytool("-exportcert", "-keystore", "store.jks", "-storepass", "changeit", "-alias", "web", "-file", "cert.der")
	b.write("list.txt", b.keytool("-list", "-rfc", "-keystore", "store.p12", "-storepass", "changeit"))
	b.fix("rfc.pem", "--intermediates", "ca.pem")
	b.fix("cert.der", "--intermediates", "ca.pem")
	b.fix("list.txt")

	// Two keys in one store: the name says which is meant.
	for _, form := range []string{"JKS", "JCEKS", "PKCS12"} {
		b.convert("in.p12", "two."+form, "-deststoretype", form)
		b.keytool("-genkeypair", "-alias", "mail", "-keyalg", "EC", "-dname", "CN=mail.neighbour.test", "-ext", "san=dns:mail.neighbour.test", "-keystore", "two."+form, "-storetype", form, "-storepass", "changeit", "-keypass", "changeit")
		b.fix("two."+form, "--password-file", "pw", "--name", "www.neighbour.test")
		b.codes("two."+form, []string{"KEYSTORE_ENTRIES"}, "--name", "www.neighbour.test")
		b.codes("two."+form, []string{"SELF_SIGNED", "KEYSTORE_ENTRIES"}, "--name", "mail.neighbour.test")
	}
	// The CA's certificate is trusted, but not in the chain of the key: Java sends the leaf alone.
	b.run("openssl", "pkcs12", "-export", "-in", "leaf.pem", "-inkey", "key.pem", "-passout", "file:pw", "-name", "web", "-out", "leaf.p12")
	b.convert("leaf.p12", "beside.jks", "-deststoretype", "JKS")
	b.codes("beside.jks", []string{"MISSING_INTERMEDIATE"})
	b.keytool("-importcert", "-alias", "ca", "-file", "ca.pem", "-keystore", "beside.jks", "-storepass", "changeit")
	b.codes("beside.jks", []string{"MISSING_INTERMEDIATE"})
	b.fix("beside.jks", "--password-file", "pw")
	// Stores of roots, of secret keys, and a key before its certificate came.
	for _, form := range []string{"JKS", "JCEKS", "PKCS12"} {
		b.keytool("-importcert", "-alias", "root", "-file", "root.pem", "-keystore", "trust."+form, "-storetype", form, "-storepass", "changeit")
		b.codes("trust."+form, []string{"LEAF_MISSING"})
		b.keytool("-genkeypair", "-alias", "new", "-keyalg", "RSA", "-dname", "CN=new.neighbour.test", "-keystore", "new."+form, "-storetype", form, "-storepass", "changeit", "-keypass", "changeit")
		b.codes("new."+form, []string{"SELF_SIGNED", "NO_SAN"})
		if form != "JKS" {
			b.keytool("-genseckey", "-alias", "s", "-keyalg", "AES", "-keysize", "256", "-keystore", "secret."+form, "-storetype", form, "-storepass", "changeit", "-keypass", "changeit")
			b.codes("secret."+form, []string{"NOT_A_CERTIFICATE"})
		}
	}
	b.keytool("-certreq", "-alias", "web", "-keystore", "store.jks", "-storepass", "changeit", "-file", "web.csr")
	b.codes("web.csr", []string{"CSR_NOT_CERT"})

	// And back: what we write for Java, Java reads, chain and key.
	for _, file := range []string{"ours.p12", "ours.jks"} {
		b.run("./vouchsafe", "chain", "fix", "leaf.pem", "-o", file, "--intermediates", "ca.pem", "--roots", "root.pem", "--key", "key.pem", "--password-file", "pw", "--for", "java")
		if out := b.keytool("-list", "-v", "-keystore", file, "-storepass", "changeit", "-J-Duser.language=en"); !strings.Contains(out, "Certificate chain length: 2") {
			t.Errorf("%s: keytool does not see a chain of two:\n%s", file, out)
		}
		b.convert(file, file+".again", "-deststoretype", "PKCS12")
		b.fix(file+".again", "--password-file", "pw")
	}
	// The key comes out of a keystore too, the one that belongs to the leaf.
	b.run("./vouchsafe", "chain", "fix", "two.JKS", "-o", "iis.pfx", "--roots", "root.pem", "--name", "www.neighbour.test", "--password-file", "pw", "--for", "iis")
	b.fix("iis.pfx", "--password-file", "pw", "--key", "key.pem")
}

// codes wants the errors, warnings and notes of a keystore, without the codes
// that say only what kind of file it is.
func (b *bench) codes(file string, want []string, args ...string) {
	b.t.Helper()
	cmd := exec.Command("./vouchsafe", append([]string{"chain", "check", "--json", file, "--roots", "root.pem", "--password-file", "pw"}, args...)...)
	cmd.Dir = b.dir
	out, _ := cmd.Output()
	var r struct {
		Findings []struct{ Code string }
	}
	if err := json.Unmarshal(out, &r); err != nil {
		b.t.Fatalf("%s: %v\n%s", file, err, out)
	}
	var got []string
	for _, f := range r.Findings {
		if !slices.Contains([]string{"JKS", "PKCS12", "CRLF", "TEXT_OUTSIDE_PEM"}, f.Code) {
			got = append(got, f.Code)
		}
	}
	if !slices.Equal(got, want) {
		b.t.Errorf("%s: got %v, want %v\n%s", file, got, want, out)
	}
}
