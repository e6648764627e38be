package chain

// Every bound on input from strangers, with the reason for its number.
const (
	// MaxFile bounds one input. The longest honest file seen is cfssl's bundle of
	// all public intermediates (2.4 MB); a server's chain is 10 kB.
	MaxFile = 4 << 20
	// MaxBundle bounds a file of roots or intermediates. CCADB's yearly CSV
	// reports with PEM are up to 12 MB.
	MaxBundle = 64 << 20
	// maxCert bounds one certificate. badssl's 10,000-SAN leaf is 300 kB.
	maxCert = 512 << 10
	// maxLenient bounds a certificate that is read a second time, once for each of
	// its extensions.
	maxLenient = 64 << 10
	// maxItems bounds the things one input may hold: a chain has 2 to 5, a
	// combined HAProxy file about 10, a whole trust store 150.
	maxItems = 1000
	// maxBundleItems is the same for a bundle: CCADB knows 10,217 certificates.
	maxBundleItems = 50_000
	// maxNesting bounds dresses worn over each other: base64 of PEM of PKCS #7 is three.
	maxNesting = 4
	// maxDepth bounds a path, anchor included. Public chains have 3 or 4, the
	// deepest PKITS vector 7; x509-limbo and BetterTLS stay below 12.
	maxDepth = 16
	// maxSignatureChecks bounds the work on one input: 100 ms of P-256, and ten
	// times what BetterTLS's thickest graph needs.
	maxSignatureChecks = 512
	// maxPaths bounds the complete paths compared for one leaf.
	maxPaths = 64
	// maxSteps bounds the steps of one search, those without a signature included.
	maxSteps = 20_000
	// maxCandidates bounds the issuers tried for one certificate.
	maxCandidates = 128
	// maxNames bounds names times constraints on one path, as Go's own 250,000
	// does; OpenSSL stops at 2^20.
	maxNames = 250_000
	// maxPoints bounds the distribution points of a certificate, and the names of
	// one. PKITS has 3; public CAs have 1.
	maxPoints = 32
	// maxIterations bounds the key derivation of a PKCS #12 file: half a second.
	// Windows has 2,000, Java 10,000, Firefox 600,000.
	maxIterations = 2_000_000
	// maxSafes and maxKeys bound the parts and the keys of a PKCS #12 file, each
	// of which costs a key derivation. Two parts and one key are usual.
	maxSafes = 8
	maxKeys  = 16
	// maxRSABits bounds the modulus that we exponentiate with; 8192 is seen, 16384 sold.
	maxRSABits = 16384
	// maxSegments bounds the table that maps repaired text back to the file.
	maxSegments = 1 << 16
	// maxFindings bounds one report. A person reads ten.
	maxFindings = 200
)
