package vtpm

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
)

// StoreVolatile keeps what is in RAM beside the permanent state, so that the
// next power-on goes on where the TPM is now.
func (i *Instance) StoreVolatile() error {
	i.power.Lock()
	defer i.power.Unlock()
	t := i.tpm.Load()
	if t == nil {
		return swtpm.BadOrdinal
	}
	state, err := (*t).Volatile()
	if err != nil {
		return fmt.Errorf("taking the volatile state: %w", err)
	}
	defer clear(state)
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.writeVolatile(i.generation, state); err != nil {
		return err
	}
	i.stored.Store(true)
	i.quiet.Store(true)
	return nil
}

// writeVolatile keeps volatile state that belongs to this generation. i.mu is held.
func (i *Instance) writeVolatile(generation uint64, state []byte) error {
	box, err := i.box(i.id, i.cfg.Key, false)
	if err != nil {
		return err
	}
	file, err := join(volatile, i.cfg.Key.protection(), i.id, generation, state, box)
	if err != nil {
		return err
	}
	if err := i.dir.write(volatileFile, file); err != nil {
		i.log.Error("volatile state cannot be written", "err", err)
		return err
	}
	return nil
}

// travelKey is what seals a state on the move, and is demanded of one that comes
// in: the migration key, or else the state key. QEMU asks for state in clear, and
// carries whatever it gets; a state that is sealed at rest does not leave in
// clear for that, nor comes one in clear in its place.
func (i *Instance) travelKey() (key Key, migration bool) {
	if i.cfg.MigrationKey.none() {
		return i.cfg.Key, false
	}
	return i.cfg.MigrationKey, true
}

// Blob returns a state file as it travels.
func (i *Instance) Blob(k swtpm.BlobKind, _ bool) (blob []byte, sealed bool, err error) {
	i.power.Lock()
	defer i.power.Unlock()
	t := i.tpm.Load()
	if t == nil {
		return nil, false, swtpm.BadOrdinal
	}
	var state []byte
	var as kind
	switch k {
	case swtpm.Permanent:
		as, state = permanent, (*t).Permanent()
	case swtpm.Volatile:
		as = volatile
		if state, err = (*t).Volatile(); err != nil {
			return nil, false, fmt.Errorf("taking the volatile state: %w", err)
		}
	case swtpm.SaveState:
		// Asked for last, and empty for a TPM 2.0: now the state has gone out.
		i.handedOut()
		return nil, false, swtpm.NonFatal
	default:
		return nil, false, swtpm.BadParameter
	}
	defer clear(state)
	i.mu.Lock()
	defer i.mu.Unlock()
	key, migration := i.travelKey()
	box, err := i.box(i.id, key, migration)
	if err != nil {
		return nil, false, err
	}
	blob, err = join(as, key.protection(), i.id, i.generation, state, box)
	if err != nil {
		return nil, false, err
	}
	i.log.Info("state handed out", "blob", k.String(), "vtpm", i.id.String(), "generation", i.generation, "sealed", !key.none())
	if as == volatile {
		i.quiet.Store(true) // switching off must not write over what was handed out
	}
	return blob, !key.none(), nil
}

// handedOut gives the lock to a target on shared storage.
func (i *Instance) handedOut() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.cfg.ReleaseLock && i.quiet.Load() {
		i.dir.release()
	}
}

// SetBlob takes a state file from elsewhere. It is checked now, and counts
// from the next power-on; until then the directory stays as it is.
func (i *Instance) SetBlob(k swtpm.BlobKind, blob []byte, _ bool) error {
	i.power.RLock()
	defer i.power.RUnlock()
	if i.tpm.Load() != nil {
		return swtpm.BadOrdinal
	}
	var as kind
	switch k {
	case swtpm.Permanent:
		as = permanent
	case swtpm.Volatile:
		as = volatile
	default:
		return swtpm.BadParameter
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	err := i.stage(as, blob)
	if err != nil {
		i.log.Error("state refused", "blob", k.String(), "err", err)
	} else {
		i.log.Info("state taken", "blob", k.String(), "vtpm", i.staged[as].header.id.String(), "generation", i.staged[as].header.generation)
	}
	return resulting(err)
}

// resulting adds to a refusal the result that swtpm has for it, of which QEMU
// makes a sentence: who migrates reads there what to look for.
func resulting(err error) error {
	var r *Refusal
	if !errors.As(err, &r) {
		return err
	}
	switch r.Finding.Code {
	case "STATE_KEY_MISSING":
		return errors.Join(err, swtpm.KeyNotFound)
	case "STATE_WRONG_KEY":
		return errors.Join(err, swtpm.DecryptError)
	}
	return err
}

func (i *Instance) stage(as kind, blob []byte) error {
	if swtpm.IsState(blob) {
		return i.stageForeign(as, blob)
	}
	key, migration := i.travelKey()
	h, state, err := i.unseal("state blob", as, blob, key, migration)
	if err != nil {
		return err
	}
	if h.generation < i.cfg.MinGeneration {
		return refuse("STATE_ROLLED_BACK", "state blob", fmt.Sprintf("generation %d, and at least %d is known", h.generation, i.cfg.MinGeneration), i.dir.path, fmt.Sprint(h.generation))
	}
	if as == volatile {
		id, generation := i.id, i.generation
		if p, ok := i.staged[permanent]; ok {
			id, generation = p.header.id, p.header.generation
		}
		if h.id != id || h.generation != generation {
			return refuse("STATE_INCOMPLETE", "state blob", fmt.Sprintf("the volatile state belongs to generation %d of vTPM %s, the permanent state is %d of %s", h.generation, h.id, generation, id), i.dir.path)
		}
	}
	// In clear, state is a part of blob, which is the caller's.
	i.staged[as] = stagedState{h, bytes.Clone(state)}
	return nil
}

// LockStorage takes the lock on the directory again.
func (i *Instance) LockStorage(retries uint32) error {
	return i.retake(int(min(retries, maxLockRetries)))
}

// maxLockRetries is 10 s; QEMU asks for 3 s.
const maxLockRetries = 1000

// Keys says which keys are in use.
func (i *Instance) Keys() (state, migration bool) {
	return !i.cfg.Key.none(), !i.cfg.MigrationKey.none()
}

// Rekey seals the state of a TPM that is off with another key; a zero key
// leaves it in clear. A suspended TPM is resumed
// and switched off first: one file is replaced at once, two are not.
func (i *Instance) Rekey(key Key) error {
	i.power.Lock()
	defer i.power.Unlock()
	if i.tpm.Load() != nil {
		return swtpm.BadOrdinal
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	perm, err := i.load()
	if err != nil {
		return err
	}
	if perm == nil {
		return fmt.Errorf("sealing %s: there is no state yet", i.dir.path)
	}
	defer clear(perm)
	if i.dir.has(volatileFile) {
		return refuse("STATE_SUSPENDED", i.dir.path, "there is "+volatileFile)
	}
	i.cfg.Key = key
	delete(i.boxes, boxFor{i.id, false})
	// The generation stays: nothing in the state has changed.
	if err := i.put(i.generation, perm); err != nil {
		return fmt.Errorf("sealing %s: %w", permanentFile, err)
	}
	return nil
}
