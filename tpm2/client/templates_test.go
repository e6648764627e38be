package client

import (
	"bytes"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// TestEKPolicies calculates the profile's policies from one another.
func TestEKPolicies(t *testing.T) {
	for _, tt := range []struct {
		alg     tpm2.AlgID
		a, b, c []byte
	}{{tpm2.AlgSHA256, policyA256, policyB256, policyC256}, {tpm2.AlgSHA384, policyA384, policyB384, policyC384}} {
		p, err := NewPolicy(tt.alg)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Secret(HierarchyName(tpm2.RHEndorsement), nil).Digest(); !bytes.Equal(got, tt.a) {
			t.Errorf("PolicyA is %x", got)
		}
		if got := p.OR(tt.a, tt.c).Digest(); !bytes.Equal(got, tt.b) {
			t.Errorf("PolicyB is %x", got)
		}
	}
}

// TestTemplates compares templates with their octets, as others publish them.
func TestTemplates(t *testing.T) {
	a := string(policyA256)
	zeros := func(n int) string { return string(make([]byte, n)) }
	for _, tt := range []struct {
		name string
		got  tpm2.TPMTPublic
		want string
	}{
		{"L-1", EKTemplate(EKRSA2048), "\x00\x01\x00\x0b\x00\x03\x00\xb2\x00\x20" + a + "\x00\x06\x00\x80\x00\x43\x00\x10\x08\x00\x00\x00\x00\x00\x01\x00" + zeros(256)},
		{"L-2", EKTemplate(EKP256), "\x00\x23\x00\x0b\x00\x03\x00\xb2\x00\x20" + a + "\x00\x06\x00\x80\x00\x43\x00\x10\x00\x03\x00\x10\x00\x20" + zeros(32) + "\x00\x20" + zeros(32)},
		{"H-1", EKTemplate(EKHighRSA2048), "\x00\x01\x00\x0b\x00\x03\x00\xf2\x00\x20" + string(policyB256) + "\x00\x06\x00\x80\x00\x43\x00\x10\x08\x00\x00\x00\x00\x00\x00\x00"},
		{"H-3", EKTemplate(EKHighP384), "\x00\x23\x00\x0c\x00\x03\x00\xf2\x00\x30" + string(policyB384) + "\x00\x06\x01\x00\x00\x43\x00\x10\x00\x04\x00\x10\x00\x00\x00\x00"},
		{"SRK P-256", SRKTemplate(P256), "\x00\x23\x00\x0b\x00\x03\x04\x72\x00\x00\x00\x06\x00\x80\x00\x43\x00\x10\x00\x03\x00\x10\x00\x20" + zeros(32) + "\x00\x20" + zeros(32)},
		{"AK P-256", AKTemplate(P256), "\x00\x23\x00\x0b\x00\x05\x00\x72\x00\x00\x00\x10\x00\x18\x00\x0b\x00\x03\x00\x10\x00\x00\x00\x00"},
	} {
		if got := tpm2.Marshal(&tt.got); string(got) != tt.want {
			t.Errorf("%s: %x, want %x", tt.name, got, tt.want)
		}
	}
}
