package tpm2

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
)

// structures are one of each type that comes from outside on its own.
func structures() []Structure {
	return []Structure{
		new(TPMTPublic), new(TPMTSensitive), new(TPMTSignature), new(TPMSAttest), new(TPMSContext), new(TPMSNVPublic),
		new(TPMSCapabilityData), new(TPMTSymDef), new(TPMTSymDefObject), new(TPMTSigScheme), new(TPMTPublicParms),
		new(TPMSCreationData), new(TPMSIDObject), new(TPMTTkCreation), new(TPMTTkAuth), new(TPMTTkVerified),
		new(TPMTTkHashCheck), new(TPMTHA), new(TPMSTimeInfo), new(TPMSECCPoint), new(TPMTRSADecrypt), new(TPMSSensitiveCreate),
	}
}

// ecc is a P-256 signing key as tpm2-tools asks for one.
var ecc = TPMTPublic{
	Type: AlgECC, NameAlg: AlgSHA256,
	ObjectAttributes: FixedTPM | FixedParent | SensitiveDataOrigin | UserWithAuth | SignEncrypt,
	Parameters: TPMUPublicParms{ECCDetail: TPMSECCParms{
		Symmetric: TPMTSymDefObject{Algorithm: AlgNull},
		Scheme:    TPMTECCScheme{Scheme: AlgECDSA, Details: TPMUAsymScheme{Any: TPMSSchemeHash{HashAlg: AlgSHA256}}},
		CurveID:   ECCNISTP256,
		KDF:       TPMTKDFScheme{Scheme: AlgNull},
	}},
}

// pq are post-quantum structures: a key of each kind, a signature and a ticket.
var pq = []Structure{
	&TPMTPublic{Type: AlgMLDSA, NameAlg: AlgSHA256, ObjectAttributes: SignEncrypt,
		Parameters: TPMUPublicParms{MLDSADetail: TPMSMLDSAParms{ParameterSet: MLDSA87}}, Unique: TPMUPublicID{MLDSA: make([]byte, 2592)}},
	&TPMTPublic{Type: AlgMLKEM, NameAlg: AlgSHA384, ObjectAttributes: Decrypt,
		Parameters: TPMUPublicParms{MLKEMDetail: TPMSMLKEMParms{Symmetric: TPMTSymDefObject{Algorithm: AlgNull}, ParameterSet: MLKEM768}}, Unique: TPMUPublicID{MLKEM: make([]byte, 1184)}},
	&TPMTSensitive{SensitiveType: AlgMLDSA, Sensitive: TPMUSensitiveComposite{MLDSA: make([]byte, 32)}},
	&TPMTSensitive{SensitiveType: AlgMLKEM, Sensitive: TPMUSensitiveComposite{MLKEM: make([]byte, 64)}},
	&TPMTSignature{SigAlg: AlgMLDSA, Signature: TPMUSignature{MLDSA: make([]byte, 4627)}},
	&TPMTSigScheme{Scheme: AlgMLDSA},
	&TPMTTkVerified{Tag: STDigestVerified, Hierarchy: RHOwner, Metadata: TPMUTkVerifiedMeta{DigestVerified: AlgSHA256}, Digest: make([]byte, 64)},
	&TPMTTkVerified{Tag: STMessageVerified, Hierarchy: RHNull},
}

func TestPostQuantumRoundTrip(t *testing.T) {
	for _, v := range pq {
		wire := Marshal(v)
		got := reflect.New(reflect.TypeOf(v).Elem()).Interface().(Structure)
		if err := Unmarshal(wire, got); err != nil {
			t.Errorf("%T: %v", v, err)
			continue
		}
		if !bytes.Equal(Marshal(got), wire) {
			t.Errorf("%T: encodes to %x, then %x", v, wire, Marshal(got))
		}
	}
	// Sizes of sets that are not known here, and one octet too many.
	for name, tt := range map[string]struct {
		wire []byte
		to   Structure
		want RC
	}{
		"ML-KEM-512":         {[]byte{0, 0xa0, 0, 0x0b, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 1, 0, 0}, new(TPMTPublic), RCParms},
		"ML-DSA of no set":   {[]byte{0, 0xa1, 0, 0x0b, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0}, new(TPMTPublic), RCParms},
		"signature too long": {append([]byte{0, 0xa1, 0x12, 0x14}, make([]byte, 4628)...), new(TPMTSignature), RCSize},
		"ticket of no tag":   {[]byte{0x80, 0x28, 0x40, 0, 0, 7, 0, 0}, new(TPMTTkVerified), RCTag},
	} {
		if err := Unmarshal(tt.wire, tt.to); err != tt.want {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
}

func TestPublicRoundTrip(t *testing.T) {
	wire := Marshal(&ecc)
	want := []byte{
		0, 0x23, 0, 0x0b, 0, 4, 0, 0x72, 0, 0, // type, nameAlg, attributes, authPolicy
		0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10, // symmetric, scheme, curve, kdf
		0, 0, 0, 0, // x, y
	}
	if !bytes.Equal(wire, want) {
		t.Fatalf("Marshal: got %x, want %x", wire, want)
	}
	var got TPMTPublic
	if err := Unmarshal(wire, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, ecc) {
		t.Errorf("Unmarshal: got %+v, want %+v", got, ecc)
	}
}

func TestUnmarshalIsStrict(t *testing.T) {
	good := Marshal(&ecc)
	with := func(at int, b ...byte) []byte {
		w := bytes.Clone(good)
		copy(w[at:], b)
		return w
	}
	for _, tt := range []struct {
		name string
		wire []byte
		want RC
	}{
		{"cut", good[:len(good)-1], RCInsufficient},
		{"octet left over", append(bytes.Clone(good), 0), RCSize},
		{"unknown type", with(0, 0, 0x99), RCType},
		{"unknown nameAlg", with(2, 0x12, 0x34), RCHash},
		{"reserved attribute", with(4, 0x80), RCReservedBits},
		{"policy longer than any digest", with(8, 0, 65), RCSize},
		{"unknown curve", with(16, 0x77, 0x77), RCCurve},
		{"scheme without place here", with(12, 0, 0x16), RCScheme},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := Unmarshal(tt.wire, new(TPMTPublic)); err != tt.want {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestDecoderKeepsToWhatADeviceHas(t *testing.T) {
	d := NewDecoder([]byte{0, 0x0c})
	d.Implements(func(a AlgID) bool { return a == AlgSHA256 }, nil)
	d.tpmiAlgHash(false)
	if d.RC() != RCHash {
		t.Errorf("a hash that the device has not: got %v, want %v", d.RC(), RCHash)
	}
}

func TestParameterNumberIsInTheCode(t *testing.T) {
	var c Create
	d := NewDecoder([]byte{0, 4, 0, 0, 0, 0, 0, 1, 0xff})
	c.DecodeParameters(d)
	if got, want := d.RC(), RCInsufficient.Param(2); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRCText(t *testing.T) {
	for rc, want := range map[RC]string{
		0x98e:                    "TPM_RC_AUTH_FAIL for session 1 (0x98e)",
		RCScheme.Param(2):        "TPM_RC_SCHEME for parameter 2 (0x2d2)",
		RCHandle.Handle(1):       "TPM_RC_HANDLE for handle 1 (0x18b)",
		RCReferenceH0 + 1:        "TPM_RC_REFERENCE_H0+1 (0x911)",
		RCInitialize:             "TPM_RC_INITIALIZE (0x100)",
		RCSize:                   "TPM_RC_SIZE (0x095)",
		RCLockout:                "TPM_RC_LOCKOUT (0x921)",
		RCSize.Param(1).Param(2): "TPM_RC_SIZE for parameter 1 (0x1d5)",
	} {
		if got := rc.Error(); got != want {
			t.Errorf("%#x: got %q, want %q", uint32(rc), got, want)
		}
	}
}

func TestGeneratedCodeIsCurrent(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("go", "run", "./internal/gen", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"types_gen.go", "commands_gen.go"} {
		got, err1 := os.ReadFile(name)
		want, err2 := os.ReadFile(filepath.Join(dir, name))
		if err1 != nil || err2 != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the tables say: run go generate ./tpm2", name)
		}
	}
}

// FuzzUnmarshal: what decodes must encode to the same bytes.
func FuzzUnmarshal(f *testing.F) {
	for i := range structures() {
		f.Add(i, Marshal(&ecc))
		f.Add(i, Marshal(structures()[i]))
		for _, v := range pq {
			f.Add(i, Marshal(v))
		}
	}
	f.Fuzz(func(t *testing.T, i int, b []byte) {
		all := structures()
		if i < 0 || i >= len(all) {
			return
		}
		if Unmarshal(b, all[i]) != nil {
			return
		}
		if got := Marshal(all[i]); !bytes.Equal(got, b) {
			t.Errorf("%T: decoded %x, encodes to %x", all[i], b, got)
		}
	})
}

// FuzzParameters: the same for the parameter areas of every command and response.
func FuzzParameters(f *testing.F) {
	for _, c := range Infos() {
		f.Add(uint32(c.Code), []byte{0, 0, 0, 0, 0, 0, 0, 0})
	}
	f.Fuzz(func(t *testing.T, cc uint32, b []byte) {
		info := Info(CC(cc))
		if info == nil {
			return
		}
		for _, v := range []interface {
			DecodeParameters(*Decoder)
			EncodeParameters(*Encoder)
		}{info.NewCommand(), info.NewResponse()} {
			d := NewDecoder(b)
			v.DecodeParameters(d)
			d.Done()
			if d.RC() != RCSuccess {
				continue
			}
			var e Encoder
			v.EncodeParameters(&e)
			if !bytes.Equal(e.Out(), b) {
				t.Errorf("%T: decoded %x, encodes to %x", v, b, e.Out())
			}
		}
	})
}

func BenchmarkUnmarshalPublic(b *testing.B) {
	wire := Marshal(&ecc)
	b.ReportAllocs()
	for b.Loop() {
		var p TPMTPublic
		if err := Unmarshal(wire, &p); err != nil {
			b.Fatal(err)
		}
	}
}
