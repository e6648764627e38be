package variants

import (
	"bytes"
	"encoding/binary"

	"github.com/vouchsafe/vouchsafe/modsig"
)

// ELF returns the smallest file that a reader takes for a 64-bit module: an ELF
// header, sections and their table. No kernel loads it. The symbols are undefined
// in it, in this order; the table of their versions has the opposite one.
func ELF(name, vermagic string, symbols ...modsig.SymbolVersion) []byte {
	le := binary.LittleEndian
	modinfo := []byte("license=GPL\x00description=A module for tests\x00name=" + name + "\x00vermagic=" + vermagic + "\x00")
	strings := []byte{0}
	symtab := make([]byte, 24) // the first is always empty
	var versions []byte
	for _, s := range symbols {
		symtab = append(le.AppendUint32(symtab, uint32(len(strings))), make([]byte, 20)...)
		strings = append(append(strings, s.Name...), 0)
		entry := make([]byte, 64)
		le.PutUint64(entry, uint64(s.CRC))
		copy(entry[8:], s.Name)
		versions = append(entry, versions...)
	}
	type section struct {
		name      string
		typ, link uint32
		body      []byte
	}
	sections := []section{{}, {name: ".modinfo", typ: 1, body: modinfo}}
	if len(symbols) > 0 {
		sections = append(sections, section{name: "__versions", typ: 1, body: versions},
			section{name: ".symtab", typ: 2, link: 4, body: symtab}, section{name: ".strtab", typ: 3, body: strings})
	}
	sections = append(sections, section{name: ".shstrtab", typ: 3})
	names := []byte{0}
	at := make([]int, len(sections))
	for i, s := range sections {
		if at[i] = len(names); s.name != "" {
			names = append(append(names, s.name...), 0)
		}
	}
	sections[len(sections)-1].body = names

	var bodies, table bytes.Buffer
	for i, s := range sections {
		h := make([]byte, 64)
		if s.name != "" {
			le.PutUint32(h, uint32(at[i]))
			le.PutUint32(h[4:], s.typ)
			le.PutUint64(h[24:], uint64(64+bodies.Len()))
			le.PutUint64(h[32:], uint64(len(s.body)))
			le.PutUint32(h[40:], s.link)
		}
		table.Write(h)
		bodies.Write(s.body)
	}
	head := make([]byte, 64, 64+bodies.Len()+table.Len())
	copy(head, "\x7fELF\x02\x01\x01")
	le.PutUint16(head[16:], 1)  // ET_REL
	le.PutUint16(head[18:], 62) // x86-64
	le.PutUint32(head[20:], 1)
	le.PutUint64(head[40:], uint64(64+bodies.Len()))
	le.PutUint16(head[52:], 64)
	le.PutUint16(head[58:], 64)
	le.PutUint16(head[60:], uint16(len(sections)))
	le.PutUint16(head[62:], uint16(len(sections)-1))
	return append(append(head, bodies.Bytes()...), table.Bytes()...)
}
