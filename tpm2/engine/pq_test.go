package engine

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"filippo.io/mldsa"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

func mldsaSigning(set tpm2.MLDSAParms) template {
	return template{Type: tpm2.AlgMLDSA, NameAlg: tpm2.AlgSHA256, ObjectAttributes: signAttributes,
		Parameters: tpm2.TPMUPublicParms{MLDSADetail: tpm2.TPMSMLDSAParms{ParameterSet: set}}}
}

func mlkemStorage(set tpm2.MLKEMParms) template {
	return template{Type: tpm2.AlgMLKEM, NameAlg: tpm2.AlgSHA256, ObjectAttributes: storageAttributes,
		Parameters: tpm2.TPMUPublicParms{MLKEMDetail: tpm2.TPMSMLKEMParms{Symmetric: aes128, ParameterSet: set}}}
}

func mlkemDecryption(set tpm2.MLKEMParms) template {
	pub := mlkemStorage(set)
	pub.ObjectAttributes &^= tpm2.Restricted
	pub.Parameters.MLKEMDetail.Symmetric = noSym
	return pub
}

// largeBench is a TPM whose client takes 8 KiB.
func largeBench(t testing.TB) *bench {
	b := &bench{t: t, store: &memory{}}
	cfg := b.config()
	cfg.Buffer = MaxLargeSize
	b.tpm = must(Manufacture(cfg))
	b.ok(&tpm2.Startup{}, nil)
	return b
}

func TestEncapsulate(t *testing.T) {
	b := newBench(t)
	for _, set := range []tpm2.MLKEMParms{tpm2.MLKEM768, tpm2.MLKEM1024} {
		srk := b.primary(tpm2.RHOwner, mlkemStorage(set)) // a parent as well
		key := b.child(srk.ObjectHandle, mlkemDecryption(set), []byte("pw"), nil)
		var e tpm2.EncapsulateResponse
		b.ok(&tpm2.Encapsulate{KeyHandle: key}, &e)
		d := &tpm2.Decapsulate{KeyHandle: key, Ciphertext: e.Ciphertext}
		var r tpm2.DecapsulateResponse
		b.ok(d, &r, []byte("pw"))
		if !bytes.Equal(r.SharedSecret, e.SharedSecret) || len(r.SharedSecret) != 32 {
			t.Errorf("set %d: %x and %x", set, e.SharedSecret, r.SharedSecret)
		}
		d.Ciphertext = e.Ciphertext[1:]
		b.refused(tpm2.RCSize.Param(1), d, []byte("pw"))
		b.refused(tpm2.RCAttributes.Handle(1), &tpm2.Decapsulate{KeyHandle: srk.ObjectHandle, Ciphertext: e.Ciphertext})

		// Through a context and back, and the public part alone.
		var s tpm2.ContextSaveResponse
		b.ok(&tpm2.ContextSave{SaveHandle: key}, &s)
		b.ok(&tpm2.ContextLoad{Context: s.Context}, nil)
		b.ok(&tpm2.Encapsulate{KeyHandle: b.external(srk.OutPublic)}, nil)
		for h := tpm2.TransientFirst; h < tpm2.TransientFirst+4; h++ {
			b.ok(&tpm2.FlushContext{FlushHandle: h}, nil)
		}
	}
	b.refused(tpm2.RCKey.Handle(1), &tpm2.Encapsulate{KeyHandle: b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle})
}

// external loads a public area.
func (b *bench) external(pub tpm2.TPMTPublic) tpm2.Handle {
	b.t.Helper()
	var l tpm2.LoadExternalResponse
	b.ok(&tpm2.LoadExternal{InPublic: pub, Hierarchy: tpm2.RHOwner}, &l)
	return l.ObjectHandle
}

// TestMLKEMSecrets: credentials, salts and duplication under an ML-KEM key.
func TestMLKEMSecrets(t *testing.T) {
	b := newBench(t)
	ek := b.primary(tpm2.RHEndorsement, mlkemStorage(tpm2.MLKEM768))
	ak := b.primary(tpm2.RHOwner, signP256())
	var c tpm2.MakeCredentialResponse
	b.ok(&tpm2.MakeCredential{Handle: ek.ObjectHandle, Credential: []byte("challenge"), ObjectName: ak.Name}, &c)
	var a tpm2.ActivateCredentialResponse
	b.ok(&tpm2.ActivateCredential{ActivateHandle: ak.ObjectHandle, KeyHandle: ek.ObjectHandle, CredentialBlob: c.CredentialBlob, Secret: c.Secret}, &a)
	if string(a.CertInfo) != "challenge" {
		t.Errorf("credential %q", a.CertInfo)
	}
	c.Secret[0] ^= 1 // another secret comes out, so the integrity value does not hold
	b.refused(tpm2.RCIntegrity.Param(1), &tpm2.ActivateCredential{ActivateHandle: ak.ObjectHandle, KeyHandle: ek.ObjectHandle, CredentialBlob: c.CredentialBlob, Secret: c.Secret})

	var e tpm2.EncapsulateResponse
	b.ok(&tpm2.Encapsulate{KeyHandle: ek.ObjectHandle}, &e)
	salted := startSession(tpm2.SEHMAC)
	salted.TPMKey, salted.EncryptedSalt = ek.ObjectHandle, e.Ciphertext
	b.ok(salted, nil)
	salted.EncryptedSalt = e.Ciphertext[1:]
	b.refused(tpm2.RCValue.Param(2), salted)

	// A duplicate made for the ML-KEM parent, and imported below it.
	o := b.tpm.object(b.child(b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle, movable(signP256()), nil, nil))
	seed, secret, rc := b.tpm.encryptSecret(b.tpm.object(ek.ObjectHandle), "DUPLICATE")
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	blob := seedWrap(b.tpm.object(ek.ObjectHandle), seed, o.name).wrap(&b.tpm.rng, sensitiveBytes(o.sens))
	var i tpm2.ImportResponse
	b.ok(&tpm2.Import{ParentHandle: ek.ObjectHandle, ObjectPublic: o.pub, Duplicate: blob, InSymSeed: secret, SymmetricAlg: noSym}, &i)
	b.ok(&tpm2.Load{ParentHandle: ek.ObjectHandle, InPrivate: i.OutPrivate, InPublic: o.pub}, nil)
}

func movable(pub template) template {
	pub.ObjectAttributes &^= tpm2.FixedTPM | tpm2.FixedParent
	return pub
}

// signed signs a message in two pieces by a sequence.
func (b *bench) signed(key tpm2.Handle, context []byte, message string) (tpm2.TPMTSignature, tpm2.RC) {
	b.t.Helper()
	var s tpm2.SignSequenceStartResponse
	if rc := b.do(&tpm2.SignSequenceStart{KeyHandle: key, Context: context, Auth: []byte("seq")}, &s); rc != tpm2.RCSuccess {
		return tpm2.TPMTSignature{}, rc
	}
	half := len(message) / 2
	b.ok(&tpm2.SequenceUpdate{SequenceHandle: s.SequenceHandle, Buffer: []byte(message[:half])}, nil, []byte("seq"))
	var r tpm2.SignSequenceCompleteResponse
	rc := b.do(&tpm2.SignSequenceComplete{SequenceHandle: s.SequenceHandle, KeyHandle: key, Buffer: []byte(message[half:])}, &r, []byte("seq"))
	if rc != tpm2.RCSuccess {
		b.ok(&tpm2.FlushContext{FlushHandle: s.SequenceHandle}, nil)
	}
	return r.Signature, rc
}

// checked verifies a signature by a sequence, through a context on the way.
func (b *bench) checked(key tpm2.Handle, context []byte, message string, sig tpm2.TPMTSignature) (tpm2.TPMTTkVerified, tpm2.RC) {
	b.t.Helper()
	var s tpm2.VerifySequenceStartResponse
	b.ok(&tpm2.VerifySequenceStart{KeyHandle: key, Context: context}, &s)
	b.ok(&tpm2.SequenceUpdate{SequenceHandle: s.SequenceHandle, Buffer: []byte(message)}, nil)
	var x tpm2.ContextSaveResponse
	b.ok(&tpm2.ContextSave{SaveHandle: s.SequenceHandle}, &x)
	b.ok(&tpm2.FlushContext{FlushHandle: s.SequenceHandle}, nil)
	var l tpm2.ContextLoadResponse
	b.ok(&tpm2.ContextLoad{Context: x.Context}, &l)
	var r tpm2.VerifySequenceCompleteResponse
	rc := b.do(&tpm2.VerifySequenceComplete{SequenceHandle: l.LoadedHandle, KeyHandle: key, Signature: sig}, &r)
	if rc != tpm2.RCSuccess {
		b.ok(&tpm2.FlushContext{FlushHandle: l.LoadedHandle}, nil)
	}
	return r.Validation, rc
}

func TestMLDSASequences(t *testing.T) {
	for _, set := range []tpm2.MLDSAParms{tpm2.MLDSA44, tpm2.MLDSA65, tpm2.MLDSA87} {
		b := largeBench(t)
		key := b.primary(tpm2.RHOwner, mldsaSigning(set))
		for _, context := range []string{"", "purpose"} {
			sig, rc := b.signed(key.ObjectHandle, []byte(context), "a message in two pieces")
			if rc != tpm2.RCSuccess {
				t.Fatal(rc)
			}
			// Another implementation of the whole way, without mu by hand.
			pub := must(mldsa.NewPublicKey(mldsaParams(set), key.OutPublic.Unique.MLDSA))
			if err := mldsa.Verify(pub, []byte("a message in two pieces"), sig.Signature.MLDSA, &mldsa.Options{Context: context}); err != nil {
				t.Errorf("set %d, context %q: %v", set, context, err)
			}
			if _, rc := b.checked(key.ObjectHandle, []byte(context), "a message in two pieces", sig); rc != tpm2.RCSuccess {
				t.Errorf("set %d: verifying: %v", set, rc)
			}
			if _, rc := b.checked(key.ObjectHandle, []byte("other"), "a message in two pieces", sig); rc != tpm2.RCSignature.Param(1) {
				t.Errorf("set %d: another context: %v", set, rc)
			}
			if _, rc := b.checked(key.ObjectHandle, []byte(context), "another message", sig); rc != tpm2.RCSignature.Param(1) {
				t.Errorf("set %d: another message: %v", set, rc)
			}
		}
		var q tpm2.QuoteResponse
		b.ok(&tpm2.Quote{SignHandle: key.ObjectHandle, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull}, PCRSelect: []tpm2.TPMSPCRSelection{{Hash: tpm2.AlgSHA256, PCRSelect: []byte{0xff, 0, 0}}}}, &q)
		pub := must(mldsa.NewPublicKey(mldsaParams(set), key.OutPublic.Unique.MLDSA))
		if err := mldsa.Verify(pub, q.Quoted, q.Signature.Signature.MLDSA, nil); err != nil {
			t.Errorf("set %d: quote: %v", set, err)
		}
	}
}

// TestSequencesOfOtherSchemes: what signs digests signs messages by a sequence.
func TestSequencesOfOtherSchemes(t *testing.T) {
	b := newBench(t)
	ssa := rsaStorage()
	all(drop(tpm2.Decrypt|tpm2.Restricted), set(tpm2.SignEncrypt), noCipher, rsaScheme(tpm2.AlgRSASSA))(&ssa)
	for name, pub := range map[string]template{"ECDSA": signP256(), "HMAC": hmacKey(), "RSASSA": ssa} {
		key := b.primary(tpm2.RHOwner, pub)
		sig, rc := b.signed(key.ObjectHandle, nil, "message")
		if rc != tpm2.RCSuccess {
			t.Fatalf("%s: %v", name, rc)
		}
		ticket, rc := b.checked(key.ObjectHandle, nil, "message", sig)
		if rc != tpm2.RCSuccess || ticket.Tag != tpm2.STMessageVerified {
			t.Errorf("%s: %v, %+v", name, rc, ticket)
		}
		if _, rc := b.checked(key.ObjectHandle, nil, "massage", sig); rc != tpm2.RCSignature.Param(1) {
			t.Errorf("%s: another message: %v", name, rc)
		}
		if name != "HMAC" {
			digest := sha256.Sum256([]byte("message"))
			var v tpm2.VerifyDigestSignatureResponse
			b.ok(&tpm2.VerifyDigestSignature{KeyHandle: key.ObjectHandle, Digest: digest[:], Signature: sig}, &v)
			var s tpm2.SignDigestResponse
			b.ok(&tpm2.SignDigest{KeyHandle: key.ObjectHandle, Digest: digest[:], Validation: tpm2.TPMTTkHashCheck{Tag: tpm2.STHashCheck, Hierarchy: tpm2.RHNull}}, &s)
			if _, rc := b.checked(key.ObjectHandle, nil, "message", s.Signature); rc != tpm2.RCSuccess {
				t.Errorf("%s: SignDigest: %v", name, rc)
			}
		}
		b.ok(&tpm2.FlushContext{FlushHandle: key.ObjectHandle}, nil)
	}
}

// TestAuthorizeByEachTicket: PolicyAuthorize takes the ticket of each of the three commands (Part 3, 23.16).
func TestAuthorizeByEachTicket(t *testing.T) {
	b := newBench(t)
	key := b.primary(tpm2.RHOwner, signP256())
	approved := make([]byte, 32) // what a fresh session has
	toBeSigned := string(approved) + "ref"
	sig, _ := b.signed(key.ObjectHandle, nil, toBeSigned)
	digest := sha256.Sum256([]byte(toBeSigned))
	message, _ := b.checked(key.ObjectHandle, nil, toBeSigned, sig)
	var d tpm2.VerifyDigestSignatureResponse
	b.ok(&tpm2.VerifyDigestSignature{KeyHandle: key.ObjectHandle, Digest: digest[:], Signature: sig}, &d)
	var v tpm2.VerifySignatureResponse
	b.ok(&tpm2.VerifySignature{KeyHandle: key.ObjectHandle, Digest: digest[:], Signature: sig}, &v)
	for _, ticket := range []tpm2.TPMTTkVerified{message, d.Validation, v.Validation} {
		auth := &tpm2.PolicyAuthorize{PolicySession: b.session(tpm2.SEPolicy), ApprovedPolicy: approved, PolicyRef: []byte("ref"), KeySign: key.Name, CheckTicket: ticket}
		b.ok(auth, nil)
		auth.PolicySession, auth.PolicyRef = b.session(tpm2.SEPolicy), []byte("fer")
		if rc := b.do(auth, nil); rc == tpm2.RCSuccess {
			t.Errorf("ticket %#x: another policyRef was let through", ticket.Tag)
		}
		swapped := ticket
		swapped.Tag = tpm2.STVerified
		if ticket.Tag == tpm2.STVerified {
			swapped.Tag = tpm2.STMessageVerified
		}
		auth.PolicyRef, auth.CheckTicket = []byte("ref"), swapped
		if rc := b.do(auth, nil); rc == tpm2.RCSuccess {
			t.Errorf("ticket %#x is as good as %#x", ticket.Tag, swapped.Tag)
		}
	}
}

func TestPQRules(t *testing.T) {
	b := newBench(t)
	for _, tt := range []struct {
		name string
		pub  template
		want tpm2.RC
	}{
		{"ML-DSA that decrypts", changed(mldsaSigning(tpm2.MLDSA44), set(tpm2.Decrypt)), tpm2.RCAttributes.Param(2)},
		{"ML-KEM that signs", changed(mlkemDecryption(tpm2.MLKEM768), set(tpm2.SignEncrypt)), tpm2.RCAttributes.Param(2)},
		{"external mu", changed(mldsaSigning(tpm2.MLDSA44), func(p *template) { p.Parameters.MLDSADetail.AllowExternalMu = tpm2.Yes }), tpm2.RCExtMu.Param(2)},
		{"ML-KEM-512", changed(mlkemDecryption(1), same), tpm2.RCParms.Param(2)},
		{"ML-DSA of no set", changed(mldsaSigning(4), same), tpm2.RCParms.Param(2)},
		{"ML-KEM parent without a cipher", changed(mlkemStorage(tpm2.MLKEM768), func(p *template) { p.Parameters.MLKEMDetail.Symmetric = noSym }), tpm2.RCSymmetric.Param(2)},
		{"ML-KEM key with a cipher", changed(mlkemDecryption(tpm2.MLKEM768), func(p *template) { p.Parameters.MLKEMDetail.Symmetric = aes128 }), tpm2.RCSymmetric.Param(2)},
	} {
		if got := b.do(&tpm2.CreatePrimary{PrimaryHandle: tpm2.RHOwner, InPublic: tt.pub}, nil); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}

	key := b.primary(tpm2.RHOwner, mldsaSigning(tpm2.MLDSA44))
	k := key.ObjectHandle
	b.refused(tpm2.RCScheme.Param(2), signCommand(k, 32))
	b.refused(tpm2.RCExtMu.Handle(1), &tpm2.SignDigest{KeyHandle: k, Digest: make([]byte, 64), Validation: tpm2.TPMTTkHashCheck{Tag: tpm2.STHashCheck, Hierarchy: tpm2.RHNull}})
	ecc := b.primary(tpm2.RHOwner, signP256()).ObjectHandle
	b.refused(tpm2.RCSize.Param(2), &tpm2.SignSequenceStart{KeyHandle: ecc, Context: []byte{1}})
	b.refused(tpm2.RCKey.Handle(1), &tpm2.SignSequenceStart{KeyHandle: b.primary(tpm2.RHOwner, eccStorage()).ObjectHandle})

	var s tpm2.SignSequenceStartResponse
	b.ok(&tpm2.SignSequenceStart{KeyHandle: k}, &s)
	b.refused(tpm2.RCSignContextKey.Handle(2), &tpm2.SignSequenceComplete{SequenceHandle: s.SequenceHandle, KeyHandle: ecc})
	b.refused(tpm2.RCMode.Handle(1), &tpm2.SequenceComplete{SequenceHandle: s.SequenceHandle, Hierarchy: tpm2.RHNull})
	b.ok(&tpm2.SignSequenceComplete{SequenceHandle: s.SequenceHandle, KeyHandle: k}, nil)
	b.refused(tpm2.RCReferenceH0, &tpm2.SignSequenceComplete{SequenceHandle: s.SequenceHandle, KeyHandle: k})

	// A restricted key does not sign what looks like the TPM's own words.
	ak := b.primary(tpm2.RHEndorsement, changed(mldsaSigning(tpm2.MLDSA44), set(tpm2.Restricted))).ObjectHandle
	b.ok(&tpm2.SignSequenceStart{KeyHandle: ak}, &s)
	b.refused(tpm2.RCValue, &tpm2.SignSequenceComplete{SequenceHandle: s.SequenceHandle, KeyHandle: ak, Buffer: []byte("\xffTCG and more")})
	// A command that failed has changed nothing (Part 3, 5.6): what it brought is not in the message.
	var signed tpm2.SignSequenceCompleteResponse
	b.ok(&tpm2.SignSequenceComplete{SequenceHandle: s.SequenceHandle, KeyHandle: ak, Buffer: []byte("good data")}, &signed)
	var check tpm2.VerifySequenceStartResponse
	b.ok(&tpm2.VerifySequenceStart{KeyHandle: ak}, &check)
	b.ok(&tpm2.SequenceUpdate{SequenceHandle: check.SequenceHandle, Buffer: []byte("good data")}, nil)
	b.ok(&tpm2.VerifySequenceComplete{SequenceHandle: check.SequenceHandle, KeyHandle: ak, Signature: signed.Signature}, nil)

	// What was kept of a message to verify is bounded.
	var v tpm2.VerifySequenceStartResponse
	b.ok(&tpm2.VerifySequenceStart{KeyHandle: k}, &v)
	for range maxMessage / maxBuffer {
		b.ok(&tpm2.SequenceUpdate{SequenceHandle: v.SequenceHandle, Buffer: make([]byte, maxBuffer)}, nil)
	}
	b.refused(tpm2.RCMemory, &tpm2.SequenceUpdate{SequenceHandle: v.SequenceHandle, Buffer: []byte{1}})
}

func changed(pub template, change func(*template)) template {
	change(&pub)
	return pub
}

// TestWhatDoesNotFit: with the usual buffer an ML-DSA-87 key can be made, kept
// and named, and its signature, which has no room, is refused before it is made.
func TestWhatDoesNotFit(t *testing.T) {
	b := newBench(t)
	srk := b.primary(tpm2.RHOwner, mlkemStorage(tpm2.MLKEM1024)).ObjectHandle
	key := b.child(srk, mldsaSigning(tpm2.MLDSA87), nil, nil)
	var x tpm2.ContextSaveResponse
	b.ok(&tpm2.ContextSave{SaveHandle: key}, &x)
	b.ok(&tpm2.FlushContext{FlushHandle: key}, nil)
	b.ok(&tpm2.ContextLoad{Context: x.Context}, nil)
	if n := len(tpm2.Marshal(&x.Context)); n > maxObjectContext {
		t.Errorf("a context of %d octets", n)
	}
	var s tpm2.SignSequenceStartResponse
	b.ok(&tpm2.SignSequenceStart{KeyHandle: key}, &s)
	b.refused(tpm2.RCSize, &tpm2.SignSequenceComplete{SequenceHandle: s.SequenceHandle, KeyHandle: key})
	b.refused(tpm2.RCSize, &tpm2.Quote{SignHandle: key, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull}})
	b.refused(tpm2.RCCommandSize, &tpm2.Hash{Data: make([]byte, 5000)})
	for _, tt := range []struct {
		b    *bench
		want uint32
	}{{b, MaxCommandSize}, {largeBench(t), MaxLargeSize}} {
		var r tpm2.GetCapabilityResponse
		tt.b.ok(&tpm2.GetCapability{Capability: tpm2.CapTPMProperties, Property: uint32(tpm2.PTMaxCommandSize), PropertyCount: 2}, &r)
		for _, p := range r.CapabilityData.Data.TPMProperties {
			if p.Value != tt.want {
				t.Errorf("property %#x is %d, want %d", p.Property, p.Value, tt.want)
			}
		}
	}
}

// TestPQExternal: a private area that does not belong to the public one is refused.
func TestPQExternal(t *testing.T) {
	b := newBench(t)
	for name, pub := range map[string]template{"ML-DSA": movable(mldsaSigning(tpm2.MLDSA65)), "ML-KEM": movable(mlkemDecryption(tpm2.MLKEM768))} {
		pub.ObjectAttributes &^= tpm2.SensitiveDataOrigin
		s, rc := generate(&pub, goldenSeed(1).primary(&pub, nil), nil, nil)
		if rc != tpm2.RCSuccess {
			t.Fatal(rc)
		}
		load := &tpm2.LoadExternal{InPrivate: s, InPublic: pub, Hierarchy: tpm2.RHNull}
		b.ok(load, nil)
		for _, seed := range [][]byte{s.Sensitive.MLDSA, s.Sensitive.MLKEM} {
			if len(seed) > 0 {
				seed[0] ^= 1
			}
		}
		b.refused(tpm2.RCBinding.Param(1), load)
		s.Sensitive = tpm2.TPMUSensitiveComposite{MLDSA: []byte{1}, MLKEM: []byte{1}}
		b.refused(tpm2.RCKeySize.Param(1), load)
		load.InPrivate = nil
		load.InPublic.Unique = tpm2.TPMUPublicID{MLDSA: []byte{1}, MLKEM: []byte{1}}
		if rc := b.do(load, nil); rc != tpm2.RCKey.Param(2) {
			t.Errorf("%s: a cut public key: %v", name, rc)
		}
	}
}

// TestSequenceStates: the state of a sequence goes through a blob and back, or is refused.
func TestSequenceStates(t *testing.T) {
	s := newSequence(seqVerify, nil, tpm2.AlgMLDSA, ticketHash)
	s.alg = tpm2.AlgMLDSA
	s.feed([]byte("before"))
	if err := s.save(); err != nil {
		t.Fatal(err)
	}
	want := append(s.sums[0].Sum(nil), s.sums[1].Sum(nil)...)
	if err := s.restore(); err != nil {
		t.Fatal(err)
	}
	if got := append(s.sums[0].Sum(nil), s.sums[1].Sum(nil)...); !bytes.Equal(got, want) {
		t.Error("other digests after a restore")
	}
	for _, bad := range []*sequence{{kind: seqHash}, {kind: seqVerify, algs: []tpm2.AlgID{tpm2.AlgSHA256}, states: make([][]byte, 1)}, {kind: 9}} {
		if err := bad.restore(); !errors.Is(err, ErrState) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// A response that does not fit leaves no object behind that nobody has the handle of.
func TestNoObjectWithoutItsHandle(t *testing.T) {
	b := &bench{t: t, store: &memory{}}
	cfg := b.config()
	cfg.Buffer = 2808 // the least that swtpm's clients ask for
	b.tpm = must(Manufacture(cfg))
	b.ok(&tpm2.Startup{}, nil)
	for range maxTransient + 1 {
		b.refused(tpm2.RCSize, &tpm2.CreatePrimary{PrimaryHandle: tpm2.RHOwner, InPublic: mldsaSigning(tpm2.MLDSA87)})
	}
	b.listed(tpm2.TransientFirst)
}
