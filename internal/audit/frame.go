package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// A segment is its magic, then frames: kind (1) || length (4) || payload. A
// commit frame holds a signed checkpoint over all records before it; what
// follows the last one was never acknowledged.
const (
	segmentMagic = "vouchsafe-audit-1\n"
	frameRecord  = 'R'
	frameCommit  = 'C'
	frameHeader  = 5
)

func appendFrame(b []byte, kind byte, payload []byte) []byte {
	b = append(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

// errTorn: the bytes end, or stop making sense, in the middle of a frame.
var errTorn = errors.New("an unfinished frame")

// cutFrame takes the first frame off b.
func cutFrame(b []byte) (kind byte, payload, rest []byte, err error) {
	if len(b) < frameHeader {
		return 0, nil, nil, errTorn
	}
	n := binary.BigEndian.Uint32(b[1:])
	if b[0] != frameRecord && b[0] != frameCommit || n > maxRecord || int(n) > len(b)-frameHeader {
		return 0, nil, nil, errTorn
	}
	return b[0], b[frameHeader : frameHeader+int(n)], b[frameHeader+int(n):], nil
}

func segmentName(first int64) string { return fmt.Sprintf("%020d.seg", first) }

// segments lists the first record number of every segment in dir, in order.
func segments(dir string) ([]int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var firsts []int64
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), ".seg")
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || segmentName(n) != e.Name() {
			return nil, fmt.Errorf("%s is no segment's name: %w", e.Name(), ErrDamaged)
		}
		firsts = append(firsts, n)
	}
	slices.Sort(firsts)
	return firsts, nil
}

// readSegment reads a whole segment, without its magic. One that is much too
// long is refused: we never write one.
func readSegment(dir string, first int64) ([]byte, error) {
	f, err := os.Open(filepath.Join(dir, segmentName(first)))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const most = segmentSize + maxBatch*(maxRecord+frameHeader) + maxCheckpoint
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if len(data) > most {
		return nil, fmt.Errorf("segment %s is longer than %d bytes: %w", segmentName(first), most, ErrDamaged)
	}
	rest, ok := bytes.CutPrefix(data, []byte(segmentMagic))
	if !ok {
		if bytes.HasPrefix([]byte(segmentMagic), data) {
			return nil, nil // created, and not yet written when the power went
		}
		return nil, fmt.Errorf("segment %s does not begin as one: %w", segmentName(first), ErrDamaged)
	}
	return rest, nil
}

// frontier is the right edge of the tree: enough to add leaves and to know the
// root, in memory that grows with the logarithm of its size.
type frontier struct {
	size  int64
	edges []edge
}

type edge struct {
	level int
	hash  tlog.Hash
}

func (f *frontier) add(record []byte) {
	e := edge{0, tlog.RecordHash(record)}
	for len(f.edges) > 0 && f.edges[len(f.edges)-1].level == e.level {
		e = edge{e.level + 1, tlog.NodeHash(f.edges[len(f.edges)-1].hash, e.hash)}
		f.edges = f.edges[:len(f.edges)-1]
	}
	f.edges = append(f.edges, e)
	f.size++
}

// emptyRoot is the hash of a tree without leaves: SHA-256 of nothing (RFC 6962, 2.1).
var emptyRoot = func() tlog.Hash {
	h, err := tlog.TreeHash(0, nil)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return h
}()

func (f *frontier) root() tlog.Hash {
	if len(f.edges) == 0 {
		return emptyRoot
	}
	h := f.edges[len(f.edges)-1].hash
	for i := len(f.edges) - 2; i >= 0; i-- {
		h = tlog.NodeHash(f.edges[i].hash, h)
	}
	return h
}

// tree is all stored hashes: those of finished segments in a file, those of
// the last one in memory.
type tree struct {
	file *os.File
	base int64 // how many hashes the file holds
	tail []tlog.Hash
}

// ReadHashes implements tlog.HashReader.
func (t *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		switch {
		case x < t.base:
			if _, err := t.file.ReadAt(out[i][:], x*tlog.HashSize); err != nil {
				return nil, fmt.Errorf("reading the audit log's hashes: %w", err)
			}
		case x-t.base < int64(len(t.tail)):
			out[i] = t.tail[x-t.base]
		default:
			return nil, fmt.Errorf("internal error: the tree has no hash %d", x)
		}
	}
	return out, nil
}

// add stores the hashes of record n.
func (t *tree) add(n int64, record []byte) error {
	hashes, err := tlog.StoredHashes(n, record, t)
	if err != nil {
		return err
	}
	t.tail = append(t.tail, hashes...)
	return nil
}

// flush moves the tail to the file, durably.
func (t *tree) flush() error {
	b := make([]byte, 0, len(t.tail)*tlog.HashSize)
	for _, h := range t.tail {
		b = append(b, h[:]...)
	}
	if _, err := t.file.WriteAt(b, t.base*tlog.HashSize); err != nil {
		return err
	}
	if err := t.file.Sync(); err != nil {
		return err
	}
	t.base += int64(len(t.tail))
	t.tail = t.tail[:0]
	return nil
}
