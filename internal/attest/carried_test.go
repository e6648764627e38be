package attest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
)

func carried(n int) []Carried {
	var out []Carried
	for i := range n {
		name := sha256.Sum256(fmt.Append(nil, i))
		out = append(out, Carried{EKName: append([]byte{0, 0x0b}, name[:]...), Generation: int64(i + 1)})
	}
	return out
}

// TestCarriedTree: every vTPM has a proof, and a proof is of that vTPM in that
// generation and of no other.
func TestCarriedTree(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 8, 100} {
		list := carried(n)
		tree, err := NewCarriedTree(list)
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range list {
			p, err := tree.Prove(int64(i))
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Check(c); err != nil {
				t.Errorf("%d of %d: %v", i, n, err)
			}
			older := c
			older.Generation--
			if p.Check(older) == nil {
				t.Errorf("%d of %d: the proof is good for an older generation", i, n)
			}
			if n > 1 && p.Check(list[(i+1)%n]) == nil {
				t.Errorf("%d of %d: the proof is good for another vTPM", i, n)
			}
			p.Root = bytes.Repeat([]byte{1}, 32)
			if p.Check(c) == nil {
				t.Errorf("%d of %d: the proof is good for another root", i, n)
			}
		}
		if _, err := tree.Prove(int64(n)); err == nil {
			t.Errorf("a proof of vTPM %d of %d", n, n)
		}
	}
}

// TestCarriedRoot holds the bytes that docs/formats/evidence.md gives.
func TestCarriedRoot(t *testing.T) {
	empty, err := NewCarriedTree(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := sha256.Sum256(nil) // RFC 6962, Section 2.1
	if root, err := empty.Root(); err != nil || !bytes.Equal(root, want[:]) {
		t.Errorf("the root over nothing is %x, %v", root, err)
	}
	one := Carried{EKName: []byte{0, 0x0b, 1}, Generation: 2}
	tree, err := NewCarriedTree([]Carried{one})
	if err != nil {
		t.Fatal(err)
	}
	leaf := sha256.Sum256([]byte("\x00" + "\x00\x00\x00\x18vouchsafe carried vtpm 1" + "\x00\x00\x00\x03\x00\x0b\x01" + "\x00\x00\x00\x00\x00\x00\x00\x02"))
	if root, _ := tree.Root(); !bytes.Equal(root, leaf[:]) {
		t.Errorf("the root over one is %s, want %s", hex.EncodeToString(root), hex.EncodeToString(leaf[:]))
	}
}

func TestCarriedProofMalformed(t *testing.T) {
	list := carried(3)
	tree, _ := NewCarriedTree(list)
	for name, change := range map[string]func(*CarriedProof){
		"no root":     func(p *CarriedProof) { p.Root = nil },
		"index":       func(p *CarriedProof) { p.Index = 3 },
		"below":       func(p *CarriedProof) { p.Index = -1 },
		"short hash":  func(p *CarriedProof) { p.Path[0] = p.Path[0][:31] },
		"short path":  func(p *CarriedProof) { p.Path = p.Path[1:] },
		"endless":     func(p *CarriedProof) { p.Path = make([][]byte, 1000) },
		"other size":  func(p *CarriedProof) { p.Size = 300 },
		"huge number": func(p *CarriedProof) { p.Size, p.Index = 1<<62, 1<<61 },
	} {
		p, err := tree.Prove(1)
		if err != nil {
			t.Fatal(err)
		}
		change(p)
		if p.Check(list[1]) == nil {
			t.Errorf("%s: the proof is good", name)
		}
	}
}
