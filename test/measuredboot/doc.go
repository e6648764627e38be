// Package measuredboot holds the event log's neighbours to what we say of them.
//
//	QEMU -- OVMF -- Linux (EFI stub) -- guest/ as /init -- serial console -- this test
//	  \__ swtpm                                               predicted PCRs _/
//
// and tpm2_eventlog over the same captures as the unit tests.
package measuredboot
