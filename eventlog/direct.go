package eventlog

import (
	"encoding/binary"
	"unicode/utf16"
)

// Firmware is what OVMF measures of itself around a direct boot.
type Firmware struct {
	Version    []byte     // PCR 0, EV_S_CRTM_VERSION
	Volumes    []Volume   // PCR 0, EV_EFI_PLATFORM_FIRMWARE_BLOB
	SecureBoot []Variable // PCR 7: SecureBoot, PK, KEK, db, dbx, in this order
	Boot       []Variable // PCR 1: BootOrder, then its entries
}

// Volume is a volume of the firmware: where it lies, and its digest in each bank.
type Volume struct {
	Base, Length uint64
	Digests      []Digest
}

// Variable is a UEFI variable.
type Variable struct {
	Vendor [16]byte // the GUID as it is in memory
	Name   string
	Value  []byte
}

// data is UEFI_VARIABLE_DATA.
func (v *Variable) data() []byte {
	name := utf16.Encode([]rune(v.Name))
	d := append([]byte(nil), v.Vendor[:]...)
	d = binary.LittleEndian.AppendUint64(d, uint64(len(name)))
	d = binary.LittleEndian.AppendUint64(d, uint64(len(v.Value)))
	for _, u := range name {
		d = binary.LittleEndian.AppendUint16(d, u)
	}
	return append(d, v.Value...)
}

// DirectBoot writes the whole log of a direct boot, event for event as OVMF
// (edk2-stable202211) and Linux's EFI stub make it. It is for demonstrations and
// tests, where a TPM is extended with exactly these digests.
func (m *Measured) DirectBoot(f Firmware, banks ...Alg) (*Log, error) {
	l, err := New(banks...)
	if err != nil {
		return nil, err
	}
	separator := make([]byte, 4)
	action := func(pcr uint32, text string) { l.Add(pcr, EVEFIAction, []byte(text), []byte(text)) }

	l.Add(0, EVSCRTMVersion, f.Version, f.Version)
	for _, v := range f.Volumes {
		place := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, v.Base), v.Length)
		if _, err := l.AddDigests(0, EVEFIFirmwareBlob, v.Digests, place); err != nil {
			return nil, err
		}
	}
	for _, v := range f.SecureBoot {
		l.Add(7, EVEFIVariableDriver, v.data(), v.data())
	}
	l.Add(7, EVSeparator, separator, separator)
	if _, err := l.AddDigests(4, EVEFIBootServicesApp, m.Kernel, imageEvent("kernel")); err != nil {
		return nil, err
	}
	for _, v := range f.Boot {
		l.Add(1, EVEFIVariableBoot, v.Value, v.data()) // the value alone: see parts
	}
	action(4, "Calling EFI Application from Boot Option")
	for pcr := range uint32(7) {
		l.Add(pcr, EVSeparator, separator, separator)
	}
	if _, err := l.AddDigests(9, EVEventTag, m.CommandLine, tagEvent(tagLoadOptions, "LOADED_IMAGE::LoadOptions")); err != nil {
		return nil, err
	}
	if m.Initrd != nil {
		if _, err := l.AddDigests(9, EVEventTag, m.Initrd, tagEvent(tagInitrd, "Linux initrd")); err != nil {
			return nil, err
		}
	}
	action(5, "Exit Boot Services Invocation")
	action(5, "Exit Boot Services Returned with Success")
	return l, nil
}
