// Package engine is a TPM 2.0: commands in, responses out, as TPM 2.0 Library
// 1.85 and the PC Client Platform TPM Profile describe it. It is a device, not a
// service: it opens no file, socket or clock and writes no log. Entropy, time and
// the place where non-volatile state is kept are handed to it in [Config].
//
// It is not a complete library TPM: field upgrade, attached components and
// the algorithms outside [limits.go] are absent. What is absent answers
// TPM_RC_COMMAND_CODE and is missing from TPM2_GetCapability.
//
// Begin with pipeline.go, which takes a command through the checks of Part 3,
// clause 5, in their order; commands.go lists what is implemented; each
// cmd_*.go file is one chapter of Part 3. State is in state.go: [nvram] survives
// power loss, [ram] does not.
package engine

import (
	"crypto"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// Store keeps the non-volatile state.
type Store interface {
	// Put makes the whole permanent state durable before it returns. When it
	// fails the command fails with TPM_RC_NV_UNAVAILABLE and changes nothing.
	Put(permanent []byte) error
}

// Config is what a TPM needs from outside. The zero value is a TPM without a
// store: its state dies with the process.
type Config struct {
	Entropy io.Reader            // nil: the operating system's generator
	Clock   func() time.Duration // monotonic time from any origin; nil: the runtime's
	Store   Store                // nil: state is kept in memory only
	Buffer  int                  // the largest command and response, up to MaxLargeSize; 0: MaxCommandSize

	AlgorithmSet uint32 // of a TPM that is being made: 0 or ClassicalSet
}

// TPM is one TPM. Its methods may be called from several goroutines; it does
// one thing at a time.
type TPM struct {
	mu sync.Mutex // guards everything below

	cfg Config
	rng rng

	nv  *nvram // committed non-volatile state; never changed in place
	tx  *nvram // the running command's changed copy, nil until it writes
	ram ram

	present     bool      // physical presence, see PhysicalPresence
	failed      error     // failure mode, and why
	established bool      // TPM_ESTABLISHED as the platform sees it
	hcrtm       *sequence // an H-CRTM sequence in progress
	call        call      // the command in progress, kept for its memory
	scratch     []byte    // for answers that need no memory of their own
	reading     pcrReading
	hashes      [crypto.SHA512 + 1]hash.Hash // see hash
	macs        [4]keyedMAC                  // see proofMAC
	dec         tpm2.Decoder
	enc         tpm2.Encoder
}

// keyedMAC is an HMAC that is ready for a hierarchy's proof.
type keyedMAC struct {
	proof []byte
	mac   hash.Hash
}

// Manufacture makes a new TPM with fresh seeds, stores its first state and
// powers it on; it waits for TPM2_Startup.
func Manufacture(cfg Config) (*TPM, error) {
	t := newTPM(cfg)
	t.tx = t.manufacture()
	if rc := t.commit(); rc != tpm2.RCSuccess {
		return nil, fmt.Errorf("storing the state of a new TPM: %v", t.ram.storeErr)
	}
	t.powerOn()
	return t, nil
}

// PowerOn is _TPM_Init with the permanent state that [Store].Put was last given.
func PowerOn(cfg Config, permanent []byte) (*TPM, error) {
	t := newTPM(cfg)
	nv, err := decodePermanent(permanent)
	if err != nil {
		return nil, err
	}
	t.nv = nv
	t.powerOn()
	return t, nil
}

func newTPM(cfg Config) *TPM {
	if cfg.Clock == nil {
		start := time.Now()
		cfg.Clock = func() time.Duration { return time.Since(start) }
	}
	t := &TPM{cfg: cfg, rng: newRNG(cfg.Entropy)}
	t.dec.Implements(t.implements, implementsCurve)
	t.dec.KeepMemory()
	return t
}

// Permanent returns the canonical encoding of the non-volatile state.
func (t *TPM) Permanent() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return encodePermanent(t.nv)
}

// Volatile returns the canonical encoding of everything in RAM, to suspend or
// to migrate. With [TPM.Permanent], taken before or after it with no command
// between, it is the whole TPM: taking state changes none.
func (t *TPM) Volatile() ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed != nil {
		return nil, errFailureMode
	}
	return t.encodeVolatile()
}

// Resume continues, right after PowerOn, where Volatile left off. Random numbers
// do not: they come from fresh entropy, so that a state loaded twice never gives
// the same number twice.
func (t *TPM) Resume(volatile []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.decodeVolatile(volatile)
}

// Established is TPM_ESTABLISHED: whether a dynamic launch (an H-CRTM or DRTM
// sequence) happened since it was last reset.
func (t *TPM) Established() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.established
}

// ResetEstablished clears TPM_ESTABLISHED, which only localities 3 and 4 may do
// (PC Client PTP, 6.5.2.5), and reports whether it did.
func (t *TPM) ResetEstablished(locality uint8) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if locality < 3 {
		return false
	}
	t.established = false
	return true
}

// Cancel asks for the command in progress to be given up. Every command here
// ends by itself within the time of one RSA key, so there is nothing to give up;
// a TPM may finish a command that it was asked to cancel (Part 1, 40.3).
func (t *TPM) Cancel() {}

// w is the non-volatile state for writing: a copy, which [TPM.commit] puts in
// place of the old when the command succeeds. What it points to is shared with
// the old state and must be replaced, never changed.
func (t *TPM) w() *nvram {
	if t.tx == nil {
		c := *t.nv
		t.tx = &c
	}
	return t.tx
}

// n is the non-volatile state for reading, with what this command changed.
func (t *TPM) n() *nvram {
	if t.tx != nil {
		return t.tx
	}
	return t.nv
}

// commit makes the changed non-volatile state durable and current. On failure
// nothing has changed. Commands that change RAM as well commit first.
func (t *TPM) commit() tpm2.RC {
	if t.tx == nil {
		return tpm2.RCSuccess
	}
	if t.nv != nil {
		t.tx.clock = t.clock()
	}
	if t.cfg.Store != nil {
		if err := t.cfg.Store.Put(encodePermanent(t.tx)); err != nil {
			t.tx, t.ram.storeErr = nil, err
			return tpm2.RCNVUnavailable
		}
	}
	t.nv, t.tx = t.tx, nil
	return tpm2.RCSuccess
}

// hash starts a digest in memory that the TPM keeps for it. It is the caller's
// until hash is called again for the same algorithm, and not for secrets.
func (t *TPM) hash(alg tpm2.AlgID) hash.Hash {
	h := &t.hashes[crypt.Hash(alg)]
	if *h == nil {
		*h = crypt.New(alg)
	}
	(*h).Reset()
	return *h
}
