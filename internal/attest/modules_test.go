package attest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vouchsafe/vouchsafe/eventlog"
)

// imaEntry is an entry as a kernel makes it, of a template with these fields.
func imaEntry(template string, fields ...string) eventlog.IMAEntry {
	var d []byte
	for _, f := range fields {
		d = binary.LittleEndian.AppendUint32(d, uint32(len(f)))
		d = append(d, f...)
	}
	sum := sha1.Sum(d)
	return eventlog.IMAEntry{PCR: 10, SHA1: sum[:], Template: template, Data: d}
}

func sha256Field(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "sha256:\x00" + string(sum[:])
}

// module is the entry of a file with that content.
func module(path, content string) eventlog.IMAEntry {
	return imaEntry("ima-sig", sha256Field(content), path+"\x00", "")
}

func violation(path string) eventlog.IMAEntry {
	e := module(path, "unknown")
	e.SHA1 = make([]byte, 20)
	return e
}

func allowed(name, content string) AllowedModule {
	sum := sha256.Sum256([]byte(content))
	return AllowedModule{name, sum[:]}
}

func moduleList(t testing.TB, change func(*ModuleList)) *AllowedModules {
	t.Helper()
	l := &ModuleList{Format: ModuleListFormat, Tenant: "acme", Policy: "web", Version: 1, NotBefore: now.Add(-time.Hour),
		Modules: []AllowedModule{allowed("a.ko", "A"), allowed("b.ko.xz", "B")}}
	if change != nil {
		change(l)
	}
	signed, err := l.Sign(policyKey)
	if err != nil {
		t.Fatal(err)
	}
	m, err := VerifyModules(signed, &policyKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestModules: what the kernel loaded against the lists in force. Each list of
// entries is quoted honestly, so that only the policy can refuse.
func TestModules(t *testing.T) {
	log := capture(t, "ovmf-direct")
	refs := []*ReferenceValues{references(t, 1, log)}
	first := imaEntry("ima-sig", sha256Field("boot"), "boot_aggregate\x00", "")
	key := imaEntry("ima-buf", sha256Field("a certificate"), ".builtin_trusted_keys\x00", "a certificate")
	relabelled := module("/x/evil.ko", "E")
	relabelled.Template = "ima-buf"
	named := module("/lib/"+strings.Repeat("x", 215)+".ko", "E") // 276 bytes: as long as the oldest template hashes
	if len(named.Data) != 276 {
		t.Fatal(len(named.Data))
	}
	old := named
	old.Template = "ima"
	signedModule := imaEntry("ima-modsig", sha256Field("S with signature"), "/m/s.ko\x00", "", sha256Field("S"), "CMS")
	for _, tt := range []struct {
		name    string
		entries []eventlog.IMAEntry
		change  func(*ModuleList) // nil: the usual list; see none
		none    bool              // no list in force
		want    string
		names   string
	}{
		{"allowed", []eventlog.IMAEntry{first, key, module("/lib/a.ko", "A"), module("/lib/b.ko.xz", "B")}, nil, false, "", ""},
		{"under another name", []eventlog.IMAEntry{first, module("/tmp/whatever", "A")}, nil, false, "", ""},
		{"no list", []eventlog.IMAEntry{first, module("/lib/evil.ko", "E"), violation("/lib/v.ko")}, nil, true, "", ""},
		{"unknown", []eventlog.IMAEntry{first, module("/lib/a.ko", "A"), module("/lib/evil.ko", "E")}, nil, false, "MODULE_NOT_ALLOWED", "/lib/evil.ko sha256:"},
		{"unknown, and not called a module", []eventlog.IMAEntry{first, module("/lib/a.ko", "A"), module("/tmp/notes.txt", "E")}, nil, false, "MODULE_NOT_ALLOWED", "/tmp/notes.txt"},
		{"changed", []eventlog.IMAEntry{first, module("/lib/a.ko", "A'")}, nil, false, "MODULE_CHANGED", "the list has 559aead08264d579"},
		{"violation", []eventlog.IMAEntry{first, module("/lib/a.ko", "A"), violation("/lib/a.ko")}, nil, false, "MODULE_VIOLATION", "IMA entry 2: violation"},
		{"none measured", []eventlog.IMAEntry{first, key}, nil, false, "MODULES_NOT_MEASURED", ""},
		{"empty list, none loaded", []eventlog.IMAEntry{first, key}, func(l *ModuleList) { l.Modules = nil }, false, "", ""},
		{"empty list, one loaded", []eventlog.IMAEntry{first, module("/lib/a.ko", "A")}, func(l *ModuleList) { l.Modules = nil }, false, "MODULE_NOT_ALLOWED", ""},
		{"a file called a key", []eventlog.IMAEntry{first, module("/lib/a.ko", "A"), relabelled}, nil, false, "MODULE_NOT_ALLOWED", "evil.ko"},
		{"another VM's list alone", []eventlog.IMAEntry{first, module("/lib/a.ko", "A")}, func(l *ModuleList) { l.Policy = "db" }, false, "MODULE_NOT_ALLOWED", ""},
		{"list of tomorrow alone", []eventlog.IMAEntry{first, module("/lib/a.ko", "A")}, func(l *ModuleList) { l.NotBefore = now.Add(time.Hour) }, false, "MODULE_NOT_ALLOWED", ""},
		{"SHA-1 digests", []eventlog.IMAEntry{first, imaEntry("ima-sig", "sha1:\x00"+strings.Repeat("x", 20), "/lib/a.ko\x00", "")}, nil, false, "MODULE_NOT_ALLOWED", "ima_hash=sha256"},
		{"other files measured too", []eventlog.IMAEntry{first, module("/bin/sh", "sh"), violation("/var/log/x"), module("/lib/a.ko", "A")}, func(l *ModuleList) { l.OtherFiles = true }, false, "", ""},
		{"other files, unknown module", []eventlog.IMAEntry{first, module("/bin/sh", "sh"), module("/lib/evil.ko.zst", "E")}, func(l *ModuleList) { l.OtherFiles = true }, false, "MODULE_NOT_ALLOWED", "evil"},
		{"other files, a name made unclear", []eventlog.IMAEntry{first, old}, func(l *ModuleList) { l.OtherFiles = true }, false, "MODULE_NOT_ALLOWED", ""},
		{"by an allowed signer", []eventlog.IMAEntry{first, signedModule}, withSigner("CMS"), false, "", ""},
		{"by another signer", []eventlog.IMAEntry{first, signedModule}, withSigner("other"), false, "MODULE_SIGNER_NOT_ALLOWED", "signed by somebody"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDevice(t, log, "ecc")
			entries, err := eventlog.ParseIMA(eventlog.EncodeIMA(tt.entries))
			if tt.entries[len(tt.entries)-1].Template == "ima" {
				entries, err = oldTemplate(t, named)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := eventlog.ReplayIMA(d.bank, entries, false); err != nil {
				t.Fatal(err)
			}
			exp := expect(d)
			signer := ""
			if !tt.none {
				l := moduleList(t, func(l *ModuleList) {
					if tt.change != nil {
						tt.change(l)
					}
					signer = l.Note
				})
				exp.Modules = []*AllowedModules{l}
			}
			exp.ModuleSigner = func(cms []byte, alg string, digest []byte, certs []*x509.Certificate) (*x509.Certificate, error) {
				sum := sha256.Sum256([]byte("S"))
				if alg == "sha256" && bytes.Equal(digest, sum[:]) && string(cms) == signer && len(certs) == 1 {
					return certs[0], nil
				}
				return nil, errors.New("signed by somebody")
			}
			q, v := d.quote(append([]int{10}, BootPCRs()...), exp.Qualifying)
			ev := Evidence{{TPMQuote, q}, {TPMPCRValues, v}, {TCGEventLog, log}, {IMALog, eventlog.EncodeIMA(entries)}}
			res := Appraise(ev, exp, refs)
			if got := codes(res); got != tt.want || (res.Status == Affirming) != (tt.want == "") {
				t.Fatalf("%q, %s; want %q", got, res.Status, tt.want)
			}
			if tt.want != "" && !strings.Contains(res.Findings[0].Evidence, tt.names) && !(tt.want == "MODULE_VIOLATION" && res.Findings[0].Evidence != "") {
				t.Errorf("the evidence is %q", res.Findings[0].Evidence)
			}
			// The list that is left out, or left out of the quote, is as bad.
			if len(exp.Modules) > 0 {
				if got := codes(Appraise(ev[:3], exp, refs)); got != "EVENT_LOG_MISMATCH" {
					t.Errorf("without the list: %q", got)
				}
				q, v := d.quote(BootPCRs(), exp.Qualifying)
				ev := Evidence{{TPMQuote, q}, {TPMPCRValues, v}, {TCGEventLog, log}}
				if got := codes(Appraise(ev, exp, refs)); got != "IMA_LOG_MISSING" {
					t.Errorf("without list and PCR 10: %q", got)
				}
				if got := codes(Appraise(append(ev, Item{IMALog, eventlog.EncodeIMA(entries)}), exp, refs)); got != "IMA_LOG_NOT_QUOTED" {
					t.Errorf("without PCR 10: %q", got)
				}
			}
		})
	}
}

// oldTemplate relabels an entry of 276 bytes as the oldest template, whose hash is
// over exactly as many, and puts a NUL behind the name.
func oldTemplate(t *testing.T, e eventlog.IMAEntry) ([]eventlog.IMAEntry, error) {
	t.Helper()
	data := slices.Concat(e.Data[:20], binary.LittleEndian.AppendUint32(nil, 256), e.Data[20:])
	raw := binary.LittleEndian.AppendUint32(nil, 10)
	raw = append(raw, e.SHA1...)
	raw = append(append(binary.LittleEndian.AppendUint32(raw, 3), "ima"...), data...)
	return eventlog.ParseIMA(raw)
}

func withSigner(cms string) func(*ModuleList) {
	return func(l *ModuleList) {
		l.Modules, l.Note = nil, cms
		l.Signers = [][]byte{aCertificate}
	}
}

// TestManyRefusedModules: a guest cannot fill the result.
func TestManyRefusedModules(t *testing.T) {
	log := capture(t, "ovmf-direct")
	d := newDevice(t, log, "ecc")
	entries := []eventlog.IMAEntry{}
	for range 3000 {
		entries = append(entries, module("/lib/"+strings.Repeat("e\n", 2000)+".ko", "E"))
	}
	entries, err := eventlog.ParseIMA(eventlog.EncodeIMA(entries))
	if err != nil {
		t.Fatal(err)
	}
	if err := eventlog.ReplayIMA(d.bank, entries, false); err != nil {
		t.Fatal(err)
	}
	exp := expect(d)
	exp.Modules = []*AllowedModules{moduleList(t, nil)}
	q, v := d.quote(append([]int{10}, BootPCRs()...), exp.Qualifying)
	res := Appraise(Evidence{{TPMQuote, q}, {TPMPCRValues, v}, {TCGEventLog, log}, {IMALog, eventlog.EncodeIMA(entries)}}, exp, []*ReferenceValues{references(t, 1, log)})
	names := 0
	for _, m := range res.Boot.Modules {
		names += len(m.Name)
	}
	if len(res.Findings) != maxRefusedModules || names > MaxLoadedNames || names < MaxLoadedNames*9/10 || res.Boot.ModuleCount != 3000 ||
		!strings.HasSuffix(res.Findings[maxRefusedModules-1].Evidence, "; and 2984 more") || len(res.Boot.Modules[0].Name) > 4096 {
		t.Errorf("%d findings, %d modules of %d", len(res.Findings), len(res.Boot.Modules), res.Boot.ModuleCount)
	}
}

func TestModuleListRefuses(t *testing.T) {
	good := moduleList(t, nil).List()
	for name, change := range map[string]func(*ModuleList){
		"format":       func(l *ModuleList) { l.Format = "x" },
		"tenant":       func(l *ModuleList) { l.Tenant = "" },
		"version 0":    func(l *ModuleList) { l.Version = 0 },
		"short digest": func(l *ModuleList) { l.Modules = []AllowedModule{{"a.ko", []byte{1}}} },
		"a path":       func(l *ModuleList) { l.Modules = []AllowedModule{{"a/b.ko", make([]byte, 32)}} },
		"no name":      func(l *ModuleList) { l.Modules = []AllowedModule{{"", make([]byte, 32)}} },
		"too many":     func(l *ModuleList) { l.Modules = make([]AllowedModule, MaxAllowedModules+1) },
		"a signer":     func(l *ModuleList) { l.Signers = [][]byte{{1, 2}} },
	} {
		l := good
		change(&l)
		if _, err := l.Sign(policyKey); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	signed, err := good.Sign(policyKey)
	if err != nil {
		t.Fatal(err)
	}
	signed.List = bytes.Replace(signed.List, []byte(`"a.ko"`), []byte(`"c.ko"`), 1)
	if _, err := VerifyModules(signed, &policyKey.PublicKey); err == nil {
		t.Error("a changed list was accepted")
	}
	// A signature over reference values is none over modules, and the other way round.
	raw := signed.List
	s := &SignedModuleList{raw, nil}
	if s.Signature, err = policyKey.Sign(rand.Reader, statementDigest(raw), crypto.SHA384); err == nil {
		if _, err := VerifyModules(s, &policyKey.PublicKey); err == nil {
			t.Error("a signature over another kind of statement was accepted")
		}
	}
}

func FuzzReadModuleList(f *testing.F) {
	l := moduleList(f, nil).List()
	signed, err := l.Sign(policyKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed.List)
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := readModuleList(raw)
		if err != nil {
			return
		}
		l := m.List()
		if err := l.check(); err != nil {
			t.Errorf("what was accepted cannot be signed: %v", err)
		}
	})
}

var aCertificate = func() []byte {
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now, NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &policyKey.PublicKey, policyKey)
	if err != nil {
		panic(err)
	}
	return der
}()
