package chain_test

import (
	"encoding/base64"
	"strings"
	"testing"
)

// What people bring from Windows. No IIS was at hand: the files are made by
// OpenSSL with the structure that certlm.msc, certutil and PowerShell give
// theirs, and then dressed as those do.

// crlf is text as Windows writes it.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// certutilEncode is what `certutil -encode IN OUT` does: base64 between BEGIN
// and END CERTIFICATE, whatever IN was.
func certutilEncode(in []byte) string {
	var b strings.Builder
	b.WriteString("-----BEGIN CERTIFICATE-----\r\n")
	for text := base64.StdEncoding.EncodeToString(in); len(text) > 0; {
		n := min(64, len(text))
		b.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	b.WriteString("-----END CERTIFICATE-----\r\n")
	return b.String()
}

func TestWhatWindowsWrites(t *testing.T) {
	b := setUp(t)
	// "Yes, export the private key", with every tick of "include all certificates", or none.
	b.write("odd.pem", string(b.read("root.pem"))+string(b.read("ca.pem")))
	b.run("openssl", "pkcs12", "-export", "-legacy", "-in", "leaf.pem", "-inkey", "key.pem", "-CSP", "Microsoft Software Key Storage Provider", "-LMK", "-passout", "file:pw", "-out", "leaf.pfx")
	b.run("openssl", "pkcs12", "-export", "-legacy", "-in", "leaf.pem", "-inkey", "key.pem", "-certfile", "odd.pem", "-CSP", "Microsoft Software Key Storage Provider", "-LMK", "-passout", "file:pw", "-out", "all.pfx")
	// "AES256-SHA256" of Windows Server 2019.
	b.run("openssl", "pkcs12", "-export", "-in", "leaf.pem", "-inkey", "key.pem", "-certfile", "odd.pem", "-macalg", "sha256", "-certpbe", "AES-256-CBC", "-keypbe", "AES-256-CBC", "-LMK", "-passout", "file:pw", "-out", "aes.pfx")
	b.run("openssl", "crl2pkcs7", "-nocrl", "-certfile", "odd.pem", "-certfile", "leaf.pem", "-outform", "DER", "-out", "all.p7b")
	b.run("openssl", "x509", "-in", "leaf.pem", "-outform", "DER", "-out", "leaf.cer")
	leaf, good := string(b.read("leaf.pem")), string(b.read("good.pem"))
	b.write("base64.cer", crlf(leaf))
	b.write("encoded.p7b", certutilEncode(b.read("all.p7b")))
	b.write("encoded-twice.cer", certutilEncode([]byte(crlf(good))))
	b.write("pkcs7.p7b", strings.ReplaceAll(certutilEncode(b.read("all.p7b")), "CERTIFICATE", "PKCS7"))
	b.write("outfile.cer", powerShell(good))
	b.write("notepad.pem", "\ufeff"+crlf(good))
	b.write("vault.txt", base64.StdEncoding.EncodeToString(b.read("all.pfx"))) // a secret of Azure's Key Vault
	b.write("bags.pem", crlf(b.run("openssl", "pkcs12", "-in", "aes.pfx", "-passin", "file:pw", "-nodes")))
	for _, c := range []struct {
		file string
		want []string
		pool bool
	}{
		{"leaf.pfx", []string{"MISSING_INTERMEDIATE"}, true},
		{"all.pfx", []string{"ROOT_INCLUDED"}, false},
		{"aes.pfx", []string{"ROOT_INCLUDED"}, false},
		{"all.p7b", []string{"PKCS7", "ROOT_INCLUDED"}, false},
		{"pkcs7.p7b", []string{"PKCS7", "ROOT_INCLUDED"}, false},
		{"encoded.p7b", []string{"PKCS7", "ROOT_INCLUDED"}, false},
		{"encoded-twice.cer", []string{"DOUBLE_BASE64"}, false},
		{"leaf.cer", []string{"DER_NOT_PEM", "MISSING_INTERMEDIATE"}, true},
		{"base64.cer", []string{"MISSING_INTERMEDIATE"}, true},
		{"outfile.cer", []string{"UTF16", "BOM"}, false},
		{"notepad.pem", []string{"BOM"}, false},
		{"vault.txt", []string{"NO_PEM_HEADER", "ROOT_INCLUDED"}, false},
		{"bags.pem", []string{"ROOT_INCLUDED", "PRIVATE_KEY_IN_CHAIN"}, false},
	} {
		b.codes(c.file, c.want)
		args := []string{"--password-file", "pw"}
		if c.pool {
			args = append(args, "--intermediates", "ca.pem")
		}
		b.fix(c.file, args...)
	}
	b.write("wrong", "another")
	b.codes("all.pfx", nil, "--password-file", "wrong")

	// And back: what we write for IIS has what Import-PfxCertificate needs.
	b.run("./vouchsafe", "chain", "fix", "encoded.p7b", "-o", "iis.pfx", "--roots", "root.pem", "--key", "key.pem", "--password-file", "pw", "--for", "iis")
	out := b.run("openssl", "pkcs12", "-legacy", "-in", "iis.pfx", "-passin", "file:pw", "-nodes", "-info")
	if n := strings.Count(out, "BEGIN CERTIFICATE"); n != 2 || !strings.Contains(out, "BEGIN PRIVATE KEY") || !strings.Contains(out, "pbeWithSHA1And3-KeyTripleDES-CBC") {
		t.Errorf("iis.pfx has %d certificates:\n%s", n, out)
	}
}
