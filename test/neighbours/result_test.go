package neighbours

import (
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSignedResult has openssl verify an attestation result as a relying party
// would that has never heard of us: the chain in x5c, and the signature over
// the JWS signing input.
//
//	vouchsafe demo --keep ──► result.jwt, ca.pem ──► openssl verify, openssl dgst
func TestSignedResult(t *testing.T) {
	need(t, "openssl", "openssl")
	dir := filepath.Join(t.TempDir(), "evidence")
	if out, err := exec.Command(named(t, "vouchsafe"), "demo", "--keep", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "result.jwt"))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(strings.TrimSpace(string(text)), ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	decode := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var header struct {
		Alg, Typ string
		X5C      [][]byte
	}
	if err := json.Unmarshal(decode(parts[0]), &header); err != nil || header.Alg != "ES384" || header.Typ != "eat+jwt" || len(header.X5C) != 2 {
		t.Fatalf("%+v, %v", header, err)
	}
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certificate := func(der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	leaf, between := write("signer.pem", certificate(header.X5C[0])), write("between.pem", certificate(header.X5C[1]))
	openssl := func(args ...string) (string, error) {
		out, err := exec.Command("openssl", args...).CombinedOutput()
		return string(out), err
	}
	if out, err := openssl("verify", "-CAfile", filepath.Join(dir, "ca.pem"), "-untrusted", between, leaf); err != nil {
		t.Errorf("openssl verify: %v: %s", err, out)
	}
	public, err := exec.Command("openssl", "x509", "-in", leaf, "-noout", "-pubkey").Output()
	if err != nil {
		t.Fatal(err)
	}
	raw := decode(parts[2])
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:48]), new(big.Int).SetBytes(raw[48:])}) // RFC 7518, 3.4
	if err != nil {
		t.Fatal(err)
	}
	key, signature := write("signer.key", public), write("result.sig", der)
	input := write("result.input", []byte(parts[0]+"."+parts[1]))
	if out, err := openssl("dgst", "-sha384", "-verify", key, "-signature", signature, input); err != nil {
		t.Errorf("openssl dgst: %v: %s", err, out)
	}
	if out, err := openssl("dgst", "-sha384", "-verify", key, "-signature", signature, write("other.input", []byte(parts[0]+"."+parts[1]+"A"))); err == nil {
		t.Errorf("openssl dgst takes anything: %s", out)
	}
	// Our own, away from the service.
	cmd := exec.Command(named(t, "vouchsafe"), "attest", "verify", filepath.Join(dir, "result.jwt"), "--ca", filepath.Join(dir, "ca.pem"))
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 3 || !strings.Contains(string(out), "warning") || !strings.Contains(string(out), "/vm/web1") {
		t.Errorf("attest verify: %v: %s", err, out)
	}
	if out, err := exec.Command(named(t, "vouchsafe"), "attest", "verify", filepath.Join(dir, "result.jwt"), "--ca", leaf).CombinedOutput(); err == nil || !strings.Contains(string(out), "hint:") {
		t.Errorf("under another root: %v: %s", err, out)
	}
}
