package modsig

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// Mode is what a kernel does with a module it cannot verify.
type Mode string

const (
	// Off loads it and taints the kernel.
	Off Mode = "off"
	// Enforce refuses it: module.sig_enforce=1 or CONFIG_MODULE_SIG_FORCE.
	Enforce Mode = "enforce"
	// Lockdown is what Secure Boot brings: lockdown and, with it, enforcement.
	Lockdown Mode = "lockdown"
	// Integrity is lockdown=integrity on the command line without Secure
	// Boot: refused too, but by the lockdown, with another errno.
	Integrity Mode = "integrity"
)

// Modes are all of them, in the order above.
var Modes = []Mode{Off, Enforce, Lockdown, Integrity}

// Features is what of a kernel's configuration decides about modules.
type Features struct {
	// Hashes are built in. One that is a module itself is not there when the
	// first modules load, and in an initramfs often never.
	Hashes []crypto.Hash
	// ECDSA is built in; otherwise P-256 and P-384 keys cannot be enrolled.
	ECDSA bool
	// Versions is CONFIG_MODVERSIONS: the release in the vermagic does not
	// count, the versions of symbols do.
	Versions bool
	// Revocation is CONFIG_SYSTEM_REVOCATION_LIST: certificates in the firmware's dbx count.
	Revocation bool
	// Force is CONFIG_MODULE_SIG_FORCE.
	Force bool
	// Assumed says that no configuration was read, and the rest is a guess.
	Assumed bool
}

// allFeatures are those of a kernel that has everything.
var allFeatures = Features{ECDSA: true, Hashes: []crypto.Hash{crypto.SHA1, crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512}}

// ParseConfig reads a kernel's .config (/boot/config-RELEASE).
func ParseConfig(b []byte) Features {
	set := map[string]string{}
	s := bufio.NewScanner(bytes.NewReader(b))
	for s.Scan() {
		if name, v, ok := strings.Cut(s.Text(), "="); ok && strings.HasPrefix(name, "CONFIG_") {
			set[strings.TrimPrefix(name, "CONFIG_")] = v
		}
	}
	on := func(name string) bool { return set[name] == "y" }
	f := Features{ECDSA: on("CRYPTO_ECDSA"), Versions: on("MODVERSIONS"), Force: on("MODULE_SIG_FORCE"), Revocation: on("SYSTEM_REVOCATION_LIST")}
	if on("CRYPTO_SHA1") {
		f.Hashes = append(f.Hashes, crypto.SHA1)
	}
	if on("CRYPTO_SHA256") || on("CRYPTO_LIB_SHA256") {
		f.Hashes = append(f.Hashes, crypto.SHA224, crypto.SHA256)
	}
	if on("CRYPTO_SHA512") {
		f.Hashes = append(f.Hashes, crypto.SHA384, crypto.SHA512)
	}
	if on("CRYPTO_SHA3") {
		f.Hashes = append(f.Hashes, crypto.SHA3_256, crypto.SHA3_384, crypto.SHA3_512)
	}
	return f
}

// AssumeFeatures guesses for a kernel whose configuration is not at hand:
// what every distribution builds in, and ECDSA where the build key is of that kind.
func AssumeFeatures(builtin []*x509.Certificate) Features {
	f := Features{Hashes: []crypto.Hash{crypto.SHA1, crypto.SHA224, crypto.SHA256}, Versions: true, Assumed: true}
	for _, c := range builtin {
		if _, ok := c.PublicKey.(*ecdsa.PublicKey); ok {
			f.ECDSA = true
			f.Hashes = append(f.Hashes, crypto.SHA384, crypto.SHA512)
			break
		}
	}
	return f
}

// Kernel is what decides about a module: make one with [NewKernel]. It may be
// used by many goroutines at once.
type Kernel struct {
	Release  string
	Features Features

	own       *ELFInfo          // one of its own modules
	versions  map[string]uint32 // of symbols, as its own modules know them
	keys      ring
	forbidden *Forbidden
	dropped   []*x509.Certificate // enrolled, and forbidden
}

// NewKernel returns a kernel that trusts its built-in certificates and those
// enrolled in shim's MokList or the firmware's db.
func NewKernel(release string, f Features, builtin, enrolled []*x509.Certificate) *Kernel {
	k := &Kernel{Release: release, Features: f}
	for _, c := range builtin {
		k.keys.add(c, "builtin", f)
	}
	for _, c := range enrolled {
		k.keys.add(c, "enrolled", f)
	}
	return k
}

// Learn takes what one of the kernel's own modules says: modules of other kernels
// are compared with it. The more of them, the more symbols are known. Not while
// the kernel is used.
func (k *Kernel) Learn(own ELFInfo) {
	if k.own == nil && own.HasLayoutCRC {
		k.own = &own
	}
	for _, s := range own.Symbols {
		if k.versions == nil {
			k.versions = map[string]uint32{}
		}
		k.versions[s.Name] = s.CRC
	}
}

// disagrees lists the symbols of a module whose version is another one here.
func (k *Kernel) disagrees(e ELFInfo) (out []string) {
	if !k.Features.Versions {
		return nil
	}
	for _, s := range e.Symbols {
		if crc, ok := k.versions[s.Name]; ok && crc != s.CRC {
			out = append(out, s.Name)
		}
	}
	return out
}

// Builtin tells whether the kernel was built with the key that c certifies.
func (k *Kernel) Builtin(c *x509.Certificate) bool {
	t := k.keys.find(c.RawIssuer, c.SerialNumber)
	return t != nil && t.source == "builtin" && t.cert.Equal(c)
}

// reads tells whether the kernel's parser knows a hash by its OID at all:
// SHA-3 came with 6.7.
func (k *Kernel) reads(h crypto.Hash) bool {
	if h != crypto.SHA3_256 && h != crypto.SHA3_384 && h != crypto.SHA3_512 {
		return true
	}
	return k.atLeast(6, 7) || k.Features.hash(h)
}

// atLeast compares the release with a version.
func (k *Kernel) atLeast(major, minor int) bool {
	var a, b int
	n, _ := fmt.Sscanf(k.Release, "%d.%d", &a, &b)
	return n == 2 && (a > major || a == major && b >= minor)
}

// ring is the kernel's keyrings together. The kernel knows a key by issuer
// and serial, and by subject key identifier.
type ring struct {
	trusted []*trusted
	byID    map[string]*trusted
}

type trusted struct {
	cert   *x509.Certificate
	source string // "builtin" or "enrolled"
}

func keyID(issuer []byte, serial *big.Int) string { return string(issuer) + "\x00" + serial.String() }

// add leaves out a certificate that the kernel cannot load: it checks a
// self-signed one, which needs code for its key. One that it cannot check for
// want of the hash it loads all the same, to fail later.
func (r *ring) add(c *x509.Certificate, source string, f Features) {
	kind, h := certificateAlgorithm(c)
	if !f.usable(c.PublicKey) && selfSigned(c) && kind != "" && f.hash(h) {
		return
	}
	r.put(&trusted{c, source})
}

func (r *ring) put(t *trusted) {
	if r.byID == nil {
		r.byID = map[string]*trusted{}
	}
	if id := keyID(t.cert.RawIssuer, t.cert.SerialNumber); r.byID[id] == nil {
		r.byID[id], r.trusted = t, append(r.trusted, t)
	}
}

func (f Features) usable(pub crypto.PublicKey) bool {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		bits := pub.N.BitLen()
		return bits >= minRSA && bits <= maxRSA
	case *ecdsa.PublicKey:
		bits := pub.Curve.Params().BitSize
		return f.ECDSA && (bits == 256 || bits == 384)
	}
	return false
}

func (f Features) hash(h crypto.Hash) bool { return slices.Contains(f.Hashes, h) }

func (r *ring) find(issuer []byte, serial *big.Int) *trusted {
	return r.byID[keyID(issuer, serial)]
}

func (r *ring) findSKI(ski []byte) *trusted {
	if len(ski) == 0 {
		return nil
	}
	for _, t := range r.trusted {
		if bytes.Equal(t.cert.SubjectKeyId, ski) {
			return t
		}
	}
	return nil
}
