package modsig

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"hash"
)

// Module is all that a verdict needs of a module file: a few kilobytes,
// whatever the file's size, and nothing of the file itself, whose buffer may
// be used again. Make one with [Parse], which does all work that needs no
// kernel, and ask [Module.Check] about as many kernels as you like.
type Module struct {
	ELF ELFInfo

	info    Info
	signed  bool
	behind  int
	tooLong bool
	notELF  string // why it is no module, as the kernel says it

	cms     *SignedData
	cmsErr  error // why there is no cms
	notDER  error // why it was read as BER
	certs   []*x509.Certificate
	certErr error
	digests map[crypto.Hash][]byte
	whole   [sha256.Size]byte // of the file, signature included
}

// Parse reads a module, already decompressed, and hashes it with every
// algorithm that its signature names.
func Parse(file []byte) *Module {
	a := Split(file)
	m := &Module{info: a.Info, signed: a.Signed, behind: a.Behind, tooLong: a.Signed && a.tooLong()}
	var err error
	if m.ELF, err = ReadELF(a.Content); err != nil {
		m.notELF = err.Error()
	}
	if a.Signature == nil {
		return m
	}
	if m.cms, m.cmsErr = ParseCMS(bytes.Clone(a.Signature)); m.cmsErr != nil {
		// The kernel reads BER too, and nothing behind the end.
		if der, ok := toDER(a.Signature); ok {
			if cms, err := ParseCMS(der); err == nil {
				m.cms, m.notDER, m.cmsErr = cms, m.cmsErr, nil
			}
		}
	}
	if m.cms == nil {
		return m
	}
	for _, raw := range m.cms.Certificates {
		c, err := x509.ParseCertificate(raw)
		if err != nil {
			m.certErr = err
			return m
		}
		m.certs = append(m.certs, c)
	}
	m.digests = map[crypto.Hash][]byte{}
	for i := range m.cms.Signers {
		if h := hashOf(m.cms.Signers[i].DigestAlgorithm.OID); h != 0 && m.digests[h] == nil {
			w := h.New()
			w.Write(a.Content)
			m.digests[h] = w.Sum(nil)
			if c, ok := w.(hash.Cloner); ok && h == crypto.SHA256 {
				// Hashing the content twice would cost as much as all the rest.
				if more, err := c.Clone(); err == nil {
					more.Write(file[len(a.Content):])
					more.Sum(m.whole[:0])
				}
			}
		}
	}
	if m.whole == [sha256.Size]byte{} {
		m.whole = sha256.Sum256(file)
	}
	return m
}

// Check judges one module file, already decompressed, for kernel k.
func Check(file []byte, k *Kernel, o Options) *Report { return Parse(file).Check(k, o) }
