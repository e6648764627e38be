// Package admission is what an agent and the service say to each other while a
// VM proves itself: the messages, in JSON over TLS, and nothing that acts. It
// stands apart from both, so that the agent links neither the service's API nor
// its stores.
//
// The conversation has two requests over one TLS connection, whose exporter is
// part of what the TPM signs (docs/formats/admission.md):
//
//	POST /v1/vms/{name}/challenge   AskChallenge → Challenge
//	POST /v1/vms/{name}/admission   Request → Admitted
package admission

import (
	"encoding/json"

	"github.com/vouchsafe/vouchsafe/internal/attest"
)

// Purpose is what the evidence of an admission is bound to; see [attest.Binding].
const Purpose = "admission"

// Types of evidence beside those of package attest. The service looks at them
// before anything is appraised: they say whose key signs.
const (
	// AttestationKey is the TPMT_PUBLIC of the AK.
	AttestationKey attest.ItemType = "tpm2-attestation-key"
	// ActivatedCredential is what TPM2_ActivateCredential found in the challenge.
	ActivatedCredential attest.ItemType = "tpm2-activated-credential"
)

// AskChallenge says which AK will sign.
type AskChallenge struct {
	AK []byte `json:"ak" maxLength:"4096" doc:"TPMT_PUBLIC of the attestation key"`
}

// Challenge can be answered only by the TPM with the endorsement key recorded at
// birth, and only if the AK is in it (Part 1, 24).
type Challenge struct {
	Nonce   []byte `json:"nonce" doc:"to be quoted over, once"`
	EK      string `json:"ek" enum:"RSA-2048,P-256,P-384" doc:"the endorsement key it is encrypted to"`
	Blob    []byte `json:"credential_blob" doc:"TPM2B_ID_OBJECT without its length"`
	Secret  []byte `json:"secret" doc:"TPM2B_ENCRYPTED_SECRET without its length"`
	Seconds int    `json:"seconds" doc:"how long the nonce is good for"`
}

// Request is a VM's evidence and what it asks for.
type Request struct {
	Nonce []byte        `json:"nonce" maxLength:"256"`
	Items []attest.Item `json:"items" maxItems:"16" doc:"evidence; docs/formats/evidence.md"`
	Disk  string        `json:"disk,omitempty" maxLength:"63" doc:"whose key share is wanted; empty: none"`
	// LocalPolicies says under which policy digests the VM's local share is
	// sealed. It is the agent's word: a wrong one shuts its own disk.
	LocalPolicies [][]byte `json:"local_policies,omitempty" maxItems:"4" doc:"authPolicy of each object that holds the local share"`
	// Tickets is how many disks the VM could open without the service now, by the
	// agent's word.
	Tickets int `json:"tickets,omitempty" minimum:"0" maximum:"16" doc:"disks that could be opened offline now"`
}

// Admitted is what a VM gets.
type Admitted struct {
	Certificate string          `json:"certificate" doc:"the identity, then its intermediate, in PEM"`
	Tier        string          `json:"tier" doc:"how much is known of the host"`
	Unlock      Unlock          `json:"unlock" doc:"for the TPM, to open what is sealed under PolicyAuthorize"`
	Share       *Share          `json:"share,omitempty" doc:"the server's share of the disk key"`
	VolumeKey   []byte          `json:"volume_key_digest,omitempty" doc:"recorded for this disk; empty: it was not formatted yet"`
	Offline     *Offline        `json:"offline,omitempty" doc:"leave to open disks without the service; absent: forget what there is"`
	Result      json.RawMessage `json:"result" doc:"the appraisal, in the shape of EAR"`
	Token       string          `json:"token,omitempty" doc:"the same, signed: an EAT (JWT, ES384)"`
	Checkpoint  string          `json:"checkpoint" doc:"a signed audit checkpoint over this admission; keep it"`
}

// Unlock lets the TPM itself see that a boot is approved.
type Unlock struct {
	PolicyKey []byte           `json:"policy_key" doc:"SubjectPublicKeyInfo of the key that approves"`
	Approval  *attest.Approval `json:"approval"`
	// Next is there when the policy key was rotated since the local share was
	// sealed: seal it anew under that one.
	Next *Unlock `json:"next,omitempty"`
}

// Offline is leave to open disks without the service for a while; the TPM
// enforces both.
type Offline struct {
	Boots   uint32 `json:"boots" doc:"how many more resets of the TPM"`
	Seconds int64  `json:"seconds" doc:"how much longer the TPM may run"`
}

// Share is 32 secret bytes on their way to one TPM in one boot: an object for
// TPM2_Import under the key of the null hierarchy that the evidence certifies,
// and it opens under the approved PCR values alone.
type Share struct {
	Public    []byte `json:"public" doc:"TPMT_PUBLIC"`
	Duplicate []byte `json:"duplicate"`
	Seed      []byte `json:"seed"`
}

// VolumeKey records the digest of a volume key, once, after formatting.
type VolumeKey struct {
	Digest []byte `json:"digest" maxLength:"64" doc:"SHA-256 of the volume key"`
}
