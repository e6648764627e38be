package guest

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"unicode/utf16"
)

// prepare makes the disk and the variable store, and returns QEMU's arguments.
func (s *SecureBoot) prepare(ctx context.Context, dir, kernel, initrd, line string) ([]string, error) {
	vars, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.ms.fd")
	if err != nil {
		return nil, err
	}
	var mok []byte
	for _, c := range s.MOK {
		mok = append(mok, Entry(EntryX509, c)...)
	}
	for _, v := range []struct {
		name       string
		vendor     []byte
		attributes uint32
		data       []byte
	}{{"MokList", shimLock, 3, mok}, {"dbx", imageDB, 0x27, s.DBX}, {"MokListX", shimLock, 3, s.MOKX}} {
		if len(v.data) == 0 {
			continue
		}
		if vars, err = setVariable(vars, v.name, v.vendor, v.attributes, v.data); err != nil {
			return nil, fmt.Errorf("writing %s: %w", v.name, err)
		}
	}
	store := filepath.Join(dir, "vars.fd")
	if err := os.WriteFile(store, vars, 0o600); err != nil {
		return nil, err
	}
	grub := filepath.Join(dir, "grub.cfg")
	cfg := "set timeout=0\nlinux /vmlinuz " + line + "\ninitrd /initrd\nboot\n"
	if err := os.WriteFile(grub, []byte(cfg), 0o600); err != nil {
		return nil, err
	}
	esp := filepath.Join(dir, "esp.img")
	if err := os.WriteFile(esp, nil, 0o600); err != nil {
		return nil, err
	}
	size := int64(16 << 20)
	for _, f := range []string{kernel, initrd} {
		st, err := os.Stat(f)
		if err != nil {
			return nil, err
		}
		size += st.Size()
	}
	if err := os.Truncate(esp, size&^0x7fff); err != nil {
		return nil, err
	}
	for _, cmd := range [][]string{
		{"mkfs.vfat", "-n", "ESP", esp},
		{"mmd", "-i", esp, "::/EFI", "::/EFI/BOOT", "::/EFI/debian"},
		{"mcopy", "-i", esp, s.Shim, "::/EFI/BOOT/BOOTX64.EFI"},
		{"mcopy", "-i", esp, s.GRUB, "::/EFI/BOOT/grubx64.efi"},
		{"mcopy", "-i", esp, grub, "::/EFI/debian/grub.cfg"},
		{"mcopy", "-i", esp, kernel, "::/vmlinuz"},
		{"mcopy", "-i", esp, initrd, "::/initrd"},
	} {
		if out, err := exec.CommandContext(ctx, cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %v\n%s", cmd[0], err, out)
		}
	}
	return []string{"-M", "q35,accel=tcg,smm=on",
		"-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1",
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.ms.fd",
		"-drive", "if=pflash,unit=1,format=raw,file=" + store,
		"-drive", "if=none,id=esp,format=raw,file=" + esp, "-device", "virtio-blk-pci,drive=esp,bootindex=1",
		"-device", "virtio-rng-pci"}, nil
}

// guid returns a GUID as EFI stores it: the first three fields little-endian.
func guid(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 16 {
		panic("internal error: not a GUID: " + s)
	}
	return []byte{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]}
}

// A variable store as OVMF has it, with its variables behind one another
// (EDK II, VariableFormat.h). A running system cannot write these variables: MokList
// has no runtime access, dbx wants a signature of the firmware's owner. The
// firmware and shim read them at boot.
var (
	shimLock = guid("605dab50e0464300abb63dd810dd8b23")
	imageDB  = guid("d719b2cb3d3a4596a3bcdad00e67656f")
)

// setVariable replaces a variable of the store, or adds it.
func setVariable(store []byte, name string, vendor []byte, attributes uint32, data []byte) ([]byte, error) {
	le := binary.LittleEndian
	if len(store) < 100 || string(store[40:44]) != "_FVH" {
		return nil, errors.New("not a firmware volume")
	}
	head := int(le.Uint16(store[48:]))
	if head+28 > len(store) || !bytes.Equal(store[head:head+16], guid("aaf32c78947b439aa1802e144ec37792")) {
		return nil, errors.New("not an authenticated variable store")
	}
	var wide []byte
	for _, u := range utf16.Encode([]rune(name + "\x00")) {
		wide = le.AppendUint16(wide, u)
	}
	out := bytes.Clone(store)
	end := head + int(le.Uint32(store[head+16:]))
	const fixed = 60 // sizeof(AUTHENTICATED_VARIABLE_HEADER)
	at := head + 28
	for at+fixed <= end && le.Uint16(store[at:]) == 0x55aa {
		n, size := int(le.Uint32(store[at+36:])), int(le.Uint32(store[at+40:]))
		if out[at+2] == 0x3f && bytes.Equal(store[at+44:at+60], vendor) && bytes.Equal(store[at+fixed:at+fixed+n], wide) {
			out[at+2] &= 0xfd // deleted
		}
		at = (at + fixed + n + size + 3) &^ 3
	}
	rec := []byte{0xaa, 0x55, 0x3f, 0}
	rec = le.AppendUint32(rec, attributes)
	rec = append(rec, make([]byte, 8+16)...) // monotonic count, time stamp
	rec = le.AppendUint32(rec, 0)            // public key index
	rec = le.AppendUint32(rec, uint32(len(wide)))
	rec = le.AppendUint32(rec, uint32(len(data)))
	rec = append(rec, vendor...)
	rec = append(append(rec, wide...), data...)
	if at+len(rec) > end {
		return nil, errors.New("the variable store is full")
	}
	copy(out[at:], rec)
	return out, nil
}

// Entries of signature databases (UEFI, 32.4.1).
const (
	EntryX509       = "a5c059a194e44aa787b5ab155c2bf072" // a certificate
	EntrySHA256     = "c1c41626504c4092aca941f936934328" // the hash of a file
	EntryBare       = "bare"                             // as the next, without the time: no entry by the specification
	EntryX509SHA256 = "3bd2a49296c04079b420fcf98ef103ed" // of a certificate's TBS, and the time of revocation
)

// Entry makes one EFI_SIGNATURE_LIST with one EFI_SIGNATURE_DATA.
func Entry(kind string, data []byte) []byte {
	switch kind {
	case EntryBare:
		kind = EntryX509SHA256
	case EntryX509SHA256:
		data = append(bytes.Clone(data), make([]byte, 16)...) // revoked since ever
	}
	list := guid(kind)
	for _, n := range []int{28 + 16 + len(data), 0, 16 + len(data)} {
		list = binary.LittleEndian.AppendUint32(list, uint32(n))
	}
	list = append(list, make([]byte, 16)...) // the owner: nobody
	return append(list, data...)
}
