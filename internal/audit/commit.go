package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// commit writes a batch with one write and one fsync, and fills in the answers.
func (l *Log) commit(batch []*waiting) {
	refuse := func(ws []*waiting, err error) {
		for _, w := range ws {
			if w.err == nil {
				w.err = err
			}
		}
	}
	if l.broken != nil {
		refuse(batch, l.broken)
		return
	}
	if l.full && l.makeReserve() == nil {
		l.set(func() { l.full = false })
	}
	taken := l.settle(batch)
	if len(taken) == 0 {
		return
	}
	err := l.put(taken)
	if errors.Is(err, syscall.ENOSPC) && !l.full {
		// The room that was kept: from here on outcomes and refusals only.
		l.set(func() { l.full = true })
		os.Remove(filepath.Join(l.dir, "reserve"))
		for _, w := range taken {
			w.receipt = Receipt{}
		}
		if taken = l.settle(taken); len(taken) == 0 {
			return
		}
		err = l.put(taken)
	}
	if err != nil {
		if errors.Is(err, syscall.ENOSPC) {
			err = ErrFull
		}
		refuse(taken, err)
	}
}

// settle refuses what may not be written now, and returns the rest.
func (l *Log) settle(batch []*waiting) []*waiting {
	var taken []*waiting
	for _, w := range batch {
		if l.full && w.event.Phase == Intent {
			w.err = ErrFull
			continue
		}
		taken = append(taken, w)
	}
	return taken
}

// put makes the records, writes them with their checkpoint, and only then
// moves the tree on. On any error the segment is as it was before.
func (l *Log) put(batch []*waiting) error {
	if l.length >= segmentSize {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	next := frontier{l.frontier.size, slices.Clone(l.frontier.edges)}
	last := l.last
	var buf []byte
	var records [][]byte
	var written []*waiting
	for _, w := range batch {
		r := Record{N: next.size, Event: w.event, Time: l.opts.Now().UTC().Round(0)}
		if r.Time.Before(last) {
			clock := r.Time
			r.Clock, r.Time = &clock, last
		}
		data, err := r.encode()
		if err != nil {
			w.err = err // this one alone: it was too long
			continue
		}
		last = r.Time
		next.add(data)
		records = append(records, data)
		buf = appendFrame(buf, frameRecord, data)
		w.receipt = Receipt{N: r.N, Time: r.Time}
		written = append(written, w)
	}
	if len(written) == 0 {
		return nil
	}
	signed, err := l.signer.sign(Checkpoint{l.signer.origin, next.size, next.root()})
	if err != nil {
		return err
	}
	buf = appendFrame(buf, frameCommit, signed)
	if _, err := l.file.WriteAt(buf, l.length); err != nil {
		if terr := l.file.Truncate(l.length); terr != nil {
			return l.fail(fmt.Errorf("%w; and taking it back: %v", err, terr))
		}
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			return syscall.ENOSPC
		}
		return l.fail(err)
	}
	if err := l.file.Sync(); err != nil {
		// The kernel may have dropped the pages and will not say so again: what is
		// on the disk is unknown, so nothing more is written.
		return l.fail(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, data := range records {
		if err := l.tree.add(l.frontier.size+int64(i), data); err != nil {
			l.broken = fmt.Errorf("%w: %v", ErrBroken, err)
			return l.broken
		}
	}
	l.frontier, l.last, l.signed = next, last, signed
	l.length += int64(len(buf))
	for _, w := range written {
		w.receipt.Checkpoint = signed
	}
	return nil
}

// rotate begins a new segment. The hashes of the old one go to disk first, so
// a start never needs to read further back than the last segment.
func (l *Log) rotate() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.tree.flush(); err != nil {
		return err
	}
	first := l.frontier.size
	if err := l.create(first); err != nil {
		return err
	}
	old := l.file
	if err := l.use(first, int64(len(segmentMagic))); err != nil {
		return err
	}
	return old.Close()
}

func (l *Log) fail(err error) error {
	err = fmt.Errorf("%w (%w)", ErrBroken, err)
	l.set(func() { l.broken = err })
	return err
}

func (l *Log) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// makeReserve sees to it that the room kept for hard times is there, in real blocks.
func (l *Log) makeReserve() error {
	path := filepath.Join(l.dir, "reserve")
	if info, err := os.Stat(path); err == nil && info.Size() == reserveSize {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, reserveSize))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(path)
	}
	return err
}
