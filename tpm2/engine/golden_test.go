package engine

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

var update = flag.Bool("update", false, "write the golden files anew (a derivation or a state version that people use must never change)")

// goldenSeeds make a TPM whose seeds are known: the n-th seed is 64 times the octet n.
func goldenSeed(n byte) seed { return seed{bytes.Repeat([]byte{n}, seedSize), 1} }

// goldenTemplates are the templates that real users rely on to be stable.
func goldenTemplates() map[string]tpm2.TPMTPublic {
	p384 := eccStorage()
	p384.NameAlg = tpm2.AlgSHA384
	p384.Parameters.ECCDetail.CurveID = tpm2.ECCNISTP384
	p384.Parameters.ECCDetail.Symmetric.KeyBits.AES = 256
	unique := eccStorage()
	unique.Unique.ECC.X = bytes.Repeat([]byte{7}, 32)
	sym := tpm2.TPMTPublic{Type: tpm2.AlgSymCipher, NameAlg: tpm2.AlgSHA256, ObjectAttributes: storageAttributes,
		Parameters: tpm2.TPMUPublicParms{SymDetail: tpm2.TPMSSymCipherParms{Sym: aes128}}}
	hmac := tpm2.TPMTPublic{Type: tpm2.AlgKeyedHash, NameAlg: tpm2.AlgSHA256, ObjectAttributes: signAttributes,
		Parameters: tpm2.TPMUPublicParms{KeyedHashDetail: tpm2.TPMSKeyedHashParms{Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.AlgHMAC,
			Details: tpm2.TPMUSchemeKeyedHash{HMAC: tpm2.TPMSSchemeHash{HashAlg: tpm2.AlgSHA256}}}}}}
	rsa3072 := rsaStorage()
	rsa3072.Parameters.RSADetail.KeyBits = 3072
	mldsa := func(set tpm2.MLDSAParms) tpm2.TPMTPublic {
		return tpm2.TPMTPublic{Type: tpm2.AlgMLDSA, NameAlg: tpm2.AlgSHA256, ObjectAttributes: signAttributes,
			Parameters: tpm2.TPMUPublicParms{MLDSADetail: tpm2.TPMSMLDSAParms{ParameterSet: set}}}
	}
	mlkem := func(set tpm2.MLKEMParms) tpm2.TPMTPublic {
		return tpm2.TPMTPublic{Type: tpm2.AlgMLKEM, NameAlg: tpm2.AlgSHA256, ObjectAttributes: storageAttributes,
			Parameters: tpm2.TPMUPublicParms{MLKEMDetail: tpm2.TPMSMLKEMParms{Symmetric: aes128, ParameterSet: set}}}
	}
	return map[string]tpm2.TPMTPublic{
		"sign-mldsa-44": mldsa(tpm2.MLDSA44), "sign-mldsa-65": mldsa(tpm2.MLDSA65), "sign-mldsa-87": mldsa(tpm2.MLDSA87),
		"srk-mlkem-768": mlkem(tpm2.MLKEM768), "srk-mlkem-1024": mlkem(tpm2.MLKEM1024),
		"srk-ecc-p256": eccStorage(), "srk-ecc-p384": p384, "srk-ecc-p256-unique": unique, "srk-rsa-2048": rsaStorage(), "srk-rsa-3072": rsa3072,
		"sign-ecc-p521": eccSigning(tpm2.ECCNISTP521, tpm2.AlgSHA512), "symmetric-aes128": sym, "hmac-sha256": hmac,
	}
}

// TestDerivation1 holds derivation 1 fast: the same seed and template give the same key for ever.
func TestDerivation1(t *testing.T) {
	path := filepath.Join("testdata", "derivation-1.txt")
	got := map[string]string{}
	for name, pub := range goldenTemplates() {
		for n := byte(1); n <= 2; n++ {
			p := pub
			s, rc := generate(&p, goldenSeed(n).primary(&pub, nil), nil, nil)
			if rc != tpm2.RCSuccess {
				t.Fatalf("%s: %v", name, rc)
			}
			got[fmt.Sprintf("%02x %s", n, name)] = fmt.Sprintf("%x %x %x", tpm2.Marshal(&pub), tpm2.Marshal(&p), tpm2.Marshal(s))
		}
	}
	if *update {
		var b strings.Builder
		b.WriteString("# Derivation 1 (docs/formats/derivation.md): what primary keys must come out.\n" +
			"# A line: the octet that the 64-octet seed repeats, a name, then TPMT_PUBLIC of the\n" +
			"# template, of the key, and TPMT_SENSITIVE, in hexadecimal. No sensitive data is given.\n")
		for _, k := range sorted(got) {
			fmt.Fprintf(&b, "%s %s\n", k, got[k])
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := goldenLines(t, path)
	if len(want) != len(got) {
		t.Errorf("%d lines in the file, %d made", len(want), len(got))
	}
	for k, v := range got {
		if want[k] != v {
			t.Errorf("%s: got %.40s…, want %.40s…", k, v, want[k])
		}
	}
}

func sorted(m map[string]string) (keys []string) {
	for k := range m {
		i := 0
		for i < len(keys) && keys[i] < k {
			i++
		}
		keys = append(keys[:i], append([]string{k}, keys[i:]...)...)
	}
	return keys
}

// goldenLines reads a golden file: two words of key, the rest is the value.
func goldenLines(t *testing.T, path string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if f := strings.SplitN(sc.Text(), " ", 3); len(f) == 3 && f[0] != "#" {
			out[f[0]+" "+f[1]] = f[2]
		}
	}
	return out
}

// TestStateVersion1 reads the states that the first version wrote, and writes them the same.
func TestStateVersion1(t *testing.T) {
	path := filepath.Join("testdata", "state-1.txt")
	if *update {
		b := newBench(t)
		srk := b.primary(tpm2.RHOwner, eccStorage())
		b.ok(&tpm2.EvictControl{Auth: tpm2.RHOwner, ObjectHandle: srk.ObjectHandle, PersistentHandle: 0x81000001}, nil)
		b.ok(&tpm2.NVDefineSpace{AuthHandle: tpm2.RHOwner, PublicInfo: tpm2.TPMSNVPublic{NVIndex: 0x1500001, NameAlg: tpm2.AlgSHA256,
			Attributes: (tpm2.NVOwnerRead | tpm2.NVOwnerWrite).With(tpm2.NTCounter), DataSize: 8}}, nil)
		b.ok(&tpm2.NVIncrement{AuthHandle: tpm2.RHOwner, NVIndex: 0x1500001}, nil)
		b.ok(&tpm2.HierarchyChangeAuth{AuthHandle: tpm2.RHOwner, NewAuth: []byte("owner")}, nil)
		var s tpm2.StartAuthSessionResponse
		b.ok(&tpm2.StartAuthSession{TPMKey: tpm2.RHNull, Bind: tpm2.RHNull, NonceCaller: make([]byte, 16), SessionType: tpm2.SEPolicy,
			Symmetric: tpm2.TPMTSymDef{Algorithm: tpm2.AlgNull}, AuthHash: tpm2.AlgSHA256}, &s)
		b.ok(&tpm2.Shutdown{ShutdownType: tpm2.SUState}, nil)
		text := fmt.Sprintf("# State blobs of version 1 (docs/formats/engine-state.md): an owner password, an SRK at\n"+
			"# 81000001, a counter at 01500001 with value 1, TPM2_Shutdown(STATE); a policy session in RAM.\n"+
			"permanent blob %x\nvolatile blob %x\n", b.tpm.Permanent(), must(b.tpm.Volatile()))
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	lines := goldenLines(t, path)
	permanent, err := hex.DecodeString(lines["permanent blob"])
	if err != nil {
		t.Fatal(err)
	}
	volatile, _ := hex.DecodeString(lines["volatile blob"])
	b := &bench{t: t, store: &memory{}}
	if b.tpm, err = PowerOn(b.config(), permanent); err != nil {
		t.Fatal(err)
	}
	if got := b.tpm.Permanent(); !bytes.Equal(got, permanent) {
		t.Error("the permanent state is written again differently")
	}
	if err := b.tpm.Resume(volatile); err != nil {
		t.Fatal(err)
	}
	if got := must(b.tpm.Volatile()); !bytes.Equal(got, volatile) {
		t.Error("the volatile state is written again differently")
	}
	var r tpm2.NVReadResponse
	b.ok(&tpm2.NVRead{AuthHandle: tpm2.RHOwner, NVIndex: 0x1500001, Size: 8}, &r, []byte("owner"))
	if !bytes.Equal(r.Data, []byte{0, 0, 0, 0, 0, 0, 0, 1}) {
		t.Errorf("the counter is %x", r.Data)
	}
	b.ok(&tpm2.ReadPublic{ObjectHandle: 0x81000001}, nil)
}
