package eventlog

import (
	"crypto"
	_ "crypto/sha1" // linked for the SHA-1 bank, which old logs still have
	_ "crypto/sha256"
	_ "crypto/sha3"
	_ "crypto/sha512"
	"fmt"
	"hash"
	"strings"
)

// Alg is a hash algorithm, by its TPM_ALG_ID (TCG Algorithm Registry, table 3).
// A bank of PCRs is named by it.
type Alg uint16

// The hash algorithms of the registry.
const (
	SHA1     Alg = 0x0004
	SHA256   Alg = 0x000B
	SHA384   Alg = 0x000C
	SHA512   Alg = 0x000D
	SM3      Alg = 0x0012 // known by size; we cannot compute it
	SHA3_256 Alg = 0x0027
	SHA3_384 Alg = 0x0028
	SHA3_512 Alg = 0x0029
)

var algs = []struct {
	alg  Alg
	name string
	size int
	hash crypto.Hash
}{
	{SHA1, "sha1", 20, crypto.SHA1},
	{SHA256, "sha256", 32, crypto.SHA256},
	{SHA384, "sha384", 48, crypto.SHA384},
	{SHA512, "sha512", 64, crypto.SHA512},
	{SM3, "sm3_256", 32, 0},
	{SHA3_256, "sha3_256", 32, crypto.SHA3_256},
	{SHA3_384, "sha3_384", 48, crypto.SHA3_384},
	{SHA3_512, "sha3_512", 64, crypto.SHA3_512},
}

// Size returns the length of a digest in bytes, 0 for an algorithm we do not know.
func (a Alg) Size() int {
	for _, x := range algs {
		if x.alg == a {
			return x.size
		}
	}
	return 0
}

// Available reports whether digests of a can be computed here.
func (a Alg) Available() bool { return a.hash() != 0 }

func (a Alg) hash() crypto.Hash {
	for _, x := range algs {
		if x.alg == a {
			return x.hash
		}
	}
	return 0
}

// New returns a hash for a; a must be [Alg.Available].
func (a Alg) New() hash.Hash { return a.hash().New() }

// Sum returns the digest of data under a; a must be [Alg.Available].
func (a Alg) Sum(data []byte) []byte {
	h := a.New()
	h.Write(data)
	return h.Sum(nil)
}

// String returns the name as tpm2-tools and Linux write it: sha256.
func (a Alg) String() string {
	for _, x := range algs {
		if x.alg == a {
			return x.name
		}
	}
	return fmt.Sprintf("alg_0x%04x", uint16(a))
}

// ParseAlg is the reverse of [Alg.String]; "SHA-256" is understood as well.
func ParseAlg(s string) (Alg, error) {
	want := strings.ToLower(strings.ReplaceAll(s, "-", ""))
	for _, x := range algs {
		if x.name == want {
			return x.alg, nil
		}
	}
	return 0, fmt.Errorf("no hash algorithm is called %q", s)
}
