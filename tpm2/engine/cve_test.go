package engine

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
)

// The inputs that broke other TPMs must be refused, and the TPM go on.

// xorSession starts an HMAC session with XOR parameter encryption.
func (b *bench) xorSession() tpm2.Handle {
	b.t.Helper()
	var s tpm2.StartAuthSessionResponse
	b.ok(&tpm2.StartAuthSession{TPMKey: tpm2.RHNull, Bind: tpm2.RHNull, NonceCaller: make([]byte, 16), SessionType: tpm2.SEHMAC,
		Symmetric: tpm2.TPMTSymDef{Algorithm: tpm2.AlgXOR, KeyBits: tpm2.TPMUSymKeyBits{XOR: tpm2.AlgSHA256}}, AuthHash: tpm2.AlgSHA256}, &s)
	return s.SessionHandle
}

// decryptSession is a command without handles whose first parameter is said to be encrypted.
func decryptSession(cc tpm2.CC, s tpm2.Handle, params []byte) []byte {
	e := tpm2.NewEncoder(nil)
	e.U16(uint16(tpm2.STSessions))
	e.U32(0)
	e.U32(uint32(cc))
	e.U32(9)
	e.U32(uint32(s))
	e.Buf(nil)
	e.U8(uint8(tpm2.SessionDecrypt | tpm2.ContinueSession))
	e.Buf(nil)
	e.Bytes(params)
	binary.BigEndian.PutUint32(e.Out()[2:], uint32(len(e.Out())))
	return e.Out()
}

// CVE-2023-1017 and -1018: the parameter to decrypt has no room for its size, or
// a size past the end of the command.
func TestCVE2023_1017(t *testing.T) {
	for name, tt := range map[string]struct {
		params []byte
		want   tpm2.RC
	}{
		"no parameter":       {nil, tpm2.RCInsufficient.Param(1)},
		"half a size":        {[]byte{0}, tpm2.RCInsufficient.Param(1)},
		"past the end":       {[]byte{0xff, 0xff, 1, 2}, tpm2.RCSize.Param(1)},
		"two past the end":   {[]byte{0, 4, 1, 2}, tpm2.RCSize.Param(1)},
		"exactly at the end": {[]byte{0, 2, 1, 2}, tpm2.RCSuccess},
	} {
		b := newBench(t)
		if got := b.raw(decryptSession(tpm2.CCStirRandom, b.xorSession(), tt.params), nil); got != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
		b.ok(&tpm2.GetRandom{BytesRequested: 4}, nil)
	}
}

// CVE-2025-49133 (CVE-2025-2884): an HMAC key whose scheme is another hash than
// the signature's makes the digest be read past its end.
func TestCVE2025_49133(t *testing.T) {
	b := newBench(t)
	srk := b.primary(tpm2.RHOwner, eccStorage())
	pub := goldenTemplates()["hmac-sha256"]
	key := b.child(srk.ObjectHandle, pub, nil, nil)
	for _, alg := range []tpm2.AlgID{tpm2.AlgSHA512, tpm2.AlgSHA1} {
		sig := tpm2.TPMTSignature{SigAlg: tpm2.AlgHMAC}
		sig.Signature.HMAC = tpm2.TPMTHA{HashAlg: alg, Digest: make([]byte, alg.DigestSize())}
		b.refused(tpm2.RCSignature.Param(2), &tpm2.VerifySignature{KeyHandle: key, Digest: make([]byte, 20), Signature: sig})
	}
	sign := &tpm2.Sign{KeyHandle: key, Digest: make([]byte, 32), Validation: tpm2.TPMTTkHashCheck{Tag: tpm2.STHashCheck, Hierarchy: tpm2.RHNull},
		InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.AlgHMAC, Details: tpm2.TPMUSigScheme{Any: tpm2.TPMSSchemeHash{HashAlg: tpm2.AlgSHA512}}}}
	b.refused(tpm2.RCScheme.Param(2), sign)
	// And the reverse: a key that is not for HMAC at all.
	ecc := b.child(srk.ObjectHandle, eccSigning(tpm2.ECCNISTP256, tpm2.AlgSHA256), nil, nil)
	sig := tpm2.TPMTSignature{SigAlg: tpm2.AlgHMAC}
	sig.Signature.HMAC = tpm2.TPMTHA{HashAlg: tpm2.AlgSHA256, Digest: make([]byte, 32)}
	b.refused(tpm2.RCScheme.Param(2), &tpm2.VerifySignature{KeyHandle: ecc, Digest: make([]byte, 32), Signature: sig})
}

// CVE-2021-3623: counts and sizes in a volatile state that lead outside it.
func TestCVE2021_3623(t *testing.T) {
	b := newBench(t)
	b.primary(tpm2.RHOwner, eccStorage())
	good := must(b.tpm.Volatile())
	inner := body(good)
	for i := stateHeaderBytes; i+4 <= len(inner); i++ {
		bad := bytes.Clone(inner)
		binary.BigEndian.PutUint32(bad[i:], 0xffffffff)
		tpm, err := PowerOn(b.config(), b.tpm.Permanent())
		if err != nil {
			t.Fatal(err)
		}
		if tpm.Resume(sealBlob(bad)) == nil { // possible where the field is a plain number
			checkResponse(t, bad, tpm.Execute(0, marshal(&tpm2.GetRandom{BytesRequested: 4}), nil))
		}
	}
}

// CVE-2026-21444, CVE-2021-3446: the IV that comes back must be the one to go on
// with, so that two halves give what the whole gives.
func TestChainedIV(t *testing.T) {
	b := newBench(t)
	srk := b.primary(tpm2.RHOwner, eccStorage())
	for _, mode := range []tpm2.AlgID{tpm2.AlgCFB, tpm2.AlgCBC, tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgECB} {
		pub := tpm2.TPMTPublic{Type: tpm2.AlgSymCipher, NameAlg: tpm2.AlgSHA256,
			ObjectAttributes: tpm2.FixedTPM | tpm2.FixedParent | tpm2.SensitiveDataOrigin | tpm2.UserWithAuth | tpm2.Decrypt | tpm2.SignEncrypt,
			Parameters:       tpm2.TPMUPublicParms{SymDetail: tpm2.TPMSSymCipherParms{Sym: tpm2.TPMTSymDefObject{Algorithm: tpm2.AlgAES, KeyBits: tpm2.TPMUSymObjectBits{AES: 128}, Mode: tpm2.TPMUSymObjectMode{AES: mode}}}}}
		key := b.child(srk.ObjectHandle, pub, nil, nil)
		iv := make([]byte, 16)
		if mode == tpm2.AlgECB {
			iv = nil
		}
		run := func(decrypt tpm2.YesNo, iv, data []byte) (out, next []byte) {
			var r tpm2.EncryptDecrypt2Response
			b.ok(&tpm2.EncryptDecrypt2{KeyHandle: key, InData: data, Decrypt: decrypt, Mode: tpm2.AlgNull, IVIn: iv}, &r)
			return r.OutData, r.IVOut
		}
		plain := bytes.Repeat([]byte("0123456789abcdef"), 4)
		whole, _ := run(tpm2.No, iv, plain)
		first, next := run(tpm2.No, iv, plain[:32])
		second, _ := run(tpm2.No, next, plain[32:])
		if !bytes.Equal(whole, append(first, second...)) {
			t.Errorf("mode %#x: two halves are not the whole", mode)
		}
		first, next = run(tpm2.Yes, iv, whole[:32])
		second, _ = run(tpm2.Yes, next, whole[32:])
		if !bytes.Equal(plain, append(first, second...)) {
			t.Errorf("mode %#x: decryption: two halves are not the whole", mode)
		}
		b.ok(&tpm2.FlushContext{FlushHandle: key}, nil)
	}
}
