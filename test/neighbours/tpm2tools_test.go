package neighbours

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// day is a shell script that a person with tpm2-tools could have typed, each
// step checked by another program where there is one. It ends at the first failure.
const day = `
set -eu
say() { echo "== $*"; }

say random numbers
tpm2_getrandom --hex 32

say certificates match the endorsement keys
for pair in 0x01c00002:rsa:0x81010001 0x01c0000a:ecc:0x8101000a 0x01c00016:ecc384:0x81010016; do
  index=${pair%%:*} handle=${pair##*:}
  tpm2_nvread -Q -C o -o ek.der $index
  openssl x509 -inform DER -in ek.der -noout -pubkey >cert.pub
  tpm2_readpublic -Q -c $handle -f pem -o tpm.pub
  openssl pkey -pubin -in cert.pub -outform DER >a; openssl pkey -pubin -in tpm.pub -outform DER >b
  cmp a b
  openssl x509 -inform DER -in ek.der -out ek.pem
  openssl verify -CAfile "$CA" -purpose any ek.pem
done
tpm2_nvread -Q -C o -o platform.der 0x01c08000
openssl x509 -inform DER -in platform.der -out platform.pem && openssl verify -CAfile "$CA" -purpose any platform.pem

say certificates are locked
if echo x | tpm2_nvwrite -C p -i - 0x01c00002 2>err; then exit 1; fi
grep -q 'NV access locked\|0x148' err

say PCRs
tpm2_pcrreset 16
tpm2_pcrextend 16:sha256=0000000000000000000000000000000000000000000000000000000000000001
tpm2_pcrread -Q -o pcr16 sha256:16
{ head -c 63 /dev/zero; printf '\001'; } | openssl dgst -sha256 -binary | cmp - pcr16

say a storage key, persistent
tpm2_createprimary -Q -C o -G ecc -c srk.ctx
tpm2_evictcontrol -Q -C o -c srk.ctx 0x81000001
tpm2_flushcontext -t

say sign with ECDSA and RSA, verified by openssl
echo message >m
for alg in ecc:ecdsa rsa:rsassa rsa:rsapss; do
  tpm2_create -Q -C 0x81000001 -G ${alg%:*} -u k.pub -r k.priv -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign'
  tpm2_load -Q -C 0x81000001 -u k.pub -r k.priv -c k.ctx
  tpm2_sign -Q -c k.ctx -g sha256 -s ${alg#*:} -f plain -o sig m
  tpm2_readpublic -Q -c k.ctx -f pem -o k.pem
  case $alg in
  *pss) openssl dgst -sha256 -sigopt rsa_padding_mode:pss -verify k.pem -signature sig m;;
  *) openssl dgst -sha256 -verify k.pem -signature sig m;;
  esac
  tpm2_flushcontext -t
done

say seal to PCRs
tpm2_pcrreset 16
tpm2_createpolicy -Q --policy-pcr -l sha256:0,16 -L pcr.policy
printf secret | tpm2_create -Q -C 0x81000001 -L pcr.policy -i - -u s.pub -r s.priv
tpm2_load -Q -C 0x81000001 -u s.pub -r s.priv -c s.ctx
[ "$(tpm2_unseal -c s.ctx -p pcr:sha256:0,16)" = secret ]
tpm2_pcrextend 16:sha256=0000000000000000000000000000000000000000000000000000000000000002
if tpm2_unseal -c s.ctx -p pcr:sha256:0,16 2>err; then exit 1; fi
grep -q 0x99D err || grep -qi 'policy check failed' err
tpm2_flushcontext -t

say quote, checked
tpm2_createek -Q -c ek.ctx -G rsa -u ek.pub
tpm2_createak -Q -C ek.ctx -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.pub -n ak.name
tpm2_quote -Q -c ak.ctx -l sha256:0,7,16 -q 00112233 -m q.msg -s q.sig -o q.pcrs -g sha256
tpm2_checkquote -Q -u ak.pub -m q.msg -s q.sig -f q.pcrs -g sha256 -q 00112233

say make and activate a credential
printf 'attestation secret' >cred
tpm2_makecredential -Q -T none -u ek.pub -s cred -n "$(od -An -v -tx1 ak.name | tr -d " \n")" -o cred.blob
tpm2_startauthsession --policy-session -S s.session
tpm2_policysecret -Q -S s.session -c e
tpm2_activatecredential -Q -c ak.ctx -C ek.ctx -i cred.blob -o cred.out -P session:s.session
tpm2_flushcontext s.session
cmp cred cred.out
tpm2_flushcontext -t

say NV: write, read, counter, extend, bits
tpm2_nvdefine -Q -C o -s 32 -a 'ownerread|ownerwrite' 0x1500001
printf 'non-volatile' | tpm2_nvwrite -Q -C o -i - 0x1500001
[ "$(tpm2_nvread -C o -s 12 0x1500001)" = non-volatile ]
tpm2_nvdefine -Q -C o -a 'ownerread|ownerwrite|nt=counter' 0x1500002
tpm2_nvincrement -Q -C o 0x1500002; tpm2_nvincrement -Q -C o 0x1500002
tpm2_nvread -C o 0x1500002 | od -An -tx1
tpm2_nvdefine -Q -C o -a 'ownerread|ownerwrite|nt=bits' 0x1500003
tpm2_nvsetbits -Q -C o -i 0xbadc0de 0x1500003
tpm2_nvdefine -Q -C o -a 'ownerread|ownerwrite|nt=extend' 0x1500004
printf falafel | tpm2_nvextend -Q -C o -i - 0x1500004
tpm2_nvreadpublic >/dev/null

say hash, HMAC, encrypt
printf abc | tpm2_hash -Q -C e -g sha256 -o h.bin -t h.tk
printf abc | openssl dgst -sha256 -binary | cmp - h.bin
tpm2_create -Q -C 0x81000001 -G hmac -c hmac.ctx
printf abc | tpm2_hmac -Q -c hmac.ctx -o mac.bin
tpm2_create -Q -C 0x81000001 -G aes128cfb -c aes.ctx || tpm2_create -Q -C 0x81000001 -G aes128 -c aes.ctx
printf 'plain text here!' >p; tpm2_encryptdecrypt -Q -c aes.ctx -o c p; tpm2_encryptdecrypt -Q -d -c aes.ctx -o p2 c
cmp p p2
tpm2_flushcontext -t

say import a key, duplicate it
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ext.pem 2>/dev/null
tpm2_import -Q -C 0x81000001 -G ecc -i ext.pem -u i.pub -r i.priv
tpm2_load -Q -C 0x81000001 -u i.pub -r i.priv -c i.ctx
tpm2_sign -Q -c i.ctx -g sha256 -f plain -o sig m
openssl pkey -in ext.pem -pubout -out ext.pub && openssl dgst -sha256 -verify ext.pub -signature sig m
tpm2_flushcontext -t

say sessions with parameter encryption
tpm2_startauthsession --hmac-session -S h.session -c 0x81000001 2>/dev/null || tpm2_startauthsession --hmac-session -S h.session
tpm2_sessionconfig --enable-encrypt --enable-decrypt h.session
tpm2_getrandom -S h.session --hex 16; echo
tpm2_flushcontext h.session

say passwords and the lockout
tpm2_changeauth -Q -c o owner-password
if tpm2_createprimary -Q -C o -c x.ctx 2>/dev/null; then exit 1; fi
tpm2_createprimary -Q -C o -P owner-password -c x.ctx
tpm2_changeauth -Q -c o -p owner-password
tpm2_dictionarylockout -Q --setup-parameters --max-tries=5 --recovery-time=10 --lockout-recovery-time=10
tpm2_getcap properties-variable >/dev/null
tpm2_flushcontext -t

say time and capabilities
tpm2_readclock >/dev/null
tpm2_selftest --fulltest
for c in algorithms commands ecc-curves handles-persistent pcrs properties-fixed; do tpm2_getcap $c >/dev/null; done
tpm2_testparms rsa2048
if tpm2_testparms ecc521:camellia 2>/dev/null; then exit 1; fi

say clear
tpm2_clear
tpm2_getcap handles-persistent
tpm2_shutdown -c
`

func TestTPM2ToolsDay(t *testing.T) {
	need(t, "tpm2-tools libtss2-tcti-swtpm0 openssl", "tpm2_getrandom", "openssl")
	for _, tc := range []struct {
		name  string
		setup []string
		serve []string
		tcti  string
	}{
		{"plain state", nil, nil, "swtpm"},
		{"sealed state", []string{"--keyfile", "@KEY@"}, []string{"--key", "file=@KEY@,mode=aes-256-cbc"}, "swtpm"},
		{"by mssim's framing", nil, nil, "mssim"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, work := shortDir(t), t.TempDir()
			key := filepath.Join(work, "key")
			if err := os.WriteFile(key, []byte(strings.Repeat("5a", 32)), 0o600); err != nil {
				t.Fatal(err)
			}
			fill := func(args []string) (out []string) {
				for _, a := range args {
					out = append(out, strings.ReplaceAll(a, "@KEY@", key))
				}
				return out
			}
			setup(t, dir, fill(append(tc.setup, "--pcr-banks", "sha1,sha256"))...)
			v := serveTCP(t, dir, fill(tc.serve)...)
			script := filepath.Join(work, "day.sh")
			if err := os.WriteFile(script, []byte("cd "+work+"\n"+day), 0o600); err != nil {
				t.Fatal(err)
			}
			env := []string{fmt.Sprintf("TPM2TOOLS_TCTI=%s:host=127.0.0.1,port=%d", tc.tcti, v.port), "CA=" + filepath.Join(dir, "ca", "ca.pem")}
			out, err := run(t, env, "sh", script)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(out, "== "); n < 15 {
				t.Errorf("only %d steps:\n%s", n, out)
			}
		})
	}
}
