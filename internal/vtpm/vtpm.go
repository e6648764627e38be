// Package vtpm runs virtual TPMs: an instance is an engine (tpm2/engine) and the
// directory where its state lives. It makes instances, powers them on and off,
// keeps every acknowledged change through a crash, suspends, resumes and hands
// state over, and refuses state that is damaged, foreign, rolled back or in use.
//
// It is not a protocol: [Instance] is the device that internal/vtpm/swtpm
// drives. It issues no certificates: internal/ca does. The format of the files
// is docs/formats/state.md, the diagnoses are docs/findings/vtpm.md.
//
// Begin with [Open]; power.go is an instance's life, blobs.go its moves,
// state.go the file format and dir.go the files.
package vtpm

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/vouchsafe/vouchsafe/internal/xaes"
)

// Config says where an instance lives and how it is kept.
type Config struct {
	// Dir is the state directory; it must exist, and belongs to one vTPM.
	Dir string
	// Mode is for the state files; zero is 0600.
	Mode fs.FileMode
	// Key seals the state at rest. Without one it is plain, and Open warns.
	Key Key
	// MigrationKey seals the blobs that are handed out, and is demanded of
	// those that come in. Without one Key does both.
	MigrationKey Key
	// ID, when not zero, is the vTPM that the directory must hold.
	ID ID
	// MinGeneration refuses a permanent state older than this.
	MinGeneration uint64
	// DeferLock leaves the lock to the first power-on: an incoming migration
	// on shared storage, where the source still holds it.
	DeferLock bool
	// ReleaseLock gives the lock up when the last blob has been handed out.
	ReleaseLock bool
	// TakeOver makes the first state of a directory from swtpm's state in it,
	// if there is one, as Import does.
	TakeOver bool
	// AlgorithmSet is that of a TPM which is made here: 0 for all, or ClassicalSet.
	// One that is there, or is taken over, keeps its own.
	AlgorithmSet uint32
	// NoAutoShutdown leaves out the TPM2_Shutdown that is otherwise sent for a
	// guest that was switched off without one.
	NoAutoShutdown bool
	// Log is told what an operator must know. nil: nothing is said.
	Log *slog.Logger
}

// Instance is one vTPM. Its methods are safe for concurrent use.
type Instance struct {
	cfg   Config
	log   *slog.Logger
	maker maker

	// power is held for reading while a command runs and for writing while the
	// TPM is switched, so that no engine writes after its successor was loaded.
	power sync.RWMutex
	tpm   atomic.Pointer[machine] // nil: off; changed with power held for writing
	quiet atomic.Bool             // the state was handed out, and nothing ran since
	fault atomic.Bool             // failure mode, and the log knows

	buffer atomic.Uint32 // of the client, 0 for the usual one

	// mu guards what follows: the directory and what is known of its content.
	mu         sync.Mutex
	dir        dir
	id         ID // zero until there is a state
	generation uint64
	boxes      map[boxFor]*xaes.Box
	staged     map[kind]stagedState // from SetBlob, until the next power-on
	// foreignPermanent is swtpm's permanent state from SetBlob, until its volatile state has come.
	foreignPermanent []byte
	stored           atomic.Bool // there is stored volatile state, and it is still true
	writeFails       bool
}

// stagedState is a blob that waits for the next power-on.
type stagedState struct {
	header header
	state  []byte
}

// boxFor tells the boxes apart: the state's and the migration's.
type boxFor struct {
	id        ID
	migration bool
}

// Open takes a state directory. It reads and checks what is there and, unless
// it takes over a TPM of swtpm, changes nothing; a [Refusal] says why the
// directory may not be used.
func Open(cfg Config) (*Instance, error) { return open(cfg, engineMaker) }

func open(cfg Config, make maker) (*Instance, error) {
	if cfg.Mode == 0 {
		cfg.Mode = 0o600
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	path, err := filepath.Abs(cfg.Dir) // a daemon changes its directory
	if err != nil {
		return nil, fmt.Errorf("opening a state directory: %w", err)
	}
	if info, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("opening a state directory: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("opening a state directory: %s is no directory", path)
	}
	i := &Instance{cfg: cfg, log: log, maker: make, dir: dir{path: path, mode: cfg.Mode}, boxes: map[boxFor]*xaes.Box{}, staged: map[kind]stagedState{}}
	if cfg.DeferLock {
		return i, nil
	}
	if err := i.dir.take(0); err != nil {
		return nil, err
	}
	if _, err := i.load(); err != nil {
		i.dir.release()
		return nil, err
	}
	if err := i.checkForeign(); err != nil {
		i.dir.release()
		return nil, err
	}
	if cfg.Key.none() {
		log.Warn("state is kept in clear, readable to whoever reads the directory; give a key to seal it", "dir", path)
	}
	return i, nil
}

// Close powers the TPM off and gives the directory up. It may be called again.
func (i *Instance) Close() error {
	err := i.PowerOff()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.dir.release()
	clear(i.boxes)
	return err
}

// ID names the vTPM; it is zero before the first power-on of a new one.
func (i *Instance) ID() ID {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.id
}

// Generation counts the changes of the permanent state.
func (i *Instance) Generation() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.generation
}

// load reads and checks the permanent state; nil when there is none yet.
// i.mu is held, or nobody else has i.
func (i *Instance) load() ([]byte, error) {
	file, err := i.dir.read(permanentFile)
	if err != nil {
		return nil, fmt.Errorf("reading the permanent state: %w", err)
	}
	if file == nil {
		switch {
		case i.dir.has(foreignFile) && i.cfg.TakeOver && i.generation == 0 && i.cfg.MinGeneration <= 1 && i.dir.lock != nil:
			_, state, err := i.takeOver(false)
			return state, err
		case i.dir.has(volatileFile):
			return nil, refuse("STATE_INCOMPLETE", i.dir.path, "there is "+volatileFile+", but no "+permanentFile, i.dir.path)
		case i.dir.has(foreignFile):
			return nil, refuse("STATE_OF_SWTPM", i.dir.path, "there is "+foreignFile+", but no "+permanentFile, i.dir.path)
		case i.dir.has(foreignTPM12):
			return nil, refuse("STATE_OF_TPM12", i.dir.path, "there is "+foreignTPM12, i.dir.path)
		case i.generation > 0:
			return nil, refuse("STATE_ROLLED_BACK", i.dir.path, permanentFile+" has gone while the vTPM was in use", i.dir.path, "0")
		}
		return nil, nil
	}
	h, state, err := i.unseal(filepath.Join(i.dir.path, permanentFile), permanent, file, i.cfg.Key, false)
	if err != nil {
		return nil, err
	}
	least := max(i.cfg.MinGeneration, i.generation)
	if h.generation < least {
		return nil, refuse("STATE_ROLLED_BACK", i.dir.path,
			fmt.Sprintf("generation %d, and at least %d is known", h.generation, least), i.dir.path, fmt.Sprint(h.generation))
	}
	i.id, i.generation = h.id, h.generation
	return state, nil
}

// unseal takes a state file or blob apart and opens it with key.
func (i *Instance) unseal(subject string, want kind, file []byte, key Key, migration bool) (header, []byte, error) {
	h, body, err := split(file)
	var version versionError
	switch {
	case errors.As(err, &version):
		return h, nil, refuse("STATE_NEWER", subject, err.Error())
	case err != nil:
		return h, nil, refuse("STATE_DAMAGED", subject, err.Error(), subject)
	case h.kind != want:
		return h, nil, refuse("STATE_DAMAGED", subject, fmt.Sprintf("it holds state of kind %d, not %d", h.kind, want), subject)
	}
	for _, id := range []ID{i.id, i.cfg.ID} {
		if id != (ID{}) && h.id != id {
			return h, nil, refuse("STATE_OTHER_INSTANCE", subject, fmt.Sprintf("it is of vTPM %s, not of %s", h.id, id), id.String())
		}
	}
	switch {
	case h.protection == plain && !key.none():
		return h, nil, refuse("STATE_NOT_SEALED", subject, "a key was given, and the state is in clear", i.dir.path, "")
	case h.protection != plain && key.none():
		return h, nil, refuse("STATE_KEY_MISSING", subject, "the state is sealed")
	case h.protection != key.protection():
		return h, nil, refuse("STATE_WRONG_KEY", subject, "one is a key, the other a passphrase")
	}
	box, err := i.box(h.id, key, migration)
	if err != nil {
		return h, nil, err
	}
	state, err := h.open(body, box)
	switch {
	case errors.Is(err, xaes.ErrCommitment):
		return h, nil, refuse("STATE_WRONG_KEY", subject, "it does not open with the key that was given")
	case err != nil:
		return h, nil, refuse("STATE_DAMAGED", subject, err.Error(), subject)
	}
	return h, state, nil
}

// box derives what seals the state of id, once: a passphrase costs a tenth of
// a second. It is nil without a key.
func (i *Instance) box(id ID, key Key, migration bool) (*xaes.Box, error) {
	if key.none() {
		return nil, nil
	}
	if b, ok := i.boxes[boxFor{id, migration}]; ok {
		return b, nil
	}
	b, err := key.box(id)
	if err != nil {
		return nil, fmt.Errorf("deriving the state key: %w", err)
	}
	i.boxes[boxFor{id, migration}] = b
	return b, nil
}

// Put is the engine's store: it makes a new permanent state durable, or says
// why it could not, and then the command that wanted it fails.
func (i *Instance) Put(state []byte) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.id == (ID{}) {
		if i.id = i.cfg.ID; i.id == (ID{}) {
			rand.Read(i.id[:])
		}
	}
	err := i.forget()
	if err == nil {
		err = i.put(i.generation+1, state)
	}
	if err != nil && !i.writeFails { // once, until it works again: a guest can repeat this at will
		i.log.Error("permanent state cannot be written; commands that change it fail until it can", "dir", i.dir.path, "err", err)
	}
	if err == nil && i.writeFails {
		i.log.Info("permanent state is written again", "dir", i.dir.path)
	}
	i.writeFails = err != nil
	return err
}

// forget removes volatile state that this process stored: the TPM has gone on,
// and a crash from here on is a power loss.
func (i *Instance) forget() error {
	if !i.stored.Load() {
		return nil
	}
	if err := i.dir.remove(volatileFile); err != nil {
		return err
	}
	i.stored.Store(false)
	i.log.Info("the volatile state that was kept is out of date, and gone", "dir", i.dir.path)
	return nil
}

func (i *Instance) put(generation uint64, state []byte) error {
	if i.dir.lock == nil {
		return errors.New("the lock on the state was given up")
	}
	box, err := i.box(i.id, i.cfg.Key, false)
	if err != nil {
		return err
	}
	file, err := join(permanent, i.cfg.Key.protection(), i.id, generation, state, box)
	if err != nil {
		return err
	}
	if err := i.dir.write(permanentFile, file); err != nil {
		return err
	}
	i.generation = generation
	return nil
}
