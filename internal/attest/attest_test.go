package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/eventlog"
	"github.com/vouchsafe/vouchsafe/tpm2"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func capture(t testing.TB, name string) []byte {
	t.Helper()
	return read(t, "../../eventlog/testdata/"+name+".bin")
}

// device stands for a TPM: it has an AK and quotes the values of a bank.
type device struct {
	t      testing.TB
	signer crypto.Signer
	public []byte // TPMT_PUBLIC
	key    *Key
	bank   *eventlog.Bank
	clock  tpm2.TPMSClockInfo
}

var rsaKey = func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
}()

// newDevice boots a device with a log.
func newDevice(t testing.TB, log []byte, kind string) *device {
	t.Helper()
	l, err := eventlog.Parse(log)
	if err != nil {
		t.Fatal(err)
	}
	d := &device{t: t, clock: tpm2.TPMSClockInfo{Clock: 12345, ResetCount: 7, RestartCount: 1, Safe: tpm2.Yes}}
	if d.bank, err = l.Replay(eventlog.SHA256); err != nil {
		t.Fatal(err)
	}
	area := &tpm2.TPMTPublic{
		NameAlg:          tpm2.AlgSHA256,
		ObjectAttributes: tpm2.FixedTPM | tpm2.FixedParent | tpm2.SensitiveDataOrigin | tpm2.UserWithAuth | tpm2.Restricted | tpm2.SignEncrypt,
	}
	if kind == "rsa" {
		k := rsaKey // RSA keys take long to make
		d.signer, area.Type = k, tpm2.AlgRSA
		p := &area.Parameters.RSADetail
		p.Symmetric.Algorithm, p.KeyBits = tpm2.AlgNull, 2048
		p.Scheme.Scheme, p.Scheme.Details.Any.HashAlg = tpm2.AlgRSASSA, tpm2.AlgSHA256
		area.Unique.RSA = k.N.Bytes()
	} else {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		d.signer, area.Type = k, tpm2.AlgECC
		p := &area.Parameters.ECCDetail
		p.Symmetric.Algorithm, p.KDF.Scheme, p.CurveID = tpm2.AlgNull, tpm2.AlgNull, tpm2.ECCNISTP256
		p.Scheme.Scheme, p.Scheme.Details.Any.HashAlg = tpm2.AlgECDSA, tpm2.AlgSHA256
		point, err := k.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		area.Unique.ECC = tpm2.TPMSECCPoint{X: point[1:33], Y: point[33:]}
	}
	d.public = tpm2.Marshal(area)
	if d.key, err = NewKey(d.public); err != nil {
		t.Fatal(err)
	}
	return d
}

// sign returns TPM2B_ATTEST and TPMT_SIGNATURE.
func (d *device) sign(a *tpm2.TPMSAttest) []byte {
	d.t.Helper()
	a.Magic, a.ClockInfo, a.QualifiedSigner = tpm2.GeneratedValue, d.clock, []byte{0, 0x0B}
	msg := tpm2.Marshal(a)
	sum := sha256.Sum256(msg)
	raw, err := d.signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		d.t.Fatal(err)
	}
	var sig tpm2.TPMTSignature
	if _, ok := d.signer.(*rsa.PrivateKey); ok {
		sig.SigAlg = tpm2.AlgRSASSA
		sig.Signature.RSA = tpm2.TPMSSignatureRSA{Hash: tpm2.AlgSHA256, Sig: raw}
	} else {
		var rs struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(raw, &rs); err != nil {
			d.t.Fatal(err)
		}
		sig.SigAlg = tpm2.AlgECDSA
		sig.Signature.ECC = tpm2.TPMSSignatureECC{Hash: tpm2.AlgSHA256, SignatureR: rs.R.Bytes(), SignatureS: rs.S.Bytes()}
	}
	out := binary.BigEndian.AppendUint16(nil, uint16(len(msg)))
	return append(append(out, msg...), tpm2.Marshal(&sig)...)
}

func (d *device) quote(pcrs []int, qualifying []byte) (quote, values []byte) {
	d.t.Helper()
	mask := make([]byte, 3)
	for pcr := range d.bank.PCR {
		if slices.Contains(pcrs, pcr) {
			mask[pcr/8] |= 1 << (pcr % 8)
			values = append(values, d.bank.PCR[pcr]...)
		}
	}
	sum := sha256.Sum256(values)
	a := &tpm2.TPMSAttest{Type: tpm2.STAttestQuote, ExtraData: qualifying}
	a.Attested.Quote = tpm2.TPMSQuoteInfo{
		PCRSelect: []tpm2.TPMSPCRSelection{{Hash: tpm2.AlgSHA256, PCRSelect: mask}}, PCRDigest: sum[:],
	}
	return d.sign(a), values
}

func (d *device) extend(pcr int, data string) {
	sum := sha256.Sum256([]byte(data))
	h := sha256.New()
	h.Write(d.bank.PCR[pcr])
	h.Write(sum[:])
	d.bank.PCR[pcr] = h.Sum(nil)
}

// evidence is what the agent of this device would send.
func (d *device) evidence(log, qualifying []byte) Evidence {
	q, v := d.quote(BootPCRs(), qualifying)
	return Evidence{{TPMQuote, q}, {TPMPCRValues, v}, {TCGEventLog, log}}
}

var policyKey = func() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}()

func references(t testing.TB, version uint64, log []byte, pcrs ...int) *ReferenceValues {
	t.Helper()
	if len(pcrs) == 0 {
		pcrs = BootPCRs()
	}
	l, err := eventlog.Parse(log)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewStatement("acme", "web", version, now.Add(-time.Hour), l, eventlog.SHA256, pcrs)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign(policyKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Verify(signed, &policyKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func expect(d *device) Expected {
	return Expected{
		Subject: "web1", Tenant: "acme", Policy: "web", Key: d.key, Qualifying: []byte("qualifying"),
		Tier: TPMAttested, Now: now, Counters: &Counters{7, 1},
	}
}

func codes(r *Result) string {
	var out []string
	for _, f := range r.Findings {
		out = append(out, f.Code)
	}
	return strings.Join(out, " ")
}

// TestAppraise changes one thing at a time in evidence that is good. Every
// case is followed by the good evidence again: the refusal vanishes.
func TestAppraise(t *testing.T) {
	log := capture(t, "ovmf-direct")
	for _, tt := range []struct {
		name   string
		change func(d *device, ev Evidence, exp *Expected) Evidence
		want   string
	}{
		{"good", func(d *device, ev Evidence, _ *Expected) Evidence { return ev }, ""},
		{"values not sent", func(d *device, ev Evidence, _ *Expected) Evidence { return Evidence{ev[0], ev[2]} }, ""},
		{"unattested host", func(d *device, ev Evidence, exp *Expected) Evidence { exp.Tier = Unattested; return ev }, "HOST_UNATTESTED"},
		{"unknown evidence", func(d *device, ev Evidence, _ *Expected) Evidence { return append(ev, Item{SNPReport, []byte("x")}) }, "EVIDENCE_NOT_APPRAISED"},
		{"nothing", func(d *device, ev Evidence, _ *Expected) Evidence { return nil }, "QUOTE_MISSING"},
		{"two quotes", func(d *device, ev Evidence, _ *Expected) Evidence { return append(ev, ev[0]) }, "EVIDENCE_MALFORMED"},
		{"quote cut", func(d *device, ev Evidence, _ *Expected) Evidence { ev[0].Data = ev[0].Data[:40]; return ev }, "QUOTE_MALFORMED"},
		{"another nonce", func(d *device, ev Evidence, exp *Expected) Evidence { exp.Qualifying = []byte("later"); return ev }, "QUOTE_NOT_FRESH"},
		{"no qualifying data at all", func(d *device, _ Evidence, exp *Expected) Evidence {
			exp.Qualifying = nil
			return d.evidence(log, nil)
		}, "QUOTE_NOT_FRESH"},
		{"a tier that nobody knows", func(d *device, ev Evidence, exp *Expected) Evidence { exp.Tier = "gold"; return ev }, "HOST_UNATTESTED"},
		{"another VM's key", func(d *device, ev Evidence, exp *Expected) Evidence {
			exp.Key = newDevice(t, log, "ecc").key
			return ev
		}, "QUOTE_SIGNATURE_INVALID"},
		{"values changed", func(d *device, ev Evidence, _ *Expected) Evidence { ev[1].Data[5] ^= 1; return ev }, "PCR_VALUES_UNSIGNED"},
		{"no log", func(d *device, ev Evidence, _ *Expected) Evidence { return ev[:2] }, "EVENT_LOG_MISSING"},
		{"log cut", func(d *device, ev Evidence, _ *Expected) Evidence { ev[2].Data = ev[2].Data[:500]; return ev }, "EVENT_LOG_UNREADABLE"},
		{"log's text changed", func(d *device, ev Evidence, _ *Expected) Evidence {
			ev[2].Data = bytes.Replace(ev[2].Data, []byte("Exit Boot Services Invocation"), []byte("Exit Boot Services Invocatiom"), 1)
			return ev
		}, "EVENT_DIGEST_MISMATCH"},
		{"unlogged extend", func(d *device, _ Evidence, exp *Expected) Evidence {
			d.extend(9, "x")
			return d.evidence(log, exp.Qualifying)
		}, "EVENT_LOG_MISMATCH BOOT_DIFFERS"},
		{"unlogged extend, values not sent", func(d *device, _ Evidence, exp *Expected) Evidence {
			d.extend(9, "x")
			ev := d.evidence(log, exp.Qualifying)
			return Evidence{ev[0], ev[2]}
		}, "EVENT_LOG_MISMATCH"},
		{"other boot", func(_ *device, _ Evidence, exp *Expected) Evidence {
			d2 := newDevice(t, capture(t, "ovmf-direct-changed"), "ecc")
			exp.Key = d2.key
			return d2.evidence(capture(t, "ovmf-direct-changed"), exp.Qualifying)
		}, "BOOT_DIFFERS"},
		{"other boot with the good log", func(_ *device, _ Evidence, exp *Expected) Evidence {
			d2 := newDevice(t, capture(t, "ovmf-direct-changed"), "ecc")
			exp.Key = d2.key
			return d2.evidence(log, exp.Qualifying)
		}, "EVENT_LOG_MISMATCH BOOT_DIFFERS"},
		{"fewer PCRs", func(d *device, ev Evidence, exp *Expected) Evidence {
			ev[0].Data, ev[1].Data = d.quote([]int{0, 7}, exp.Qualifying)
			return ev
		}, "QUOTE_PCRS_MISSING"},
		{"old state", func(d *device, ev Evidence, exp *Expected) Evidence { exp.Counters = &Counters{8, 0}; return ev }, "TPM_ROLLED_BACK"},
		{"old restart", func(d *device, ev Evidence, exp *Expected) Evidence { exp.Counters = &Counters{7, 2}; return ev }, "TPM_ROLLED_BACK"},
		{"ran elsewhere", func(d *device, ev Evidence, exp *Expected) Evidence { exp.Counters = &Counters{6, 1}; return ev }, "TPM_RESET_UNSEEN"},
		{"other tenant", func(d *device, ev Evidence, exp *Expected) Evidence { exp.Tenant = "evil"; return ev }, "REFERENCE_MISSING"},
		{"other policy", func(d *device, ev Evidence, exp *Expected) Evidence { exp.Policy = "db"; return ev }, "REFERENCE_MISSING"},
		{"too early", func(d *device, ev Evidence, exp *Expected) Evidence { exp.Now = now.Add(-2 * time.Hour); return ev }, "REFERENCE_NOT_YET_VALID"},
		{"extended after the boot and allowed", func(d *device, ev Evidence, exp *Expected) Evidence {
			d.extend(UnlockPCR, "opened")
			exp.Unlogged = []int{UnlockPCR}
			ev[0].Data, ev[1].Data = d.quote(append([]int{UnlockPCR}, BootPCRs()...), exp.Qualifying)
			return ev
		}, ""},
		{"extended after the boot and not allowed", func(d *device, ev Evidence, exp *Expected) Evidence {
			d.extend(UnlockPCR, "opened")
			ev[0].Data, ev[1].Data = d.quote(append([]int{UnlockPCR}, BootPCRs()...), exp.Qualifying)
			return ev
		}, "EVENT_LOG_MISMATCH"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			refs := []*ReferenceValues{references(t, 1, log)}
			for _, kind := range []string{"ecc", "rsa"} {
				d := newDevice(t, log, kind)
				exp := expect(d)
				ev := tt.change(d, d.evidence(bytes.Clone(log), exp.Qualifying), &exp)
				res := Appraise(ev, exp, refs)
				if got := codes(res); got != tt.want {
					t.Errorf("%s: findings %q, want %q: %+v", kind, got, tt.want, res.Findings)
				}
				want := Contraindicated
				switch tt.want {
				case "", "EVIDENCE_NOT_APPRAISED":
					want = Affirming
				case "HOST_UNATTESTED":
					want = Warning
				}
				if res.Status != want {
					t.Errorf("%s: status %s, want %s", kind, res.Status, want)
				}
				d = newDevice(t, log, kind)
				exp = expect(d)
				if again := Appraise(d.evidence(log, exp.Qualifying), exp, refs); again.Status != Affirming {
					t.Errorf("%s: good evidence afterwards: %s, %s", kind, again.Status, codes(again))
				}
			}
		})
	}
}

func TestTheFirstDifferenceIsNamed(t *testing.T) {
	golden := capture(t, "ovmf-direct")
	refs := []*ReferenceValues{references(t, 1, golden)}
	edit := func(change func(l *eventlog.Log)) []byte {
		l, err := eventlog.Parse(golden)
		if err != nil {
			t.Fatal(err)
		}
		change(l)
		return l.Encode()
	}
	for _, tt := range []struct {
		name string
		log  []byte
		want string
	}{
		{"command line", capture(t, "ovmf-direct-changed"), "event 21, PCR 9, EV_EVENT_TAG"},
		{"event added", edit(func(l *eventlog.Log) { l.Add(5, eventlog.EVEFIAction, []byte("hello"), []byte("hello")) }), "event 25, PCR 5, EV_EFI_ACTION, is new: hello"},
		{"event dropped", edit(func(l *eventlog.Log) { l.Events = slices.Delete(l.Events, 22, 23) }), `PCR 9 lacks EV_EVENT_TAG "tag 0x8f3b22ec Linux initrd"`},
		{"two events swapped", edit(func(l *eventlog.Log) { l.Events[21], l.Events[22] = l.Events[22], l.Events[21] }), "event 21, PCR 9"},
	} {
		d := newDevice(t, tt.log, "ecc")
		exp := expect(d)
		res := Appraise(d.evidence(tt.log, exp.Qualifying), exp, refs)
		if codes(res) != "BOOT_DIFFERS" || !strings.Contains(res.Findings[0].Evidence, tt.want) {
			t.Errorf("%s: %q %+v, want %q", tt.name, codes(res), res.Findings, tt.want)
		}
	}
}

// TestASecondSetIsApprovedBeforeTheReboot: both boots are good, the nearest set is named otherwise.
func TestASecondSetIsApprovedBeforeTheReboot(t *testing.T) {
	before, after := capture(t, "ovmf-direct"), capture(t, "ovmf-direct-changed")
	refs := []*ReferenceValues{references(t, 1, before), references(t, 2, after)}
	for version, log := range map[uint64][]byte{1: before, 2: after} {
		d := newDevice(t, log, "ecc")
		res := Appraise(d.evidence(log, expect(d).Qualifying), expect(d), refs)
		if res.Status != Affirming || res.Reference.Version != version {
			t.Errorf("version %d: %s, %+v, %s", version, res.Status, res.Reference, codes(res))
		}
	}
}

func TestRealQuotes(t *testing.T) {
	log := capture(t, "ovmf-direct")
	refs := []*ReferenceValues{references(t, 1, log, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)}
	for _, tt := range []struct {
		key, quote string
		values     bool
		want       string
	}{
		{"ecc", "ecc", false, ""},
		{"rsa", "rsa", false, ""},
		{"rsa", "ecc", false, "QUOTE_SIGNATURE_INVALID"},
		{"ecc", "sha1", false, "QUOTE_BANK_WEAK"},
		{"ecc", "two-banks", false, "QUOTE_MALFORMED"},
		{"ecc", "unlogged", true, "EVENT_LOG_MISMATCH BOOT_DIFFERS"},
	} {
		k, err := NewKey(read(t, "testdata/swtpm-"+tt.key+".public"))
		if err != nil {
			t.Fatal(err)
		}
		if want := read(t, "testdata/swtpm-"+tt.key+".name"); !bytes.Equal(k.Name(), want) {
			t.Errorf("%s: Name %x, the TPM says %x", tt.key, k.Name(), want)
		}
		ev := Evidence{{TPMQuote, read(t, "testdata/swtpm-"+tt.quote+".quote")}, {TCGEventLog, log}}
		if tt.values {
			ev = append(ev, Item{TPMPCRValues, read(t, "testdata/swtpm-"+tt.quote+".values")})
		}
		exp := Expected{Subject: "web1", Tenant: "acme", Policy: "web", Key: k, Tier: TPMAttested, Now: now,
			Qualifying: []byte("a real quote by swtpm 0.7.1 ....")}
		if got := codes(Appraise(ev, exp, refs)); got != tt.want {
			t.Errorf("%s quote under the %s key: %q, want %q", tt.quote, tt.key, got, tt.want)
		}
	}
}
