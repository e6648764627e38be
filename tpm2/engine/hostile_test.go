package engine

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// What a hostile guest tries, and what it must get for it.

// An HMAC key for the tests: a session whose key the test knows.
type hmacSession struct {
	handle tpm2.Handle
	key    []byte
	nonce  []byte // nonceTPM
}

// bound starts an HMAC session that is bound to an entity, with a guess of its authValue.
func (b *bench) bound(to tpm2.Handle, guess []byte) *hmacSession {
	b.t.Helper()
	cmd := startSession(tpm2.SEHMAC)
	cmd.Bind = to
	var r tpm2.StartAuthSessionResponse
	b.ok(cmd, &r)
	return &hmacSession{r.SessionHandle, crypt.KDFa(tpm2.AlgSHA256, guess, "ATH", r.NonceTPM, cmd.NonceCaller, 256), bytes.Clone(r.NonceTPM)}
}

// audited is a command without authorizations, audited by the session.
func (s *hmacSession) audited(cmd tpm2.Command) []byte {
	attr := tpm2.SessionAudit | tpm2.ContinueSession
	e := tpm2.NewEncoder(nil)
	e.U32(uint32(cmd.CommandCode()))
	cmd.EncodeParameters(e)
	nonce := make([]byte, 16)
	mac := crypt.HMAC(tpm2.AlgSHA256, s.key, crypt.Digest(tpm2.AlgSHA256, e.Out()), nonce, s.nonce, []byte{byte(attr)})
	return with(cmd, authEntry(s.handle, nonce, attr, mac))
}

// A session that is bound to an entity tells by its HMAC whether the authValue
// was guessed, also where it authorizes nothing.
func TestGuessThroughBoundSession(t *testing.T) {
	b := newBench(t)
	srk := b.primary(tpm2.RHOwner, eccStorage())
	item := b.child(srk.ObjectHandle, sealed(), []byte("right"), []byte("secret"))
	random := &tpm2.GetRandom{BytesRequested: 4}
	if rc := b.raw(b.bound(item, []byte("right")).audited(random), nil); rc != tpm2.RCSuccess {
		t.Fatalf("with the right value: %v", rc)
	}
	for range 3 {
		if rc := b.raw(b.bound(item, []byte("wrong")).audited(random), nil); rc != tpm2.RCAuthFail.Session(1) {
			t.Fatalf("a wrong guess: got %v, want %v", rc, tpm2.RCAuthFail.Session(1))
		}
	}
	for _, guess := range []string{"wrong", "right"} {
		if rc := b.raw(b.bound(item, []byte(guess)).audited(random), nil); rc != tpm2.RCLockout {
			t.Errorf("%s in lockout: got %v, want %v", guess, rc, tpm2.RCLockout)
		}
	}
}

// A PIN index counts on its own, so nothing may be bound to it (Part 1, 34.2.8).
func TestNoSessionIsBoundToPIN(t *testing.T) {
	b := newBench(t)
	for i, typ := range []tpm2.NVAttributes{tpm2.NVAttributes(tpm2.NTPinFail) << 4, tpm2.NVAttributes(tpm2.NTPinPass) << 4} {
		h := tpm2.Handle(0x1500001 + i)
		b.ok(&tpm2.NVDefineSpace{AuthHandle: tpm2.RHOwner, Auth: []byte("1234"), PublicInfo: tpm2.TPMSNVPublic{NVIndex: h, NameAlg: tpm2.AlgSHA256,
			Attributes: typ | tpm2.NVOwnerWrite | tpm2.NVAuthRead | tpm2.NVNoDA, DataSize: 8}}, nil)
		b.ok(&tpm2.NVWrite{AuthHandle: tpm2.RHOwner, NVIndex: h, Data: []byte{0, 0, 0, 0, 0, 0, 0, 3}}, nil)
		cmd := startSession(tpm2.SEHMAC)
		cmd.Bind = h
		b.refused(tpm2.RCHandle.Handle(2), cmd)
	}
}

// A key without a nameAlg has no hash to decrypt a salt with.
func TestSaltForKeyWithoutNameAlg(t *testing.T) {
	b := newBench(t)
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pub := rsaStorage()
	pub.NameAlg, pub.ObjectAttributes = tpm2.AlgNull, tpm2.Decrypt|tpm2.UserWithAuth
	pub.Parameters.RSADetail.Symmetric = noSym
	pub.Unique.RSA = k.N.Bytes()
	var r tpm2.LoadExternalResponse
	b.ok(&tpm2.LoadExternal{Hierarchy: tpm2.RHNull, InPublic: pub,
		InPrivate: &tpm2.TPMTSensitive{SensitiveType: tpm2.AlgRSA, Sensitive: tpm2.TPMUSensitiveComposite{RSA: k.Primes[0].Bytes()}}}, &r)
	cmd := startSession(tpm2.SEHMAC)
	cmd.TPMKey, cmd.EncryptedSalt = r.ObjectHandle, make([]byte, 256)
	b.refused(tpm2.RCKey.Handle(1), cmd)
}

