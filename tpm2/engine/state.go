package engine

import (
	"errors"
	"slices"
	"time"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// seed is a primary seed with the version of the derivation that makes primary
// keys from it (derive.go). The two belong together for ever: a newer program
// keeps deriving an old seed's keys the old way.
type seed struct {
	value      []byte // 64 octets
	derivation uint8
}

// authPolicy is a hierarchy's policy; with TPM_ALG_NULL it has none.
type authPolicy struct {
	alg    tpm2.AlgID
	digest []byte
}

// nvram is all that survives power loss (Part 1, 34). A committed nvram is
// immutable: change the copy that [TPM.w] gives, and replace, never change,
// what its slices point to.
type nvram struct {
	ep, sp, pp                seed   // primary seeds (Part 1, 11.3)
	ehProof, shProof, phProof []byte // (Part 1, 11.4)

	ownerAuth, endorsementAuth, lockoutAuth       []byte
	ownerPolicy, endorsementPolicy, lockoutPolicy authPolicy
	disableClear                                  bool

	// Dictionary attack protection (Part 1, 16.8).
	failedTries, maxTries         uint32
	recoveryTime, lockoutRecovery uint32 // seconds
	lockoutAuthDisabled           bool   // lockoutAuth failed; no use until lockoutRecovery is over

	// Time (Part 1, 33).
	clock            uint64 // ms, as of this state
	resetCount       uint32
	totalResetCount  uint64
	restartCount     uint32
	orderly          orderly // how the TPM was last shut down
	clockSafe        bool
	startupLocality3 bool

	banks []tpm2.AlgID // allocated PCR banks, in the order of their identifiers

	auditHash    tpm2.AlgID // command audit (Part 1, 30.2)
	auditCounter uint64
	audited      []tpm2.CC // sorted
	algorithmSet uint32
	pcrPolicy    authPolicy // of the PCRs that have one (cmd_pcrauth.go)
	ppCommands   []tpm2.CC  // commands that want physical presence, sorted

	persistent []*object  // by handle
	indexes    []*nvIndex // by handle
	maxCounter uint64     // the highest value any deleted NV counter had (Part 1, 34.2.4)

	saved *savedState // by TPM2_Shutdown(TPM_SU_STATE); nil otherwise
}

// orderly says how the TPM was last shut down.
type orderly uint8

const (
	notOrderly orderly = iota
	orderlyClear
	orderlyState
)

// savedState is what TPM2_Shutdown(STATE) keeps for TPM2_Startup(STATE) (Part 1, 34.4).
type savedState struct {
	reset stateReset
	clear stateClear
	pcr   []pcrBank
}

// stateReset is RAM that a TPM Reset re-rolls and a TPM Restart keeps (Part 1, 9.3).
type stateReset struct {
	nullSeed     seed
	nullProof    []byte
	clearCount   uint32
	contextCount uint64 // the next sequence number for a saved context
	auditDigest  []byte // command audit
	pcrCounter   uint32
	commits      commits
	savedAt      [maxSessions]uint64 // for a saved session: the sequence of its only valid context; 0 otherwise
}

// stateClear is RAM that TPM Reset and TPM Restart set to defaults and TPM Resume keeps.
type stateClear struct {
	shEnable, ehEnable, phEnable, phEnableNV bool
	platformAuth                             []byte
	platformPolicy                           authPolicy
	pcrAuth                                  []byte
}

// ram is all that power loss takes. The zero value is a TPM that has no power.
type ram struct {
	started bool
	reset   stateReset
	clear   stateClear
	pcr     []pcrBank

	objects  [maxTransient]*object
	sessions [maxSessions]*session // loaded ones

	orderlyAtStart bool // the shutdown before this start was orderly
	pcrAllocated   bool // TPM2_PCR_Allocate has succeeded since

	exclusive tpm2.Handle // the exclusive audit session, or RHNull

	since               time.Duration // Config.Clock when Time and Clock were as follows
	timeThen, clockThen uint64        // ms
	rate                uint32        // of nominalRate
	daAt                uint64        // Time of the last change of failedTries
	lockoutAt           uint64        // Time of the last failure of lockoutAuth

	storeErr error // why the last Put failed
}

func (t *TPM) manufacture() *nvram {
	nv := &nvram{
		ep: t.newSeed(), sp: t.newSeed(), pp: t.newSeed(),
		ehProof: t.rng.bytes(proofSize), shProof: t.rng.bytes(proofSize), phProof: t.rng.bytes(proofSize),
		ownerPolicy: noPolicy, endorsementPolicy: noPolicy, lockoutPolicy: noPolicy,
		maxTries: daMaxTries, recoveryTime: daRecovery, lockoutRecovery: daRecovery,
		clockSafe:  true,
		banks:      []tpm2.AlgID{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512},
		auditHash:  tpm2.AlgSHA256,
		audited:    []tpm2.CC{tpm2.CCSetCommandCodeAuditStatus},
		ppCommands: []tpm2.CC{tpm2.CCPPCommands},
		pcrPolicy:  noPolicy,

		algorithmSet: t.cfg.AlgorithmSet,
	}
	nv.orderly = orderlyClear
	return nv
}

// Dictionary attack protection of a new owner's TPM, as the TCG reference has it.
const (
	daMaxTries = 3
	daRecovery = 1000 // seconds
)

const (
	seedSize  = 64 // as much as the strongest hash can use
	proofSize = 64
)

var noPolicy = authPolicy{alg: tpm2.AlgNull}

func (t *TPM) newSeed() seed {
	return seed{value: t.rng.bytes(seedSize), derivation: currentDerivation}
}

func encodePermanent(nv *nvram) []byte { return encodeBlob(statePermanent, nv.walk) }

func decodePermanent(blob []byte) (*nvram, error) {
	nv := new(nvram)
	if err := decodeBlob(statePermanent, blob, nv.walk); err != nil {
		return nil, err
	}
	return nv, nil
}

func (s *seed) walk(c *coder) {
	c.u8(&s.derivation)
	c.bytes(&s.value, seedSize)
	if !knownDerivation(s.derivation) {
		c.refuse() // made by a program that knows more
	}
}

func (p *authPolicy) walk(c *coder) {
	num(c, &p.alg)
	c.bytes(&p.digest, maxDigest)
}

func (nv *nvram) walk(c *coder) {
	for _, s := range []*seed{&nv.ep, &nv.sp, &nv.pp} {
		s.walk(c)
	}
	for _, b := range []*[]byte{&nv.ehProof, &nv.shProof, &nv.phProof, &nv.ownerAuth, &nv.endorsementAuth, &nv.lockoutAuth} {
		c.bytes(b, maxDigest)
	}
	for _, p := range []*authPolicy{&nv.ownerPolicy, &nv.endorsementPolicy, &nv.lockoutPolicy} {
		p.walk(c)
	}
	c.flag(&nv.disableClear)
	for _, v := range []*uint32{&nv.failedTries, &nv.maxTries, &nv.recoveryTime, &nv.lockoutRecovery, &nv.resetCount, &nv.restartCount} {
		c.u32(v)
	}
	c.flag(&nv.lockoutAuthDisabled)
	c.u64(&nv.clock)
	c.u64(&nv.totalResetCount)
	num(c, &nv.orderly)
	c.flag(&nv.clockSafe)
	c.flag(&nv.startupLocality3)
	list(c, &nv.banks, 8, num[tpm2.AlgID])
	num(c, &nv.auditHash)
	c.u64(&nv.auditCounter)
	list(c, &nv.audited, 256, num[tpm2.CC])
	list(c, &nv.ppCommands, 256, num[tpm2.CC])
	c.u32(&nv.algorithmSet)
	nv.pcrPolicy.walk(c)
	list(c, &nv.persistent, maxTakenPersistent, pointer(walkObject))
	list(c, &nv.indexes, maxTakenIndexes, pointer(walkIndex))
	c.u64(&nv.maxCounter)
	optional(c, &nv.saved, func(c *coder, s *savedState) {
		s.reset.walk(c)
		s.clear.walk(c)
		list(c, &s.pcr, 8, walkBank)
	})
	if !c.bad() && !nv.wellFormed() {
		c.refuse()
	}
}

func (s *stateReset) walk(c *coder) {
	s.nullSeed.walk(c)
	c.bytes(&s.nullProof, proofSize)
	c.u32(&s.clearCount)
	c.u64(&s.contextCount)
	c.bytes(&s.auditDigest, maxDigest)
	c.u32(&s.pcrCounter)
	s.commits.walk(c)
	for i := range s.savedAt {
		c.u64(&s.savedAt[i])
	}
}

func (s *stateClear) walk(c *coder) {
	c.flag(&s.shEnable)
	c.flag(&s.ehEnable)
	c.flag(&s.phEnable)
	c.flag(&s.phEnableNV)
	c.bytes(&s.platformAuth, maxDigest)
	s.platformPolicy.walk(c)
	c.bytes(&s.pcrAuth, maxDigest)
}

func (t *TPM) encodeVolatile() ([]byte, error) {
	for _, s := range t.sequences() {
		if err := s.save(); err != nil {
			return nil, err
		}
	}
	return encodeBlob(stateVolatile, t.walkVolatile), nil
}

func (t *TPM) decodeVolatile(blob []byte) error {
	was, wasHashing, wasEstablished := t.ram, t.hcrtm, t.established
	err := decodeBlob(stateVolatile, blob, t.walkVolatile)
	if err == nil {
		for _, s := range t.sequences() {
			err = errors.Join(err, s.restore())
		}
	}
	if err != nil {
		t.ram, t.hcrtm, t.established = was, wasHashing, wasEstablished
	}
	return err
}

// wellFormed verifies what everything else relies on. It holds for every state
// that an engine wrote, but one that is handed over in clear may come from anybody.
func (nv *nvram) wellFormed() bool {
	for i, o := range nv.persistent {
		if o.handle.Space() != tpm2.HTPersistent || o.seq != nil || o.sens == nil || i > 0 && nv.persistent[i-1].handle >= o.handle {
			return false
		}
	}
	for i, x := range nv.indexes {
		if !x.wellFormed() || i > 0 && nv.indexes[i-1].pub.NVIndex >= x.pub.NVIndex {
			return false
		}
	}
	return crypt.Hash(nv.auditHash) != 0 && distinctBanks(nv.banks)
}

// wellFormed is the same for what is in RAM.
func (r *ram) wellFormed() bool {
	for _, o := range r.objects {
		if o != nil && o.handle != 0 {
			return false
		}
	}
	for i, s := range r.sessions {
		if s != nil && int(s.handle&0xffffff) != i {
			return false
		}
	}
	var banks []tpm2.AlgID
	for _, b := range r.pcr {
		banks = append(banks, b.alg)
	}
	return distinctBanks(banks) && r.rate >= nominalRate-rateRange && r.rate <= nominalRate+rateRange
}

func distinctBanks(banks []tpm2.AlgID) bool {
	for i, a := range banks {
		if !slices.Contains(bankAlgs, a) || slices.Contains(banks[:i], a) {
			return false
		}
	}
	return true
}

func (t *TPM) walkVolatile(c *coder) {
	r := &t.ram
	if c.flag(&r.started); r.started { // before TPM2_Startup there is none of this
		r.reset.walk(c)
		r.clear.walk(c)
		list(c, &r.pcr, 8, walkBank)
	}
	for i := range r.objects {
		optional(c, &r.objects[i], walkObject)
	}
	for i := range r.sessions {
		optional(c, &r.sessions[i], walkSession)
	}
	num(c, &r.exclusive)
	c.flag(&r.orderlyAtStart)
	c.flag(&r.pcrAllocated)
	// Time goes on from the moment of the save; how long the save lay about is unknown.
	now, clock := t.time(), t.clock()
	c.u64(&now)
	c.u64(&clock)
	c.u32(&r.rate)
	c.u64(&r.daAt)
	c.u64(&r.lockoutAt)
	if c.dec != nil {
		t.rebase(now, clock)
		if !c.bad() && !r.wellFormed() {
			c.refuse()
		}
	}
	c.flag(&t.established)
	optional(c, &t.hcrtm, walkSequence)
}
