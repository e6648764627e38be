// Package libtpms reads the state of a TPM 2.0 that libtpms wrote, as swtpm
// keeps it: the permanent state and the volatile state of a suspended TPM, from
// libtpms 0.7 to 0.10. It gives plain values; what an engine makes of them is in
// tpm2/engine. It writes nothing and knows no files and no keys: swtpm's
// envelope is in internal/vtpm/swtpm.
//
// The layout was read in libtpms' NVMarshal.c, Global.h and Volatile.c. Every
// part begins with a version and a magic number, and ends with a block that
// holds what later versions added, so that an older reader can pass over it;
// this one does so too. A part whose minimum version is above what is known here
// is refused. State of a big-endian host is refused where it shows.
//
// Begin with [ReadPermanent] and [ReadVolatile].
package libtpms

import (
	"errors"
	"fmt"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// Limits, each above what libtpms can hold.
const (
	MaxState     = 512 << 10 // swtpm caps a state blob at this
	maxConstants = 1024      // compile-time constants: 120 in libtpms 0.9
	maxCommands  = 128       // octets of a list of commands with a bit each
	maxPCRAlgs   = 16        // hash algorithms of banks
	maxSlots     = 256       // loaded sessions or objects
	maxEntries   = 4096      // NV indexes and persistent objects: 128 KiB of at least 32 octets
	maxDigest    = 64        // SHA-512
	maxPrivate   = 2048      // a private value, with all its CRT parts
	maxName      = 2 + maxDigest
)

// ErrNewer is wrapped where a part was written by a libtpms that is too new.
var ErrNewer = errors.New("written by a newer libtpms than is known here")

// ErrUnsupported is wrapped where an object or index uses an algorithm that package tpm2 does not have.
var ErrUnsupported = errors.New("uses what this program does not have")

// LoadedSessions is how many sessions can be loaded at once (MAX_LOADED_SESSIONS).
const LoadedSessions = 3

// Seed is a primary seed with its compatibility level, which says how primary keys come from it.
type Seed struct {
	Value []byte
	Level uint8
}

// Policy is a hierarchy's policy.
type Policy struct {
	Alg    tpm2.AlgID
	Digest []byte
}

// Bank is which PCRs of a hash algorithm are allocated, as in TPMS_PCR_SELECTION.
type Bank struct {
	Alg    tpm2.AlgID
	Select []byte
}

// PCRs are the values of PCRs 0 and up of one algorithm, side by side.
type PCRs struct {
	Alg    tpm2.AlgID
	Values []byte
}

// Permanent is PERSISTENT_ALL.
type Permanent struct {
	Profile string // since 0.10, as JSON

	DisableClear                                  bool
	OwnerPolicy, EndorsementPolicy, LockoutPolicy Policy
	OwnerAuth, EndorsementAuth, LockoutAuth       []byte
	EP, SP, PP                                    Seed
	PHProof, SHProof, EHProof                     []byte
	TotalResetCount                               uint64
	ResetCount                                    uint32
	PCRPolicy                                     Policy
	NextBanks                                     []Bank // from the next TPM Reset on
	Banks                                         []Bank // now
	PPCommands                                    []tpm2.CC
	FailedTries, MaxTries                         uint32
	RecoveryTime, LockoutRecovery                 uint32 // seconds
	LockoutAuthEnabled                            bool
	OrderlyState                                  uint16
	Audited                                       []tpm2.CC
	AuditHash                                     tpm2.AlgID
	AuditCounter                                  uint64
	AlgorithmSet                                  uint32

	Orderly Orderly
	Reset   *StateReset // with Clear when OrderlyState says that TPM2_Shutdown(STATE) was the last
	Clear   *StateClear

	OrderlyIndexes []OrderlyIndex
	Indexes        []Index
	Objects        []Object // by EvictControl
	MaxCounter     uint64
}

// Values of OrderlyState, besides a TPM_SU with flags (Global.h).
const (
	SUNone   = 0xFFFF
	SUDAUsed = 0xFFFE // like SUNone, and something under dictionary attack protection was used

	preStartup       = 0x8000 // flags beside a TPM_SU
	startupLocality3 = 0x4000
)

// Shutdown tells how the TPM was shut down last; orderly is false when it was not.
func (p *Permanent) Shutdown() (su tpm2.SU, locality3, orderly bool) {
	if p.OrderlyState == SUNone || p.OrderlyState == SUDAUsed {
		return 0, false, false
	}
	return tpm2.SU(p.OrderlyState &^ (preStartup | startupLocality3)), p.OrderlyState&startupLocality3 != 0, true
}

// Orderly is ORDERLY_DATA without the state of the random generator, which
// must not live on in two places.
type Orderly struct {
	Clock             uint64 // ms
	ClockSafe         bool
	SelfHeal, Lockout uint64 // ms
}

// StateReset is STATE_RESET_DATA.
type StateReset struct {
	NullProof       []byte
	NullSeed        Seed
	ClearCount      uint32
	ObjectContextID uint64
	ContextArray    []uint16 // of a saved session the low bits of its context's number; up to LoadedSessions: a loaded one's slot, from 1
	ContextMask     uint16
	ContextCounter  uint64
	AuditDigest     []byte
	RestartCount    uint32
	PCRCounter      uint32
}

// StateClear is STATE_CLEAR_DATA.
type StateClear struct {
	SHEnable, EHEnable, PHEnableNV bool
	PlatformPolicy                 Policy
	PlatformAuth                   []byte
	PCRs                           []PCRs // the first 16
	PCRAuth                        [][]byte
}

// Index is an NV index. Data is empty for one that lives in RAM (TPMA_NV_ORDERLY).
type Index struct {
	Public tpm2.TPMSNVPublic
	Auth   []byte
	Data   []byte
}

// OrderlyIndex is what of an NV index lives in RAM.
type OrderlyIndex struct {
	Handle     tpm2.Handle
	Attributes tpm2.NVAttributes
	Data       []byte
}

// Magic numbers and the newest known version of each part (NVMarshal.c).
var (
	partAll       = part{"PERSISTENT_ALL", 0xab364723, 4}
	partConstants = part{"PA_COMPILE_CONSTANTS", 0xc9ea6431, 3}
	partData      = part{"PERSISTENT_DATA", 0x12213443, 5}
	partPCRPolicy = part{"PCR_POLICY", 0x176be626, 2}
	partOrderly   = part{"ORDERLY_DATA", 0x56657887, 2}
	partDRBG      = part{"DRBG_STATE", 0x6fe83ea1, 2}
	partReset     = part{"STATE_RESET_DATA", 0x01102332, 4}
	partClear     = part{"STATE_CLEAR_DATA", 0x98897667, 2}
	partPCRSave   = part{"PCR_SAVE", 0x7372eabc, 2}
	partPCRAuth   = part{"PCR_AUTHVALUE", 0x6be82eaf, 2}
	partIndexRAM  = part{"INDEX_ORDERLY_RAM", 0x5346feab, 2}
	partUserNV    = part{"USER_NVRAM", 0x094f22c3, 2}
	partIndex     = part{"NV_INDEX", 0x2547265a, 2}
)

// IsPermanent and IsVolatile tell from its beginning what a state is.
func IsPermanent(state []byte) bool { return hasMagic(state, partAll) }

// IsVolatile is described with [IsPermanent].
func IsVolatile(state []byte) bool { return hasMagic(state, partVolatile) }

func hasMagic(state []byte, p part) bool {
	r := &reader{buf: state}
	r.u16()
	return r.u32() == p.magic && r.err == nil
}

// ReadPermanent reads the permanent state, whole.
func ReadPermanent(state []byte) (*Permanent, error) {
	if len(state) > MaxState {
		return nil, fmt.Errorf("%d octets are more than any state of libtpms has", len(state))
	}
	r := &reader{buf: state}
	p := new(Permanent)
	version := r.open(partAll)
	if version >= 4 {
		p.Profile = string(r.sized(4096))
	}
	constants(r)
	p.data(r)
	p.Orderly = orderly(r)
	// Before version 3 the saved state was always written, used or not.
	su, _, ordered := p.Shutdown()
	saved := ordered && su == tpm2.SUState
	if version < 3 || saved {
		p.Reset, p.Clear = stateReset(r), stateClear(r)
	}
	if !saved {
		p.Reset, p.Clear = nil, nil
	}
	p.OrderlyIndexes = indexRAM(r)
	p.userNV(r)
	r.rest(version >= 2)
	if m := r.u32(); m != partAll.magic && r.err == nil {
		r.fail(errors.New("it does not end as it should"))
	}
	r.end()
	if r.err != nil {
		return nil, r.err
	}
	return p, nil
}

// constants are what libtpms was compiled with: sizes that the rest does not
// need, because it names its own.
func constants(r *reader) {
	version := r.open(partConstants)
	if n := int(r.u32()); n <= maxConstants {
		r.bytes(4 * n)
	} else {
		r.fail(fmt.Errorf("it names %d compile-time constants", n))
	}
	r.rest(version >= 2)
}

// commandsV9 are the commands of libtpms 0.7 to 0.9, in the order of the bits
// that stand for them before version 5 (BackwardsCompatibilityBitArray.c).
var commandsV9 = func() (list []tpm2.CC) {
	for c := tpm2.CCNVUndefineSpaceSpecial; c <= tpm2.CCCertifyX509; c++ {
		switch c {
		case 0x123, 0x15a, 0x15f, 0x166, 0x175: // unassigned
		case 0x12f, 0x141, 0x179: // field upgrade
		case 0x194, 0x195, 0x196: // attached components
		default:
			list = append(list, c)
		}
	}
	return list
}()

// commands reads a list of commands with a bit each. Since version 5 the first
// bit is that of the first command code.
func commands(bits []byte, version uint16) (list []tpm2.CC) {
	for i := range 8 * len(bits) {
		switch {
		case bits[i/8]>>(i%8)&1 == 0:
		case version >= 5:
			list = append(list, tpm2.CCNVUndefineSpaceSpecial+tpm2.CC(i))
		case i < len(commandsV9):
			list = append(list, commandsV9[i])
		}
	}
	return list
}

func (p *Permanent) data(r *reader) {
	version := r.open(partData)
	p.DisableClear = r.flag()
	p.OwnerPolicy.Alg, p.EndorsementPolicy.Alg, p.LockoutPolicy.Alg = r.alg(), r.alg(), r.alg()
	for _, b := range []*[]byte{&p.OwnerPolicy.Digest, &p.EndorsementPolicy.Digest, &p.LockoutPolicy.Digest,
		&p.OwnerAuth, &p.EndorsementAuth, &p.LockoutAuth, &p.EP.Value, &p.SP.Value, &p.PP.Value, &p.PHProof, &p.SHProof, &p.EHProof} {
		*b = r.sized(maxDigest)
	}
	p.TotalResetCount, p.ResetCount = r.u64(), r.u32()
	if b := r.block(); b != nil {
		v := b.open(partPCRPolicy)
		n := int(b.u16())
		for i := range min(n, maxPCRAlgs) {
			policy := Policy{b.alg(), b.sized(maxDigest)}
			if i == 0 {
				p.PCRPolicy = policy
			}
		}
		if n > 1 {
			b.fail(fmt.Errorf("it has %d groups of PCRs with a policy, and one is known", n))
		}
		b.rest(v >= 2)
		r.close(b, "PCR policies")
	}
	p.NextBanks = banks(r)
	pp := r.sized(maxCommands)
	p.FailedTries, p.MaxTries, p.RecoveryTime, p.LockoutRecovery = r.u32(), r.u32(), r.u32(), r.u32()
	p.LockoutAuthEnabled = r.flag()
	p.OrderlyState = r.u16()
	audited := r.sized(maxCommands)
	p.PPCommands, p.Audited = commands(pp, version), commands(audited, version)
	p.AuditHash, p.AuditCounter, p.AlgorithmSet = r.alg(), r.u64(), r.u32()
	r.u32() // firmware version
	r.u32()
	switch n := r.u8(); n { // the epoch of Time
	case 4, 8:
		r.bytes(int(n))
	default:
		r.fail(fmt.Errorf("its epoch has %d octets", n))
	}
	p.Banks = p.NextBanks
	if version < 2 {
		return
	}
	added := r.block() // version 3 and later
	if added == nil {
		return
	}
	if version >= 3 {
		p.Banks = banks(added)
		if more := added.block(); more != nil && version >= 4 {
			p.EP.Level, p.SP.Level, p.PP.Level = more.u8(), more.u8(), more.u8()
			r.adopt(more)
		}
	}
	r.adopt(added)
}

// banks reads a TPML_PCR_SELECTION.
func banks(r *reader) (list []Bank) {
	n := r.u32()
	if n > maxPCRAlgs {
		r.fail(fmt.Errorf("it has %d banks of PCRs", n))
		return nil
	}
	for range n {
		list = append(list, Bank{r.alg(), r.bytes(int(r.u8()))})
	}
	return list
}

func orderly(r *reader) (o Orderly) {
	version := r.open(partOrderly)
	o.Clock, o.ClockSafe = r.u64(), r.u8() != 0
	drbg(r)
	if b := r.block(); b != nil {
		o.SelfHeal, o.Lockout = b.u64(), b.u64()
		b.u64() // Time
		r.close(b, "timers")
	}
	r.rest(version >= 2)
	return o
}

// drbg passes over the state of the random generator.
func drbg(r *reader) {
	version := r.open(partDRBG)
	r.u64()
	r.u32()
	r.sized(128)
	r.bytes(4 * int(r.u16()))
	r.rest(version >= 2)
}

func stateReset(r *reader) *StateReset {
	s := new(StateReset)
	version := r.open(partReset)
	s.NullProof, s.NullSeed.Value = r.sized(maxDigest), r.sized(maxDigest)
	s.ClearCount, s.ObjectContextID = r.u32(), r.u64()
	n := int(r.u16())
	if n > maxSlots {
		r.fail(fmt.Errorf("it has %d sessions", n))
		return s
	}
	s.ContextMask = 0xff
	for range n {
		if version <= 3 {
			s.ContextArray = append(s.ContextArray, uint16(r.u8()))
		} else {
			s.ContextArray = append(s.ContextArray, r.u16())
		}
	}
	if version >= 4 {
		s.ContextMask = r.u16()
	}
	s.ContextCounter = r.u64()
	s.AuditDigest = r.sized(maxDigest)
	s.RestartCount, s.PCRCounter = r.u32(), r.u32()
	r.block() // ephemeral keys that were given out
	if version < 2 {
		return s
	}
	if added := r.block(); added != nil {
		if version >= 3 {
			s.NullSeed.Level = added.u8()
		}
		r.adopt(added)
	}
	return s
}

func stateClear(r *reader) *StateClear {
	s := new(StateClear)
	version := r.open(partClear)
	s.SHEnable, s.EHEnable, s.PHEnableNV = r.flag(), r.flag(), r.flag()
	s.PlatformPolicy = Policy{r.alg(), r.sized(maxDigest)}
	s.PlatformAuth = r.sized(maxDigest)
	v := r.open(partPCRSave)
	static := int(r.u16())
	for range maxPCRAlgs + 1 {
		alg := r.alg()
		if alg == tpm2.AlgNull || r.err != nil {
			break
		}
		values := r.sized(tpm2.PCRCount * maxDigest)
		if r.err == nil && len(values) != static*alg.DigestSize() {
			r.fail(fmt.Errorf("the saved PCRs of algorithm 0x%x have %d octets", uint16(alg), len(values)))
		}
		s.PCRs = append(s.PCRs, PCRs{alg, values})
	}
	r.rest(v >= 2)
	v = r.open(partPCRAuth)
	n := int(r.u16())
	if n > maxPCRAlgs {
		r.fail(fmt.Errorf("it has %d groups of PCRs with an authorization value", n))
	}
	for range min(n, maxPCRAlgs) {
		s.PCRAuth = append(s.PCRAuth, r.sized(maxDigest))
	}
	r.rest(v >= 2)
	r.rest(version >= 2)
	return s
}

// ramHeader is sizeof(NV_RAM_HEADER).
const ramHeader = 12

// indexRAM reads the values of orderly indexes as they were at the last shutdown.
func indexRAM(r *reader) (list []OrderlyIndex) {
	version := r.open(partIndexRAM)
	size := uint64(r.u32()) // of the array that this was
	for used := uint64(0); used+ramHeader <= size && r.err == nil; {
		n := r.u32()
		if n == 0 || r.err != nil {
			break
		}
		x := OrderlyIndex{Handle: tpm2.Handle(r.u32()), Attributes: tpm2.NVAttributes(r.u32())}
		x.Data = r.sized(tpm2.MaxNVIndexSize)
		if int64(n) < ramHeader || r.err == nil && len(list) >= maxEntries {
			r.fail(errors.New("the orderly indexes are out of order"))
			break
		}
		list = append(list, x)
		used += uint64(n)
	}
	r.rest(version >= 2)
	return list
}

// userNV reads the NV indexes and persistent objects.
func (p *Permanent) userNV(r *reader) {
	version := r.open(partUserNV)
	r.u64() // the size of the memory
	for r.err == nil {
		if r.u32() == 0 { // the size of the entry
			break
		}
		switch h := tpm2.Handle(r.u32()); h.Space() {
		case tpm2.HTNVIndex:
			p.Indexes = append(p.Indexes, index(r, h))
		case tpm2.HTPersistent:
			o := anyObject(r, fmt.Sprintf("the persistent key 0x%08x", uint32(h)))
			if r.err == nil && (o == nil || o.Sequence != nil) {
				r.fail(fmt.Errorf("at handle 0x%08x there is no key", uint32(h)))
				break
			}
			if o != nil {
				o.Handle = h
				p.Objects = append(p.Objects, *o)
			}
		default:
			r.fail(fmt.Errorf("in NV memory there is a thing of handle 0x%08x", uint32(h)))
		}
		if len(p.Indexes)+len(p.Objects) > maxEntries {
			r.fail(errors.New("there are more things in NV memory than it can hold"))
		}
	}
	p.MaxCounter = r.u64()
	r.rest(version >= 2)
}

func index(r *reader, h tpm2.Handle) (x Index) {
	version := r.open(partIndex)
	r.structure(&x.Public, fmt.Sprintf("the NV index 0x%08x", uint32(h)))
	x.Auth = r.sized(maxDigest)
	r.rest(version >= 2)
	n := r.u32()
	if n > tpm2.MaxNVIndexSize {
		r.fail(fmt.Errorf("NV index 0x%08x has %d octets of data", uint32(h), n))
		return x
	}
	x.Data = r.bytes(int(n))
	return x
}
