// Package tpm2 is TPM 2.0 on the wire: the structures of Part 2 and the
// commands of Part 3 of the TPM 2.0 Library specification, version 1.85, with a
// strict codec. It has no I/O and no behaviour: package engine is a TPM that
// speaks this language, package client the other side.
//
// Decoding is strict: lengths, values, selectors and reserved bits are checked
// as Part 2 asks, with the response code it names, nothing may be left over, and
// what decodes encodes to the same bytes again. Sized buffers alias the input:
// copy what must outlive it.
//
// The types and commands come from two tables in internal/gen. Begin with
// [Marshal] and [Unmarshal] for structures, and with [CommandInfo] and
// [Command] for commands. "Part 2" and "Part 3" in comments are those of the
// specification, https://trustedcomputinggroup.org/resource/tpm-library-specification/.
package tpm2

//go:generate go run ./internal/gen .
