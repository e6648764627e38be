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
}

// Release is the kernel release in the vermagic.
func (e ELFInfo) Release() string {
	r, _, _ := strings.Cut(e.Vermagic, " ")
	return r
}

// notELF is why a file is no module, in the words of the kernel's log.
type notELF string

func (e notELF) Error() string { return string(e) }

// ReadELF finds the .modinfo and __versions sections of a relocatable 64-bit
// ELF file. It follows offsets only after it has compared them with the length.
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
	for i := range shnum {
		h := header(i)
		switch cString(names, uint64(o.Uint32(h))) {
		case ".modinfo":
			readModinfo(body(h), &e)
		case ".gnu.linkonce.this_module":
			e.StructSize = o.Uint64(h[32:])
		case "__versions":
			// struct modversion_info: a CRC in a long, and 56 bytes of name.
			for v := body(h); len(v) >= 64; v = v[64:] {
				if cString(v, 8) == "module_layout" {
					e.LayoutCRC, e.HasLayoutCRC = o.Uint32(v), true
					break
				}
			}
		}
	}
	return e, nil
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
