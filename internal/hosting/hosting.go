// Package hosting is what a host and the service say to each other: orders for
// vTPMs, leases on them, and the host's own evidence, in JSON over TLS, and
// nothing that acts. It stands apart from both, so that the host's side links
// neither the service's API nor its stores.
//
//	GET    /v1/hosts/{name}/work                    → Work
//	POST   /v1/vms/{name}/birth                     Birth → Born
//	POST   /v1/hosts/{name}/challenge               admission.AskChallenge → admission.Challenge
//	POST   /v1/hosts/{name}/evidence                Evidence → Attested
//	POST   /v1/vms/{name}/lease                     AskLease → Lease
//	POST   /v1/vms/{name}/lease/{id}/confirm        ConfirmLease
//	POST   /v1/vms/{name}/lease/{id}/renew          RenewLease → Lease
//	DELETE /v1/vms/{name}/lease/{id}
//	POST   /v1/hosts/{name}/writes                  Writes
//
// docs/formats/lease.md says what each side does, and in which order.
package hosting

import (
	"encoding/json"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/attest"
)

// Purpose is what the evidence of a host is bound to; see [attest.Binding].
const Purpose = "host"

// MaxCarried is the most vTPMs that one host speaks for: their list stays well
// below the limit of a request.
const MaxCarried = 10000

// Work is what a host has to do.
type Work struct {
	Orders []Order `json:"orders" doc:"vTPMs to make"`
	VTPMs  []VTPM  `json:"vtpms" doc:"vTPMs to carry"`
}

// Order asks a host to make a vTPM.
type Order struct {
	VM string `json:"vm"`
}

// VTPM is one that belongs on the host.
type VTPM struct {
	VM         string `json:"vm"`
	Generation int64  `json:"generation" doc:"of the state, as the service has it on record"`
	Revoked    bool   `json:"revoked,omitempty"`
}

// Birth fulfils an order.
type Birth struct {
	EKPublic string `json:"ek_public" maxLength:"4096" doc:"endorsement key of the vTPM that was made, PUBLIC KEY in PEM"`
}

// Born is a VM whose vTPM was made.
type Born struct {
	ID            string `json:"id"`
	EKCertificate string `json:"ek_certificate,omitempty" doc:"in PEM, for the vTPM's NV memory"`
}

// Evidence is a host's: a quote of its TPM over the root of the Merkle tree
// over the carried vTPMs.
type Evidence struct {
	Nonce   []byte        `json:"nonce" maxLength:"256"`
	Items   []attest.Item `json:"items" maxItems:"16" doc:"docs/formats/evidence.md"`
	Carried []Carried     `json:"carried" maxItems:"10000" doc:"in the order of the tree's leaves"`
}

// Carried is a vTPM as the host has it.
type Carried struct {
	VM         string `json:"vm" maxLength:"63"`
	Generation int64  `json:"generation" minimum:"1" doc:"of the state that the host has"`
}

// Attested is the verdict on a host.
type Attested struct {
	Tier    string          `json:"tier"`
	Seconds int             `json:"seconds" doc:"how long it counts"`
	Pass    []byte          `json:"pass,omitempty" doc:"to ask for leases with; keep it in memory"`
	Result  json.RawMessage `json:"result" doc:"the appraisal, in the shape of EAR"`
}

// AskLease asks for a lease.
type AskLease struct {
	Host       string `json:"host" maxLength:"63"`
	Generation int64  `json:"generation" minimum:"0" doc:"of the state that the host has; 0: none yet"`
	Writes     int64  `json:"writes,omitempty" minimum:"0" doc:"how often that state was written, as its header says"`
	Pass       []byte `json:"pass,omitempty" maxLength:"64" doc:"of a host with a TPM: what the answer to its evidence had"`
}

// Lease is leave to run a vTPM, with the keys to its state. It is for the host
// alone: the keys are in clear inside TLS.
type Lease struct {
	ID         string            `json:"id"`
	Generation int64             `json:"generation"`
	Seconds    int               `json:"seconds" doc:"how long it lasts; count on a monotonic clock"`
	Writes     int64             `json:"writes,omitempty" doc:"the state was written at least so often; one that was not is an old copy"`
	OpenKey    []byte            `json:"open_key,omitempty" doc:"opens the state of the generation asked for"`
	SealKey    []byte            `json:"seal_key,omitempty" doc:"seals the state of this lease's generation"`
	Residence  string            `json:"residence" doc:"a signed residence statement (JWS)"`
	Findings   []finding.Finding `json:"findings,omitempty"`
}

// ConfirmLease says which generation is written.
type ConfirmLease struct {
	Generation int64 `json:"generation" minimum:"1"`
}

// RenewLease asks for more time, and says what the host counted.
type RenewLease struct {
	Counters *Counters `json:"counters,omitempty" doc:"of the vTPM as it runs; absent: it has not started"`
}

// Counters are TPM Resets and TPM Restarts (Part 1, 10.2.4).
type Counters struct {
	Reset   uint32 `json:"reset" doc:"as attestations show it"`
	Restart uint32 `json:"restart" doc:"as attestations show it"`
	Ever    int64  `json:"ever" minimum:"0" doc:"all TPM Resets; TPM2_Clear does not set it to zero, so it goes back with old state alone"`
}

// MaxWritten: so many states fit into a request that needs no room of its own in
// the service (internal/api/rooms.go, errand), whatever the names.
const MaxWritten = 100

// Writes says of states in use how often they were written: from then on one that
// was written less often is an old copy.
type Writes struct {
	States []Written `json:"states" maxItems:"100"`
}

// Written is one of them, under the lease under which it was written.
type Written struct {
	VM     string `json:"vm" maxLength:"63"`
	Lease  string `json:"lease" maxLength:"32"`
	Writes int64  `json:"writes" minimum:"1" doc:"the generation in the header of its file (docs/formats/state.md)"`
}
