package client_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// relayTo makes the test program a pipe between its standard streams and a
// socket: what tpm2-tss' TCTI "cmd" runs to reach a TPM.
const relayTo = "VOUCHSAFE_TEST_RELAY"

func TestMain(m *testing.M) {
	sock := os.Getenv(relayTo)
	if sock == "" {
		os.Exit(m.Run())
	}
	conn, err := net.Dial("unix", sock)
	if err != nil {
		os.Exit(1)
	}
	go func() {
		io.Copy(conn, os.Stdin)
		os.Exit(0)
	}()
	io.Copy(os.Stdout, conn)
}

// tools runs tpm2-tools on the TPM of a client, through [client.Client.Transmit].
type tools struct {
	dir, sock string
}

func newTools(t *testing.T, c *client.Client) *tools {
	t.Helper()
	need(t, "tpm2", "tpm2-tools")
	if m, _ := filepath.Glob("/usr/lib/*/libtss2-tcti-cmd.so*"); len(m) == 0 {
		absent(t, "libtss2-tcti-cmd", "libtss2-tcti-cmd0")
	}
	dir, err := os.MkdirTemp("", "tools")
	if err != nil {
		t.Fatal(err)
	}
	x := &tools{dir, filepath.Join(dir, "sock")}
	l, err := net.Listen("unix", x.sock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		os.RemoveAll(dir)
	})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serve(c, conn)
		}
	}()
	return x
}

func serve(c *client.Client, conn net.Conn) {
	defer conn.Close()
	for {
		cmd := make([]byte, 10, 4096)
		if _, err := io.ReadFull(conn, cmd); err != nil {
			return
		}
		cmd = cmd[:min(binary.BigEndian.Uint32(cmd[2:]), 4096)]
		if _, err := io.ReadFull(conn, cmd[10:]); err != nil {
			return
		}
		rsp, err := c.Transmit(cmd)
		if err != nil {
			return
		}
		conn.Write(rsp)
	}
}

func (x *tools) run(t *testing.T, line string, args ...string) string {
	t.Helper()
	args = append(strings.Fields(line), args...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = x.dir
	cmd.Env = append(os.Environ(), "TPM2TOOLS_TCTI=cmd:"+os.Args[0], relayTo+"="+x.sock)
	var words strings.Builder
	cmd.Stderr = &words
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out, words.String())
	}
	return string(out)
}

func (x *tools) write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(x.dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (x *tools) read(t *testing.T, name string) []byte {
	t.Helper()
	return must(os.ReadFile(filepath.Join(x.dir, name)))(t)
}

func sized(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }

// testTools has tpm2-tools and this client read each other's work.
func testTools(t *testing.T, c *client.Client) {
	x := newTools(t, c)
	for name, kind := range kinds {
		t.Run("quote "+name, func(t *testing.T) {
			ak := newAK(t, c, client.AKTemplate(kind))
			sel := client.Select(tpm2.AlgSHA256, 0, 1, 7)
			nonce := []byte("nonce of tpm2-tools")
			q := must(c.Quote(ak, nonce, sel))(t)
			x.write(t, "ak.pub", sized(tpm2.Marshal(&ak.Public)))
			x.write(t, "quote", q.Attest)
			x.write(t, "sig", q.Signature)
			hash := "sha256"
			if kind == client.P384 {
				hash = "sha384"
			}
			x.run(t, "tpm2_checkquote -u ak.pub -m quote -s sig -g", hash, "-q", hex.EncodeToString(nonce))
		})
	}
	for name, kind := range map[string]client.EK{"rsa": client.EKRSA2048, "ecc": client.EKP256} {
		t.Run("EK "+name, func(t *testing.T) {
			ek := must(c.CreatePrimary(endorsement(), client.EKTemplate(kind)))(t)
			x.run(t, "tpm2_createek -c ek.ctx -u ek.pub -G", name)
			if got := x.read(t, "ek.pub"); !bytes.Equal(got, sized(tpm2.Marshal(&ek.Public))) {
				t.Errorf("their EK is %x, ours %x", got, tpm2.Marshal(&ek.Public))
			}
			x.run(t, "tpm2_flushcontext -t") // both EKs
			ek = must(c.CreatePrimary(endorsement(), client.EKTemplate(kind)))(t)
			defer c.Flush(ek.Handle)
			ak := newAK(t, c, client.AKTemplate(client.P256))

			x.write(t, "secret", []byte("their credential"))
			x.run(t, "tpm2_makecredential -u ek.pub -s secret -o blob -n", hex.EncodeToString(ak.Name))
			b := x.read(t, "blob")[8:] // a magic number and a version come first
			n := binary.BigEndian.Uint16(b)
			cred := &client.Credential{Blob: b[2 : 2+n], Secret: b[4+n:]}
			s := must(c.EKSession(ek, endorsement()))(t)
			defer s.Close()
			if got := must(c.ActivateCredential(ak, s.Auth(ek.Entity), cred))(t); string(got) != "their credential" {
				t.Errorf("got %q", got)
			}
		})
	}
	t.Run("our credential", func(t *testing.T) {
		x.run(t, "tpm2_createek -c 0x81010009 -u ek.pub -G ecc")
		x.run(t, "tpm2_createak -C 0x81010009 -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.pub -n ak.name")
		defer c.Evict(owner(), 0x81010009)
		x.run(t, "tpm2_flushcontext -t")
		var ek tpm2.TPMTPublic
		if err := tpm2.Unmarshal(x.read(t, "ek.pub")[2:], &ek); err != nil {
			t.Fatal(err)
		}
		cred := must(client.MakeCredential(&ek, x.read(t, "ak.name"), []byte("our credential")))(t)
		x.write(t, "blob", append(append([]byte{0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1}, sized(cred.Blob)...), sized(cred.Secret)...))
		x.run(t, "tpm2_startauthsession --policy-session -S s.ctx")
		x.run(t, "tpm2_policysecret -S s.ctx -c e")
		x.run(t, "tpm2_activatecredential -c ak.ctx -C 0x81010009 -i blob -o got -P session:s.ctx")
		x.run(t, "tpm2_flushcontext s.ctx")
		x.run(t, "tpm2_flushcontext -t")
		if got := x.read(t, "got"); string(got) != "our credential" {
			t.Errorf("they read %q", got)
		}
	})
	t.Run("sealed", func(t *testing.T) {
		srk := must(c.CreatePrimary(owner(), client.SRKTemplate(client.P256)))(t)
		p := must(c.Persist(owner(), srk, client.SRKHandle))(t)
		defer c.Evict(owner(), p.Handle)
		c.Flush(srk.Handle)
		sel := client.Select(tpm2.AlgSHA256, 0, 7)
		pcrs := must(must(c.ReadPCRs(sel))(t).Digest(tpm2.AlgSHA256, sel))(t)
		policy := must(client.NewPolicy(tpm2.AlgSHA256))(t).PCR(sel, pcrs).Digest()
		for name, d := range map[string]*client.Blob{
			"here":     must(c.Seal(p, []byte("sealed to PCRs"), policy, nil))(t),
			"imported": imported(t, c, p, policy),
		} {
			x.write(t, "pub", sized(tpm2.Marshal(&d.Public)))
			x.write(t, "priv", sized(d.Private))
			x.run(t, "tpm2_load -C 0x81000001 -u pub -r priv -c item.ctx")
			if got := x.run(t, "tpm2_unseal -c item.ctx -p pcr:sha256:0,7"); got != "sealed to PCRs" {
				t.Errorf("%s: they read %q", name, got)
			}
			x.run(t, "tpm2_flushcontext -t")
		}
	})
	t.Run("NV", func(t *testing.T) {
		x.run(t, "tpm2_nvdefine 0x01800300 -s 1500 -a ownerread|ownerwrite|authread|authwrite -p nv")
		i := must(c.NVIndex(0x01800300, client.Secret([]byte("nv"))))(t)
		defer c.NVUndefine(owner(), i)
		data := bytes.Repeat([]byte("NV"), 750)
		if err := c.NVWrite(i, i, data, 0); err != nil {
			t.Fatal(err)
		}
		if got := x.run(t, "tpm2_nvread 0x01800300 -C o"); got != string(data) {
			t.Errorf("they read %q", got)
		}
	})
}

func imported(t *testing.T, c *client.Client, srk *client.Key, policy []byte) *client.Blob {
	t.Helper()
	d := must(client.WrapSecretForImport(&srk.Public, client.NewObject{Public: client.SealTemplate(tpm2.AlgSHA256, policy), Data: []byte("sealed to PCRs")}))(t)
	return must(c.Import(srk, d))(t)
}
