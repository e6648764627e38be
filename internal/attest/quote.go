package attest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vouchsafe/vouchsafe/eventlog"
	"github.com/vouchsafe/vouchsafe/tpm2"
)

// quote is a verified TPM2_Quote over PCRs of one bank.
type quote struct {
	attest *tpm2.TPMSAttest
	bank   eventlog.Alg
	pcrs   []int // in the order in which their values were hashed
	values map[int][]byte
}

// readQuote verifies a quote item under the VM's key.
func readQuote(k *Key, item []byte) (*quote, error) {
	if len(item) > MaxQuote {
		return nil, fmt.Errorf("it is malformed: %d bytes; the limit is %d", len(item), MaxQuote)
	}
	a, err := k.attested(tpm2.NewDecoder(item))
	if err != nil {
		return nil, err
	}
	if a.Type != tpm2.STAttestQuote {
		return nil, fmt.Errorf("it is an attestation of type 0x%04x, not a quote", uint16(a.Type))
	}
	sel := a.Attested.Quote.PCRSelect
	if len(sel) != 1 {
		return nil, fmt.Errorf("it quotes %d banks; want exactly one", len(sel))
	}
	q := &quote{attest: a, bank: eventlog.Alg(sel[0].Hash)}
	for pcr := 0; pcr <= eventlog.MaxPCR; pcr++ {
		if pcr/8 < len(sel[0].PCRSelect) && sel[0].PCRSelect[pcr/8]&(1<<(pcr%8)) != 0 {
			q.pcrs = append(q.pcrs, pcr)
		}
	}
	return q, nil
}

// accept checks values against the digest that the quote signs, and keeps them.
// The digest is made with the hash of the signature scheme (Part 3, 18.4).
func (q *quote) accept(k *Key, values []byte) error {
	size := q.bank.Size()
	if len(values) != size*len(q.pcrs) {
		return fmt.Errorf("%d bytes of PCR values; %d PCRs of %v are quoted, which are %d", len(values), len(q.pcrs), q.bank, size*len(q.pcrs))
	}
	h, _ := hashOf(k.hash)
	d := h.New()
	d.Write(values)
	if !bytes.Equal(d.Sum(nil), q.attest.Attested.Quote.PCRDigest) {
		return errors.New("the PCR values do not hash to the digest that the quote signs")
	}
	q.values = make(map[int][]byte, len(q.pcrs))
	for i, pcr := range q.pcrs {
		q.values[pcr] = values[i*size : (i+1)*size]
	}
	return nil
}

// Certified is a key that the TPM which quoted also certified.
type Certified struct {
	Name   []byte // its Name, by which the qualifying data knows it
	Public []byte // its TPMT_PUBLIC, for the certificate or for encrypting to it
	// Primary is the hierarchy of which it is a primary key, 0 when it is none.
	// One of tpm2.RHNull is gone after the next TPM Reset: what is encrypted to
	// it opens in this boot alone.
	Primary tpm2.Handle
}

// readCertify verifies a TPMCertify item: that key's Name must be the Name of
// the public area beside it, the same qualifying data must be signed, and the
// private part must never have been outside this TPM, nor ever leave it.
func readCertify(k *Key, item, qualifying []byte) (*Certified, error) {
	if len(item) > MaxQuote {
		return nil, fmt.Errorf("it is malformed: %d bytes; the limit is %d", len(item), MaxQuote)
	}
	d := tpm2.NewDecoder(item)
	public := d.Buf(1024)
	a, err := k.attested(d)
	if err != nil {
		return nil, err
	}
	if a.Type != tpm2.STAttestCertify {
		return nil, fmt.Errorf("it is an attestation of type 0x%04x, not of a key", uint16(a.Type))
	}
	name, err := Name(public)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(name, a.Attested.Certify.Name) {
		return nil, errors.New("it certifies another key than the one beside it")
	}
	if !bytes.Equal(a.ExtraData, qualifying) {
		return nil, errors.New("it was not made for this admission")
	}
	var p tpm2.TPMTPublic
	if err := tpm2.Unmarshal(public, &p); err != nil {
		return nil, err
	}
	if !p.ObjectAttributes.Has(tpm2.FixedTPM | tpm2.FixedParent | tpm2.SensitiveDataOrigin) {
		return nil, errors.New("the key is not fixedTPM, fixedParent and sensitiveDataOrigin: a copy may be elsewhere")
	}
	c := &Certified{Name: name, Public: bytes.Clone(public)}
	for _, h := range []tpm2.Handle{tpm2.RHNull, tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHPlatform} {
		if bytes.Equal(primaryName(&p, h, name), a.Attested.Certify.QualifiedName) {
			c.Primary = h
		}
	}
	return c, nil
}

// primaryName is the Qualified Name of a primary object: the hash of the
// hierarchy's handle and the Name (Part 1, 14.4).
func primaryName(p *tpm2.TPMTPublic, hierarchy tpm2.Handle, name []byte) []byte {
	h, _ := hashOf(p.NameAlg)
	d := h.New()
	d.Write(binary.BigEndian.AppendUint32(nil, uint32(hierarchy)))
	d.Write(name)
	return d.Sum(binary.BigEndian.AppendUint16(nil, uint16(p.NameAlg)))
}
