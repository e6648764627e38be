package engine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/libtpms"
)

// A TPM that began its life under libtpms goes on here: its state is read by
// tpm2/internal/libtpms and becomes state of this engine. What depends on the
// seeds is in derive_libtpms.go, contexts that were saved before are in
// libtpms_context.go.

// Errors that [TakeOverLibtpms] wraps.
var (
	// ErrNewer: the state was written by a later libtpms than this program knows.
	ErrNewer = libtpms.ErrNewer
	// ErrUnsupported: the TPM holds a key or an index that this engine cannot
	// have. Nothing is left out silently: remove it in the guest, or leave the
	// TPM where it is.
	ErrUnsupported = libtpms.ErrUnsupported
)

// IsLibtpms reports whether state begins as the permanent, or with volatile
// the volatile, state of a TPM 2.0 of libtpms.
func IsLibtpms(state []byte, volatile bool) bool {
	if volatile {
		return libtpms.IsVolatile(state)
	}
	return libtpms.IsPermanent(state)
}

// Takeover is a TPM of libtpms in this engine's encoding.
type Takeover struct {
	Permanent []byte
	Volatile  []byte // nil when none was given

	Persistent []tpm2.Handle // the keys that came along
	Indexes    []tpm2.Handle // and the NV indexes
	Derivation string        // of the endorsement seed: libtpms-0 or libtpms-1
	Left       []string      // what did not come along, for people
}

// TakeOverLibtpms makes state of this engine from the permanent state of
// libtpms 0.7 to 0.10 and, when volatile is not nil, from the volatile state of
// the same TPM. Everything that lasts comes along; Left says what of the running
// TPM does not.
func TakeOverLibtpms(permanent, volatile []byte) (*Takeover, error) {
	p, err := libtpms.ReadPermanent(permanent)
	if err != nil {
		return nil, fmt.Errorf("reading libtpms' permanent state: %w", err)
	}
	var v *libtpms.Volatile
	if volatile != nil {
		if v, err = libtpms.ReadVolatile(volatile); err != nil {
			return nil, fmt.Errorf("reading libtpms' volatile state: %w", err)
		}
	}
	x := &takeover{p: p, v: v, nv: new(nvram)}
	if err := x.permanent(); err != nil {
		return nil, fmt.Errorf("taking over a TPM of libtpms: %w", err)
	}
	out := &Takeover{Permanent: encodePermanent(x.nv)}
	// What follows is what every later start asks of this state.
	if _, err := decodePermanent(out.Permanent); err != nil {
		return nil, fmt.Errorf("taking over a TPM of libtpms: it has more than fits here: %w", err)
	}
	if v != nil {
		t := newTPM(Config{})
		t.nv = x.nv
		t.powerOn()
		if err := x.volatile(t); err != nil {
			return nil, fmt.Errorf("taking over the running TPM of libtpms: %w", err)
		}
		if out.Volatile, err = t.encodeVolatile(); err != nil {
			return nil, fmt.Errorf("taking over the running TPM of libtpms: %w", err)
		}
		if err := t.decodeVolatile(out.Volatile); err != nil {
			return nil, fmt.Errorf("taking over the running TPM of libtpms: it has more than fits here: %w", err)
		}
	}
	for _, o := range x.nv.persistent {
		out.Persistent = append(out.Persistent, o.handle)
	}
	for _, n := range x.nv.indexes {
		out.Indexes = append(out.Indexes, n.pub.NVIndex)
	}
	out.Derivation = fmt.Sprintf("libtpms-%d", p.EP.Level)
	out.Left = x.left
	return out, nil
}

// takeover is one take-over at work.
type takeover struct {
	p    *libtpms.Permanent
	v    *libtpms.Volatile // nil: the TPM is off
	nv   *nvram
	left []string
}

func (x *takeover) leave(format string, args ...any) {
	x.left = append(x.left, fmt.Sprintf(format, args...))
}

func (x *takeover) permanent() error {
	p, nv := x.p, x.nv
	for _, s := range []struct {
		to   *seed
		from libtpms.Seed
	}{{&nv.ep, p.EP}, {&nv.sp, p.SP}, {&nv.pp, p.PP}} {
		var err error
		if *s.to, err = takeSeed(s.from); err != nil {
			return err
		}
	}
	nv.ehProof, nv.shProof, nv.phProof = p.EHProof, p.SHProof, p.PHProof
	nv.ownerAuth, nv.endorsementAuth, nv.lockoutAuth = crypt.Trim(p.OwnerAuth), crypt.Trim(p.EndorsementAuth), crypt.Trim(p.LockoutAuth)
	nv.ownerPolicy, nv.endorsementPolicy, nv.lockoutPolicy = takePolicy(p.OwnerPolicy), takePolicy(p.EndorsementPolicy), takePolicy(p.LockoutPolicy)
	nv.disableClear = p.DisableClear

	nv.failedTries, nv.maxTries = p.FailedTries, p.MaxTries
	nv.recoveryTime, nv.lockoutRecovery = p.RecoveryTime, p.LockoutRecovery
	nv.lockoutAuthDisabled = !p.LockoutAuthEnabled
	// libtpms counts a failure on suspicion at the next start (DA.c, DAStartup).
	if p.OrderlyState == libtpms.SUDAUsed && x.v == nil && nv.recoveryTime != 0 && nv.failedTries < nv.maxTries {
		nv.failedTries++
	}

	nv.resetCount, nv.totalResetCount = p.ResetCount, p.TotalResetCount
	nv.clock, nv.clockSafe = p.Orderly.Clock, p.Orderly.ClockSafe
	su, locality3, orderly := p.Shutdown()
	nv.startupLocality3 = locality3
	switch {
	case !orderly:
		nv.orderly = notOrderly
	case su == tpm2.SUState:
		nv.orderly = orderlyState
	default:
		nv.orderly = orderlyClear
	}
	if x.v != nil {
		nv.clock, nv.clockSafe = x.v.Orderly.Clock, x.v.Orderly.ClockSafe
		nv.restartCount, nv.startupLocality3 = x.v.Reset.RestartCount, x.v.Locality3
	}

	nv.banks = x.takeBanks(p.NextBanks)
	nv.auditHash, nv.auditCounter = p.AuditHash, p.AuditCounter
	nv.algorithmSet = ClassicalSet // its guest sees the algorithms that it knows
	nv.audited, nv.ppCommands = x.implemented(p.Audited), x.implemented(p.PPCommands)
	nv.pcrPolicy = takePolicy(p.PCRPolicy)
	if err := x.objects(); err != nil {
		return err
	}
	if err := x.indexes(orderly); err != nil {
		return err
	}
	if nv.orderly == orderlyState {
		return x.saved()
	}
	return nil
}

// takeSeed numbers libtpms' way with seeds of this compatibility level.
func takeSeed(s libtpms.Seed) (seed, error) {
	if s.Level > derivationLibtpms1-derivationLibtpms0 {
		return seed{}, fmt.Errorf("a seed is of compatibility level %d: %w", s.Level, ErrNewer)
	}
	return seed{value: s.Value, derivation: derivationLibtpms0 + s.Level}, nil
}

func takePolicy(p libtpms.Policy) authPolicy {
	if p.Alg == tpm2.AlgNull || len(p.Digest) == 0 {
		return noPolicy
	}
	return authPolicy{p.Alg, p.Digest}
}

// takeBanks lists the banks of which PCRs are allocated. A bank is whole here.
func (x *takeover) takeBanks(list []libtpms.Bank) (banks []tpm2.AlgID) {
	for _, alg := range bankAlgs {
		for _, b := range list {
			if b.Alg != alg {
				continue
			}
			n := 0
			for i := range tpm2.PCRCount {
				if selected(b.Select, i) {
					n++
				}
			}
			if n > 0 {
				banks = append(banks, alg)
			}
			if n > 0 && n < tpm2.PCRCount {
				x.leave("that only %d PCRs of the bank of algorithm 0x%x were allocated: all are now", n, uint16(alg))
			}
		}
	}
	return banks
}

// implemented sorts a list of commands and leaves out those that are not here.
func (x *takeover) implemented(list []tpm2.CC) (out []tpm2.CC) {
	for _, c := range list {
		if tpm2.Info(c) != nil {
			out = append(out, c)
		}
	}
	slices.Sort(out)
	return out
}

// objects takes the persistent keys, all or none.
func (x *takeover) objects() error {
	for i := range x.p.Objects {
		o, err := takeKey(&x.p.Objects[i])
		if err != nil {
			return fmt.Errorf("the persistent key 0x%08x: %w", uint32(x.p.Objects[i].Handle), err)
		}
		o.handle = x.p.Objects[i].Handle
		x.nv.persistent = append(x.nv.persistent, o)
	}
	slices.SortFunc(x.nv.persistent, func(a, b *object) int { return cmp.Compare(a.handle, b.handle) })
	return nil
}

// takeKey takes one key, persistent or loaded.
func takeKey(f *libtpms.Object) (*object, error) {
	// Decoding once more tells whether the algorithms are here.
	d := tpm2.NewDecoder(tpm2.Marshal(&f.Public))
	d.Implements(implementsAlg, implementsCurve)
	var pub tpm2.TPMTPublic
	if d.Decode(&pub, true); d.RC() != tpm2.RCSuccess {
		return nil, fmt.Errorf("%w (%v)", ErrUnsupported, d.RC())
	}
	o := &object{pub: pub, sens: f.Sensitive, qn: f.QualifiedName, hierarchy: f.Attributes.Hierarchy(), external: f.Attributes.Has(libtpms.External)}
	o.clearing = f.Attributes.Has(libtpms.StClear) && !pub.ObjectAttributes.Has(tpm2.STClear) // it comes from an ancestor
	if o.sens != nil {
		o.sens.AuthValue = crypt.Trim(o.sens.AuthValue)
	}
	o.name = crypt.ObjectName(&o.pub)
	if !bytes.Equal(o.name, f.Name) {
		return nil, fmt.Errorf("%w: its Name is not that of its public area", ErrState)
	}
	if !o.wellFormed() {
		return nil, fmt.Errorf("%w (its parameters or key sizes)", ErrUnsupported)
	}
	return o, nil
}

// orderlyCount is how far libtpms may let an orderly counter run ahead of what
// is stored (MAX_ORDERLY_COUNT).
const orderlyCount = 255

// indexes takes the NV indexes. Of an orderly one the attributes and the data are
// in RAM, of which a copy is stored at an orderly shutdown.
func (x *takeover) indexes(orderly bool) error {
	ram, maxCounter := x.p.OrderlyIndexes, x.p.MaxCounter
	if x.v != nil {
		ram, maxCounter = x.v.OrderlyIndexes, max(maxCounter, x.v.MaxCounter)
	}
	x.nv.maxCounter = maxCounter
	for i := range x.p.Indexes {
		f := &x.p.Indexes[i]
		n := &nvIndex{pub: f.Public, auth: crypt.Trim(f.Auth), data: f.Data}
		h := n.pub.NVIndex
		if n.has(tpm2.NVOrderly) {
			at := slices.IndexFunc(ram, func(r libtpms.OrderlyIndex) bool { return r.Handle == h })
			if at < 0 {
				return fmt.Errorf("%w: the orderly NV index 0x%08x has no data", ErrState, uint32(h))
			}
			n.pub.Attributes, n.data = ram[at].Attributes, ram[at].Data
		}
		if len(n.data) != int(n.pub.DataSize) {
			return fmt.Errorf("%w: NV index 0x%08x has %d octets of data where %d belong", ErrState, uint32(h), len(n.data), n.pub.DataSize)
		}
		if crypt.Hash(n.pub.NameAlg) == 0 {
			return fmt.Errorf("NV index 0x%08x %w (its name algorithm 0x%x)", uint32(h), ErrUnsupported, uint16(n.pub.NameAlg))
		}
		// After an unorderly end the counter may have been ahead of its copy
		// (NVDynamic.c, NvEntityStartup). Here a counter is stored whenever it counts.
		if n.has(tpm2.NVOrderly|tpm2.NVWritten) && n.pub.Attributes.Type() == tpm2.NTCounter && !orderly && x.v == nil && len(n.data) == 8 {
			n.data = be(binary.BigEndian.Uint64(n.data) | orderlyCount)
		}
		x.nv.indexes = append(x.nv.indexes, n)
	}
	slices.SortFunc(x.nv.indexes, func(a, b *nvIndex) int { return cmp.Compare(a.pub.NVIndex, b.pub.NVIndex) })
	return nil
}

// saved takes what TPM2_Shutdown(STATE) has kept.
func (x *takeover) saved() error {
	s := new(savedState)
	var err error
	if s.reset, err = x.stateReset(x.p.Reset); err != nil {
		return err
	}
	s.clear = takeClear(x.p.Clear)
	s.clear.phEnable = true
	x.nv.restartCount = x.p.Reset.RestartCount
	for _, alg := range x.takeBanks(x.p.Banks) {
		values := make([]byte, tpm2.PCRCount*alg.DigestSize())
		for _, b := range x.p.Clear.PCRs {
			if b.Alg == alg {
				copy(values, b.Values)
			}
		}
		s.pcr = append(s.pcr, pcrBank{alg, values})
	}
	x.nv.saved = s
	return nil
}

func (x *takeover) stateReset(r *libtpms.StateReset) (s stateReset, err error) {
	if s.nullSeed, err = takeSeed(r.NullSeed); err != nil {
		return s, err
	}
	s.nullProof = r.NullProof
	s.clearCount = r.ClearCount
	s.contextCount = max(r.ObjectContextID, r.ContextCounter) + 1
	s.auditDigest = r.AuditDigest
	if len(bytes.Trim(s.auditDigest, "\x00")) == 0 { // a digest of zeros is none
		s.auditDigest = nil
	}
	s.pcrCounter = r.PCRCounter
	s.commits.secret = crypt.HMAC(tpm2.AlgSHA512, r.NullProof, []byte("ephemeral keys after a take-over"))
	// Of a session that was saved only the low bits of its context's number are
	// kept, with those of the next number to compare. Below is a loaded one's slot.
	for n, low := range r.ContextArray {
		if low > libtpms.LoadedSessions && n < maxSessions {
			last := r.ContextCounter - 1
			s.savedAt[n] = last - (last-uint64(low))&uint64(r.ContextMask)
		}
	}
	return s, nil
}

func takeClear(c *libtpms.StateClear) stateClear {
	s := stateClear{shEnable: c.SHEnable, ehEnable: c.EHEnable, phEnableNV: c.PHEnableNV,
		platformAuth: crypt.Trim(c.PlatformAuth), platformPolicy: takePolicy(c.PlatformPolicy)}
	if len(c.PCRAuth) > 0 {
		s.pcrAuth = crypt.Trim(c.PCRAuth[0])
	}
	return s
}

// volatile takes what is in RAM, into a TPM that has just been powered on with
// the permanent state.
func (x *takeover) volatile(t *TPM) error {
	v, r := x.v, &t.ram
	for i, s := range v.Seeds {
		if want := [][]byte{x.p.EP.Value, x.p.SP.Value, x.p.PP.Value}[i]; !bytesEqual(s, want) {
			return fmt.Errorf("%w: the volatile state is of another TPM than the permanent state", ErrState)
		}
	}
	if v.Failed {
		return fmt.Errorf("%w: it is in failure mode", ErrState)
	}
	t.established = v.Established
	if !v.Initialized { // before TPM2_Startup
		return nil
	}
	var err error
	r.started = true
	if r.reset, err = x.stateReset(&v.Reset); err != nil {
		return err
	}
	r.clear = takeClear(&v.Clear)
	r.clear.phEnable = v.PHEnable
	for _, alg := range x.takeBanks(x.p.Banks) {
		at := slices.IndexFunc(v.PCRs, func(b libtpms.PCRs) bool { return b.Alg == alg })
		if at < 0 || len(v.PCRs[at].Values) != tpm2.PCRCount*alg.DigestSize() {
			return fmt.Errorf("%w: the PCRs of algorithm 0x%x are missing", ErrState, uint16(alg))
		}
		r.pcr = append(r.pcr, pcrBank{alg, v.PCRs[at].Values})
	}
	r.orderlyAtStart = v.PreviousShutdown != libtpms.SUNone && v.PreviousShutdown != libtpms.SUDAUsed
	r.pcrAllocated = v.PCRReconfigured
	if rate := v.AdjustRate; rate >= nominalRate-rateRange && rate <= nominalRate+rateRange {
		r.rate = rate
	}
	t.rebase(v.Time, v.Orderly.Clock)
	// With a self-healing timer that is kept over power cycles, these are in the orderly data.
	r.daAt = min(max(v.SelfHeal, v.Orderly.SelfHeal), v.Time)
	r.lockoutAt = min(max(v.LockoutTimer, v.Orderly.Lockout), v.Time)
	for i, o := range v.Objects {
		if o == nil {
			continue
		}
		if i >= maxTransient {
			return fmt.Errorf("%w: an object is in slot %d", ErrState, i)
		}
		if r.objects[i], err = takeObject(o); err != nil {
			return fmt.Errorf("the loaded object 0x%08x: %w", uint32(tpm2.TransientFirst)+uint32(i), err)
		}
	}
	if v.DRTM.Space() == tpm2.HTTransient {
		x.leave("a dynamic launch that was under way")
	}
	return x.sessions(t)
}

func takeObject(f *libtpms.Object) (*object, error) {
	if f.Sequence == nil {
		return takeKey(f)
	}
	s := &sequence{kind: seqHash, auth: crypt.Trim(f.Sequence.Auth)}
	switch {
	case f.Attributes.Has(libtpms.HMACSequence):
		s.kind, s.key = seqHMAC, f.Sequence.OPad
	case f.Attributes.Has(libtpms.EventSequence):
		s.kind = seqEvent
	}
	for _, h := range f.Sequence.Hashes {
		s.algs = append(s.algs, h.Alg)
		s.states = append(s.states, marshalHash(&h))
	}
	if s.kind != seqEvent && len(s.algs) == 1 {
		s.alg = s.algs[0]
	}
	s.fed = f.Attributes.Has(libtpms.FirstBlock)
	s.unsafe = s.fed && !f.Attributes.Has(libtpms.TicketSafe)
	if err := s.restore(); err != nil {
		return nil, err
	}
	o := &object{seq: s, hierarchy: tpm2.RHNull}
	o.pub.Type = tpm2.AlgNull
	return o, nil
}

// marshalHash writes the state of a hash as the standard library's hashes read
// it: a magic word, the chaining value, a whole block, the length in octets.
func marshalHash(h *libtpms.Hash) []byte {
	magic := map[tpm2.AlgID]string{tpm2.AlgSHA1: "sha\x01", tpm2.AlgSHA256: "sha\x03", tpm2.AlgSHA384: "sha\x04", tpm2.AlgSHA512: "sha\x07"}[h.Alg]
	b := []byte(magic)
	block := 64
	for _, w := range h.Words {
		if h.Alg == tpm2.AlgSHA384 || h.Alg == tpm2.AlgSHA512 {
			b, block = binary.BigEndian.AppendUint64(b, w), 128
		} else {
			b = binary.BigEndian.AppendUint32(b, uint32(w))
		}
	}
	b = append(b, h.Pending...)
	b = append(b, make([]byte, block-len(h.Pending))...)
	return binary.BigEndian.AppendUint64(b, h.Octets)
}

// sessions takes the loaded sessions. The place of one in the array of contexts
// is its number; what is there is the slot it is in, from 1.
func (x *takeover) sessions(t *TPM) error {
	t.ram.exclusive = tpm2.RHNull
	for n, at := range x.v.Reset.ContextArray {
		if at == 0 || int(at) > len(x.v.Sessions) || n >= maxSessions {
			continue
		}
		f := x.v.Sessions[at-1]
		if f == nil {
			return fmt.Errorf("%w: session %d is in a slot that is free", ErrState, n)
		}
		s, err := t.takeSession(f, n)
		if err != nil {
			return err
		}
		t.ram.sessions[n] = s
		if x.v.ExclusiveSession == s.handle {
			t.ram.exclusive = s.handle
		}
	}
	return nil
}

func (t *TPM) takeSession(f *libtpms.Session, n int) (*session, error) {
	a := f.Attributes
	if !implementsAlg(f.Symmetric.Algorithm) && f.Symmetric.Algorithm != tpm2.AlgNull || crypt.Hash(f.Hash) == 0 {
		return nil, fmt.Errorf("session %d %w", n, ErrUnsupported)
	}
	s := &session{
		handle: tpm2.Handle(tpm2.HTHMACSession)<<24 | tpm2.Handle(n), kind: tpm2.SEHMAC,
		hash: f.Hash, symmetric: f.Symmetric, key: f.Key, nonceTPM: f.Nonce,
		boundDA: a.Has(libtpms.SessionDABound), boundLock: a.Has(libtpms.SessionLockoutBound),
		audit: a.Has(libtpms.SessionAudit), start: f.Start,
	}
	if !a.Has(libtpms.SessionPolicy) {
		switch {
		case s.audit:
			s.auditDigest = f.Digest
		case a.Has(libtpms.SessionBound):
			s.bound = t.boundLike(f.Bound)
		}
		return s, nil
	}
	s.handle = tpm2.Handle(tpm2.HTPolicySession)<<24 | tpm2.Handle(n)
	s.kind = tpm2.SEPolicy
	if a.Has(libtpms.SessionTrial) {
		s.kind = tpm2.SETrial
	}
	s.policy = policyState{
		digest: f.Digest, code: f.Command, timeout: f.Timeout, epoch: t.n().restartCount,
		locality: f.Locality, pcrCounter: f.PCRCounter, pcrChecked: f.PCRCounter != 0,
		authValue: a.Has(libtpms.SessionAuthValue), password: a.Has(libtpms.SessionPassword), presence: a.Has(libtpms.SessionPP),
		checkWritten: a.Has(libtpms.SessionCheckWritten), written: a.Has(libtpms.SessionWritten),
	}
	if len(f.Bound) > 0 { // a policy session is not bound, and has its one hash there
		s.policy.hash = f.Bound
		switch {
		case a.Has(libtpms.SessionCpHash):
			s.policy.slot = slotCpHash
		case a.Has(libtpms.SessionTemplate):
			s.policy.slot = slotTemplate
		case a.Has(libtpms.SessionParameters):
			s.policy.slot = slotParameters
		default:
			s.policy.slot = slotNameHash
		}
	}
	return s, nil
}

// boundLike finds the entity that a session was bound to by what libtpms
// remembers of it: its Name, filled up with zeros, with the authValue added to
// the end by exclusive or (Session.c, SessionComputeBoundEntity). One that is
// there no more, or has another authValue by now, is nobody's.
func (t *TPM) boundLike(bound []byte) []byte {
	handles := []tpm2.Handle{tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHPlatform, tpm2.RHLockout, tpm2.RHNull}
	for _, o := range t.nv.persistent {
		handles = append(handles, o.handle)
	}
	for _, n := range t.nv.indexes {
		handles = append(handles, n.pub.NVIndex)
	}
	for i, o := range t.ram.objects {
		if o != nil {
			handles = append(handles, tpm2.TransientFirst+tpm2.Handle(i))
		}
	}
	for _, h := range handles {
		name, auth := t.nameOf(h), t.authValueOf(h)
		if len(name) > len(bound) || len(auth) > len(bound) {
			continue
		}
		want := make([]byte, len(bound))
		copy(want, name)
		for i, b := range auth {
			want[len(want)-len(auth)+i] ^= b
		}
		if bytesEqual(want, bound) {
			return t.boundTo(h)
		}
	}
	return nil
}
