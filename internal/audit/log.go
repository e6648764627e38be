package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// segmentFile is what the log asks of the file it writes to. Tests put faults there.
type segmentFile interface {
	io.WriterAt
	Truncate(size int64) error
	Sync() error
	Close() error
}

// Options of a log. The zero value works.
type Options struct {
	// Now is the wall clock; nil is time.Now. The log never goes back, whatever
	// the clock does.
	Now func() time.Time
	// OnCheckpoint gets a signed checkpoint now and then, at most once a second
	// and once at the end, to carry it off the machine. It must not block.
	OnCheckpoint func(signed []byte)

	testOnlyFile func(*os.File) segmentFile
}

// Log is an open audit log. One process at a time holds it.
type Log struct {
	dir    string
	signer *Signer
	opts   Options
	queue  chan *waiting
	quit   chan struct{} // closed by Close: no new callers
	gone   chan struct{} // closed by the writer when it has ended
	close  sync.Once
	lock   *os.File

	mu sync.RWMutex // guards what follows; only the writer changes it
	state
}

type state struct {
	tree     tree
	frontier frontier
	first    int64 // number of the first record in the last segment
	file     segmentFile
	length   int64 // committed bytes of the last segment
	last     time.Time
	signed   []byte // the newest checkpoint
	pushed   time.Time
	full     bool  // the reserve is spent
	broken   error // nothing is written any more
}

type waiting struct {
	event   Event
	answer  chan struct{}
	receipt Receipt
	err     error
}

// Open opens the log in dir, or begins it when dir is empty. A log that is not
// what it acknowledged is not opened: ErrDamaged.
func Open(dir string, s *Signer, opts Options) (*Log, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	l := &Log{dir: dir, signer: s, opts: opts,
		queue: make(chan *waiting, maxQueue), quit: make(chan struct{}), gone: make(chan struct{})}
	if err := l.open(); err != nil {
		l.closeFiles()
		return nil, fmt.Errorf("opening the audit log in %s: %w", dir, err)
	}
	go l.write()
	return l, nil
}

// ErrHeld means that the log is open elsewhere: a service runs on it.
var ErrHeld = errors.New("another process holds it")

func (l *Log) open() error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	var err error
	if l.lock, err = os.OpenFile(filepath.Join(l.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if err := syscall.Flock(int(l.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return ErrHeld
	}
	if l.tree.file, err = os.OpenFile(filepath.Join(l.dir, "hashes"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	firsts, err := segments(l.dir)
	if err != nil {
		return err
	}
	if len(firsts) == 0 {
		firsts = []int64{0}
		if err := l.create(0); err != nil {
			return err
		}
	}
	if err := l.recover(firsts); err != nil {
		return err
	}
	if l.signed == nil {
		if l.signed, err = l.signer.sign(Checkpoint{l.signer.origin, l.frontier.size, l.frontier.root()}); err != nil {
			return err
		}
	}
	l.full = l.makeReserve() != nil
	return nil
}

// create makes an empty segment, durably.
func (l *Log) create(first int64) error {
	path := filepath.Join(l.dir, segmentName(first))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(segmentMagic), 0)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return syncDir(l.dir)
}

// use makes f, whose first length bytes are good, the segment to write to.
func (l *Log) use(first, length int64) error {
	f, err := os.OpenFile(filepath.Join(l.dir, segmentName(first)), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	l.first, l.length, l.file = first, length, f
	if l.opts.testOnlyFile != nil {
		l.file = l.opts.testOnlyFile(f)
	}
	return nil
}

// Append records an event that needs no announcement: a refusal, or a fact.
func (l *Log) Append(ctx context.Context, e Event) (Receipt, error) {
	w := &waiting{event: e, answer: make(chan struct{})}
	select {
	case <-l.quit:
		return Receipt{}, errClosed
	default:
	}
	select {
	case l.queue <- w:
	default:
		return Receipt{}, ErrBusy
	}
	select {
	case <-w.answer:
	case <-l.gone:
		select {
		case <-w.answer:
		default:
			return Receipt{}, errClosed
		}
	case <-ctx.Done():
		// It may yet be written; the caller must take it for not recorded.
		return Receipt{}, ctx.Err()
	}
	if w.err != nil {
		return Receipt{}, fmt.Errorf("recording %s of %s: %w", e.Action, e.Object, w.err)
	}
	return w.receipt, nil
}

// Pending is an intent on record, whose outcome is not.
type Pending struct {
	log    *Log
	event  Event
	Intent Receipt
}

// Begin records the intent of what e says. Only when it returns without an
// error may the effect happen.
func (l *Log) Begin(ctx context.Context, e Event) (*Pending, error) {
	e.Phase = Intent
	r, err := l.Append(ctx, e)
	if err != nil {
		return nil, err
	}
	return &Pending{l, e, r}, nil
}

// Done records that the effect happened.
func (p *Pending) Done(ctx context.Context, detail map[string]string) (Receipt, error) {
	return p.end(ctx, Done, detail)
}

// Failed records that it did not.
func (p *Pending) Failed(ctx context.Context, why error) (Receipt, error) {
	return p.end(ctx, Failed, map[string]string{"why": cut(why.Error())})
}

func (p *Pending) end(ctx context.Context, phase Phase, detail map[string]string) (Receipt, error) {
	e := p.event
	e.Phase, e.Ref, e.Detail = phase, &p.Intent.N, detail
	// The effect has happened or has not: that a caller went away does not change what is to be written.
	return p.log.Append(context.WithoutCancel(ctx), e)
}

// cut keeps a reason short: it may quote what a stranger sent.
func cut(s string) string {
	if len(s) > 500 {
		return s[:500] + "…"
	}
	return s
}

// Checkpoint returns the newest signed checkpoint.
func (l *Log) Checkpoint() []byte {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.signed
}

// Size returns how many records there are.
func (l *Log) Size() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.frontier.size
}

// Last returns the time of the newest record: the wall clock's high-water mark.
// A clock that is far before it went back.
func (l *Log) Last() time.Time {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.last
}

// Err says why the log takes no intents, or nil.
func (l *Log) Err() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.broken != nil {
		return l.broken
	}
	if l.full {
		return ErrFull
	}
	return nil
}

// Prove returns the RFC 6962 inclusion proof of record n in the tree of a size.
func (l *Log) Prove(n, size int64) (tlog.RecordProof, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if size > l.frontier.size || n < 0 || n >= size {
		return nil, fmt.Errorf("proving record %d in a tree of %d: the log has %d", n, size, l.frontier.size)
	}
	return tlog.ProveRecord(size, n, &l.tree)
}

// Close writes what is waiting and closes the log.
func (l *Log) Close() error {
	l.close.Do(func() { close(l.quit) })
	<-l.gone
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closeFiles()
}

func (l *Log) closeFiles() error {
	var err error
	if l.file != nil {
		err = l.file.Close()
		l.file = nil
	}
	if l.tree.file != nil {
		err = errors.Join(err, l.tree.file.Close())
		l.tree.file = nil
	}
	if l.lock != nil {
		err = errors.Join(err, l.lock.Close())
		l.lock = nil
	}
	return err
}

// write is the one goroutine that writes. It takes whoever waits, without
// lingering for more, and gives them one fsync.
func (l *Log) write() {
	defer close(l.gone)
	batch := make([]*waiting, 0, maxBatch)
	for {
		batch = batch[:0]
		select {
		case w := <-l.queue:
			batch = append(batch, w)
		case <-l.quit:
			select {
			case w := <-l.queue:
				batch = append(batch, w)
			default:
				l.push(l.opts.Now(), true)
				return
			}
		}
	more:
		for len(batch) < maxBatch {
			select {
			case w := <-l.queue:
				batch = append(batch, w)
			default:
				break more
			}
		}
		l.commit(batch)
		now := l.opts.Now()
		for _, w := range batch {
			close(w.answer)
		}
		l.push(now, false)
	}
}

// push hands out a checkpoint, and keeps a copy beside the segments so that a
// tail cut by accident is noticed on this machine too.
func (l *Log) push(now time.Time, last bool) {
	if gap := now.Sub(l.pushed); !last && gap >= 0 && gap < time.Second {
		return
	}
	l.pushed = now
	if l.opts.OnCheckpoint != nil {
		l.opts.OnCheckpoint(bytes.Clone(l.signed))
	}
	// Not synced: it is never ahead of the segments, and may be behind.
	tmp := filepath.Join(l.dir, "checkpoint.new")
	if os.WriteFile(tmp, l.signed, 0o600) == nil {
		os.Rename(tmp, filepath.Join(l.dir, "checkpoint"))
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
