package engine

import (
	"sort"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/internal/crypt"
)

// nvIndex is one NV index (Part 1, 34.2). Like an object it is never changed in
// place: [TPM.putIndex] puts a changed copy in the list.
type nvIndex struct {
	pub  tpm2.TPMSNVPublic
	auth []byte
	data []byte // pub.DataSize octets; meaningful when NVWritten is set
}

func walkIndex(c *coder, x *nvIndex) {
	c.structure(&x.pub)
	c.bytes(&x.auth, maxDigest)
	c.bytes(&x.data, tpm2.MaxNVIndexSize)
	if !c.bad() && len(x.data) != int(x.pub.DataSize) {
		c.refuse()
	}
}

// wellFormed verifies what the commands take for granted of an index that was
// read from a state: its data has the size that its type has.
func (x *nvIndex) wellFormed() bool {
	size, digest := int(x.pub.DataSize), x.pub.NameAlg.DigestSize()
	switch x.pub.Attributes.Type() {
	case tpm2.NTOrdinary:
	case tpm2.NTCounter, tpm2.NTBits, tpm2.NTPinFail, tpm2.NTPinPass:
		if size != 8 {
			return false
		}
	case tpm2.NTExtend:
		if size != digest {
			return false
		}
	default:
		return false
	}
	return crypt.Hash(x.pub.NameAlg) != 0 && x.pub.NVIndex.Space() == tpm2.HTNVIndex
}

func (x *nvIndex) name() []byte { return crypt.NVName(&x.pub) }

func (x *nvIndex) has(a tpm2.NVAttributes) bool { return x.pub.Attributes.Has(a) }

// index finds an NV index, or nil.
func (t *TPM) index(h tpm2.Handle) *nvIndex {
	list := t.n().indexes
	i := sort.Search(len(list), func(i int) bool { return list[i].pub.NVIndex >= h })
	if i < len(list) && list[i].pub.NVIndex == h {
		return list[i]
	}
	return nil
}

// indexVisible: indexes go with the hierarchy that made them (Part 3, 24.2).
func (t *TPM) indexVisible(x *nvIndex) bool {
	if x.has(tpm2.NVPlatformCreate) {
		return t.ram.clear.phEnableNV
	}
	return t.ram.clear.shEnable
}

// putIndex replaces the index of the same handle, or adds one.
func (t *TPM) putIndex(x *nvIndex) {
	nv := t.w()
	i := sort.Search(len(nv.indexes), func(i int) bool { return nv.indexes[i].pub.NVIndex >= x.pub.NVIndex })
	list := make([]*nvIndex, 0, len(nv.indexes)+1)
	list = append(list, nv.indexes[:i]...)
	list = append(list, x)
	if i < len(nv.indexes) && nv.indexes[i].pub.NVIndex == x.pub.NVIndex {
		i++
	}
	nv.indexes = append(list, nv.indexes[i:]...)
}

// deleteIndex removes the index of a handle.
func (t *TPM) deleteIndex(h tpm2.Handle) {
	nv := t.w()
	list := make([]*nvIndex, 0, len(nv.indexes))
	for _, x := range nv.indexes {
		if x.pub.NVIndex != h {
			list = append(list, x)
		}
	}
	nv.indexes = list
}
