package neighbours

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// wire is go-tpm's transport over a data channel.
type wire struct{ net.Conn }

func (w wire) Send(command []byte) ([]byte, error) {
	w.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := w.Write(command); err != nil {
		return nil, err
	}
	response := make([]byte, 10)
	if _, err := io.ReadFull(w, response); err != nil {
		return nil, err
	}
	response = append(response, make([]byte, binary.BigEndian.Uint32(response[2:])-10)...)
	_, err := io.ReadFull(w, response[10:])
	return response, err
}

// TestGoTPM drives the TPM with another team's client: its codec, its session
// arithmetic, its checks.
func TestGoTPM(t *testing.T) {
	v := serveTCP(t, shortDir(t))
	var tpm transport.TPM = wire{v.dial(t).Conn}

	random, err := tpm2.GetRandom{BytesRequested: 32}.Execute(tpm)
	if err != nil || len(random.RandomBytes.Buffer) != 32 {
		t.Fatalf("GetRandom: %v", err)
	}

	srk, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm2.FlushContext{FlushHandle: srk.ObjectHandle}.Execute(tpm)
	srkPublic, err := srk.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}

	// Seal under a password in a salted session with encrypted parameters.
	auth, data := []byte("p@ss"), []byte("a secret to keep")
	salted := func() tpm2.Session {
		return tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Salted(srk.ObjectHandle, *srkPublic),
			tpm2.AESEncryption(128, tpm2.EncryptInOut))
	}
	blob, err := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: srk.ObjectHandle, Name: srk.Name, Auth: salted()},
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			UserAuth: tpm2.TPM2BAuth{Buffer: auth}, Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: data}),
		}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: true, NoDA: true}}),
	}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	item, err := tpm2.Load{
		ParentHandle: tpm2.AuthHandle{Handle: srk.ObjectHandle, Name: srk.Name, Auth: salted()},
		InPrivate:    blob.OutPrivate, InPublic: blob.OutPublic,
	}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm2.FlushContext{FlushHandle: item.ObjectHandle}.Execute(tpm)
	for password, want := range map[string]bool{"p@ss": true, "wrong": false} {
		got, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{
			Handle: item.ObjectHandle, Name: item.Name,
			Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Auth([]byte(password)), tpm2.AESEncryption(128, tpm2.EncryptOut),
				tpm2.Bound(item.ObjectHandle, item.Name, []byte(password))),
		}}.Execute(tpm)
		if want != (err == nil) || want && !bytes.Equal(got.OutData.Buffer, data) {
			t.Errorf("unsealing with %q: %v", password, err)
		}
	}

	// A quote, verified with the standard library.
	ak, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})}}),
	})}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm2.FlushContext{FlushHandle: ak.ObjectHandle}.Execute(tpm)
	selection := tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(0, 7)}}}
	quote, err := tpm2.Quote{
		SignHandle:     tpm2.AuthHandle{Handle: ak.ObjectHandle, Name: ak.Name, Auth: tpm2.PasswordAuth(nil)},
		QualifyingData: tpm2.TPM2BData{Buffer: []byte("nonce")}, PCRSelect: selection, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
	}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := quote.Signature.Signature.ECDSA()
	if err != nil {
		t.Fatal(err)
	}
	akPublic, err := ak.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	point, err := akPublic.Unique.ECC()
	if err != nil {
		t.Fatal(err)
	}
	encoded := append([]byte{4}, make([]byte, 64)...)
	copy(encoded[33-len(point.X.Buffer):], point.X.Buffer)
	copy(encoded[65-len(point.Y.Buffer):], point.Y.Buffer)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), encoded)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(quote.Quoted.Bytes())
	if !ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(signature.SignatureR.Buffer), new(big.Int).SetBytes(signature.SignatureS.Buffer)) {
		t.Error("the quote's signature does not verify")
	}
	attest, err := quote.Quoted.Contents()
	if err != nil || !bytes.Equal(attest.ExtraData.Buffer, []byte("nonce")) {
		t.Errorf("the quote: %+v, %v", attest, err)
	}
	info, err := attest.Attested.Quote()
	if err != nil {
		t.Fatal(err)
	}
	zeros := sha256.Sum256(make([]byte, 64))
	if !bytes.Equal(info.PCRDigest.Buffer, zeros[:]) {
		t.Errorf("PCR digest %x, want that of two zero PCRs", info.PCRDigest.Buffer)
	}

	// NV under a policy session (PolicyCommandCode), write and read back.
	index := tpm2.TPMSNVPublic{NVIndex: 0x01500010, NameAlg: tpm2.TPMAlgSHA256, DataSize: 16,
		Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthWrite: true, AuthRead: true, NT: tpm2.TPMNTOrdinary, NoDA: true}}
	if _, err := (tpm2.NVDefineSpace{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, 16)}, PublicInfo: tpm2.New2B(index)}).Execute(tpm); err != nil {
		t.Fatal(err)
	}
	named, err := tpm2.NVReadPublic{NVIndex: index.NVIndex}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	byOwner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, 16)}
	handle := tpm2.NamedHandle{Handle: index.NVIndex, Name: named.NVName}
	if _, err := (tpm2.NVWrite{AuthHandle: byOwner, NVIndex: handle, Data: tpm2.TPM2BMaxNVBuffer{Buffer: []byte("sixteen  octets!")}}).Execute(tpm); err != nil {
		t.Fatal(err)
	}
	if named, err = (tpm2.NVReadPublic{NVIndex: index.NVIndex}).Execute(tpm); err != nil {
		t.Fatal(err)
	}
	handle.Name = named.NVName
	read, err := tpm2.NVRead{AuthHandle: byOwner, NVIndex: handle, Size: 16}.Execute(tpm)
	if err != nil || string(read.Data.Buffer) != "sixteen  octets!" {
		t.Errorf("NV_Read: %v", err)
	}
}
