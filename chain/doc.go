// Package chain reads anything a person calls a certificate file, names every
// fault of the chain in it, root cause first, and proposes a repair that it
// has checked.
//
// It is for diagnosis: a TLS client stops at the first fault and says "bad
// certificate"; this package goes on to the last one and says which line to
// mend. It is not a TLS client, opens no file and no socket, and knows no
// clock: bytes, roots and the time come in, a [Report] goes out. Fetching (AIA,
// a server's chain) is in internal/chainnet.
//
// Certificates and paths are those of RFC 5280; the text form is RFC 7468 (PEM)
// and whatever people have made of it; PKCS #7 is RFC 2315 and 5652, PKCS #12
// RFC 7292, ML-DSA certificates RFC 9881.
//
// Begin with [Check]. [Read] is its first half (bytes to certificates, with
// everything noticed on the way), path.go finds the paths, validate.go checks
// them, diagnose.go turns faults into findings, repair.go mends.
package chain
