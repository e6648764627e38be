package interop

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/vouchsafe/vouchsafe/test/internal/tpmsock"
)

// TestGoTPMDay leads a fresh TPM through a day with go-tpm. It runs over Debian's
// swtpm as well when that is here, so that a mistake in the day itself is seen.
func TestGoTPMDay(t *testing.T) {
	t.Run("vouchsafe", func(t *testing.T) { day(t, program(t)) })
	t.Run("swtpm", func(t *testing.T) {
		if _, err := exec.LookPath("swtpm"); err != nil {
			t.Skip("swtpm is absent: apt-get install swtpm")
		}
		day(t, []string{"swtpm", "socket"})
	})
}

// owner is a TPM and its ECC storage primary.
type owner struct {
	*testing.T
	tpm transport.TPM
	srk *tpm2.CreatePrimaryResponse
	pub *tpm2.TPMTPublic
}

func day(t *testing.T, argv []string) {
	dir, err := os.MkdirTemp("", "gotpm-") // t.TempDir is too long for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p, err := tpmsock.Start(dir, argv...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	c, err := tpmsock.Dial(p.Data)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	o := &owner{T: t, tpm: c}
	if _, err := (tpm2.Startup{StartupType: tpm2.TPMSUClear}).Execute(c); err != nil {
		t.Fatal(err)
	}
	o.srk, err = tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(c)
	if err != nil {
		t.Fatalf("creating the storage primary: %v", err)
	}
	if o.pub, err = o.srk.OutPublic.Contents(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name string
		run  func(*owner)
	}{
		{"sign", (*owner).sign},
		{"sign through an encrypting session", (*owner).signEncrypted},
		{"seal to PCRs", (*owner).seal},
		{"quote", (*owner).quote},
		{"NV", (*owner).nv},
		{"activate a credential", (*owner).activate},
		{"duplicate and import", (*owner).duplicate},
	} {
		t.Run(step.name, func(t *testing.T) {
			step.run(&owner{t, o.tpm, o.srk, o.pub})
		})
	}
}

func (o *owner) parent(auth tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: o.srk.ObjectHandle, Name: o.srk.Name, Auth: auth}
}

func (o *owner) flush(h tpm2.TPMHandle) { tpm2.FlushContext{FlushHandle: h}.Execute(o.tpm) }

// key makes and loads a key with an authValue and says what its public area is.
func (o *owner) key(pub tpm2.TPMTPublic, auth string, data []byte) (tpm2.AuthHandle, *tpm2.TPMTPublic) {
	o.Helper()
	in := tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: []byte(auth)}}
	if data != nil {
		in.Data = tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: data})
	}
	made, err := tpm2.Create{ParentHandle: o.parent(tpm2.PasswordAuth(nil)), InPublic: tpm2.New2B(pub),
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &in}}.Execute(o.tpm)
	if err != nil {
		o.Fatalf("creating: %v", err)
	}
	l, err := tpm2.Load{ParentHandle: o.parent(tpm2.PasswordAuth(nil)), InPrivate: made.OutPrivate, InPublic: made.OutPublic}.Execute(o.tpm)
	if err != nil {
		o.Fatalf("loading: %v", err)
	}
	o.Cleanup(func() { o.flush(l.ObjectHandle) })
	contents, err := made.OutPublic.Contents()
	if err != nil {
		o.Fatal(err)
	}
	return tpm2.AuthHandle{Handle: l.ObjectHandle, Name: l.Name, Auth: tpm2.PasswordAuth([]byte(auth))}, contents
}

var attributes = tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true}

func eccTemplate(restricted bool) tpm2.TPMTPublic {
	a := attributes
	a.Restricted = restricted
	return tpm2.TPMTPublic{Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: a,
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})}})}
}

func rsaTemplate() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: attributes,
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048,
			Scheme: tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})}})}
}

// verify checks a signature with Go's own cryptography.
func (o *owner) verify(pub *tpm2.TPMTPublic, digest []byte, sig tpm2.TPMTSignature) {
	o.Helper()
	key, err := tpm2.Pub(*pub)
	if err != nil {
		o.Fatal(err)
	}
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		s, err := sig.Signature.ECDSA()
		if err != nil {
			o.Fatal(err)
		}
		r, t := new(big.Int).SetBytes(s.SignatureR.Buffer), new(big.Int).SetBytes(s.SignatureS.Buffer)
		if !ecdsa.Verify(k, digest, r, t) {
			o.Error("the ECDSA signature does not verify")
		}
	case *rsa.PublicKey:
		s, err := sig.Signature.RSASSA()
		if err != nil {
			o.Fatal(err)
		}
		if err := rsa.VerifyPKCS1v15(k, crypto.SHA256, digest, s.Sig.Buffer); err != nil {
			o.Errorf("the RSA signature: %v", err)
		}
	}
}

func (o *owner) signDigest(k tpm2.AuthHandle, digest []byte) (*tpm2.SignResponse, error) {
	return tpm2.Sign{KeyHandle: k, Digest: tpm2.TPM2BDigest{Buffer: bytes.Clone(digest)}, // a session encrypts it in place
		InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull}}.Execute(o.tpm)
}

func (o *owner) sign() {
	digest := sha256.Sum256([]byte("a message"))
	for _, template := range []tpm2.TPMTPublic{eccTemplate(false), rsaTemplate()} {
		k, pub := o.key(template, "right", nil)
		r, err := o.signDigest(k, digest[:])
		if err != nil {
			o.Fatalf("signing: %v", err)
		}
		o.verify(pub, digest[:], r.Signature)
		k.Auth = tpm2.PasswordAuth([]byte("wrong"))
		if _, err := o.signDigest(k, digest[:]); !errors.Is(err, tpm2.TPMRCBadAuth) {
			o.Errorf("signing with a wrong authValue: %v, want TPM_RC_BAD_AUTH", err)
		}
		o.flush(k.Handle)
	}
}

func (o *owner) signEncrypted() {
	k, pub := o.key(eccTemplate(false), "right", nil)
	digest := sha256.Sum256([]byte("a message"))
	// Not here: a session that is bound to the key and encrypts. go-tpm leaves the key's
	// authValue out of the encryption key then; Part 1, clause 18 has it in, as has swtpm.
	for name, opts := range map[string][]tpm2.AuthOption{
		"unbound":          {tpm2.Auth([]byte("right"))},
		"salted":           {tpm2.Auth([]byte("right")), tpm2.Salted(o.srk.ObjectHandle, *o.pub)},
		"salted AES":       {tpm2.Auth([]byte("right")), tpm2.Salted(o.srk.ObjectHandle, *o.pub), tpm2.AESEncryption(128, tpm2.EncryptIn)},
		"bound":            {tpm2.Bound(k.Handle, k.Name, []byte("right"))},
		"bound and salted": {tpm2.Bound(k.Handle, k.Name, []byte("right")), tpm2.Salted(o.srk.ObjectHandle, *o.pub)},
	} {
		k.Auth = tpm2.HMAC(tpm2.TPMAlgSHA256, 16, opts...)
		r, err := o.signDigest(k, digest[:])
		if err != nil {
			o.Errorf("%s: %v", name, err)
			continue
		}
		o.verify(pub, digest[:], r.Signature)
	}
}

func sha256PCR(pcrs ...uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...)}}}
}

func (o *owner) seal() {
	pcrs := sha256PCR(7, 16)
	policy := func(t transport.TPM, s tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
		_, err := tpm2.PolicyPCR{PolicySession: s, Pcrs: pcrs}.Execute(t)
		return err
	}
	trial, end, err := tpm2.PolicySession(o.tpm, tpm2.TPMAlgSHA256, 16, tpm2.Trial())
	if err != nil {
		o.Fatal(err)
	}
	if err := policy(o.tpm, trial.Handle(), tpm2.TPM2BNonce{}); err != nil {
		o.Fatal(err)
	}
	d, err := tpm2.PolicyGetDigest{PolicySession: trial.Handle()}.Execute(o.tpm)
	if err != nil {
		o.Fatal(err)
	}
	end()
	secret := []byte("what nobody may know")
	k, _ := o.key(tpm2.TPMTPublic{Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256, AuthPolicy: d.PolicyDigest,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, NoDA: true}}, "", secret)
	k.Auth = tpm2.Policy(tpm2.TPMAlgSHA256, 16, policy)
	u, err := tpm2.Unseal{ItemHandle: k}.Execute(o.tpm)
	if err != nil {
		o.Fatalf("unsealing: %v", err)
	}
	if !bytes.Equal(u.OutData.Buffer, secret) {
		o.Errorf("unsealed %q", u.OutData.Buffer)
	}
	_, err = tpm2.PCRExtend{PCRHandle: tpm2.AuthHandle{Handle: 16, Auth: tpm2.PasswordAuth(nil)},
		Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}}}.Execute(o.tpm)
	if err != nil {
		o.Fatal(err)
	}
	if _, err := (tpm2.Unseal{ItemHandle: k}).Execute(o.tpm); !errors.Is(err, tpm2.TPMRCPolicyFail) {
		o.Errorf("unsealing after an extend: %v, want TPM_RC_POLICY_FAIL", err)
	}
}

func (o *owner) quote() {
	k, pub := o.key(eccTemplate(true), "", nil)
	pcrs := sha256PCR(0, 7, 16)
	q, err := tpm2.Quote{SignHandle: k, QualifyingData: tpm2.TPM2BData{Buffer: []byte("nonce")},
		InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}, PCRSelect: pcrs}.Execute(o.tpm)
	if err != nil {
		o.Fatal(err)
	}
	digest := sha256.Sum256(q.Quoted.Bytes())
	o.verify(pub, digest[:], q.Signature)
	a, err := q.Quoted.Contents()
	if err != nil {
		o.Fatal(err)
	}
	info, err := a.Attested.Quote()
	if err != nil {
		o.Fatal(err)
	}
	read, err := tpm2.PCRRead{PCRSelectionIn: pcrs}.Execute(o.tpm)
	if err != nil {
		o.Fatal(err)
	}
	h := sha256.New()
	for _, v := range read.PCRValues.Digests {
		h.Write(v.Buffer)
	}
	if !bytes.Equal(info.PCRDigest.Buffer, h.Sum(nil)) || string(a.ExtraData.Buffer) != "nonce" {
		o.Error("the quote is not of these PCRs and this nonce")
	}
}

func (o *owner) nv() {
	const index = tpm2.TPMHandle(0x01800010)
	public := tpm2.TPMSNVPublic{NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, DataSize: 16,
		Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthWrite: true, AuthRead: true, NoDA: true, NT: tpm2.TPMNTOrdinary}}
	if _, err := (tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHOwner, Auth: tpm2.TPM2BAuth{Buffer: []byte("nv")}, PublicInfo: tpm2.New2B(public)}).Execute(o.tpm); err != nil {
		o.Fatal(err)
	}
	at := func() (tpm2.AuthHandle, tpm2.NamedHandle) {
		r, err := tpm2.NVReadPublic{NVIndex: index}.Execute(o.tpm)
		if err != nil {
			o.Fatal(err)
		}
		auth := tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Auth([]byte("nv")), tpm2.AESEncryption(128, tpm2.EncryptOut))
		return tpm2.AuthHandle{Handle: index, Name: r.NVName, Auth: auth}, tpm2.NamedHandle{Handle: index, Name: r.NVName}
	}
	a, n := at()
	if _, err := (tpm2.NVRead{AuthHandle: a, NVIndex: n, Size: 4}).Execute(o.tpm); !errors.Is(err, tpm2.TPMRCNVUninitialized) {
		o.Errorf("reading before a write: %v, want TPM_RC_NV_UNINITIALIZED", err)
	}
	a.Auth = tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Auth([]byte("nv")), tpm2.AESEncryption(128, tpm2.EncryptIn))
	if _, err := (tpm2.NVWrite{AuthHandle: a, NVIndex: n, Data: tpm2.TPM2BMaxNVBuffer{Buffer: []byte("0123456789abcdef")}}).Execute(o.tpm); err != nil {
		o.Fatalf("writing: %v", err)
	}
	a, n = at() // its Name has changed
	r, err := tpm2.NVRead{AuthHandle: a, NVIndex: n, Size: 6, Offset: 10}.Execute(o.tpm)
	if err != nil || string(r.Data.Buffer) != "abcdef" {
		o.Errorf("reading: %v, %q", err, r.Data.Buffer)
	}
	if _, err := (tpm2.NVUndefineSpace{AuthHandle: tpm2.TPMRHOwner, NVIndex: n}).Execute(o.tpm); err != nil {
		o.Error(err)
	}
}

func (o *owner) activate() {
	for name, template := range map[string]tpm2.TPMTPublic{"ECC": tpm2.ECCEKTemplate, "RSA": tpm2.RSAEKTemplate} {
		ek, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(template)}.Execute(o.tpm)
		if err != nil {
			o.Fatal(err)
		}
		ak, _ := o.key(eccTemplate(true), "", nil)
		ekPub, err := ek.OutPublic.Contents()
		if err != nil {
			o.Fatal(err)
		}
		to, err := tpm2.ImportEncapsulationKey(ekPub)
		if err != nil {
			o.Fatal(err)
		}
		// Made outside of the TPM, as a verifier does.
		blob, secret, err := tpm2.CreateCredential(rand.Reader, to, ak.Name.Buffer, []byte("credential"))
		if err != nil {
			o.Fatal(err)
		}
		r, err := tpm2.ActivateCredential{ActivateHandle: ak,
			KeyHandle: tpm2.AuthHandle{Handle: ek.ObjectHandle, Name: ek.Name,
				Auth: tpm2.Policy(tpm2.TPMAlgSHA256, 16, func(t transport.TPM, s tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
					_, err := tpm2.PolicySecret{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
						PolicySession: s, NonceTPM: nonce}.Execute(t)
					return err
				})},
			CredentialBlob: tpm2.TPM2BIDObject{Buffer: blob}, Secret: tpm2.TPM2BEncryptedSecret{Buffer: secret}}.Execute(o.tpm)
		if err != nil || string(r.CertInfo.Buffer) != "credential" {
			o.Errorf("%s: %v", name, err)
		}
		o.flush(ek.ObjectHandle)
		o.flush(ak.Handle)
	}
}

func (o *owner) duplicate() {
	policy := func(t transport.TPM, s tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
		_, err := tpm2.PolicyCommandCode{PolicySession: s, Code: tpm2.TPMCCDuplicate}.Execute(t)
		return err
	}
	trial, end, err := tpm2.PolicySession(o.tpm, tpm2.TPMAlgSHA256, 16, tpm2.Trial())
	if err != nil {
		o.Fatal(err)
	}
	if err := policy(o.tpm, trial.Handle(), tpm2.TPM2BNonce{}); err != nil {
		o.Fatal(err)
	}
	d, err := tpm2.PolicyGetDigest{PolicySession: trial.Handle()}.Execute(o.tpm)
	if err != nil {
		o.Fatal(err)
	}
	end()
	template := eccTemplate(false)
	template.ObjectAttributes.FixedTPM, template.ObjectAttributes.FixedParent = false, false
	template.AuthPolicy = d.PolicyDigest
	k, pub := o.key(template, "right", nil)
	to, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHNull, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(o.tpm)
	if err != nil {
		o.Fatal(err)
	}
	defer o.flush(to.ObjectHandle)
	dup, err := tpm2.Duplicate{ObjectHandle: tpm2.AuthHandle{Handle: k.Handle, Name: k.Name, Auth: tpm2.Policy(tpm2.TPMAlgSHA256, 16, policy)},
		NewParentHandle: tpm2.NamedHandle{Handle: to.ObjectHandle, Name: to.Name}, Symmetric: tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull}}.Execute(o.tpm)
	if err != nil {
		o.Fatalf("duplicating: %v", err)
	}
	o.flush(k.Handle)
	parent := tpm2.AuthHandle{Handle: to.ObjectHandle, Name: to.Name, Auth: tpm2.PasswordAuth(nil)}
	in, err := tpm2.Import{ParentHandle: parent, ObjectPublic: tpm2.New2B(*pub), Duplicate: dup.Duplicate, InSymSeed: dup.OutSymSeed,
		Symmetric: tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull}}.Execute(o.tpm)
	if err != nil {
		o.Fatalf("importing: %v", err)
	}
	l, err := tpm2.Load{ParentHandle: parent, InPrivate: in.OutPrivate, InPublic: tpm2.New2B(*pub)}.Execute(o.tpm)
	if err != nil {
		o.Fatalf("loading: %v", err)
	}
	defer o.flush(l.ObjectHandle)
	digest := sha256.Sum256([]byte("a message"))
	r, err := o.signDigest(tpm2.AuthHandle{Handle: l.ObjectHandle, Name: l.Name, Auth: tpm2.PasswordAuth([]byte("right"))}, digest[:])
	if err != nil {
		o.Fatalf("signing: %v", err)
	}
	o.verify(pub, digest[:], r.Signature)
}
