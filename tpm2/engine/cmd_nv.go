package engine

import (
	"bytes"
	"encoding/binary"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// nvDefineSpace is TPM2_NV_DefineSpace (Part 3, 31.3).
func (t *TPM) nvDefineSpace(_ *call, in *tpm2.NVDefineSpace, _ *tpm2.NVDefineSpaceResponse) tpm2.RC {
	pub := &in.PublicInfo
	platform := in.AuthHandle == tpm2.RHPlatform
	if rc := checkIndex(pub); rc != tpm2.RCSuccess {
		return rc.Param(2)
	}
	switch {
	case platform != pub.Attributes.Has(tpm2.NVPlatformCreate):
		return tpm2.RCAttributes.Handle(1)
	case pub.Attributes.Has(tpm2.NVPolicyDelete) && (!platform || len(pub.AuthPolicy) == 0): // nobody could delete it
		return tpm2.RCAttributes.Param(2)
	}
	auth := crypt.Trim(in.Auth)
	switch {
	case len(auth) > pub.NameAlg.DigestSize():
		return tpm2.RCSize.Param(1)
	case in.AuthHandle == tpm2.RHPlatform && !t.ram.clear.phEnableNV:
		return tpm2.RCHierarchy.Handle(1)
	case t.index(pub.NVIndex) != nil:
		return tpm2.RCNVDefined
	case len(t.n().indexes) >= maxNVIndexes:
		return tpm2.RCNVSpace
	}
	total := int(pub.DataSize)
	for _, x := range t.n().indexes {
		total += len(x.data)
	}
	if total > maxNVBytes {
		return tpm2.RCNVSpace
	}
	x := &nvIndex{pub: *pub, auth: bytes.Clone(auth), data: bytes.Repeat([]byte{0xff}, int(pub.DataSize))}
	x.pub.AuthPolicy = bytes.Clone(pub.AuthPolicy)
	if a := x.pub.Attributes; a.Has(tpm2.NVClearSTClear) || a.Has(tpm2.NVOrderly) {
		x.pub.Attributes &^= tpm2.NVWritten
	}
	t.putIndex(x)
	return tpm2.RCSuccess
}

// checkIndex verifies the public area of an index that is to be (Part 3, 31.3.1).
func checkIndex(pub *tpm2.TPMSNVPublic) tpm2.RC {
	a := pub.Attributes
	if n := len(pub.AuthPolicy); n != 0 && n != pub.NameAlg.DigestSize() {
		return tpm2.RCSize
	}
	switch a.Type() {
	case tpm2.NTOrdinary:
	case tpm2.NTCounter, tpm2.NTBits, tpm2.NTPinFail, tpm2.NTPinPass:
		if pub.DataSize != 8 {
			return tpm2.RCSize
		}
	case tpm2.NTExtend:
		if int(pub.DataSize) != pub.NameAlg.DigestSize() {
			return tpm2.RCSize
		}
	default:
		return tpm2.RCAttributes
	}
	pin := a.Type() == tpm2.NTPinFail || a.Type() == tpm2.NTPinPass
	switch {
	case a.Has(tpm2.NVWritten), a.Has(tpm2.NVWriteLocked), a.Has(tpm2.NVReadLocked): // state, not wish
		return tpm2.RCAttributes
	case a&(tpm2.NVOwnerRead|tpm2.NVPPRead|tpm2.NVAuthRead|tpm2.NVPolicyRead) == 0, // nobody could read it
		a&(tpm2.NVOwnerWrite|tpm2.NVPPWrite|tpm2.NVAuthWrite|tpm2.NVPolicyWrite) == 0: // or write it
		return tpm2.RCAttributes
	case a.Has(tpm2.NVClearSTClear) && a.Type() == tpm2.NTCounter, // a counter never goes back
		a.Has(tpm2.NVClearSTClear) && a.Has(tpm2.NVWriteDefine): // locked for ever, yet cleared
		return tpm2.RCAttributes
	case pin && (a.Has(tpm2.NVAuthWrite) || a.Has(tpm2.NVGlobalLock) || a.Has(tpm2.NVWriteDefine)):
		return tpm2.RCAttributes
	case a.Type() == tpm2.NTPinFail && !a.Has(tpm2.NVNoDA):
		return tpm2.RCAttributes
	case a.Has(tpm2.NVWriteAll) && int(pub.DataSize) > maxNVBuffer: // it could never be written
		return tpm2.RCSize
	}
	return tpm2.RCSuccess
}

// rememberCounter keeps what a deleted counter had reached: the next one begins above (Part 1, 34.2.4).
func (nv *nvram) rememberCounter(x *nvIndex) {
	if x.pub.Attributes.Type() == tpm2.NTCounter && x.has(tpm2.NVWritten) {
		nv.maxCounter = max(nv.maxCounter, binary.BigEndian.Uint64(x.data))
	}
}

// nvUndefineSpace is TPM2_NV_UndefineSpace (Part 3, 31.4).
func (t *TPM) nvUndefineSpace(_ *call, in *tpm2.NVUndefineSpace, _ *tpm2.NVUndefineSpaceResponse) tpm2.RC {
	x := t.index(in.NVIndex)
	switch {
	case x.has(tpm2.NVPolicyDelete):
		return tpm2.RCAttributes.Handle(2)
	case x.has(tpm2.NVPlatformCreate) && in.AuthHandle == tpm2.RHOwner:
		return tpm2.RCNVAuthorization
	}
	t.w().rememberCounter(x)
	t.deleteIndex(in.NVIndex)
	return tpm2.RCSuccess
}

// nvUndefineSpaceSpecial is TPM2_NV_UndefineSpaceSpecial (Part 3, 31.5).
func (t *TPM) nvUndefineSpaceSpecial(_ *call, in *tpm2.NVUndefineSpaceSpecial, _ *tpm2.NVUndefineSpaceSpecialResponse) tpm2.RC {
	x := t.index(in.NVIndex)
	if !x.has(tpm2.NVPolicyDelete) {
		return tpm2.RCAttributes.Handle(1)
	}
	t.w().rememberCounter(x)
	t.deleteIndex(in.NVIndex)
	t.endAuths(in.NVIndex)
	return tpm2.RCSuccess
}

// nvReadPublic is TPM2_NV_ReadPublic (Part 3, 31.6).
func (t *TPM) nvReadPublic(_ *call, in *tpm2.NVReadPublic, out *tpm2.NVReadPublicResponse) tpm2.RC {
	x := t.index(in.NVIndex)
	out.NVPublic, out.NVName = x.pub, x.name()
	return tpm2.RCSuccess
}

// nvAuthorized verifies that the authorization comes from where the attributes
// allow it: owner, platform, or the index itself (Part 3, 31.1).
func (t *TPM) nvAuthorized(h tpm2.Handle, x *nvIndex, owner, platform tpm2.NVAttributes) tpm2.RC {
	switch {
	case h == tpm2.RHOwner && x.has(owner), h == tpm2.RHPlatform && x.has(platform):
		return tpm2.RCSuccess
	case h == x.pub.NVIndex: // the pipeline has checked AUTH… and POLICY…
		return tpm2.RCSuccess
	}
	return tpm2.RCNVAuthorization
}

// nvReadable: may it be read now, with this authorization?
func (t *TPM) nvReadable(h tpm2.Handle, x *nvIndex) tpm2.RC {
	if x.has(tpm2.NVReadLocked) { // a lock comes before the question who asks (Part 3, 5.4)
		return tpm2.RCNVLocked
	}
	if rc := t.nvAuthorized(h, x, tpm2.NVOwnerRead, tpm2.NVPPRead); rc != tpm2.RCSuccess {
		return rc
	}
	if !x.has(tpm2.NVWritten) {
		return tpm2.RCNVUninitialized
	}
	return tpm2.RCSuccess
}

// nvWritable: may it be written now, with this authorization?
func (t *TPM) nvWritable(h tpm2.Handle, x *nvIndex) tpm2.RC {
	if x.has(tpm2.NVWriteLocked) {
		return tpm2.RCNVLocked
	}
	return t.nvAuthorized(h, x, tpm2.NVOwnerWrite, tpm2.NVPPWrite)
}

// written puts changed data in place. For an index of RAM (TPMA_NV_ORDERLY) the
// data is stored as well: durability is cheaper to promise than to explain.
func (t *TPM) written(x *nvIndex, data []byte) {
	c := *x
	c.data = data
	c.pub.Attributes |= tpm2.NVWritten
	t.putIndex(&c)
}

// nvWrite is TPM2_NV_Write (Part 3, 31.7).
func (t *TPM) nvWrite(_ *call, in *tpm2.NVWrite, _ *tpm2.NVWriteResponse) tpm2.RC {
	x := t.index(in.NVIndex)
	if rc := t.nvWritable(in.AuthHandle, x); rc != tpm2.RCSuccess {
		return rc
	}
	typ := x.pub.Attributes.Type()
	pin := typ == tpm2.NTPinFail || typ == tpm2.NTPinPass
	size := int(x.pub.DataSize)
	switch {
	case typ != tpm2.NTOrdinary && !pin:
		return tpm2.RCAttributes.Handle(2)
	case int(in.Offset) > size:
		return tpm2.RCValue.Param(2)
	case int(in.Offset)+len(in.Data) > size:
		return tpm2.RCNVRange
	case x.has(tpm2.NVWriteAll) && len(in.Data) != size:
		return tpm2.RCNVRange
	}
	data := bytes.Clone(x.data)
	if !x.has(tpm2.NVWritten) { // what was never written reads as ones (Part 1, 34.2.1)
		fill(data, 0xff)
		if pin { // and here as zeros: neither a use nor a limit (34.2.6.6)
			clear(data)
		}
	}
	copy(data[in.Offset:], in.Data)
	t.written(x, data)
	return tpm2.RCSuccess
}

// nvIncrement is TPM2_NV_Increment (Part 3, 31.8).
func (t *TPM) nvIncrement(_ *call, in *tpm2.NVIncrement, _ *tpm2.NVIncrementResponse) tpm2.RC {
	x := t.index(in.NVIndex)
	if rc := t.nvWritable(in.AuthHandle, x); rc != tpm2.RCSuccess {
		return rc
	}
	if x.pub.Attributes.Type() != tpm2.NTCounter {
		return tpm2.RCAttributes.Handle(2)
	}
	v := t.maxCounterEver()
	if x.has(tpm2.NVWritten) {
		v = binary.BigEndian.Uint64(x.data)
	}
	t.written(x, be(v+1))
	return tpm2.RCSuccess
}

// maxCounterEver is the highest value that any counter has or had (Part 1, 34.2.4).
func (t *TPM) maxCounterEver() uint64 {
	top := t.n().maxCounter
	for _, x := range t.n().indexes {
		if x.pub.Attributes.Type() == tpm2.NTCounter && x.has(tpm2.NVWritten) {
			top = max(top, binary.BigEndian.Uint64(x.data))
		}
	}
	return top
}

// nvExtend is TPM2_NV_Extend (Part 3, 31.9).
func (t *TPM) nvExtend(_ *call, in *tpm2.NVExtend, _ *tpm2.NVExtendResponse) tpm2.RC {
	x := t.index(in.NVIndex)
	if rc := t.nvWritable(in.AuthHandle, x); rc != tpm2.RCSuccess {
		return rc
	}
	if x.pub.Attributes.Type() != tpm2.NTExtend {
		return tpm2.RCAttributes.Handle(2)
	}
	was := x.data
	if !x.has(tpm2.NVWritten) {
		was = make([]byte, x.pub.DataSize)
	}
	t.written(x, crypt.Digest(x.pub.NameAlg, was, in.Data))
	return tpm2.RCSuccess
}

// nvSetBits is TPM2_NV_SetBits (Part 3, 31.10).
func (t *TPM) nvSetBits(_ *call, in *tpm2.NVSetBits, _ *tpm2.NVSetBitsResponse) tpm2.RC {
	x := t.index(in.NVIndex)
	if rc := t.nvWritable(in.AuthHandle, x); rc != tpm2.RCSuccess {
		return rc
	}
	if x.pub.Attributes.Type() != tpm2.NTBits {
		return tpm2.RCAttributes.Handle(2)
	}
	was := uint64(0)
	if x.has(tpm2.NVWritten) {
		was = binary.BigEndian.Uint64(x.data)
	}
	t.written(x, be(was|in.Bits))
	return tpm2.RCSuccess
}

// withAttributes puts an index with more attributes SET in place.
func (t *TPM) withAttributes(x *nvIndex, a tpm2.NVAttributes) {
	if x.has(a) {
		return
	}
	c := *x
	c.pub.Attributes |= a
	t.putIndex(&c)
}

// nvWriteLock is TPM2_NV_WriteLock (Part 3, 31.11).
func (t *TPM) nvWriteLock(_ *call, in *tpm2.NVWriteLock, _ *tpm2.NVWriteLockResponse) tpm2.RC {
	x := t.index(in.NVIndex)
	switch rc := t.nvWritable(in.AuthHandle, x); {
	case rc == tpm2.RCNVLocked: // locked already is locked
		return tpm2.RCSuccess
	case rc != tpm2.RCSuccess:
		return rc
	}
	if !x.has(tpm2.NVWriteDefine) && !x.has(tpm2.NVWriteSTClear) {
		return tpm2.RCAttributes.Handle(2)
	}
	t.withAttributes(x, tpm2.NVWriteLocked)
	return tpm2.RCSuccess
}

// nvGlobalWriteLock is TPM2_NV_GlobalWriteLock (Part 3, 31.12).
func (t *TPM) nvGlobalWriteLock(*call, *tpm2.NVGlobalWriteLock, *tpm2.NVGlobalWriteLockResponse) tpm2.RC {
	for _, x := range t.n().indexes {
		if x.has(tpm2.NVGlobalLock) {
			t.withAttributes(x, tpm2.NVWriteLocked)
		}
	}
	return tpm2.RCSuccess
}

// nvRead is TPM2_NV_Read (Part 3, 31.13).
func (t *TPM) nvRead(_ *call, in *tpm2.NVRead, out *tpm2.NVReadResponse) tpm2.RC {
	x := t.index(in.NVIndex)
	if rc := t.nvReadable(in.AuthHandle, x); rc != tpm2.RCSuccess {
		return rc
	}
	switch size := int(x.pub.DataSize); {
	case in.Size > maxNVBuffer:
		return tpm2.RCValue.Param(1)
	case int(in.Offset) > size:
		return tpm2.RCValue.Param(2)
	case int(in.Offset)+int(in.Size) > size:
		return tpm2.RCNVRange
	}
	out.Data = x.data[in.Offset : in.Offset+in.Size]
	return tpm2.RCSuccess
}

// nvReadLock is TPM2_NV_ReadLock (Part 3, 31.14).
func (t *TPM) nvReadLock(_ *call, in *tpm2.NVReadLock, _ *tpm2.NVReadLockResponse) tpm2.RC {
	x := t.index(in.NVIndex)
	if x.has(tpm2.NVReadLocked) {
		return tpm2.RCSuccess
	}
	if rc := t.nvAuthorized(in.AuthHandle, x, tpm2.NVOwnerRead, tpm2.NVPPRead); rc != tpm2.RCSuccess {
		return rc
	}
	if !x.has(tpm2.NVReadSTClear) {
		return tpm2.RCAttributes.Handle(2)
	}
	t.withAttributes(x, tpm2.NVReadLocked)
	return tpm2.RCSuccess
}

// nvChangeAuth is TPM2_NV_ChangeAuth (Part 3, 31.15).
func (t *TPM) nvChangeAuth(_ *call, in *tpm2.NVChangeAuth, _ *tpm2.NVChangeAuthResponse) tpm2.RC {
	x := t.index(in.NVIndex)
	auth, rc := checkUserAuth(in.NewAuth, x.pub.NameAlg)
	if rc != tpm2.RCSuccess {
		return rc.Param(1)
	}
	c := *x
	c.auth = bytes.Clone(auth)
	t.putIndex(&c)
	return tpm2.RCSuccess
}

// nvCertify is TPM2_NV_Certify (Part 3, 31.16); size and offset 0 certify a digest of the whole.
func (t *TPM) nvCertify(_ *call, in *tpm2.NVCertify, out *tpm2.NVCertifyResponse) tpm2.RC {
	key, rc := t.checkAttestKey(in.SignHandle, 1)
	if rc != tpm2.RCSuccess {
		return rc
	}
	x := t.index(in.NVIndex)
	if rc := t.nvReadable(in.AuthHandle, x); rc != tpm2.RCSuccess {
		return rc
	}
	scheme, rc := signScheme(key, &in.InScheme)
	if rc != tpm2.RCSuccess {
		return rc.Param(2)
	}
	switch {
	case int(in.Offset)+int(in.Size) > int(x.pub.DataSize):
		return tpm2.RCNVRange
	case in.Size > maxNVBuffer:
		return tpm2.RCValue.Param(3)
	}
	a := tpm2.TPMSAttest{Type: tpm2.STAttestNV}
	if in.Size == 0 && in.Offset == 0 {
		alg, rc := schemeHash(key, &scheme, &in.InScheme)
		if rc != tpm2.RCSuccess {
			return rc
		}
		a.Type = tpm2.STAttestNVDigest
		a.Attested.NVDigest = tpm2.TPMSNVDigestCertifyInfo{IndexName: x.name(), NVDigest: crypt.Digest(alg, x.data)}
	} else {
		a.Attested.NV = tpm2.TPMSNVCertifyInfo{IndexName: x.name(), Offset: in.Offset, NVContents: x.data[in.Offset : in.Offset+in.Size]}
	}
	out.CertifyInfo, out.Signature, rc = t.attest(key, &scheme, &a, in.QualifyingData)
	return rc
}

// startIndexes does what TPM2_Startup does to NV indexes (Part 3, 9.3.1; Part 2,
// 13.4). Locks for the time until a start end; what is cleared on a start is cleared.
func (t *TPM) startIndexes(resume, reset bool) {
	for _, x := range t.n().indexes {
		a := x.pub.Attributes
		if !resume {
			if a.Has(tpm2.NVReadSTClear) {
				a &^= tpm2.NVReadLocked
			}
			if a.Has(tpm2.NVClearSTClear) {
				a &^= tpm2.NVWritten
			}
		}
		// What lives in RAM outlasts TPM2_Shutdown(STATE) only, except counters.
		if a.Has(tpm2.NVOrderly) && reset && a.Type() != tpm2.NTCounter {
			a &^= tpm2.NVWritten
		}
		// A lock for ever (WRITEDEFINE) holds while there is something to protect.
		if !resume && (!a.Has(tpm2.NVWriteDefine) || !a.Has(tpm2.NVWritten)) {
			a &^= tpm2.NVWriteLocked
		}
		if a != x.pub.Attributes {
			c := *x
			c.pub.Attributes = a
			t.putIndex(&c)
		}
	}
}

// afterPIN counts the use of a PIN index's authValue (Part 1, 34.2.7): PIN Fail
// its failures, PIN Pass its successes.
func (t *TPM) afterPIN(h tpm2.Handle, ok bool) {
	x := t.index(h)
	if x == nil || !x.has(tpm2.NVWritten) || len(x.data) != 8 {
		return
	}
	count := binary.BigEndian.Uint32(x.data)
	switch typ := x.pub.Attributes.Type(); {
	case typ == tpm2.NTPinFail && ok:
		count = 0
	case typ == tpm2.NTPinFail, typ == tpm2.NTPinPass && ok:
		if count < ^uint32(0) {
			count++
		}
	default:
		return
	}
	data := bytes.Clone(x.data)
	binary.BigEndian.PutUint32(data, count)
	if !bytes.Equal(data, x.data) {
		t.written(x, data)
	}
}

// pinSpent reports whether a PIN index's count has reached its limit, so that
// its authValue can no longer be used.
func (t *TPM) pinSpent(h tpm2.Handle) bool {
	x := t.index(h)
	if x == nil || len(x.data) != 8 {
		return false
	}
	switch x.pub.Attributes.Type() {
	case tpm2.NTPinFail, tpm2.NTPinPass:
		return !x.has(tpm2.NVWritten) || binary.BigEndian.Uint32(x.data) >= binary.BigEndian.Uint32(x.data[4:])
	}
	return false
}

// nvDefineSpace2 is TPM2_NV_DefineSpace2 (Part 3, 31.17). External NV indexes,
// whose data would be kept elsewhere, are absent: only the ordinary type decodes.
func (t *TPM) nvDefineSpace2(c *call, in *tpm2.NVDefineSpace2, _ *tpm2.NVDefineSpace2Response) tpm2.RC {
	return t.nvDefineSpace(c, &tpm2.NVDefineSpace{AuthHandle: in.AuthHandle, Auth: in.Auth, PublicInfo: in.PublicInfo.PublicArea.NVIndex}, nil)
}

// nvReadPublic2 is TPM2_NV_ReadPublic2 (Part 3, 31.18). The Name is the one that
// TPM2_NV_ReadPublic gives.
func (t *TPM) nvReadPublic2(_ *call, in *tpm2.NVReadPublic2, out *tpm2.NVReadPublic2Response) tpm2.RC {
	x := t.index(in.NVIndex)
	out.NVPublic.HandleType, out.NVPublic.PublicArea.NVIndex = tpm2.HTNVIndex, x.pub
	out.NVName = x.name()
	return tpm2.RCSuccess
}
