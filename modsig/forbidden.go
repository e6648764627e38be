package modsig

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
)

// Kinds of entries beside certX509 (UEFI, Section 32.4.1), as stored.
var (
	certSHA256     = []byte{0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28}
	certX509SHA256 = []byte{0x92, 0xa4, 0xd2, 0x3b, 0xc0, 0x96, 0x79, 0x40, 0xb4, 0x20, 0xfc, 0xf9, 0x8e, 0xf1, 0x03, 0xed}
)

// Forbidden is what the firmware's dbx and shim's MokListX rule out. The zero
// value rules out nothing. What kernels make of it was asked of them:
//
//   - The hash of a whole module, signature included: Debian's kernels refuse it,
//     once its signature has proved good.
//   - The hash of a certificate (of its TBSCertificate): the specification puts a
//     time behind it, and kernels compare with all of it, so such an entry never
//     fits. Without the time it does.
//   - A certificate: only kernels with CONFIG_SYSTEM_REVOCATION_LIST look, which
//     Debian's are not.
type Forbidden struct {
	files, tbs, timed map[[sha256.Size]byte]bool
	certificates      map[string]bool // raw
}

// ParseForbidden reads signature databases and takes them together.
func ParseForbidden(lists ...[]byte) (*Forbidden, error) {
	f := &Forbidden{files: map[[sha256.Size]byte]bool{}, tbs: map[[sha256.Size]byte]bool{}, timed: map[[sha256.Size]byte]bool{}, certificates: map[string]bool{}}
	for _, b := range lists {
		err := eachSignature(b, func(typ, data []byte) {
			switch {
			case bytes.Equal(typ, certSHA256) && len(data) == sha256.Size:
				f.files[[sha256.Size]byte(data)] = true
			case bytes.Equal(typ, certX509SHA256) && len(data) == sha256.Size:
				f.tbs[[sha256.Size]byte(data)] = true
			case bytes.Equal(typ, certX509SHA256) && len(data) > sha256.Size:
				f.timed[[sha256.Size]byte(data[:sha256.Size])] = true
			case bytes.Equal(typ, certX509):
				f.certificates[string(data)] = true
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Forbid tells k what its firmware and shim rule out; before the first Check. A
// certificate that is ruled out by its hash does not get onto the keyring; the
// kernel's own keys are there before anybody asks.
func (k *Kernel) Forbid(f *Forbidden) {
	k.forbidden = f
	if f == nil {
		return
	}
	old := k.keys.trusted
	k.keys = ring{}
	for _, t := range old {
		if t.source == "enrolled" && f.tbs[sha256.Sum256(t.cert.RawTBSCertificate)] {
			k.dropped = append(k.dropped, t.cert)
			continue
		}
		k.keys.put(t)
	}
}

// forbids says how c is ruled out: "yes" when the kernel sees it, "ignored" when
// it does not. What is on the keyring was found there by no hash.
func (k *Kernel) forbids(c *x509.Certificate, onKeyring bool) string {
	f := k.forbidden
	if f == nil || c == nil {
		return ""
	}
	sum := sha256.Sum256(c.RawTBSCertificate)
	switch listed := f.certificates[string(c.Raw)]; {
	case f.tbs[sum] && !onKeyring, listed && k.Features.Revocation:
		return "yes"
	case listed, f.tbs[sum], f.timed[sum]:
		return "ignored"
	}
	return ""
}
