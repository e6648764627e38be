package eventlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
)

// Tags of the events that Linux's EFI stub makes in PCR 9
// (Documentation of the kernel: drivers/firmware/efi/libstub/efistub.h, since 5.18).
const (
	tagInitrd      = 0x8F3B22EC // "Linux initrd": the initrd that the stub loaded
	tagLoadOptions = 0x8F3B22ED // "LOADED_IMAGE::LoadOptions": the command line
)

// Boot is a direct boot of a Linux kernel by QEMU through OVMF: -kernel,
// -initrd, -append.
type Boot struct {
	Kernel      []byte // vmlinuz, a PE image
	Initrd      []byte // nil: no -initrd
	CommandLine string // as given to -append; see [Boot.LoadOptions]

	// Memory is the guest's memory in bytes, -m. It matters because QEMU
	// writes into the kernel's header where it would put the initrd, and the
	// header is measured: see [Boot.asLoaded].
	Memory uint64
	// Machine is "q35" or "pc"; empty is q35.
	Machine string
	// Untouched says that the loader hands the kernel over as it is on disk:
	// QEMU does with SEV kernel hashes; shim, GRUB and firmware that read
	// the file themselves always do.
	Untouched bool
}

// Measured is the digests that such a boot extends, for some banks.
type Measured struct {
	Kernel      []Digest // PCR 4, EV_EFI_BOOT_SERVICES_APPLICATION: the Authenticode hash
	CommandLine []Digest // PCR 9, EV_EVENT_TAG "LOADED_IMAGE::LoadOptions"
	Initrd      []Digest // PCR 9, EV_EVENT_TAG "Linux initrd"; nil: none
}

// LoadOptions is the command line as the kernel gets and measures it: UTF-16
// with a terminating NUL. With an initrd, OVMF appends " initrd=initrd" to
// what -append says, because there the initrd is a file of that name.
func (b *Boot) LoadOptions() []byte {
	s := b.CommandLine
	if b.Initrd != nil {
		s += " initrd=initrd"
	}
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return append(out, 0, 0)
}

// Measure computes what OVMF and the kernel's EFI stub will extend.
func (b *Boot) Measure(banks ...Alg) (*Measured, error) {
	// OVMF widens the command line byte by byte: beyond ASCII we do not know.
	if i := strings.IndexFunc(b.CommandLine, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
		return nil, fmt.Errorf("predicting the boot: the command line has a character at byte %d that is not printable ASCII", i)
	}
	kernel, err := b.asLoaded()
	if err != nil {
		return nil, fmt.Errorf("predicting the boot: %w", err)
	}
	m := &Measured{}
	for _, a := range banks {
		pe, err := PEHash(a, kernel)
		if err != nil {
			return nil, fmt.Errorf("predicting the boot: %w", err)
		}
		m.Kernel = append(m.Kernel, Digest{a, pe})
		m.CommandLine = append(m.CommandLine, Digest{a, a.Sum(b.LoadOptions())})
		if b.Initrd != nil {
			m.Initrd = append(m.Initrd, Digest{a, a.Sum(b.Initrd)})
		}
	}
	return m, nil
}

// Predict returns the log of a boot that differs from golden, a log that this
// firmware really made, in nothing but kernel, initrd and command line. Replay
// it for the PCR values of all banks of the log. The golden boot must have had the
// same machine type and memory size: OVMF's PCR 0 depends on them, by what its PEI
// volume wrote into itself before it was measured. Predict refuses a golden log
// that is not of a direct boot: of any other nobody can say what would change.
func (m *Measured) Predict(golden *Log) (*Log, error) {
	if !golden.Agile {
		return nil, errors.New("predicting from the golden log: it is a SHA-1 log; boot with OVMF and take that log")
	}
	out := &Log{Agile: true, Algs: golden.Algs}
	var kernels, options, initrds int
	for i := range golden.Events {
		e := golden.Events[i] // a copy; its slices are replaced, never written to
		var with []Digest
		switch {
		case e.PCR == 4 && e.Type == EVEFIBootServicesApp:
			with = m.Kernel
			kernels++
		case e.PCR == 9 && e.Type == EVEventTag:
			switch id, _, _ := decodeTag(e.Data); id {
			case tagLoadOptions:
				with = m.CommandLine
				options++
			case tagInitrd:
				if m.Initrd == nil {
					continue // the new boot has none
				}
				with = m.Initrd
				initrds++
			}
		}
		if with == nil {
			e.Number = len(out.Events)
			out.Events = append(out.Events, e)
			continue
		}
		if _, err := out.AddDigests(e.PCR, e.Type, with, e.Data); err != nil {
			return nil, fmt.Errorf("predicting from the golden log: %w", err)
		}
	}
	switch {
	case kernels != 1:
		return nil, fmt.Errorf("predicting from the golden log: it starts %d EFI applications, a direct boot starts 1: through shim and GRUB nothing can be predicted, enrol a golden boot instead", kernels)
	case options != 1:
		return nil, fmt.Errorf("predicting from the golden log: %d LOADED_IMAGE::LoadOptions events, want 1 (kernels since 5.18 make it)", options)
	case m.Initrd != nil && initrds != 1:
		return nil, fmt.Errorf("predicting from the golden log: %d initrd events, want 1: the golden boot must have an initrd too", initrds)
	}
	return out, nil
}

// Alone returns the log of such a boot with nothing of the firmware in it: the
// events of PCR 4 and 9, whose replay is right for OVMF (edk2-stable202211)
// whatever its build. For all other PCRs a golden log is needed.
func (m *Measured) Alone(banks ...Alg) (*Log, error) {
	l, err := New(banks...)
	if err != nil {
		return nil, err
	}
	action := []byte("Calling EFI Application from Boot Option")
	separator := make([]byte, 4)
	// The order within a PCR is what matters. OVMF loads the kernel before it
	// reports the attempt to boot.
	if _, err := l.AddDigests(4, EVEFIBootServicesApp, m.Kernel, imageEvent("kernel")); err != nil {
		return nil, err
	}
	l.Add(4, EVEFIAction, action, action)
	l.Add(4, EVSeparator, separator, separator)
	if _, err := l.AddDigests(9, EVEventTag, m.CommandLine, tagEvent(tagLoadOptions, "LOADED_IMAGE::LoadOptions")); err != nil {
		return nil, err
	}
	if m.Initrd != nil {
		if _, err := l.AddDigests(9, EVEventTag, m.Initrd, tagEvent(tagInitrd, "Linux initrd")); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func tagEvent(id uint32, text string) []byte {
	d := binary.LittleEndian.AppendUint32(nil, id)
	d = binary.LittleEndian.AppendUint32(d, uint32(len(text)+1))
	return append(append(d, text...), 0)
}

// imageEvent is a UEFI_IMAGE_LOAD_EVENT whose device path names one file.
func imageEvent(file string) []byte {
	var name []byte
	for _, u := range utf16.Encode([]rune(file + "\x00")) {
		name = binary.LittleEndian.AppendUint16(name, u)
	}
	path := binary.LittleEndian.AppendUint16([]byte{4, 4}, uint16(4+len(name)))
	path = append(append(path, name...), 0x7F, 0xFF, 4, 0)
	d := binary.LittleEndian.AppendUint64(make([]byte, 24), uint64(len(path)))
	return append(d, path...)
}
