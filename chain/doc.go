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
// Begin with [Check]: report.go. The other files, as an input goes through them:
//
//	read.go             what is it? [Read] undresses it layer by layer
//	text.go             UTF-16, byte order marks, line ends, escapes, invisible characters
//	pem.go, pem_body.go blocks, their boundaries, and what stands between
//	base64.go           base64 that no boundary marks
//	der.go, pkcs7.go, pkcs12.go, jks.go   binary forms and containers
//	cert.go, keys.go    one certificate, whole or not; keys and signatures
//	lenient.go          certificates that only strict readers refuse
//	store.go, path.go   roots and pools; every path through them, bounded
//	validate.go         every fault of a path; names.go, constraints.go, lint.go are parts of it
//	revocation.go, crl.go  what CRLs and OCSP responses say about it
//	diagnose.go         which certificate and which path this file is about
//	explain.go          faults become findings, consequences are told from causes
//	repair.go           the mended file, and the proof that it is one
//	codes.go, codes_trust.go, knowledge*.go  every code: severity, words, who fails
//	clients.go          who fails and who does not, for one report
//	limits.go           every bound, with its reason
package chain
