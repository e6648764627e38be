package main

import (
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/admission"
	"github.com/vouchsafe/vouchsafe/internal/api"
	"github.com/vouchsafe/vouchsafe/internal/attester"
	"github.com/vouchsafe/vouchsafe/internal/hosting"
)

// TestAdmissionRefusals is what an attacker between agent and service tries,
// and an operator who withdraws. Each refusal vanishes with its cause.
func TestAdmissionRefusals(t *testing.T) {
	d, err := newDemo(t.Context(), &app{in: nil, out: io.Discard, err: io.Discard, langFlag: "en"}, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	for _, step := range []func() (string, error){d.born, d.booted, d.attested} {
		if _, err := step(); err != nil {
			t.Fatal(err)
		}
	}
	wants := func(what string, err error, code string) {
		t.Helper()
		var r *attester.Refused
		if code == "" && err != nil || code != "" && (!errors.As(err, &r) || r.Code != code) {
			t.Errorf("%s: %v, want %q", what, err, code)
		}
	}

	// Evidence that is carried over another TLS connection, unused so far.
	a, err := d.agent(d.guest)
	if err != nil {
		t.Fatal(err)
	}
	var relayed error
	a.Seen = func(r admission.Request) {
		relayed = a.Call(t.Context(), "POST", "/v1/vms/"+demoVM+"/admission", r, nil)
	}
	_, err = a.Attest(t.Context(), "")
	wants("relayed", relayed, "QUOTE_NOT_FRESH")
	wants("after the relay", err, "NONCE_USED")
	a.Seen = nil

	// A disk that is not on record.
	_, err = d.attest("swap")
	wants("another disk", err, "NOT_FOUND")

	// A policy that was withdrawn, and a boot approved again under a new version.
	path := "/v1/vms/" + demoVM + "/policy"
	if err := d.operator.call(t.Context(), "DELETE", path+"/1", nil, nil); err != nil {
		t.Fatal(err)
	}
	_, err = d.attest("")
	wants("withdrawn", err, "REFERENCE_MISSING")
	var p api.Policy
	// Whoever approves may name the boot: the guest could show another one after the look.
	var at api.Attestation
	if err := d.operator.call(t.Context(), "GET", "/v1/vms/"+demoVM+"/attestation", nil, &at); err != nil {
		t.Fatal(err)
	}
	r, err := resultOf(at)
	if err != nil {
		t.Fatal(err)
	}
	looked := hex.EncodeToString(r.Quoted.PCRDigest)
	another := strings.Repeat("00", len(r.Quoted.PCRDigest))
	if err := d.operator.call(t.Context(), "POST", path+"/enroll", api.EnrollPolicy{PCRDigest: another}, nil); refused(err, "NO_BOOT_WAITING") != nil {
		t.Errorf("another boot than the one that was looked at: %v", err)
	}
	if err := d.operator.call(t.Context(), "POST", path+"/enroll", api.EnrollPolicy{PCRDigest: looked}, &p); err != nil || p.Version != 2 {
		t.Fatalf("version %d, %v", p.Version, err)
	}
	if err := d.operator.call(t.Context(), "POST", path+"/enroll", api.EnrollPolicy{}, nil); refused(err, "NO_BOOT_WAITING") != nil {
		t.Errorf("enrolled twice: %v", err)
	}
	_, err = d.attest("")
	wants("approved again", err, "")

	// Only an operator approves, and only the VM itself records its volume key.
	wants("a guest approves", a.Call(t.Context(), "POST", path+"/enroll", api.EnrollPolicy{}, nil), "ROLE_MISSING")
	wants("a guest asks for a lease", a.Call(t.Context(), "POST", "/v1/vms/"+demoVM+"/lease", hosting.AskLease{Host: demoHost}, nil), "ROLE_MISSING")
	wants("without an identity", a.RecordVolumeKey(t.Context(), "root", make([]byte, 32)), "ROLE_MISSING")
	other := *d.host
	if err := other.call(t.Context(), "POST", "/v1/vms/"+demoVM+"/lease", hosting.AskLease{Host: "elsewhere"}, nil); refused(err, "cannot speak for") != nil {
		t.Errorf("a host asks for another one: %v", err)
	}
}
