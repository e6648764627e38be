package engine

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"testing"
	"time"

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

const (
	pinFail = tpm2.NVAttributes(tpm2.NTPinFail) << 4
	pinPass = tpm2.NVAttributes(tpm2.NTPinPass) << 4
)

// A PIN index counts on its own, so nothing may be bound to it (Part 1, 34.2.8).
func TestNoSessionIsBoundToPIN(t *testing.T) {
	b := newBench(t)
	for i, typ := range []tpm2.NVAttributes{pinFail, pinPass} {
		h := tpm2.Handle(0x1500001 + i)
		b.definePIN(h, typ, 3)
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

// A full disk does not make guessing free: what cannot be stored counts all the same.
func TestGuessesOnFullDisk(t *testing.T) {
	b := newBench(t)
	srk := b.primary(tpm2.RHOwner, eccStorage())
	item := b.child(srk.ObjectHandle, sealed(), []byte("right"), []byte("secret"))
	b.store.err = errors.New("no space left")
	for range 3 {
		b.refused(tpm2.RCNVUnavailable, &tpm2.Unseal{ItemHandle: item}, []byte("wrong"))
	}
	b.refused(tpm2.RCLockout, &tpm2.Unseal{ItemHandle: item}, []byte("right"))
	b.store.err = nil
	b.ok(&tpm2.NVDefineSpace{AuthHandle: tpm2.RHOwner, PublicInfo: tpm2.TPMSNVPublic{NVIndex: 0x1500001, NameAlg: tpm2.AlgSHA256,
		Attributes: tpm2.NVOwnerRead | tpm2.NVOwnerWrite, DataSize: 8}}, nil)
	if nv := must(decodePermanent(b.store.state)); nv.failedTries != 3 {
		t.Errorf("%d failed tries stored, want 3", nv.failedTries)
	}
}

// definePIN makes a PIN index with a limit.
func (b *bench) definePIN(h tpm2.Handle, typ tpm2.NVAttributes, limit byte) {
	b.t.Helper()
	b.ok(&tpm2.NVDefineSpace{AuthHandle: tpm2.RHOwner, Auth: []byte("1234"), PublicInfo: tpm2.TPMSNVPublic{NVIndex: h, NameAlg: tpm2.AlgSHA256,
		Attributes: typ | tpm2.NVOwnerWrite | tpm2.NVOwnerRead | tpm2.NVAuthRead | tpm2.NVNoDA, DataSize: 8}}, nil)
	b.ok(&tpm2.NVWrite{AuthHandle: tpm2.RHOwner, NVIndex: h, Data: []byte{0, 0, 0, 0, 0, 0, 0, limit}}, nil)
}

// A PIN that was right is counted, also when the command fails afterwards (Part 3, 23.4.1).
func TestPINPassCountsAFailedCommand(t *testing.T) {
	b := newBench(t)
	const index = 0x1500001
	b.definePIN(index, pinPass, 2)
	s := b.session(tpm2.SEPolicy)
	fails := &tpm2.PolicySecret{AuthHandle: index, PolicySession: s, NonceTPM: make([]byte, 16)}
	b.refused(tpm2.RCNonce.Param(1), fails, []byte("1234"))
	b.refused(tpm2.RCNonce.Param(1), fails, []byte("1234"))
	b.refused(tpm2.RCAuthUnavailable, fails, []byte("1234"))
}

// After TPM2_Shutdown(STATE) a command that spoils what it saved must not run
// when that cannot be stored: a power loss would take the command back.
func TestNothingAfterShutdownOnFullDisk(t *testing.T) {
	b := newBench(t)
	b.ok(&tpm2.Shutdown{ShutdownType: tpm2.SUState}, nil)
	b.store.err = errors.New("no space left")
	extend := &tpm2.PCRExtend{PCRHandle: 7, Digests: []tpm2.TPMTHA{{HashAlg: tpm2.AlgSHA256, Digest: make([]byte, 32)}}}
	b.refused(tpm2.RCNVUnavailable, extend)
	b.store.err = nil
	b.ok(extend, nil)
	if nv := must(decodePermanent(b.store.state)); nv.orderly != notOrderly || nv.saved != nil {
		t.Error("PCRs from before the extend can still be brought back")
	}
}

// Time begins again with each power cycle, and a session whose context was kept
// over one must not live longer for it (Part 1, 16.7.12).
func TestTimedPolicyEndsWithPower(t *testing.T) {
	b := newBench(t)
	b.now += time.Hour
	policy := func(kind tpm2.SE) tpm2.Handle {
		s := b.session(kind)
		b.ok(&tpm2.PolicySecret{AuthHandle: tpm2.RHEndorsement, PolicySession: s, Expiration: 3660}, nil)
		return s
	}
	var digest tpm2.PolicyGetDigestResponse
	b.ok(&tpm2.PolicyGetDigest{PolicySession: policy(tpm2.SETrial)}, &digest)
	b.ok(&tpm2.SetPrimaryPolicy{AuthHandle: tpm2.RHOwner, HashAlg: tpm2.AlgSHA256, AuthPolicy: digest.PolicyDigest}, nil)
	use := withSession(&tpm2.CreatePrimary{PrimaryHandle: tpm2.RHOwner, InPublic: eccStorage()}, policy(tpm2.SEPolicy))
	if rc := b.raw(use, nil); rc != tpm2.RCSuccess {
		t.Fatalf("within its time: %v", rc)
	}

	s := policy(tpm2.SEPolicy)
	var saved tpm2.ContextSaveResponse
	b.ok(&tpm2.ContextSave{SaveHandle: s}, &saved)
	b.ok(&tpm2.Shutdown{ShutdownType: tpm2.SUState}, nil)
	b.powerCycle(tpm2.SUState)
	b.ok(&tpm2.ContextLoad{Context: saved.Context}, nil)
	use = withSession(&tpm2.CreatePrimary{PrimaryHandle: tpm2.RHOwner, InPublic: eccStorage()}, s)
	if rc := b.raw(use, nil); rc != tpm2.RCExpired.Session(1) {
		t.Errorf("an hour later by the clock on the wall: got %v, want %v", rc, tpm2.RCExpired.Session(1))
	}
	b.refused(tpm2.RCExpired.Param(4), &tpm2.PolicySecret{AuthHandle: tpm2.RHEndorsement, PolicySession: s, Expiration: 3660})
}

// Permanent and volatile state are taken one after the other, and must be of
// one moment, however long the guest has been idle.
func TestTakingStateChangesNone(t *testing.T) {
	b := newBench(t)
	b.refused(tpm2.RCAuthFail.Session(1), &tpm2.DictionaryAttackLockReset{LockHandle: tpm2.RHLockout}, []byte("wrong"))
	b.now += 24 * time.Hour
	puts, before := b.store.puts, b.tpm.Permanent()
	if _, err := b.tpm.Volatile(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, b.tpm.Permanent()) || b.store.puts != puts {
		t.Error("the permanent state is another one after the volatile state was taken")
	}
}

// A state that is handed over in clear may come from anybody: what does not go
// together is refused, whatever its digest says.
func TestHostileState(t *testing.T) {
	key := func(t *TPM, change func(*object)) {
		o := *t.ram.objects[0]
		s := *o.sens
		o.sens = &s
		change(&o)
		t.ram.objects[0] = &o
	}
	for name, change := range map[string]func(*TPM){
		"a bank of no hash":             func(t *TPM) { t.ram.pcr = append(t.ram.pcr, pcrBank{alg: tpm2.AlgNull}) },
		"a bank twice":                  func(t *TPM) { t.ram.pcr = append(t.ram.pcr, t.ram.pcr[0]) },
		"a session of no hash":          func(t *TPM) { t.ram.sessions[1].hash = tpm2.AlgNull },
		"a session of another kind":     func(t *TPM) { t.ram.sessions[1].kind = tpm2.SEPolicy },
		"a session in another place":    func(t *TPM) { t.ram.sessions[5] = t.ram.sessions[1] },
		"a private part of other type":  func(t *TPM) { key(t, func(o *object) { o.sens.SensitiveType = tpm2.AlgKeyedHash }) },
		"a point that is off the curve": func(t *TPM) { key(t, func(o *object) { o.pub.Unique.ECC.X = []byte{1} }) },
		"a persistent handle in RAM":    func(t *TPM) { key(t, func(o *object) { o.handle = 0x81000001 }) },
		"a sequence of another hash":    func(t *TPM) { t.ram.objects[1].seq.alg = tpm2.AlgSHA1 },
		"a clock that stands":           func(t *TPM) { t.ram.rate = 0 },
		"a sequence without a hash": func(t *TPM) {
			t.ram.objects[1].seq.algs, t.ram.objects[1].seq.sums = nil, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.primary(tpm2.RHOwner, eccSigning(tpm2.ECCNISTP256, tpm2.AlgSHA256))
			b.ok(&tpm2.HashSequenceStart{HashAlg: tpm2.AlgSHA256}, nil)
			b.session(tpm2.SEPolicy)
			b.session(tpm2.SEHMAC)
			resume := func() error {
				return must(PowerOn(b.config(), b.tpm.Permanent())).Resume(must(b.tpm.Volatile()))
			}
			if err := resume(); err != nil {
				t.Fatal(err)
			}
			change(b.tpm)
			if err := resume(); !errors.Is(err, ErrState) {
				t.Errorf("got %v", err)
			}
		})
	}
	for name, change := range map[string]func(*nvram){
		"a bank of no hash":     func(nv *nvram) { nv.banks = append(nv.banks, tpm2.AlgNull) },
		"a bank twice":          func(nv *nvram) { nv.banks = append(nv.banks, nv.banks[0]) },
		"an audit without hash": func(nv *nvram) { nv.auditHash = tpm2.AlgNull },
		"an index twice":        func(nv *nvram) { nv.indexes = append(nv.indexes, nv.indexes[0]) },
		"a PIN without a limit": func(nv *nvram) {
			x := *nv.indexes[0]
			x.pub.DataSize, x.data = 4, x.data[:4]
			nv.indexes[0] = &x
		},
		"an index of no type":    func(nv *nvram) { x := *nv.indexes[0]; x.pub.Attributes |= 0xf0; nv.indexes[0] = &x },
		"a persistent handle, 0": func(nv *nvram) { nv.persistent[0].handle = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			k := b.primary(tpm2.RHOwner, eccStorage())
			b.ok(&tpm2.EvictControl{Auth: tpm2.RHOwner, ObjectHandle: k.ObjectHandle, PersistentHandle: 0x81000001}, nil)
			b.definePIN(0x1500001, pinFail, 1)
			nv := must(decodePermanent(b.tpm.Permanent()))
			change(nv)
			if _, err := decodePermanent(encodePermanent(nv)); !errors.Is(err, ErrState) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestTicketOfPIN: a ticket would use a PIN Pass index without counting it; one
// of a PIN Fail index is a ticket like others (Part 3, 23.2.5).
func TestTicketOfPIN(t *testing.T) {
	for _, tc := range []struct {
		typ  tpm2.NVAttributes
		want tpm2.Handle
	}{{tpm2.NVAttributes(0).With(tpm2.NTPinPass), tpm2.RHNull}, {tpm2.NVAttributes(0).With(tpm2.NTPinFail), tpm2.RHOwner}} {
		b := newBench(t)
		b.definePIN(testIndex, tc.typ, 5)
		var rsp tpm2.PolicySecretResponse
		b.ok(&tpm2.PolicySecret{AuthHandle: testIndex, PolicySession: b.session(tpm2.SEPolicy), Expiration: -60}, &rsp, []byte("1234"))
		if h := rsp.PolicyTicket.Hierarchy; h != tc.want || (len(rsp.PolicyTicket.Digest) == 0) != (h == tpm2.RHNull) {
			t.Errorf("%v: %+v", tc.typ, rsp.PolicyTicket)
		}
	}
}
