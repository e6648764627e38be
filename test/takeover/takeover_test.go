package takeover

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
	"github.com/vouchsafe/vouchsafe/test/internal/tpmsock"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
	"github.com/vouchsafe/vouchsafe/tpm2/engine"
)

var tpms = flag.Int("tpms", 20, "how many TPMs with random seeds TestPrimaries compares")

// theirs is an swtpm.
type theirs struct {
	*client.Client
	dir     string
	process *tpmsock.Process
	conn    *tpmsock.Conn
	su      tpm2.SU // what start sends
}

// startTheirs runs Debian's swtpm on a state of its own, started up.
func startTheirs(t *testing.T) *theirs {
	t.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("swtpm is not installed: apt-get install swtpm")
		}
		t.Skip("swtpm is not installed: apt-get install swtpm")
	}
	dir, err := os.MkdirTemp("", "vs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &theirs{dir: dir}
	s.start(t)
	t.Cleanup(s.stop)
	return s
}

// start runs the process and sends TPM2_Startup.
func (s *theirs) start(t *testing.T) {
	t.Helper()
	var err error
	if s.process, err = tpmsock.Start(s.dir, "swtpm", "socket"); err != nil {
		t.Fatal(err)
	}
	if s.conn, err = tpmsock.Dial(s.process.Data); err != nil {
		t.Fatal(err)
	}
	s.Client = client.New(client.Direct(func(command []byte) []byte {
		rsp, err := s.conn.Send(command)
		if err != nil {
			t.Error(err)
		}
		return rsp
	}))
	s.must(t, &tpm2.Startup{StartupType: s.su}, nil)
}

// stop kills the process; the TPM has lost power.
func (s *theirs) stop() {
	if s.process != nil {
		s.conn.Close()
		s.process.Stop()
		s.process = nil
	}
}

func (s *theirs) must(t *testing.T, cmd tpm2.Command, rsp tpm2.Response, auths ...client.Auth) {
	t.Helper()
	if err := s.Execute(cmd, rsp, auths...); err != nil {
		t.Fatalf("swtpm: %v", err)
	}
}

// state reads a state file of swtpm and takes the envelope off; nil when there is none.
func (s *theirs) state(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "tpm2-00."+name))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	b, _, err = swtpm.OpenState(b, swtpm.StateKey{}, swtpm.StateKey{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// takeOver makes a TPM of ours from what swtpm has on disk.
func (s *theirs) takeOver(t *testing.T) *engine.TPM {
	t.Helper()
	x, err := engine.TakeOverLibtpms(s.state(t, "permall"), s.state(t, "volatilestate"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range x.Left {
		t.Logf("left behind: %s", l)
	}
	tpm, err := engine.PowerOn(engine.Config{}, x.Permanent)
	if err != nil {
		t.Fatal(err)
	}
	if x.Volatile != nil {
		if err := tpm.Resume(x.Volatile); err != nil {
			t.Fatal(err)
		}
	}
	return tpm
}

func clientOf(tpm *engine.TPM) *client.Client {
	return client.New(client.Direct(func(command []byte) []byte { return tpm.Execute(0, command, nil) }))
}

// startOurs is takeOver with TPM2_Startup.
func startOurs(t *testing.T, s *theirs) *client.Client {
	t.Helper()
	c := clientOf(s.takeOver(t))
	if err := c.Execute(&tpm2.Startup{StartupType: s.su}, nil); err != nil {
		t.Fatal(err)
	}
	return c
}

type primary struct {
	name      string
	hierarchy tpm2.Handle
	template  tpm2.TPMTPublic
	data      []byte // sensitive data
}

// templates are the primary keys that people have.
func templates(random func(int) []byte) []primary {
	unique := client.SRKTemplate(client.P256)
	unique.Unique.ECC = tpm2.TPMSECCPoint{X: random(32), Y: random(32)}
	uniqueRSA := client.SRKTemplate(client.RSA2048)
	uniqueRSA.Unique.RSA = random(256)
	empty := client.SRKTemplate(client.RSA2048) // as tpm2-tools' tpm2_createprimary
	empty.Unique = tpm2.TPMUPublicID{}
	rsa3072 := empty
	rsa3072.Parameters.RSADetail.KeyBits = 3072
	rsa1024 := empty
	rsa1024.Parameters.RSADetail.KeyBits = 1024
	p521 := client.SRKTemplate(client.P384)
	p521.Unique = tpm2.TPMUPublicID{}
	p521.NameAlg = tpm2.AlgSHA512
	p521.Parameters.ECCDetail.CurveID = tpm2.ECCNISTP521
	aes := tpm2.TPMTPublic{Type: tpm2.AlgSymCipher, NameAlg: tpm2.AlgSHA256, ObjectAttributes: empty.ObjectAttributes,
		Parameters: tpm2.TPMUPublicParms{SymDetail: tpm2.TPMSSymCipherParms{Sym: client.AESObject(128)}}}
	hmac := tpm2.TPMTPublic{Type: tpm2.AlgKeyedHash, NameAlg: tpm2.AlgSHA384,
		ObjectAttributes: tpm2.FixedTPM | tpm2.FixedParent | tpm2.SensitiveDataOrigin | tpm2.UserWithAuth | tpm2.SignEncrypt,
		Parameters: tpm2.TPMUPublicParms{KeyedHashDetail: tpm2.TPMSKeyedHashParms{Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.AlgHMAC,
			Details: tpm2.TPMUSchemeKeyedHash{HMAC: tpm2.TPMSSchemeHash{HashAlg: tpm2.AlgSHA512}}}}}}
	sealed := tpm2.TPMTPublic{Type: tpm2.AlgKeyedHash, NameAlg: tpm2.AlgSHA256, ObjectAttributes: tpm2.FixedTPM | tpm2.FixedParent | tpm2.UserWithAuth,
		Parameters: tpm2.TPMUPublicParms{KeyedHashDetail: tpm2.TPMSKeyedHashParms{Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.AlgNull}}}}
	return []primary{
		{"EK RSA-2048 L-1", tpm2.RHEndorsement, client.EKTemplate(client.EKRSA2048), nil},
		{"EK P-256 L-2", tpm2.RHEndorsement, client.EKTemplate(client.EKP256), nil},
		{"EK RSA-2048 H-1", tpm2.RHEndorsement, client.EKTemplate(client.EKHighRSA2048), nil},
		{"EK P-256 H-2", tpm2.RHEndorsement, client.EKTemplate(client.EKHighP256), nil},
		{"EK P-384 H-3", tpm2.RHEndorsement, client.EKTemplate(client.EKHighP384), nil},
		{"SRK RSA-2048", tpm2.RHOwner, client.SRKTemplate(client.RSA2048), nil},
		{"SRK P-256", tpm2.RHOwner, client.SRKTemplate(client.P256), nil},
		{"SRK P-384", tpm2.RHOwner, client.SRKTemplate(client.P384), nil},
		{"storage key RSA-2048 of tpm2-tools", tpm2.RHOwner, empty, nil},
		{"storage key P-256 with a unique field", tpm2.RHOwner, unique, nil},
		{"storage key RSA-2048 with a unique field", tpm2.RHOwner, uniqueRSA, nil},
		{"storage key RSA-3072", tpm2.RHOwner, rsa3072, nil},
		{"storage key RSA-1024", tpm2.RHPlatform, rsa1024, nil},
		{"storage key P-521", tpm2.RHOwner, p521, nil},
		{"signing key RSA-2048", tpm2.RHPlatform, client.SigningTemplate(client.RSA2048), nil},
		{"signing key P-384 in the endorsement hierarchy", tpm2.RHEndorsement, client.SigningTemplate(client.P384), nil},
		{"storage key AES", tpm2.RHOwner, aes, nil},
		{"storage key AES in the endorsement hierarchy", tpm2.RHEndorsement, aes, nil},
		{"HMAC key", tpm2.RHPlatform, hmac, nil},
		{"sealed data", tpm2.RHEndorsement, sealed, random(40)},
	}
}

// TestPrimaries: TPMs with random seeds have the same primary keys here as
// under swtpm, and what swtpm's keys protect opens with ours. One process gives
// many TPMs: TPM2_Clear, TPM2_ChangeEPS and TPM2_ChangePPS make new seeds.
func TestPrimaries(t *testing.T) {
	if os.Getenv("VOUCHSAFE_LONG") != "" && *tpms == 20 {
		*tpms = 1000
	}
	s := startTheirs(t)
	platform := client.Hierarchy(tpm2.RHPlatform, nil)
	for n := range *tpms {
		if n > 0 {
			s.must(t, &tpm2.Clear{AuthHandle: tpm2.RHPlatform}, nil, platform)
			s.must(t, &tpm2.ChangeEPS{AuthHandle: tpm2.RHPlatform}, nil, platform)
			s.must(t, &tpm2.ChangePPS{AuthHandle: tpm2.RHPlatform}, nil, platform)
		}
		ours := startOurs(t, s)
		random := func(n int) []byte {
			b, err := s.GetRandom(n % 49)
			if err != nil {
				t.Fatal(err)
			}
			return bytes.Repeat(b, n/len(b)+1)[:n]
		}
		all := templates(random)
		// All of them for a few, and a part of the slow ones for the many.
		for i, p := range all {
			if n >= 5 && p.template.Type == tpm2.AlgRSA && i%4 != n%4 {
				continue
			}
			compare(t, s.Client, ours, p, fmt.Sprintf("TPM %d: %s", n, p.name))
		}
		if t.Failed() {
			return
		}
	}
}

// compare makes a primary on both sides. A child that swtpm has wrapped under a
// storage key must load under ours: that the seed for children is the same too
// shows in nothing else.
func compare(t *testing.T, theirs, ours *client.Client, p primary, what string) {
	t.Helper()
	in := client.Hierarchy(p.hierarchy, nil)
	object := client.NewObject{Public: p.template, Data: p.data}
	want, _, err := theirs.CreatePrimaryObject(in, object)
	if p.template.Type == tpm2.AlgRSA && p.template.Parameters.RSADetail.KeyBits == 3072 && errors.Is(err, tpm2.RCValue.Param(2)) {
		return // libtpms before 0.8
	}
	if err != nil {
		t.Errorf("%s: swtpm: %v", what, err)
		return
	}
	defer theirs.Flush(want.Handle)
	got, _, err := ours.CreatePrimaryObject(in, object)
	if err != nil {
		t.Errorf("%s: ours: %v", what, err)
		return
	}
	defer ours.Flush(got.Handle)
	if !bytes.Equal(tpm2.Marshal(&want.Public), tpm2.Marshal(&got.Public)) {
		t.Errorf("%s: another key:\n%x, want\n%x", what, tpm2.Marshal(&got.Public), tpm2.Marshal(&want.Public))
		return
	}
	if !isParent(&want.Public) {
		return
	}
	const secret = "made under swtpm"
	child, err := sealUnder(t, theirs, want, secret)
	if err != nil {
		t.Errorf("%s: sealing under swtpm: %v", what, err)
		return
	}
	if opened, err := openUnder(t, ours, got, child); err != nil || string(opened) != secret {
		t.Errorf("%s: what was sealed under swtpm opens as %q: %v", what, opened, err)
	}
}

func isParent(p *tpm2.TPMTPublic) bool {
	return p.ObjectAttributes.Has(tpm2.Restricted|tpm2.Decrypt) && p.Type != tpm2.AlgKeyedHash
}

// use authorizes for a storage key: by its authValue, or as an EK of the low range wants it.
func use(t *testing.T, c *client.Client, k *client.Key) (auth client.Auth, done func()) {
	t.Helper()
	if k.Public.ObjectAttributes.Has(tpm2.UserWithAuth) {
		return k, func() {}
	}
	s, err := c.EKSession(k, client.Hierarchy(tpm2.RHEndorsement, nil))
	if err != nil {
		t.Fatal(err)
	}
	return s.Auth(k.Entity), func() { s.Close() }
}

func sealUnder(t *testing.T, c *client.Client, parent *client.Key, secret string) (*client.Blob, error) {
	t.Helper()
	auth, done := use(t, c, parent)
	defer done()
	b, _, err := c.Create(auth, client.NewObject{Public: client.SealTemplate(parent.Public.NameAlg, nil), Auth: client.Secret([]byte("password")), Data: []byte(secret)})
	return b, err
}

func openUnder(t *testing.T, c *client.Client, parent *client.Key, b *client.Blob) ([]byte, error) {
	t.Helper()
	auth, done := use(t, c, parent)
	defer done()
	item, err := c.Load(auth, b, client.Secret([]byte("password")))
	if err != nil {
		return nil, err
	}
	defer c.Flush(item.Handle)
	return c.Unseal(item)
}

// TestDerived: objects derived from a parent (TPM2_CreateLoaded; Part 1, 25)
// come out the same too, though no seed has a part in them.
func TestDerived(t *testing.T) {
	s := startTheirs(t)
	ours := startOurs(t, s)
	xor := tpm2.TPMTKeyedHashScheme{Scheme: tpm2.AlgXOR, Details: tpm2.TPMUSchemeKeyedHash{XOR: tpm2.TPMSSchemeXOR{HashAlg: tpm2.AlgSHA256, KDF: tpm2.AlgKDF1SP800108}}}
	parent := tpm2.TPMTPublic{Type: tpm2.AlgKeyedHash, NameAlg: tpm2.AlgSHA256,
		ObjectAttributes: tpm2.FixedTPM | tpm2.FixedParent | tpm2.SensitiveDataOrigin | tpm2.UserWithAuth | tpm2.Restricted | tpm2.Decrypt,
		Parameters:       tpm2.TPMUPublicParms{KeyedHashDetail: tpm2.TPMSKeyedHashParms{Scheme: xor}}}
	in := client.Hierarchy(tpm2.RHOwner, nil)
	want, err := s.CreatePrimary(in, parent)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ours.CreatePrimary(in, parent)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(tpm2.Marshal(&want.Public), tpm2.Marshal(&got.Public)) {
		t.Fatal("another derivation parent")
	}
	label := tpm2.Marshal(&tpm2.TPMSDerive{Label: []byte("label"), Context: []byte("context")})
	for _, p := range templates(func(n int) []byte { return make([]byte, n) }) {
		if p.template.Type == tpm2.AlgRSA || p.data != nil || p.template.ObjectAttributes.Has(tpm2.AdminWithPolicy) {
			continue
		}
		template := p.template
		template.ObjectAttributes &^= tpm2.SensitiveDataOrigin | tpm2.FixedTPM | tpm2.FixedParent
		template.Unique = tpm2.TPMUPublicID{}
		// The unique field is the last one, and is label and context here.
		b := tpm2.Marshal(&template)
		b = append(b[:len(b)-len(tpm2.Marshal(&tpm2.TPMSDerive{}))], label...)
		if template.Type != tpm2.AlgECC { // one empty buffer, not two
			b = append(tpm2.Marshal(&template)[:len(tpm2.Marshal(&template))-2], label...)
		}
		one := func(c *client.Client, parent *client.Key) []byte {
			t.Helper()
			var rsp tpm2.CreateLoadedResponse
			if err := c.Execute(&tpm2.CreateLoaded{ParentHandle: parent.Handle, InPublic: b}, &rsp, parent); err != nil {
				return []byte(err.Error())
			}
			c.Flush(rsp.ObjectHandle)
			return tpm2.Marshal(&rsp.OutPublic)
		}
		if w, g := one(s.Client, want), one(ours, got); !bytes.Equal(w, g) {
			t.Errorf("%s: swtpm %x, ours %x (%s, %s)", p.name, w, g, w, g)
		}
	}
}
