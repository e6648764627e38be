// Package attest appraises evidence, in the words of RFC 9334: an Attester, the
// guest with its vTPM, sends [Evidence]; the Verifier, this package, compares it
// with [ReferenceValues] and writes a [Result] in the shape of an EAT
// Attestation Result (draft-ietf-rats-ear-04); relying parties read the Result.
//
// The verdict uses only what the quote signs: the PCR values, the qualifying
// data, the counters. An event log counts once it replays to the quoted
// PCRs, and its text only where the digest is a hash of it; everything else in a
// Result that came from the guest is marked unauthenticated.
//
// What a good Result proves, and what it does not, is in docs/formats/result.md: that
// the recorded key signed these PCR values after this nonce. That they are the
// measurements of that VM's boot is only as true as the host is honest, so every
// Result carries the admission [Tier] that the host has earned.
//
// The package decides and does nothing: no clock, no store, no network. Who may
// be admitted on which Result, and what is handed out, is decided in enroll.
// It allocates no more than a small multiple of the evidence, whose size is
// limited (limits.go) before anything is parsed.
//
// Begin with [Appraise].
package attest
