package engine

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	encoding "encoding/asn1"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// eccDecryption is an unrestricted key for secrets.
func eccDecryption() tpm2.TPMTPublic {
	pub := signP256()
	pub.ObjectAttributes = pub.ObjectAttributes&^tpm2.SignEncrypt | tpm2.Decrypt
	pub.Parameters.ECCDetail.Scheme = tpm2.TPMTECCScheme{Scheme: tpm2.AlgNull}
	return pub
}

func TestPhysicalPresence(t *testing.T) {
	b := newBench(t)
	pp := &tpm2.PPCommands{Auth: tpm2.RHPlatform, SetList: []tpm2.CC{tpm2.CCClear, tpm2.CCSign}}
	b.refused(tpm2.RCPP.Session(1), pp)
	b.tpm.PhysicalPresence(true)
	b.ok(pp, nil)
	var r tpm2.GetCapabilityResponse
	b.ok(&tpm2.GetCapability{Capability: tpm2.CapPPCommands, PropertyCount: 100}, &r)
	if got := r.CapabilityData.Data.PPCommands; len(got) != 2 || got[0] != tpm2.CCClear || got[1] != tpm2.CCPPCommands {
		t.Errorf("commands that want presence: %x", got)
	}
	b.tpm.PhysicalPresence(false)
	b.refused(tpm2.RCPP.Session(1), &tpm2.Clear{AuthHandle: tpm2.RHPlatform})
	b.ok(&tpm2.Clear{AuthHandle: tpm2.RHLockout}, nil) // by another authorization it needs nobody there
	b.powerCycle(tpm2.SUClear)
	b.refused(tpm2.RCPP.Session(1), &tpm2.Clear{AuthHandle: tpm2.RHPlatform})
	b.tpm.PhysicalPresence(true)
	b.ok(&tpm2.Clear{AuthHandle: tpm2.RHPlatform}, nil)
	b.ok(&tpm2.PPCommands{Auth: tpm2.RHPlatform, ClearList: []tpm2.CC{tpm2.CCClear, tpm2.CCPPCommands}}, nil)
	b.tpm.PhysicalPresence(false)
	b.ok(&tpm2.Clear{AuthHandle: tpm2.RHPlatform}, nil)
	b.refused(tpm2.RCPP.Session(1), &tpm2.PPCommands{Auth: tpm2.RHPlatform})

	// In a policy it is looked at when the policy is used.
	run := used(list1(presence), list1(presence), func(b *bench) { b.tpm.PhysicalPresence(true) })
	if rc := run(b); rc != tpm2.RCSuccess {
		t.Errorf("a policy with presence: %v", rc)
	}
}

func TestPCRAuthorization(t *testing.T) {
	b := newBench(t)
	b.loc = 2
	b.refused(tpm2.RCValue, &tpm2.PCRSetAuthValue{PCRHandle: 16, Auth: []byte("pw")})
	b.ok(&tpm2.PCRSetAuthValue{PCRHandle: 21, Auth: []byte("pw")}, nil)
	b.refused(tpm2.RCBadAuth.Session(1), extendPCR(20)) // the group shares it
	b.ok(extendPCR(20), nil, []byte("pw"))
	b.loc = 0
	b.ok(&tpm2.Shutdown{ShutdownType: tpm2.SUState}, nil)
	b.powerCycle(tpm2.SUState)
	b.loc = 2
	b.refused(tpm2.RCBadAuth.Session(1), extendPCR(20))
	b.loc = 0
	b.powerCycle(tpm2.SUClear)
	b.loc = 2
	b.ok(extendPCR(20), nil)
	b.loc = 0

	policy := &tpm2.PCRSetAuthPolicy{AuthHandle: tpm2.RHPlatform, AuthPolicy: make([]byte, 32), HashAlg: tpm2.AlgSHA256, PCRNum: 16}
	b.refused(tpm2.RCValue.Param(3), policy)
	policy.PCRNum, policy.HashAlg = 20, tpm2.AlgSHA384
	b.refused(tpm2.RCSize.Param(1), policy)
	policy.HashAlg = tpm2.AlgSHA256
	b.ok(policy, nil)
	b.powerCycle(tpm2.SUClear) // the policy stays
	s := b.session(tpm2.SEPolicy)
	b.loc = 2
	if rc := b.raw(withSession(extendPCR(22), s), nil); rc != tpm2.RCSuccess { // zeros are a fresh session's digest
		t.Errorf("extend with a policy: %v", rc)
	}
	b.loc = 0
	b.ok(&tpm2.ChangePPS{AuthHandle: tpm2.RHPlatform}, nil)
	b.loc = 2
	if rc := b.raw(withSession(extendPCR(22), b.session(tpm2.SEPolicy)), nil); rc != tpm2.RCPolicyFail.Session(1) {
		t.Errorf("after ChangePPS: %v", rc)
	}
	b.loc = 0
	b.ok(&tpm2.SetAlgorithmSet{AuthHandle: tpm2.RHPlatform, AlgorithmSet: 7}, nil)
	b.powerCycle(tpm2.SUClear)
	var r tpm2.GetCapabilityResponse
	b.ok(&tpm2.GetCapability{Capability: tpm2.CapTPMProperties, Property: uint32(tpm2.PTAlgorithmSet), PropertyCount: 1}, &r)
	if got := r.CapabilityData.Data.TPMProperties[0].Value; got != 7 {
		t.Errorf("algorithm set %d", got)
	}
}

// The classical set is all but ML-KEM and ML-DSA, wherever an algorithm can be named.
func TestClassicalSet(t *testing.T) {
	b := newBench(t)
	algorithms := func() (out []tpm2.AlgID) {
		var r tpm2.GetCapabilityResponse
		b.ok(&tpm2.GetCapability{Capability: tpm2.CapAlgs, PropertyCount: 1000}, &r)
		for _, a := range r.CapabilityData.Data.Algorithms {
			out = append(out, a.Alg)
		}
		return out
	}
	sets := func() uint32 {
		var r tpm2.GetCapabilityResponse
		b.ok(&tpm2.GetCapability{Capability: tpm2.CapTPMProperties, Property: uint32(tpm2.PTMLParameterSets), PropertyCount: 1}, &r)
		return r.CapabilityData.Data.TPMProperties[0].Value
	}
	all := algorithms()
	choose := &tpm2.SetAlgorithmSet{AuthHandle: tpm2.RHPlatform, AlgorithmSet: ClassicalSet}
	b.refused(tpm2.RCValue.Handle(1), &tpm2.SetAlgorithmSet{AuthHandle: tpm2.RHOwner, AlgorithmSet: ClassicalSet})
	b.ok(choose, nil)
	b.powerCycle(tpm2.SUClear)
	if want := slices.DeleteFunc(slices.Clone(all), func(a tpm2.AlgID) bool { return a == tpm2.AlgMLKEM || a == tpm2.AlgMLDSA }); !slices.Equal(algorithms(), want) || len(want) != len(all)-2 {
		t.Errorf("algorithms %x", algorithms())
	}
	if sets() != 0 {
		t.Errorf("parameter sets 0x%x", sets())
	}
	for _, pub := range []template{mlkemStorage(tpm2.MLKEM768), mldsaSigning(tpm2.MLDSA44)} {
		b.refused(tpm2.RCType.Param(2), &tpm2.CreatePrimary{PrimaryHandle: tpm2.RHOwner, InPublic: pub})
		b.refused(tpm2.RCType.Param(2), &tpm2.CreateLoaded{ParentHandle: tpm2.RHOwner, InPublic: tpm2.Marshal(&pub)})
		b.refused(tpm2.RCType.Param(1), &tpm2.TestParms{Parameters: tpm2.TPMTPublicParms{Type: pub.Type, Parameters: pub.Parameters}})
		b.refused(tpm2.RCValue.Param(1), &tpm2.IncrementalSelfTest{ToTest: []tpm2.AlgID{pub.Type}})
	}
	choose.AlgorithmSet = 0
	b.ok(choose, nil)
	if !slices.Equal(algorithms(), all) || sets() == 0 {
		t.Errorf("all again: %x", algorithms())
	}
	b.primary(tpm2.RHOwner, mlkemStorage(tpm2.MLKEM768))

	cfg := b.config()
	cfg.Store, cfg.AlgorithmSet = nil, ClassicalSet
	b.tpm = must(Manufacture(cfg))
	b.ok(&tpm2.Startup{}, nil)
	if sets() != 0 {
		t.Error("made classical, it is not")
	}
}

func TestPolicyCapability(t *testing.T) {
	b := newBench(t)
	for _, tt := range []struct {
		name string
		cmd  tpm2.PolicyCapability
		want tpm2.RC
	}{
		{"the revision", tpm2.PolicyCapability{Capability: tpm2.CapTPMProperties, Property: uint32(tpm2.PTRevision), Offset: 4, OperandB: []byte{0, 0, 0, specVersion}}, tpm2.RCSuccess},
		{"another revision", tpm2.PolicyCapability{Capability: tpm2.CapTPMProperties, Property: uint32(tpm2.PTRevision), Offset: 4, OperandB: []byte{0, 0, 0, 1}}, tpm2.RCPolicy},
		{"an algorithm", tpm2.PolicyCapability{Capability: tpm2.CapAlgs, Property: uint32(tpm2.AlgSHA256), OperandB: []byte{0, 0x0b}}, tpm2.RCSuccess},
		{"an absent algorithm", tpm2.PolicyCapability{Capability: tpm2.CapAlgs, Property: uint32(tpm2.AlgSM3256), OperandB: []byte{0, 0x12}}, tpm2.RCPolicy},
		{"an absent algorithm is not there", tpm2.PolicyCapability{Capability: tpm2.CapAlgs, Property: uint32(tpm2.AlgSM3256), Operation: tpm2.EONeq}, tpm2.RCSuccess},
		{"an absent handle", tpm2.PolicyCapability{Capability: tpm2.CapHandles, Property: 0x81000001, OperandB: []byte{0x81}}, tpm2.RCPolicy},
		{"a handle of no space", tpm2.PolicyCapability{Capability: tpm2.CapHandles, Property: 0x7f000001, Operation: tpm2.EONeq}, tpm2.RCSuccess},
		{"all PCRs", tpm2.PolicyCapability{Capability: tpm2.CapPCRs}, tpm2.RCValue.Param(4)},
		{"no capability", tpm2.PolicyCapability{Capability: 99}, tpm2.RCValue.Param(4)},
		{"offset outside", tpm2.PolicyCapability{Capability: tpm2.CapAlgs, Property: uint32(tpm2.AlgSHA256), Offset: 7}, tpm2.RCValue.Param(2)},
		{"past the end", tpm2.PolicyCapability{Capability: tpm2.CapAlgs, Property: uint32(tpm2.AlgSHA256), Offset: 5, OperandB: []byte{0, 0}}, tpm2.RCSize.Param(1)},
	} {
		tt.cmd.PolicySession = b.session(tpm2.SEPolicy)
		if got := b.do(&tt.cmd, nil); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
		b.ok(&tpm2.FlushContext{FlushHandle: tt.cmd.PolicySession}, nil)
	}
}

func TestZGen2Phase(t *testing.T) {
	b := newBench(t)
	key := b.primary(tpm2.RHOwner, eccDecryption())
	peer := func() (*ecdh.PrivateKey, tpm2.TPMSECCPoint) {
		k := must(ecdh.P256().GenerateKey(rand.Reader))
		return k, pointOf(k.PublicKey().Bytes())
	}
	static, qs := peer()
	ephemeral, qe := peer()
	var e tpm2.ECEphemeralResponse
	b.ok(&tpm2.ECEphemeral{CurveID: tpm2.ECCNISTP256}, &tpm2.ECEphemeralResponse{})
	b.ok(&tpm2.ECEphemeral{CurveID: tpm2.ECCNISTP256}, &e)
	b.ok(&tpm2.ECEphemeral{CurveID: tpm2.ECCNISTP384}, &tpm2.ECEphemeralResponse{})
	z := &tpm2.ZGen2Phase{KeyA: key.ObjectHandle, InQsB: qs, InQeB: qe, InScheme: tpm2.AlgECDH, Counter: e.Counter}
	var r tpm2.ZGen2PhaseResponse
	b.ok(z, &r)
	zs := must(static.ECDH(must2(ecPoint(tpm2.ECCNISTP256, &key.OutPublic.Unique.ECC))))
	ze := must(ephemeral.ECDH(must2(ecPoint(tpm2.ECCNISTP256, &e.Q))))
	if !bytes.Equal(zs, r.OutZ1.X) || !bytes.Equal(ze, r.OutZ2.X) {
		t.Error("the two sides do not agree")
	}
	b.refused(tpm2.RCValue.Param(4), z) // once only
	z.Counter = 999
	b.refused(tpm2.RCValue.Param(4), z)
	z.InScheme = tpm2.AlgECMQV
	b.refused(tpm2.RCScheme.Param(3), z)
}

func must2[T any](v T, rc tpm2.RC) T {
	if rc != tpm2.RCSuccess {
		panic(rc)
	}
	return v
}

func TestECCEncrypt(t *testing.T) {
	b := newBench(t)
	key := b.primary(tpm2.RHOwner, eccDecryption()).ObjectHandle
	kdf2 := tpm2.TPMTKDFScheme{Scheme: tpm2.AlgKDF2, Details: tpm2.TPMUKDFScheme{Any: tpm2.TPMSSchemeHash{HashAlg: tpm2.AlgSHA256}}}
	for _, n := range []int{0, 1, 32, 33, 1024} {
		plain := bytes.Repeat([]byte{0x5a}, n)
		var c tpm2.ECCEncryptResponse
		b.ok(&tpm2.ECCEncrypt{KeyHandle: key, PlainText: plain, InScheme: kdf2}, &c)
		var p tpm2.ECCDecryptResponse
		d := &tpm2.ECCDecrypt{KeyHandle: key, C1: c.C1, C2: c.C2, C3: c.C3, InScheme: kdf2}
		b.ok(d, &p)
		if !bytes.Equal(p.PlainText, plain) {
			t.Errorf("%d octets do not come back", n)
		}
		c.C3[0] ^= 1
		b.refused(tpm2.RCValue.Param(3), d)
	}
	b.refused(tpm2.RCScheme.Param(2), &tpm2.ECCEncrypt{KeyHandle: key, InScheme: noKDF})
	b.refused(tpm2.RCAttributes.Handle(1), &tpm2.ECCDecrypt{KeyHandle: b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle, InScheme: kdf2})
}

func TestNVPublic2(t *testing.T) {
	b := newBench(t)
	d := define(ownerRW, 8)
	b.ok(&tpm2.NVDefineSpace2{AuthHandle: tpm2.RHOwner, PublicInfo: tpm2.TPMTNVPublic2{HandleType: tpm2.HTNVIndex,
		PublicArea: tpm2.TPMUNVPublic2{NVIndex: d.PublicInfo}}}, nil)
	var one tpm2.NVReadPublicResponse
	var two tpm2.NVReadPublic2Response
	b.ok(&tpm2.NVReadPublic{NVIndex: testIndex}, &one)
	b.ok(&tpm2.NVReadPublic2{NVIndex: testIndex}, &two)
	if !bytes.Equal(one.NVName, two.NVName) || two.NVPublic.PublicArea.NVIndex.DataSize != 8 {
		t.Errorf("two public areas: %+v, %+v", one, two)
	}
	b.refused(tpm2.RCNVDefined, &tpm2.NVDefineSpace2{AuthHandle: tpm2.RHOwner, PublicInfo: tpm2.TPMTNVPublic2{HandleType: tpm2.HTNVIndex,
		PublicArea: tpm2.TPMUNVPublic2{NVIndex: d.PublicInfo}}})
	b.refused(tpm2.RCSelector.Param(2), &tpm2.NVDefineSpace2{AuthHandle: tpm2.RHOwner, PublicInfo: tpm2.TPMTNVPublic2{HandleType: 0x11}})
}

// partialCertificate is what a caller gives to TPM2_CertifyX509.
func partialCertificate(usage byte, attributes tpm2.ObjectAttributes) []byte {
	name := must(encoding.Marshal(pkix.Name{CommonName: "test"}.ToRDNSequence()))
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(name)
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1UTCTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
			b.AddASN1UTCTime(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC))
		})
		b.AddBytes(name)
		b.AddASN1(asn1.Tag(3).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				add := func(oid encoding.ObjectIdentifier, bits []byte) {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(oid)
						b.AddASN1(asn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1BitString(bits) })
					})
				}
				add(oidKeyUsage, []byte{usage})
				if attributes != 0 {
					add(oidTPMAObject, []byte{byte(attributes >> 24), byte(attributes >> 16), byte(attributes >> 8), byte(attributes)})
				}
			})
		})
	})
	return b.BytesOrPanic()
}

// certificate puts the caller's parts and the TPM's together, as every user of the command does.
func certificate(t *testing.T, caller, added []byte, sig *tpm2.TPMTSignature) *x509.Certificate {
	t.Helper()
	p, ok := parsePartial(caller)
	in := cryptobyte.String(added)
	var all, version, serial, alg, spki cryptobyte.String
	if !ok || !in.ReadASN1(&all, asn1.SEQUENCE) || !all.ReadASN1Element(&version, asn1.Tag(0).ContextSpecific().Constructed()) ||
		!all.ReadASN1Element(&serial, asn1.INTEGER) || !all.ReadASN1Element(&alg, asn1.SEQUENCE) || !all.ReadASN1Element(&spki, asn1.SEQUENCE) {
		t.Fatalf("addedToCertificate: %x", added)
	}
	value := sig.Signature.RSA.Sig
	if sig.SigAlg == tpm2.AlgECDSA {
		var b cryptobyte.Builder
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, v := range [][]byte{sig.Signature.ECC.SignatureR, sig.Signature.ECC.SignatureS} {
				b.AddASN1(asn1.INTEGER, func(b *cryptobyte.Builder) {
					for len(v) > 1 && v[0] == 0 {
						v = v[1:]
					}
					if v[0]&0x80 != 0 {
						b.AddUint8(0)
					}
					b.AddBytes(v)
				})
			}
		})
		value = b.BytesOrPanic()
	}
	var bits cryptobyte.Builder
	bits.AddASN1BitString(value)
	tbs := sequenceOf(version, serial, alg, p.names, spki, p.extensions)
	c, err := x509.ParseCertificate(sequenceOf(tbs, alg, bits.BytesOrPanic()))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCertifyX509(t *testing.T) {
	b := newBench(t)
	pss, ssa := rsaStorage(), rsaStorage()
	all(drop(tpm2.Decrypt|tpm2.Restricted), set(tpm2.SignEncrypt), noCipher, rsaScheme(tpm2.AlgRSAPSS))(&pss)
	all(drop(tpm2.Decrypt|tpm2.Restricted), set(tpm2.SignEncrypt), noCipher, rsaScheme(tpm2.AlgRSASSA))(&ssa)
	subject := b.primary(tpm2.RHOwner, signP256())
	for name, pub := range map[string]tpm2.TPMTPublic{"ECDSA": eccSigning(tpm2.ECCNISTP384, tpm2.AlgSHA384), "RSAPSS": pss, "RSASSA": ssa} {
		ca := b.primary(tpm2.RHOwner, pub)
		caller := partialCertificate(0xc0, subject.OutPublic.ObjectAttributes)
		cmd := &tpm2.CertifyX509{ObjectHandle: subject.ObjectHandle, SignHandle: ca.ObjectHandle, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull}, PartialCertificate: caller}
		var r tpm2.CertifyX509Response
		b.ok(cmd, &r)
		c := certificate(t, caller, r.AddedToCertificate, &r.Signature)
		var spki cryptobyte.Builder
		addPublicKey(&spki, &ca.OutPublic)
		issuer := &x509.Certificate{Version: 3, BasicConstraintsValid: true, IsCA: true, PublicKeyAlgorithm: x509.RSA, PublicKey: must(x509.ParsePKIXPublicKey(spki.BytesOrPanic()))}
		if pub.Type == tpm2.AlgECC {
			issuer.PublicKeyAlgorithm = x509.ECDSA
		}
		if err := c.CheckSignatureFrom(issuer); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		b.ok(&tpm2.FlushContext{FlushHandle: ca.ObjectHandle}, nil)
	}
	key := subject.ObjectHandle
	for _, tt := range []struct {
		name    string
		partial []byte
		want    tpm2.RC
	}{
		{"a key that signs said to agree on keys", partialCertificate(0x08, 0), tpm2.RCAttributes.Handle(1)},
		{"other attributes", partialCertificate(0x80, tpm2.Decrypt), tpm2.RCAttributes.Handle(1)},
		{"nothing", nil, tpm2.RCValue.Param(3)},
		{"cut", partialCertificate(0x80, 0)[:40], tpm2.RCValue.Param(3)},
		{"octet left over", append(partialCertificate(0x80, 0), 0), tpm2.RCValue.Param(3)},
	} {
		got := b.do(&tpm2.CertifyX509{ObjectHandle: key, SignHandle: key, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull}, PartialCertificate: tt.partial}, nil)
		if got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// FuzzPartialCertificate: what is taken apart is a SEQUENCE of its parts.
func FuzzPartialCertificate(f *testing.F) {
	f.Add(partialCertificate(0x80, tpm2.Decrypt))
	f.Fuzz(func(t *testing.T, in []byte) {
		p, ok := parsePartial(in)
		if !ok {
			return
		}
		if got := sequenceOf(p.algorithm, p.names, p.extensions); !bytes.Equal(got, in) {
			t.Errorf("%x was taken apart into %x", in, got)
		}
		checkExtensions(p.extensions, tpm2.SignEncrypt)
	})
}
