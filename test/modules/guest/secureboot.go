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
	if vars, err = enrolMOK(vars, s.MOK); err != nil {
		return nil, fmt.Errorf("writing MokList: %w", err)
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

// enrolMOK adds shim's MokList to an authenticated variable store (EDK II,
// VariableFormat.h). A running system cannot write the variable, which has no
// runtime access; shim reads it at boot.
func enrolMOK(store []byte, certs [][]byte) ([]byte, error) {
	if len(certs) == 0 {
		return store, nil
	}
	le := binary.LittleEndian
	if len(store) < 100 || string(store[40:44]) != "_FVH" {
		return nil, errors.New("not a firmware volume")
	}
	head := int(le.Uint16(store[48:]))
	if head+28 > len(store) || !bytes.Equal(store[head:head+16], guid("aaf32c78947b439aa1802e144ec37792")) {
		return nil, errors.New("not an authenticated variable store")
	}
	end := head + int(le.Uint32(store[head+16:]))
	const fixed = 60 // sizeof(AUTHENTICATED_VARIABLE_HEADER)
	at := head + 28
	for at+fixed <= end && le.Uint16(store[at:]) == 0x55aa {
		name, data := int(le.Uint32(store[at+36:])), int(le.Uint32(store[at+40:]))
		at = (at + fixed + name + data + 3) &^ 3
	}
	var list []byte
	for _, c := range certs {
		// EFI_SIGNATURE_LIST with one EFI_SIGNATURE_DATA (UEFI, 32.4.1).
		list = append(list, guid("a5c059a194e44aa787b5ab155c2bf072")...)
		for _, n := range []int{28 + 16 + len(c), 0, 16 + len(c)} {
			list = le.AppendUint32(list, uint32(n))
		}
		list = append(list, make([]byte, 16)...) // the owner: nobody
		list = append(list, c...)
	}
	var name []byte
	for _, u := range utf16.Encode([]rune("MokList\x00")) {
		name = le.AppendUint16(name, u)
	}
	rec := []byte{0xaa, 0x55, 0x3f, 0}
	rec = le.AppendUint32(rec, 3)            // non-volatile, boot services
	rec = append(rec, make([]byte, 8+16)...) // monotonic count, time stamp
	rec = le.AppendUint32(rec, 0)            // public key index
	rec = le.AppendUint32(rec, uint32(len(name)))
	rec = le.AppendUint32(rec, uint32(len(list)))
	rec = append(rec, guid("605dab50e0464300abb63dd810dd8b23")...) // SHIM_LOCK
	rec = append(append(rec, name...), list...)
	if at+len(rec) > end {
		return nil, errors.New("the variable store is full")
	}
	out := bytes.Clone(store)
	copy(out[at:], rec)
	return out, nil
}
