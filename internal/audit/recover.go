package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// recover finds the last acknowledged state. What lies behind the last commit
// frame was never acknowledged and is cut off, unless an acknowledged commit
// lies further behind: then something in between was changed, and the log is
// not opened.
func (l *Log) recover(firsts []int64) error {
	lastFirst := firsts[len(firsts)-1]
	if err := l.loadHashes(firsts); err != nil {
		return err
	}
	data, err := readSegment(l.dir, lastFirst)
	if err != nil {
		return err
	}
	if err := l.resume(lastFirst); err != nil {
		return err
	}
	good, err := l.replay(data)
	if err != nil {
		return err
	}
	if holdsCommit(data[good:], l.signer.verifier, l.frontier.size) {
		return fmt.Errorf("segment %s: an acknowledged checkpoint follows what cannot be read: %w", segmentName(lastFirst), ErrDamaged)
	}
	length := int64(len(segmentMagic) + good)
	if err := os.Truncate(filepath.Join(l.dir, segmentName(lastFirst)), length); err != nil {
		return err
	}
	if good == 0 { // its magic may be missing
		if err := l.create(lastFirst); err != nil {
			return err
		}
	}
	if err := l.notCut(); err != nil {
		return err
	}
	return l.use(lastFirst, length)
}

// resume sets the right edge of the tree to where the last segment begins, and
// the high-water mark to the last record before it.
func (l *Log) resume(first int64) error {
	l.frontier = frontier{}
	if first == 0 {
		return nil
	}
	var err error
	if l.frontier, err = frontierAt(first, &l.tree); err != nil {
		return err
	}
	firsts, err := segments(l.dir)
	if err != nil {
		return err
	}
	if len(firsts) < 2 {
		return fmt.Errorf("the segments before record %d are missing: %w", first, ErrDamaged)
	}
	data, err := readSegment(l.dir, firsts[len(firsts)-2])
	if err != nil {
		return err
	}
	for len(data) > 0 {
		kind, payload, rest, err := cutFrame(data)
		if err != nil {
			return fmt.Errorf("segment %s: %w: %w", segmentName(firsts[len(firsts)-2]), err, ErrDamaged)
		}
		data = rest
		if kind == frameRecord {
			r, err := ParseRecord(payload)
			if err != nil {
				return fmt.Errorf("%w: %w", err, ErrDamaged)
			}
			l.last = r.Time
		} else if len(data) == 0 {
			c, err := ParseCheckpoint(payload, l.signer.verifier)
			if err != nil || c.Size != first || c.Root != l.frontier.root() {
				return fmt.Errorf("the segment before record %d does not end with its checkpoint: %w", first, ErrDamaged)
			}
			l.signed = bytes.Clone(payload)
		}
	}
	return nil
}

// replay reads frames as long as they make sense, and moves the log's state to
// the last commit among them. It returns where that ends.
func (l *Log) replay(data []byte) (good int, err error) {
	next := l.frontier
	last := l.last
	var records [][]byte
	at := 0
	for at < len(data) {
		kind, payload, rest, err := cutFrame(data[at:])
		if err != nil {
			break
		}
		if kind == frameRecord {
			r, err := ParseRecord(payload)
			if err != nil || r.N != next.size {
				break
			}
			next = frontier{next.size, append([]edge(nil), next.edges...)}
			next.add(payload)
			last = r.Time
			records = append(records, payload)
		} else {
			c, err := ParseCheckpoint(payload, l.signer.verifier)
			if err != nil || c.Size != next.size || c.Root != next.root() {
				break
			}
			for i, rec := range records {
				if err := l.tree.add(next.size-int64(len(records)-i), rec); err != nil {
					return 0, err
				}
			}
			records = records[:0]
			l.frontier, l.last, l.signed = next, last, bytes.Clone(payload)
			good = len(data) - len(rest)
		}
		at = len(data) - len(rest)
	}
	return good, nil
}

// holdsCommit looks for a signed checkpoint of this log, newer than size,
// anywhere in what could not be read, and says whether that was acknowledged.
//
// There is one exception. When the power goes, the file system may have kept
// the end of the very last write and not its middle, which then reads as
// zeros. Nobody was told that this write succeeded. (Somebody who writes the
// zeros himself has cut the tail off, which a checkpoint kept elsewhere shows.)
func holdsCommit(tail []byte, verifierKey string, size int64) bool {
	origin, _, _ := strings.Cut(verifierKey, "+")
	mark := []byte(origin + "\n")
	found, end := 0, 0
	for at := 0; ; {
		i := bytes.Index(tail[at:], mark)
		if i < 0 {
			break
		}
		at += i
		if at >= frameHeader {
			if kind, payload, rest, err := cutFrame(tail[at-frameHeader:]); err == nil && kind == frameCommit {
				if c, err := ParseCheckpoint(payload, verifierKey); err == nil && c.Size > size {
					found, end = found+1, len(tail)-len(rest)
				}
			}
		}
		at += len(mark)
	}
	torn := found == 1 && end == len(tail) && bytes.Contains(tail, make([]byte, 512))
	return found > 0 && !torn
}

// notCut compares with the checkpoint that lies beside the segments.
func (l *Log) notCut() error {
	signed, err := os.ReadFile(filepath.Join(l.dir, "checkpoint"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c, err := ParseCheckpoint(signed, l.signer.verifier)
	if err != nil {
		return nil // not synced, so it may be torn; Verify reports it
	}
	if c.Size > l.frontier.size {
		return fmt.Errorf("a checkpoint over %d records was signed, and %d are there: %w", c.Size, l.frontier.size, ErrDamaged)
	}
	return nil
}

// loadHashes sees to it that the hash file holds exactly the hashes of all
// finished segments, and makes it anew from them when it does not.
func (l *Log) loadHashes(firsts []int64) error {
	first := firsts[len(firsts)-1]
	want := tlog.StoredHashCount(first)
	info, err := l.tree.file.Stat()
	if err != nil {
		return err
	}
	l.tree.base = want
	if info.Size() >= want*tlog.HashSize {
		// Longer when a rotation was interrupted: the last segment makes them again.
		return l.tree.file.Truncate(want * tlog.HashSize)
	}
	l.tree.base = 0
	if err := l.tree.file.Truncate(0); err != nil {
		return err
	}
	var n int64
	for _, f := range firsts[:len(firsts)-1] {
		data, err := readSegment(l.dir, f)
		if err != nil {
			return err
		}
		for len(data) > 0 {
			kind, payload, rest, err := cutFrame(data)
			if err != nil {
				return fmt.Errorf("segment %s: %w: %w", segmentName(f), err, ErrDamaged)
			}
			if data = rest; kind != frameRecord {
				continue
			}
			if err := l.tree.add(n, payload); err != nil {
				return err
			}
			n++
		}
		if err := l.tree.flush(); err != nil {
			return err
		}
	}
	if n != first {
		return fmt.Errorf("segments hold %d records before record %d: %w", n, first, ErrDamaged)
	}
	return nil
}

// frontierAt reads the right edge of the tree of a size from its stored hashes.
func frontierAt(size int64, hashes tlog.HashReader) (frontier, error) {
	f := frontier{size: size}
	var at int64
	for level := 62; level >= 0; level-- {
		if size>>level&1 == 0 {
			continue
		}
		h, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(level, at>>level)})
		if err != nil {
			return f, err
		}
		f.edges = append(f.edges, edge{level, h[0]})
		at += 1 << level
	}
	return f, nil
}
