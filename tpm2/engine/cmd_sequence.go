package engine

import (
	"encoding"
	"fmt"
	"hash"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// sequence is a digest in progress (Part 3, 17): a hash, an HMAC, or an event
// over all banks. It changes as it is fed, so contexts keep a copy of its state.
type sequence struct {
	kind   seqKind
	alg    tpm2.AlgID // of a hash or HMAC
	auth   []byte
	key    []byte // of an HMAC, padded to a block
	algs   []tpm2.AlgID
	sums   []hash.Hash
	states [][]byte // of sums, while the sequence is in a blob
	fed    bool     // the first block was hashed …
	unsafe bool     // … and it began with TPM_GENERATED_VALUE, or was too short to tell

	// Of a sequence that ends in a signature (cmd_signsequence.go).
	keyName []byte
	context []byte
	message []byte // to verify with ML-DSA, which wants it whole
}

type seqKind uint8

const (
	seqHash seqKind = iota
	seqHMAC
	seqEvent
	seqSign
	seqVerify
	seqLaunch // an H-CRTM that has ended and waits for TPM2_Startup (hcrtm.go)
)

func walkSequence(c *coder, s *sequence) {
	num(c, &s.kind)
	num(c, &s.alg)
	c.bytes(&s.auth, maxDigest)
	c.bytes(&s.key, 128)
	list(c, &s.algs, 8, num[tpm2.AlgID])
	list(c, &s.states, 8, func(c *coder, b *[]byte) { c.bytes(b, 512) })
	c.flag(&s.fed)
	c.flag(&s.unsafe)
	c.bytes(&s.keyName, 66)
	c.bytes(&s.context, 255)
	c.bytes(&s.message, maxMessage)
}

// save puts the digest states where walkSequence finds them.
func (s *sequence) save() error {
	s.states = make([][]byte, len(s.sums))
	for i, h := range s.sums {
		b, err := h.(encoding.BinaryMarshaler).MarshalBinary()
		if err != nil {
			return fmt.Errorf("saving a hash sequence: %w", err)
		}
		s.states[i] = b
	}
	return nil
}

// restore makes the digests from their states.
func (s *sequence) restore() error {
	if want := map[seqKind]int{seqHash: 1, seqHMAC: 1, seqEvent: len(s.algs), seqSign: 1, seqVerify: 2, seqLaunch: len(s.algs)}[s.kind]; len(s.algs) != want || s.kind > seqLaunch {
		return fmt.Errorf("%w: a sequence of kind %d over %d hashes", ErrState, s.kind, len(s.algs))
	}
	if s.kind != seqEvent && s.kind != seqLaunch && s.alg != s.algs[0] {
		return fmt.Errorf("%w: a sequence of one hash with the state of another", ErrState)
	}
	if len(s.states) != len(s.algs) {
		return fmt.Errorf("%w: a sequence with %d states for %d hashes", ErrState, len(s.states), len(s.algs))
	}
	s.sums = make([]hash.Hash, len(s.algs))
	for i, a := range s.algs {
		if crypt.Hash(a) == 0 && a != tpm2.AlgMLDSA {
			return fmt.Errorf("%w: a sequence of an unknown hash", ErrState)
		}
		s.sums[i] = newSum(a)
		if err := s.sums[i].(encoding.BinaryUnmarshaler).UnmarshalBinary(s.states[i]); err != nil {
			return fmt.Errorf("%w: restoring a hash sequence: %v", ErrState, err)
		}
	}
	s.states = nil
	return nil
}

func newSequence(kind seqKind, auth []byte, algs ...tpm2.AlgID) *sequence {
	s := &sequence{kind: kind, auth: append([]byte(nil), auth...), algs: algs}
	if len(algs) == 1 {
		s.alg = algs[0]
	}
	for _, a := range algs {
		s.sums = append(s.sums, newSum(a))
	}
	return s
}

// feed hashes more.
func (s *sequence) feed(b []byte) {
	if !s.fed { // the first block decides (Part 3, 17.4)
		s.unsafe = len(b) < 4 || isGenerated(b)
		s.fed = true
	}
	for _, h := range s.sums {
		h.Write(b)
	}
	if s.keepsMessage() {
		s.message = append(s.message, b...)
	}
}

// mark remembers where the sequence is; what it returns goes back there, for a
// command that fails after it has fed it.
func (s *sequence) mark() (back func() error, err error) {
	was := *s
	if err := was.save(); err != nil {
		return nil, err
	}
	return func() error {
		*s = was
		return s.restore()
	}, nil
}

func (s *sequence) keepsMessage() bool { return s.kind == seqVerify && s.alg == tpm2.AlgMLDSA }

// hmacPad is the key of an HMAC combined with a pad octet, a block long (FIPS 198-1).
func hmacPad(alg tpm2.AlgID, key []byte, pad byte) []byte {
	out := make([]byte, crypt.New(alg).BlockSize())
	if len(key) > len(out) {
		key = crypt.Digest(alg, key)
	}
	copy(out, key)
	for i := range out {
		out[i] ^= pad
	}
	return out
}

// sum is the result; the sequence is not to be used after it.
func (s *sequence) sum() []byte {
	d := s.sums[0].Sum(nil)
	if s.key != nil {
		d = crypt.Digest(s.alg, s.key, d) // key is padded for the outer hash
	}
	return d
}

// addSequence puts a sequence into a slot; it belongs to no hierarchy.
func (t *TPM) addSequence(s *sequence) (tpm2.Handle, tpm2.RC) {
	o := &object{seq: s, hierarchy: tpm2.RHNull}
	o.pub.Type = tpm2.AlgNull
	return t.addObject(o)
}

// hmacStart is TPM2_HMAC_Start (Part 3, 17.2).
func (t *TPM) hmacStart(_ *call, in *tpm2.HMACStart, out *tpm2.HMACStartResponse) tpm2.RC {
	o := t.object(in.Handle)
	alg, rc := hmacScheme(o, in.HashAlg)
	if rc != tpm2.RCSuccess {
		return rc
	}
	s := newSequence(seqHMAC, crypt.Trim(in.Auth), alg)
	s.sums[0].Write(hmacPad(alg, o.sens.Sensitive.Bits, 0x36))
	s.key = hmacPad(alg, o.sens.Sensitive.Bits, 0x5c)
	out.SequenceHandle, rc = t.addSequence(s)
	return rc
}

// hashSequenceStart is TPM2_HashSequenceStart (Part 3, 17.4); without an algorithm
// it starts an event, over every bank that there can be, allocated or not.
func (t *TPM) hashSequenceStart(_ *call, in *tpm2.HashSequenceStart, out *tpm2.HashSequenceStartResponse) tpm2.RC {
	kind, algs := seqHash, []tpm2.AlgID{in.HashAlg}
	if in.HashAlg == tpm2.AlgNull {
		kind, algs = seqEvent, bankAlgs
	}
	s := newSequence(kind, crypt.Trim(in.Auth), algs...)
	var rc tpm2.RC
	out.SequenceHandle, rc = t.addSequence(s)
	return rc
}

// sequenceUpdate is TPM2_SequenceUpdate (Part 3, 17.4).
func (t *TPM) sequenceUpdate(_ *call, in *tpm2.SequenceUpdate, _ *tpm2.SequenceUpdateResponse) tpm2.RC {
	o := t.object(in.SequenceHandle)
	if o.seq == nil {
		return tpm2.RCMode.Handle(1)
	}
	if o.seq.keepsMessage() && len(o.seq.message)+len(in.Buffer) > maxMessage {
		return tpm2.RCMemory
	}
	o.seq.feed(in.Buffer)
	return tpm2.RCSuccess
}

// sequenceComplete is TPM2_SequenceComplete (Part 3, 17.5).
func (t *TPM) sequenceComplete(c *call, in *tpm2.SequenceComplete, out *tpm2.SequenceCompleteResponse) tpm2.RC {
	o := t.object(in.SequenceHandle)
	if o.seq == nil || o.seq.kind >= seqEvent {
		return tpm2.RCMode.Handle(1)
	}
	s := o.seq
	s.feed(in.Buffer)
	out.Result = s.sum()
	out.Validation = tpm2.TPMTTkHashCheck{Tag: tpm2.STHashCheck, Hierarchy: tpm2.RHNull}
	if s.kind == seqHash {
		out.Validation = t.hashCheck(in.Hierarchy, s.alg, out.Result, !s.unsafe)
	}
	c.flush = in.SequenceHandle
	return tpm2.RCSuccess
}

// eventSequenceComplete is TPM2_EventSequenceComplete (Part 3, 17.6).
func (t *TPM) eventSequenceComplete(c *call, in *tpm2.EventSequenceComplete, out *tpm2.EventSequenceCompleteResponse) tpm2.RC {
	o := t.object(in.SequenceHandle)
	if o.seq == nil || o.seq.kind != seqEvent {
		return tpm2.RCMode.Handle(2)
	}
	if in.PCRHandle != tpm2.RHNull {
		if rc := t.pcrWritable(c, in.PCRHandle); rc != tpm2.RCSuccess {
			return rc
		}
	}
	o.seq.feed(in.Buffer)
	for i, a := range o.seq.algs {
		d := o.seq.sums[i].Sum(nil)
		if in.PCRHandle != tpm2.RHNull {
			t.extend(int(in.PCRHandle), a, d)
		}
		out.Results = append(out.Results, tpm2.TPMTHA{HashAlg: a, Digest: d})
	}
	c.flush = in.SequenceHandle
	return tpm2.RCSuccess
}
