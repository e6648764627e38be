package engine

import (
	"bytes"
	"slices"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// The largest contexts there can be: an ML-DSA-87 key with everything, a policy session.
const (
	maxObjectContext  = 3200
	maxSessionContext = 800
	// usualContext is enough for an ECC key or a session; what is larger grows.
	usualContext = 384
)

// contextKey makes the key that encrypts a context, and the IV, from the
// hierarchy's proof and what the context says of itself (Part 1, 27.3.1). The
// sequence begins anew at a TPM Reset, which therefore counts as well: no key is
// used twice.
func (t *TPM) contextKey(x *tpm2.TPMSContext) (key, iv []byte) {
	e := tpm2.NewEncoder(make([]byte, 0, 8+4))
	e.U64(x.Sequence)
	e.U32(uint32(x.SavedHandle))
	km := crypt.KDFaOf(t.proofMAC(x.Hierarchy), "CONTEXT", e.Out(), be(t.n().totalResetCount), (32+16)*8)
	return km[:32], km[32:]
}

// sealContext encrypts a context and fills in its blob: HMAC, then ciphertext.
func (t *TPM) sealContext(x *tpm2.TPMSContext, plain []byte) {
	key, iv := t.contextKey(x)
	crypt.CFBEncrypt(key, iv, plain)
	e := tpm2.NewEncoder(make([]byte, 0, 2+maxDigest+len(plain)))
	e.Buf(t.contextMAC(x, plain))
	e.Bytes(plain)
	x.ContextBlob = e.Out()
}

// contextMAC is keyed with the proof; it covers totalResetCount, and clearCount
// for what a restart must end (Part 1, 27.3.2). The magic tells a context of ours
// from one that was saved under libtpms before the TPM was taken over.
func (t *TPM) contextMAC(x *tpm2.TPMSContext, ciphertext []byte) []byte {
	e := tpm2.NewEncoder(make([]byte, 0, 4+8+4+8+4))
	e.U32(stateMagic)
	e.U64(t.n().totalResetCount)
	if x.SavedHandle == tpm2.SavedTransientClear {
		e.U32(t.ram.reset.clearCount)
	}
	e.U64(x.Sequence)
	e.U32(uint32(x.SavedHandle))
	m := t.proofMAC(x.Hierarchy)
	m.Write(e.Out())
	m.Write(ciphertext)
	return m.Sum(nil)
}

// openContext is the reverse of sealContext.
func (t *TPM) openContext(x *tpm2.TPMSContext) ([]byte, tpm2.RC) {
	d := tpm2.NewDecoder(x.ContextBlob)
	sum := d.Buf(maxDigest)
	body := d.Rest()
	if d.RC() != tpm2.RCSuccess || !bytesEqual(sum, t.contextMAC(x, body)) {
		return nil, tpm2.RCIntegrity
	}
	plain := bytes.Clone(body)
	key, iv := t.contextKey(x)
	crypt.CFBDecrypt(key, iv, plain)
	return plain, tpm2.RCSuccess
}

// contextSave is TPM2_ContextSave (Part 3, 28.2).
func (t *TPM) contextSave(_ *call, in *tpm2.ContextSave, out *tpm2.ContextSaveResponse) tpm2.RC {
	x := &out.Context
	e := tpm2.NewEncoder(make([]byte, 0, usualContext))
	cd := &coder{enc: e}
	if in.SaveHandle.Space() == tpm2.HTTransient {
		o := t.object(in.SaveHandle)
		x.Sequence = t.ram.reset.contextCount
		x.Hierarchy = o.hierarchy
		x.SavedHandle = tpm2.SavedTransient
		switch {
		case o.seq != nil:
			if o.seq.save() != nil {
				return tpm2.RCFailure
			}
			x.SavedHandle = tpm2.SavedSequence
		case o.endsAtRestart():
			x.SavedHandle = tpm2.SavedTransientClear
		}
		walkObject(cd, o)
		if o.seq != nil {
			o.seq.states = nil
		}
		t.ram.reset.contextCount++
		t.sealContext(x, e.Out())
		return tpm2.RCSuccess
	}
	s := t.session(in.SaveHandle)
	x.SavedHandle, x.Hierarchy, x.Sequence = s.handle, tpm2.RHNull, t.ram.reset.contextCount
	walkSession(cd, s)
	t.ram.reset.contextCount++
	t.sealContext(x, e.Out())
	// The session is in its context now and nowhere else, and this context only is valid (Part 1, 27.5).
	n := s.handle & 0xffffff
	t.ram.reset.savedAt[n] = x.Sequence
	t.ram.sessions[n] = nil
	return tpm2.RCSuccess
}

// contextLoad is TPM2_ContextLoad (Part 3, 28.3).
func (t *TPM) contextLoad(_ *call, in *tpm2.ContextLoad, out *tpm2.ContextLoadResponse) tpm2.RC {
	x := &in.Context
	plain, rc := t.openContext(x)
	foreign := rc != tpm2.RCSuccess && t.ranUnderLibtpms()
	if rc != tpm2.RCSuccess && !foreign {
		return rc.Param(1)
	}
	if !t.hierarchyEnabled(x.Hierarchy) {
		return tpm2.RCHierarchy.Param(1)
	}
	d := tpm2.NewDecoder(plain)
	cd := &coder{dec: d}
	if x.SavedHandle >= tpm2.SavedTransient {
		o := new(object)
		if foreign {
			var ok bool
			if o, ok = t.loadLibtpmsObject(x); !ok {
				return tpm2.RCIntegrity.Param(1)
			}
		} else {
			walkObject(cd, o)
			if d.Done(); d.RC() != tpm2.RCSuccess || o.hierarchy != x.Hierarchy {
				return tpm2.RCIntegrity.Param(1)
			}
			if o.seq != nil && o.seq.restore() != nil {
				return tpm2.RCIntegrity.Param(1)
			}
		}
		o.handle = 0
		out.LoadedHandle, rc = t.addObject(o)
		return rc
	}
	n := x.SavedHandle & 0xffffff
	if n >= maxSessions || t.ram.reset.savedAt[n] != x.Sequence || x.Sequence == 0 {
		return tpm2.RCHandle.Param(1)
	}
	s := new(session)
	if foreign {
		var ok bool
		if s, ok = t.loadLibtpmsSession(x); !ok {
			return tpm2.RCIntegrity.Param(1)
		}
	} else {
		walkSession(cd, s)
		if d.Done(); d.RC() != tpm2.RCSuccess {
			return tpm2.RCIntegrity.Param(1)
		}
	}
	if s.handle != x.SavedHandle {
		return tpm2.RCIntegrity.Param(1)
	}
	t.ram.sessions[n], t.ram.reset.savedAt[n] = s, 0
	out.LoadedHandle = s.handle
	return tpm2.RCSuccess
}

// flushContext is TPM2_FlushContext (Part 3, 28.4).
func (t *TPM) flushContext(_ *call, in *tpm2.FlushContext, _ *tpm2.FlushContextResponse) tpm2.RC {
	h := in.FlushHandle
	if h.Space() == tpm2.HTTransient {
		if t.object(h) == nil {
			return tpm2.RCHandle.Param(1)
		}
		t.flushObject(h)
		return tpm2.RCSuccess
	}
	n := h & 0xffffff // the kind of session is ignored (Part 3, 28.4.1)
	switch {
	case n < maxSessions && t.ram.sessions[n] != nil:
		t.flushSession(t.ram.sessions[n].handle)
	case n < maxSessions && t.ram.reset.savedAt[n] != 0: // saved: its context dies, also for a TPM2_Startup(STATE)
		if rc := t.noLongerOrderly(); rc != tpm2.RCSuccess {
			return rc
		}
		t.ram.reset.savedAt[n] = 0
	default:
		return tpm2.RCHandle.Param(1)
	}
	return tpm2.RCSuccess
}

// evictControl is TPM2_EvictControl (Part 3, 28.5).
func (t *TPM) evictControl(_ *call, in *tpm2.EvictControl, _ *tpm2.EvictControlResponse) tpm2.RC {
	o := t.object(in.ObjectHandle)
	if o.seq != nil || o.external || o.sens == nil || o.hierarchy == tpm2.RHNull || o.endsAtRestart() {
		return tpm2.RCAttributes.Handle(2)
	}
	platform := in.PersistentHandle >= tpm2.PlatformPersistent
	switch {
	case in.Auth == tpm2.RHPlatform && o.hierarchy != tpm2.RHPlatform && o.handle == 0, // it may evict anything
		in.Auth == tpm2.RHOwner && o.hierarchy == tpm2.RHPlatform:
		return tpm2.RCHierarchy.Handle(2)
	}
	if in.ObjectHandle.Space() == tpm2.HTPersistent { // away with it
		switch {
		case in.ObjectHandle != in.PersistentHandle:
			return tpm2.RCHandle.Handle(2)
		}
		nv := t.w()
		nv.persistent = slices.DeleteFunc(slices.Clone(nv.persistent), func(p *object) bool { return p.handle == in.ObjectHandle })
		return tpm2.RCSuccess
	}
	if platform != (in.Auth == tpm2.RHPlatform) {
		return tpm2.RCRange.Param(1)
	}
	list := t.n().persistent
	i, found := slices.BinarySearchFunc(list, in.PersistentHandle, func(p *object, h tpm2.Handle) int { return int(p.handle) - int(h) })
	switch {
	case found:
		return tpm2.RCNVDefined
	case len(list) >= maxPersistent:
		return tpm2.RCNVSpace
	}
	p := *o
	p.handle = in.PersistentHandle
	t.w().persistent = slices.Insert(slices.Clone(list), i, &p)
	return tpm2.RCSuccess
}
