package takeover

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/vouchsafe/vouchsafe/test/internal/tpmsock"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// What furnish makes.
var (
	owner       = client.Hierarchy(tpm2.RHOwner, client.Secret([]byte("owner")))
	endorsement = client.Hierarchy(tpm2.RHEndorsement, client.Secret([]byte("endorsement")))
	lockout     = client.Hierarchy(tpm2.RHLockout, client.Secret([]byte("lockout")))
	platform    = client.Hierarchy(tpm2.RHPlatform, nil)
	pcr16       = client.Select(tpm2.AlgSHA256, 16)
)

const (
	srkHandle = 0x81000001
	ekHandle  = 0x81010001
	akHandle  = 0x81000005
	aesHandle = 0x81000006
	itemAt    = 0x81000007

	nvPlain    = 0x01500001
	nvCounter  = 0x01500002
	nvBits     = 0x01500003
	nvExtend   = 0x01500004
	nvOrderly  = 0x01500005
	nvOCounter = 0x01500006
	nvEmpty    = 0x01500007
	nvLocked   = 0x01500008
	nvPinFail  = 0x01500009
	nvPolicy   = 0x0150000a
	nvPlatform = 0x01c00002
)

func authOf(n int) client.AuthValue { return client.Secret(fmt.Appendf(nil, "nv%d", n)) }

// furnish makes a TPM of everything that lasts.
func furnish(t *testing.T, c *client.Client) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	open := client.Hierarchy(tpm2.RHOwner, nil)
	// Keys, while the hierarchies are open.
	for _, k := range []struct {
		by client.Entity
		p  tpm2.TPMTPublic
		at tpm2.Handle
	}{
		{open, client.SRKTemplate(client.RSA2048), srkHandle},
		{client.Hierarchy(tpm2.RHEndorsement, nil), client.EKTemplate(client.EKRSA2048), ekHandle},
		{client.Hierarchy(tpm2.RHEndorsement, nil), client.AKTemplate(client.P384), akHandle},
		{open, templates(func(n int) []byte { return make([]byte, n) })[16].template, aesHandle},
	} {
		key, _, err := c.CreatePrimaryObject(k.by, client.NewObject{Public: k.p, Auth: client.Secret([]byte("key"))})
		must(err)
		_, err = c.Persist(open, key, k.at)
		must(err)
		must(c.Flush(key.Handle))
	}
	must(c.ExtendPCR(16, tpm2.TPMTHA{HashAlg: tpm2.AlgSHA256, Digest: bytes.Repeat([]byte{1}, 32)}))
	must(c.ExtendPCR(7, tpm2.TPMTHA{HashAlg: tpm2.AlgSHA256, Digest: bytes.Repeat([]byte{2}, 32)}, tpm2.TPMTHA{HashAlg: tpm2.AlgSHA1, Digest: bytes.Repeat([]byte{2}, 20)}))
	values, err := c.ReadPCRs(pcr16)
	must(err)
	digest, err := values.Digest(tpm2.AlgSHA256, pcr16)
	must(err)
	policy, err := client.NewPolicy(tpm2.AlgSHA256)
	must(err)
	onPCR := policy.PCR(pcr16, digest).Digest()
	srk, err := c.Key(srkHandle, client.Secret([]byte("key")))
	must(err)
	b, err := c.Seal(srk, []byte("sealed to PCR 16"), onPCR, nil)
	must(err)
	item, err := c.Load(srk, b, nil)
	must(err)
	_, err = c.Persist(open, item, itemAt)
	must(err)
	must(c.Flush(item.Handle))

	// NV indexes of every kind.
	rw := tpm2.NVOwnerWrite | tpm2.NVOwnerRead | tpm2.NVAuthRead | tpm2.NVAuthWrite | tpm2.NVNoDA
	kind := func(n tpm2.NVType) tpm2.NVAttributes { return tpm2.NVAttributes(n) << 4 }
	define := func(by client.Auth, h tpm2.Handle, a tpm2.NVAttributes, size uint16, policy []byte) *client.NVIndex {
		t.Helper()
		i, err := c.NVDefine(by, tpm2.TPMSNVPublic{NVIndex: h, NameAlg: tpm2.AlgSHA256, Attributes: a, AuthPolicy: policy, DataSize: size}, authOf(int(h&0xff)))
		must(err)
		return i
	}
	i := define(open, nvPlain, rw, 1000, nil)
	must(c.NVWrite(i, i, bytes.Repeat([]byte("plain "), 166), 0))
	i = define(open, nvCounter, rw|kind(tpm2.NTCounter), 8, nil)
	for range 3 {
		must(c.NVIncrement(i, i))
	}
	i = define(open, nvBits, rw|kind(tpm2.NTBits), 8, nil)
	must(c.NVSetBits(i, i, 0x8000000000000005))
	i = define(open, nvExtend, rw|kind(tpm2.NTExtend), 32, nil)
	must(c.NVExtend(i, i, []byte("extended")))
	i = define(open, nvOrderly, rw|tpm2.NVOrderly, 16, nil)
	must(c.NVWrite(i, i, []byte("orderly content!"), 0))
	i = define(open, nvOCounter, rw|tpm2.NVOrderly|kind(tpm2.NTCounter), 8, nil)
	for range 7 {
		must(c.NVIncrement(i, i))
	}
	define(open, nvEmpty, rw, 32, nil)
	i = define(open, nvLocked, rw|tpm2.NVWriteDefine, 4, nil)
	must(c.NVWrite(i, i, []byte("lock"), 0))
	must(c.NVWriteLock(i, i))
	i = define(open, nvPinFail, tpm2.NVOwnerWrite|tpm2.NVOwnerRead|tpm2.NVAuthRead|tpm2.NVNoDA|kind(tpm2.NTPinFail), 8, nil)
	must(c.NVWrite(open, i, []byte{0, 0, 0, 1, 0, 0, 0, 5}, 0))
	i = define(open, nvPolicy, tpm2.NVOwnerWrite|tpm2.NVPolicyRead|tpm2.NVNoDA, 9, onPCR)
	must(c.NVWrite(open, i, []byte("by policy"), 0))
	i = define(platform, nvPlatform, tpm2.NVPlatformCreate|tpm2.NVPPWrite|tpm2.NVAuthRead|tpm2.NVOwnerRead|tpm2.NVNoDA|tpm2.NVReadSTClear, 11, nil)
	must(c.NVWrite(platform, i, []byte("certificate"), 0))
	must(c.NVReadLock(i, i))

	// Settings.
	must(c.Execute(&tpm2.SetPrimaryPolicy{AuthHandle: tpm2.RHOwner, AuthPolicy: onPCR, HashAlg: tpm2.AlgSHA256}, nil, open))
	must(c.Execute(&tpm2.SetPrimaryPolicy{AuthHandle: tpm2.RHPlatform, AuthPolicy: bytes.Repeat([]byte{9}, 48), HashAlg: tpm2.AlgSHA384}, nil, platform))
	must(c.Execute(&tpm2.DictionaryAttackParameters{LockHandle: tpm2.RHLockout, NewMaxTries: 30, NewRecoveryTime: 7200, LockoutRecovery: 86400}, nil, client.Hierarchy(tpm2.RHLockout, nil)))
	must(c.Execute(&tpm2.SetCommandCodeAuditStatus{Auth: tpm2.RHOwner, AuditAlg: tpm2.AlgNull, SetList: []tpm2.CC{tpm2.CCGetRandom, tpm2.CCCertifyX509, tpm2.CCUnseal}}, nil, open))
	must(c.Execute(&tpm2.SetCommandCodeAuditStatus{Auth: tpm2.RHOwner, AuditAlg: tpm2.AlgSHA384}, nil, open))
	must(c.Execute(&tpm2.ClearControl{Auth: tpm2.RHPlatform, Disable: tpm2.Yes}, nil, platform))
	for h, auth := range map[tpm2.Handle]client.Entity{tpm2.RHOwner: owner, tpm2.RHEndorsement: endorsement, tpm2.RHLockout: lockout} {
		_, err := c.ChangeAuth(client.Hierarchy(h, nil), auth.Auth)
		must(err)
	}
	// Two failed tries.
	srkWrong := client.Entity{Handle: akHandle, Auth: client.Secret([]byte("guess"))}
	ak, err := c.Key(akHandle, nil)
	must(err)
	srkWrong.Name = ak.Name
	for range 2 {
		if c.Execute(&tpm2.Sign{KeyHandle: akHandle, Digest: make([]byte, 48), InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull},
			Validation: tpm2.TPMTTkHashCheck{Tag: tpm2.STHashCheck, Hierarchy: tpm2.RHNull}}, nil, srkWrong) == nil {
			t.Fatal("a wrong password was right")
		}
	}
}

// look reads all that can be read.
func look(t *testing.T, c *client.Client) map[string]string {
	t.Helper()
	seen := map[string]string{}
	capability := func(what tpm2.CAP, from, n uint32) *tpm2.TPMUCapabilities {
		t.Helper()
		var rsp tpm2.GetCapabilityResponse
		if err := c.Execute(&tpm2.GetCapability{Capability: what, Property: from, PropertyCount: n}, &rsp); err != nil {
			t.Fatal(err)
		}
		return &rsp.CapabilityData.Data
	}
	for _, space := range []uint32{0x81000000, 0x01000000, 0x80000000, 0x02000000, 0x03000000} {
		list := capability(tpm2.CapHandles, space, 254).Handles
		if s := space >> 24; s == 2 || s == 3 {
			for i := range list {
				list[i] &= 0xffffff // libtpms lists policy sessions as such among the loaded ones
			}
		}
		seen[fmt.Sprintf("handles from 0x%08x", space)] = fmt.Sprintf("%x", list)
		for _, h := range list {
			switch h.Space() {
			default: // a session
			case tpm2.HTPersistent, tpm2.HTTransient:
				var rsp tpm2.ReadPublicResponse
				if err := c.Execute(&tpm2.ReadPublic{ObjectHandle: h}, &rsp); err != nil {
					seen[fmt.Sprintf("object %08x", uint32(h))] = "no public area" // a sequence
					continue
				}
				seen[fmt.Sprintf("object %08x", uint32(h))] = fmt.Sprintf("%x %x %x", tpm2.Marshal(&rsp.OutPublic), rsp.Name, rsp.QualifiedName)
			case tpm2.HTNVIndex:
				var rsp tpm2.NVReadPublicResponse
				if err := c.Execute(&tpm2.NVReadPublic{NVIndex: h}, &rsp); err != nil {
					t.Fatal(err)
				}
				i, err := c.NVIndex(h, authOf(int(h&0xff)))
				if err != nil {
					t.Fatal(err)
				}
				data, err := c.NVRead(i, i)
				seen[fmt.Sprintf("NV index %08x", uint32(h))] = fmt.Sprintf("%x %x %x %v", tpm2.Marshal(&rsp.NVPublic), rsp.NVName, data, err)
			}
		}
	}
	seen["audited"] = fmt.Sprintf("%x", capability(tpm2.CapAuditCommands, 0, 254).AuditCommands)
	seen["PP commands"] = fmt.Sprintf("%x", capability(tpm2.CapPPCommands, 0, 254).PPCommands)
	seen["banks"] = fmt.Sprintf("%x", capability(tpm2.CapPCRs, 0, 10).AssignedPCR)
	for _, p := range capability(tpm2.CapTPMProperties, 0x200, 254).TPMProperties {
		switch p.Property {
		case tpm2.PTPermanent, tpm2.PTStartupClear, tpm2.PTHRNVIndex, tpm2.PTNVCounters, tpm2.PTLockoutCounter, tpm2.PTMaxAuthFail,
			tpm2.PTLockoutInterval, tpm2.PTLockoutRecovery, tpm2.PTAuditCounter0, tpm2.PTAuditCounter1, tpm2.PTHRActive, tpm2.PTHRLoaded, tpm2.PTHRPersistent:
			seen[fmt.Sprintf("property %x", uint32(p.Property))] = fmt.Sprintf("%x", p.Value)
		}
	}
	for _, h := range []tpm2.Handle{tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHPlatform, tpm2.RHLockout} {
		for _, p := range capability(tpm2.CapAuthPolicies, uint32(h), 1).AuthPolicies {
			seen[fmt.Sprintf("policy of %x", uint32(p.Handle))] = fmt.Sprintf("%x %x", uint16(p.PolicyHash.HashAlg), p.PolicyHash.Digest)
		}
	}
	for _, alg := range []tpm2.AlgID{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512} {
		for first := 0; first < 24; first += 8 {
			var rsp tpm2.PCRReadResponse
			sel := client.Select(alg, first, first+1, first+2, first+3, first+4, first+5, first+6, first+7)
			if err := c.Execute(&tpm2.PCRRead{PCRSelectionIn: sel}, &rsp); err != nil {
				t.Fatal(err)
			}
			seen[fmt.Sprintf("PCRs %x %d", uint16(alg), first)] = fmt.Sprintf("%x", rsp.PCRValues)
		}
	}
	now, err := c.ReadClock()
	if err != nil {
		t.Fatal(err)
	}
	seen["counts"] = fmt.Sprint(now.ClockInfo.ResetCount, now.ClockInfo.RestartCount, now.ClockInfo.Safe)
	return seen
}

func same(t *testing.T, theirs, ours map[string]string) {
	t.Helper()
	if len(theirs) < 40 {
		t.Errorf("only %d things were compared", len(theirs))
	}
	for _, k := range slices.Sorted(maps.Keys(theirs)) {
		if ours[k] != theirs[k] {
			t.Errorf("%s: swtpm %s, ours %s", k, theirs[k], ours[k])
		}
	}
	for k := range ours {
		if _, ok := theirs[k]; !ok {
			t.Errorf("%s is here only: %s", k, ours[k])
		}
	}
}

// TestPowerCycle takes a furnished TPM over while it is off, after each way of
// switching it off, and compares with swtpm on the same state.
func TestPowerCycle(t *testing.T) {
	for name, end := range map[string]*tpm2.Shutdown{
		"shut down": {ShutdownType: tpm2.SUClear}, "sleeping": {ShutdownType: tpm2.SUState}, "power lost": nil,
	} {
		t.Run(name, func(t *testing.T) {
			s := startTheirs(t)
			furnish(t, s.Client)
			if end != nil {
				s.must(t, end, nil)
				s.su = end.ShutdownType
			}
			s.stop()
			ours := startOurs(t, s)
			s.start(t)
			theirs := look(t, s.Client)
			if name == "shut down" {
				// libtpms forgets the data of orderly indexes at a TPM Reset that is orderly
				// too; here it is kept, as Part 2, 13.4 has it.
				delete(theirs, "NV index 01500005")
			}
			got := look(t, ours)
			if name == "shut down" {
				delete(got, "NV index 01500005")
			}
			same(t, theirs, got)
			if s.su == tpm2.SUClear {
				if err := ours.ExtendPCR(16, tpm2.TPMTHA{HashAlg: tpm2.AlgSHA256, Digest: bytes.Repeat([]byte{1}, 32)}); err != nil {
					t.Fatal(err)
				}
			} else {
				ours.ExtendPCR(16, tpm2.TPMTHA{HashAlg: tpm2.AlgSHA256, Digest: bytes.Repeat([]byte{1}, 32)}) // it is not kept
			}
			use16(t, ours)
			// A further cycle: what was taken over is state like any other.
			for _, cmd := range []tpm2.Command{&tpm2.Shutdown{ShutdownType: tpm2.SUState}} {
				if err := ours.Execute(cmd, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// use16 uses everything that needs PCR 16 or an authorization.
func use16(t *testing.T, c *client.Client) {
	t.Helper()
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	onPCR := func() *client.Session {
		t.Helper()
		p, err := c.StartSession(client.SessionConfig{Type: tpm2.SEPolicy, Hash: tpm2.AlgSHA256})
		if err != nil {
			t.Fatal(err)
		}
		check("PolicyPCR", p.PolicyPCR(pcr16, nil))
		return p
	}
	item, err := c.Key(itemAt, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := onPCR()
	got, err := c.Unseal(p.Auth(item.Entity))
	check("unsealing by PolicyPCR", err)
	if string(got) != "sealed to PCR 16" {
		t.Errorf("unsealed %q", got)
	}
	p.Close()
	index, err := c.NVIndex(nvPolicy, nil)
	if err != nil {
		t.Fatal(err)
	}
	p = onPCR()
	got, err = c.NVRead(p.Auth(index.Entity), index)
	check("reading NV by PolicyPCR", err)
	if string(got) != "by policy" {
		t.Errorf("NV has %q", got)
	}
	p.Close()
	// Hierarchies by their authValue: a new primary needs the owner's.
	k, err := c.CreatePrimary(owner, client.SigningTemplate(client.P256))
	check("a primary by the owner's authValue", err)
	if err == nil {
		c.Flush(k.Handle)
	}
	if _, err := c.CreatePrimary(client.Hierarchy(tpm2.RHOwner, nil), client.SigningTemplate(client.P256)); err == nil {
		t.Error("the owner's authValue is gone")
	}
	check("lockout reset", c.ResetLockout(lockout))
	// A child of the persistent SRK.
	srk, err := c.Key(srkHandle, client.Secret([]byte("key")))
	check("SRK", err)
	_, _, err = c.Create(srk, client.NewObject{Public: client.SigningTemplate(client.P256)})
	check("a new child of the SRK", err)
	counter, err := c.NVIndex(nvCounter, authOf(2))
	check("counter", err)
	check("counting on", c.NVIncrement(counter, counter))
	ak, err := c.Key(akHandle, client.Secret([]byte("key")))
	check("AK", err)
	_, err = c.Quote(ak, []byte("nonce"), pcr16)
	check("quote by the AK", err)
}

// TestSuspended moves a TPM with its RAM: sessions, loaded objects, sequences
// and saved contexts. The client goes on speaking to the other TPM without
// knowing, as a guest does.
func TestSuspended(t *testing.T) {
	s := startTheirs(t)
	furnish(t, s.Client)
	speaker := func(command []byte) []byte {
		rsp, err := s.conn.Send(command)
		if err != nil {
			t.Error(err)
		}
		return rsp
	}
	c := client.New(client.Direct(func(command []byte) []byte { return speaker(command) }))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	srk, err := c.Key(srkHandle, client.Secret([]byte("key")))
	must(err)
	blob, _, err := c.Create(srk, client.NewObject{Public: client.SigningTemplate(client.P256), Auth: client.Secret([]byte("child"))})
	must(err)
	child, err := c.Load(srk, blob, client.Secret([]byte("child")))
	must(err)
	rsa, err := c.CreatePrimary(client.Hierarchy(tpm2.RHNull, nil), client.SigningTemplate(client.RSA2048))
	must(err)
	saved, err := c.SaveContext(rsa.Handle)
	must(err)
	must(c.Flush(rsa.Handle))

	// swtpm has room for three sessions.
	salted, err := c.StartSession(client.SessionConfig{Salt: srk, Symmetric: client.AESCFB(128)})
	must(err)
	bound, err := c.StartSession(client.SessionConfig{Bind: &child.Entity})
	must(err)
	away, err := c.StartSession(client.SessionConfig{Symmetric: client.XOR(tpm2.AlgSHA256)})
	must(err)
	awayContext, err := c.SaveContext(away.Handle())
	must(err)
	policy, err := c.StartSession(client.SessionConfig{Type: tpm2.SEPolicy, Hash: tpm2.AlgSHA256})
	must(err)
	must(policy.PolicyPCR(pcr16, nil))
	must(policy.PolicyCommandCode(tpm2.CCUnseal))
	digest, err := policy.PolicyDigest()
	must(err)
	sealed, err := c.Seal(srk, []byte("by a policy under way"), digest, nil)
	must(err)

	auth := []byte("sequence")
	start := func(alg tpm2.AlgID) tpm2.Handle {
		var rsp tpm2.HashSequenceStartResponse
		must(c.Execute(&tpm2.HashSequenceStart{Auth: auth, HashAlg: alg}, &rsp))
		return rsp.SequenceHandle
	}
	entity := func(h tpm2.Handle) client.Entity { return client.Entity{Handle: h, Auth: client.Secret(auth)} }
	first, second := bytes.Repeat([]byte("first part "), 13), []byte(" and the second part")
	sums := map[string]tpm2.Handle{"sha1": start(tpm2.AlgSHA1)}
	must(c.Execute(&tpm2.SequenceUpdate{SequenceHandle: sums["sha1"], Buffer: first}, nil, entity(sums["sha1"])))

	// All of it through a state of its own, since swtpm has three slots for objects only.
	control, err := tpmsock.DialControl(s.process.Control)
	must(err)
	defer control.Close()
	move := func() map[string]string {
		t.Helper()
		want := look(t, c)
		must(control.Store())
		tpm := s.takeOver(t)
		speaker = func(command []byte) []byte { return tpm.Execute(0, command, nil) }
		same(t, want, look(t, c))
		return want
	}
	move()

	complete := func(h tpm2.Handle, want []byte) {
		t.Helper()
		var rsp tpm2.SequenceCompleteResponse
		must(c.Execute(&tpm2.SequenceComplete{SequenceHandle: h, Buffer: second, Hierarchy: tpm2.RHNull}, &rsp, entity(h)))
		if !bytes.Equal(rsp.Result, want) {
			t.Errorf("a sequence over the move: %x, want %x", rsp.Result, want)
		}
	}
	h1 := sha1.Sum(append(bytes.Clone(first), second...))
	complete(sums["sha1"], h1[:])
	sign := func(by client.Auth, what string) {
		t.Helper()
		d := sha256.Sum256([]byte(what))
		var rsp tpm2.SignResponse
		must(c.Execute(&tpm2.Sign{KeyHandle: child.Handle, Digest: d[:], InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull},
			Validation: tpm2.TPMTTkHashCheck{Tag: tpm2.STHashCheck, Hierarchy: tpm2.RHNull}}, &rsp, by))
		must(client.VerifySignature(&child.Public, []byte(what), &rsp.Signature))
	}
	sign(child, "with its password")
	sign(salted.Auth(child.Entity), "in a session from before the move")
	sign(salted.Auth(child.Entity), "and again")
	sign(bound.Auth(child.Entity), "in a session bound to it")
	_, err = c.GetRandom(16, salted.Extra(tpm2.SessionEncrypt))
	must(err)
	item, err := c.Load(srk, sealed, nil)
	must(err)
	got, err := c.Unseal(policy.Auth(item.Entity))
	must(err)
	if string(got) != "by a policy under way" {
		t.Errorf("unsealed %q", got)
	}
	must(c.Flush(item.Handle))
	if _, err := c.LoadContext(awayContext); err != nil {
		t.Fatal(err)
	}
	sign(away.Auth(child.Entity), "in a session that was saved before the move")
	loaded, err := c.LoadContext(saved)
	must(err)
	back, err := c.Key(loaded, nil)
	must(err)
	if !bytes.Equal(tpm2.Marshal(&back.Public), tpm2.Marshal(&rsa.Public)) {
		t.Error("the context holds another key")
	}
	again, err := c.CreatePrimary(client.Hierarchy(tpm2.RHNull, nil), client.SigningTemplate(client.RSA2048))
	must(err)
	if !bytes.Equal(tpm2.Marshal(&again.Public), tpm2.Marshal(&rsa.Public)) {
		t.Error("another primary key of the NULL hierarchy")
	}
	use16(t, c)
}

// TestSequences: hashes of every algorithm, HMAC and events go on over the move.
func TestSequences(t *testing.T) {
	first, second := bytes.Repeat([]byte("first part "), 25), []byte(" and the second part")
	all := append(bytes.Clone(first), second...)
	s1, s256, s384, s512 := sha1.Sum(all), sha256.Sum256(all), sha512.Sum384(all), sha512.Sum512(all)
	mac := hmac.New(sha512.New, []byte("the key of an HMAC"))
	mac.Write(all)
	for name, want := range map[string][]byte{"sha1": s1[:], "sha256": s256[:], "sha384": s384[:], "sha512": s512[:], "hmac": mac.Sum(nil), "event": nil} {
		t.Run(name, func(t *testing.T) {
			s := startTheirs(t)
			var h tpm2.Handle
			alg := map[string]tpm2.AlgID{"sha1": tpm2.AlgSHA1, "sha256": tpm2.AlgSHA256, "sha384": tpm2.AlgSHA384, "sha512": tpm2.AlgSHA512, "event": tpm2.AlgNull}
			if name == "hmac" {
				pub := templates(func(n int) []byte { return make([]byte, n) })[18].template
				pub.ObjectAttributes &^= tpm2.SensitiveDataOrigin
				key, _, err := s.CreatePrimaryObject(platform, client.NewObject{Public: pub, Data: []byte("the key of an HMAC")})
				if err != nil {
					t.Fatal(err)
				}
				var rsp tpm2.HMACStartResponse
				s.must(t, &tpm2.HMACStart{Handle: key.Handle, HashAlg: tpm2.AlgNull}, &rsp, key)
				h = rsp.SequenceHandle
			} else {
				var rsp tpm2.HashSequenceStartResponse
				s.must(t, &tpm2.HashSequenceStart{HashAlg: alg[name]}, &rsp)
				h = rsp.SequenceHandle
			}
			s.must(t, &tpm2.SequenceUpdate{SequenceHandle: h, Buffer: first}, nil, client.Entity{Handle: h})
			control, err := tpmsock.DialControl(s.process.Control)
			if err != nil {
				t.Fatal(err)
			}
			defer control.Close()
			if err := control.Store(); err != nil {
				t.Fatal(err)
			}
			c := clientOf(s.takeOver(t))
			if name == "event" {
				var rsp tpm2.EventSequenceCompleteResponse
				if err := c.Execute(&tpm2.EventSequenceComplete{PCRHandle: 16, SequenceHandle: h, Buffer: second}, &rsp, client.PCR(16), client.Entity{Handle: h}); err != nil {
					t.Fatal(err)
				}
				for _, d := range rsp.Results {
					if want := map[tpm2.AlgID][]byte{tpm2.AlgSHA1: s1[:], tpm2.AlgSHA256: s256[:], tpm2.AlgSHA384: s384[:], tpm2.AlgSHA512: s512[:]}[d.HashAlg]; !bytes.Equal(d.Digest, want) {
						t.Errorf("%x: %x, want %x", uint16(d.HashAlg), d.Digest, want)
					}
				}
				if len(rsp.Results) != 4 {
					t.Errorf("%d digests", len(rsp.Results))
				}
				return
			}
			var rsp tpm2.SequenceCompleteResponse
			if err := c.Execute(&tpm2.SequenceComplete{SequenceHandle: h, Buffer: second, Hierarchy: tpm2.RHOwner}, &rsp, client.Entity{Handle: h}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(rsp.Result, want) {
				t.Errorf("%x, want %x", rsp.Result, want)
			}
			if name != "hmac" && len(rsp.Validation.Digest) == 0 {
				t.Error("the ticket of an innocent message is empty")
			}
		})
	}
}

// TestFixtures writes, with -update, the states that tests without swtpm read:
// of a furnished TPM, cold and suspended, and in swtpm's envelopes.
func TestFixtures(t *testing.T) {
	if !*update {
		t.Skip("with -args -update it writes testdata")
	}
	write := func(name string, b []byte) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := startTheirs(t)
	furnish(t, s.Client)
	var sequence tpm2.HashSequenceStartResponse
	s.must(t, &tpm2.HashSequenceStart{HashAlg: tpm2.AlgNull}, &sequence)
	s.must(t, &tpm2.SequenceUpdate{SequenceHandle: sequence.SequenceHandle, Buffer: []byte("half of it")}, nil, client.Entity{Handle: sequence.SequenceHandle})
	if _, err := s.CreatePrimary(platform, client.SigningTemplate(client.RSA2048)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.StartSession(client.SessionConfig{Type: tpm2.SEPolicy, Hash: tpm2.AlgSHA256}); err != nil {
		t.Fatal(err)
	}
	control, err := tpmsock.DialControl(s.process.Control)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	if err := control.Store(); err != nil {
		t.Fatal(err)
	}
	const parser, files = "../../tpm2/internal/libtpms/testdata/", "../../internal/vtpm/testdata/swtpm/"
	write(parser+"permanent-0.9.2.bin", s.state(t, "permall"))
	write(parser+"volatile-0.9.2.bin", s.state(t, "volatilestate"))
	for _, name := range []string{"tpm2-00.permall", "tpm2-00.volatilestate"} {
		b, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		write(files+"clear/"+name, b)
	}
	s.must(t, &tpm2.Shutdown{ShutdownType: tpm2.SUState}, nil)
	write(parser+"permanent-0.9.2-sleeping.bin", s.state(t, "permall"))
	for name, key := range map[string]string{
		"aes128": "mode=aes-128-cbc,format=binary,file=", "aes256": "mode=aes-256-cbc,format=binary,file=", "passphrase": "mode=aes-256-cbc,pwdfile=",
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "key")
		write(file, map[string][]byte{"aes128": bytes.Repeat([]byte{7}, 16), "aes256": bytes.Repeat([]byte{7}, 32), "passphrase": []byte("correct horse\n")}[name])
		p, err := tpmsock.Start(dir, "swtpm", "socket", "--key", key+file)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := tpmsock.Dial(p.Data)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Send([]byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0}); err != nil { // once it answers, its state is there
			t.Fatal(err)
		}
		conn.Close()
		p.Stop()
		b, err := os.ReadFile(filepath.Join(dir, "tpm2-00.permall"))
		if err != nil {
			t.Fatal(err)
		}
		write(files+name+"/tpm2-00.permall", b)
	}
}
