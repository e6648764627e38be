package modsig

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// certificateMark is the version field of an X.509 v3 certificate and the tag
// of the serial number behind it. The two SEQUENCE headers stand before it.
var certificateMark = []byte{0xa0, 0x03, 0x02, 0x01, 0x02, 0x02}

// certificateWindow is how much of the kernel is looked at together: the
// longest list of certificates that is still recognised as one.
const certificateWindow = 256 << 10

// scanCertificates finds the system_certificate_list in a kernel: DER
// certificates end to end and, at the next multiple of eight, the length of
// them all as a 64-bit number (certs/system_certificates.S). It stops there;
// a kernel without such a list is read to its end, and every certificate in
// it is returned.
func scanCertificates(r io.Reader) (list []*x509.Certificate, anchored bool, err error) {
	br := bufio.NewReaderSize(r, 1<<20)
	for candidates := 0; ; {
		window, err := br.Peek(certificateWindow)
		if err != nil && err != io.EOF {
			return nil, false, err
		}
		start := nextCertificate(window)
		if start < 0 {
			if err == io.EOF {
				return list, false, nil
			}
			// A certificate's head may lie across the window's end.
			skip(br, len(window)-len(certificateMark)-8)
			continue
		}
		if start > 0 {
			skip(br, start) // so that the window holds all that follows
			continue
		}
		run, size := certificatesAt(window)
		if size == 0 {
			if candidates++; candidates > maxCandidates {
				return nil, false, errors.New("too much in it looks like a certificate and is none")
			}
			skip(br, 1)
			continue
		}
		if lengthFollows(window, size) {
			return run, true, nil
		}
		if list = append(list, run...); len(list) > maxImageCertificates {
			return nil, false, fmt.Errorf("more than %d certificates", maxImageCertificates)
		}
		skip(br, size)
	}
}

// skip drops n bytes that Peek has just shown, so it cannot fail.
func skip(br *bufio.Reader, n int) { _, _ = br.Discard(n) }

// nextCertificate returns where the first thing that looks like the head of a
// certificate begins, or -1.
func nextCertificate(b []byte) int {
	for from := 0; ; {
		i := bytes.Index(b[from:], certificateMark)
		if i < 0 {
			return -1
		}
		i += from
		// 30 82 xx xx 30 82 xx xx, or the short forms of a small certificate.
		for _, head := range []int{8, 7, 6} {
			if i >= head && b[i-head] == 0x30 && derLength(b[i-head:]) > 0 {
				return i - head
			}
		}
		from = i + 1
	}
}

// derLength returns the length of the SEQUENCE that b begins with, its head
// included, or 0 when it is none that a certificate could be.
func derLength(b []byte) int {
	switch {
	case len(b) >= 4 && b[0] == 0x30 && b[1] == 0x82:
		return 4 + int(binary.BigEndian.Uint16(b[2:]))
	case len(b) >= 3 && b[0] == 0x30 && b[1] == 0x81:
		return 3 + int(b[2])
	}
	return 0
}

// certificatesAt parses the certificates that stand end to end at the start
// of b, and returns them with their length together.
func certificatesAt(b []byte) (run []*x509.Certificate, size int) {
	for len(run) < maxImageCertificates {
		n := derLength(b[size:])
		if n == 0 || n > len(b)-size || n > maxCertificate {
			break
		}
		// A copy: the certificate outlives the window.
		c, err := x509.ParseCertificate(bytes.Clone(b[size : size+n]))
		if err != nil {
			break
		}
		run = append(run, c)
		size += n
	}
	return run, size
}

// lengthFollows tells whether the kernel's own length of the list stands
// behind it. Where the list begins within eight bytes is not known here, so
// all eight ways to align it are tried.
func lengthFollows(b []byte, size int) bool {
	for pad := range 8 {
		if at := size + pad; at+8 <= len(b) && binary.LittleEndian.Uint64(b[at:]) == uint64(size) {
			return true
		}
	}
	return false
}
