package vtpm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/internal/secret"
	"github.com/vouchsafe/vouchsafe/internal/vtpm/swtpm"
	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// openEngine opens a directory with the real engine.
func openEngine(t *testing.T, cfg Config) *Instance {
	t.Helper()
	i, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close() })
	return i
}

func clientOf(i *Instance) *client.Client {
	return client.New(client.Direct(func(command []byte) []byte { return i.Execute(0, command, nil) }))
}

func TestProvision(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Key: Key{Secret: secret.New(make([]byte, 32))}}
	i := openEngine(t, cfg)
	certificate := func(ek EK) ([]byte, error) {
		return append([]byte{0x30, 0x82, 0x05, 0xdc}, bytes.Repeat([]byte(ek.Name[:1]), 1500)...), nil // more than one NV_Write takes
	}
	eks, err := i.Provision(Provisioning{Certify: certificate, CertifyPlatform: certificate, Lock: true, SRK: "secp384r1", Banks: []string{"sha256", "sha384"}})
	if err != nil {
		t.Fatal(err)
	}
	if i.Running() {
		t.Error("the TPM is still on")
	}
	on(t, i)
	c := clientOf(i)
	if err := c.Startup(tpm2.SUClear); err != nil {
		t.Fatal(err)
	}
	for _, ek := range eks {
		k, err := c.Key(ek.Handle, nil)
		if err != nil {
			t.Fatal(err)
		}
		public, err := client.PublicKey(&k.Public)
		if err != nil {
			t.Fatal(err)
		}
		switch want := ek.Public.(type) {
		case *rsa.PublicKey:
			if !want.Equal(public) || want.N.BitLen() != 2048 {
				t.Errorf("%s: another key is persistent", ek.Name)
			}
		case *ecdsa.PublicKey:
			if !want.Equal(public) {
				t.Errorf("%s: another key is persistent", ek.Name)
			}
		}
		index, err := c.NVIndex(ek.Index, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.NVRead(index, index)
		if err != nil || !bytes.Equal(got, ek.Certificate) {
			t.Errorf("%s: certificate: %d bytes, %v", ek.Name, len(got), err)
		}
		if err := c.NVWrite(platform(), index, []byte{0}, 0); !errors.Is(err, tpm2.RCNVLocked) {
			t.Errorf("%s: writing a locked certificate: %v", ek.Name, err)
		}
		// What swtpm_setup of Debian 12 leaves: 0x62072801.
		if index.Public.Attributes != 0x62072801 {
			t.Errorf("%s: attributes 0x%x", ek.Name, uint32(index.Public.Attributes))
		}
	}
	if _, err := c.Key(client.SRKHandle, nil); err != nil {
		t.Errorf("storage root key: %v", err)
	}
	banks, err := c.Banks()
	if err != nil {
		t.Fatal(err)
	}
	var active []string
	for _, b := range banks {
		if !slices.Equal(b.PCRSelect, []byte{0, 0, 0}) {
			active = append(active, fmt.Sprintf("%x", uint16(b.Hash)))
		}
	}
	if got := strings.Join(active, " "); got != "b c" {
		t.Errorf("active banks: %s", got)
	}
}

func TestProvisionRefuses(t *testing.T) {
	i := openEngine(t, Config{Dir: t.TempDir()})
	for name, p := range map[string]Provisioning{
		"a bank that is none":     {Banks: []string{"md5"}},
		"no bank":                 {Banks: []string{}},
		"a key without template":  {SRK: "rsa1024"},
		"a certificate too large": {Certify: func(EK) ([]byte, error) { return make([]byte, 4096), nil }},
		"a CA that fails":         {Certify: func(EK) ([]byte, error) { return nil, errors.New("out of ink") }},
	} {
		if _, err := i.Provision(p); err == nil {
			t.Errorf("%s: was accepted", name)
		}
		if i.Running() {
			t.Errorf("%s: the TPM is still on", name)
		}
	}
	on(t, i)
	if _, err := i.Provision(Provisioning{}); err == nil {
		t.Error("a TPM in use was provisioned")
	}
}

// TestIdentityIsWhatTheTPMSays compares the name in EK certificates with the
// TPM's own properties.
func TestIdentityIsWhatTheTPMSays(t *testing.T) {
	i := openEngine(t, Config{Dir: t.TempDir()})
	on(t, i)
	if err := clientOf(i).Startup(tpm2.SUClear); err != nil {
		t.Fatal(err)
	}
	id := Identity()
	var model []byte
	for pt := uint32(0x106); pt <= 0x109; pt++ { // TPM_PT_VENDOR_STRING_1 to 4
		v, ok := i.property(pt)
		if !ok {
			t.Fatalf("no property 0x%x", pt)
		}
		model = binary.BigEndian.AppendUint32(model, v)
	}
	for _, tc := range []struct {
		pt   uint32
		want string
	}{{0x105, id.Manufacturer}, {0x10b, id.Version}} {
		if v, ok := i.property(tc.pt); !ok || fmt.Sprintf("id:%08X", v) != tc.want {
			t.Errorf("property 0x%x: %08x, the certificate says %s", tc.pt, v, tc.want)
		}
	}
	if got := strings.TrimRight(string(model), "\x00 "); got != id.Model {
		t.Errorf("vendor string %q, the certificate says %q", got, id.Model)
	}
	if v, _ := i.property(0x102); int(v) != id.Revision {
		t.Errorf("revision %d, the certificate says %d", v, id.Revision)
	}
}

// TestEngineSuspend takes a whole TPM through the volatile file: PCRs and
// sessions are there, random numbers are not the same twice.
func TestEngineSuspend(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	i := openEngine(t, cfg)
	on(t, i)
	c := clientOf(i)
	if err := c.Startup(tpm2.SUClear); err != nil {
		t.Fatal(err)
	}
	digest := tpm2.TPMTHA{HashAlg: tpm2.AlgSHA256, Digest: bytes.Repeat([]byte{1}, 32)}
	if err := c.ExtendPCR(16, digest); err != nil {
		t.Fatal(err)
	}
	before, err := c.ReadPCRs(client.Select(tpm2.AlgSHA256, 16))
	if err != nil {
		t.Fatal(err)
	}
	if err := i.StoreVolatile(); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(filepath.Join(cfg.Dir, volatileFile))
	if err != nil {
		t.Fatal(err)
	}
	i.Close()
	var random [][]byte
	for range 2 { // resumed twice from the same file, as nobody should
		i := openEngine(t, cfg)
		if err := i.PowerOn(swtpm.Peer{}, false); err != nil {
			t.Fatal(err)
		}
		c := clientOf(i)
		after, err := c.ReadPCRs(client.Select(tpm2.AlgSHA256, 16))
		if err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("PCR 16: %v, was %v (%v)", after, before, err)
		}
		r, err := c.GetRandom(16)
		if err != nil {
			t.Fatal(err)
		}
		random = append(random, r)
		i.quiet.Store(true) // as if it had been killed: nothing is written at its end
		i.Close()
		if err := os.WriteFile(filepath.Join(cfg.Dir, volatileFile), kept, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if bytes.Equal(random[0], random[1]) {
		t.Errorf("the same random bytes twice: %x", random[0])
	}
}

// BenchmarkProvision is the making of a vTPM with keys, certificates' NV and banks.
func BenchmarkProvision(b *testing.B) {
	for b.Loop() {
		i, err := Open(Config{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := i.Provision(Provisioning{Certify: func(EK) ([]byte, error) { return make([]byte, 900), nil }, Banks: []string{"sha256"}}); err != nil {
			b.Fatal(err)
		}
		i.Close()
	}
}

// TestHostileBlobs gives the engine states that pass every check of the file
// and are wrong inside (CVE-2021-3623 was an out-of-bounds access in reading
// volatile state): each is refused with a finding or runs; nothing panics, and
// the directory keeps its state.
func TestHostileBlobs(t *testing.T) {
	source := openEngine(t, Config{Dir: t.TempDir()})
	on(t, source)
	if err := clientOf(source).Startup(tpm2.SUClear); err != nil {
		t.Fatal(err)
	}
	inside := func(k swtpm.BlobKind) (header, []byte) {
		t.Helper()
		blob, _, err := source.Blob(k, true)
		if err != nil {
			t.Fatal(err)
		}
		h, body, err := split(blob)
		if err != nil {
			t.Fatal(err)
		}
		state, err := h.open(body, nil)
		if err != nil {
			t.Fatal(err)
		}
		return h, bytes.Clone(state)
	}
	h, perm := inside(swtpm.Permanent)
	_, vol := inside(swtpm.Volatile)
	give := func(perm, vol []byte) {
		t.Helper()
		i := openEngine(t, Config{Dir: t.TempDir()})
		for k, state := range map[kind][]byte{permanent: perm, volatile: vol} {
			blob, err := join(k, plain, h.id, h.generation, state, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := i.stage(k, blob); err != nil {
				if k == volatile { // the map's order: the permanent one was not there yet
					i.staged[k] = stagedState{header{id: h.id, generation: h.generation}, state}
					continue
				}
				t.Fatal(err)
			}
		}
		if err := i.PowerOn(swtpm.Peer{}, false); err != nil {
			var r *Refusal
			if !errors.As(err, &r) {
				t.Errorf("refused without a finding: %v", err)
			}
			if i.Running() {
				t.Error("it was refused, and runs")
			}
			return
		}
		i.Execute(0, []byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 8}, nil)
	}
	give(perm, vol)
	for _, n := range []int{0, 1, 2, 7, 8, len(vol) / 2, len(vol) - 1} {
		give(perm, vol[:n])
	}
	for _, n := range []int{0, 1, 8, len(perm) / 2, len(perm) - 1} {
		give(perm[:n], vol)
	}
	give(append(bytes.Clone(perm), 0), vol)
	give(perm, append(bytes.Clone(vol), 0))
	for at := 0; at < len(vol); at += 1 + len(vol)/150 {
		for _, with := range []byte{0x00, 0xff, vol[at] ^ 0x80} {
			bad := bytes.Clone(vol)
			bad[at] = with
			give(perm, bad)
		}
	}
	for at := 0; at < len(perm); at += 1 + len(perm)/80 {
		bad := bytes.Clone(perm)
		bad[at] ^= 0xff
		give(bad, vol)
	}
}

// hasMLKEM asks the TPM for the algorithm.
func hasMLKEM(t *testing.T, i *Instance) (found bool) {
	t.Helper()
	if err := i.Use(func(c *client.Client) error {
		var r tpm2.GetCapabilityResponse
		err := c.Execute(&tpm2.GetCapability{Capability: tpm2.CapAlgs, Property: uint32(tpm2.AlgMLKEM), PropertyCount: 1}, &r)
		list := r.CapabilityData.Data.Algorithms
		found = len(list) == 1 && list[0].Alg == tpm2.AlgMLKEM
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// TestAlgorithmSet: what a new TPM has, what a later choice makes of it, and
// that a TPM of swtpm goes on without what it never had.
func TestAlgorithmSet(t *testing.T) {
	all, classical := uint32(0), uint32(ClassicalSet)
	for _, c := range []struct {
		made uint32
		then *uint32
		want bool
	}{{all, nil, true}, {classical, nil, false}, {all, &classical, false}, {classical, &all, true}} {
		i := openEngine(t, Config{Dir: t.TempDir(), AlgorithmSet: c.made})
		if _, err := i.Provision(Provisioning{AlgorithmSet: c.then}); err != nil {
			t.Fatal(err)
		}
		if hasMLKEM(t, i) != c.want {
			t.Errorf("made with %d, then %v: ML-KEM is there: %v", c.made, c.then, !c.want)
		}
	}
	if hasMLKEM(t, openEngine(t, Config{Dir: foreignDir(t, "clear"), TakeOver: true})) {
		t.Error("a TPM that was taken over has ML-KEM")
	}
}
