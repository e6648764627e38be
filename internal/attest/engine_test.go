package attest

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/eventlog"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/engine"
)

// machine is a VM with our TPM: it boots by extending a log, and has a secret
// sealed under PolicyAuthorize.
type machine struct {
	t      *testing.T
	tpm    *engine.TPM
	state  []byte // what Put was last given
	boots  uint32
	ak     tpm2.Handle
	key    *Key
	sealed struct {
		public  tpm2.TPMTPublic
		private []byte
	}
}

func (m *machine) Put(b []byte) error { m.state = bytes.Clone(b); return nil }

// do runs a command with empty passwords, or in the given policy session.
func (m *machine) do(cmd tpm2.Command, rsp tpm2.Response, session ...tpm2.Handle) tpm2.RC {
	m.t.Helper()
	info := tpm2.Info(cmd.CommandCode())
	tag := tpm2.STNoSessions
	if info.Auths() > 0 {
		tag = tpm2.STSessions
	}
	e := tpm2.NewEncoder(nil)
	e.U16(uint16(tag))
	e.U32(0)
	e.U32(uint32(cmd.CommandCode()))
	for _, h := range cmd.AppendHandles(nil) {
		e.U32(uint32(h))
	}
	if n := info.Auths(); n > 0 {
		e.U32(uint32(9 * n))
		for range n {
			s := tpm2.RSPW
			if len(session) > 0 {
				s = session[0]
			}
			e.U32(uint32(s))
			e.Buf(nil)
			e.U8(1)
			e.Buf(nil)
		}
	}
	cmd.EncodeParameters(e)
	binary.BigEndian.PutUint32(e.Out()[2:], uint32(len(e.Out())))
	out := m.tpm.Execute(0, e.Out(), nil)
	d := tpm2.NewDecoder(out)
	rtag, _, rc := tpm2.ST(d.U16()), d.U32(), tpm2.RC(d.U32())
	if rc != tpm2.RCSuccess || rsp == nil {
		return rc
	}
	if h := rsp.HandleField(); h != nil {
		*h = tpm2.Handle(d.U32())
	}
	params := d.Rest()
	if rtag == tpm2.STSessions {
		params = d.Bytes(int(d.U32()))
	}
	p := tpm2.NewDecoder(bytes.Clone(params))
	rsp.DecodeParameters(p)
	if p.Done(); p.Err() != nil {
		m.t.Fatalf("%T: %v", rsp, p.Err())
	}
	return rc
}

func (m *machine) ok(cmd tpm2.Command, rsp tpm2.Response, session ...tpm2.Handle) {
	m.t.Helper()
	if rc := m.do(cmd, rsp, session...); rc != tpm2.RCSuccess {
		m.t.Fatalf("%T: %v", cmd, rc)
	}
}

// boot switches the machine off and on and measures what log says.
func (m *machine) boot(log []byte) {
	m.t.Helper()
	var err error
	if m.tpm == nil {
		m.tpm, err = engine.Manufacture(engine.Config{Store: m})
	} else {
		m.tpm, err = engine.PowerOn(engine.Config{Store: m}, m.state)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.ok(&tpm2.Startup{StartupType: tpm2.SUClear}, nil)
	l, err := eventlog.Parse(log)
	if err != nil {
		m.t.Fatal(err)
	}
	for i := range l.Events {
		if e := &l.Events[i]; e.Extends() {
			m.extend(e.PCR, e.Digest(eventlog.SHA256))
		}
	}
	ak := tpm2.TPMTPublic{Type: tpm2.AlgECC, NameAlg: tpm2.AlgSHA256,
		ObjectAttributes: tpm2.FixedTPM | tpm2.FixedParent | tpm2.SensitiveDataOrigin | tpm2.UserWithAuth | tpm2.Restricted | tpm2.SignEncrypt}
	p := &ak.Parameters.ECCDetail
	p.Symmetric.Algorithm, p.KDF.Scheme, p.CurveID = tpm2.AlgNull, tpm2.AlgNull, tpm2.ECCNISTP256
	p.Scheme.Scheme, p.Scheme.Details.Any.HashAlg = tpm2.AlgECDSA, tpm2.AlgSHA256
	var r tpm2.CreatePrimaryResponse
	m.ok(&tpm2.CreatePrimary{PrimaryHandle: tpm2.RHEndorsement, InPublic: ak}, &r)
	m.ak = r.ObjectHandle
	if m.key, err = NewKey(tpm2.Marshal(&r.OutPublic)); err != nil {
		m.t.Fatal(err)
	}
	if !bytes.Equal(m.key.Name(), r.Name) {
		m.t.Errorf("the AK's Name is %x, we compute %x", r.Name, m.key.Name())
	}
}

func (m *machine) extend(pcr uint32, digest []byte) {
	m.t.Helper()
	m.ok(&tpm2.PCRExtend{PCRHandle: tpm2.Handle(pcr), Digests: []tpm2.TPMTHA{{HashAlg: tpm2.AlgSHA256, Digest: digest}}}, nil)
}

func (m *machine) evidence(log, qualifying []byte) Evidence {
	m.t.Helper()
	var r tpm2.QuoteResponse
	sel := []tpm2.TPMSPCRSelection{{Hash: tpm2.AlgSHA256, PCRSelect: []byte{0xFF, 0x43, 0}}}
	m.ok(&tpm2.Quote{SignHandle: m.ak, QualifyingData: qualifying, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull}, PCRSelect: sel}, &r)
	e := tpm2.NewEncoder(nil)
	r.EncodeParameters(e)
	var values []byte
	for _, pcr := range BootPCRs() {
		var v tpm2.PCRReadResponse
		mask := make([]byte, 3)
		mask[pcr/8] = 1 << (pcr % 8)
		m.ok(&tpm2.PCRRead{PCRSelectionIn: []tpm2.TPMSPCRSelection{{Hash: tpm2.AlgSHA256, PCRSelect: mask}}}, &v)
		values = append(values, v.PCRValues[0]...)
	}
	return Evidence{{TPMQuote, e.Out()}, {TPMPCRValues, values}, {TCGEventLog, log}}
}

func (m *machine) storage() tpm2.Handle {
	m.t.Helper()
	pub := tpm2.TPMTPublic{Type: tpm2.AlgECC, NameAlg: tpm2.AlgSHA256,
		ObjectAttributes: tpm2.FixedTPM | tpm2.FixedParent | tpm2.SensitiveDataOrigin | tpm2.UserWithAuth | tpm2.NoDA | tpm2.Restricted | tpm2.Decrypt}
	p := &pub.Parameters.ECCDetail
	p.Symmetric = tpm2.TPMTSymDefObject{Algorithm: tpm2.AlgAES, KeyBits: tpm2.TPMUSymObjectBits{AES: 128}, Mode: tpm2.TPMUSymObjectMode{AES: tpm2.AlgCFB}}
	p.Scheme.Scheme, p.KDF.Scheme, p.CurveID = tpm2.AlgNull, tpm2.AlgNull, tpm2.ECCNISTP256
	var r tpm2.CreatePrimaryResponse
	m.ok(&tpm2.CreatePrimary{PrimaryHandle: tpm2.RHOwner, InPublic: pub}, &r)
	return r.ObjectHandle
}

func (m *machine) seal(secret string, policy []byte) {
	m.t.Helper()
	srk := m.storage()
	pub := tpm2.TPMTPublic{Type: tpm2.AlgKeyedHash, NameAlg: tpm2.AlgSHA256, AuthPolicy: policy,
		ObjectAttributes: tpm2.FixedTPM | tpm2.FixedParent | tpm2.AdminWithPolicy}
	pub.Parameters.KeyedHashDetail.Scheme.Scheme = tpm2.AlgNull
	var c tpm2.CreateResponse
	m.ok(&tpm2.Create{ParentHandle: srk, InPublic: pub, InSensitive: tpm2.TPMSSensitiveCreate{Data: []byte(secret)}}, &c)
	m.sealed.public, m.sealed.private = c.OutPublic, c.OutPrivate
	m.ok(&tpm2.FlushContext{FlushHandle: srk}, nil)
}

// unseal is what the agent does with an approval.
func (m *machine) unseal(a Approval, policyKey *tpm2.TPMTPublic) (string, tpm2.RC) {
	m.t.Helper()
	var key tpm2.LoadExternalResponse
	m.ok(&tpm2.LoadExternal{InPublic: *policyKey, Hierarchy: tpm2.RHOwner}, &key)
	h, _ := hashOf(policyKey.NameAlg)
	d := h.New()
	d.Write(a.ApprovedPolicy)
	d.Write(a.PolicyRef)
	var sig tpm2.TPMTSignature
	if err := tpm2.Unmarshal(a.Signature, &sig); err != nil {
		m.t.Fatal(err)
	}
	var ticket tpm2.VerifySignatureResponse
	m.ok(&tpm2.VerifySignature{KeyHandle: key.ObjectHandle, Digest: d.Sum(nil), Signature: sig}, &ticket)
	m.ok(&tpm2.FlushContext{FlushHandle: key.ObjectHandle}, nil)
	srk := m.storage()
	var item tpm2.LoadResponse
	m.ok(&tpm2.Load{ParentHandle: srk, InPrivate: m.sealed.private, InPublic: m.sealed.public}, &item)
	m.ok(&tpm2.FlushContext{FlushHandle: srk}, nil)
	defer m.ok(&tpm2.FlushContext{FlushHandle: item.ObjectHandle}, nil)
	var s tpm2.StartAuthSessionResponse
	m.ok(&tpm2.StartAuthSession{TPMKey: tpm2.RHNull, Bind: tpm2.RHNull, NonceCaller: make([]byte, 16), SessionType: tpm2.SEPolicy,
		Symmetric: tpm2.TPMTSymDef{Algorithm: tpm2.AlgNull}, AuthHash: tpm2.AlgSHA256}, &s)
	defer m.ok(&tpm2.FlushContext{FlushHandle: s.SessionHandle}, nil)
	sel := tpm2.TPMSPCRSelection{Hash: tpm2.AlgSHA256, PCRSelect: a.Selection[7:]}
	m.ok(&tpm2.PolicyPCR{PolicySession: s.SessionHandle, PCRs: []tpm2.TPMSPCRSelection{sel}}, nil)
	rc := m.do(&tpm2.PolicyAuthorize{PolicySession: s.SessionHandle, ApprovedPolicy: a.ApprovedPolicy, PolicyRef: a.PolicyRef,
		KeySign: key.Name, CheckTicket: ticket.Validation}, nil)
	if rc != tpm2.RCSuccess {
		return "", rc
	}
	var r tpm2.UnsealResponse
	rc = m.do(&tpm2.Unseal{ItemHandle: item.ObjectHandle}, &r, s.SessionHandle)
	return string(r.OutData), rc
}

// TestTheTPMAndTheServiceAgree is the boot and tamper story with our own TPM:
// what the service refuses the TPM does not unseal either, and the other way round.
func TestTheTPMAndTheServiceAgree(t *testing.T) {
	golden, changed := capture(t, "ovmf-direct"), capture(t, "ovmf-direct-changed")
	area, err := PolicyKeyPublic(&policyKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := PolicyAuthorize(&policyKey.PublicKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	one, two := references(t, 1, golden), references(t, 2, changed)
	unlogged := crypto.SHA256.New().Sum(nil)

	m := &machine{t: t}
	m.boot(golden)
	m.seal("the local share", policy)
	recorded := m.key
	for _, tt := range []struct {
		name   string
		boot   []byte
		sent   []byte
		extend []uint32
		refs   []*ReferenceValues
		want   string // findings
		says   string // and what the last one names
		opens  bool
	}{
		{"as approved", golden, golden, nil, []*ReferenceValues{one}, "", "", true},
		{"command line changed", changed, changed, nil, []*ReferenceValues{one}, "BOOT_DIFFERS", "event 21, PCR 9, EV_EVENT_TAG", false},
		{"command line changed, old log sent", changed, golden, nil, []*ReferenceValues{one}, "EVENT_LOG_MISMATCH BOOT_DIFFERS", "PCRs [9] differ", false},
		{"extend without a log entry", golden, golden, []uint32{4}, []*ReferenceValues{one}, "EVENT_LOG_MISMATCH BOOT_DIFFERS", "PCRs [4] differ", false},
		{"the disk was opened already", golden, golden, []uint32{UnlockPCR}, []*ReferenceValues{one}, "", "", false},
		{"as approved again", golden, golden, nil, []*ReferenceValues{one}, "", "", true},
		{"approved before the reboot", changed, changed, nil, []*ReferenceValues{one, two}, "", "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m.t = t
			m.boot(tt.boot)
			for _, pcr := range tt.extend {
				m.extend(pcr, unlogged)
			}
			if !bytes.Equal(m.key.Name(), recorded.Name()) {
				t.Fatal("the AK changed with a reboot")
			}
			exp := Expected{Subject: "web1", Tenant: "acme", Policy: "web", Key: recorded, Tier: TPMAttested, Now: now, Qualifying: []byte(tt.name)}
			res := Appraise(m.evidence(tt.sent, exp.Qualifying), exp, tt.refs)
			if got := codes(res); got != tt.want {
				t.Errorf("the service finds %q, want %q", got, tt.want)
			}
			if n := len(res.Findings); n > 0 && !strings.Contains(res.Findings[n-1].Evidence, tt.says) {
				t.Errorf("the service says %q, want %q", res.Findings[n-1].Evidence, tt.says)
			}
			// The manager counts a reset for every boot after the first.
			m.boots++
			exp.Counters = &Counters{Reset: res.Quoted.ResetCount, Restart: 0}
			if again := Appraise(m.evidence(tt.sent, exp.Qualifying), exp, tt.refs); codes(again) != tt.want || m.boots > 1 && res.Quoted.ResetCount == 0 {
				t.Errorf("with counters %+v: %q", exp.Counters, codes(again))
			}
			opened := slices.ContainsFunc(tt.refs, func(r *ReferenceValues) bool {
				got, rc := m.unseal(r.Approved(), area)
				return rc == tpm2.RCSuccess && got == "the local share"
			})
			if opened != tt.opens {
				t.Errorf("the TPM unseals: %v, want %v", opened, tt.opens)
			}
		})
	}
}

// TestOurTPMCertifiesKeys: a key in the null hierarchy is recognised as one.
func TestOurTPMCertifiesKeys(t *testing.T) {
	log := capture(t, "ovmf-direct")
	m := &machine{t: t}
	m.boot(log)
	exp := Expected{Subject: "web1", Tenant: "acme", Policy: "web", Key: m.key, Tier: TPMAttested, Now: now, Qualifying: []byte("q")}
	ev := m.evidence(log, exp.Qualifying)
	for _, hierarchy := range []tpm2.Handle{tpm2.RHNull, tpm2.RHOwner} {
		pub := tpm2.TPMTPublic{Type: tpm2.AlgECC, NameAlg: tpm2.AlgSHA256,
			ObjectAttributes: tpm2.FixedTPM | tpm2.FixedParent | tpm2.SensitiveDataOrigin | tpm2.UserWithAuth | tpm2.Decrypt}
		p := &pub.Parameters.ECCDetail
		p.Symmetric.Algorithm, p.Scheme.Scheme, p.KDF.Scheme, p.CurveID = tpm2.AlgNull, tpm2.AlgNull, tpm2.AlgNull, tpm2.ECCNISTP256
		var key tpm2.CreatePrimaryResponse
		m.ok(&tpm2.CreatePrimary{PrimaryHandle: hierarchy, InPublic: pub}, &key)
		var r tpm2.CertifyResponse
		m.ok(&tpm2.Certify{ObjectHandle: key.ObjectHandle, SignHandle: m.ak, QualifyingData: exp.Qualifying, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull}}, &r)
		e := tpm2.NewEncoder(nil)
		e.Buf(tpm2.Marshal(&key.OutPublic))
		r.EncodeParameters(e)
		res := Appraise(append(slices.Clone(ev), Item{TPMCertify, e.Out()}), exp, []*ReferenceValues{references(t, 1, log)})
		if len(res.Certified) != 1 || res.Status != Affirming {
			t.Fatalf("%v: %s", hierarchy, codes(res))
		}
		if c := res.Certified[0]; !bytes.Equal(c.Name, key.Name) || c.Primary != hierarchy {
			t.Errorf("primary of %#x, want %#x", c.Primary, hierarchy)
		}
		m.ok(&tpm2.FlushContext{FlushHandle: key.ObjectHandle}, nil)
	}
}
