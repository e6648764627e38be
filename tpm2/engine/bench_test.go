package engine

import (
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// The cost of a command inside the process, without a socket around it.
// test/bench compares whole processes.

func (b *bench) run(tb *testing.B, cmd []byte) {
	tb.Helper()
	out := make([]byte, 0, MaxCommandSize)
	tb.ReportAllocs()
	for tb.Loop() {
		if rsp := b.tpm.Execute(0, cmd, out); rsp[9] != 0 || rsp[8] != 0 {
			tb.Fatalf("%x", rsp)
		}
	}
}

func BenchmarkGetRandom(tb *testing.B) {
	newBench(tb).run(tb, marshal(&tpm2.GetRandom{BytesRequested: 32}))
}

func BenchmarkPCRExtend(tb *testing.B) {
	newBench(tb).run(tb, marshal(&tpm2.PCRExtend{PCRHandle: 16, Digests: []tpm2.TPMTHA{{HashAlg: tpm2.AlgSHA256, Digest: make([]byte, 32)}}}))
}

func BenchmarkPCRRead(tb *testing.B) {
	newBench(tb).run(tb, marshal(&tpm2.PCRRead{PCRSelectionIn: []tpm2.TPMSPCRSelection{{Hash: tpm2.AlgSHA256, PCRSelect: []byte{0xff, 0, 0}}}}))
}

func BenchmarkSignP256(tb *testing.B) {
	b := newBench(tb)
	srk := b.primary(tpm2.RHOwner, eccStorage())
	key := b.child(srk.ObjectHandle, eccSigning(tpm2.ECCNISTP256, tpm2.AlgSHA256), nil, nil)
	b.run(tb, marshal(&tpm2.Sign{KeyHandle: key, Digest: make([]byte, 32), InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull},
		Validation: tpm2.TPMTTkHashCheck{Tag: tpm2.STHashCheck, Hierarchy: tpm2.RHNull}}))
}

func BenchmarkQuoteP256(tb *testing.B) {
	b := newBench(tb)
	srk := b.primary(tpm2.RHOwner, eccStorage())
	key := b.child(srk.ObjectHandle, eccSigning(tpm2.ECCNISTP256, tpm2.AlgSHA256), nil, nil)
	b.run(tb, marshal(&tpm2.Quote{SignHandle: key, QualifyingData: make([]byte, 32), InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull},
		PCRSelect: []tpm2.TPMSPCRSelection{{Hash: tpm2.AlgSHA256, PCRSelect: []byte{0xff, 0, 0}}}}))
}

func benchmarkPrimary(tb *testing.B, pub tpm2.TPMTPublic) {
	b := newBench(tb)
	tb.ReportAllocs()
	n := byte(0)
	for tb.Loop() {
		n++
		pub.AuthPolicy = make([]byte, 32) // another key each time
		pub.AuthPolicy[0] = n
		p := b.primary(tpm2.RHOwner, pub)
		b.tpm.flushObject(p.ObjectHandle)
	}
}

func BenchmarkCreatePrimaryP256(tb *testing.B)    { benchmarkPrimary(tb, eccStorage()) }
func BenchmarkCreatePrimaryRSA2048(tb *testing.B) { benchmarkPrimary(tb, rsaStorage()) }

func BenchmarkNVWrite(tb *testing.B) {
	b := newBench(tb)
	b.ok(&tpm2.NVDefineSpace{AuthHandle: tpm2.RHOwner, PublicInfo: tpm2.TPMSNVPublic{NVIndex: 0x1500001, NameAlg: tpm2.AlgSHA256,
		Attributes: tpm2.NVOwnerRead | tpm2.NVOwnerWrite, DataSize: 64}}, nil)
	b.run(tb, marshal(&tpm2.NVWrite{AuthHandle: tpm2.RHOwner, NVIndex: 0x1500001, Data: make([]byte, 64)}))
}

func BenchmarkUnseal(tb *testing.B) {
	b := newBench(tb)
	srk := b.primary(tpm2.RHOwner, eccStorage())
	b.run(tb, marshal(&tpm2.Unseal{ItemHandle: b.child(srk.ObjectHandle, sealed(), nil, []byte("secret"))}))
}

func BenchmarkNVRead(tb *testing.B) {
	b := newBench(tb)
	b.ok(&tpm2.NVDefineSpace{AuthHandle: tpm2.RHOwner, PublicInfo: tpm2.TPMSNVPublic{NVIndex: 0x1500001, NameAlg: tpm2.AlgSHA256,
		Attributes: tpm2.NVOwnerRead | tpm2.NVOwnerWrite, DataSize: 64}}, nil)
	b.ok(&tpm2.NVWrite{AuthHandle: tpm2.RHOwner, NVIndex: 0x1500001, Data: make([]byte, 64)}, nil)
	b.run(tb, marshal(&tpm2.NVRead{AuthHandle: tpm2.RHOwner, NVIndex: 0x1500001, Size: 64}))
}

// A session, a policy of PCRs in it, and the session's end.
func BenchmarkPolicyPCR(tb *testing.B) {
	b := newBench(tb)
	start := marshal(&tpm2.StartAuthSession{TPMKey: tpm2.RHNull, Bind: tpm2.RHNull, NonceCaller: make([]byte, 16), SessionType: tpm2.SEPolicy,
		Symmetric: tpm2.TPMTSymDef{Algorithm: tpm2.AlgNull}, AuthHash: tpm2.AlgSHA256})
	session := b.session(tpm2.SEPolicy)
	b.ok(&tpm2.FlushContext{FlushHandle: session}, nil)
	policy := marshal(&tpm2.PolicyPCR{PolicySession: session, PCRs: []tpm2.TPMSPCRSelection{{Hash: tpm2.AlgSHA256, PCRSelect: []byte{0xff, 0, 0}}}})
	flush := marshal(&tpm2.FlushContext{FlushHandle: session})
	out := make([]byte, 0, MaxCommandSize)
	tb.ReportAllocs()
	for tb.Loop() {
		for _, cmd := range [][]byte{start, policy, flush} {
			if rsp := b.tpm.Execute(0, cmd, out); rsp[9] != 0 || rsp[8] != 0 {
				tb.Fatalf("%x", rsp)
			}
		}
	}
}

func BenchmarkContextSave(tb *testing.B) {
	b := newBench(tb)
	srk := b.primary(tpm2.RHOwner, eccStorage())
	b.run(tb, marshal(&tpm2.ContextSave{SaveHandle: srk.ObjectHandle}))
}
