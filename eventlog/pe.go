package eventlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

var errPE = errors.New("not a PE image that UEFI would load")

// PEHash computes the Authenticode hash of a PE image: what UEFI firmware
// extends into PCR 4 when it loads the image, and what a Secure Boot signature
// signs. It leaves out the checksum, the entry for the certificate table, and
// the certificates themselves (Windows Authenticode Portable Executable
// Signature Format, "Calculating the PE Image Hash"). A Linux kernel with an
// EFI stub is such an image.
func PEHash(a Alg, img []byte) ([]byte, error) {
	if len(img) > MaxPE {
		return nil, fmt.Errorf("hashing a PE image: %d bytes; the limit is %d", len(img), MaxPE)
	}
	if !a.Available() {
		return nil, fmt.Errorf("hashing a PE image: %v cannot be computed here", a)
	}
	skips, end, err := peSkips(img)
	if err != nil {
		return nil, fmt.Errorf("hashing a PE image: %w", err)
	}
	h := a.New()
	at := 0
	for _, s := range skips {
		h.Write(img[at:s.from])
		at = s.to
	}
	h.Write(img[at:end])
	return h.Sum(nil), nil
}

type span struct{ from, to int }

// peSkips returns the bytes that the hash leaves out, in order, and where the
// hashed bytes end.
func peSkips(img []byte) ([]span, int, error) {
	u16 := func(off int) int { return int(binary.LittleEndian.Uint16(img[off:])) }
	u32 := func(off int) uint64 { return uint64(binary.LittleEndian.Uint32(img[off:])) }
	if len(img) < 0x40 || string(img[:2]) != "MZ" {
		return nil, 0, errPE
	}
	pe := u32(0x3C)
	if pe > uint64(len(img)) || uint64(len(img))-pe < 24 || string(img[pe:pe+4]) != "PE\x00\x00" {
		return nil, 0, errPE
	}
	coff := int(pe) + 4
	sections, optSize, opt := u16(coff+2), u16(coff+16), coff+20
	if len(img)-opt < optSize || optSize < 2 {
		return nil, 0, errPE
	}
	// The data directories begin at 96 in PE32, at 112 in PE32+; the fifth is
	// the certificate table.
	var dirs int
	switch u16(opt) {
	case 0x10B:
		dirs = 96
	case 0x20B:
		dirs = 112
	default:
		return nil, 0, errPE
	}
	if optSize < dirs {
		return nil, 0, errPE
	}
	checksum := opt + 64
	skips := []span{{checksum, checksum + 4}}
	var certOff, certSize uint64
	if n := u32(opt + dirs - 4); n > 4 {
		cert := opt + dirs + 4*8
		if optSize < dirs+5*8 {
			return nil, 0, errPE
		}
		certOff, certSize = u32(cert), u32(cert+4)
		skips = append(skips, span{cert, cert + 8})
	}
	end := uint64(len(img))
	if certSize > 0 {
		// The table is at the end of the file, or the image has been tampered with.
		if certOff > end || certSize > end-certOff || certOff < uint64(skips[len(skips)-1].to) {
			return nil, 0, errPE
		}
		if certOff+certSize != end {
			return nil, 0, fmt.Errorf("%w: bytes follow the certificates", errPE)
		}
		end = certOff
	}
	if err := contiguous(img, opt+optSize, sections, u32(opt+60), end); err != nil {
		return nil, 0, err
	}
	return skips, int(end), nil
}

// contiguous wants the sections to cover the file without gap or overlap.
// The true algorithm hashes headers, then sections in the order of their file
// offsets, then the rest: for such an image it is the whole file in order,
// and images that are not such get no answer rather than a doubtful one.
func contiguous(img []byte, table, n int, headers, end uint64) error {
	if n > (len(img)-table)/40 {
		return errPE
	}
	type section struct{ off, size uint64 }
	var ss []section
	for i := range n {
		s := img[table+i*40:]
		size, off := uint64(binary.LittleEndian.Uint32(s[16:])), uint64(binary.LittleEndian.Uint32(s[20:]))
		if size > 0 {
			ss = append(ss, section{off, size})
		}
	}
	slices.SortFunc(ss, func(a, b section) int { return int(int64(a.off) - int64(b.off)) })
	at := headers
	if at > end {
		return errPE
	}
	for _, s := range ss {
		if s.off != at || s.size > end-at {
			return fmt.Errorf("%w: its sections leave a gap or overlap at byte %d", errPE, at)
		}
		at += s.size
	}
	return nil
}
