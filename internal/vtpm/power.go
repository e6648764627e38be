package vtpm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
)

var _ swtpm.Device = (*Instance)(nil)

// machine is tpm2/engine's TPM, as far as an instance needs it; the tests
// have another.
type machine interface {
	Execute(locality uint8, cmd, dst []byte) []byte
	Permanent() []byte
	Volatile() ([]byte, error)
	Resume(volatile []byte) error
	HashStart()
	HashData([]byte)
	HashEnd()
	Established() bool
	ResetEstablished(locality uint8) bool
	Counters() (reset, restart uint32, ever uint64)
	Cancel()
}

// store is what an engine keeps its state in; an Instance is one.
type store interface{ Put(permanent []byte) error }

// maker makes machines with a largest command and response (0: the usual one);
// engine.go has the real one.
type maker struct {
	manufacture func(s store, buffer int, algorithmSet uint32) (machine, error)
	powerOn     func(s store, permanent []byte, buffer int) (machine, error)
}

// SetBufferSize is the largest command and response from the next power-on on.
func (i *Instance) SetBufferSize(octets uint32) { i.buffer.Store(octets) }

// PowerOn is _TPM_Init, and a power cycle when the TPM is on: what is in RAM
// is lost unless it was stored or set before. A directory without state gets a
// new TPM. deleteVolatile removes the stored volatile state once it is in use.
func (i *Instance) PowerOn(by swtpm.Peer, deleteVolatile bool) error {
	if t := i.tpm.Load(); t != nil {
		(*t).Cancel()
	}
	i.power.Lock()
	defer i.power.Unlock()
	cycled := i.tpm.Load() != nil
	i.off()
	how, err := i.on(deleteVolatile)
	attrs := []any{"how", how, "cycled", cycled, "vtpm", i.ID().String(), "generation", i.Generation()}
	if by.Known {
		attrs = append(attrs, "pid", by.PID, "uid", by.UID, "gid", by.GID)
	} else if by.Addr != nil {
		attrs = append(attrs, "from", by.Addr.String())
	}
	if err != nil {
		i.log.Error("power-on refused", append(attrs, "err", err)...)
		return err
	}
	i.log.Info("power on", attrs...)
	return nil
}

// How a TPM came up, for the log.
const (
	howManufactured = "manufactured"
	howFromState    = "from permanent state"
	howPowerLoss    = "from permanent state, after a power loss"
	howResumed      = "resumed"
)

// on does the work of PowerOn; i.power is held for writing.
func (i *Instance) on(deleteVolatile bool) (how string, err error) {
	perm, vol, err := i.prepare()
	if err != nil {
		return "", err
	}
	var t machine
	switch {
	case perm == nil:
		how = howManufactured
		t, err = i.maker.manufacture(i, int(i.buffer.Load()), i.cfg.AlgorithmSet)
	default:
		how = howFromState
		t, err = i.maker.powerOn(i, perm, int(i.buffer.Load()))
	}
	clear(perm)
	if err != nil {
		var r *Refusal
		if perm != nil && !errors.As(err, &r) {
			err = refuse("STATE_DAMAGED", i.dir.path, err.Error(), filepath.Join(i.dir.path, permanentFile))
		}
		return how, err
	}
	if vol != nil {
		how = howResumed
		err := t.Resume(vol)
		clear(vol)
		if err != nil {
			return how, refuse("STATE_DAMAGED", i.dir.path, "resuming: "+err.Error(), filepath.Join(i.dir.path, volatileFile))
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if crash := i.dir.crashed(); crash != "" && vol == nil {
		how = howPowerLoss
		i.log.Warn("the TPM lost power: PCRs, sessions and loaded objects are gone, non-volatile state is whole", "why", crash)
	}
	if deleteVolatile && vol != nil {
		if err := i.dir.remove(volatileFile); err != nil {
			return how, fmt.Errorf("removing the volatile state: %w", err)
		}
	}
	i.stored.Store(vol != nil && !deleteVolatile && i.dir.has(volatileFile))
	i.dir.markRunning(time.Now())
	i.fault.Store(false)
	i.quiet.Store(vol != nil) // resumed, and nothing ran: it can be resumed again
	i.tpm.Store(&t)
	return how, nil
}

// prepare finds the state to start from: blobs that were set, else the files.
func (i *Instance) prepare() (perm, vol []byte, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.dir.take(0); err != nil {
		return nil, nil, err
	}
	if staged, ok := i.staged[permanent]; ok {
		// The blob becomes the state: as a new generation, so that going back
		// to a snapshot is not going back in the count.
		if stagedVolatile, both := i.staged[volatile]; both {
			vol = stagedVolatile.state
		}
		clear(i.staged)
		clear(i.foreignPermanent)
		i.foreignPermanent = nil
		if err := i.rehearse(staged.state, vol); err != nil {
			return nil, nil, err
		}
		i.id = staged.header.id
		if err := i.put(max(i.generation, staged.header.generation)+1, staged.state); err != nil {
			return nil, nil, fmt.Errorf("writing the permanent state that was set: %w", err)
		}
		// A volatile file in the directory belongs to what was before.
		if err := i.dir.remove(volatileFile); err != nil {
			return nil, nil, err
		}
		return staged.state, vol, nil
	}
	perm, err = i.load()
	if err != nil {
		return nil, nil, err
	}
	if staged, ok := i.staged[volatile]; ok {
		clear(i.staged)
		return perm, staged.state, nil
	}
	vol, err = i.loadVolatile()
	if err != nil {
		return nil, nil, err
	}
	return perm, vol, nil
}

// rehearse starts a TPM that stores nothing from states that were set, so that
// one that does not start never takes the place of one that does.
func (i *Instance) rehearse(perm, vol []byte) error {
	t, err := i.maker.powerOn(forgetful{}, perm, int(i.buffer.Load()))
	if err == nil && vol != nil {
		err = t.Resume(vol)
	}
	if err != nil {
		return refuse("STATE_DAMAGED", "state blob", err.Error(), i.dir.path)
	}
	return nil
}

type forgetful struct{}

func (forgetful) Put([]byte) error { return nil }

// loadVolatile reads the stored volatile state, nil when there is none. It
// must be of the same moment as the permanent state.
func (i *Instance) loadVolatile() ([]byte, error) {
	file, err := i.dir.read(volatileFile)
	if err != nil {
		return nil, fmt.Errorf("reading the volatile state: %w", err)
	}
	if file == nil {
		return nil, nil
	}
	subject := filepath.Join(i.dir.path, volatileFile)
	h, state, err := i.unseal(subject, volatile, file, i.cfg.Key, false)
	if err != nil {
		return nil, err
	}
	if h.generation != i.generation {
		return nil, refuse("STATE_INCOMPLETE", subject, fmt.Sprintf("it belongs to generation %d, the permanent state is %d", h.generation, i.generation), i.dir.path)
	}
	return state, nil
}

// PowerOff switches the TPM off. A guest that did not send TPM2_Shutdown gets
// one: a VM that is switched off hard is not an attack on its passwords.
func (i *Instance) PowerOff() error {
	if t := i.tpm.Load(); t != nil {
		(*t).Cancel()
	}
	i.power.Lock()
	defer i.power.Unlock()
	if i.tpm.Load() == nil {
		return nil
	}
	i.off()
	i.log.Info("power off", "vtpm", i.ID().String(), "generation", i.Generation())
	return nil
}

var shutdownClear = []byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x45, 0, 0}

// off needs i.power held for writing.
func (i *Instance) off() {
	t := i.tpm.Load()
	if t == nil {
		return
	}
	if !i.cfg.NoAutoShutdown && !i.quiet.Load() {
		(*t).Execute(0, shutdownClear, nil)
	}
	i.tpm.Store(nil)
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.dir.remove(runFile); err != nil {
		i.log.Warn("the mark of a running TPM stays; the next start will report a power loss", "err", err)
	}
}

// Running says whether the TPM has power.
func (i *Instance) Running() bool { return i.tpm.Load() != nil }

// rcFailure is the answer of a TPM that is off.
var rcFailure = []byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x01}

// Execute appends the response to cmd to dst.
func (i *Instance) Execute(locality uint8, cmd, dst []byte) []byte {
	i.power.RLock()
	defer i.power.RUnlock()
	t := i.tpm.Load()
	if t == nil || !i.relock() {
		return append(dst, rcFailure...)
	}
	if i.stored.Load() && i.goOn() != nil {
		return append(dst, rcFailure...)
	}
	// Nothing to lose since a TPM2_Shutdown, nor since the state was handed out.
	i.quiet.Store(len(cmd) >= 10 && bytes.Equal(cmd[6:10], shutdownClear[6:10]))
	out := (*t).Execute(locality, cmd, dst)
	i.noteFailure(*t, out[len(dst):])
	return out
}

// noteFailure tells the log, once, that a TPM went into failure mode.
func (i *Instance) noteFailure(t machine, rsp []byte) {
	if len(rsp) != len(rcFailure) || !bytes.Equal(rsp[6:], rcFailure[6:]) {
		return
	}
	if f, ok := t.(interface{ Failure() error }); ok && f.Failure() != nil && !i.fault.Swap(true) {
		i.log.Error("the TPM is in failure mode until it is powered on again; its stored state is whole", "why", f.Failure())
	}
}

// goOn is the first command after volatile state was stored: with it that state
// is out of date, and a crash must not bring back PCRs that have moved on.
func (i *Instance) goOn() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.forget()
}

// relock takes the lock again when it was given up for a migration that did
// not happen, and the guest goes on here.
func (i *Instance) relock() bool {
	return !i.cfg.ReleaseLock || !i.quiet.Load() || i.retake(0) == nil
}

// retake takes a lock that was given up, and makes sure that the TPM which was
// handed out has not lived elsewhere meanwhile: then this one is a copy of what
// it was, and must not go on.
func (i *Instance) retake(retries int) error {
	var mine []byte // before i.mu: the engine holds its lock when it stores
	if t := i.tpm.Load(); t != nil {
		mine = (*t).Permanent()
		defer clear(mine)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.dir.lock != nil {
		return nil
	}
	if err := i.dir.take(retries); err != nil || mine == nil {
		return err
	}
	known := i.generation
	state, err := i.load()
	defer clear(state)
	if found := i.generation; err == nil && found != known && !bytes.Equal(state, mine) {
		i.generation = known
		err = refuse("STATE_ROLLED_BACK", i.dir.path,
			fmt.Sprintf("it was handed out at generation %d, and has run elsewhere until %d", known, found), i.dir.path, fmt.Sprint(known))
	}
	if err != nil {
		i.dir.release()
		i.log.Error("the vTPM does not go on here", "err", err)
	}
	return err
}

// Cancel asks the running command to stop.
func (i *Instance) Cancel() {
	if t := i.tpm.Load(); t != nil {
		(*t).Cancel()
	}
}

// Established is the TPM_ESTABLISHMENT flag; false while the TPM is off.
func (i *Instance) Established() bool {
	t := i.tpm.Load()
	return t != nil && (*t).Established()
}

// ResetEstablished clears the flag where the locality may.
func (i *Instance) ResetEstablished(locality uint8) bool {
	i.power.RLock()
	defer i.power.RUnlock()
	t := i.tpm.Load()
	return t != nil && (*t).ResetEstablished(locality)
}

// HashStart, HashData and HashEnd are the H-CRTM sequence.
func (i *Instance) HashStart() { i.hash(machine.HashStart) }

func (i *Instance) HashData(data []byte) { i.hash(func(t machine) { t.HashData(data) }) }

func (i *Instance) HashEnd() { i.hash(machine.HashEnd) }

func (i *Instance) hash(step func(machine)) {
	i.power.RLock()
	defer i.power.RUnlock()
	if t := i.tpm.Load(); t != nil {
		i.quiet.Store(false)
		step(*t)
	}
}

// Counters are the TPM Resets and TPM Restarts as attestations show them, and
// all TPM Resets ever; on is false while the TPM has no power.
func (i *Instance) Counters() (reset, restart uint32, ever uint64, on bool) {
	i.power.RLock()
	defer i.power.RUnlock()
	t := i.tpm.Load()
	if t == nil {
		return 0, 0, 0, false
	}
	reset, restart, ever = (*t).Counters()
	return reset, restart, ever, true
}

// property asks the engine for one TPM_PT value; ok is false while it is off.
func (i *Instance) property(pt uint32) (value uint32, ok bool) {
	// TPM2_GetCapability(TPM_CAP_TPM_PROPERTIES, pt, 1), Part 3, 30.2.
	cmd := []byte{0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7A, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 1}
	binary.BigEndian.PutUint32(cmd[14:], pt)
	i.power.RLock()
	defer i.power.RUnlock()
	t := i.tpm.Load()
	if t == nil {
		return 0, false
	}
	r := (*t).Execute(0, cmd, nil)
	// header, moreData, capability, count, property, value
	if len(r) != 10+1+4+4+8 || binary.BigEndian.Uint32(r[6:]) != 0 || binary.BigEndian.Uint32(r[19:]) != pt {
		return 0, false
	}
	return binary.BigEndian.Uint32(r[23:]), true
}
