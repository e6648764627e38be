package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// memory is a Store in memory; with err set it is a full disk.
type memory struct {
	state []byte
	puts  int
	err   error
}

func (m *memory) Put(b []byte) error {
	if m.err != nil {
		return m.err
	}
	m.state, m.puts = bytes.Clone(b), m.puts+1
	return nil
}

// bench is a TPM on the bench: its store and its time are in the test's hands.
type bench struct {
	t     testing.TB
	tpm   *TPM
	store *memory
	now   time.Duration
	loc   uint8
	other peer // set: another TPM in place of ours, see strict_test.go

	mayFail bool // failure mode is what the test is about
}

// newBench manufactures a TPM and starts it.
func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{t: t, store: &memory{}}
	tpm, err := Manufacture(b.config())
	if err != nil {
		t.Fatal(err)
	}
	b.tpm = tpm
	b.ok(&tpm2.Startup{StartupType: tpm2.SUClear}, nil)
	return b
}

func (b *bench) config() Config {
	return Config{Store: b.store, Clock: func() time.Duration { return b.now }}
}

// powerCycle takes the power away and gives it back.
func (b *bench) powerCycle(su tpm2.SU) {
	b.t.Helper()
	b.powerOff()
	b.ok(&tpm2.Startup{StartupType: su}, nil)
}

// powerOff is powerCycle without TPM2_Startup.
func (b *bench) powerOff() {
	b.t.Helper()
	if b.other != nil {
		b.other.power()
		return
	}
	tpm, err := PowerOn(b.config(), b.store.state)
	if err != nil {
		b.t.Fatal(err)
	}
	b.tpm = tpm
}

// execute runs a command on the TPM that is on the bench.
func (b *bench) execute(cmd []byte) []byte {
	if b.other != nil {
		return b.other.execute(b.loc, cmd)
	}
	return b.tpm.Execute(b.loc, cmd, nil)
}

// marshal makes a command with a password for each handle that wants one.
func marshal(cmd tpm2.Command, passwords ...[]byte) []byte {
	info := tpm2.Info(cmd.CommandCode())
	e := tpm2.NewEncoder(nil)
	tag := tpm2.STNoSessions
	if info.Auths() > 0 {
		tag = tpm2.STSessions
	}
	e.U16(uint16(tag))
	e.U32(0)
	e.U32(uint32(cmd.CommandCode()))
	for _, h := range cmd.AppendHandles(nil) {
		e.U32(uint32(h))
	}
	if info.Auths() > 0 {
		a := tpm2.NewEncoder(nil)
		for i := range info.Auths() {
			a.U32(uint32(tpm2.RSPW))
			a.Buf(nil)
			a.U8(1)
			var pw []byte
			if i < len(passwords) {
				pw = passwords[i]
			}
			a.Buf(pw)
		}
		e.U32(uint32(len(a.Out())))
		e.Bytes(a.Out())
	}
	cmd.EncodeParameters(e)
	binary.BigEndian.PutUint32(e.Out()[2:], uint32(len(e.Out())))
	return e.Out()
}

// do runs a command; rsp, when not nil, gets the response.
func (b *bench) do(cmd tpm2.Command, rsp tpm2.Response, passwords ...[]byte) tpm2.RC {
	b.t.Helper()
	return b.raw(marshal(cmd, passwords...), rsp)
}

func (b *bench) raw(cmd []byte, rsp tpm2.Response) tpm2.RC {
	b.t.Helper()
	out := b.execute(cmd)
	d := tpm2.NewDecoder(out)
	tag, size, rc := tpm2.ST(d.U16()), d.U32(), tpm2.RC(d.U32())
	if d.RC() != tpm2.RCSuccess || int(size) != len(out) {
		b.t.Fatalf("malformed response %x", out)
	}
	if rc == tpm2.RCFailure && !b.mayFail {
		b.t.Fatalf("failure mode: %v", b.tpm.Failure())
	}
	if rc != tpm2.RCSuccess {
		if len(out) != headerSize {
			b.t.Fatalf("a failure with more than a header: %x", out)
		}
		return rc
	}
	if rsp == nil {
		return rc
	}
	if h := rsp.HandleField(); h != nil {
		*h = tpm2.Handle(d.U32())
	}
	params := d.Rest()
	if tag == tpm2.STSessions {
		n := d.U32()
		params = d.Bytes(int(n))
	}
	p := tpm2.NewDecoder(bytes.Clone(params))
	rsp.DecodeParameters(p)
	if p.Done(); p.RC() != tpm2.RCSuccess {
		b.t.Fatalf("%T: %v in %x", rsp, p.RC(), params)
	}
	return rc
}

// ok runs a command that must succeed.
func (b *bench) ok(cmd tpm2.Command, rsp tpm2.Response, passwords ...[]byte) {
	b.t.Helper()
	if rc := b.do(cmd, rsp, passwords...); rc != tpm2.RCSuccess {
		b.t.Fatalf("%T: %v", cmd, rc)
	}
}

// refused runs a command that must be refused in exactly this way.
func (b *bench) refused(want tpm2.RC, cmd tpm2.Command, passwords ...[]byte) {
	b.t.Helper()
	if got := b.do(cmd, nil, passwords...); got != want {
		b.t.Errorf("%T: got %v, want %v", cmd, got, want)
	}
}

// Templates as the tools make them.
var (
	aes128 = tpm2.TPMTSymDefObject{Algorithm: tpm2.AlgAES, KeyBits: tpm2.TPMUSymObjectBits{AES: 128}, Mode: tpm2.TPMUSymObjectMode{AES: tpm2.AlgCFB}}
	noSym  = tpm2.TPMTSymDefObject{Algorithm: tpm2.AlgNull}
	noKDF  = tpm2.TPMTKDFScheme{Scheme: tpm2.AlgNull}
)

const (
	storageAttributes = tpm2.FixedTPM | tpm2.FixedParent | tpm2.SensitiveDataOrigin | tpm2.UserWithAuth | tpm2.NoDA | tpm2.Restricted | tpm2.Decrypt
	signAttributes    = tpm2.FixedTPM | tpm2.FixedParent | tpm2.SensitiveDataOrigin | tpm2.UserWithAuth | tpm2.SignEncrypt
)

func eccStorage() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{Type: tpm2.AlgECC, NameAlg: tpm2.AlgSHA256, ObjectAttributes: storageAttributes,
		Parameters: tpm2.TPMUPublicParms{ECCDetail: tpm2.TPMSECCParms{Symmetric: aes128, Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.AlgNull}, CurveID: tpm2.ECCNISTP256, KDF: noKDF}}}
}

func rsaStorage() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{Type: tpm2.AlgRSA, NameAlg: tpm2.AlgSHA256, ObjectAttributes: storageAttributes,
		Parameters: tpm2.TPMUPublicParms{RSADetail: tpm2.TPMSRSAParms{Symmetric: aes128, Scheme: tpm2.TPMTRSAScheme{Scheme: tpm2.AlgNull}, KeyBits: 2048}}}
}

func eccSigning(curve tpm2.ECCCurve, hash tpm2.AlgID) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{Type: tpm2.AlgECC, NameAlg: tpm2.AlgSHA256, ObjectAttributes: signAttributes,
		Parameters: tpm2.TPMUPublicParms{ECCDetail: tpm2.TPMSECCParms{Symmetric: noSym, CurveID: curve, KDF: noKDF,
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.AlgECDSA, Details: tpm2.TPMUAsymScheme{Any: tpm2.TPMSSchemeHash{HashAlg: hash}}}}}}
}

func sealed() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{Type: tpm2.AlgKeyedHash, NameAlg: tpm2.AlgSHA256, ObjectAttributes: tpm2.FixedTPM | tpm2.FixedParent | tpm2.UserWithAuth,
		Parameters: tpm2.TPMUPublicParms{KeyedHashDetail: tpm2.TPMSKeyedHashParms{Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.AlgNull}}}}
}

// primary makes a primary object.
func (b *bench) primary(h tpm2.Handle, pub tpm2.TPMTPublic) *tpm2.CreatePrimaryResponse {
	b.t.Helper()
	var rsp tpm2.CreatePrimaryResponse
	b.ok(&tpm2.CreatePrimary{PrimaryHandle: h, InPublic: pub}, &rsp)
	return &rsp
}

// child makes and loads an ordinary object.
func (b *bench) child(parent tpm2.Handle, pub tpm2.TPMTPublic, auth, data []byte) tpm2.Handle {
	b.t.Helper()
	var c tpm2.CreateResponse
	b.ok(&tpm2.Create{ParentHandle: parent, InPublic: pub, InSensitive: tpm2.TPMSSensitiveCreate{UserAuth: auth, Data: data}}, &c)
	var l tpm2.LoadResponse
	b.ok(&tpm2.Load{ParentHandle: parent, InPrivate: c.OutPrivate, InPublic: c.OutPublic}, &l)
	return l.ObjectHandle
}

func TestNothingBeforeStartup(t *testing.T) {
	tpm, err := Manufacture(Config{})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, tpm: tpm}
	b.refused(tpm2.RCInitialize, &tpm2.GetRandom{BytesRequested: 8})
	b.ok(&tpm2.Startup{}, nil)
	b.refused(tpm2.RCInitialize, &tpm2.Startup{})
	var r tpm2.GetRandomResponse
	b.ok(&tpm2.GetRandom{BytesRequested: 8}, &r)
	if len(r.RandomBytes) != 8 {
		t.Errorf("got %d octets", len(r.RandomBytes))
	}
}

func TestPCRExtendAndRead(t *testing.T) {
	b := newBench(t)
	one := bytes.Repeat([]byte{1}, 32)
	b.ok(&tpm2.PCRExtend{PCRHandle: 16, Digests: []tpm2.TPMTHA{{HashAlg: tpm2.AlgSHA256, Digest: one}}}, nil)
	var r tpm2.PCRReadResponse
	b.ok(&tpm2.PCRRead{PCRSelectionIn: []tpm2.TPMSPCRSelection{{Hash: tpm2.AlgSHA256, PCRSelect: []byte{0, 0, 1}}}}, &r)
	if len(r.PCRValues) != 1 || bytes.Equal(r.PCRValues[0], make([]byte, 32)) {
		t.Fatalf("got %x", r.PCRValues)
	}
	b.refused(tpm2.RCLocality, &tpm2.PCRExtend{PCRHandle: 17, Digests: []tpm2.TPMTHA{{HashAlg: tpm2.AlgSHA256, Digest: one}}})
}

func TestSealUnderPCRPolicy(t *testing.T) {
	b := newBench(t)
	srk := b.primary(tpm2.RHOwner, eccStorage())
	sel := []tpm2.TPMSPCRSelection{{Hash: tpm2.AlgSHA256, PCRSelect: []byte{0, 0, 1}}}
	session := func(kind tpm2.SE) tpm2.Handle {
		var s tpm2.StartAuthSessionResponse
		b.ok(&tpm2.StartAuthSession{TPMKey: tpm2.RHNull, Bind: tpm2.RHNull, NonceCaller: make([]byte, 16), SessionType: kind,
			Symmetric: tpm2.TPMTSymDef{Algorithm: tpm2.AlgNull}, AuthHash: tpm2.AlgSHA256}, &s)
		b.ok(&tpm2.PolicyPCR{PolicySession: s.SessionHandle, PCRs: sel}, nil)
		return s.SessionHandle
	}
	var digest tpm2.PolicyGetDigestResponse
	b.ok(&tpm2.PolicyGetDigest{PolicySession: session(tpm2.SETrial)}, &digest)

	pub := sealed()
	pub.ObjectAttributes &^= tpm2.UserWithAuth
	pub.AuthPolicy = digest.PolicyDigest
	item := b.child(srk.ObjectHandle, pub, nil, []byte("secret"))
	b.refused(tpm2.RCAuthUnavailable, &tpm2.Unseal{ItemHandle: item})

	unseal := func() ([]byte, tpm2.RC) {
		cmd := withSession(&tpm2.Unseal{ItemHandle: item}, session(tpm2.SEPolicy))
		var r tpm2.UnsealResponse
		rc := b.raw(cmd, &r)
		return r.OutData, rc
	}
	if got, rc := unseal(); rc != tpm2.RCSuccess || string(got) != "secret" {
		t.Fatalf("got %q, %v", got, rc)
	}
	b.ok(&tpm2.PCRExtend{PCRHandle: 16, Digests: []tpm2.TPMTHA{{HashAlg: tpm2.AlgSHA256, Digest: make([]byte, 32)}}}, nil)
	if _, rc := unseal(); rc != tpm2.RCPolicyFail.Session(1) {
		t.Errorf("after an extend: got %v, want %v", rc, tpm2.RCPolicyFail.Session(1))
	}
}

// withSession marshals a one-handle command with one session without HMAC.
func withSession(cmd tpm2.Command, s tpm2.Handle) []byte {
	e := tpm2.NewEncoder(nil)
	e.U16(uint16(tpm2.STSessions))
	e.U32(0)
	e.U32(uint32(cmd.CommandCode()))
	for _, h := range cmd.AppendHandles(nil) {
		e.U32(uint32(h))
	}
	e.U32(9)
	e.U32(uint32(s))
	e.Buf(nil)
	e.U8(0)
	e.Buf(nil)
	cmd.EncodeParameters(e)
	binary.BigEndian.PutUint32(e.Out()[2:], uint32(len(e.Out())))
	return e.Out()
}

func TestPrimariesAreTheSameAfterPowerLoss(t *testing.T) {
	b := newBench(t)
	for name, pub := range map[string]tpm2.TPMTPublic{"ECC": eccStorage(), "RSA": rsaStorage()} {
		first := b.primary(tpm2.RHOwner, pub)
		b.powerCycle(tpm2.SUClear)
		if again := b.primary(tpm2.RHOwner, pub); !bytes.Equal(first.Name, again.Name) {
			t.Errorf("%s: Name %x became %x", name, first.Name, again.Name)
		}
	}
	before := b.primary(tpm2.RHNull, eccStorage())
	b.powerCycle(tpm2.SUClear)
	if again := b.primary(tpm2.RHNull, eccStorage()); bytes.Equal(before.Name, again.Name) {
		t.Error("the NULL hierarchy outlived a TPM Reset")
	}
}

func TestSignAndVerify(t *testing.T) {
	b := newBench(t)
	srk := b.primary(tpm2.RHOwner, rsaStorage())
	for _, tt := range []struct {
		curve tpm2.ECCCurve
		hash  tpm2.AlgID
	}{{tpm2.ECCNISTP256, tpm2.AlgSHA256}, {tpm2.ECCNISTP384, tpm2.AlgSHA384}, {tpm2.ECCNISTP521, tpm2.AlgSHA512}} {
		key := b.child(srk.ObjectHandle, eccSigning(tt.curve, tt.hash), []byte("pw"), nil)
		digest := make([]byte, tt.hash.DigestSize())
		cmd := &tpm2.Sign{KeyHandle: key, Digest: digest, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull},
			Validation: tpm2.TPMTTkHashCheck{Tag: tpm2.STHashCheck, Hierarchy: tpm2.RHNull}}
		var r tpm2.SignResponse
		b.ok(cmd, &r, []byte("pw"))
		b.refused(tpm2.RCAuthFail.Session(1), cmd, []byte("no"))
		var v tpm2.VerifySignatureResponse
		b.ok(&tpm2.VerifySignature{KeyHandle: key, Digest: digest, Signature: r.Signature}, &v)
		r.Signature.Signature.ECC.SignatureS[5] ^= 1
		b.refused(tpm2.RCSignature.Param(2), &tpm2.VerifySignature{KeyHandle: key, Digest: digest, Signature: r.Signature})
		b.ok(&tpm2.FlushContext{FlushHandle: key}, nil)
		b.ok(&tpm2.DictionaryAttackLockReset{LockHandle: tpm2.RHLockout}, nil)
	}
}

func TestFullDisk(t *testing.T) {
	b := newBench(t)
	define := &tpm2.NVDefineSpace{AuthHandle: tpm2.RHOwner, PublicInfo: tpm2.TPMSNVPublic{NVIndex: 0x1500001, NameAlg: tpm2.AlgSHA256,
		Attributes: tpm2.NVOwnerRead | tpm2.NVOwnerWrite, DataSize: 8}}
	b.ok(define, nil)
	write := func(s string) *tpm2.NVWrite {
		return &tpm2.NVWrite{AuthHandle: tpm2.RHOwner, NVIndex: 0x1500001, Data: []byte(s)}
	}
	read := func() string {
		var r tpm2.NVReadResponse
		b.ok(&tpm2.NVRead{AuthHandle: tpm2.RHOwner, NVIndex: 0x1500001, Size: 8}, &r)
		return string(r.Data)
	}
	b.ok(write("before.."), nil)
	b.store.err = errors.New("no space left")
	before := b.tpm.Permanent()
	b.refused(tpm2.RCNVUnavailable, write("after..."))
	if !bytes.Equal(before, b.tpm.Permanent()) {
		t.Error("the state changed although it could not be stored")
	}
	if got := read(); got != "before.." {
		t.Errorf("read %q", got)
	}
	b.store.err = nil
	b.ok(write("after..."), nil)
	b.powerCycle(tpm2.SUClear)
	if got := read(); got != "after..." {
		t.Errorf("after power loss: read %q", got)
	}
}

func TestSuspendAndResume(t *testing.T) {
	b := newBench(t)
	srk := b.primary(tpm2.RHOwner, eccStorage())
	key := b.child(srk.ObjectHandle, eccSigning(tpm2.ECCNISTP256, tpm2.AlgSHA256), nil, nil)
	var seq tpm2.HashSequenceStartResponse
	b.ok(&tpm2.HashSequenceStart{HashAlg: tpm2.AlgSHA256}, &seq)
	b.ok(&tpm2.SequenceUpdate{SequenceHandle: seq.SequenceHandle, Buffer: []byte("hello ")}, nil)
	b.ok(&tpm2.PCRExtend{PCRHandle: 7, Digests: []tpm2.TPMTHA{{HashAlg: tpm2.AlgSHA256, Digest: make([]byte, 32)}}}, nil)

	volatile, err := b.tpm.Volatile()
	if err != nil {
		t.Fatal(err)
	}
	permanent := b.tpm.Permanent()
	b.tpm, err = PowerOn(b.config(), permanent)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.tpm.Resume(volatile); err != nil {
		t.Fatal(err)
	}
	var done tpm2.SequenceCompleteResponse
	b.ok(&tpm2.SequenceComplete{SequenceHandle: seq.SequenceHandle, Buffer: []byte("world"), Hierarchy: tpm2.RHOwner}, &done)
	want := []byte{0xb9, 0x4d, 0x27, 0xb9}
	if !bytes.Equal(done.Result[:4], want) {
		t.Errorf("SHA-256 over a suspend: got %x", done.Result)
	}
	b.ok(&tpm2.ReadPublic{ObjectHandle: key}, nil)
	again, _ := b.tpm.Volatile()
	for i := range again { // every cut or flipped state is refused, and the running one stays
		bad := bytes.Clone(again)
		bad[i] ^= 0x40
		if b.tpm.Resume(bad) == nil {
			t.Fatalf("a flip at %d was accepted", i)
		}
		if b.tpm.Resume(again[:i]) == nil {
			t.Fatalf("a cut at %d was accepted", i)
		}
	}
	b.ok(&tpm2.ReadPublic{ObjectHandle: key}, nil)
}

func TestOneHashInAPolicy(t *testing.T) {
	b := newBench(t)
	var s tpm2.StartAuthSessionResponse
	b.ok(&tpm2.StartAuthSession{TPMKey: tpm2.RHNull, Bind: tpm2.RHNull, NonceCaller: make([]byte, 16), SessionType: tpm2.SEPolicy,
		Symmetric: tpm2.TPMTSymDef{Algorithm: tpm2.AlgNull}, AuthHash: tpm2.AlgSHA256}, &s)
	if len(s.NonceTPM) != 16 {
		t.Errorf("nonceTPM has %d octets, nonceCaller had 16", len(s.NonceTPM))
	}
	h := bytes.Repeat([]byte{1}, 32)
	b.ok(&tpm2.PolicyTemplate{PolicySession: s.SessionHandle, TemplateHash: h}, nil)
	b.refused(tpm2.RCCpHash, &tpm2.PolicyCpHash{PolicySession: s.SessionHandle, CpHashA: h})
	b.refused(tpm2.RCCpHash, &tpm2.PolicyNameHash{PolicySession: s.SessionHandle, NameHash: h})
	b.refused(tpm2.RCCpHash, &tpm2.PolicyDuplicationSelect{PolicySession: s.SessionHandle, ObjectName: h, NewParentName: h})
}

// The same handle twice: each place is authorized for its own role. Here the
// object may not be used with its authValue in the USER role, only administered.
func TestRolesAreOfThePlaceNotOfTheHandle(t *testing.T) {
	b := newBench(t)
	pub := eccStorage()
	pub.ObjectAttributes &^= tpm2.UserWithAuth
	key := b.primary(tpm2.RHOwner, pub).ObjectHandle
	b.refused(tpm2.RCAuthUnavailable, &tpm2.ActivateCredential{ActivateHandle: key, KeyHandle: key})
}

// A TPM can be suspended before TPM2_Startup too, in the middle of an H-CRTM.
func TestSuspendBeforeStartup(t *testing.T) {
	pcr0 := func(suspend bool) []byte {
		b := &bench{t: t, store: &memory{}}
		b.tpm = must(Manufacture(b.config()))
		b.tpm.HashStart()
		b.tpm.HashData([]byte("firm"))
		if suspend {
			volatile := must(b.tpm.Volatile())
			b.tpm = must(PowerOn(b.config(), b.store.state))
			if err := b.tpm.Resume(volatile); err != nil {
				t.Fatal(err)
			}
		}
		b.tpm.HashData([]byte("ware"))
		b.tpm.HashEnd()
		b.ok(&tpm2.Startup{}, nil)
		var r tpm2.PCRReadResponse
		b.ok(&tpm2.PCRRead{PCRSelectionIn: []tpm2.TPMSPCRSelection{{Hash: tpm2.AlgSHA256, PCRSelect: []byte{1, 0, 0}}}}, &r)
		return r.PCRValues[0]
	}
	if got, want := pcr0(true), pcr0(false); !bytes.Equal(got, want) {
		t.Errorf("PCR 0 after a suspend: got %x, want %x", got, want)
	}
}
