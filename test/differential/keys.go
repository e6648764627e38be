package differential

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"fmt"
	"math/big"
)

// Keys from outside, the same for both sides: for LoadExternal, Import and
// PolicySigned. They are secret from nobody.
const (
	rsaModulus = "cb0c5a9064ddea4d1a22091f347aac78b3fe57f5f122c54b57e7cf86b1293147057f299945586265fee93b173c0525178148e0c895d272907d97225be5ca84900f484f314e85e034d8e568f01c5b61ca282201a4c0117ae59f0e50b57288f30aa7b96f329f9cc12bca4eab1a8cbb305727d746e6d3a4ab0553878163f4565d54f66b8c4074c253707db9ed3ee459afe44a8288e507778007a314485527fe99e46ea6ffc1cade063e68d2fe6ecb67ba6f35471fdfe97f38701a1db2ccb54ee7d6d63d35ce568e981253f6b82f6a374dff154b5698809c812c50a3679a64caa53c141183016e944231dd8f66ac31b7b534c74827f140672940380b774df762131f"
	rsaPrime   = "fb689e7306f47c1d3ea50d2dfccacf1534d26be93a96c7f0d3c2d78a06796a1acf35b4dc0b644faf3d5a4443c116b1b97841a1940274b8883c66d914db9410ca8ed6a7f15a3a5052685457fdcbc0ffb6ff09c8008e9cccd30fafce49497f27830362d844580b11fe829d998037fa9239f7c4bfe65a5fb79767a60b0a7b70c467"
	eccPrivate = "00000000000000000000000000000000000000766f7563687361666520746573"
	hmacSecret = "766f75636873616665"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return b
}

var rsaKey = func() *rsa.PrivateKey {
	n, p := new(big.Int).SetBytes(unhex(rsaModulus)), new(big.Int).SetBytes(unhex(rsaPrime))
	q := new(big.Int).Div(n, p)
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	k := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: 65537}, D: new(big.Int).ModInverse(big.NewInt(65537), phi), Primes: []*big.Int{p, q}}
	k.Precompute()
	return k
}()

var eccKey = func() *ecdsa.PrivateKey {
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), unhex(eccPrivate))
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return k
}()

// hmacSeed is the obfuscation value of the outside HMAC key.
var hmacSeed = digest(hashes["sha256"], []byte("seed"))

// extPubFunc is extpub(rsa|ecc|hmac,ATTR,SCHEME[,policy=][,name=][,sym=][,kdf=]): the TPMT_PUBLIC of an outside key.
func extPubFunc(s *side, args []expr) ([]byte, error) {
	pos, named := split(args)
	if err := wants("extpub", pos, 3); err != nil {
		return nil, err
	}
	sym := expr{word: "null"}
	if v, ok := named["sym"]; ok {
		sym = v
	}
	call := func(f function, unique []byte, words ...expr) ([]byte, error) {
		in := append([]expr{pos[1]}, words...)
		for _, k := range []string{"policy", "name", "kdf", "exp"} {
			if v, ok := named[k]; ok {
				v.key = k
				in = append(in, v)
			}
		}
		u := expr{key: "unique", word: "0x" + hex.EncodeToString(unique)}
		if v, ok := named["unique"]; ok {
			u = v
			u.key = "unique"
		}
		return f(s, append(in, u))
	}
	switch pos[0].word {
	case "rsa":
		return call(rsaFunc, sized(rsaKey.N.Bytes()), expr{word: "2048"}, sym, pos[2])
	case "ecc":
		q, err := eccKey.PublicKey.Bytes()
		if err != nil {
			return nil, err
		}
		return call(eccFunc, append(sized(q[1:33]), sized(q[33:])...), expr{word: "p256"}, sym, pos[2])
	case "hmac":
		return call(keyedHashFunc, sized(digest(hashes["sha256"], hmacSeed, unhex(hmacSecret))), pos[2])
	}
	return nil, fmt.Errorf("no outside key %q", pos[0].word)
}

// extPrivFunc is extpriv(rsa|ecc|hmac[,AUTH]): its TPMT_SENSITIVE.
func extPrivFunc(s *side, args []expr) ([]byte, error) {
	var auth []byte
	if len(args) > 1 {
		var err error
		if auth, err = s.eval(args[1]); err != nil {
			return nil, err
		}
	}
	var typ string
	var seed, secret []byte
	switch args[0].word {
	case "rsa":
		typ, secret = "rsa", rsaKey.Primes[0].Bytes()
	case "ecc":
		typ, secret = "ecc", unhex(eccPrivate)
	case "hmac":
		typ, seed, secret = "keyedhash", hmacSeed, unhex(hmacSecret)
	default:
		return nil, fmt.Errorf("no outside key %q", args[0].word)
	}
	out := append(u16(algorithms[typ]), sized(auth)...)
	return append(append(out, sized(seed)...), sized(secret)...), nil
}

// signFunc is sig(rsa|ecc|hmac,HASH,X…): a TPMT_SIGNATURE over the hash of X by an outside key.
func (s *side) signFunc(args []expr) ([]byte, error) {
	if len(args) < 2 {
		return nil, fmt.Errorf("sig() wants a key and a hash")
	}
	b, err := s.evalAll(args[2:])
	if err != nil {
		return nil, err
	}
	alg := hashes[args[1].word]
	d := digest(alg, b)
	switch args[0].word {
	case "rsa":
		sig, err := rsa.SignPKCS1v15(nil, rsaKey, cryptoHash(alg), d)
		return append(append(u16(algorithms["rsassa"]), u16(alg)...), sized(sig)...), err
	case "ecc":
		r, t, err := ecdsa.Sign(rand.Reader, eccKey, d)
		if err != nil {
			return nil, err
		}
		out := append(u16(algorithms["ecdsa"]), u16(alg)...)
		return append(append(out, sized(r.FillBytes(make([]byte, 32)))...), sized(t.FillBytes(make([]byte, 32)))...), nil
	case "hmac":
		return append(append(u16(algorithms["hmac"]), u16(alg)...), mac(alg, unhex(hmacSecret), b)...), nil
	}
	return nil, fmt.Errorf("no outside key %q", args[0].word)
}

func cryptoHash(alg uint16) crypto.Hash {
	switch alg {
	case hashes["sha1"]:
		return crypto.SHA1
	case hashes["sha384"]:
		return crypto.SHA384
	case hashes["sha512"]:
		return crypto.SHA512
	}
	return crypto.SHA256
}
