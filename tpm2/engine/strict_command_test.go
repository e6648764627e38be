package engine

import (
	"bytes"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

var getRandom8 = &tpm2.GetRandom{BytesRequested: 8}

var headerRules = []rule{
	{name: "tag of TPM 1.2", cite: "Part 3, 5.2", want: tpm2.RCBadTag, run: octets(frame(0x00c1, tpm2.CCGetRandom, uint16(8))),
		libtpms: tpm2.RCValue, because: "swtpm tells the versions apart before libtpms sees the command"},
	{name: "tag NULL", cite: "Part 3, 5.2", want: tpm2.RCBadTag, run: octets(frame(tpm2.STNull, tpm2.CCGetRandom, uint16(8)))},
	{name: "size too large", cite: "Part 3, 5.2", want: tpm2.RCCommandSize, run: octets([]byte{0x80, 1, 0, 0, 0, 13, 0, 0, 1, 0x7b, 0, 8})},
	{name: "code unknown", cite: "Part 3, 5.2", want: tpm2.RCCommandCode, run: octets(frame(tpm2.STNoSessions, 0x11e))},
	{name: "code of TPM 1.2", cite: "Part 3, 5.2", want: tpm2.RCCommandCode, run: octets(frame(tpm2.STNoSessions, 0x50))},
	{name: "code with the vendor bit", cite: "Part 2, 6.5.1", want: tpm2.RCCommandCode, run: octets(frame(tpm2.STNoSessions, 0x2000017b, uint16(8)))},
}

var handleRules = []rule{
	{name: "cut in the handles", cite: "Part 3, 5.4", want: tpm2.RCInsufficient.Handle(1), run: octets(frame(tpm2.STNoSessions, tpm2.CCReadPublic, uint16(0x8000)))},
	{name: "no handle of that space", cite: "Part 3, 5.4", want: tpm2.RCValue.Handle(1), run: always(&tpm2.ReadPublic{ObjectHandle: 0x01000000})},
	{name: "NULL where it has no place", cite: "Part 3, 5.4; Part 2, 9.3", want: tpm2.RCValue.Handle(1), run: always(&tpm2.ReadPublic{ObjectHandle: tpm2.RHNull})},
	{name: "transient not loaded", cite: "Part 3, 5.4", want: tpm2.RCReferenceH0, run: always(&tpm2.ReadPublic{ObjectHandle: 0x80000000})},
	{name: "transient past all slots", cite: "Part 2, 9.3", want: tpm2.RCValue.Handle(1), run: always(&tpm2.ReadPublic{ObjectHandle: 0x80ffffff})},
	{name: "persistent absent", cite: "Part 3, 5.4", want: tpm2.RCHandle.Handle(1), run: always(&tpm2.ReadPublic{ObjectHandle: 0x81000001})},
	{name: "NV index absent", cite: "Part 3, 5.4", want: tpm2.RCHandle.Handle(1), run: always(&tpm2.NVReadPublic{NVIndex: 0x01500001})},
	{name: "NV index absent, second handle", cite: "Part 3, 5.4", want: tpm2.RCHandle.Handle(2), run: always(&tpm2.NVRead{AuthHandle: tpm2.RHOwner, NVIndex: 0x01500001, Size: 1})},
	{name: "session not loaded", cite: "Part 3, 5.4", want: tpm2.RCReferenceH0, run: always(&tpm2.PolicyGetDigest{PolicySession: 0x03000000})},
	{name: "HMAC session where a policy session belongs", cite: "Part 2, 9.9", want: tpm2.RCValue.Handle(1), run: always(&tpm2.PolicyGetDigest{PolicySession: 0x02000000})},
	{name: "PCR that is not there", cite: "Part 2, 9.7", want: tpm2.RCValue.Handle(1), run: always(&tpm2.PCRReset{PCRHandle: 24})},
	{name: "lockout is no hierarchy", cite: "Part 2, 9.13", want: tpm2.RCValue.Handle(1), run: always(&tpm2.CreatePrimary{PrimaryHandle: tpm2.RHLockout, InPublic: eccStorage()})},
	{name: "endorsement provisions nothing", cite: "Part 2, 9.20", want: tpm2.RCValue.Handle(1), run: always(&tpm2.ClockSet{Auth: tpm2.RHEndorsement})},
	{name: "handle before session", cite: "Part 3, 5.1", want: tpm2.RCReferenceH0, run: octets(frame(tpm2.STSessions, tpm2.CCUnseal, tpm2.Handle(0x80000000), uint32(3)))},
	{name: "disabled hierarchy", cite: "Part 3, 5.4", want: tpm2.RCHierarchy.Handle(1), run: func(b *bench) tpm2.RC {
		b.ok(&tpm2.HierarchyControl{AuthHandle: tpm2.RHPlatform, Enable: tpm2.RHOwner}, nil)
		return b.do(&tpm2.CreatePrimary{PrimaryHandle: tpm2.RHOwner, InPublic: eccStorage()}, nil)
	}},
	{name: "persistent of a disabled hierarchy", cite: "Part 3, 5.4", want: tpm2.RCHandle.Handle(1), run: func(b *bench) tpm2.RC {
		srk := b.primary(tpm2.RHOwner, eccStorage())
		b.ok(&tpm2.EvictControl{Auth: tpm2.RHOwner, ObjectHandle: srk.ObjectHandle, PersistentHandle: 0x81000001}, nil)
		b.ok(&tpm2.HierarchyControl{AuthHandle: tpm2.RHPlatform, Enable: tpm2.RHOwner}, nil)
		return b.do(&tpm2.ReadPublic{ObjectHandle: 0x81000001}, nil)
	}},
	{name: "NV index of a disabled hierarchy", cite: "Part 3, 5.4", want: tpm2.RCHandle.Handle(1), run: func(b *bench) tpm2.RC {
		b.ok(define(tpm2.NVOwnerRead|tpm2.NVOwnerWrite, 8), nil)
		b.ok(&tpm2.HierarchyControl{AuthHandle: tpm2.RHPlatform, Enable: tpm2.RHOwner}, nil)
		return b.do(&tpm2.NVReadPublic{NVIndex: testIndex}, nil)
	}},
}

var sessionRules = []rule{
	{name: "authorization missing", cite: "Part 3, 5.5", want: tpm2.RCAuthMissing, run: octets(frame(tpm2.STNoSessions, tpm2.CCClearControl, tpm2.RHPlatform, uint8(0)))},
	{name: "second authorization missing", cite: "Part 3, 5.5", want: tpm2.RCAuthMissing, run: func(b *bench) tpm2.RC {
		key := b.primary(tpm2.RHOwner, eccSigning(tpm2.ECCNISTP256, tpm2.AlgSHA256)).ObjectHandle
		return b.raw(with(&tpm2.Certify{ObjectHandle: key, SignHandle: key, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull}}, noPassword), nil)
	}},
	{name: "no session allowed", cite: "Part 3, 28.4.1; 5.5", want: tpm2.RCAuthContext, run: func(b *bench) tpm2.RC {
		s := b.session(tpm2.SEHMAC)
		return b.raw(with(&tpm2.ContextSave{SaveHandle: s}, authEntry(s, nil, tpm2.SessionAudit, nil)), nil)
	}},
	{name: "area shorter than one session", cite: "Part 3, 5.5", want: tpm2.RCAuthSize, run: octets(frame(tpm2.STSessions, tpm2.CCClearControl, tpm2.RHPlatform, uint32(8), make([]byte, 8), uint8(0))),
		libtpms: tpm2.RCSize, because: "it counts the octets later"},
	{name: "area past the end", cite: "Part 3, 5.5", want: tpm2.RCAuthSize, run: octets(frame(tpm2.STSessions, tpm2.CCClearControl, tpm2.RHPlatform, uint32(100), noPassword, uint8(0))),
		libtpms: tpm2.RCSize, because: "it counts the octets later"},
	{name: "no area", cite: "Part 3, 5.5", want: tpm2.RCAuthSize, run: octets(frame(tpm2.STSessions, tpm2.CCClearControl, tpm2.RHPlatform)),
		libtpms: tpm2.RCInsufficient, because: "it reports the missing size word as cut"},
	{name: "session not loaded", cite: "Part 3, 5.5", want: tpm2.RCReferenceS0, run: octets(with(getRandom8, authEntry(0x02000000, nil, tpm2.SessionAudit, nil)))},
	{name: "no session handle", cite: "Part 3, 5.5", want: tpm2.RCValue.Session(1), run: octets(with(getRandom8, authEntry(0x80000000, nil, tpm2.SessionAudit, nil)))},
	{name: "reserved attribute", cite: "Part 2, 8.4", want: tpm2.RCReservedBits.Session(1), run: func(b *bench) tpm2.RC {
		return b.raw(with(getRandom8, authEntry(b.session(tpm2.SEHMAC), nil, tpm2.SessionAudit|0x08, nil)), nil)
	}},
	{name: "password for nothing", cite: "Part 3, 5.5", want: tpm2.RCHandle.Session(1), run: octets(with(getRandom8, noPassword))},
	{name: "password that encrypts", cite: "Part 3, 5.5; Part 1, 16.4", want: tpm2.RCAttributes.Session(1),
		run: octets(with(&tpm2.ClearControl{Auth: tpm2.RHPlatform}, authEntry(tpm2.RSPW, nil, tpm2.SessionEncrypt, nil)))},
	{name: "password with a nonce", cite: "Part 3, 5.5; Part 1, 16.4", want: tpm2.RCNonce.Session(1),
		run: octets(with(&tpm2.ClearControl{Auth: tpm2.RHPlatform}, authEntry(tpm2.RSPW, make([]byte, 16), 0, nil)))},
	{name: "session twice", cite: "Part 3, 5.5", want: tpm2.RCHandle.Session(2), run: func(b *bench) tpm2.RC {
		s := b.session(tpm2.SEHMAC)
		return b.raw(with(getRandom8, authEntry(s, nil, tpm2.SessionAudit, nil), authEntry(s, nil, tpm2.SessionAudit, nil)), nil)
	}},
	{name: "session for nothing", cite: "Part 3, 5.5", want: tpm2.RCAttributes.Session(1), run: func(b *bench) tpm2.RC {
		return b.raw(with(getRandom8, authEntry(b.session(tpm2.SEHMAC), nil, tpm2.ContinueSession, nil)), nil)
	}},
	{name: "attributes of an audit session in the response", cite: "Part 1, 15.6 and 17.2", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		s := b.session(tpm2.SEHMAC)
		for i, step := range []struct {
			by, want tpm2.SessionAttributes // of GetRandom; 0: nothing
			other    tpm2.Command           // which is run before, outside the session
		}{
			{by: tpm2.SessionAudit, want: tpm2.SessionAudit | tpm2.AuditExclusive},
			{by: tpm2.SessionAudit, want: tpm2.SessionAudit | tpm2.AuditExclusive},
			{by: tpm2.SessionAudit, want: tpm2.SessionAudit, other: &tpm2.GetCapability{Capability: tpm2.CapAlgs, PropertyCount: 1}},
			{by: tpm2.SessionAudit | tpm2.AuditReset, want: tpm2.SessionAudit | tpm2.AuditReset | tpm2.AuditExclusive},
			{by: tpm2.SessionAudit, want: tpm2.SessionAudit, other: &tpm2.PCRRead{}},
		} {
			if step.other != nil {
				b.ok(step.other, nil)
			}
			out := b.execute(with(getRandom8, authEntry(s, make([]byte, 16), step.by|tpm2.ContinueSession, nil)))
			d := tpm2.NewDecoder(out[min(headerSize, len(out)):])
			d.Bytes(int(d.U32())) // parameters
			d.Buf(maxDigest)      // nonceTPM
			if got := tpm2.SessionAttributes(d.U8()) &^ tpm2.ContinueSession; d.RC() != tpm2.RCSuccess || got != step.want {
				b.t.Errorf("step %d: attributes %#x, want %#x", i, got, step.want)
			}
		}
		return tpm2.RCSuccess
	}},
	{name: "auditExclusive without audit", cite: "Part 2, 8.4", want: tpm2.RCAttributes.Session(1), run: func(b *bench) tpm2.RC {
		return b.raw(with(&tpm2.ClearControl{Auth: tpm2.RHPlatform}, authEntry(b.session(tpm2.SEHMAC), nil, tpm2.AuditExclusive|tpm2.ContinueSession, nil)), nil)
	},
		libtpms: tpm2.RCSuccess, because: "it does not look"},
	{name: "two audits", cite: "Part 1, 16.6.12", want: tpm2.RCAttributes.Session(2), run: func(b *bench) tpm2.RC {
		return b.raw(with(getRandom8, authEntry(b.session(tpm2.SEHMAC), nil, tpm2.SessionAudit, nil), authEntry(b.session(tpm2.SEHMAC), nil, tpm2.SessionAudit, nil)), nil)
	}},
	{name: "policy session that audits", cite: "Part 1, 16.6.12", want: tpm2.RCAttributes.Session(1), run: func(b *bench) tpm2.RC {
		return b.raw(with(getRandom8, authEntry(b.session(tpm2.SEPolicy), nil, tpm2.SessionAudit, nil)), nil)
	}},
	{name: "nothing to decrypt", cite: "Part 3, 5.5", want: tpm2.RCAttributes.Session(1), run: func(b *bench) tpm2.RC {
		return b.raw(with(getRandom8, authEntry(b.xorSession(), nil, tpm2.SessionDecrypt, nil)), nil)
	}},
	{name: "nothing to encrypt", cite: "Part 3, 5.5", want: tpm2.RCAttributes.Session(1), run: func(b *bench) tpm2.RC {
		return b.raw(with(&tpm2.StirRandom{InData: []byte{1}}, authEntry(b.xorSession(), nil, tpm2.SessionEncrypt, nil)), nil)
	}},
	{name: "encrypts without a cipher", cite: "Part 3, 5.5", want: tpm2.RCSymmetric.Session(1), run: func(b *bench) tpm2.RC {
		return b.raw(with(getRandom8, authEntry(b.session(tpm2.SEHMAC), nil, tpm2.SessionEncrypt, nil)), nil)
	}},
	{name: "two encrypt", cite: "Part 3, 5.5", want: tpm2.RCAttributes.Session(2), run: func(b *bench) tpm2.RC {
		return b.raw(with(getRandom8, authEntry(b.xorSession(), nil, tpm2.SessionEncrypt, nil), authEntry(b.xorSession(), nil, tpm2.SessionEncrypt, nil)), nil)
	}},
	{name: "four sessions", cite: "Part 1, 15.6", want: tpm2.RCAuthSize, run: func(b *bench) tpm2.RC {
		e := func() []byte { return authEntry(b.session(tpm2.SEHMAC), nil, tpm2.SessionAudit, nil) }
		last := e()
		return b.raw(with(getRandom8, e(), e(), last, last), nil)
	}, libtpms: tpm2.RCAttributes.Session(2), because: "it looks at each session before it counts them"},
	{name: "trial session authorizes", cite: "Part 3, 5.6", want: tpm2.RCAttributes.Session(1), run: func(b *bench) tpm2.RC {
		return b.raw(with(&tpm2.ClearControl{Auth: tpm2.RHPlatform}, authEntry(b.session(tpm2.SETrial), nil, tpm2.ContinueSession, nil)), nil)
	}},
	{name: "trailing zeros of a password", cite: "Part 1, 16.6.4.3", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		b.ok(&tpm2.HierarchyChangeAuth{AuthHandle: tpm2.RHOwner, NewAuth: []byte("pw\x00\x00")}, nil)
		return b.do(&tpm2.HierarchyChangeAuth{AuthHandle: tpm2.RHOwner, NewAuth: nil}, nil, []byte("pw\x00"))
	}},
	{name: "wrong password", cite: "Part 3, 5.6", want: tpm2.RCBadAuth.Session(1), run: func(b *bench) tpm2.RC {
		b.ok(&tpm2.HierarchyChangeAuth{AuthHandle: tpm2.RHOwner, NewAuth: []byte("pw")}, nil)
		return b.do(&tpm2.HierarchyChangeAuth{AuthHandle: tpm2.RHOwner}, nil, []byte("wp"))
	}},
	{name: "wrong HMAC", cite: "Part 3, 5.6", want: tpm2.RCBadAuth.Session(1), run: func(b *bench) tpm2.RC {
		b.ok(&tpm2.HierarchyChangeAuth{AuthHandle: tpm2.RHOwner, NewAuth: []byte("pw")}, nil)
		return b.raw(with(&tpm2.HierarchyChangeAuth{AuthHandle: tpm2.RHOwner}, authEntry(b.session(tpm2.SEHMAC), make([]byte, 16), 0, make([]byte, 32))), nil)
	}},
	{name: "bad parameters after bad authorization", cite: "Part 3, 5.1", want: tpm2.RCBadAuth.Session(1), run: func(b *bench) tpm2.RC {
		b.ok(&tpm2.HierarchyChangeAuth{AuthHandle: tpm2.RHOwner, NewAuth: []byte("pw")}, nil)
		return b.raw(frame(tpm2.STSessions, tpm2.CCHierarchyChangeAuth, tpm2.RHOwner, area(noPassword), uint16(0xffff)), nil)
	}},
	{name: "nonceCaller too short", cite: "Part 3, 11.1.1", want: tpm2.RCSize.Param(1), run: func(b *bench) tpm2.RC {
		c := startSession(tpm2.SEHMAC)
		c.NonceCaller = make([]byte, 15)
		return b.do(c, nil)
	}},
	{name: "nonceCaller too long", cite: "Part 3, 11.1.1", want: tpm2.RCSize.Param(1), run: func(b *bench) tpm2.RC {
		c := startSession(tpm2.SEHMAC)
		c.NonceCaller = make([]byte, 33)
		return b.do(c, nil)
	}},
	{name: "salt to a key of another padding", cite: "Part 3, 11.1.1", want: tpm2.RCValue.Param(2), run: func(b *bench) tpm2.RC {
		pub := rsaStorage()
		pub.ObjectAttributes &^= tpm2.Restricted
		pub.Parameters.RSADetail.Symmetric, pub.Parameters.RSADetail.Scheme.Scheme = noSym, tpm2.AlgRSAES
		key := b.primary(tpm2.RHOwner, pub)
		key.OutPublic.Parameters.RSADetail.Scheme.Scheme = tpm2.AlgNull // the same modulus, to encrypt with OAEP
		var open tpm2.LoadExternalResponse
		b.ok(&tpm2.LoadExternal{InPublic: key.OutPublic, Hierarchy: tpm2.RHNull}, &open)
		var salt tpm2.RSAEncryptResponse
		b.ok(&tpm2.RSAEncrypt{KeyHandle: open.ObjectHandle, Message: make([]byte, 32), Label: []byte("SECRET\x00"),
			InScheme: tpm2.TPMTRSADecrypt{Scheme: tpm2.AlgOAEP, Details: tpm2.TPMUAsymScheme{Any: tpm2.TPMSSchemeHash{HashAlg: tpm2.AlgSHA256}}}}, &salt)
		c := startSession(tpm2.SEHMAC)
		c.TPMKey, c.EncryptedSalt = key.ObjectHandle, salt.OutData
		return b.do(c, nil)
	}},
	{name: "salt without a key", cite: "Part 3, 11.1.1", want: tpm2.RCValue.Param(2), run: func(b *bench) tpm2.RC {
		c := startSession(tpm2.SEHMAC)
		c.EncryptedSalt = make([]byte, 8)
		return b.do(c, nil)
	}},
	{name: "salt key that signs", cite: "Part 3, 11.1.1", want: tpm2.RCAttributes.Handle(1), run: func(b *bench) tpm2.RC {
		c := startSession(tpm2.SEHMAC)
		c.TPMKey = b.primary(tpm2.RHOwner, eccSigning(tpm2.ECCNISTP256, tpm2.AlgSHA256)).ObjectHandle
		c.EncryptedSalt = make([]byte, 8)
		return b.do(c, nil)
	}},
	{name: "session cipher without CFB", cite: "Part 3, 11.1.1", want: tpm2.RCMode.Param(4), run: func(b *bench) tpm2.RC {
		c := startSession(tpm2.SEHMAC)
		c.Symmetric = tpm2.TPMTSymDef{Algorithm: tpm2.AlgAES, KeyBits: tpm2.TPMUSymKeyBits{AES: 128}, Mode: tpm2.TPMUSymMode{AES: tpm2.AlgCBC}}
		return b.do(c, nil)
	}},
	{name: "session of no known kind", cite: "Part 2, 6.11", want: tpm2.RCValue.Param(3), run: func(b *bench) tpm2.RC { return b.do(startSession(2), nil) }},
	{name: "session with hash NULL", cite: "Part 3, 11.1.2", want: tpm2.RCHash.Param(5), run: func(b *bench) tpm2.RC {
		c := startSession(tpm2.SEHMAC)
		c.AuthHash = tpm2.AlgNull
		return b.do(c, nil)
	}},
	{name: "flushed session", cite: "Part 3, 28.4.1", want: tpm2.RCHandle.Param(1), run: always(&tpm2.FlushContext{FlushHandle: 0x02000000})},
	{name: "session context used twice", cite: "Part 1, 27.5", want: tpm2.RCHandle.Param(1), run: func(b *bench) tpm2.RC {
		var s tpm2.ContextSaveResponse
		b.ok(&tpm2.ContextSave{SaveHandle: b.session(tpm2.SEHMAC)}, &s)
		b.ok(&tpm2.ContextLoad{Context: s.Context}, nil)
		return b.do(&tpm2.ContextLoad{Context: s.Context}, nil)
	}},
	{name: "context changed", cite: "Part 1, 27.3", want: tpm2.RCIntegrity.Param(1), run: func(b *bench) tpm2.RC {
		var s tpm2.ContextSaveResponse
		b.ok(&tpm2.ContextSave{SaveHandle: b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle}, &s)
		s.Context.ContextBlob[len(s.Context.ContextBlob)-1] ^= 1
		return b.do(&tpm2.ContextLoad{Context: s.Context}, nil)
	}},
}

var parameterRules = []rule{
	{name: "octet left over", cite: "Part 3, 5.8", want: tpm2.RCSize, run: octets(frame(tpm2.STNoSessions, tpm2.CCGetRandom, uint16(8), uint8(0)))},
	{name: "cut", cite: "Part 3, 5.8", want: tpm2.RCInsufficient.Param(1), run: octets(frame(tpm2.STNoSessions, tpm2.CCGetRandom, uint8(8)))},
	{name: "neither yes nor no", cite: "Part 2, 9.2", want: tpm2.RCValue.Param(1), run: octets(frame(tpm2.STNoSessions, tpm2.CCSelfTest, uint8(2)))},
	{name: "unknown hash", cite: "Part 2, 9.27", want: tpm2.RCHash.Param(2), run: always(&tpm2.Hash{HashAlg: 0x1234, Hierarchy: tpm2.RHNull})},
	{name: "hash that is not implemented", cite: "Part 2, 9.27", want: tpm2.RCHash.Param(2), run: always(&tpm2.Hash{HashAlg: tpm2.AlgSM3256, Hierarchy: tpm2.RHNull})},
	{name: "buffer over its limit", cite: "Part 2, 10.4.8", want: tpm2.RCSize.Param(1), run: always(&tpm2.Hash{Data: make([]byte, maxBuffer+1), HashAlg: tpm2.AlgSHA256, Hierarchy: tpm2.RHNull})},
	{name: "hash for a hierarchy that is off", cite: "Part 3, 15.4.1", want: tpm2.RCSuccess, run: func(b *bench) tpm2.RC {
		b.ok(&tpm2.HierarchyControl{AuthHandle: tpm2.RHPlatform, Enable: tpm2.RHOwner, State: tpm2.No}, nil)
		b.ok(&tpm2.SequenceComplete{SequenceHandle: b.sequence(tpm2.AlgSHA256), Hierarchy: tpm2.RHOwner}, nil)
		return b.do(&tpm2.Hash{HashAlg: tpm2.AlgSHA256, Hierarchy: tpm2.RHOwner}, nil)
	}},
	{name: "hierarchy that is none", cite: "Part 2, 9.13", want: tpm2.RCValue.Param(3), run: always(&tpm2.Hash{HashAlg: tpm2.AlgSHA256, Hierarchy: tpm2.RHLockout})},
	{name: "capability that is none", cite: "Part 3, 30.2.1", want: tpm2.RCValue.Param(1), run: always(&tpm2.GetCapability{Capability: 0x20, PropertyCount: 1})},
	{name: "handles of no space", cite: "Part 3, 30.2.1", want: tpm2.RCHandle.Param(2), run: always(&tpm2.GetCapability{Capability: tpm2.CapHandles, Property: 0x7f000000, PropertyCount: 1})},
	{name: "list over its limit", cite: "Part 2, 10.9", want: tpm2.RCSize.Param(1), run: octets(frame(tpm2.STNoSessions, tpm2.CCPCRRead, uint32(17)))},
	{name: "PCR selection too small", cite: "Part 2, 10.5.2", want: tpm2.RCValue.Param(1), run: octets(frame(tpm2.STNoSessions, tpm2.CCPCRRead, uint32(1), uint16(tpm2.AlgSHA256), uint8(2), []byte{0, 0}))},
	{name: "PCR selection too large", cite: "Part 2, 10.5.2", want: tpm2.RCValue.Param(1), run: octets(frame(tpm2.STNoSessions, tpm2.CCPCRRead, uint32(1), uint16(tpm2.AlgSHA256), uint8(4), []byte{0, 0, 0, 0}))},
	{name: "curve unknown", cite: "Part 2, 11.2.5.3", want: tpm2.RCCurve.Param(1), run: always(&tpm2.ECCParameters{CurveID: 0x77})},
	{name: "clock adjustment unknown", cite: "Part 2, 6.7", want: tpm2.RCValue.Param(1), run: always(&tpm2.ClockRateAdjust{Auth: tpm2.RHOwner, RateAdjust: 9})},
	{name: "clock backwards", cite: "Part 3, 29.2.1", want: tpm2.RCValue.Param(1), run: func(b *bench) tpm2.RC {
		b.ok(&tpm2.ClockSet{Auth: tpm2.RHOwner, NewTime: 1 << 40}, nil)
		return b.do(&tpm2.ClockSet{Auth: tpm2.RHOwner, NewTime: 1 << 39}, nil)
	}},
	{name: "clock into the end of time", cite: "Part 3, 29.2.1", want: tpm2.RCValue.Param(1), run: always(&tpm2.ClockSet{Auth: tpm2.RHOwner, NewTime: 0xffff_0000_0000_0001})},
	{name: "empty structure", cite: "Part 2, 12.3.6", want: tpm2.RCSize.Param(1),
		run: octets(frame(tpm2.STSessions, tpm2.CCCreatePrimary, tpm2.RHOwner, area(noPassword), uint16(0)))},
	{name: "structure longer than its size", cite: "Part 2, 12.3.6", want: tpm2.RCInsufficient.Param(1),
		run: octets(frame(tpm2.STSessions, tpm2.CCCreatePrimary, tpm2.RHOwner, area(noPassword), uint16(3), uint16(0), uint8(0)))},
	{name: "structure shorter than its size", cite: "Part 2, 12.3.6", want: tpm2.RCSize.Param(1),
		run: octets(frame(tpm2.STSessions, tpm2.CCCreatePrimary, tpm2.RHOwner, area(noPassword), uint16(5), uint16(0), uint16(0), uint8(0)))},
	{name: "authValue over any digest", cite: "Part 2, 10.4.5", want: tpm2.RCSize.Param(1), run: always(&tpm2.HierarchyChangeAuth{AuthHandle: tpm2.RHOwner, NewAuth: bytes.Repeat([]byte{1}, 65)})},
	{name: "cipher mode unknown", cite: "Part 2, 9.29", want: tpm2.RCMode.Param(3), run: func(b *bench) tpm2.RC {
		return b.do(&tpm2.EncryptDecrypt2{KeyHandle: b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle, Mode: 0x49}, nil)
	}},
}
