package attest

import (
	"crypto/sha256"
	"encoding/binary"
)

// Binding is everything that a quote for one admission is tied to. Both sides
// make its digest, and the TPM signs it as qualifying data; so a quote cannot be
// replayed, moved to another VM, used for another purpose, or carried over
// another TLS connection, and certified keys cannot be exchanged.
type Binding struct {
	Nonce     []byte   // the server's
	Tenant    string   //
	VM        string   //
	Purpose   string   // "admission", "renewal", "host"
	AKName    []byte   //
	Certified [][]byte // Names of the certified keys, in the order of the evidence
	Exporter  []byte   // of the TLS connection, see [ExporterLabel]
	Covers    []byte   // what else the quote vouches for: of a host, the root over its vTPMs; empty for a VM
}

// ExporterLabel is the label under which both ends take 32 bytes, without
// context, from the TLS 1.3 connection of the admission (RFC 8446, section 7.5).
const ExporterLabel = "EXPORTER-vouchsafe-admission-1"

// bindingLabel separates this use of SHA-256 from all others.
const bindingLabel = "vouchsafe qualifying data 1"

// Digest is the qualifying data: SHA-256 over every field with its length in
// four bytes before it, big-endian, the label first, the number of certified
// keys before them.
func (b *Binding) Digest() []byte {
	h := sha256.New()
	field := func(v []byte) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(v))))
		h.Write(v)
	}
	field([]byte(bindingLabel))
	field(b.Nonce)
	field([]byte(b.Tenant))
	field([]byte(b.VM))
	field([]byte(b.Purpose))
	field(b.AKName)
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b.Certified))))
	for _, name := range b.Certified {
		field(name)
	}
	field(b.Exporter)
	field(b.Covers)
	return h.Sum(nil)
}
