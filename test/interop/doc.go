// Package interop runs other people's programs against our TPM: go-tpm as a
// client, go-tpm's own tests, Debian's tpm2-tools through a day, and tpm2-tools'
// integration suite. What they are is read where it is at home; none of it is
// part of this project.
//
//	swtpm's place is taken by:  vouchsafe vtpm serve, on two unix sockets
//
//	 go-tpm ── data socket ──┐
//	 tpm2-tools ── tss ──────┤ vouchsafe vtpm serve ── state directory
//	 suites' own start-up ───┘
//
// The scripts beside this file say how to use them by hand: tpm2tools-day,
// tpm2tools-suite, gotpm-suite.
package interop
