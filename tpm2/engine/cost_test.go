package engine

import (
	"runtime"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// What the commands that come most often may cost: nothing on the heap.
func TestNoAllocations(t *testing.T) {
	sel := func(n int) []tpm2.TPMSPCRSelection {
		var out []tpm2.TPMSPCRSelection
		for _, alg := range bankAlgs[:n] {
			out = append(out, tpm2.TPMSPCRSelection{Hash: alg, PCRSelect: []byte{0xff, 0, 0}})
		}
		return out
	}
	extend := &tpm2.PCRExtend{PCRHandle: 10}
	for _, alg := range bankAlgs {
		extend.Digests = append(extend.Digests, tpm2.TPMTHA{HashAlg: alg, Digest: make([]byte, alg.DigestSize())})
	}
	for name, cmd := range map[string][]byte{
		"GetRandom":                    marshal(&tpm2.GetRandom{BytesRequested: 32}),
		"PCR_Extend":                   marshal(extendPCR(10)),
		"PCR_Extend of four banks":     marshal(extend),
		"PCR_Read":                     marshal(&tpm2.PCRRead{PCRSelectionIn: sel(1)}),
		"PCR_Read of four banks":       marshal(&tpm2.PCRRead{PCRSelectionIn: sel(4)}),
		"PCR_Read of nothing":          marshal(&tpm2.PCRRead{}),
		"PCR_Extend that is refused":   marshal(extendPCR(17)),
		"a command that does not come": {0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0},
	} {
		b := newBench(t)
		out := make([]byte, 0, MaxCommandSize)
		if n := testing.AllocsPerRun(1000, func() { b.tpm.Execute(0, cmd, out) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestIdleMemory measures what an instance holds after real use: keys made and
// used, data sealed, PCRs extended, an NV index, a saved session.
func TestIdleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 1,000 TPMs")
	}
	const instances, most = 1000, 100 << 10
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	all := make([]*TPM, instances)
	before := heap()
	for i := range all {
		b := &bench{t: t}
		b.tpm = must(Manufacture(Config{}))
		b.ok(&tpm2.Startup{}, nil)
		for n := range tpm2.Handle(10) {
			b.ok(extendPCR(n), nil)
		}
		srk := b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle
		key := b.child(srk, signP256(), nil, nil)
		b.ok(signCommand(key, 32), nil)
		b.ok(&tpm2.Unseal{ItemHandle: b.child(srk, sealed(), nil, []byte("secret"))}, nil)
		b.ok(&tpm2.EvictControl{Auth: tpm2.RHOwner, ObjectHandle: srk, PersistentHandle: 0x81000001}, nil)
		b.ok(define(ownerRW, 1024), nil)
		b.ok(nvWrite(tpm2.RHOwner, 1024, 0), nil)
		b.ok(&tpm2.ContextSave{SaveHandle: b.session(tpm2.SEHMAC)}, nil)
		all[i] = b.tpm
	}
	each := (heap() - before) / instances
	t.Logf("%d octets of heap each", each)
	if each > most {
		t.Errorf("%d octets each, at most %d are allowed", each, most)
	}
	runtime.KeepAlive(all)
}
