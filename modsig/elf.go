package modsig

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// ELFInfo is what a module says about itself.
type ELFInfo struct {
	Name     string // the module's own name ("dummy")
	Vermagic string // "6.1.0-56-cloud-amd64 SMP preempt mod_unload modversions "
	// LayoutCRC is the version of the kernel structure "module_layout" that
	// the module was built against, when it says so.
	LayoutCRC    uint32
	HasLayoutCRC bool
	// StructSize is the length of the section that becomes struct module.
	StructSize uint64
	// Symbols are what the module takes from the kernel and other modules, with
	// the versions it was built against, in the order in which a kernel resolves them.
	Symbols []SymbolVersion
}

// SymbolVersion is a symbol and the CRC of its type (CONFIG_MODVERSIONS).
type SymbolVersion struct {
	Name string
	CRC  uint32
}

// Release is the kernel release in the vermagic.
func (e ELFInfo) Release() string {
	r, _, _ := strings.Cut(e.Vermagic, " ")
	return r
}

// notELF is why a file is no module, in the words of the kernel's log.
type notELF string

func (e notELF) Error() string { return string(e) }

// ReadELF finds the .modinfo, __versions and .symtab sections of a relocatable
// 64-bit ELF file. It follows offsets only after it has compared them with the length.
func ReadELF(file []byte) (ELFInfo, error) {
	var e ELFInfo
	if len(file) <= 64 {
		return e, notELF(fmt.Sprintf("Invalid ELF header len %d", len(file)))
	}
	if string(file[:4]) != "\x7fELF" {
		return e, notELF(`Invalid ELF header magic: != \x7fELF`) // escaped, as the log shows it
	}
	var o binary.ByteOrder = binary.LittleEndian
	if file[5] == 2 {
		o = binary.BigEndian
	}
	if typ := o.Uint16(file[16:]); typ != 1 {
		return e, notELF(fmt.Sprintf("Invalid ELF header type: %d != 1", typ)) // ET_REL
	}
	n := uint64(len(file))
	shoff, shentsize := o.Uint64(file[40:]), uint64(o.Uint16(file[58:]))
	shnum, shstrndx := uint64(o.Uint16(file[60:])), uint64(o.Uint16(file[62:]))
	switch {
	case shentsize != 64:
		return e, notELF("Invalid ELF section header size")
	case shoff >= n || shnum*64 > n-shoff:
		return e, notELF("Invalid ELF section header overflow")
	case shnum == 0 || shnum > maxSections || shstrndx >= shnum:
		return e, notELF(fmt.Sprintf("Invalid ELF section name index: %d || e_shstrndx (%d) >= e_shnum (%d)", shstrndx, shstrndx, shnum))
	}
	header := func(i uint64) []byte { return file[shoff+i*64:][:64] }
	body := func(h []byte) []byte {
		off, size := o.Uint64(h[24:]), o.Uint64(h[32:])
		if off > n || size > n-off || o.Uint32(h[4:]) == 8 { // SHT_NOBITS
			return nil
		}
		return file[off:][:size]
	}
	names := body(header(shstrndx))
	var versions, symbols, strings []byte
	for i := range shnum {
		h := header(i)
		switch cString(names, uint64(o.Uint32(h))) {
		case ".modinfo":
			readModinfo(body(h), &e)
		case ".gnu.linkonce.this_module":
			e.StructSize = o.Uint64(h[32:])
		case "__versions":
			versions = body(h)
		case ".symtab":
			symbols = body(h)
			if link := uint64(o.Uint32(h[40:])); link < shnum {
				strings = body(header(link))
			}
		}
	}
	e.readVersions(o, versions, symbols, strings)
	return e, nil
}

// readVersions joins the table of versions with the symbols that are undefined
// in the module: the kernel goes by the order of these.
func (e *ELFInfo) readVersions(o binary.ByteOrder, versions, symbols, names []byte) {
	if len(versions) > 64*maxSymbols {
		return
	}
	// struct modversion_info: a CRC in a long, and 56 bytes of name.
	known := make(map[string]uint32, len(versions)/64)
	for v := versions; len(v) >= 64; v = v[64:] {
		name := cString(v[:64], 8)
		known[name] = o.Uint32(v)
		if name == "module_layout" && !e.HasLayoutCRC {
			e.LayoutCRC, e.HasLayoutCRC = o.Uint32(v), true
		}
	}
	// Elf64_Sym: name, info, other, section, value, size.
	for s := symbols; len(s) >= 24 && len(e.Symbols) < len(known); s = s[24:] {
		if o.Uint16(s[6:]) != 0 { // not SHN_UNDEF
			continue
		}
		if name := cString(names, uint64(o.Uint32(s))); name != "" {
			if crc, ok := known[name]; ok {
				e.Symbols = append(e.Symbols, SymbolVersion{name, crc})
			}
		}
	}
}

func readModinfo(b []byte, e *ELFInfo) {
	if len(b) > maxModinfo {
		return
	}
	for len(b) > 0 {
		var entry []byte
		entry, b, _ = bytes.Cut(b, []byte{0})
		if v, ok := bytes.CutPrefix(entry, []byte("vermagic=")); ok && e.Vermagic == "" {
			e.Vermagic = string(v)
		} else if v, ok := bytes.CutPrefix(entry, []byte("name=")); ok && e.Name == "" {
			e.Name = string(v)
		}
	}
}

// cString returns the NUL-ended string at off, at most 64 bytes of it.
func cString(b []byte, off uint64) string {
	if off >= uint64(len(b)) {
		return ""
	}
	b = b[off:min(off+64, uint64(len(b)))]
	s, _, ok := bytes.Cut(b, []byte{0})
	if !ok {
		return ""
	}
	return string(s)
}
