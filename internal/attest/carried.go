package attest

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Carried is a vTPM that a host carries: the Name of its endorsement key, and
// the generation of the state that the host has.
type Carried struct {
	EKName     []byte
	Generation int64
}

// carriedLabel separates these leaves from those of every other tree.
const carriedLabel = "vouchsafe carried vtpm 1"

// record is the leaf's content: the label and the Name with their lengths in
// four bytes before them, the generation in eight, all big-endian.
func (c Carried) record() []byte {
	var b []byte
	for _, v := range [][]byte{[]byte(carriedLabel), c.EKName} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
		b = append(b, v...)
	}
	return binary.BigEndian.AppendUint64(b, uint64(c.Generation))
}

// CarriedTree is the Merkle tree (RFC 6962, Section 2.1) over the vTPMs of a
// host in a given order. The host's TPM signs its root, so one quote speaks for
// all of them; a proof shows one of them and says nothing of its neighbours.
type CarriedTree struct {
	hashes []tlog.Hash // in tlog's stored order
	n      int64
}

// NewCarriedTree builds the tree. The order is the caller's; both sides must use the same.
func NewCarriedTree(list []Carried) (*CarriedTree, error) {
	t := &CarriedTree{}
	for _, c := range list {
		hashes, err := tlog.StoredHashes(t.n, c.record(), t)
		if err != nil {
			return nil, fmt.Errorf("hashing the carried vTPMs: %w", err)
		}
		t.hashes, t.n = append(t.hashes, hashes...), t.n+1
	}
	return t, nil
}

// ReadHashes implements tlog.HashReader.
func (t *CarriedTree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if x < 0 || x >= int64(len(t.hashes)) {
			return nil, fmt.Errorf("internal error: hash %d of %d", x, len(t.hashes))
		}
		out[i] = t.hashes[x]
	}
	return out, nil
}

// Root is the tree's hash: 32 bytes. Of no vTPM it is the hash of nothing.
func (t *CarriedTree) Root() ([]byte, error) {
	h, err := tlog.TreeHash(t.n, t)
	return h[:], err
}

// CarriedProof shows that one vTPM is in the tree with a root (RFC 6962, Section 2.1.1).
type CarriedProof struct {
	Root  []byte   `json:"root"`
	Size  int64    `json:"size"`
	Index int64    `json:"index"`
	Path  [][]byte `json:"path"`
}

// Prove makes the proof of the vTPM at an index.
func (t *CarriedTree) Prove(index int64) (*CarriedProof, error) {
	path, err := tlog.ProveRecord(t.n, index, t)
	if err != nil {
		return nil, fmt.Errorf("proving vTPM %d of %d: %w", index, t.n, err)
	}
	root, err := t.Root()
	if err != nil {
		return nil, err
	}
	p := &CarriedProof{Root: root, Size: t.n, Index: index}
	for _, h := range path {
		p.Path = append(p.Path, h[:])
	}
	return p, nil
}

// Check verifies that c is in the tree.
func (p *CarriedProof) Check(c Carried) error {
	if len(p.Root) != tlog.HashSize || len(p.Path) > 63 || p.Index < 0 || p.Index >= p.Size {
		return fmt.Errorf("the proof of a carried vTPM is malformed")
	}
	var path tlog.RecordProof
	for _, h := range p.Path {
		if len(h) != tlog.HashSize {
			return fmt.Errorf("the proof of a carried vTPM is malformed")
		}
		path = append(path, tlog.Hash(h))
	}
	return tlog.CheckRecord(path, p.Size, tlog.Hash(p.Root), p.Index, tlog.RecordHash(c.record()))
}
