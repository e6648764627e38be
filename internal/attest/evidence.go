package attest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Evidence is what an Attester sends: a list of typed items, so that other
// kinds of evidence can join (docs/formats/evidence.md).
type Evidence []Item

// Item is one piece of evidence. What Data holds depends on the type.
type Item struct {
	Type ItemType `json:"type"`
	Data []byte   `json:"data"`
}

// ItemType names a kind of evidence.
type ItemType string

const (
	// TPMQuote: the response parameters of TPM2_Quote as the TPM sent them:
	// TPM2B_ATTEST, then TPMT_SIGNATURE (Part 3, 18.4).
	TPMQuote ItemType = "tpm2-quote"
	// TPMPCRValues: the quoted PCRs' values, one after the other, in the order
	// of the quote: the very bytes whose hash the quote signs.
	TPMPCRValues ItemType = "tpm2-pcr-values"
	// TPMCertify: TPM2B_PUBLIC of a key, then the response parameters of
	// TPM2_Certify for it: TPM2B_ATTEST, TPMT_SIGNATURE (Part 3, 18.2). May occur
	// several times.
	TPMCertify ItemType = "tpm2-certify"
	// TCGEventLog: the firmware's event log as the operating system has it.
	TCGEventLog ItemType = "tcg-event-log"
	// IMALog: binary_runtime_measurements of Linux.
	IMALog ItemType = "ima-log"
	// SNPReport and TDXQuote are reserved for the tier "confidential". Nothing
	// appraises them yet, and they change no verdict.
	SNPReport ItemType = "amd-sev-snp-report"
	TDXQuote  ItemType = "intel-tdx-quote"
)

// ParseEvidence reads the JSON form, strictly.
func ParseEvidence(b []byte) (Evidence, error) {
	if len(b) > MaxEvidence {
		return nil, fmt.Errorf("reading evidence: %d bytes; the limit is %d", len(b), MaxEvidence)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var ev Evidence
	if err := d.Decode(&ev); err != nil {
		return nil, fmt.Errorf("reading evidence: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("reading evidence: something follows it")
	}
	return ev, ev.check()
}

// check applies the limits that hold for evidence from anywhere.
func (ev Evidence) check() error {
	if len(ev) > MaxItems {
		return fmt.Errorf("reading evidence: %d items; the limit is %d", len(ev), MaxItems)
	}
	seen := map[ItemType]int{}
	for _, it := range ev {
		if len(it.Data) > MaxItem {
			return fmt.Errorf("reading evidence: an item of %d bytes; the limit is %d", len(it.Data), MaxItem)
		}
		most := 1
		if it.Type == TPMCertify {
			most = MaxCertified
		}
		if seen[it.Type]++; seen[it.Type] > most {
			return fmt.Errorf("reading evidence: more than %d items of type %.64q", most, it.Type)
		}
	}
	return nil
}

// item returns the first item of a type.
func (ev Evidence) item(t ItemType) ([]byte, bool) {
	for _, it := range ev {
		if it.Type == t {
			return it.Data, true
		}
	}
	return nil, false
}
