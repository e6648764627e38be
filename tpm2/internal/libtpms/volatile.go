package libtpms

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// Volatile is everything in RAM of a TPM that was suspended or is on the move.
type Volatile struct {
	ExclusiveSession tpm2.Handle
	Time             uint64 // ms, as of the last command
	PHEnable         bool
	PCRReconfigured  bool        // TPM2_PCR_Allocate has succeeded since the start
	DRTM             tpm2.Handle // the sequence of a dynamic launch in progress
	Locality3        bool        // of TPM2_Startup
	PreviousShutdown uint16      // OrderlyState at the start
	Orderly          Orderly
	Clear            StateClear
	Reset            StateReset
	Initialized      bool // after _TPM_Init
	SelfHeal         uint64
	LockoutTimer     uint64
	OrderlyIndexes   []OrderlyIndex
	MaxCounter       uint64
	Objects          []*Object // by slot; nil for a free one
	PCRs             []PCRs    // all, in every algorithm
	Sessions         []*Session
	Failed           bool
	Established      bool
	AdjustRate       uint32
	Seeds            [][]byte // EP, SP and PP of the permanent state it belongs to; none before version 3
}

// Session is SESSION. Bound and the policy's hash share their place, and the
// audit digest and the policy's.
type Session struct {
	Attributes SessionAttributes
	PCRCounter uint32
	Start      uint64 // Time
	Timeout    uint64
	Command    tpm2.CC
	Hash       tpm2.AlgID
	Locality   uint8
	Symmetric  tpm2.TPMTSymDef
	Key        []byte
	Nonce      []byte
	Bound      []byte
	Digest     []byte
}

// SessionAttributes is SESSION_ATTRIBUTES, of a little-endian host.
type SessionAttributes uint32

// The attributes of a session (Global.h); the last two are libtpms 0.10's.
const (
	SessionPolicy SessionAttributes = 1 << iota
	SessionAudit
	SessionBound
	SessionCpHash
	SessionAuthValue
	SessionPassword
	SessionPP
	SessionTrial
	SessionDABound
	SessionLockoutBound
	sessionIncludeAuth // of the command at hand
	SessionCheckWritten
	SessionWritten
	SessionTemplate
	SessionNameHash
	SessionParameters
	sessionKnown = 1<<iota - 1
)

// Has reports whether all of b are set.
func (a SessionAttributes) Has(b SessionAttributes) bool { return a&b == b }

var (
	partVolatile = part{"VOLATILE_STATE", 0x45637889, 4}
	partPCR      = part{"PCR", 0xe95f0387, 2}
	partSlot     = part{"SESSION_SLOT", 0x3664aebc, 2}
	partSession  = part{"SESSION", 0x44be9f45, 2}
)

// ReadVolatile reads the volatile state, whole.
func ReadVolatile(state []byte) (*Volatile, error) {
	if len(state) > MaxState {
		return nil, fmt.Errorf("%d octets are more than any state of libtpms has", len(state))
	}
	// A SHA-1 of all before it stands at the end, against accidents (Volatile.c).
	if len(state) < sha1.Size {
		return nil, errCut
	}
	state, sum := state[:len(state)-sha1.Size], state[len(state)-sha1.Size:]
	if want := sha1.Sum(state); !bytes.Equal(want[:], sum) {
		return nil, errors.New("it is cut or damaged: its digest does not match")
	}
	r := &reader{buf: state}
	v := new(Volatile)
	version := r.open(partVolatile)
	v.ExclusiveSession, v.Time = tpm2.Handle(r.u32()), r.u64()
	v.PHEnable, v.PCRReconfigured, v.DRTM = r.flag(), r.flag(), tpm2.Handle(r.u32())
	r.flag() // an H-CRTM came before TPM2_Startup; PCR 0 has it
	v.Locality3 = r.flag()
	r.block() // whether something under dictionary attack protection was used; the permanent state says it too
	r.flag()  // power was lost
	v.PreviousShutdown = r.u16()
	r.flag() // NV is in order
	r.sized(maxDigest)
	v.Orderly, v.Clear, v.Reset = orderly(r), *stateClear(r), *stateReset(r)
	r.flag() // manufactured
	v.Initialized = r.flag()
	r.block() // the sessions of the last command
	if b := r.block(); b != nil {
		if timers := b.block(); timers != nil {
			v.SelfHeal, v.LockoutTimer = timers.u64(), timers.u64()
			b.close(timers, "timers")
		}
		r.close(b, "DA")
	}
	if b := r.block(); b != nil {
		b.u32()
		v.OrderlyIndexes = rawIndexRAM(b, b.sized(0xffff))
		v.MaxCounter = b.u64()
		r.close(b, "NV")
	}
	each := func(what string, most int, read func(*reader)) {
		b := r.block()
		if b == nil {
			return
		}
		n := int(b.u16())
		if n > most {
			r.fail(fmt.Errorf("it has %d %s", n, what))
		}
		for range min(n, most) {
			read(b)
		}
		if what == "sessions" {
			b.u32() // the oldest saved one
			b.u32() // free slots
		}
		r.close(b, what)
	}
	each("objects", maxSlots, func(b *reader) {
		v.Objects = append(v.Objects, anyObject(b, fmt.Sprintf("the loaded object 0x%08x", 0x80000000+len(v.Objects))))
	})
	each("PCRs", tpm2.PCRCount, v.pcr)
	each("sessions", maxSlots, func(b *reader) { v.Sessions = append(v.Sessions, slot(b)) })
	v.Failed, v.Established = r.flag(), r.flag()
	r.block() // why it failed
	r.block() // the host's clock
	r.flag()
	r.flag()
	v.AdjustRate = r.u32()
	r.u64() // the host's time
	if added := r.optional(version >= 2); added != nil {
		if version >= 3 {
			for range 3 {
				v.Seeds = append(v.Seeds, added.sized(maxDigest))
			}
		}
		r.adopt(added)
	}
	if m := r.u32(); m != partVolatile.magic && r.err == nil {
		r.fail(errors.New("it does not end as it should"))
	}
	r.end()
	if r.err != nil {
		return nil, r.err
	}
	return v, nil
}

// pcr reads one PCR in every algorithm.
func (v *Volatile) pcr(r *reader) {
	version := r.open(partPCR)
	for i := range maxPCRAlgs + 1 {
		alg := r.alg()
		if alg == tpm2.AlgNull || r.err != nil {
			break
		}
		value := r.sized(maxDigest)
		if i == len(v.PCRs) {
			v.PCRs = append(v.PCRs, PCRs{Alg: alg})
		}
		if i >= len(v.PCRs) || v.PCRs[i].Alg != alg || len(value) != alg.DigestSize() {
			r.fail(errors.New("the PCRs are out of order"))
			break
		}
		v.PCRs[i].Values = append(v.PCRs[i].Values, value...)
	}
	r.rest(version >= 2)
}

// rawIndexRAM reads the memory of the orderly indexes, which is written as it
// is: little-endian headers, as no swtpm for x86 or arm writes others.
func rawIndexRAM(r *reader, ram []byte) (list []OrderlyIndex) {
	for len(ram) >= ramHeader && r.err == nil {
		n := int64(binary.LittleEndian.Uint32(ram))
		if n == 0 {
			break
		}
		if n < ramHeader || n > int64(len(ram)) || n > ramHeader+tpm2.MaxNVIndexSize {
			r.fail(errors.New("the orderly indexes are out of order: is it of a big-endian host?"))
			break
		}
		list = append(list, OrderlyIndex{
			Handle:     tpm2.Handle(binary.LittleEndian.Uint32(ram[4:])),
			Attributes: tpm2.NVAttributes(binary.LittleEndian.Uint32(ram[8:])),
			Data:       ram[ramHeader:n],
		})
		ram = ram[n:]
	}
	return list
}

func slot(r *reader) *Session {
	version := r.open(partSlot)
	if !r.flag() {
		return nil // and nothing follows
	}
	s := session(r)
	r.rest(version >= 2)
	return s
}

func session(r *reader) *Session {
	version := r.open(partSession)
	s := &Session{Attributes: SessionAttributes(r.u32()), PCRCounter: r.u32(), Start: r.u64(), Timeout: r.u64()}
	if s.Attributes&^sessionKnown != 0 {
		r.fail(fmt.Errorf("a session has attributes 0x%x: is it of a big-endian host, or bound to a secure channel?", uint32(s.Attributes)))
	}
	r.bytes(int(r.u8())) // the epoch of Time
	s.Command, s.Hash, s.Locality = tpm2.CC(r.u32()), r.alg(), r.u8()
	r.structure(&s.Symmetric, "a session")
	s.Key, s.Nonce = r.sized(maxDigest), r.sized(maxDigest)
	s.Bound, s.Digest = r.sized(2*maxDigest+2), r.sized(maxDigest)
	r.rest(version >= 2)
	return s
}
