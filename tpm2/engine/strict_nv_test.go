package engine

import "github.com/vouchsafe/vouchsafe/tpm2"

const testIndex tpm2.Handle = 0x01500001

// define makes an index by the owner, or by the platform with TPMA_NV_PLATFORMCREATE.
func define(a tpm2.NVAttributes, size uint16) *tpm2.NVDefineSpace {
	h := tpm2.RHOwner
	if a.Has(tpm2.NVPlatformCreate) {
		h = tpm2.RHPlatform
	}
	return &tpm2.NVDefineSpace{AuthHandle: h, PublicInfo: tpm2.TPMSNVPublic{NVIndex: testIndex, NameAlg: tpm2.AlgSHA256, Attributes: a, DataSize: size}}
}

const (
	ownerRW  = tpm2.NVOwnerRead | tpm2.NVOwnerWrite
	authRW   = tpm2.NVAuthRead | tpm2.NVAuthWrite
	platform = tpm2.NVPlatformCreate | tpm2.NVPPRead | tpm2.NVPPWrite
)

// after defines an index and runs the commands; the answer to the last one is the rule.
func after(d *tpm2.NVDefineSpace, cmds ...tpm2.Command) func(*bench) tpm2.RC {
	return func(b *bench) tpm2.RC {
		b.t.Helper()
		b.ok(d, nil)
		for _, c := range cmds[:len(cmds)-1] {
			b.ok(c, nil)
		}
		return b.do(cmds[len(cmds)-1], nil)
	}
}

func nvWrite(by tpm2.Handle, n int, offset uint16) *tpm2.NVWrite {
	return &tpm2.NVWrite{AuthHandle: by, NVIndex: testIndex, Data: make([]byte, n), Offset: offset}
}

func nvRead(by tpm2.Handle, n, offset uint16) *tpm2.NVRead {
	return &tpm2.NVRead{AuthHandle: by, NVIndex: testIndex, Size: n, Offset: offset}
}

func nvIncrement(by tpm2.Handle) *tpm2.NVIncrement {
	return &tpm2.NVIncrement{AuthHandle: by, NVIndex: testIndex}
}

// readAfter writes an orderly index of a type, shuts down, starts and reads it.
func readAfter(typ tpm2.NVType, down, up tpm2.SU) func(*bench) tpm2.RC {
	return func(b *bench) tpm2.RC {
		b.ok(define(ownerRW.With(typ)|tpm2.NVOrderly, 8), nil)
		if typ == tpm2.NTCounter {
			b.ok(nvIncrement(tpm2.RHOwner), nil)
		} else {
			b.ok(nvWrite(tpm2.RHOwner, 8, 0), nil)
		}
		b.ok(&tpm2.Shutdown{ShutdownType: down}, nil)
		b.powerCycle(up)
		return b.do(nvRead(tpm2.RHOwner, 8, 0), nil)
	}
}

func withPolicy(d *tpm2.NVDefineSpace, n int) *tpm2.NVDefineSpace {
	d.PublicInfo.AuthPolicy = make([]byte, n)
	return d
}

var nvRules = []rule{
	// attributes at definition
	{name: "nobody reads", cite: "Part 3, 31.3.1", want: tpm2.RCAttributes.Param(2), run: always(define(tpm2.NVOwnerWrite, 8))},
	{name: "nobody writes", cite: "Part 3, 31.3.1", want: tpm2.RCAttributes.Param(2), run: always(define(tpm2.NVOwnerRead, 8))},
	{name: "written at definition", cite: "Part 3, 31.3.1", want: tpm2.RCAttributes.Param(2), run: always(define(ownerRW|tpm2.NVWritten, 8))},
	{name: "write-locked at definition", cite: "Part 3, 31.3.1", want: tpm2.RCAttributes.Param(2), run: always(define(ownerRW|tpm2.NVWriteLocked, 8))},
	{name: "read-locked at definition", cite: "Part 3, 31.3.1", want: tpm2.RCAttributes.Param(2), run: always(define(ownerRW|tpm2.NVReadLocked, 8))},
	{name: "unknown type", cite: "Part 2, 13.2", want: tpm2.RCAttributes.Param(2), run: always(define(ownerRW.With(3), 8))},
	{name: "reserved attribute", cite: "Part 2, 13.4", want: tpm2.RCReservedBits.Param(2), run: always(define(ownerRW|1<<8, 8))},
	{name: "counter of 7 octets", cite: "Part 3, 31.3.1", want: tpm2.RCSize.Param(2), run: always(define(ownerRW.With(tpm2.NTCounter), 7))},
	{name: "bits of 9 octets", cite: "Part 3, 31.3.1", want: tpm2.RCSize.Param(2), run: always(define(ownerRW.With(tpm2.NTBits), 9))},
	{name: "extend of the wrong size", cite: "Part 3, 31.3.1", want: tpm2.RCSize.Param(2), run: always(define(ownerRW.With(tpm2.NTExtend), 20))},
	{name: "PIN fail of the wrong size", cite: "Part 3, 31.3.1", want: tpm2.RCSize.Param(2), run: always(define((ownerRW | tpm2.NVNoDA).With(tpm2.NTPinFail), 4))},
	{name: "PIN that its own value may write", cite: "Part 3, 31.3.1", want: tpm2.RCAttributes.Param(2), run: always(define((ownerRW | tpm2.NVNoDA | tpm2.NVAuthWrite).With(tpm2.NTPinFail), 8))},
	{name: "PIN with a global lock", cite: "Part 3, 31.3.1", want: tpm2.RCAttributes.Param(2), run: always(define((ownerRW | tpm2.NVNoDA | tpm2.NVGlobalLock).With(tpm2.NTPinPass), 8))},
	{name: "PIN written once", cite: "Part 3, 31.3.1", want: tpm2.RCAttributes.Param(2), run: always(define((ownerRW | tpm2.NVNoDA | tpm2.NVWriteDefine).With(tpm2.NTPinPass), 8))},
	{name: "PIN fail under DA", cite: "Part 3, 31.3.1", want: tpm2.RCAttributes.Param(2), run: always(define(ownerRW.With(tpm2.NTPinFail), 8))},
	{name: "counter cleared at start", cite: "Part 3, 31.3.1", want: tpm2.RCAttributes.Param(2), run: always(define((ownerRW | tpm2.NVClearSTClear).With(tpm2.NTCounter), 8))},
	{name: "cleared at start and written once", cite: "Part 3, 31.3.1", want: tpm2.RCAttributes.Param(2), run: always(define(ownerRW|tpm2.NVClearSTClear|tpm2.NVWriteDefine, 8))},
	{name: "platform's by the owner", cite: "Part 3, 31.3.1", want: tpm2.RCAttributes.Handle(1), run: func(b *bench) tpm2.RC {
		d := define(platform, 8)
		d.AuthHandle = tpm2.RHOwner
		return b.do(d, nil)
	}},
	{name: "owner's by the platform", cite: "Part 3, 31.3.1", want: tpm2.RCAttributes.Handle(1), run: func(b *bench) tpm2.RC {
		d := define(ownerRW, 8)
		d.AuthHandle = tpm2.RHPlatform
		return b.do(d, nil)
	}},
	{name: "policy delete by the owner", cite: "Part 3, 31.3.1", want: tpm2.RCAttributes.Param(2), run: always(withPolicy(define(ownerRW|tpm2.NVPolicyDelete, 8), 32))},
	{name: "policy of the wrong size", cite: "Part 3, 31.3.2", want: tpm2.RCSize.Param(2), run: always(withPolicy(define(ownerRW, 8), 20))},
	{name: "authValue over nameAlg", cite: "Part 3, 31.3.2", want: tpm2.RCSize.Param(1), run: func(b *bench) tpm2.RC {
		d := define(ownerRW, 8)
		d.Auth = make([]byte, 33)
		d.Auth[32] = 1
		return b.do(d, nil)
	}},
	{name: "data over the limit", cite: "Part 3, 31.3.2", want: tpm2.RCSize.Param(2), run: always(define(ownerRW, 2049))},
	{name: "write-all over the buffer", cite: "Part 3, 31.3.1", want: tpm2.RCSize.Param(2), run: always(define(ownerRW|tpm2.NVWriteAll, 1025))},
	{name: "defined twice", cite: "Part 3, 31.3.2", want: tpm2.RCNVDefined, run: after(define(ownerRW, 8), define(ownerRW, 8))},
	{name: "while the platform's NV is off", cite: "Part 3, 31.3.2", want: tpm2.RCHierarchy.Handle(1), run: func(b *bench) tpm2.RC {
		b.ok(&tpm2.HierarchyControl{AuthHandle: tpm2.RHPlatform, Enable: tpm2.RHPlatformNV}, nil)
		return b.do(define(platform, 8), nil)
	}},
	// use
	{name: "read before written", cite: "Part 3, 31.13.2", want: tpm2.RCNVUninitialized, run: after(define(ownerRW, 8), nvRead(tpm2.RHOwner, 8, 0))},
	{name: "read past the end", cite: "Part 3, 31.13.2", want: tpm2.RCNVRange, run: after(define(ownerRW, 8), nvWrite(tpm2.RHOwner, 8, 0), nvRead(tpm2.RHOwner, 8, 1))},
	{name: "read more than a buffer", cite: "Part 3, 31.13.2", want: tpm2.RCValue.Param(1), run: after(define(ownerRW, 2048), nvWrite(tpm2.RHOwner, 8, 0), nvRead(tpm2.RHOwner, 1025, 0))},
	{name: "read at an offset outside", cite: "Part 3, 31.13.2", want: tpm2.RCValue.Param(2), run: after(define(ownerRW, 8), nvWrite(tpm2.RHOwner, 8, 0), nvRead(tpm2.RHOwner, 0, 9))},
	{name: "write past the end", cite: "Part 3, 31.7.2", want: tpm2.RCNVRange, run: after(define(ownerRW, 8), nvWrite(tpm2.RHOwner, 8, 1))},
	{name: "write at an offset outside", cite: "Part 3, 31.7.2", want: tpm2.RCValue.Param(2), run: after(define(ownerRW, 8), nvWrite(tpm2.RHOwner, 0, 9))},
	{name: "write the limit of a PIN index alone", cite: "Part 1, 34.2.6.6", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		b.ok(define(ownerRW|pinPass|tpm2.NVAuthRead|tpm2.NVNoDA, 8), nil)
		if rc := b.do(&tpm2.NVWrite{AuthHandle: tpm2.RHOwner, NVIndex: testIndex, Data: []byte{0, 0, 0, 3}, Offset: 4}, nil); rc != tpm2.RCSuccess {
			return rc
		}
		var r tpm2.NVReadResponse
		b.ok(nvRead(tpm2.RHOwner, 8, 0), &r)
		if want := string([]byte{0, 0, 0, 0, 0, 0, 0, 3}); string(r.Data) != want {
			b.t.Errorf("got %x, want %x", r.Data, want)
		}
		return tpm2.RCSuccess
	}},
	{name: "write a part of write-all", cite: "Part 3, 31.7.2", want: tpm2.RCNVRange, run: after(define(ownerRW|tpm2.NVWriteAll, 8), nvWrite(tpm2.RHOwner, 4, 0))},
	{name: "owner without OWNERWRITE", cite: "Part 3, 31.1", want: tpm2.RCNVAuthorization, run: after(define(authRW, 8), nvWrite(tpm2.RHOwner, 8, 0))},
	{name: "owner without OWNERREAD", cite: "Part 3, 31.1", want: tpm2.RCNVAuthorization, run: after(define(authRW, 8), nvRead(tpm2.RHOwner, 8, 0))},
	{name: "platform without PPREAD", cite: "Part 3, 31.1", want: tpm2.RCNVAuthorization, run: after(define(authRW, 8), nvRead(tpm2.RHPlatform, 8, 0))},
	{name: "index without AUTHWRITE", cite: "Part 3, 31.1", want: tpm2.RCAuthUnavailable, run: after(define(ownerRW, 8), nvWrite(testIndex, 8, 0))},
	{name: "index without AUTHREAD", cite: "Part 3, 31.1", want: tpm2.RCAuthUnavailable, run: after(define(ownerRW, 8), nvRead(testIndex, 8, 0))},
	{name: "index by another index", cite: "Part 3, 31.1", want: tpm2.RCNVAuthorization, run: func(b *bench) tpm2.RC {
		other := define(authRW, 8)
		other.PublicInfo.NVIndex++
		b.ok(other, nil)
		return after(define(authRW, 8), nvWrite(testIndex+1, 8, 0))(b)
	}},
	{name: "increment an ordinary index", cite: "Part 3, 31.8.2", want: tpm2.RCAttributes.Handle(2), run: after(define(ownerRW, 8), nvIncrement(tpm2.RHOwner))},
	{name: "extend an ordinary index", cite: "Part 3, 31.9.2", want: tpm2.RCAttributes.Handle(2), run: after(define(ownerRW, 8), &tpm2.NVExtend{AuthHandle: tpm2.RHOwner, NVIndex: testIndex})},
	{name: "set bits of an ordinary index", cite: "Part 3, 31.10.2", want: tpm2.RCAttributes.Handle(2), run: after(define(ownerRW, 8), &tpm2.NVSetBits{AuthHandle: tpm2.RHOwner, NVIndex: testIndex})},
	{name: "write a counter", cite: "Part 3, 31.7.2", want: tpm2.RCAttributes.Handle(2), run: after(define(ownerRW.With(tpm2.NTCounter), 8), nvWrite(tpm2.RHOwner, 8, 0)),
		libtpms: tpm2.RCAttributes, because: "it does not say which handle"},
	{name: "write bits", cite: "Part 3, 31.7.2", want: tpm2.RCAttributes.Handle(2), run: after(define(ownerRW.With(tpm2.NTBits), 8), nvWrite(tpm2.RHOwner, 8, 0)),
		libtpms: tpm2.RCAttributes, because: "it does not say which handle"},
	// locks
	{name: "write lock without an attribute", cite: "Part 3, 31.11.2", want: tpm2.RCAttributes.Handle(2), run: after(define(ownerRW, 8), &tpm2.NVWriteLock{AuthHandle: tpm2.RHOwner, NVIndex: testIndex})},
	{name: "read lock without an attribute", cite: "Part 3, 31.14.2", want: tpm2.RCAttributes.Handle(2), run: after(define(ownerRW, 8), &tpm2.NVReadLock{AuthHandle: tpm2.RHOwner, NVIndex: testIndex})},
	{name: "write when locked", cite: "Part 3, 31.7.2", want: tpm2.RCNVLocked, run: after(define(ownerRW|tpm2.NVWriteSTClear, 8), nvWrite(tpm2.RHOwner, 8, 0), &tpm2.NVWriteLock{AuthHandle: tpm2.RHOwner, NVIndex: testIndex}, nvWrite(tpm2.RHOwner, 8, 0))},
	{name: "lock twice", cite: "Part 3, 31.11.1", want: tpm2.RCSuccess, run: after(define(ownerRW|tpm2.NVWriteSTClear, 8), &tpm2.NVWriteLock{AuthHandle: tpm2.RHOwner, NVIndex: testIndex}, &tpm2.NVWriteLock{AuthHandle: tpm2.RHOwner, NVIndex: testIndex})},
	{name: "read when locked", cite: "Part 3, 31.13.2", want: tpm2.RCNVLocked, run: after(define(ownerRW|tpm2.NVReadSTClear, 8), nvWrite(tpm2.RHOwner, 8, 0), &tpm2.NVReadLock{AuthHandle: tpm2.RHOwner, NVIndex: testIndex}, nvRead(tpm2.RHOwner, 8, 0))},
	{name: "write after the global lock", cite: "Part 3, 31.12.1", want: tpm2.RCNVLocked, run: after(define(ownerRW|tpm2.NVGlobalLock, 8), nvWrite(tpm2.RHOwner, 8, 0), &tpm2.NVGlobalWriteLock{AuthHandle: tpm2.RHOwner}, nvWrite(tpm2.RHOwner, 8, 0))},
	{name: "written once for ever", cite: "Part 1, 34.2.6", want: tpm2.RCNVLocked, run: func(b *bench) tpm2.RC {
		after(define(ownerRW|tpm2.NVWriteDefine, 8), nvWrite(tpm2.RHOwner, 8, 0), &tpm2.NVWriteLock{AuthHandle: tpm2.RHOwner, NVIndex: testIndex})(b)
		b.powerCycle(tpm2.SUClear)
		return b.do(nvWrite(tpm2.RHOwner, 8, 0), nil)
	}},
	{name: "lock until the next start", cite: "Part 2, 13.4", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		after(define(ownerRW|tpm2.NVWriteSTClear, 8), nvWrite(tpm2.RHOwner, 8, 0), &tpm2.NVWriteLock{AuthHandle: tpm2.RHOwner, NVIndex: testIndex})(b)
		b.powerCycle(tpm2.SUClear)
		return b.do(nvWrite(tpm2.RHOwner, 8, 0), nil)
	}},
	{name: "orderly after Shutdown(CLEAR)", cite: "Part 3, 9.3.1", want: tpm2.RCNVUninitialized, run: readAfter(tpm2.NTOrdinary, tpm2.SUClear, tpm2.SUClear)},
	{name: "orderly after a restart", cite: "Part 3, 9.3.1", want: tpm2.RCSuccess, run: readAfter(tpm2.NTOrdinary, tpm2.SUState, tpm2.SUClear)},
	{name: "orderly after a resume", cite: "Part 3, 9.3.1", want: tpm2.RCSuccess, run: readAfter(tpm2.NTOrdinary, tpm2.SUState, tpm2.SUState)},
	{name: "orderly, locked with WRITEDEFINE, after a reset", cite: "Part 3, 9.3.1", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		b.ok(define(ownerRW|tpm2.NVOrderly|tpm2.NVWriteDefine, 8), nil)
		b.ok(nvWrite(tpm2.RHOwner, 8, 0), nil)
		b.ok(&tpm2.NVWriteLock{AuthHandle: tpm2.RHOwner, NVIndex: testIndex}, nil)
		b.powerCycle(tpm2.SUClear) // what it held is gone, and so is the lock
		return b.do(nvWrite(tpm2.RHOwner, 8, 0), nil)
	}},
	{name: "orderly counter after Shutdown(CLEAR)", cite: "Part 3, 9.3.1", want: tpm2.RCSuccess, run: readAfter(tpm2.NTCounter, tpm2.SUClear, tpm2.SUClear)},
	{name: "cleared at start", cite: "Part 2, 13.4", want: tpm2.RCNVUninitialized, run: func(b *bench) tpm2.RC {
		after(define(ownerRW|tpm2.NVClearSTClear, 8), nvWrite(tpm2.RHOwner, 8, 0))(b)
		b.powerCycle(tpm2.SUClear)
		return b.do(nvRead(tpm2.RHOwner, 8, 0), nil)
	}},
	// the end
	{name: "undefine what a policy deletes", cite: "Part 3, 31.4.2", want: tpm2.RCAttributes.Handle(2), run: after(withPolicy(define(platform|tpm2.NVPolicyDelete, 8), 32), &tpm2.NVUndefineSpace{AuthHandle: tpm2.RHPlatform, NVIndex: testIndex})},
	{name: "undefine the platform's as owner", cite: "Part 3, 31.4.2", want: tpm2.RCNVAuthorization, run: after(define(platform, 8), &tpm2.NVUndefineSpace{AuthHandle: tpm2.RHOwner, NVIndex: testIndex})},
	{name: "undefine specially with a password", cite: "Part 3, 31.5.1", want: tpm2.RCAuthType, run: after(define(platform, 8), &tpm2.NVUndefineSpaceSpecial{NVIndex: testIndex, Platform: tpm2.RHPlatform})},
	{name: "change the authValue with a password", cite: "Part 3, 31.15.1", want: tpm2.RCAuthType, run: after(define(authRW, 8), &tpm2.NVChangeAuth{NVIndex: testIndex})},
	// PIN
	{name: "PIN before it is written", cite: "Part 1, 34.2.7", want: tpm2.RCAuthUnavailable, run: after(define((ownerRW|tpm2.NVNoDA|tpm2.NVAuthRead).With(tpm2.NTPinFail), 8), nvRead(testIndex, 8, 0))},
	{name: "PIN pass used up", cite: "Part 1, 34.2.7", want: tpm2.RCAuthUnavailable, run: func(b *bench) tpm2.RC {
		b.ok(define((ownerRW|tpm2.NVNoDA|tpm2.NVAuthRead).With(tpm2.NTPinPass), 8), nil)
		b.ok(&tpm2.NVWrite{AuthHandle: tpm2.RHOwner, NVIndex: testIndex, Data: []byte{0, 0, 0, 0, 0, 0, 0, 1}}, nil)
		b.ok(nvRead(testIndex, 8, 0), nil)
		return b.do(nvRead(testIndex, 8, 0), nil)
	}},
}
