package engine

import (
	"time"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

var hierarchyRules = []rule{
	{name: "owner switches the platform off", cite: "Part 3, 24.2.1", want: tpm2.RCAuthType, run: always(&tpm2.HierarchyControl{AuthHandle: tpm2.RHOwner, Enable: tpm2.RHPlatform})},
	{name: "owner switches the endorsement hierarchy off", cite: "Part 3, 24.2.1", want: tpm2.RCAuthType, run: always(&tpm2.HierarchyControl{AuthHandle: tpm2.RHOwner, Enable: tpm2.RHEndorsement})},
	{name: "owner switches itself on, which it is", cite: "Part 3, 24.2.1", want: tpm2.RCSuccess, run: always(&tpm2.HierarchyControl{AuthHandle: tpm2.RHOwner, Enable: tpm2.RHOwner, State: tpm2.Yes})},
	{name: "owner switches itself off", cite: "Part 3, 24.2.1", want: tpm2.RCSuccess, run: always(&tpm2.HierarchyControl{AuthHandle: tpm2.RHOwner, Enable: tpm2.RHOwner})},
	{name: "platform NV by the owner", cite: "Part 3, 24.2.1", want: tpm2.RCAuthType, run: always(&tpm2.HierarchyControl{AuthHandle: tpm2.RHOwner, Enable: tpm2.RHPlatformNV})},
	{name: "enable of lockout", cite: "Part 2, 9.14", want: tpm2.RCValue.Param(1), run: always(&tpm2.HierarchyControl{AuthHandle: tpm2.RHPlatform, Enable: tpm2.RHLockout})},
	{name: "enable of NULL", cite: "Part 3, 24.2.2", want: tpm2.RCValue.Param(1), run: always(&tpm2.HierarchyControl{AuthHandle: tpm2.RHPlatform, Enable: tpm2.RHNull})},
	{name: "objects of a hierarchy that is off", cite: "Part 3, 24.2.1", want: tpm2.RCReferenceH0, run: func(b *bench) tpm2.RC {
		o := b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle
		b.ok(&tpm2.HierarchyControl{AuthHandle: tpm2.RHPlatform, Enable: tpm2.RHOwner}, nil)
		return b.do(&tpm2.ReadPublic{ObjectHandle: o}, nil)
	}},
	{name: "load into a hierarchy that is off", cite: "Part 3, 12.3.2", want: tpm2.RCHierarchy.Param(3), run: func(b *bench) tpm2.RC {
		pub := b.primary(tpm2.RHOwner, signP256()).OutPublic
		b.ok(&tpm2.HierarchyControl{AuthHandle: tpm2.RHPlatform, Enable: tpm2.RHOwner}, nil)
		return b.do(&tpm2.LoadExternal{InPublic: pub, Hierarchy: tpm2.RHOwner}, nil)
	}},
	{name: "context of a hierarchy that is off", cite: "Part 3, 28.3.2", want: tpm2.RCHierarchy.Param(1), run: func(b *bench) tpm2.RC {
		var s tpm2.ContextSaveResponse
		b.ok(&tpm2.ContextSave{SaveHandle: b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle}, &s)
		b.ok(&tpm2.HierarchyControl{AuthHandle: tpm2.RHPlatform, Enable: tpm2.RHOwner}, nil)
		return b.do(&tpm2.ContextLoad{Context: s.Context}, nil)
	}},
	{name: "context after clear", cite: "Part 3, 24.6.1; Part 1, 27.3", want: tpm2.RCIntegrity.Param(1), run: func(b *bench) tpm2.RC {
		var s tpm2.ContextSaveResponse
		b.ok(&tpm2.ContextSave{SaveHandle: b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle}, &s)
		b.ok(&tpm2.Clear{AuthHandle: tpm2.RHPlatform}, nil)
		return b.do(&tpm2.ContextLoad{Context: s.Context}, nil)
	}},
	{name: "clear by the owner", cite: "Part 2, 9.21", want: tpm2.RCValue.Handle(1), run: always(&tpm2.Clear{AuthHandle: tpm2.RHOwner})},
	{name: "clear when forbidden", cite: "Part 3, 24.6.2", want: tpm2.RCDisabled, run: func(b *bench) tpm2.RC {
		b.ok(&tpm2.ClearControl{Auth: tpm2.RHLockout, Disable: tpm2.Yes}, nil)
		return b.do(&tpm2.Clear{AuthHandle: tpm2.RHPlatform}, nil)
	}},
	{name: "lockout permits to clear", cite: "Part 3, 24.7.1", want: tpm2.RCAuthFail, run: always(&tpm2.ClearControl{Auth: tpm2.RHLockout})},
	{name: "policy of the wrong size", cite: "Part 3, 24.3.2", want: tpm2.RCSize.Param(1), run: always(&tpm2.SetPrimaryPolicy{AuthHandle: tpm2.RHOwner, AuthPolicy: make([]byte, 20), HashAlg: tpm2.AlgSHA256})},
	{name: "policy without a hash", cite: "Part 3, 24.3.2", want: tpm2.RCSize.Param(1), run: always(&tpm2.SetPrimaryPolicy{AuthHandle: tpm2.RHOwner, AuthPolicy: make([]byte, 32), HashAlg: tpm2.AlgNull})},
	{name: "no policy", cite: "Part 3, 24.3.1", want: tpm2.RCSuccess, run: always(&tpm2.SetPrimaryPolicy{AuthHandle: tpm2.RHOwner, HashAlg: tpm2.AlgNull})},
	{name: "policy session where there is no policy", cite: "Part 3, 5.6", want: tpm2.RCAuthUnavailable, run: func(b *bench) tpm2.RC {
		return b.raw(with(&tpm2.ClearControl{Auth: tpm2.RHPlatform}, authEntry(b.session(tpm2.SEPolicy), nil, tpm2.ContinueSession, nil)), nil)
	}},
}

// cycle shuts down in a way (or not), cuts power, and starts in a way at a locality.
func cycle(down any, up tpm2.SU, locality uint8) func(*bench) tpm2.RC {
	return func(b *bench) tpm2.RC {
		if su, ok := down.(tpm2.SU); ok {
			b.ok(&tpm2.Shutdown{ShutdownType: su}, nil)
		}
		b.powerOff()
		b.loc = locality
		return b.do(&tpm2.Startup{StartupType: up}, nil)
	}
}

// counts are resetCount and restartCount.
func (b *bench) counts() (reset, restart uint32) {
	b.t.Helper()
	var r tpm2.ReadClockResponse
	b.ok(&tpm2.ReadClock{}, &r)
	return r.CurrentTime.ClockInfo.ResetCount, r.CurrentTime.ClockInfo.RestartCount
}

// counted runs a cycle and checks what it counts (Part 1, 9.2.3).
func counted(down any, up tpm2.SU, reset, restart uint32) func(*bench) tpm2.RC {
	return func(b *bench) tpm2.RC {
		r0, s0 := b.counts()
		if rc := cycle(down, up, 0)(b); rc != tpm2.RCSuccess {
			return rc
		}
		if r, s := b.counts(); r-r0 != reset || s-s0 != restart {
			b.t.Errorf("resetCount %d to %d, restartCount %d to %d", r0, r, s0, s)
		}
		return tpm2.RCSuccess
	}
}

// overtaken runs a command of an ECDAA key, which has made a commitment, after
// TPM2_Shutdown(STATE), and tries to resume.
func (b *bench) overtaken(by func(key tpm2.Handle, counter uint16) tpm2.Command) tpm2.RC {
	b.t.Helper()
	key := b.primary(tpm2.RHOwner, anonymousKey(tpm2.ECCNISTP256)).ObjectHandle
	var c tpm2.CommitResponse
	b.ok(&tpm2.Commit{SignHandle: key}, &c)
	b.ok(&tpm2.Shutdown{ShutdownType: tpm2.SUState}, nil)
	b.ok(by(key, c.Counter), nil)
	b.powerOff()
	return b.do(&tpm2.Startup{StartupType: tpm2.SUState}, nil)
}

var startupRules = []rule{
	{name: "twice", cite: "Part 3, 9.3.1", want: tpm2.RCInitialize, run: always(&tpm2.Startup{})},
	{name: "nothing before it", cite: "Part 3, 5.3", want: tpm2.RCInitialize, run: func(b *bench) tpm2.RC {
		b.powerOff()
		rc := b.do(getRandom8, nil)
		b.ok(&tpm2.Startup{}, nil)
		return rc
	}},
	{name: "of no kind", cite: "Part 2, 6.10", want: tpm2.RCValue.Param(1), run: func(b *bench) tpm2.RC {
		b.powerOff()
		return b.do(&tpm2.Startup{StartupType: 2}, nil)
	}},
	{name: "with a session", cite: "Part 3, 9.3.1", want: tpm2.RCAuthContext, run: func(b *bench) tpm2.RC {
		b.powerOff()
		return b.raw(with(&tpm2.Startup{}, noPassword), nil)
	}},
	{name: "shutdown none, start CLEAR: reset", cite: "Part 1, 9.2.3", want: tpm2.RCSuccess, run: counted(nil, tpm2.SUClear, 1, 0)},
	{name: "shutdown none, start STATE", cite: "Part 3, 9.3.2", want: tpm2.RCValue.Param(1), run: cycle(nil, tpm2.SUState, 0)},
	{name: "shutdown CLEAR, start CLEAR: reset", cite: "Part 1, 9.2.3", want: tpm2.RCSuccess, run: counted(tpm2.SUClear, tpm2.SUClear, 1, 0)},
	{name: "shutdown CLEAR, start STATE", cite: "Part 3, 9.3.2", want: tpm2.RCValue.Param(1), run: cycle(tpm2.SUClear, tpm2.SUState, 0)},
	{name: "shutdown STATE, start CLEAR: restart", cite: "Part 1, 9.2.3", want: tpm2.RCSuccess, run: counted(tpm2.SUState, tpm2.SUClear, 0, 1)},
	{name: "shutdown STATE, start STATE: resume", cite: "Part 1, 9.2.3", want: tpm2.RCSuccess, run: counted(tpm2.SUState, tpm2.SUState, 0, 1)},
	{name: "locality 1", cite: "Part 3, 9.3.2", want: tpm2.RCLocality, run: cycle(nil, tpm2.SUClear, 1)},
	{name: "locality 3", cite: "Part 3, 9.3.1", want: tpm2.RCSuccess, run: cycle(nil, tpm2.SUClear, 3)},
	{name: "locality 4", cite: "Part 3, 9.3.2", want: tpm2.RCLocality, run: cycle(nil, tpm2.SUClear, 4)},
	{name: "resume at another locality", cite: "Part 3, 9.3.1", want: tpm2.RCLocality, run: cycle(tpm2.SUState, tpm2.SUState, 3)},
	{name: "shutdown overtaken by an extend", cite: "Part 3, 9.4.1", want: tpm2.RCValue.Param(1), run: func(b *bench) tpm2.RC {
		b.ok(&tpm2.Shutdown{ShutdownType: tpm2.SUState}, nil)
		b.ok(extendPCR(0), nil)
		b.powerOff()
		return b.do(&tpm2.Startup{StartupType: tpm2.SUState}, nil)
	}},
	// A commitment that came back would be used for two messages, and two signatures give the key away.
	{name: "shutdown overtaken by a commitment", cite: "Part 1, 44.2.2", want: tpm2.RCValue.Param(1), run: func(b *bench) tpm2.RC {
		return b.overtaken(func(key tpm2.Handle, _ uint16) tpm2.Command { return &tpm2.Commit{SignHandle: key} })
	}},
	{name: "shutdown overtaken by a signature that spends a commitment", cite: "Part 1, 44.2.5", want: tpm2.RCValue.Param(1), run: func(b *bench) tpm2.RC {
		return b.overtaken(func(key tpm2.Handle, n uint16) tpm2.Command { return signECDAA(key, n) })
	}},
	{name: "shutdown overtaken by an attestation that spends a commitment", cite: "Part 1, 44.2.5", want: tpm2.RCValue.Param(1), run: func(b *bench) tpm2.RC {
		return b.overtaken(func(key tpm2.Handle, n uint16) tpm2.Command {
			return &tpm2.GetTime{PrivacyAdminHandle: tpm2.RHEndorsement, SignHandle: key, InScheme: ecdaa(n)}
		})
	}},
	{name: "PCRs after a resume", cite: "Part 1, 14.2", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		b.ok(extendPCR(0), nil)
		before := b.pcr(0)
		b.ok(&tpm2.Shutdown{ShutdownType: tpm2.SUState}, nil)
		b.powerCycle(tpm2.SUState)
		if string(b.pcr(0)) != string(before) {
			b.t.Error("PCR 0 is lost")
		}
		return tpm2.RCSuccess
	}},
	{name: "PCRs after a restart", cite: "Part 1, 14.2", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		b.ok(extendPCR(0), nil)
		b.ok(&tpm2.Shutdown{ShutdownType: tpm2.SUState}, nil)
		b.powerCycle(tpm2.SUClear)
		if string(b.pcr(0)) != string(make([]byte, 32)) {
			b.t.Error("PCR 0 is not fresh")
		}
		return tpm2.RCSuccess
	}},
	{name: "platform authorization after a reset", cite: "Part 1, 9.3", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		b.ok(&tpm2.HierarchyChangeAuth{AuthHandle: tpm2.RHPlatform, NewAuth: []byte("pw")}, nil)
		b.powerCycle(tpm2.SUClear)
		return b.do(&tpm2.HierarchyChangeAuth{AuthHandle: tpm2.RHPlatform}, nil)
	}},
	{name: "platform authorization after a resume", cite: "Part 1, 9.3", want: tpm2.RCBadAuth.Session(1), run: func(b *bench) tpm2.RC {
		b.ok(&tpm2.HierarchyChangeAuth{AuthHandle: tpm2.RHPlatform, NewAuth: []byte("pw")}, nil)
		b.ok(&tpm2.Shutdown{ShutdownType: tpm2.SUState}, nil)
		b.powerCycle(tpm2.SUState)
		return b.do(&tpm2.HierarchyChangeAuth{AuthHandle: tpm2.RHPlatform}, nil)
	}},
	{name: "owner authorization after a reset", cite: "Part 1, 10.2", want: tpm2.RCBadAuth.Session(1), run: func(b *bench) tpm2.RC {
		b.ok(&tpm2.HierarchyChangeAuth{AuthHandle: tpm2.RHOwner, NewAuth: []byte("pw")}, nil)
		b.powerCycle(tpm2.SUClear)
		return b.do(&tpm2.HierarchyChangeAuth{AuthHandle: tpm2.RHOwner}, nil)
	}},
	{name: "saved session after a reset", cite: "Part 1, 27.5", want: tpm2.RCIntegrity.Param(1), run: func(b *bench) tpm2.RC {
		var s tpm2.ContextSaveResponse
		b.ok(&tpm2.ContextSave{SaveHandle: b.session(tpm2.SEHMAC)}, &s)
		b.powerCycle(tpm2.SUClear)
		return b.do(&tpm2.ContextLoad{Context: s.Context}, nil)
	}},
	{name: "saved session after a restart", cite: "Part 1, 27.5", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		var s tpm2.ContextSaveResponse
		b.ok(&tpm2.ContextSave{SaveHandle: b.session(tpm2.SEHMAC)}, &s)
		b.ok(&tpm2.Shutdown{ShutdownType: tpm2.SUState}, nil)
		b.powerCycle(tpm2.SUClear)
		return b.do(&tpm2.ContextLoad{Context: s.Context}, nil)
	}},
	{name: "saved object after a reset", cite: "Part 1, 27.4", want: tpm2.RCIntegrity.Param(1), run: func(b *bench) tpm2.RC {
		var s tpm2.ContextSaveResponse
		b.ok(&tpm2.ContextSave{SaveHandle: b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle}, &s)
		b.powerCycle(tpm2.SUClear)
		return b.do(&tpm2.ContextLoad{Context: s.Context}, nil)
	}},
	{name: "saved stClear object after a restart", cite: "Part 2, 8.3.3.3; Part 1, 27.4", want: tpm2.RCIntegrity.Param(1), run: func(b *bench) tpm2.RC {
		pub := eccStorage()
		pub.ObjectAttributes |= tpm2.STClear
		var s tpm2.ContextSaveResponse
		b.ok(&tpm2.ContextSave{SaveHandle: b.primary(tpm2.RHOwner, pub).ObjectHandle}, &s)
		b.ok(&tpm2.Shutdown{ShutdownType: tpm2.SUState}, nil)
		b.powerCycle(tpm2.SUClear)
		return b.do(&tpm2.ContextLoad{Context: s.Context}, nil)
	}},
}

// pcr reads one PCR of the SHA-256 bank.
func (b *bench) pcr(n int) []byte {
	b.t.Helper()
	sel := make([]byte, 3)
	sel[n/8] = 1 << (n % 8)
	var r tpm2.PCRReadResponse
	b.ok(&tpm2.PCRRead{PCRSelectionIn: []tpm2.TPMSPCRSelection{{Hash: tpm2.AlgSHA256, PCRSelect: sel}}}, &r)
	return r.PCRValues[0]
}

// tried makes a primary under DA protection and uses it with wrong passwords n times.
func tried(n int) func(*bench) tpm2.RC {
	return func(b *bench) tpm2.RC {
		var rsp tpm2.CreatePrimaryResponse
		b.ok(&tpm2.CreatePrimary{PrimaryHandle: tpm2.RHOwner, InPublic: signP256(), InSensitive: tpm2.TPMSSensitiveCreate{UserAuth: []byte("pw")}}, &rsp)
		rc := tpm2.RCSuccess
		for range n {
			rc = b.do(signCommand(rsp.ObjectHandle, 32), nil, []byte("wp"))
		}
		return rc
	}
}

// digestOf is the policyDigest of promises.
func (b *bench) digestOf(promises ...promise) []byte {
	b.t.Helper()
	s := b.session(tpm2.SETrial)
	for _, p := range promises {
		b.ok(p(s), nil)
	}
	var d tpm2.PolicyGetDigestResponse
	b.ok(&tpm2.PolicyGetDigest{PolicySession: s}, &d)
	b.ok(&tpm2.FlushContext{FlushHandle: s}, nil)
	return d.PolicyDigest
}

// wrongHMAC authorizes a command with a policy that is kept and an HMAC that is wrong.
func (b *bench) wrongHMAC(cmd tpm2.Command, promises ...promise) tpm2.RC {
	b.t.Helper()
	s := b.session(tpm2.SEPolicy)
	for _, p := range promises {
		b.ok(p(s), nil)
	}
	rc := b.raw(with(cmd, authEntry(s, make([]byte, 16), 0, make([]byte, 32))), nil)
	b.ok(&tpm2.FlushContext{FlushHandle: s}, nil)
	return rc
}

var daRules = []rule{
	{name: "first failure", cite: "Part 1, 16.8.2", want: tpm2.RCAuthFail.Session(1), run: tried(1)},
	{name: "locked out", cite: "Part 1, 16.8.2", want: tpm2.RCLockout, run: tried(4)},
	{name: "right password while locked out", cite: "Part 1, 16.8.2", want: tpm2.RCLockout, run: func(b *bench) tpm2.RC {
		tried(3)(b)
		return b.do(signCommand(0x80000000, 32), nil, []byte("pw"))
	}},
	{name: "object without DA while locked out", cite: "Part 2, 8.3.3.9", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		tried(3)(b)
		return b.do(&tpm2.Create{ParentHandle: b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle, InPublic: signP256()}, nil)
	}},
	{name: "after a reset of the counter", cite: "Part 3, 25.2.1", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		tried(3)(b)
		b.ok(&tpm2.DictionaryAttackLockReset{LockHandle: tpm2.RHLockout}, nil)
		return b.do(signCommand(0x80000000, 32), nil, []byte("pw"))
	}},
	{name: "failure without DA", cite: "Part 1, 16.8.2", want: tpm2.RCBadAuth.Session(1), run: func(b *bench) tpm2.RC {
		pub := signP256()
		pub.ObjectAttributes |= tpm2.NoDA
		var rsp tpm2.CreatePrimaryResponse
		b.ok(&tpm2.CreatePrimary{PrimaryHandle: tpm2.RHOwner, InPublic: pub, InSensitive: tpm2.TPMSSensitiveCreate{UserAuth: []byte("pw")}}, &rsp)
		return b.do(signCommand(rsp.ObjectHandle, 32), nil, []byte("wp"))
	}},
	{name: "lockout once wrong", cite: "Part 1, 16.8.4", want: tpm2.RCLockout, run: func(b *bench) tpm2.RC {
		b.ok(&tpm2.HierarchyChangeAuth{AuthHandle: tpm2.RHLockout, NewAuth: []byte("pw")}, nil)
		if rc := b.do(&tpm2.DictionaryAttackLockReset{LockHandle: tpm2.RHLockout}, nil); rc != tpm2.RCAuthFail.Session(1) {
			b.t.Errorf("a wrong lockoutAuth: %v", rc)
		}
		return b.do(&tpm2.DictionaryAttackLockReset{LockHandle: tpm2.RHLockout}, nil, []byte("pw"))
	}},
	{name: "wrong HMAC of a policy without authValue", cite: "Part 1, 16.8.1", want: tpm2.RCBadAuth.Session(1), run: func(b *bench) tpm2.RC {
		srk := b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle
		pub := sealed()
		pub.ObjectAttributes &^= tpm2.UserWithAuth
		pub.AuthPolicy = b.digestOf(pcr16(nil))
		item := b.child(srk, pub, nil, []byte("secret"))
		for range daMaxTries { // anybody can do this, and it tells nothing of an authValue
			if rc := b.wrongHMAC(&tpm2.Unseal{ItemHandle: item}, pcr16(nil)); rc != tpm2.RCBadAuth.Session(1) {
				return rc
			}
		}
		return b.wrongHMAC(&tpm2.Unseal{ItemHandle: item}, pcr16(nil)) // not in lockout
	}},
	{name: "wrong HMAC of lockoutPolicy", cite: "Part 1, 16.8.5", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		b.ok(&tpm2.SetPrimaryPolicy{AuthHandle: tpm2.RHLockout, AuthPolicy: b.digestOf(pcr16(nil)), HashAlg: tpm2.AlgSHA256}, nil)
		if rc := b.wrongHMAC(&tpm2.DictionaryAttackLockReset{LockHandle: tpm2.RHLockout}, pcr16(nil)); rc != tpm2.RCBadAuth.Session(1) {
			return rc
		}
		return b.do(&tpm2.DictionaryAttackLockReset{LockHandle: tpm2.RHLockout}, nil) // lockoutAuth was not tried
	}},
	{name: "lockoutAuth after a reset with lockoutPolicy", cite: "Part 1, 16.8.5", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		b.ok(&tpm2.SetPrimaryPolicy{AuthHandle: tpm2.RHLockout, AuthPolicy: b.digestOf(pcr16(nil)), HashAlg: tpm2.AlgSHA256}, nil)
		b.ok(&tpm2.HierarchyChangeAuth{AuthHandle: tpm2.RHLockout, NewAuth: []byte("pw")}, nil)
		cmd := &tpm2.DictionaryAttackLockReset{LockHandle: tpm2.RHLockout}
		b.refused(tpm2.RCAuthFail.Session(1), cmd)
		s := b.session(tpm2.SEPolicy)
		b.ok(pcr16(nil)(s), nil)
		if rc := b.raw(with(cmd, authEntry(s, nil, 0, nil)), nil); rc != tpm2.RCSuccess {
			return rc
		}
		return b.do(cmd, nil, []byte("pw"))
	}, libtpms: tpm2.RCLockout, because: "libtpms 0.9 has the time only"},
	{name: "limit of zero", cite: "Part 3, 25.3.1", want: tpm2.RCLockout, run: func(b *bench) tpm2.RC {
		tried(0)(b)
		b.ok(&tpm2.DictionaryAttackParameters{LockHandle: tpm2.RHLockout, NewMaxTries: 0, NewRecoveryTime: 10, LockoutRecovery: 10}, nil)
		return b.do(signCommand(0x80000000, 32), nil, []byte("pw"))
	}},
	{name: "wrong HMAC counts as well", cite: "Part 3, 5.6", want: tpm2.RCAuthFail.Session(1), run: func(b *bench) tpm2.RC {
		tried(0)(b)
		return b.raw(with(signCommand(0x80000000, 32), authEntry(b.session(tpm2.SEHMAC), make([]byte, 16), 0, make([]byte, 32))), nil)
	}},
	{name: "NV index", cite: "Part 2, 13.4", want: tpm2.RCAuthFail.Session(1), run: func(b *bench) tpm2.RC {
		d := define(authRW, 8)
		d.Auth = []byte("pw")
		b.ok(d, nil)
		return b.do(nvWrite(testIndex, 8, 0), nil, []byte("wp"))
	}},
}

// promised is the rule of a policy command in a fresh session of a kind.
func promised(kind tpm2.SE, cmd func(s tpm2.Handle) tpm2.Command) func(*bench) tpm2.RC {
	return func(b *bench) tpm2.RC { return b.do(cmd(b.session(kind)), nil) }
}

// kept runs policy commands in one session; the answer to the last is the rule.
func kept(cmds ...func(s tpm2.Handle) tpm2.Command) func(*bench) tpm2.RC {
	return func(b *bench) tpm2.RC {
		s := b.session(tpm2.SEPolicy)
		for _, c := range cmds[:len(cmds)-1] {
			b.ok(c(s), nil)
		}
		return b.do(cmds[len(cmds)-1](s), nil)
	}
}

// used makes an object under the policy that the trial gives, then uses it in a session where real ran.
func used(trial, real []func(s tpm2.Handle) tpm2.Command, before func(*bench)) func(*bench) tpm2.RC {
	return func(b *bench) tpm2.RC {
		s := b.session(tpm2.SETrial)
		for _, c := range trial {
			b.ok(c(s), nil)
		}
		var d tpm2.PolicyGetDigestResponse
		b.ok(&tpm2.PolicyGetDigest{PolicySession: s}, &d)
		pub := sealed()
		pub.ObjectAttributes &^= tpm2.UserWithAuth
		pub.AuthPolicy = d.PolicyDigest
		item := b.child(b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle, pub, []byte("pw"), []byte("secret"))
		s = b.session(tpm2.SEPolicy)
		for _, c := range real {
			b.ok(c(s), nil)
		}
		before(b)
		return b.raw(withSession(&tpm2.Unseal{ItemHandle: item}, s), nil)
	}
}

type promise = func(s tpm2.Handle) tpm2.Command

func code(cc tpm2.CC) promise {
	return func(s tpm2.Handle) tpm2.Command { return &tpm2.PolicyCommandCode{PolicySession: s, Code: cc} }
}

func locality(l tpm2.Locality) promise {
	return func(s tpm2.Handle) tpm2.Command { return &tpm2.PolicyLocality{PolicySession: s, Locality: l} }
}

func cpHash(v byte, n int) promise {
	return func(s tpm2.Handle) tpm2.Command {
		h := make([]byte, n)
		h[0] = v
		return &tpm2.PolicyCpHash{PolicySession: s, CpHashA: h}
	}
}

func nameHash(s tpm2.Handle) tpm2.Command {
	return &tpm2.PolicyNameHash{PolicySession: s, NameHash: make([]byte, 32)}
}

func written(v tpm2.YesNo) promise {
	return func(s tpm2.Handle) tpm2.Command { return &tpm2.PolicyNvWritten{PolicySession: s, WrittenSet: v} }
}

func or(digests ...[]byte) promise {
	return func(s tpm2.Handle) tpm2.Command { return &tpm2.PolicyOR{PolicySession: s, PHashList: digests} }
}

func secret(expiration int32, nonce []byte) promise {
	return func(s tpm2.Handle) tpm2.Command {
		return &tpm2.PolicySecret{AuthHandle: tpm2.RHOwner, PolicySession: s, Expiration: expiration, NonceTPM: nonce}
	}
}

func pcr16(digest []byte) promise {
	return func(s tpm2.Handle) tpm2.Command {
		return &tpm2.PolicyPCR{PolicySession: s, PCRDigest: digest, PCRs: []tpm2.TPMSPCRSelection{{Hash: tpm2.AlgSHA256, PCRSelect: []byte{0, 0, 1}}}}
	}
}

func presence(s tpm2.Handle) tpm2.Command { return &tpm2.PolicyPhysicalPresence{PolicySession: s} }

func nothing(*bench) {}

func list1(p ...promise) []promise { return p }

var policyRules = []rule{
	{name: "OR of one", cite: "Part 3, 23.6; Part 2, 10.9.5", want: tpm2.RCSize.Param(1), run: promised(tpm2.SEPolicy, or(make([]byte, 32)))},
	{name: "OR without a match", cite: "Part 3, 23.6.2", want: tpm2.RCValue.Param(1), run: promised(tpm2.SEPolicy, or([]byte{1}, []byte{2}))},
	{name: "OR in a trial", cite: "Part 3, 23.6.1", want: tpm2.RCSuccess, run: promised(tpm2.SETrial, or([]byte{1}, []byte{2}))},
	{name: "PCR digest does not match", cite: "Part 3, 23.7.2", want: tpm2.RCValue.Param(1), run: promised(tpm2.SEPolicy, pcr16(make([]byte, 32)))},
	{name: "locality of none", cite: "Part 3, 23.8.2", want: tpm2.RCRange.Param(1), run: promised(tpm2.SEPolicy, locality(0))},
	{name: "localities that exclude each other", cite: "Part 3, 23.8.2", want: tpm2.RCRange.Param(1), run: kept(locality(1), locality(2))},
	{name: "extended locality after an ordinary one", cite: "Part 3, 23.8.2", want: tpm2.RCRange.Param(1), run: kept(locality(1), locality(40))},
	{name: "two extended localities", cite: "Part 3, 23.8.2", want: tpm2.RCRange.Param(1), run: kept(locality(40), locality(41))},
	{name: "two commands", cite: "Part 3, 23.11.2", want: tpm2.RCValue.Param(1), run: kept(code(tpm2.CCUnseal), code(tpm2.CCSign))},
	{name: "command unknown", cite: "Part 3, 23.11.2", want: tpm2.RCPolicyCC.Param(1), run: promised(tpm2.SEPolicy, code(0x11e))},
	{name: "cpHash of the wrong size", cite: "Part 3, 23.14.2", want: tpm2.RCSize.Param(1), run: promised(tpm2.SEPolicy, cpHash(0, 20))},
	{name: "two cpHashes", cite: "Part 3, 23.14.2", want: tpm2.RCCpHash, run: kept(cpHash(1, 32), cpHash(2, 32))},
	{name: "the same cpHash twice", cite: "Part 3, 23.14.1", want: tpm2.RCSuccess, run: kept(cpHash(1, 32), cpHash(1, 32))},
	{name: "nameHash after cpHash", cite: "Part 3, 23.15.2", want: tpm2.RCCpHash, run: kept(cpHash(1, 32), nameHash)},
	{name: "written and not written", cite: "Part 3, 23.21.2", want: tpm2.RCValue.Param(1), run: kept(written(tpm2.Yes), written(tpm2.No))},
	{name: "duplication after another command", cite: "Part 3, 23.16.2", want: tpm2.RCCommandCode, run: kept(code(tpm2.CCUnseal), func(s tpm2.Handle) tpm2.Command {
		return &tpm2.PolicyDuplicationSelect{PolicySession: s, ObjectName: make([]byte, 34), NewParentName: make([]byte, 34)}
	})},
	{name: "secret with a stale nonce", cite: "Part 3, 23.4.2", want: tpm2.RCNonce.Param(1), run: promised(tpm2.SEPolicy, secret(0, make([]byte, 32)))},
	{name: "secret with a cpHash of the wrong size", cite: "Part 3, 23.4.2", want: tpm2.RCSize.Param(2), run: promised(tpm2.SEPolicy, func(s tpm2.Handle) tpm2.Command {
		return &tpm2.PolicySecret{AuthHandle: tpm2.RHOwner, PolicySession: s, CpHashA: make([]byte, 20)}
	})},
	{name: "ticket that was not made here", cite: "Part 3, 23.5.2", want: tpm2.RCTicket.Param(5), run: promised(tpm2.SEPolicy, func(s tpm2.Handle) tpm2.Command {
		return &tpm2.PolicyTicket{PolicySession: s, Timeout: []byte{0, 0, 0, 0, 0xff, 0, 0, 0}, Ticket: tpm2.TPMTTkAuth{Tag: tpm2.STAuthSecret, Hierarchy: tpm2.RHOwner, Digest: make([]byte, 64)}}
	})},
	{name: "ticket with a timeout of the wrong size", cite: "Part 3, 23.5.2", want: tpm2.RCSize.Param(1), run: promised(tpm2.SEPolicy, func(s tpm2.Handle) tpm2.Command {
		return &tpm2.PolicyTicket{PolicySession: s, Timeout: []byte{0}, Ticket: tpm2.TPMTTkAuth{Tag: tpm2.STAuthSecret, Hierarchy: tpm2.RHOwner}}
	})},
	{name: "ticket in a trial", cite: "Part 3, 23.5.2", want: tpm2.RCAttributes.Handle(1), run: promised(tpm2.SETrial, func(s tpm2.Handle) tpm2.Command {
		return &tpm2.PolicyTicket{PolicySession: s, Timeout: make([]byte, 8), Ticket: tpm2.TPMTTkAuth{Tag: tpm2.STAuthSecret, Hierarchy: tpm2.RHOwner}}
	})},
	{name: "authorize another policy", cite: "Part 3, 23.17.2", want: tpm2.RCValue.Param(1), run: promised(tpm2.SEPolicy, func(s tpm2.Handle) tpm2.Command {
		return &tpm2.PolicyAuthorize{PolicySession: s, ApprovedPolicy: []byte{1}, KeySign: append([]byte{0, 0x0b}, make([]byte, 32)...),
			CheckTicket: tpm2.TPMTTkVerified{Tag: tpm2.STVerified, Hierarchy: tpm2.RHOwner}}
	})},
	{name: "authorize with a Name of no hash", cite: "Part 3, 23.17.2", want: tpm2.RCHash.Param(3), run: promised(tpm2.SEPolicy, func(s tpm2.Handle) tpm2.Command {
		return &tpm2.PolicyAuthorize{PolicySession: s, ApprovedPolicy: make([]byte, 32), KeySign: make([]byte, 34),
			CheckTicket: tpm2.TPMTTkVerified{Tag: tpm2.STVerified, Hierarchy: tpm2.RHOwner}}
	})},
	{name: "authorize without a ticket", cite: "Part 3, 23.17.2", want: tpm2.RCValue.Param(4), run: promised(tpm2.SEPolicy, func(s tpm2.Handle) tpm2.Command {
		return &tpm2.PolicyAuthorize{PolicySession: s, ApprovedPolicy: make([]byte, 32), KeySign: append([]byte{0, 0x0b}, make([]byte, 32)...),
			CheckTicket: tpm2.TPMTTkVerified{Tag: tpm2.STVerified, Hierarchy: tpm2.RHNull}}
	})},
	{name: "counter-timer at an offset outside", cite: "Part 3, 23.10.2", want: tpm2.RCValue.Param(2), run: promised(tpm2.SEPolicy, func(s tpm2.Handle) tpm2.Command {
		return &tpm2.PolicyCounterTimer{PolicySession: s, Offset: 26}
	})},
	{name: "counter-timer past the end", cite: "Part 3, 23.10.2", want: tpm2.RCRange, run: promised(tpm2.SEPolicy, func(s tpm2.Handle) tpm2.Command {
		return &tpm2.PolicyCounterTimer{PolicySession: s, Offset: 24, OperandB: []byte{0, 0}}
	})},
	{name: "counter-timer that does not hold", cite: "Part 3, 23.10.2", want: tpm2.RCPolicy, run: promised(tpm2.SEPolicy, func(s tpm2.Handle) tpm2.Command {
		return &tpm2.PolicyCounterTimer{PolicySession: s, OperandB: []byte{0xff}, Operation: tpm2.EOUnsignedGT}
	})},
	{name: "NV that does not hold", cite: "Part 3, 23.9.2", want: tpm2.RCPolicy, run: func(b *bench) tpm2.RC {
		b.ok(define(ownerRW, 8), nil)
		b.ok(nvWrite(tpm2.RHOwner, 8, 0), nil)
		return b.do(&tpm2.PolicyNV{AuthHandle: tpm2.RHOwner, NVIndex: testIndex, PolicySession: b.session(tpm2.SEPolicy), OperandB: []byte{1}}, nil)
	}},
	{name: "NV that is not written", cite: "Part 3, 23.9.2", want: tpm2.RCNVUninitialized, run: func(b *bench) tpm2.RC {
		b.ok(define(ownerRW, 8), nil)
		return b.do(&tpm2.PolicyNV{AuthHandle: tpm2.RHOwner, NVIndex: testIndex, PolicySession: b.session(tpm2.SEPolicy), OperandB: []byte{1}}, nil)
	}},
	{name: "expired for a restarted session as well", cite: "Part 3, 11.2.1", want: tpm2.RCExpired.Param(4), run: func(b *bench) tpm2.RC {
		var r tpm2.StartAuthSessionResponse
		b.ok(startSession(tpm2.SEPolicy), &r)
		b.wait(1100 * time.Millisecond)
		b.ok(&tpm2.PolicyRestart{SessionHandle: r.SessionHandle}, nil)
		return b.do(secret(1, r.NonceTPM)(r.SessionHandle), nil)
	}},
	{name: "expired by Time, without a nonce", cite: "Part 3, 23.2.2", want: tpm2.RCExpired.Param(4), run: func(b *bench) tpm2.RC {
		b.wait(2100 * time.Millisecond)
		return b.do(secret(1, nil)(b.session(tpm2.SEPolicy)), nil)
	}},
	{name: "secret shown by a policy without authValue", cite: "Part 3, 23.4.1", want: tpm2.RCMode.Session(1), run: func(b *bench) tpm2.RC {
		b.ok(&tpm2.HierarchyChangeAuth{AuthHandle: tpm2.RHEndorsement, NewAuth: []byte("pw")}, nil)
		b.ok(&tpm2.SetPrimaryPolicy{AuthHandle: tpm2.RHEndorsement, AuthPolicy: b.digestOf(pcr16(nil)), HashAlg: tpm2.AlgSHA256}, nil, []byte("pw"))
		s := b.session(tpm2.SEPolicy)
		b.ok(pcr16(nil)(s), nil)
		cmd := &tpm2.PolicySecret{AuthHandle: tpm2.RHEndorsement, PolicySession: b.session(tpm2.SEPolicy)}
		return b.raw(with(cmd, authEntry(s, nil, tpm2.ContinueSession, nil)), nil)
	}},
	{name: "secret shown by a policy with a password", cite: "Part 3, 23.4.1", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		password := func(s tpm2.Handle) tpm2.Command { return &tpm2.PolicyPassword{PolicySession: s} }
		b.ok(&tpm2.HierarchyChangeAuth{AuthHandle: tpm2.RHEndorsement, NewAuth: []byte("pw")}, nil)
		b.ok(&tpm2.SetPrimaryPolicy{AuthHandle: tpm2.RHEndorsement, AuthPolicy: b.digestOf(password), HashAlg: tpm2.AlgSHA256}, nil, []byte("pw"))
		s := b.session(tpm2.SEPolicy)
		b.ok(password(s), nil)
		cmd := &tpm2.PolicySecret{AuthHandle: tpm2.RHEndorsement, PolicySession: b.session(tpm2.SEPolicy)}
		return b.raw(with(cmd, authEntry(s, nil, tpm2.ContinueSession, []byte("pw"))), nil)
	}},
	// at use
	{name: "use", cite: "Part 1, 16.7.4", want: tpm2.RCSuccess, run: used(list1(pcr16(nil)), list1(pcr16(nil)), nothing)},
	{name: "use without the promise", cite: "Part 1, 16.7.4", want: tpm2.RCPolicyFail.Session(1), run: used(list1(pcr16(nil)), nil, nothing)},
	{name: "use for another command", cite: "Part 1, 16.7.4", want: tpm2.RCPolicyCC.Session(1), run: used(list1(code(tpm2.CCSign)), list1(code(tpm2.CCSign)), nothing)},
	{name: "use at another locality", cite: "Part 1, 16.7.4", want: tpm2.RCLocality, run: used(list1(locality(2)), list1(locality(2)), nothing)},
	{name: "use at the locality", cite: "Part 1, 16.7.4", want: tpm2.RCSuccess, run: used(list1(locality(1)), list1(locality(1)), nothing)},
	{name: "use without presence", cite: "Part 1, 16.7.4", want: tpm2.RCPP.Session(1), run: used(list1(presence), list1(presence), nothing)},
	{name: "use after PCRs changed", cite: "Part 1, 16.7.4", want: tpm2.RCPCRChanged, run: used(list1(pcr16(nil)), list1(pcr16(nil)), func(b *bench) { b.ok(extendPCR(3), nil) })},
	{name: "use with another cpHash", cite: "Part 1, 16.7.4", want: tpm2.RCPolicyFail.Session(1), run: used(list1(cpHash(1, 32)), list1(cpHash(1, 32)), nothing)},
	{name: "use of an object as if it were an index", cite: "Part 1, 16.7.4", want: tpm2.RCPolicyFail.Session(1), run: used(list1(written(tpm2.No)), list1(written(tpm2.No)), nothing)},
	{name: "use after it expired", cite: "Part 1, 16.7.4", want: tpm2.RCExpired.Session(1), run: used(list1(secret(0, nil)), list1(secret(1, nil)), func(b *bench) { b.wait(1100 * time.Millisecond) })},
	{name: "authValue without HMAC", cite: "Part 1, 16.7.4", want: tpm2.RCAuthFail.Session(1), run: used(
		list1(func(s tpm2.Handle) tpm2.Command { return &tpm2.PolicyAuthValue{PolicySession: s} }),
		list1(func(s tpm2.Handle) tpm2.Command { return &tpm2.PolicyAuthValue{PolicySession: s} }), nothing)},
	{name: "password missing", cite: "Part 1, 16.7.4", want: tpm2.RCAuthFail.Session(1), run: used(
		list1(func(s tpm2.Handle) tpm2.Command { return &tpm2.PolicyPassword{PolicySession: s} }),
		list1(func(s tpm2.Handle) tpm2.Command { return &tpm2.PolicyPassword{PolicySession: s} }), nothing)},
}

// wait lets time pass: ours is in the test's hands, another TPM's is the wall's.
func (b *bench) wait(d time.Duration) {
	if b.now += d; b.other != nil {
		time.Sleep(d)
	}
}
