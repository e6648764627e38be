package attest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/eventlog"
	"github.com/vouchsafe/vouchsafe/tpm2"
)

// storageKey is the public area of a key that the TPM certifies.
func storageKey(d *device, unique byte) []byte {
	area := &tpm2.TPMTPublic{Type: tpm2.AlgECC, NameAlg: tpm2.AlgSHA256, ObjectAttributes: tpm2.FixedTPM | tpm2.FixedParent | tpm2.SensitiveDataOrigin | tpm2.SignEncrypt}
	p := &area.Parameters.ECCDetail
	p.Symmetric.Algorithm, p.KDF.Scheme, p.Scheme.Scheme, p.CurveID = tpm2.AlgNull, tpm2.AlgNull, tpm2.AlgNull, tpm2.ECCNISTP256
	area.Unique.ECC = tpm2.TPMSECCPoint{X: []byte{unique}, Y: []byte{2}}
	return tpm2.Marshal(area)
}

func (d *device) certify(public, name, qualifying []byte) []byte {
	a := &tpm2.TPMSAttest{Type: tpm2.STAttestCertify, ExtraData: qualifying}
	a.Attested.Certify = tpm2.TPMSCertifyInfo{Name: name, QualifiedName: name}
	item := binary.BigEndian.AppendUint16(nil, uint16(len(public)))
	return append(append(item, public...), d.sign(a)...)
}

func TestCertifiedKeys(t *testing.T) {
	log := capture(t, "ovmf-direct")
	d := newDevice(t, log, "ecc")
	exp := expect(d)
	refs := []*ReferenceValues{references(t, 1, log)}
	public := storageKey(d, 1)
	name, err := Name(public)
	if err != nil {
		t.Fatal(err)
	}
	other, err := Name(storageKey(d, 3))
	if err != nil {
		t.Fatal(err)
	}
	var area tpm2.TPMTPublic
	if err := tpm2.Unmarshal(public, &area); err != nil {
		t.Fatal(err)
	}
	area.ObjectAttributes &^= tpm2.FixedTPM
	loose := tpm2.Marshal(&area)
	looseName, err := Name(loose)
	if err != nil {
		t.Fatal(err)
	}
	quote := d.evidence(log, exp.Qualifying)
	stranger := newDevice(t, log, "ecc")
	for _, tt := range []struct {
		name string
		item []byte
		good bool
	}{
		{"good", d.certify(public, name, exp.Qualifying), true},
		{"a key that may leave the TPM", d.certify(loose, looseName, exp.Qualifying), false},
		{"another key beside it", d.certify(public, other, exp.Qualifying), false},
		{"another admission", d.certify(public, name, []byte("earlier")), false},
		{"another TPM", stranger.certify(public, name, exp.Qualifying), false},
		{"a quote instead", append(binary.BigEndian.AppendUint16(nil, 0), quote[0].Data...), false},
		{"cut short", d.certify(public, name, exp.Qualifying)[:60], false},
		{"empty", nil, false},
	} {
		res := Appraise(append(d.evidence(log, exp.Qualifying), Item{TPMCertify, tt.item}), exp, refs)
		if good := res.Status == Affirming && len(res.Certified) == 1 && bytes.Equal(res.Certified[0].Name, name); good != tt.good {
			t.Errorf("%s: good %v, want %v: %+v", tt.name, good, tt.good, res.Findings)
		}
		if !tt.good && codes(res) != "CERTIFIED_KEY_INVALID" {
			t.Errorf("%s: %s", tt.name, codes(res))
		}
	}
}

func TestNewKeyRefuses(t *testing.T) {
	d := newDevice(t, capture(t, "seabios"), "ecc")
	for name, change := range map[string]func(p *tpm2.TPMTPublic){
		"not restricted":         func(p *tpm2.TPMTPublic) { p.ObjectAttributes &^= tpm2.Restricted },
		"imported":               func(p *tpm2.TPMTPublic) { p.ObjectAttributes &^= tpm2.SensitiveDataOrigin },
		"can leave the TPM":      func(p *tpm2.TPMTPublic) { p.ObjectAttributes &^= tpm2.FixedTPM },
		"decrypts as well":       func(p *tpm2.TPMTPublic) { p.ObjectAttributes |= tpm2.Decrypt },
		"not for signing":        func(p *tpm2.TPMTPublic) { p.ObjectAttributes &^= tpm2.SignEncrypt },
		"SHA-1 signatures":       func(p *tpm2.TPMTPublic) { p.Parameters.ECCDetail.Scheme.Details.Any.HashAlg = tpm2.AlgSHA1 },
		"SHA-1 name":             func(p *tpm2.TPMTPublic) { p.NameAlg = tpm2.AlgSHA1 },
		"no scheme":              func(p *tpm2.TPMTPublic) { p.Parameters.ECCDetail.Scheme.Scheme = tpm2.AlgNull },
		"point not on the curve": func(p *tpm2.TPMTPublic) { p.Unique.ECC.X = []byte{5} },
		"point too long":         func(p *tpm2.TPMTPublic) { p.Unique.ECC.X = make([]byte, 60) },
	} {
		var p tpm2.TPMTPublic
		if err := tpm2.Unmarshal(d.public, &p); err != nil {
			t.Fatal(err)
		}
		change(&p)
		if _, err := NewKey(tpm2.Marshal(&p)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewKey(nil); err == nil {
		t.Error("nothing was accepted as a key")
	}
}

// TestHostileEvidenceIsBounded sends the largest things that pass the limits,
// with a good quote, and measures what the appraisal allocates.
func TestHostileEvidenceIsBounded(t *testing.T) {
	log := capture(t, "ovmf-direct")
	d := newDevice(t, log, "ecc")
	exp := expect(d)
	refs := []*ReferenceValues{references(t, 1, log)}
	l, err := eventlog.New(eventlog.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	for range eventlog.MaxEvents - 1 {
		l.Add(9, eventlog.EVEFIAction, []byte("a"), []byte("b")) // each one broken
	}
	many := l.Encode()
	huge, err := eventlog.New(eventlog.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	huge.Add(9, eventlog.EVIPL, nil, make([]byte, eventlog.MaxEventData))
	// The smallest IMA entries there are, as many as fit.
	ima := bytes.Repeat(append(append(make([]byte, 24), 1, 0, 0, 0, 'x'), 0, 0, 0, 0), eventlog.MaxIMAEntries)
	for _, tt := range []struct {
		name     string
		log, ima []byte
		most     uint64 // bytes allocated
	}{
		{"many events", many, nil, 16 << 20},
		{"a huge event", huge.Encode(), nil, 16 << 20},
		{"beyond the limit", make([]byte, eventlog.MaxSize+1), nil, 1 << 20},
		{"digest counts that lie", append(log[:73:73], 9, 0, 0, 0, 4, 0, 0, 0, 255, 255, 255, 255), nil, 1 << 20},
		{"many IMA entries", log, ima, 80 << 20},
		{"IMA beyond the limit", log, make([]byte, eventlog.MaxIMASize), 1 << 20},
	} {
		ev := d.evidence(tt.log, exp.Qualifying)
		if tt.ima != nil {
			ev = append(ev, Item{IMALog, tt.ima})
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		res := Appraise(ev, exp, refs)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > tt.most {
			t.Errorf("%s: %d bytes allocated, want at most %d", tt.name, n, tt.most)
		}
		if tt.name != "many IMA entries" && res.Status != Contraindicated {
			t.Errorf("%s: %s", tt.name, res.Status)
		}
		if len(res.Findings) > 40 {
			t.Errorf("%s: %d findings", tt.name, len(res.Findings))
		}
		raw, err := res.EAR("0", "test", "web1")
		if err != nil || len(raw) > 64<<10 {
			t.Errorf("%s: a Result of %d bytes, %v", tt.name, len(raw), err)
		}
	}
}

func TestParseEvidence(t *testing.T) {
	good := Evidence{{TPMQuote, []byte{1}}, {TCGEventLog, []byte{2}}}
	raw, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	if ev, err := ParseEvidence(raw); err != nil || len(ev) != 2 || ev[0].Type != TPMQuote {
		t.Errorf("%+v, %v", ev, err)
	}
	for name, bad := range map[string]string{
		"empty":         "",
		"unknown field": `[{"type":"tpm2-quote","data":"","x":1}]`,
		"trailing":      string(raw) + "[]",
		"not a list":    `{"type":"tpm2-quote"}`,
		"twice":         `[{"type":"a","data":""},{"type":"a","data":""}]`,
		"many":          "[" + strings.Repeat(`{"type":"tpm2-certify","data":""},`, MaxItems) + `{}]`,
	} {
		if _, err := ParseEvidence([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParseEvidence(f *testing.F) {
	f.Add([]byte(`[{"type":"tpm2-quote","data":"` + base64.StdEncoding.EncodeToString([]byte("x")) + `"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		ev, err := ParseEvidence(b)
		if err != nil {
			return
		}
		raw, err := json.Marshal(ev)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseEvidence(raw); err != nil {
			t.Errorf("what was accepted is refused when written again: %v", err)
		}
	})
}

// FuzzAppraise gives the appraisal a quote item, values and a log of the
// fuzzer's; only the unchanged good evidence may be affirmed.
func FuzzAppraise(f *testing.F) {
	log := capture(f, "ovmf-direct")
	d := newDevice(f, log, "ecc")
	exp := expect(d)
	good := d.evidence(log, exp.Qualifying)
	refs := []*ReferenceValues{references(f, 1, log)}
	// An ECDSA signature has several encodings; what it signs has one.
	signed := good[0].Data[:2+binary.BigEndian.Uint16(good[0].Data)]
	f.Add(good[0].Data, good[1].Data, good[2].Data, readIMA(f))
	f.Add(good[0].Data, []byte{}, capture(f, "seabios"), []byte{})
	f.Fuzz(func(t *testing.T, quote, values, log, ima []byte) {
		res := Appraise(Evidence{{TPMQuote, quote}, {TPMPCRValues, values}, {TCGEventLog, log}, {IMALog, ima}}, exp, refs)
		if res.Status == Affirming && (!bytes.HasPrefix(quote, signed) || !bytes.Equal(values, good[1].Data)) {
			t.Error("other evidence than the good one is affirmed")
		}
	})
}

func readIMA(t testing.TB) []byte { return read(t, "../../eventlog/testdata/ovmf-direct.ima") }

// TestIMAListGrowsAfterTheQuote: the list is read later than the quote is made.
func TestIMAListGrowsAfterTheQuote(t *testing.T) {
	log, raw := capture(t, "ovmf-direct"), readIMA(t)
	d := newDevice(t, log, "ecc")
	entries, err := eventlog.ParseIMA(raw)
	if err != nil || len(entries) != 2 {
		t.Fatal(len(entries), err)
	}
	if err := entries[0].Extend(d.bank, false); err != nil {
		t.Fatal(err)
	}
	exp := expect(d)
	q, v := d.quote(append([]int{10}, BootPCRs()...), exp.Qualifying)
	refs := []*ReferenceValues{references(t, 1, log)}
	for _, tt := range []struct {
		name string
		ima  []byte
		want string
	}{
		{"one more entry", raw, ""},
		{"as quoted", eventlog.EncodeIMA(entries[:1]), ""},
		{"another list", eventlog.EncodeIMA(entries[1:]), "EVENT_LOG_MISMATCH"},
		{"changed text", bytes.Replace(raw, []byte("boot_aggregate"), []byte("boot_aggregatf"), 1), "IMA_LOG_UNREADABLE"},
	} {
		res := Appraise(Evidence{{TPMQuote, q}, {TPMPCRValues, v}, {TCGEventLog, log}, {IMALog, tt.ima}}, exp, refs)
		if got := codes(res); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if tt.want == "" && res.Boot.IMAEntries != 1 {
			t.Errorf("%s: %d entries are proved, want 1", tt.name, res.Boot.IMAEntries)
		}
	}
}

// BenchmarkAppraise is the whole appraisal of a Secure Boot log of 45 events:
// signature, values, replay, digests against data, reference values.
func BenchmarkAppraise(b *testing.B) {
	log := capture(b, "secureboot")
	for _, kind := range []string{"ecc", "rsa"} {
		b.Run(kind, func(b *testing.B) {
			d := newDevice(b, log, kind)
			exp := expect(d)
			ev := d.evidence(log, exp.Qualifying)
			refs := []*ReferenceValues{references(b, 1, log)}
			b.ReportAllocs()
			for b.Loop() {
				if res := Appraise(ev, exp, refs); res.Status != Affirming {
					b.Fatal(codes(res))
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appraisals/s")
		})
	}
}

// BenchmarkHostile is the most expensive evidence that a good quote can carry.
func BenchmarkHostile(b *testing.B) {
	log := capture(b, "ovmf-direct")
	d := newDevice(b, log, "ecc")
	exp := expect(d)
	refs := []*ReferenceValues{references(b, 1, log)}
	l, err := eventlog.New(eventlog.SHA256)
	if err != nil {
		b.Fatal(err)
	}
	for range eventlog.MaxEvents - 1 {
		l.Add(9, eventlog.EVEFIAction, []byte("a"), make([]byte, 200))
	}
	ima := bytes.Repeat(append(append(make([]byte, 24), 1, 0, 0, 0, 'x'), 0, 0, 0, 0), eventlog.MaxIMAEntries)
	ev := append(d.evidence(l.Encode(), exp.Qualifying), Item{IMALog, ima})
	b.ReportAllocs()
	for b.Loop() {
		if res := Appraise(ev, exp, refs); res.Status != Contraindicated {
			b.Fatal(codes(res))
		}
	}
}

func FuzzNewKey(f *testing.F) {
	f.Add(read(f, "testdata/swtpm-ecc.public"))
	f.Add(read(f, "testdata/swtpm-rsa.public"))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := NewKey(b)
		if err == nil && len(k.Name()) < 34 {
			t.Errorf("a key with the Name %x", k.Name())
		}
	})
}
