package neighbours

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// provider is what a person with OpenSSL and its TPM provider (tpm2-openssl)
// would type: keys that never leave the vTPM, used by openssl's own commands,
// and what they make checked by OpenSSL without the provider.
const provider = `
set -eu
say() { echo "== $*"; }
tpm() { command=$1; shift; openssl "$command" -provider tpm2 -provider default -propquery '?provider=tpm2' "$@"; }
echo message >m

say random numbers
openssl rand -provider tpm2 -hex 16 | grep -Eq '^[0-9a-f]{32}$'

for kind in EC:group:P-256 EC:group:P-384 RSA:bits:2048; do
  say "a key of $kind in the vTPM signs"
  tpm genpkey -algorithm "${kind%%:*}" -pkeyopt "${kind#*:}" -out key.pem
  grep -q 'BEGIN TSS2 PRIVATE KEY' key.pem
  tpm pkey -in key.pem -pubout -out pub.pem
  tpm pkeyutl -sign -inkey key.pem -rawin -digest sha256 -in m -out sig
  openssl pkeyutl -verify -pubin -inkey pub.pem -rawin -digest sha256 -in m -sigfile sig
  echo other >n
  if openssl pkeyutl -verify -pubin -inkey pub.pem -rawin -digest sha256 -in n -sigfile sig; then exit 1; fi

  say "a certificate and a request of $kind"
  tpm req -x509 -new -key key.pem -subj /CN=web1.example.test -days 1 -out cert.pem
  openssl verify -CAfile cert.pem cert.pem
  tpm req -new -key key.pem -subj /CN=web1.example.test -out req.pem
  openssl req -in req.pem -verify -noout
done

say TLS with the key in the vTPM
tpm genpkey -algorithm EC -pkeyopt group:P-256 -out key.pem
tpm req -x509 -new -key key.pem -subj /CN=web1.example.test -addext subjectAltName=DNS:web1.example.test -days 1 -out cert.pem
tpm s_server -accept "127.0.0.1:$PORT" -key key.pem -cert cert.pem -www >server.log 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  if printf 'GET / HTTP/1.0\r\n\r\n' | openssl s_client -connect "127.0.0.1:$PORT" -servername web1.example.test -verify_hostname web1.example.test \
    -CAfile cert.pem -verify_return_error -ign_eof >client.log 2>&1; then break; fi
  sleep 0.2
done
grep -q 'Verify return code: 0 (ok)' client.log || { cat server.log client.log; exit 1; }
grep -q 'HTTP/1.0 200 ok' client.log

say RSA decrypts in the vTPM
tpm genpkey -algorithm RSA -pkeyopt bits:2048 -out key.pem
tpm pkey -in key.pem -pubout -out pub.pem
openssl pkeyutl -encrypt -pubin -inkey pub.pem -in m -out secret
tpm pkeyutl -decrypt -inkey key.pem -in secret -out m2
cmp m m2
`

// TestOpenSSLProvider uses keys in the vTPM through tpm2-openssl.
func TestOpenSSLProvider(t *testing.T) {
	need(t, "openssl", "openssl")
	if found, _ := filepath.Glob("/usr/lib/*/ossl-modules/tpm2.so"); len(found) == 0 {
		absent(t, "OpenSSL's TPM provider is absent", "apt-get install tpm2-openssl")
	}
	dir, work := shortDir(t), t.TempDir()
	v := serveTCP(t, dir)
	script := filepath.Join(work, "provider.sh")
	if err := os.WriteFile(script, []byte("cd "+work+"\n"+provider), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{fmt.Sprintf("TPM2OPENSSL_TCTI=swtpm:host=127.0.0.1,port=%d", v.port), fmt.Sprintf("PORT=%d", freePorts(t))}
	out, err := run(t, env, "sh", script)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out, "== "); n != 9 {
		t.Errorf("%d steps:\n%s", n, out)
	}
}
