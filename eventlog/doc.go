// Package eventlog reads what a machine says about its own boot: the event
// log of the TCG PC Client Platform Firmware Profile, in its crypto-agile and
// its SHA-1 form, and the measurement list of Linux's IMA.
//
// A log is only a claim. What stands behind it is the TPM: replay the log
// ([Log.Replay]) and compare with PCR values that a quote signed. That proves
// the digests, each in its place, and nothing else. The data beside a digest is
// proved only where the digest is a hash of it, so [Event.Binding] says of every
// event whether its text is authenticated; all other text is a hint for people
// and must not decide anything. Comparing with reference values is the work of
// the appraisal, not of this package.
//
// The package is for anyone: it opens no file and no socket and knows no TPM.
// Parsing is strict: what [Parse] accepts, [Log.Encode] writes back to the same
// bytes, and the limits for bytes from strangers are in limits.go.
//
// [New] and [Log.Add] build a log, for firmware, demonstrations and tests.
// [Boot.Predict] computes what OVMF and Linux will measure when QEMU boots a
// kernel directly, before anybody boots it.
//
// Begin with [Parse]. The citations "PFP" are to the TCG PC Client Platform
// Firmware Profile Specification, family 2.0, version 1.06.
package eventlog
