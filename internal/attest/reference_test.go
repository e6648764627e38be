package attest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/eventlog"
)

func TestVerifyRefuses(t *testing.T) {
	l, err := eventlog.Parse(capture(t, "ovmf-direct"))
	if err != nil {
		t.Fatal(err)
	}
	// raw signs any text with the right key, as a thief of the key could.
	raw := func(text string) *SignedStatement {
		sig, err := policyKey.Sign(rand.Reader, statementDigest([]byte(text)), nil)
		if err != nil {
			t.Fatal(err)
		}
		return &SignedStatement{Statement: []byte(text), Signature: sig}
	}
	good := func() (*Statement, *SignedStatement) {
		s, err := NewStatement("acme", "web", 1, now, l, eventlog.SHA256, BootPCRs())
		if err != nil {
			t.Fatal(err)
		}
		signed, err := s.Sign(policyKey, []byte("ref"))
		if err != nil {
			t.Fatal(err)
		}
		return s, signed
	}
	_, signed := good()
	if _, err := Verify(signed, &policyKey.PublicKey); err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(signed, &other.PublicKey); err == nil {
		t.Error("accepted under another key")
	}
	for i := range signed.Statement {
		if i%50 == 0 {
			bad := *signed
			bad.Statement = bytes.Clone(signed.Statement)
			bad.Statement[i] ^= 1
			if _, err := Verify(&bad, &policyKey.PublicKey); err == nil {
				t.Errorf("accepted with byte %d changed", i)
			}
		}
	}
	text := string(signed.Statement)
	for name, bad := range map[string]string{
		"unknown field":      strings.Replace(text, `{`, `{"extra":1,`, 1),
		"something after it": text + "{}",
		"other format":       strings.Replace(text, "values 1", "values 2", 1),
		"no tenant":          strings.Replace(text, `"acme"`, `""`, 1),
		"version 0":          strings.Replace(text, `"version":1`, `"version":0`, 1),
		"SHA-1":              strings.Replace(text, `"sha256"`, `"sha1"`, 1),
		"PCR twice":          strings.Replace(text, `"pcr":1,`, `"pcr":0,`, 1),
		"PCR 24":             strings.Replace(text, `"pcr":9,`, `"pcr":24,`, 1),
		"no PCRs":            `{"format":"vouchsafe reference values 1","tenant":"a","policy":"b","version":1,"notBefore":"2026-11-21T12:00:00Z","bank":"sha256","pcrs":[]}`,
		"empty":              "",
		"too long":           strings.Repeat(" ", MaxStatement) + text,
	} {
		if _, err := Verify(raw(bad), &policyKey.PublicKey); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestSHA1IsNoReference(t *testing.T) {
	l, err := eventlog.Parse(capture(t, "ovmf-direct"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewStatement("acme", "web", 1, now, l, eventlog.SHA1, BootPCRs()); err == nil {
		t.Error("reference values of the SHA-1 bank were made")
	}
}

// Computed by swtpm 0.7.1 with the PCRs of ovmf-direct and two keys made for it.
const (
	swtpmPolicyPCR    = "7ce253bd92f8379f93a1bf127d60d68ad4c26cca8499e31a5ac99c575cbfe345"
	swtpmPolicyKey256 = "04c1147f6b05d8f7195179d0d8c782c306ed28411b424e72269e2bcc5be4639f88200d57072c89c2894aa03da56ff03467af0727c552ebde82d202cc678005f2e4"
	swtpmAuthorize256 = "3c14ec91fb9415dcf1a3590adefbbf5ba3da3853e201bfb8bc54643ad5fb9e64"
	swtpmPolicyKey384 = "042e5ab0028c2682d41a08668e03bbb02838a77ec03d619a985fe78bc8335b176728c84f945b3d15c7421ba57d2f7943b851309337fff10f14c5384006cdf429ddcaaa7706089d52a55dfb5a806c263ba4fe33bb640f2ff73494e38964069745f9"
	swtpmAuthorize384 = "d73dbadbb6c4f9aa0d56613802f204a45f0f0b2110f5031cb134506a7fd3241b"
)

// TestApprovalIsWhatTheTPMComputes has the digests that swtpm computed in trial
// sessions: policypcr over these PCRs, policyauthorize with this key. The same
// TPM verified an approval's signature and unsealed with it.
func TestApprovalIsWhatTheTPMComputes(t *testing.T) {
	l, err := eventlog.Parse(capture(t, "ovmf-direct"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Replay(eventlog.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	values := map[int][]byte{}
	for _, pcr := range []int{0, 1, 4, 5, 7, 8, 9, UnlockPCR} { // tpm2_policypcr takes 8
		values[pcr] = b.PCR[pcr]
	}
	selection, digest := PolicyPCR(eventlog.SHA256, values)
	if got, want := hex.EncodeToString(selection), "00000001000b03b38300"; got != want {
		t.Errorf("selection %s, want %s", got, want)
	}
	if got := hex.EncodeToString(digest); got != swtpmPolicyPCR {
		t.Errorf("PolicyPCR digest %s, swtpm computed %s", got, swtpmPolicyPCR)
	}
	for _, tt := range []struct{ point, ref, want string }{
		{swtpmPolicyKey256, "", swtpmAuthorize256},
		{swtpmPolicyKey384, "tenant acme", swtpmAuthorize384},
	} {
		point, err := hex.DecodeString(tt.point)
		if err != nil {
			t.Fatal(err)
		}
		curve := elliptic.P256()
		if len(point) > 65 {
			curve = elliptic.P384()
		}
		key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
		if err != nil {
			t.Fatal(err)
		}
		got, err := PolicyAuthorize(key, []byte(tt.ref))
		if err != nil {
			t.Fatal(err)
		}
		if hex.EncodeToString(got) != tt.want {
			t.Errorf("PolicyAuthorize digest %x, swtpm computed %s", got, tt.want)
		}
	}
}

func TestBindingSeparatesEverything(t *testing.T) {
	base := Binding{[]byte("nonce"), "acme", "web1", "admission", []byte("name"), [][]byte{[]byte("k1")}, []byte("exporter"), nil}
	seen := map[string]string{hex.EncodeToString(base.Digest()): "base"}
	for name, change := range map[string]func(b *Binding){
		"nonce":               func(b *Binding) { b.Nonce = []byte("nonce2") },
		"tenant":              func(b *Binding) { b.Tenant = "acm" },
		"tenant runs into VM": func(b *Binding) { b.Tenant, b.VM = "acmew", "eb1" },
		"VM":                  func(b *Binding) { b.VM = "web2" },
		"purpose":             func(b *Binding) { b.Purpose = "renewal" },
		"AK":                  func(b *Binding) { b.AKName = []byte("name2") },
		"no certified key":    func(b *Binding) { b.Certified = nil },
		"two certified keys":  func(b *Binding) { b.Certified = [][]byte{[]byte("k1"), []byte("k1")} },
		"covers":              func(b *Binding) { b.Covers = []byte("root") },
		"exporter":            func(b *Binding) { b.Exporter = nil },
	} {
		b := base
		change(&b)
		d := hex.EncodeToString(b.Digest())
		if as, ok := seen[d]; ok {
			t.Errorf("%s: the same digest as %s", name, as)
		}
		seen[d] = name
	}
}

func TestEAR(t *testing.T) {
	log := capture(t, "ovmf-direct")
	d := newDevice(t, log, "ecc")
	exp := expect(d)
	res := Appraise(d.evidence(log, exp.Qualifying), exp, []*ReferenceValues{references(t, 3, log)})
	raw, err := res.EAR("0.1", "test", "web1")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Profile  string `json:"eat_profile"`
		IssuedAt int64  `json:"iat"`
		Submods  map[string]struct {
			Status string         `json:"ear_status"`
			Vector map[string]int `json:"ear_trustworthiness_vector"`
			Detail map[string]any `json:"vouchsafe_result"`
			Policy []string       `json:"ear_appraisal_policy_ids"`
		} `json:"submods"`
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	s := got.Submods["vtpm"]
	if got.Profile != "tag:ietf.org,2026:rats/ear#04" || got.IssuedAt != now.Unix() || s.Status != "affirming" ||
		s.Vector["instance-identity"] != 2 || s.Vector["executables"] != 3 || s.Detail["tier"] != "tpm-attested" || s.Policy[0] != "vouchsafe:web" {
		t.Errorf("%s", raw)
	}
}

// The vector of docs/formats/evidence.md.
func TestBindingVector(t *testing.T) {
	b := Binding{[]byte("n"), "t", "v", "p", []byte("a"), [][]byte{[]byte("k")}, []byte("e"), nil}
	if got, want := hex.EncodeToString(b.Digest()), "e756e0fa8d269b74cc18b088ec802773db6f3a70e5b040165931e8bc686865e1"; got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}
