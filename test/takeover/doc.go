// Package takeover proves that a TPM which began its life under Debian's swtpm
// goes on in the engine as the same TPM: its primary keys come out bit for bit,
// what was sealed opens, what was stored is there.
//
//	swtpm ──commands──► keys, indexes, sealed data
//	  └── tpm2-00.permall, .volatilestate ──► engine.TakeOverLibtpms ──commands──► the same again
//
// The oracle is swtpm itself: nothing here says what a key should be. `go test`
// compares 20 TPMs with random seeds, with VOUCHSAFE_LONG 1,000 (ten minutes),
// and `-args -tpms N` as many as are asked for. Begin with TestPrimaries.
package takeover
