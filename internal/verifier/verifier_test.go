package verifier

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/attest"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
	"github.com/vouchsafe/vouchsafe/internal/keyring"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// TestRefusalsAreDocumented, in both languages and in docs/findings.
func TestRefusalsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/findings/service.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range Refusals {
		if !strings.Contains(string(doc), e.Code) {
			t.Errorf("docs/findings/service.md does not explain %s", e.Code)
		}
		if e.Meaning.ZH == "" || e.Remedy.ZH == "" || e.Meaning.EN == "" || e.Remedy.EN == "" {
			t.Errorf("%s lacks a language", e.Code)
		}
	}
}

// area is the public area of an attestation key that no TPM has.
func area(t *testing.T) []byte {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := client.AKTemplate(client.P256)
	public, err := client.PublicArea(&k.PublicKey, 0)
	if err != nil {
		t.Fatal(err)
	}
	p.Unique = public.Unique
	return tpm2.Marshal(&p)
}

func vm(t *testing.T, curve elliptic.Curve) enroll.VM {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return enroll.VM{Tenant: "default", Name: "web1", EKPublic: der}
}

// TestChallenge: the secret is bound to VM, nonce and AK, and each wrong answer
// is refused before anything of the evidence is looked at.
func TestChallenge(t *testing.T) {
	v := New(Config{Now: time.Now})
	web1, ak := vm(t, elliptic.P256()), area(t)
	key, err := attest.NewKey(ak)
	if err != nil {
		t.Fatal(err)
	}
	nonce := []byte("a nonce")
	for curve, kind := range map[elliptic.Curve]string{elliptic.P256(): "P-256", elliptic.P384(): "P-384"} {
		if c, err := v.Challenge(vm(t, curve), nonce, ak); err != nil || c.EK != kind {
			t.Errorf("%s: %q, %v", kind, c.EK, err)
		}
	}
	if _, err := v.Challenge(vm(t, elliptic.P521()), nonce, ak); err == nil {
		t.Error("an endorsement key that no template has was challenged")
	}
	loose := client.SigningTemplate(client.P256) // not restricted
	var refusal enroll.Refusal
	if _, err := v.Challenge(web1, nonce, tpm2.Marshal(&loose)); !errors.As(err, &refusal) || refusal.Code != "AK_UNFIT" {
		t.Errorf("a key that signs anything: %v", err)
	}
	right := v.secret(subjectVM(web1), nonce, key)
	other := web1
	other.Name = "web2"
	for name, activated := range map[string][]byte{
		"nothing": nil, "another VM's": v.secret(subjectVM(other), nonce, key), "another nonce's": v.secret(subjectVM(web1), []byte("b nonce"), key),
		"another service's": New(Config{Now: time.Now}).secret(subjectVM(web1), nonce, key), "cut": right[:31],
	} {
		_, err := v.Appraise(context.Background(), web1, enroll.Evidence{Nonce: nonce, Items: []enroll.Item{
			{Type: string(admission.AttestationKey), Value: ak}, {Type: string(admission.ActivatedCredential), Value: activated}}})
		if !errors.As(err, &refusal) || refusal.Code != "AK_NOT_PROVED" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWaiting: boots that wait for an operator take bounded memory, and the oldest goes first.
func TestWaiting(t *testing.T) {
	var w waiting
	now := time.Now()
	for i := range maxWaiting + 10 {
		w.keep("default", fmt.Sprint(i), nil, attest.Expected{Now: now.Add(time.Duration(i) * time.Second)}, nil)
	}
	if len(w.boots) != maxWaiting {
		t.Errorf("%d boots wait, the limit is %d", len(w.boots), maxWaiting)
	}
	late := now.Add((maxWaiting + 10) * time.Second)
	if _, ok := w.get("default", "9", late); ok {
		t.Error("the oldest is still there")
	}
	if _, ok := w.get("default", "10", late); !ok {
		t.Error("a newer one is gone")
	}
	if _, ok := w.get("default", "10", late.Add(waitingLife)); ok {
		t.Error("a boot waits for ever")
	}
}

// TestPolicyRef: no approval of one VM is one of another.
// TestWaitingIsBounded: guests that send as much as they may do not fill the memory.
func TestWaitingIsBounded(t *testing.T) {
	var w waiting
	now := time.Now()
	large := attest.Evidence{{Type: attest.IMALog, Data: make([]byte, 2<<20)}}
	for i := range maxWaiting {
		w.keep("default", fmt.Sprint(i), large, attest.Expected{Now: now.Add(time.Duration(i) * time.Second)}, nil)
	}
	if w.bytes() > maxWaitingBytes || len(w.boots) != maxWaitingBytes/size(large) {
		t.Errorf("%d boots wait, %d bytes", len(w.boots), w.bytes())
	}
	if _, ok := w.get("default", fmt.Sprint(maxWaiting-1), now); !ok {
		t.Error("the newest is not there")
	}
}

func TestPolicyRef(t *testing.T) {
	seen := map[string]string{}
	for _, p := range [][2]string{{"a", "bc"}, {"ab", "c"}, {"a", "b"}, {"", "abc"}} {
		ref := string(policyRef(p[0], p[1]))
		if other, ok := seen[ref]; ok {
			t.Errorf("%v and %s have one reference", p, other)
		}
		seen[ref] = fmt.Sprint(p)
	}
}

// FuzzCertifiedNames is what a guest may send as a certified key.
func FuzzCertifiedNames(f *testing.F) {
	f.Add([]byte{0, 2, 1, 2})
	f.Fuzz(func(t *testing.T, data []byte) {
		names, err := certifiedNames(attest.Evidence{{Type: attest.TPMCertify, Data: data}})
		if err == nil && len(names) != 1 {
			t.Errorf("%d names", len(names))
		}
	})
}

// TestVerifiedOnce: what was found good is remembered with its signature; nothing
// else passes for it, and what was found bad is not remembered.
func TestVerifiedOnce(t *testing.T) {
	signer, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k := &policyKey{key: keyring.Key{Primary: 1}, signers: map[uint32]crypto.Signer{1: signer}}
	s := attest.Statement{Format: attest.StatementFormat, Tenant: "default", Policy: "web1", Version: 1, NotBefore: time.Now().UTC().Truncate(time.Second),
		Bank: "sha256", PCRs: []attest.PCRValue{{PCR: 0, Value: make([]byte, 32)}}}
	signed, err := s.Sign(signer, policyRef("default", "web1"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if r, err := k.verify(signed); err != nil || r.Statement().Policy != "web1" {
			t.Fatal(err)
		}
	}
	for name, bad := range map[string]attest.SignedStatement{
		"another statement":  {Statement: append([]byte(" "), signed.Statement...), Signature: signed.Signature},
		"another signature":  {Statement: signed.Statement, Signature: append([]byte{0}, signed.Signature...)},
		"the border shifted": {Statement: append(signed.Statement[:len(signed.Statement):len(signed.Statement)], signed.Signature[0]), Signature: signed.Signature[1:]},
	} {
		for range 2 {
			if _, err := k.verify(&bad); err == nil {
				t.Errorf("%s passes", name)
			}
		}
	}
	if len(k.verified) != 1 {
		t.Errorf("%d are remembered, want 1", len(k.verified))
	}
}
