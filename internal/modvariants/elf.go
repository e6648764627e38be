package variants

import (
	"bytes"
	"encoding/binary"
)

// ELF returns the smallest file that a reader takes for a 64-bit module: an
// ELF header, a .modinfo section and the section table. No kernel loads it.
func ELF(name, vermagic string) []byte {
	modinfo := []byte("license=GPL\x00description=A module for tests\x00name=" + name + "\x00vermagic=" + vermagic + "\x00")
	names := []byte("\x00.modinfo\x00.shstrtab\x00")
	var b bytes.Buffer
	le := binary.LittleEndian
	head := make([]byte, 64)
	copy(head, "\x7fELF\x02\x01\x01")
	le.PutUint16(head[16:], 1)  // ET_REL
	le.PutUint16(head[18:], 62) // x86-64
	le.PutUint32(head[20:], 1)
	le.PutUint64(head[40:], uint64(64+len(modinfo)+len(names)))
	le.PutUint16(head[52:], 64)
	le.PutUint16(head[58:], 64)
	le.PutUint16(head[60:], 3)
	le.PutUint16(head[62:], 2)
	b.Write(head)
	b.Write(modinfo)
	b.Write(names)
	section := func(name, typ uint32, off, size int) {
		h := make([]byte, 64)
		le.PutUint32(h, name)
		le.PutUint32(h[4:], typ)
		le.PutUint64(h[24:], uint64(off))
		le.PutUint64(h[32:], uint64(size))
		b.Write(h)
	}
	section(0, 0, 0, 0)
	section(1, 1, 64, len(modinfo))
	section(10, 3, 64+len(modinfo), len(names))
	return b.Bytes()
}
