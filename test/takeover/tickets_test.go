package takeover

import (
	"crypto/sha256"
	"testing"

	"github.com/vouchsafe/vouchsafe/tpm2"
	"github.com/vouchsafe/vouchsafe/tpm2/client"
)

// TestTickets: what swtpm has vouched for stays vouched for. A creation ticket
// lies in a file beside its key for as long as the key lives.
func TestTickets(t *testing.T) {
	s := startTheirs(t)
	owner := client.Hierarchy(tpm2.RHOwner, nil)
	_, made, err := s.CreatePrimaryObject(owner, client.NewObject{Public: client.AKTemplate(client.P256)})
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("not made by a TPM")
	var hashed tpm2.HashResponse
	s.must(t, &tpm2.Hash{Data: message, HashAlg: tpm2.AlgSHA256, Hierarchy: tpm2.RHOwner}, &hashed)
	// A policy, all zeros as a session begins, that the key approves of.
	approval := sha256.Sum256(make([]byte, sha256.Size))
	free, err := s.CreatePrimary(owner, client.SigningTemplate(client.P256))
	if err != nil {
		t.Fatal(err)
	}
	var signed tpm2.SignResponse
	s.must(t, &tpm2.Sign{KeyHandle: free.Handle, Digest: approval[:], InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull},
		Validation: tpm2.TPMTTkHashCheck{Tag: tpm2.STHashCheck, Hierarchy: tpm2.RHNull}}, &signed, free)
	var verified tpm2.VerifySignatureResponse
	s.must(t, &tpm2.VerifySignature{KeyHandle: free.Handle, Digest: approval[:], Signature: signed.Signature}, &verified)
	s.must(t, &tpm2.Shutdown{}, nil)
	s.stop()

	ours := startOurs(t, s)
	again, err := ours.CreatePrimary(owner, client.AKTemplate(client.P256))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ours.CertifyCreation(again, again, made, []byte("nonce")); err != nil {
		t.Errorf("the creation ticket: %v", err)
	}
	sign := &tpm2.Sign{KeyHandle: again.Handle, Digest: hashed.OutHash, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.AlgNull}, Validation: hashed.Validation}
	if err := ours.Execute(sign, nil, again); err != nil {
		t.Errorf("the ticket of a hash: %v", err)
	}
	session, err := ours.StartSession(client.SessionConfig{Type: tpm2.SEPolicy, Hash: tpm2.AlgSHA256})
	if err != nil {
		t.Fatal(err)
	}
	authorize := &tpm2.PolicyAuthorize{PolicySession: session.Handle(), ApprovedPolicy: make([]byte, sha256.Size), KeySign: free.Name, CheckTicket: verified.Validation}
	if err := ours.Execute(authorize, nil); err != nil {
		t.Errorf("the ticket of a signature: %v", err)
	}
	for _, spoil := range []func(){
		func() { hashed.Validation.Digest[5] ^= 1; sign.Validation = hashed.Validation },
		func() { sign.Digest[0] ^= 1; hashed.Validation.Digest[5] ^= 1 },
	} {
		spoil()
		if err := ours.Execute(sign, nil, again); err == nil {
			t.Error("a spoiled ticket is taken")
		}
	}
}
