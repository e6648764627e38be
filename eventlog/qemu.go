package eventlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Places in the setup header of a bzImage (the kernel's documentation,
// arch/x86/boot.rst, "The Real-Mode Kernel Header").
const (
	hdrMagic        = 0x202 // "HdrS"
	hdrVersion      = 0x206
	hdrLoaderType   = 0x210
	hdrLoadFlags    = 0x211
	hdrInitrd       = 0x218
	hdrInitrdSize   = 0x21C
	hdrHeapEnd      = 0x224
	hdrCommandLine  = 0x228
	hdrInitrdMax    = 0x22C
	hdrXLoadFlags   = 0x236
	hdrEnd          = 0x238
	canBeLoadedHigh = 1 << 0 // of hdrLoadFlags
	canUseHeap      = 1 << 7
	above4G         = 1 << 1 // of hdrXLoadFlags
)

// What QEMU writes there, seen in PCR 4 with QEMU 7.2.22 and several memory
// sizes; docs/formats/prediction.md tells how it was found.
const (
	qemuLoader      = 0xB0
	qemuSetup       = 0x10000 // where the setup code would be put
	qemuCommandLine = 0x20000 // where the command line would be put
	qemuACPI        = 0x28000 // kept free below the end of low memory
)

// asLoaded returns the kernel as OVMF gets it from QEMU. QEMU fills in the
// header as a BIOS boot needs it, even when UEFI firmware does the loading: the
// loader's type, and the addresses where command line and initrd would lie. So
// the hash in PCR 4 changes with the initrd's size and with the guest's memory,
// and is not the hash that a signature of the file carries.
func (b *Boot) asLoaded() ([]byte, error) {
	if b.Untouched {
		return b.Kernel, nil
	}
	k := b.Kernel
	if len(k) < hdrEnd || string(k[hdrMagic:hdrMagic+4]) != "HdrS" {
		return nil, errors.New("the kernel has no Linux setup header: want a vmlinuz for x86-64")
	}
	if v := binary.LittleEndian.Uint16(k[hdrVersion:]); v < 0x20C || k[hdrLoadFlags]&canBeLoadedHigh == 0 {
		return nil, fmt.Errorf("the kernel speaks boot protocol %d.%d; 2.12 (Linux 3.8) or newer is understood", v>>8, v&0xFF)
	}
	// QEMU copies vga= into the header as well; nobody needs it with OVMF.
	if strings.HasPrefix(b.CommandLine, "vga=") || strings.Contains(b.CommandLine, " vga=") {
		return nil, errors.New("the command line has vga=, which QEMU puts into the kernel's header: leave it out")
	}
	k = bytes.Clone(k)
	k[hdrLoaderType] = qemuLoader
	k[hdrLoadFlags] |= canUseHeap
	binary.LittleEndian.PutUint16(k[hdrHeapEnd:], qemuCommandLine-qemuSetup-0x200)
	binary.LittleEndian.PutUint32(k[hdrCommandLine:], qemuCommandLine)
	if b.Initrd == nil {
		return k, nil
	}
	low, err := b.lowMemory()
	if err != nil {
		return nil, err
	}
	top := uint64(binary.LittleEndian.Uint32(k[hdrInitrdMax:]))
	if binary.LittleEndian.Uint16(k[hdrXLoadFlags:])&above4G != 0 {
		top = 1<<32 - 1
	}
	if top >= low-qemuACPI {
		top = low - qemuACPI - 1
	}
	if uint64(len(b.Initrd)) >= top {
		return nil, fmt.Errorf("an initrd of %d bytes does not fit into the guest's memory", len(b.Initrd))
	}
	binary.LittleEndian.PutUint32(k[hdrInitrd:], uint32((top-uint64(len(b.Initrd)))&^0xFFF))
	binary.LittleEndian.PutUint32(k[hdrInitrdSize:], uint32(len(b.Initrd)))
	return k, nil
}

// lowMemory is how much of the guest's memory lies below 4 GiB.
func (b *Boot) lowMemory() (uint64, error) {
	var most, then uint64
	switch b.Machine {
	case "", "q35":
		most, then = 0xB0000000, 0x80000000
	case "pc":
		most, then = 0xE0000000, 0xC0000000
	default:
		return 0, fmt.Errorf("machine type %q: want q35 or pc", b.Machine)
	}
	switch {
	case b.Memory == 0:
		return 0, errors.New("the guest's memory size is needed (-m), because QEMU writes the initrd's address into the kernel, which is measured")
	case b.Memory < 16<<20:
		return 0, fmt.Errorf("%d bytes of guest memory: want 16 MiB or more", b.Memory)
	case b.Memory >= most:
		return then, nil
	}
	return b.Memory, nil
}
