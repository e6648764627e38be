package modsig

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
)

// Verdict is what a module's signature is worth to one kernel.
type Verdict string

const (
	Valid        Verdict = "valid"
	Unsigned     Verdict = "unsigned"
	BadSignature Verdict = "bad-signature"
	UnknownKey   Verdict = "unknown-key"
	WrongKernel  Verdict = "wrong-kernel"
	Malformed    Verdict = "malformed"
	Unsupported  Verdict = "unsupported"
	RuledOut     Verdict = "forbidden" // by the firmware's dbx or shim's MokListX
)

// Signer is one signer of a module, as far as it is known.
type Signer struct {
	Name      string    `json:"name,omitempty"`   // the certificate's subject, when it is known
	Issuer    string    `json:"issuer,omitempty"` // as the signature names it
	Serial    string    `json:"serial,omitempty"` // hex
	KeyID     string    `json:"key_id,omitempty"` // hex, when the signature or the certificate has one
	Algorithm string    `json:"algorithm"`        // "rsa", "ecdsa", or the OID
	Bits      int       `json:"bits,omitempty"`
	Hash      string    `json:"hash"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	Embedded  bool      `json:"embedded"`             // the signature carries its certificate
	TrustedBy string    `json:"trusted_by,omitempty"` // "builtin" or "enrolled"

	cert *x509.Certificate
}

// Report is what Check found out about one module.
type Report struct {
	Verdict  Verdict
	ELF      ELFInfo
	Signers  []Signer
	Findings []finding.Finding

	kernel  *Kernel
	cause   cause
	printed []string
	notELF  string   // why it is no module, as the kernel says it
	size    bool     // its struct module has another size
	layout  bool     // it was built for another kernel's structures
	symbols []string // whose versions are other ones
}

// Options are what Check needs beside the module and its kernel.
type Options struct {
	// Name stands for the module in findings: the file's name.
	Name string
	// Now is compared with certificates; the kernel never does that.
	Now time.Time
	// Others are kernels whose keys are known: they tell a genuine module of
	// another kernel from one signed by nobody we know.
	Others []*Kernel
}

// Check judges m for kernel k.
func (m *Module) Check(k *Kernel, o Options) *Report {
	v := &check{kernel: k, module: m}
	r := &Report{kernel: k, ELF: m.ELF, notELF: m.notELF}
	r.cause = v.run()
	r.Signers, r.printed = v.signers, v.printed
	release := r.ELF.Release()
	other := release != "" && k.Release != "" && release != k.Release
	r.layout = other
	if own := k.own; own != nil && own.HasLayoutCRC && r.ELF.HasLayoutCRC {
		r.layout = own.LayoutCRC != r.ELF.LayoutCRC
		// Since 6.4 the size of the structure is compared first.
		r.size = k.atLeast(6, 4) && own.StructSize != r.ELF.StructSize
	}
	r.symbols = k.disagrees(m.ELF)
	r.name(v, o, other)
	for _, f := range v.found {
		r.Findings = append(r.Findings, Findings.New(f.code, o.Name, f.evidence, f.args...))
	}
	return r
}

// name chooses the verdict and adds what the kernel would not say.
func (r *Report) name(v *check, o Options, other bool) {
	release := r.ELF.Release()
	switch {
	case r.cause == verified:
		r.Verdict = Valid
	case r.cause == noData:
		r.Verdict = Unsigned
		if v.module.behind > 0 {
			v.note("MODULE_TRAILING_BYTES", fmt.Sprintf("%d bytes after %q", v.module.behind, strings.TrimSpace(Magic)))
		} else if r.notELF == "" {
			v.note("MODULE_UNSIGNED", "the file does not end with the signature's magic line")
		}
	case r.cause == noKey:
		r.Verdict = UnknownKey
		r.unknown(v, o, other)
	case r.cause == rejected && (v.has("MODULE_HASH_FORBIDDEN") || v.has("MODULE_CERTIFICATE_FORBIDDEN")):
		r.Verdict = RuledOut
	case r.cause == noPackage, r.cause == noEntry, r.cause == rejected && !v.has("MODULE_BAD_SIGNATURE"):
		r.Verdict = Unsupported
	case v.has("MODULE_BAD_SIGNATURE"):
		r.Verdict = BadSignature
	default:
		r.Verdict = Malformed
	}
	if r.notELF != "" && r.Verdict != BadSignature {
		r.Verdict = Malformed
		v.note("MODULE_NOT_ELF", r.notELF)
	}
	if other && (r.Verdict == Valid || r.Verdict == UnknownKey) {
		r.Verdict = WrongKernel
	}
	switch {
	case other:
		v.note("MODULE_OTHER_KERNEL", "vermagic "+release, release, v.kernel.Release)
	case len(r.symbols) > 0: // the same release, built anew
		v.note("MODULE_SYMBOL_VERSION", "another version of symbol "+r.symbols[0], r.symbols[0])
	}
	for i := range r.Signers {
		r.remarks(v, &r.Signers[i], o.Now)
	}
	if len(r.Signers) > 1 {
		v.note("MODULE_TWO_SIGNERS", fmt.Sprintf("%d signers", len(r.Signers)))
	}
}

// unknown says more about a signer that no keyring of the kernel has.
func (r *Report) unknown(v *check, o Options, other bool) {
	for i := range v.cms.Signers {
		s := &v.cms.Signers[i]
		for _, c := range v.kernel.dropped {
			if s.names(c) {
				r.Verdict = RuledOut
				v.note("MODULE_CERTIFICATE_FORBIDDEN", c.Subject.String()+fmt.Sprintf(" (serial %x)", c.SerialNumber))
				return
			}
		}
		for _, k := range o.Others {
			if k == v.kernel || s.Serial == nil {
				continue
			}
			if t := k.keys.find(s.Issuer, s.Serial); t != nil && t.source == "builtin" && v.verify(s, t.cert.PublicKey) == nil {
				r.Verdict = WrongKernel
				r.Signers[i].fill(t.cert, nil)
				v.note("MODULE_OTHER_KERNELS_KEY", "signed by the build key of "+k.Release, k.Release, v.kernel.Release)
				return
			}
		}
		for _, t := range v.kernel.keys.trusted {
			if s.Serial == nil || r.Signers[i].cert != nil || string(t.cert.RawSubject) != string(s.Issuer) {
				continue
			}
			if t.cert.IsCA {
				v.note("MODULE_LEAF_NOT_EMBEDDED", "signed by a certificate that "+t.cert.Subject.String()+" has issued", t.cert.Subject.String())
				return
			}
			// Every build calls its key by the same name.
			if r.Verdict = WrongKernel; !other {
				v.note("MODULE_OTHER_KERNELS_KEY", "signer "+r.Signers[i].String(), "another build", v.kernel.Release)
			}
			return
		}
	}
	if !other {
		v.note("MODULE_UNKNOWN_KEY", "signer "+r.Signers[0].String())
	}
}

// remarks are what the kernel does not check.
func (r *Report) remarks(v *check, s *Signer, now time.Time) {
	if s.Hash == "sha1" {
		v.note("MODULE_SHA1", "hash algorithm sha1")
	}
	if s.Algorithm == "rsa" && s.Bits > 0 && s.Bits < 2048 {
		v.note("MODULE_SHORT_KEY", fmt.Sprintf("RSA with %d bits", s.Bits))
	}
	if s.cert == nil || now.IsZero() {
		return
	}
	if day := time.DateOnly; now.After(s.cert.NotAfter) {
		v.note("MODULE_SIGNER_EXPIRED", "valid until "+s.cert.NotAfter.UTC().Format(day), s.cert.NotAfter.UTC().Format(day))
	} else if now.Before(s.cert.NotBefore) {
		v.note("MODULE_SIGNER_NOT_YET_VALID", "valid from "+s.cert.NotBefore.UTC().Format(day), s.cert.NotBefore.UTC().Format(day))
	}
}

// describe says what a SignerInfo itself tells.
func (v *check) describe(s *SignerInfo) Signer {
	out := Signer{Hash: HashName(hashOf(s.DigestAlgorithm.OID)), Algorithm: keyKind(s)}
	if out.Hash == "" {
		out.Hash = s.DigestAlgorithm.OID.String()
	}
	if out.Algorithm == "" {
		out.Algorithm = s.SignatureAlgorithm.OID.String()
	}
	if s.Serial != nil {
		out.Serial = fmt.Sprintf("%x", s.Serial)
		out.Issuer = nameOf(s.Issuer)
	} else {
		out.KeyID = hex.EncodeToString(s.SubjectKeyID)
	}
	if c := v.embeddedSigner(s); c != nil {
		out.Embedded = true
		out.fill(c, nil)
	}
	return out
}

// fill adds what the signer's certificate tells: leaf when the signature
// carries it, else the one on the keyring.
func (s *Signer) fill(c, leaf *x509.Certificate) {
	if leaf != nil {
		c = leaf
	}
	s.cert = c
	s.Name = c.Subject.String()
	s.NotAfter = c.NotAfter.UTC()
	s.KeyID = hex.EncodeToString(c.SubjectKeyId)
	s.Bits = keyBits(c.PublicKey)
}

// String names the signer for a person.
func (s Signer) String() string {
	switch {
	case s.Name != "" && s.Serial != "":
		return fmt.Sprintf("%s (serial %s)", s.Name, s.Serial)
	case s.Issuer != "":
		return fmt.Sprintf("a certificate issued by %s (serial %s)", s.Issuer, s.Serial)
	}
	return "key " + s.KeyID
}

func keyBits(pub crypto.PublicKey) int {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return pub.N.BitLen()
	case *ecdsa.PublicKey:
		return pub.Curve.Params().BitSize
	}
	return 0
}
