// Package statement signs and verifies short-lived statements of the service:
// a JSON object in a JWS (RFC 7515, flattened JSON serialization, Section
// 7.2.2) with ES384 and the signer's certificates in x5c, so that any JOSE
// library can check one against the service's root.
//
// It knows nothing of what is stated, and takes no other algorithm: there is
// nothing to negotiate, and "none" is not a choice.
//
// Begin with [Sign] and [Verify]; [Compact] makes a JWT of it.
package statement

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"
)

// maxSize bounds a signed statement: a few kilobytes of facts and two certificates,
// or an attestation result with all the modules that it may name, in base64.
const maxSize = 2 << 20

// maxChain: the signer and its intermediate; the root is the verifier's own.
const maxChain = 3

type flattened struct {
	Payload   string `json:"payload"`
	Protected string `json:"protected"`
	Signature string `json:"signature"`
}

type header struct {
	Alg string   `json:"alg"`
	Typ string   `json:"typ"`
	X5C [][]byte `json:"x5c"` // standard base64, RFC 7515, Section 4.1.6
}

var b64 = base64.RawURLEncoding.Strict()

// Sign signs payload as a statement of type typ. The first certificate of
// chain is the signer's, on P-384.
func Sign(typ string, payload []byte, signer crypto.Signer, chain ...*x509.Certificate) ([]byte, error) {
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("signing a %s: %w", typ, err) }
	pub, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P384() || len(chain) == 0 || !pub.Equal(chain[0].PublicKey) {
		return fail(errors.New("the signer is no P-384 key, or not the first certificate's"))
	}
	h := header{Alg: "ES384", Typ: typ}
	for _, c := range chain {
		h.X5C = append(h.X5C, c.Raw)
	}
	protected, err := json.Marshal(h)
	if err != nil {
		return fail(err)
	}
	f := flattened{Payload: b64.EncodeToString(payload), Protected: b64.EncodeToString(protected)}
	digest := sha512.Sum384([]byte(f.Protected + "." + f.Payload))
	der, err := signer.Sign(rand.Reader, digest[:], crypto.SHA384)
	if err != nil {
		return fail(err)
	}
	// RFC 7518, Section 3.4: R || S, 48 octets each.
	var rs struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &rs); err != nil || len(rest) > 0 {
		return fail(errors.New("the signer's signature is no ECDSA-Sig-Value"))
	}
	f.Signature = b64.EncodeToString(append(rs.R.FillBytes(make([]byte, 48)), rs.S.FillBytes(make([]byte, 48))...))
	out, err := json.Marshal(f)
	if err != nil || len(out) > maxSize {
		return fail(fmt.Errorf("%d bytes, more than %d (%v)", len(out), maxSize, err))
	}
	return out, nil
}

// Verify checks a statement of type typ against a root, at a time, and returns
// its payload and its signer. What the payload says is the caller's to check.
func Verify(typ string, signed []byte, root *x509.Certificate, at time.Time) (payload []byte, signer *x509.Certificate, err error) {
	fail := func(err error) ([]byte, *x509.Certificate, error) {
		return nil, nil, fmt.Errorf("verifying a %s: %w", typ, err)
	}
	if len(signed) > maxSize {
		return fail(fmt.Errorf("%d bytes, more than %d", len(signed), maxSize))
	}
	var f flattened
	if err := strict(signed, &f); err != nil {
		return fail(err)
	}
	protected, err := b64.DecodeString(f.Protected)
	if err != nil {
		return fail(errors.New("the protected header is no base64url"))
	}
	var h header
	if err := strict(protected, &h); err != nil {
		return fail(err)
	}
	if h.Alg != "ES384" || h.Typ != typ {
		return fail(fmt.Errorf("its type is %q, signed with %q; want %s with ES384", h.Typ, h.Alg, typ))
	}
	if len(h.X5C) == 0 || len(h.X5C) > maxChain {
		return fail(fmt.Errorf("%d certificates, want 1 to %d", len(h.X5C), maxChain))
	}
	roots, inter := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for i, der := range h.X5C {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fail(err)
		}
		if i == 0 {
			signer = c
		} else {
			inter.AddCert(c)
		}
	}
	if _, err := signer.Verify(x509.VerifyOptions{Roots: roots, Intermediates: inter, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return fail(err)
	}
	pub, ok := signer.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P384() || signer.IsCA || signer.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return fail(errors.New("its certificate is not one of a P-384 signer"))
	}
	sig, err := b64.DecodeString(f.Signature)
	if err != nil || len(sig) != 96 {
		return fail(errors.New("the signature is not 96 octets of base64url"))
	}
	digest := sha512.Sum384([]byte(f.Protected + "." + f.Payload))
	if !ecdsa.Verify(pub, digest[:], new(big.Int).SetBytes(sig[:48]), new(big.Int).SetBytes(sig[48:])) {
		return fail(errors.New("the signature does not hold"))
	}
	if payload, err = b64.DecodeString(f.Payload); err != nil {
		return fail(errors.New("the payload is no base64url"))
	}
	return payload, signer, nil
}

// Compact writes a statement as one line (RFC 7515, Section 7.1): what a JWT is.
func Compact(signed []byte) (string, error) {
	var f flattened
	if err := strict(signed, &f); err != nil {
		return "", err
	}
	return f.Protected + "." + f.Payload + "." + f.Signature, nil
}

// Expand is the inverse of Compact. It verifies nothing.
func Expand(token string) ([]byte, error) {
	parts := strings.Split(token, ".")
	if len(token) > maxSize || len(parts) != 3 {
		return nil, errors.New("this is no JWT: want three parts of base64url between dots")
	}
	return json.Marshal(flattened{Protected: parts[0], Payload: parts[1], Signature: parts[2]})
}

// Payload is what a statement says before it was verified: to find out of when
// it is. Believe it only after [Verify].
func Payload(signed []byte) ([]byte, error) {
	var f flattened
	if len(signed) > maxSize {
		return nil, fmt.Errorf("%d bytes, more than %d", len(signed), maxSize)
	}
	if err := strict(signed, &f); err != nil {
		return nil, err
	}
	payload, err := b64.DecodeString(f.Payload)
	if err != nil {
		return nil, errors.New("the payload is no base64url")
	}
	return payload, nil
}

// strict reads exactly one JSON object of known members.
func strict(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("reading JSON: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("reading JSON: something follows it")
	}
	return nil
}
