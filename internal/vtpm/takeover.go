package vtpm

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/engine"
)

// A TPM that began its life under swtpm is taken over: from the files that swtpm
// left in the directory, or from the blobs that it hands out when a VM moves.
// swtpm's files are read and never changed.

// Where Debian's swtpm keeps a TPM 2.0, its RAM when it was suspended, a TPM
// 1.2, and the lock that a running swtpm holds.
const (
	foreignFile     = "tpm2-00.permall"
	foreignVolatile = "tpm2-00.volatilestate"
	foreignTPM12    = "tpm-00.permall"
	foreignLock     = ".lock"
)

// takeoverFile remembers what was taken over. It is written before the first
// state of ours is, so that a take-over which was cut short is done again with
// the same id, and once more after it: from then on a state of ours that has gone
// is not quietly replaced by swtpm's, which is old by then.
const takeoverFile = "vtpm.takeover"

// A TakeOver tells of a TPM that was taken over, or could be.
type TakeOver struct {
	From       string    `json:"from"`   // a file of swtpm
	SHA256     string    `json:"sha256"` // of that file
	ID         string    `json:"vtpm"`
	At         time.Time `json:"at"`
	Suspended  bool      `json:"suspended"` // with what was in RAM
	Derivation string    `json:"derivation"`
	Keys       []string  `json:"keys"`    // persistent handles
	Indexes    []string  `json:"indexes"` // NV indexes
	Left       []string  `json:"left"`    // what did not come along
	Done       bool      `json:"done"`    // the state of ours was written
	Already    bool      `json:"already,omitempty"`
	DryRun     bool      `json:"dryRun,omitempty"`
}

// Import takes over the TPM of swtpm in cfg.Dir, which must not be in use. With
// dryRun it only says whether that would do, and writes nothing.
func Import(cfg Config, dryRun bool) (*TakeOver, error) {
	cfg.TakeOver, cfg.DeferLock = false, true // Open does not take over by itself
	i, err := Open(cfg)
	if err != nil {
		return nil, err
	}
	defer i.Close()
	i.mu.Lock()
	defer i.mu.Unlock()
	// Root does this for a user whose swtpm could not read root's files.
	if info, err := os.Lstat(filepath.Join(i.dir.path, foreignFile)); err == nil && os.Geteuid() == 0 {
		i.dir.owner, _ = info.Sys().(*syscall.Stat_t)
	}
	if err := i.dir.take(0); err != nil {
		return nil, err
	}
	if i.dir.has(permanentFile) {
		done, err := i.takenOver()
		if err != nil {
			return nil, err
		}
		if done == nil {
			return nil, refuse("STATE_NOT_FOREIGN", i.dir.path, "there is "+permanentFile+", and no record of a take-over", i.dir.path)
		}
		done.Already = true
		return done, i.checkForeign()
	}
	t, state, err := i.takeOver(dryRun)
	clear(state)
	return t, err
}

// takeOver makes the first state of the directory from swtpm's files. i.mu is
// held, or nobody else has i. Until the permanent state is written, which is
// last, nothing has happened: a crash leaves swtpm's files as they were, and the
// next start does all of it again.
func (i *Instance) takeOver(dryRun bool) (*TakeOver, []byte, error) {
	perm, digest, err := i.foreign(foreignFile, false)
	if err != nil {
		return nil, nil, err
	}
	defer clear(perm)
	if perm == nil {
		if i.dir.has(foreignTPM12) {
			return nil, nil, refuse("STATE_OF_TPM12", i.dir.path, "there is "+foreignTPM12, i.dir.path)
		}
		return nil, nil, refuse("STATE_NOT_FOREIGN", i.dir.path, "there is no "+foreignFile, i.dir.path)
	}
	vol, _, err := i.foreign(foreignVolatile, true)
	if err != nil {
		return nil, nil, err
	}
	defer clear(vol)
	x, err := engine.TakeOverLibtpms(perm, vol)
	if err != nil {
		subject := foreignFile
		if _, e := engine.TakeOverLibtpms(perm, nil); e == nil {
			subject = foreignVolatile
		}
		return nil, nil, foreignRefusal(filepath.Join(i.dir.path, subject), i.dir.path, err)
	}
	t := &TakeOver{
		From: foreignFile, SHA256: digest, At: time.Now().UTC().Truncate(time.Second), Suspended: vol != nil,
		Derivation: x.Derivation, Keys: handles(x.Persistent), Indexes: handles(x.Indexes), Left: append([]string{}, x.Left...), DryRun: dryRun,
	}
	if dryRun {
		return t, nil, nil
	}
	if err := i.dir.takeForeign(true); err != nil {
		return nil, nil, err
	}
	if err := i.recordTakeOver(t); err != nil {
		return nil, nil, err
	}
	const first = 1 // generation
	if err := i.dir.remove(volatileFile); err != nil {
		return nil, nil, err
	}
	if x.Volatile != nil {
		if err := i.writeVolatile(first, x.Volatile); err != nil {
			return nil, nil, err
		}
		clear(x.Volatile)
	}
	if err := i.put(first, x.Permanent); err != nil {
		return nil, nil, fmt.Errorf("writing the state that was taken over: %w", err)
	}
	t.Done = true
	if err := i.writeRecord(t); err != nil {
		return nil, nil, err
	}
	i.log.Info("TPM of swtpm taken over; its files stay as they are and are not used any more", "dir", i.dir.path, "vtpm", i.id.String(),
		"derivation", t.Derivation, "keys", len(t.Keys), "indexes", len(t.Indexes), "suspended", t.Suspended)
	for _, l := range t.Left {
		i.log.Warn("not taken over", "what", l)
	}
	return t, x.Permanent, nil
}

// foreign reads a file of swtpm and takes its envelope off; nil when there is none.
func (i *Instance) foreign(name string, volatile bool) (state []byte, digest string, err error) {
	file, err := i.dir.read(name)
	if err != nil {
		return nil, "", fmt.Errorf("reading swtpm's state: %w", err)
	}
	if file == nil {
		return nil, "", nil
	}
	subject := filepath.Join(i.dir.path, name)
	state, sealed, err := swtpm.OpenState(file, i.cfg.Key.forSwtpm(), swtpm.StateKey{})
	switch {
	case err != nil:
		return nil, "", foreignRefusal(subject, i.dir.path, err)
	case !sealed.State && !i.cfg.Key.none():
		return nil, "", refuse("STATE_NOT_SEALED", subject, "a key was given, and swtpm's state is in clear", i.dir.path, "vouchsafe vtpm import-swtpm "+i.dir.path+" && ")
	case !engine.IsLibtpms(state, volatile):
		return nil, "", refuse("STATE_DAMAGED", subject, "what it holds is no state of a TPM 2.0 of libtpms", subject)
	}
	sum := sha256.Sum256(file)
	return state, hex.EncodeToString(sum[:]), nil
}

func (k Key) forSwtpm() swtpm.StateKey {
	if k.none() {
		return swtpm.StateKey{}
	}
	return swtpm.StateKey{Secret: k.Secret.Reveal(), Passphrase: k.Passphrase}
}

// foreignRefusal says what is wrong with a state of swtpm.
func foreignRefusal(subject, dir string, err error) error {
	switch {
	case errors.Is(err, swtpm.ErrStateKeyMissing):
		return refuse("STATE_KEY_MISSING", subject, err.Error())
	case errors.Is(err, swtpm.ErrStateKeyWrong):
		return refuse("STATE_WRONG_KEY", subject, err.Error())
	case errors.Is(err, swtpm.ErrStateNewer), errors.Is(err, engine.ErrNewer):
		return refuse("STATE_FOREIGN_NEWER", subject, err.Error())
	case errors.Is(err, engine.ErrUnsupported):
		return refuse("STATE_FOREIGN_UNSUPPORTED", subject, err.Error(), dir)
	}
	return refuse("STATE_DAMAGED", subject, err.Error(), subject)
}

// recordTakeOver writes down what is about to be done, and gives the TPM its id:
// the one that an attempt cut short has given it, if there was one.
func (i *Instance) recordTakeOver(t *TakeOver) error {
	before, err := i.takenOver()
	if err != nil {
		return err
	}
	id := i.cfg.ID
	if id == (ID{}) && before != nil && before.SHA256 == t.SHA256 {
		if b, err := hex.DecodeString(before.ID); err == nil && len(b) == len(id) {
			copy(id[:], b)
		}
	}
	if id == (ID{}) {
		rand.Read(id[:])
	}
	if before != nil && before.Done && i.generation == 0 {
		return refuse("STATE_ROLLED_BACK", i.dir.path, fmt.Sprintf("%s has gone since swtpm's state was taken over on %s; remove %s to begin with that old state once more",
			permanentFile, before.At.Format(time.DateTime), takeoverFile), i.dir.path, "0")
	}
	i.id, t.ID = id, id.String()
	return i.writeRecord(t)
}

func (i *Instance) writeRecord(t *TakeOver) error {
	b, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	if err := i.dir.write(takeoverFile, append(b, '\n')); err != nil {
		return fmt.Errorf("recording the take-over: %w", err)
	}
	return nil
}

// takenOver reads the record of a take-over; nil when there is none.
func (i *Instance) takenOver() (*TakeOver, error) {
	b, err := i.dir.read(takeoverFile)
	if err != nil || b == nil {
		return nil, err
	}
	t := new(TakeOver)
	if err := json.Unmarshal(b, t); err != nil {
		i.log.Warn("the record of the take-over is not readable", "file", takeoverFile, "err", err)
		return nil, nil
	}
	return t, nil
}

// checkForeign refuses a TPM whose old files have changed since they were taken
// over: somebody has run swtpm again, and what it did is not here. Only a person
// knows which of the two the guest goes on with.
func (i *Instance) checkForeign() error {
	t, err := i.takenOver()
	if err != nil || t == nil {
		return err
	}
	if !t.Done && i.dir.has(permanentFile) { // it was cut short after the last write but one
		t.Done = true
		if err := i.writeRecord(t); err != nil {
			i.log.Warn("the record of the take-over is not up to date", "err", err)
		}
	}
	file, err := i.dir.read(foreignFile)
	if err != nil || file == nil {
		return err
	}
	if sum := sha256.Sum256(file); hex.EncodeToString(sum[:]) != t.SHA256 {
		return refuse("STATE_RUN_BY_SWTPM", i.dir.path, fmt.Sprintf("%s has changed since it was taken over on %s", foreignFile, t.At.Format(time.DateTime)), i.dir.path)
	}
	return nil
}

// stageForeign takes a blob that swtpm handed out. The permanent state comes
// first; the volatile state needs it once more.
func (i *Instance) stageForeign(as kind, blob []byte) error {
	const subject = "state blob of swtpm"
	content, sealed, err := swtpm.OpenState(blob, i.cfg.Key.forSwtpm(), i.cfg.MigrationKey.forSwtpm())
	switch {
	case err != nil:
		return foreignRefusal(subject, i.dir.path, err)
	case !sealed.Migration && !i.cfg.MigrationKey.none():
		return refuse("STATE_NOT_SEALED", subject, "a migration key was given, and the state is in clear", i.dir.path, "")
	case sealed == (swtpm.Sealed{}) && !i.cfg.Key.none() && i.id != (ID{}):
		// swtpm hands state out in clear, its own key or not; so a new TPM may begin
		// with that. One that is there is not replaced by it.
		return refuse("STATE_NOT_SEALED", subject, "this vTPM is sealed, and the state is in clear", i.dir.path, "")
	case !engine.IsLibtpms(content, as == volatile):
		return refuse("STATE_DAMAGED", subject, "it holds no such state of a TPM 2.0 of libtpms", subject)
	}
	perm, vol := content, []byte(nil)
	if as == volatile {
		if perm, vol = i.foreignPermanent, content; perm == nil {
			return refuse("STATE_INCOMPLETE", subject, "the volatile state has come, and the permanent state has not", i.dir.path)
		}
	}
	x, err := engine.TakeOverLibtpms(perm, vol)
	if err != nil {
		return foreignRefusal(subject, i.dir.path, err)
	}
	for _, l := range x.Left {
		if as == volatile {
			i.log.Warn("not taken over", "what", l)
		}
	}
	h := header{kind: permanent, id: i.id, generation: i.generation}
	if p, ok := i.staged[permanent]; ok && as == volatile {
		h.id = p.header.id
	}
	if h.id == (ID{}) {
		h.id = i.cfg.ID
	}
	if h.id == (ID{}) {
		rand.Read(h.id[:])
	}
	i.foreignPermanent = append([]byte(nil), perm...)
	i.staged[permanent] = stagedState{h, x.Permanent}
	if as == volatile {
		h.kind = volatile
		i.staged[volatile] = stagedState{h, x.Volatile}
	}
	return nil
}

func handles(list []tpm2.Handle) []string {
	out := []string{}
	for _, h := range list {
		out = append(out, fmt.Sprintf("0x%08x", uint32(h)))
	}
	return out
}
