package engine

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// seeds are one well-formed command of every kind, as the tools would send it.
func seeds() (out [][]byte) {
	for _, info := range tpm2.Infos() {
		c := info.NewCommand()
		h := make([]tpm2.Handle, len(info.Handles))
		for i, x := range info.Handles {
			switch {
			case x.Type.Allows(tpm2.RHOwner, false):
				h[i] = tpm2.RHOwner
			case x.Type.Allows(tpm2.RHPlatform, false):
				h[i] = tpm2.RHPlatform
			case x.Type.Allows(tpm2.TransientFirst, false):
				h[i] = tpm2.TransientFirst
			case x.Type.Allows(tpm2.PolicySessionFirst, false):
				h[i] = tpm2.PolicySessionFirst
			case x.Type.Allows(0x01500001, false):
				h[i] = 0x01500001
			}
		}
		c.SetHandles(h)
		out = append(out, marshal(c))
	}
	srk := eccStorage()
	out = append(out, marshal(&tpm2.CreatePrimary{PrimaryHandle: tpm2.RHOwner, InPublic: srk}),
		marshal(&tpm2.StartAuthSession{TPMKey: tpm2.RHNull, Bind: tpm2.RHNull, NonceCaller: make([]byte, 16), SessionType: tpm2.SEPolicy,
			Symmetric: tpm2.TPMTSymDef{Algorithm: tpm2.AlgXOR, KeyBits: tpm2.TPMUSymKeyBits{XOR: tpm2.AlgSHA256}}, AuthHash: tpm2.AlgSHA256}),
		marshal(&tpm2.NVDefineSpace{AuthHandle: tpm2.RHOwner, PublicInfo: tpm2.TPMSNVPublic{NVIndex: 0x1500001, NameAlg: tpm2.AlgSHA256,
			Attributes: tpm2.NVAuthRead | tpm2.NVAuthWrite, DataSize: 32}}),
		marshal(&tpm2.CreatePrimary{PrimaryHandle: tpm2.RHOwner, InPublic: mldsaSigning(tpm2.MLDSA44)}),
		marshal(&tpm2.CreatePrimary{PrimaryHandle: tpm2.RHOwner, InPublic: mlkemStorage(tpm2.MLKEM768)}),
		withSession(&tpm2.Unseal{ItemHandle: tpm2.TransientFirst}, tpm2.PolicySessionFirst))
	return out
}

// checkResponse verifies that a response is well formed.
func checkResponse(t *testing.T, cmd, rsp []byte) tpm2.RC {
	t.Helper()
	if len(rsp) < headerSize || len(rsp) > MaxCommandSize || int(binary.BigEndian.Uint32(rsp[2:])) != len(rsp) {
		t.Fatalf("command %x: malformed response %x", cmd, rsp)
	}
	rc := tpm2.RC(binary.BigEndian.Uint32(rsp[6:]))
	if rc == tpm2.RCFailure {
		t.Fatalf("command %x: failure mode", cmd)
	}
	return rc
}

// slow commands make RSA keys; a fuzzer learns nothing from the wait.
func slow(cmd []byte) bool {
	if len(cmd) < headerSize {
		return false
	}
	switch tpm2.CC(binary.BigEndian.Uint32(cmd[6:])) {
	case tpm2.CCCreate, tpm2.CCCreatePrimary, tpm2.CCCreateLoaded:
		return bytes.Contains(cmd[headerSize:], []byte{0, byte(tpm2.AlgRSA)})
	}
	return false
}

// FuzzExecute: no bytes crash the TPM, and a command that fails leaves the
// non-volatile state as it was (but for counted authorization failures).
func FuzzExecute(f *testing.F) {
	for _, s := range seeds() {
		f.Add(uint8(0), s)
	}
	b := newBench(f)
	b.primary(tpm2.RHOwner, eccStorage())
	state, volatile := b.tpm.Permanent(), must(b.tpm.Volatile())
	f.Fuzz(func(t *testing.T, locality uint8, cmd []byte) {
		if slow(cmd) {
			return
		}
		tpm, err := PowerOn(Config{Clock: func() time.Duration { return 0 }}, state)
		if err != nil {
			t.Fatal(err)
		}
		if err := tpm.Resume(volatile); err != nil {
			t.Fatal(err)
		}
		rc := checkResponse(t, cmd, tpm.Execute(locality%5, cmd, nil))
		if base := rc.Base(); rc != tpm2.RCSuccess && base != tpm2.RCAuthFail && base != tpm2.RCBadAuth {
			if got := tpm.Permanent(); !bytes.Equal(got, state) && tpm.nv.orderly == orderlyClear {
				t.Errorf("command %x failed with %v and changed the state", cmd, rc)
			}
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// FuzzSequence runs several commands, with power cycles, suspends and time
// between them. Input: for each step an octet (what to do), then a sized command.
func FuzzSequence(f *testing.F) {
	var all []byte
	for _, s := range seeds() {
		all = append(all, 0)
		all = binary.BigEndian.AppendUint16(all, uint16(len(s)))
		all = append(all, s...)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, in []byte) {
		b := newBench(t)
		for steps := 0; len(in) >= 3 && steps < 32; steps++ {
			what, n := in[0], int(binary.BigEndian.Uint16(in[1:]))
			in = in[3:]
			n = min(n, len(in))
			cmd := in[:n]
			in = in[n:]
			if slow(cmd) {
				continue
			}
			switch what % 8 {
			case 1: // power cycle
				tpm, err := PowerOn(b.config(), b.store.state)
				if err != nil {
					t.Fatal(err)
				}
				b.tpm = tpm
				b.do(&tpm2.Startup{StartupType: tpm2.SU(what >> 7)}, nil)
			case 2: // suspend and resume
				v, err := b.tpm.Volatile()
				if err != nil {
					t.Fatal(err)
				}
				tpm, err := PowerOn(b.config(), b.tpm.Permanent())
				if err != nil {
					t.Fatal(err)
				}
				if err := tpm.Resume(v); err != nil {
					t.Fatal(err)
				}
				b.tpm = tpm
			case 3:
				b.now += time.Duration(what) * time.Minute
			case 4:
				b.tpm.HashStart()
				b.tpm.HashData(cmd)
				b.tpm.HashEnd()
			}
			checkResponse(t, cmd, b.tpm.Execute(what>>5%5, cmd, nil))
		}
	})
}

// FuzzState: what is accepted as a state is written again the same.
func FuzzState(f *testing.F) {
	b := newBench(f)
	b.primary(tpm2.RHOwner, eccStorage())
	b.ok(&tpm2.Shutdown{ShutdownType: tpm2.SUState}, nil)
	f.Add(body(b.tpm.Permanent()), true)
	f.Add(body(must(b.tpm.Volatile())), false)
	f.Fuzz(func(t *testing.T, in []byte, permanent bool) {
		blob := sealBlob(in) // with the right digest, so that the fuzzer gets past it
		if permanent {
			nv, err := decodePermanent(blob)
			if err == nil && !bytes.Equal(encodePermanent(nv), blob) {
				t.Errorf("state %x is written again as %x", blob, encodePermanent(nv))
			}
			return
		}
		tpm := newTPM(Config{})
		tpm.nv = tpm.manufacture()
		if tpm.Resume(blob) == nil {
			if _, err := tpm.Volatile(); err != nil {
				t.Error(err)
			}
			checkResponse(t, nil, tpm.Execute(0, marshal(&tpm2.GetCapability{Capability: tpm2.CapHandles, Property: 0x80000000, PropertyCount: 8}), nil))
		}
	})
}

// FuzzPrivate: nothing but what the TPM made loads, and nothing crashes it.
func FuzzPrivate(f *testing.F) {
	b := newBench(f)
	srk := b.primary(tpm2.RHOwner, eccStorage())
	pub := sealed()
	var c tpm2.CreateResponse
	b.ok(&tpm2.Create{ParentHandle: srk.ObjectHandle, InPublic: pub, InSensitive: tpm2.TPMSSensitiveCreate{Data: []byte("x")}}, &c)
	good := tpm2.Marshal(&c.OutPublic)
	f.Add(c.OutPrivate, good)
	f.Fuzz(func(t *testing.T, private, public []byte) {
		b := b.in(t)
		var p tpm2.TPMTPublic
		if tpm2.Unmarshal(public, &p) != nil {
			return
		}
		var l tpm2.LoadResponse
		rc := b.do(&tpm2.Load{ParentHandle: srk.ObjectHandle, InPrivate: private, InPublic: p}, &l)
		if rc != tpm2.RCSuccess {
			return
		}
		b.ok(&tpm2.FlushContext{FlushHandle: l.ObjectHandle}, nil)
		if !bytes.Equal(private, c.OutPrivate) || !bytes.Equal(public, good) {
			t.Errorf("a private area that this TPM did not make was loaded")
		}
	})
}

// FuzzContext: the same for contexts.
func FuzzContext(f *testing.F) {
	b := newBench(f)
	srk := b.primary(tpm2.RHOwner, eccStorage())
	var s tpm2.ContextSaveResponse
	b.ok(&tpm2.ContextSave{SaveHandle: srk.ObjectHandle}, &s)
	good := tpm2.Marshal(&s.Context)
	f.Add(good)
	f.Fuzz(func(t *testing.T, in []byte) {
		b := b.in(t)
		var x tpm2.TPMSContext
		if tpm2.Unmarshal(in, &x) != nil {
			return
		}
		var l tpm2.ContextLoadResponse
		if b.do(&tpm2.ContextLoad{Context: x}, &l) != tpm2.RCSuccess {
			return
		}
		b.ok(&tpm2.FlushContext{FlushHandle: l.LoadedHandle}, nil)
		if !bytes.Equal(in, good) {
			t.Error("a context that this TPM did not make was loaded")
		}
	})
}

// in is the same TPM in another test.
func (b *bench) in(t testing.TB) *bench {
	c := *b
	c.t = t
	return &c
}

// body is a state blob without its digest; sealBlob puts the right one back.
func body(blob []byte) []byte { return blob[:len(blob)-32] }
